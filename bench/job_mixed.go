package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tandemcache/tandem/bench/peer"
)

// mixed lets two processes read and change the same keys.
func mixed(b *bench) error {
	t := &table{
		name: "Mixed", title: "Two processes: 95 % reads, 5 % Sets, Zipf",
		about:   "100,000 users, 8 goroutines in each process; values are stored under other strings than those asked for. What is read may be old for as long as the peer promises or happens to; only Tandem and rueidis' client-side caching drop what others changed.",
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
			err = c.Set(ctx, strings.Clone(key), makeUser(n)) // as in fill
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
