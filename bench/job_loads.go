package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/bench/peer"
)

// byHand is a miss without a cache library: GET, load, SET.
type byHand struct{ peer.Cache[User] }

func (h byHand) Load(ctx context.Context, key string, load func(context.Context) (User, error)) (User, error) {
	v, ok, err := h.Get(ctx, key)
	if ok || err != nil {
		return v, err
	}
	if v, err = load(ctx); err != nil {
		return v, err
	}
	return v, h.Set(ctx, key, v)
}

// openPeer opens a peer by name.
func openPeer(list []peer.Peer[User], name string, env peer.Env) (peer.Cache[User], error) {
	for _, p := range list {
		if p.Name == name {
			return p.Open(env)
		}
	}
	return nil, fmt.Errorf("no peer %q", name)
}

func misses(b *bench) error {
	t := &table{
		name: "Miss", title: "Cold miss: look, load, store",
		about:   "The loader returns at once, every key is asked for once. Two tiers, memory on. go-redis is GET, load, SET and PUBLISH, without any protection against stampedes or stale fills; Tandem's third round trip is its lease. Commands are what the server counted, those within scripts and transactions included: they are no round trips.",
		columns: []string{"ns/op", "p99-ns", "allocs/op", "commands/op"}, base: "go-redis", better: "less",
	}
	stats := b.redis.client()
	defer func() { _ = stats.Close() }()
	var all []contender
	var fresh atomic.Int64
	for _, p := range slices.Concat(peer.Remote[User]()[:1], peer.Loading[User]()) {
		c, err := p.Open(peer.Env{Addr: b.redis.addr, Entries: 1 << 20, Bytes: 256 << 20, Name: "miss-" + p.Name})
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		defer func() { _ = c.Close() }()
		l, ok := c.(peer.Loader[User])
		if !ok {
			l = byHand{c}
		}
		for _, g := range []int{1, 64} {
			driven := b.requests(g)
			all = append(all, contender{peer: p.Name, params: fmt.Sprintf("goroutines=%d", g), sliced: driven.sliced, round: func() (sample, error) {
				before := commandsDone(stats)
				s, err := measure(driven, func(int, int) error {
					i := fresh.Add(1)
					_, err := l.Load(context.Background(), fmt.Sprintf(keyFormat, i), func(context.Context) (User, error) {
						return makeUser(int(i)), nil
					})
					return err
				})
				s["commands/op"] = (commandsDone(stats) - before) / s["ops"]
				return s, err
			}})
		}
	}
	return t.run(b, all)
}

// stampedes lets 1,000 goroutines ask for one absent key at once.
func stampedes(b *bench) error {
	t := &table{
		name: "Stampede", title: "Stampede: 1,000 goroutines ask for one absent key",
		about:   "The load takes 20 ms. In one process, and 250 goroutines in each of four. Loads are those of all processes.",
		columns: []string{"loads", "max-ns"}, base: "tandem", better: "less",
	}
	var all []contender
	round := 0
	for _, p := range peer.Loading[User]() {
		for _, processes := range []int{1, 4} {
			all = append(all, contender{peer: p.Name, params: fmt.Sprintf("processes=%d", processes), round: func() (sample, error) {
				round++
				return b.stampede(p.Name, processes, fmt.Sprintf("key%d", round))
			}})
		}
	}
	return t.run(b, all)
}

// stampedeReport is what one process saw.
type stampedeReport struct {
	Loads int64
	Max   time.Duration
}

func (b *bench) stampede(name string, processes int, key string) (s sample, err error) {
	var children []*child
	defer func() {
		for _, c := range children {
			err = errors.Join(err, c.stop())
		}
	}()
	for range processes {
		c, err := startChild("stampede", order{
			Peer: name, Addr: b.redis.addr, Workers: b.scale(1000) / processes, Probes: []string{key},
			At: time.Now().Add(time.Second + time.Duration(processes)*100*time.Millisecond),
		})
		if err != nil {
			return nil, err
		}
		children = append(children, c)
	}
	s = sample{"ops": 1}
	for _, c := range children {
		var r stampedeReport
		if err := c.hear(&r); err != nil {
			return nil, err
		}
		s["loads"] += float64(r.Loads)
		s["max-ns"] = max(s["max-ns"], float64(r.Max))
	}
	return s, nil
}

