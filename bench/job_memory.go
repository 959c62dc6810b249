package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/tandemcache/tandem/bench/peer"
	"github.com/tandemcache/tandem/tier"
)

// memory measures what an entry takes on the heap, each peer in a process of its
// own.
func memory(b *bench) error {
	t := &table{
		name: "Memory", title: "Memory per entry: heap after GC, keys and values included",
		about: "100,000 entries (10,000 in a smoke run), decoded values of a struct with 100 bytes or 1 KiB of data; peers that hold bytes hold them encoded. What an empty cache takes is not counted, nor are its connections. " +
			"Values are loaded by peers that load, so that Tandem does not remember changes, which it does for 30 seconds (some 130 bytes each, at most 65,536). Budgets in bytes are twice what is held.",
		columns: []string{"B/entry", "empty-B"}, base: "ristretto", better: "less",
	}
	var all []contender
	n := b.scale(100_000)
	for _, size := range []int{100, 1 << 10} {
		for _, p := range peer.Memory[Blob]() {
			all = append(all, contender{peer: p.Name, params: fmt.Sprintf("size=%d", size), round: func() (sample, error) {
				return b.heap(order{Peer: p.Name, Addr: b.redis.addr, Keys: n, Size: size, Bytes: int64(2 * n * (size + usualOverhead))})
			}})
		}
	}
	once := *b
	once.rounds = 1 // a heap does not vary
	if err := t.run(&once, all); err != nil {
		return err
	}
	b.tables = once.tables
	return b.budget()
}

// usualOverhead is roughly what an entry takes besides its value.
const usualOverhead = 400

type memoryReport struct {
	Bare        int64 // what Tandem takes without a memory
	Empty, Full int64
	Entries     int64
}

func (b *bench) heap(o order) (s sample, err error) {
	c, err := startChild("memory", o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	var r memoryReport
	if err := c.hear(&r); err != nil {
		return nil, err
	}
	if r.Entries == 0 {
		return nil, errors.New("nothing was kept")
	}
	return sample{
		"ops": 1, "B/entry": float64(r.Full-r.Empty) / float64(r.Entries), "empty-B": float64(r.Empty),
		"entries": float64(r.Entries), "heap-B": float64(r.Full - r.Bare),
	}, nil
}

// budget compares the heap of a full store with the budget that it was given.
func (b *bench) budget() error {
	t := &table{
		name: "Budget", title: "Local.MaxBytes against the heap of a full store",
		about:   "A budget of 32 MiB, offered twice as much as fits, by loads. The heap is that of all entries and tables, those of an empty store included, but for what a node without a memory takes (connections).",
		columns: []string{"heap-B/budget-B", "entries"}, base: "tandem", better: "less",
	}
	const budget = 32 << 20
	var all []contender
	for _, size := range []int{100, 1 << 10, 10 << 10} {
		all = append(all, contender{peer: "tandem", params: fmt.Sprintf("size=%d", size), round: func() (sample, error) {
			s, err := b.heap(order{Peer: "tandem-budget", Addr: b.redis.addr, Keys: b.scale(2 * budget / (size + usualOverhead)), Size: size, Bytes: budget})
			if err == nil {
				s["heap-B/budget-B"] = s["heap-B"] / budget
			}
			return s, err
		}})
	}
	once := *b
	once.rounds = 1
	err := t.run(&once, all)
	b.tables = once.tables
	return err
}

func memoryChild(_ context.Context, o order, say func(any) error) error {
	var c peer.Cache[Blob]
	var err error
	bare := int64(0)
	before := heap()
	env := peer.Env{Addr: o.Addr, Entries: o.Keys, Bytes: o.Bytes, Name: fmt.Sprintf("memory-%s-%d", o.Peer, o.Size)} // a size that ran before left its values in Redis
	counted := func() int64 { return int64(o.Keys) }
	for _, p := range peer.Memory[Blob]() {
		if p.Name == o.Peer {
			c, err = p.Open(env)
		}
	}
	if o.Peer == "tandem-budget" {
		other, failed := openBare(env)
		if failed != nil {
			return failed
		}
		defer func() { _ = other.Close() }()
		bare = heap() - before
		before += bare // it is there, and c takes as much again
		c, err = peer.OpenTandem(env, tier.Options[Blob]{TTL: peer.TTL, Local: tier.Local{MaxBytes: o.Bytes}})
	}
	if err != nil || c == nil {
		return errors.Join(err, fmt.Errorf("peer %q", o.Peer))
	}
	if s, ok := c.(interface{ Stats() tier.Stats }); ok {
		counted = func() int64 { return s.Stats().Entries }
	}
	ctx := context.Background()
	if err := connect(c); err != nil {
		return err
	}
	r := memoryReport{Bare: bare, Empty: heap() - before}
	value := makeBlob(o.Size)
	for range 2 {
		if err := together(o.Keys, func(i int) error {
			key := fmt.Sprintf(keyFormat, i)
			if _, ok, err := c.Get(ctx, key); ok || err != nil {
				return err
			}
			if err := store(ctx, c, key, value(i)); err != nil {
				return err
			}
			_, _, err := c.Get(ctx, key)
			return err
		}); err != nil {
			return err
		}
	}
	r.Full, r.Entries = heap()-before, counted()
	runtime.KeepAlive(c)
	return errors.Join(say(r), c.Close())
}

// store lets a peer load a value, or sets it.
func store(ctx context.Context, c peer.Cache[Blob], key string, v Blob) error {
	l, ok := c.(peer.Loader[Blob])
	if !ok {
		return c.Set(ctx, key, v)
	}
	_, err := l.Load(ctx, key, func(context.Context) (Blob, error) { return v, nil })
	return err
}

// errAbsent is what the loader of connect returns, so that nothing is stored.
var errAbsent = errors.New("absent")

// connect lets a peer open its connections, those for loads, too: their buffers are no
// memory of entries.
func connect(c peer.Cache[Blob]) error {
	ctx := context.Background()
	return together(4000, func(i int) error {
		key := fmt.Sprintf("absent:%d", i)
		if l, ok := c.(peer.Loader[Blob]); ok {
			_, err := l.Load(ctx, key, func(context.Context) (Blob, error) { return Blob{}, errAbsent })
			if !errors.Is(err, errAbsent) {
				return fmt.Errorf("load that fails: %w", err)
			}
			return nil
		}
		_, _, err := c.Get(ctx, key)
		return err
	})
}

// openBare opens a Tandem cache without a memory.
func openBare(env peer.Env) (peer.Cache[Blob], error) {
	env.Name += "-bare"
	c, err := peer.OpenTandem(env, tier.Options[Blob]{TTL: peer.TTL, Local: tier.Local{Disabled: true}})
	if err != nil {
		return nil, err
	}
	return c, connect(c)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
