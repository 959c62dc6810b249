package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/bench/peer"
)

// obedience measures how long another process goes on with what was changed. It
// is told when each change was begun by the value itself: both processes read
// the clock of one machine.
func obedience(b *bench) error {
	t := &table{
		name: "Obey", title: "Time until another process obeys",
		about:   "From the beginning of Set here until a read in another process no longer returns the old value from its memory; pubsub is a bare PUBLISH until its subscriber, which does nothing else, has the message; pubsub-polling has a loop without a pause beside it, as the process has that polls Tandem. Changes go to 1,000 keys at the rate given, every tenth to one that the other process polls without a pause.",
		columns: []string{"p99-ns", "p50-ns", "max-ns", "changes/s"}, base: "pubsub", better: "less",
	}
	var all []contender
	for _, rate := range []int{100, 1000, 10_000} {
		for _, name := range []string{"pubsub", "pubsub-polling", "tandem"} {
			all = append(all, contender{peer: name, params: fmt.Sprintf("rate=%d", rate), round: func() (sample, error) {
				return b.obey(name, rate)
			}})
		}
	}
	return t.run(b, all)
}

const obeyName = "bench-obey"

func (b *bench) obey(name string, rate int) (s sample, err error) {
	job := "hear"
	if name == "tandem" {
		job = "obey"
	}
	length := max(b.length*5, 300*time.Millisecond)
	keys := makeKeys(1000)
	other, err := startChild(job, order{Peer: name, Addr: b.redis.addr, Probes: keys})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.stop()) }()
	var change func(key string) error
	ctx := context.Background()
	if job == "hear" {
		c := b.redis.client()
		defer func() { _ = c.Close() }()
		change = func(key string) error {
			return c.Publish(ctx, obeyName, fmt.Sprint(key, " ", time.Now().UnixNano())).Err()
		}
	} else {
		c, err := openPeer(peer.Memory[User](), "tandem", peer.Env{Addr: b.redis.addr, Bytes: 64 << 20, Name: obeyName})
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.Close() }()
		change = func(key string) error { return c.Set(ctx, key, User{ID: time.Now().UnixNano()}) }
	}
	var ready string
	if err := other.hear(&ready); err != nil {
		return nil, err
	}
	done, err := atRate(rate, length, keys, change)
	if err != nil {
		return nil, err
	}
	time.Sleep(100 * time.Millisecond) // for the last changes to be seen
	_ = other.in.Close()
	var late []time.Duration
	if err := other.hear(&late); err != nil {
		return nil, err
	}
	if len(late) == 0 {
		return nil, errors.New("the other process saw no change")
	}
	s = percentiles(late)
	s["ops"], s["changes/s"] = float64(len(late)), float64(done)/length.Seconds()
	return s, nil
}

// atRate calls f so many times a second. Several workers share the rate, so that
// one slow call does not hold up the next.
func atRate(rate int, length time.Duration, keys []string, f func(key string) error) (done int, err error) {
	const workers = 8
	begun := time.Now()
	counts, errs := make([]int, workers), make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := w; ; n += workers {
				due := begun.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
				if due.Sub(begun) >= length || time.Since(begun) >= length {
					return
				}
				time.Sleep(time.Until(due))
				key := keys[1+n%(len(keys)-1)]
				if n%10 == 0 {
					key = keys[0] // which is watched
				}
				if errs[w] = f(key); errs[w] != nil {
					return
				}
				counts[w]++
			}
		})
	}
	wg.Wait()
	for _, n := range counts {
		done += n
	}
	return done, errors.Join(errs...)
}

// obeyChild has every key in memory, and polls the one that is watched.
func obeyChild(ctx context.Context, o order, say func(any) error) error {
	c, err := openPeer(peer.Memory[User](), "tandem", peer.Env{Addr: o.Addr, Bytes: 64 << 20, Name: obeyName})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	background := context.Background()
	for _, key := range o.Probes {
		if err := c.Set(background, key, User{ID: time.Now().UnixNano()}); err != nil {
			return err
		}
	}
	if err := say("ready"); err != nil {
		return err
	}
	var late []time.Duration
	known := int64(0)
	for ctx.Err() == nil {
		begun := time.Now().UnixNano()
		v, ok, err := c.Get(background, o.Probes[0])
		if err != nil || !ok || v.ID == known {
			continue
		}
		if known != 0 {
			late = append(late, time.Duration(begun-v.ID))
		}
		known = v.ID
	}
	return say(late)
}

