package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tandemcache/tandem/bench/peer"
)

// errMiss is a hit that was none: the figures would be those of another job.
var errMiss = errors.New("a miss where every read must hit")

// holder is a peer that holds values, opened when the first job wants it.
type holder[T any] struct {
	peer  peer.Peer[T]
	env   peer.Env
	keys  []string
	value func(int) T
	cache peer.Cache[T]
}

func (h *holder[T]) open() (err error) {
	if h.cache == nil {
		h.cache, err = filled(h.peer, h.env, h.keys, h.value)
	}
	return err
}

func (h *holder[T]) close() error {
	if h.cache == nil {
		return nil
	}
	return h.cache.Close()
}

// filled opens a peer and stores n values.
func filled[T any](p peer.Peer[T], env peer.Env, keys []string, value func(int) T) (peer.Cache[T], error) {
	env.Name = fmt.Sprintf("bench-%s-%T", p.Name, value(0))
	env.Name = strings.NewReplacer(".", "-", "*", "").Replace(env.Name)
	env.Entries = len(keys)
	c, err := p.Open(env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	if err := fill(c, keys, value); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", p.Name, err), c.Close())
	}
	return c, nil
}

// fill stores values under copies of the keys. Under the very strings that are read
// with, a comparison would end at the equal pointers, and no peer would read the bytes
// of a key that it holds. A service makes a key for each request.
func fill[T any](c peer.Cache[T], keys []string, value func(int) T) error {
	ctx := context.Background()
	err := together(len(keys), func(i int) error { return c.Set(ctx, strings.Clone(keys[i]), value(i)) })
	// Twice: some hand values to their memory in the background, or by reading.
	for n := 0; n < 2 && err == nil; n++ {
		err = together(len(keys), func(i int) error {
			_, _, err := c.Get(ctx, strings.Clone(keys[i]))
			return err
		})
	}
	return err
}

// together calls f for all numbers below n, roughly in order, in so many goroutines
// that none waits long for Redis.
func together(n int, f func(i int) error) error {
	const workers = 32
	var next atomic.Int64
	var errs [workers]error
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// hits returns the round of a cache that reads what order says.
func hits[T any](h *holder[T], order [][]string, l load, cpus int) func() (sample, error) {
	ctx := context.Background()
	return func() (sample, error) {
		c := h.cache
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
		misses := make([]int, l.workers*16)
		s, err := measure(l, func(w, n int) error {
			_, ok, err := c.Get(ctx, order[w][n&(drawsPerWorker-1)])
			if !ok {
				misses[w*16]++
			}
			return err
		})
		total := 0
		for _, m := range misses {
			total += m
		}
		if err == nil && float64(total) > s["ops"]/1000 {
			err = fmt.Errorf("%w (%d of %.0f)", errMiss, total, s["ops"])
		}
		return s, err
	}
}

func l1Hits(b *bench) error {
	t := &table{
		name: "L1Hit", title: "L1 hit: a decoded value from the memory of the process",
		about:   "100,000 keys resident (10,000 of 1 KiB and 10 KiB; 1,000, which the processor keeps at hand, where the job says so), in all peers at once that hold values of that kind. Budgets in bytes are 256 MiB. ristretto stores without a TTL, all others with one. The keys that are asked for are other strings than those stored, as in a service, where each request makes its own. Peers that hold bytes decode on each hit.",
		columns: []string{"ns/op", "allocs/op", "B/op"}, base: "ristretto", better: "less",
	}
	n := b.scale(100_000)
	err := l1Group(b, t, "user", n, []string{"zipf", "uniform"}, []int{1, 2}, makeUser)
	if err == nil {
		err = l1Group(b, t, "user/keys=1000", 1000, []string{"zipf"}, []int{1, 2}, makeUser)
	}
	if err == nil {
		err = l1Group(b, t, "string", n, []string{"zipf"}, []int{1}, makeString)
	}
	if err == nil {
		err = l1Group(b, t, "1KiB", n/10, []string{"zipf"}, []int{1}, makeBlob(1<<10))
	}
	if err == nil {
		err = l1Group(b, t, "10KiB", n/10, []string{"zipf"}, []int{1}, makeBlob(10<<10))
	}
	if err == nil {
		t.done(b)
	}
	return err
}

// hitSlices is how many slices a round of hits has: memory that others use, too, is
// faster or slower for seconds.
const hitSlices = 4

// l1Group measures hits of one kind of value. The peers hold it at the same time, and
// let go of it afterwards, so that the garbage collector has less to look at.
func l1Group[T any](b *bench, t *table, value string, n int, dists []string, cpus []int, make func(int) T) (err error) {
	keys := makeKeys(n)
	var all []contender
	for _, p := range peer.Memory[T]() {
		h := &holder[T]{peer: p, env: peer.Env{Addr: b.redis.addr, Bytes: 256 << 20}, keys: keys, value: make}
		defer func() { err = errors.Join(err, h.close()) }()
		for _, d := range dists {
			order := draw(keys, d, 2)
			for _, cpu := range cpus {
				l := load{workers: cpu, length: b.length}.slice(&sliced{slices: hitSlices, garbage: true})
				all = append(all, contender{
					peer: p.Name, params: fmt.Sprintf("value=%s/dist=%s/cpus=%d", value, d, cpu),
					sliced: l.sliced, open: h.open, round: hits(h, order, l, cpu),
				})
			}
		}
	}
	return t.measure(b, all)
}

func l2Hits(b *bench) error {
	t := &table{
		name: "L2Hit", title: "L2 hit: a decoded value from Redis, memory turned off",
		about:   "10-field struct, 10,000 keys, uniform. Commands are what the server counted; CPU is this process' share.",
		columns: []string{"ops/s", "p50-ns", "p99-ns", "p99.9-ns", "cpu-ns/op", "allocs/op", "commands/s"}, base: "go-redis", better: "more",
	}
	keys := makeKeys(b.scale(10_000))
	stats := b.redis.client()
	defer func() { _ = stats.Close() }()
	counts := []int{1, 16, 64, 256, 1024}
	order := draw(keys, "uniform", 64)
	wide := make([][]string, counts[len(counts)-1])
	for i := range wide {
		wide[i] = order[i%len(order)]
	}
	var all []contender
	for _, p := range peer.Remote[User]() {
		h := &holder[User]{peer: p, env: peer.Env{Addr: b.redis.addr}, keys: keys, value: makeUser}
		defer func() { _ = h.close() }()
		for _, g := range counts {
			l := b.requests(g)
			read := hits(h, wide, l, runtime.GOMAXPROCS(0))
			all = append(all, contender{peer: p.Name, params: fmt.Sprintf("goroutines=%d", g), sliced: l.sliced, open: h.open, round: func() (sample, error) {
				before := commandsDone(stats)
				s, err := read()
				if err == nil {
					s["commands/s"] = (commandsDone(stats) - before) / (s["ns/op"] * s["ops"] / 1e9)
				}
				return s, err
			}})
		}
	}
	return t.run(b, all)
}