func stampedeChild(ctx context.Context, o order, say func(any) error) error {
	c, err := openPeer(peer.Loading[User](), o.Peer, peer.Env{Addr: o.Addr, Entries: 1000, Bytes: 1 << 20, Name: "stampede-" + o.Peer})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var r stampedeReport
	var loads atomic.Int64
	times := make([]time.Duration, o.Workers)
	var wg sync.WaitGroup
	timer := time.NewTimer(time.Until(o.At))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	errs := make([]error, o.Workers)
	for w := range o.Workers {
		wg.Go(func() {
			begun := time.Now()
			_, errs[w] = c.(peer.Loader[User]).Load(ctx, o.Probes[0], func(context.Context) (User, error) {
				loads.Add(1)
				time.Sleep(20 * time.Millisecond) // stands for a database
				return makeUser(1), nil
			})
			times[w] = time.Since(begun)
		})
	}
	wg.Wait()
	r.Loads, r.Max = loads.Load(), slices.Max(times)
	return errors.Join(errors.Join(errs...), say(r))
}

// bareWrites are what one writes by hand: the change and a PUBLISH in one pipeline.
// As a process of a fleet does, the first also hears the channel; the PUBLISH of the
// other reaches nobody.
const (
	bareHeard   = "go-redis"
	bareUnheard = "go-redis-unheard"
)

func writes(b *bench) error {
	t := &table{
		name: "Write", title: "Set and Delete, other processes told",
		about: "10-field struct, 10,000 keys. go-redis is SET (or DEL) and PUBLISH in one pipeline, by a process that is subscribed, " +
			"as every process of a fleet is (Tandem's hears its own messages, too); go-redis-unheard is the same without any subscriber, so that nobody is told. " +
			"rueidis' client-side caching, where Redis itself tells the others, is on. " +
			"go-redis/cache tells nobody; jetcache-go would publish by a hook of the application's.",
		columns: []string{"ns/op", "p99-ns", "allocs/op"}, base: bareHeard, better: "less",
	}
	keys := makeKeys(b.scale(10_000))
	order := draw(keys, "uniform", 64)
	var all []contender
	for _, name := range []string{bareHeard, bareUnheard, "tandem", "rueidis-csc", "go-redis-cache", "jetcache-go"} {
		env := peer.Env{Addr: b.redis.addr, Entries: len(keys), Bytes: 64 << 20, Name: "write-" + name}
		c, closing, err := b.writer(name, env)
		if err != nil {
			return err
		}
		defer closing()
		ctx := context.Background()
		u := makeUser(7)
		for _, g := range []int{1, 64} {
			job := func(op string, f func(key string) error) {
				l := b.requests(g)
				all = append(all, contender{peer: name, params: fmt.Sprintf("op=%s/goroutines=%d", op, g), sliced: l.sliced, round: func() (sample, error) {
					return measure(l, func(w, n int) error { return f(order[w][n&(drawsPerWorker-1)]) })
				}})
			}
			job("set", func(key string) error { return c.Set(ctx, key, u) })
			job("delete", func(key string) error { return c.Delete(ctx, key) })
		}
	}
	return t.run(b, all)
}

// writer opens the peer of a row of writes.
func (b *bench) writer(name string, env peer.Env) (c peer.Cache[User], closing func(), err error) {
	if name != bareHeard && name != bareUnheard {
		c, err = openPeer(peer.Memory[User](), name, env)
		return c, func() { _ = c.Close() }, err
	}
	if c, err = openPeer(peer.Remote[User](), "go-redis", env); err != nil || name == bareUnheard {
		return c, func() { _ = c.Close() }, err
	}
	stop, err := hearAll(b.redis.client(), env.Name)
	return c, func() {
		stop()
		_ = c.Close()
	}, err
}

// hearAll subscribes to a channel and takes what comes, until stop.
func hearAll(client *redis.Client, channel string) (stop func(), err error) {
	ctx := context.Background()
	sub := client.Subscribe(ctx, channel)
	stop = func() {
		_ = sub.Close()
		_ = client.Close()
	}
	if _, err := sub.Receive(ctx); err != nil {
		return stop, err
	}
	go func() {
		for {
			if _, err := sub.ReceiveMessage(ctx); err != nil {
				return
			}
		}
	}()
	return stop, nil
}