// hearChild receives what is published, if it is told to beside a loop that polls
// like obeyChild's.
func hearChild(ctx context.Context, o order, say func(any) error) error {
	client := redis.NewClient(&redis.Options{Addr: o.Addr})
	defer func() { _ = client.Close() }()
	sub := client.Subscribe(context.Background(), obeyName)
	if _, err := sub.Receive(context.Background()); err != nil {
		return err
	}
	if err := say("ready"); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for o.Peer == "pubsub-polling" && ctx.Err() == nil {
			_ = time.Now()
		}
	})
	var late []time.Duration
	go func() {
		<-ctx.Done()
		_ = sub.Close()
	}()
	for {
		msg, err := sub.ReceiveMessage(context.Background())
		if err != nil {
			break
		}
		now := time.Now().UnixNano()
		var key string
		var sent int64
		if _, err := fmt.Sscan(msg.Payload, &key, &sent); err == nil {
			late = append(late, time.Duration(now-sent))
		}
	}
	wg.Wait()
	return say(late)
}

// mixed lets two processes read and change the same keys.
func mixed(b *bench) error {
	t := &table{
		name: "Mixed", title: "Two processes: 95 % reads, 5 % Sets, Zipf",
		about:   "100,000 users, 8 goroutines in each process. What is read may be old for as long as the peer promises or happens to; only Tandem and rueidis' client-side caching drop what others changed.",
		columns: []string{"ops/s", "p99-ns"}, base: "tandem", better: "more",
	}
	var all []contender
	for _, name := range []string{"tandem", "rueidis-csc", "go-redis"} {
		all = append(all, contender{peer: name, round: func() (sample, error) { return b.mix(name) }})
	}
	return t.run(b, all)
}

type mixedReport struct {
	Ops   int64
	Times []time.Duration
	Took  time.Duration
}

func (b *bench) mix(name string) (s sample, err error) {
	var children []*child
	defer func() {
		for _, c := range children {
			err = errors.Join(err, c.stop())
		}
	}()
	for range 2 {
		c, err := startChild("mixed", order{
			Peer: name, Addr: b.redis.addr, Keys: b.scale(100_000), Workers: 8, Length: b.length * 3,
		})
		if err != nil {
			return nil, err
		}
		children = append(children, c)
	}
	s = sample{"ops": 0}
	var times []time.Duration
	for _, c := range children {
		var r mixedReport
		if err := c.hear(&r); err != nil {
			return nil, err
		}
		s["ops"] += float64(r.Ops)
		s["ops/s"] += float64(r.Ops) / r.Took.Seconds()
		times = append(times, r.Times...)
	}
	s.add(percentiles(times))
	return s, nil
}

func mixedChild(_ context.Context, o order, say func(any) error) error {
	list := slices.Concat(peer.Memory[User](), peer.Remote[User]())
	c, err := openPeer(list, o.Peer, peer.Env{Addr: o.Addr, Entries: o.Keys, Bytes: 256 << 20, Name: "mixed-" + o.Peer})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx := context.Background()
	keys := makeKeys(o.Keys)
	reads := draw(keys, "zipf", o.Workers)
	if err := fill(c, keys, func(int) User { return makeUser(1) }); err != nil {
		return err
	}
	r := mixedReport{}
	times := make([][]time.Duration, o.Workers)
	begun := time.Now()
	s, err := measure(load{workers: o.Workers, length: o.Length}, func(w, n int) error {
		key := reads[w][n&(drawsPerWorker-1)]
		at := time.Now()
		var err error
		if n%20 == 19 {
			err = c.Set(ctx, key, makeUser(n))
		} else {
			_, _, err = c.Get(ctx, key)
		}
		if n%16 == w%16 { // some: all would be more than the pipe wants
			times[w] = append(times[w], time.Since(at))
		}
		return err
	})
	if err != nil {
		return err
	}
	r.Took = time.Since(begun)
	r.Ops = int64(s["ops"])
	r.Times = slices.Concat(times...)
	if most := 20_000; len(r.Times) > most {
		r.Times = r.Times[:most]
	}
	return say(r)
}
