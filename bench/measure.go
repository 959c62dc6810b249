package main

import (
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// sample is what one round of one contender came to, by the unit that benchstat
// knows it by.
type sample map[string]float64

// load is how a contender is driven.
type load struct {
	workers int
	length  time.Duration
	// each makes every call be timed: for calls that take microseconds, not
	// nanoseconds.
	each bool
	// ops limits the calls; 0: as many as go.
	ops int64
	// sliced, if not nil, says that this is a slice of a round.
	sliced *sliced
}

// sliced is a job whose rounds are cut into slices, in which the peers take turns, so that
// all see the same machine. Percentiles are those of all slices.
type sliced struct {
	slices  int  // of a round; 0: slicesPerRound
	garbage bool // is made by peers, and collected before a slice if it is much
	times   []time.Duration
}

// slicesPerRound is how many slices take the time of a round.
const slicesPerRound = 12

func (s *sliced) perRound() int { return cmp.Or(s.slices, slicesPerRound) }

// slice makes l a slice of s.
func (l load) slice(s *sliced) load {
	l.sliced = s
	l.length = max(l.length/time.Duration(s.perRound()), time.Millisecond)
	return l
}

// requests is how goroutines that wait for Redis are driven. Where it is only one, all
// processors sleep between two requests, and how deep, which makes a fifth of the
// time, changes every few tenths of a second: so rounds are sliced.
func (b *bench) requests(goroutines int) load {
	l := load{workers: goroutines, length: b.length, each: true}
	if goroutines == 1 {
		l = l.slice(new(sliced))
	}
	return l
}

// measure runs op in workers at once. The number that op gets counts the calls of
// its worker.
func measure(l load, op func(worker, n int) error) (sample, error) {
	first := 0
	switch {
	case l.sliced == nil:
		collect(4 << 20)
	case l.sliced.garbage:
		collect(64 << 20) // as long as a slice takes, so not before each
	default:
		first = len(l.sliced.times)
	}
	var (
		stop     atomic.Bool
		done     atomic.Int64
		firstErr error
		once     sync.Once
		wg       sync.WaitGroup
		times    = make([][]time.Duration, l.workers)
		before   runtime.MemStats
		after    runtime.MemStats
	)
	work := func(w int) {
		const batch = 64
		n := 0
		defer func() { done.Add(int64(n)) }()
		for !stop.Load() {
			for range batch {
				if l.ops > 0 && int64(n) >= l.ops/int64(l.workers) {
					return
				}
				var begun time.Time
				if l.each {
					if stop.Load() {
						return
					}
					begun = time.Now()
				}
				if err := op(w, first+n); err != nil {
					once.Do(func() { firstErr = err })
					stop.Store(true)
					return
				}
				if l.each {
					times[w] = append(times[w], time.Since(begun))
				}
				n++
			}
		}
	}
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	begun := time.Now()
	for w := range l.workers {
		wg.Go(func() { work(w) })
	}
	if l.ops == 0 {
		time.Sleep(l.length)
		stop.Store(true)
	}
	wg.Wait()
	took := time.Since(begun)
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	ops := float64(max(done.Load(), 1))
	s := sample{
		"ops": ops, "ns/op": float64(took) / ops, "ops/s": ops / took.Seconds(), "cpu-ns/op": float64(cpu) / ops,
		"B/op": float64(after.TotalAlloc-before.TotalAlloc) / ops, "allocs/op": float64(after.Mallocs-before.Mallocs) / ops,
	}
	switch all := slices.Concat(times...); {
	case l.sliced != nil && l.each:
		l.sliced.times = append(l.sliced.times, all...)
	case l.each:
		s.add(percentiles(all))
	}
	return s, firstErr
}

// collect lets no round pay for the garbage of those before it. Collecting takes as
// long as a round where all peers are resident, so it is left out after rounds that
// allocated little: no collection begins because of that.
func collect(little uint64) {
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.TotalAlloc-collected > little {
		runtime.GC()
		collected = m.TotalAlloc
	}
}

var collected uint64 // TotalAlloc at the last collection by collect

func (s sample) add(more sample) {
	for unit, v := range more {
		s[unit] = v
	}
}

// percentiles sorts times.
func percentiles(times []time.Duration) sample {
	if len(times) == 0 {
		return nil
	}
	slices.Sort(times)
	at := func(p float64) float64 { return float64(times[min(int(p*float64(len(times))), len(times)-1)]) }
	return sample{"p50-ns": at(0.5), "p99-ns": at(0.99), "p99.9-ns": at(0.999), "max-ns": float64(times[len(times)-1])}
}

// cpuTime is what this process has used of its processors, the server's part not
// included.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// median sorts v.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread is half the distance of the quartiles, as a share of the median.
func spread(v []float64) float64 {
	if len(v) < 3 || median(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return (v[len(v)*3/4] - v[len(v)/4]) / 2 / median(v)
}
