package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/tandemcache/tandem/bench/peer"
)

// errMiss is a hit that was none: the figures would be those of another job.
var errMiss = errors.New("a miss where every read must hit")

// filled opens a peer and stores n values.
func filled[T any](p peer.Peer[T], env peer.Env, keys []string, value func(int) T) (peer.Cache[T], error) {
	env.Name = fmt.Sprintf("bench-%s-%T", p.Name, value(0))
	env.Name = strings.NewReplacer(".", "-", "*", "").Replace(env.Name)
	env.Entries = len(keys)
	c, err := p.Open(env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	ctx := context.Background()
	for i, key := range keys {
		if err := c.Set(ctx, key, value(i)); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: set: %w", p.Name, err), c.Close())
		}
	}
	// Twice: some hand values to their memory in the background, or by reading.
	for range 2 {
		for _, key := range keys {
			if _, _, err := c.Get(ctx, key); err != nil {
				return nil, errors.Join(fmt.Errorf("%s: get: %w", p.Name, err), c.Close())
			}
		}
	}
	return c, nil
}

// hits returns the round of a cache that reads what order says.
func hits[T any](c peer.Cache[T], order [][]string, l load, cpus int) func() (sample, error) {
	ctx := context.Background()
	return func() (sample, error) {
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
		about:   "100,000 keys resident (10,000 of 1 KiB and 10 KiB). ristretto stores without a TTL, all others with one. Peers that hold bytes decode on each hit.",
		columns: []string{"ns/op", "allocs/op", "B/op"}, base: "ristretto", better: "less",
	}
	n := b.scale(100_000)
	var all []contender
	var closers []func() error
	add := func(c []contender, cl []func() error, err error) error {
		all, closers = append(all, c...), append(closers, cl...)
		return err
	}
	err := errors.Join(
		add(l1Contenders(b, "user", n, []string{"zipf", "uniform"}, []int{1, 2}, makeUser)),
		add(l1Contenders(b, "string", n, []string{"zipf"}, []int{1}, makeString)),
		add(l1Contenders(b, "1KiB", n/10, []string{"zipf"}, []int{1}, makeBlob(1<<10))),
		add(l1Contenders(b, "10KiB", n/10, []string{"zipf"}, []int{1}, makeBlob(10<<10))),
	)
	if err == nil {
		err = t.run(b, all)
	}
	for _, c := range closers {
		err = errors.Join(err, c())
	}
	return err
}

func l1Contenders[T any](b *bench, value string, n int, dists []string, cpus []int, make func(int) T) (all []contender, closers []func() error, err error) {
	keys := makeKeys(n)
	orders := map[string][][]string{}
	for _, d := range dists {
		orders[d] = draw(keys, d, 2)
	}
	for _, p := range peer.Memory[T]() {
		b.progress("filling %s with %s", p.Name, value)
		c, err := filled(p, peer.Env{Addr: b.redis.addr, Bytes: 1 << 30}, keys, make)
		if err != nil {
			return all, closers, err
		}
		closers = append(closers, c.Close)
		for _, d := range dists {
			for _, cpu := range cpus {
				all = append(all, contender{
					peer: p.Name, params: fmt.Sprintf("value=%s/dist=%s/cpus=%d", value, d, cpu),
					round: hits(c, orders[d], load{workers: cpu, length: b.length}, cpu),
				})
			}
		}
	}
	return all, closers, nil
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
		c, err := filled(p, peer.Env{Addr: b.redis.addr}, keys, makeUser)
		if err != nil {
			return err
		}
		defer func() { _ = c.Close() }()
		for _, g := range counts {
			read := hits(c, wide, load{workers: g, length: b.length, each: true}, runtime.GOMAXPROCS(0))
			all = append(all, contender{peer: p.Name, params: fmt.Sprintf("goroutines=%d", g), round: func() (sample, error) {
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
