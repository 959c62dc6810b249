package main

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"runtime"
	"time"

	"github.com/tandemcache/tandem/bench/peer"
	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l1"
)

// hitParts measures what a hit in memory consists of, each part alone.
func hitParts(b *bench) (err error) {
	t := &table{
		name: "HitPart", title: "What a hit in memory consists of",
		about: "10-field struct, Zipf, 1 CPU, in slices that take turns, without Redis; the base is the whole of it. Store.Get is the memory below it, which is given the hash and returns a pointer; the next row also hashes and copies the value, " +
			"which the whole does once for each function that hands it on. Store.Peek neither counts the hit nor tells the policy of it; what it is faster by is what metrics cost. " +
			"Fence compares a stamp with what was invalidated. The loop, which takes the next key, is in all rows. " +
			"A processor works on several parts, and on the next key, at once, so parts alone do not add up, and waiting for memory shows in the larger ones.",
		columns: []string{"ns/op"}, base: "tier.Get", better: "less",
	}
	for _, users := range []int{1000, 100_000} {
		keys := makeKeys(b.scale(users))
		whole := &holder[User]{
			peer: peer.Peer[User]{Name: "tandem", Open: tandemInMemory}, env: peer.Env{Bytes: 256 << 20}, keys: keys, value: makeUser,
		}
		defer func() { err = errors.Join(err, whole.close()) }()
		order := draw(keys, "zipf", 1)
		params := fmt.Sprintf("users=%d", users)
		l := load{workers: 1, length: b.length}.slice(new(sliced))
		all := []contender{{peer: "tier.Get", params: params, sliced: l.sliced, open: whole.open, round: hits(whole, order, l, 1)}}

		p, err := newHitPart(keys, order[0], 256<<20)
		if err != nil {
			return err
		}
		defer p.store.Close()
		for _, part := range p.parts() {
			all = append(all, contender{peer: part.name, params: params, sliced: l.sliced, round: p.round(part, l)})
		}
		if err := t.measure(b, all); err != nil {
			return err
		}
	}
	t.done(b)
	return nil
}

// tandemInMemory is Tandem without Redis.
func tandemInMemory(env peer.Env) (peer.Cache[User], error) {
	for _, p := range peer.Memory[User]() {
		if p.Name == "tandem" {
			return p.Open(env)
		}
	}
	return nil, errors.New("no tandem")
}

// hitPart is what Tandem's hit is made of, below package tier.
type hitPart struct {
	store *l1.Store[User]
	fence *fence.Fence
	seed  maphash.Seed
	drawn []drawnKey
	value User // that was copied last
}

// drawnKey is a key that is asked for, with what the other parts of a hit know of it.
type drawnKey struct {
	key   string
	hash  uint64
	stamp fence.Stamp
}

func newHitPart(keys, order []string, budget int64) (*hitPart, error) {
	forEntries := l1.ForEntries(budget)
	p := &hitPart{fence: fence.New(l1.Capacity(forEntries)), seed: maphash.MakeSeed()}
	var err error
	if p.store, err = l1.New[User](l1.Config{MaxBytes: forEntries, Fence: p.fence, Hash: p.hash}); err != nil {
		return nil, err
	}
	// Again and again: what the policy's queue had no room for is gone.
	err = until(20*time.Second, func() error {
		missing := 0
		for i, key := range keys {
			h := p.hash(key)
			if _, state := p.store.Peek(h, key, math.MaxInt64); !state.Fresh() {
				missing++
				p.store.Put(h, p.entry(h, key, makeUser(i)), 200)
			}
		}
		if missing > 0 {
			return fmt.Errorf("%d keys do not stay in memory", missing)
		}
		return nil
	})
	if err != nil {
		p.store.Close()
		return nil, err
	}
	p.drawn = make([]drawnKey, len(order))
	for i, key := range order {
		h := p.hash(key)
		p.drawn[i] = drawnKey{key, h, p.fence.Stamp(h)}
	}
	return p, nil
}

// entry is the only place that knows what an entry is made of.
func (p *hitPart) entry(h uint64, key string, v User) *l1.Entry[User] {
	e := l1.NewEntry[User](key)
	e.Value, e.TTL = v, peer.TTL
	e.SetStamp(p.fence.Stamp(h))
	later := p.store.Clock().Now() + int64(peer.TTL)
	e.SetTimes(l1.Times{FreshUntil: later, UsableUntil: later})
	return e
}

func (p *hitPart) hash(key string) uint64 { return maphash.String(p.seed, key) }

// part is one step of a hit. It reports whether it found what it should.
type part struct {
	name string
	do   func(*drawnKey) bool
}

func (p *hitPart) parts() []part {
	clock := p.store.Clock()
	return []part{
		{"Store.Get", func(d *drawnKey) bool {
			_, state := p.store.Get(d.hash, d.key, math.MaxInt64)
			return state.Fresh()
		}},
		{"Get+hash+copy", func(d *drawnKey) bool {
			e, state := p.store.Get(p.hash(d.key), d.key, math.MaxInt64)
			if state.Fresh() {
				p.value = e.Value
			}
			return state.Fresh()
		}},
		{"Store.Peek", func(d *drawnKey) bool {
			_, state := p.store.Peek(d.hash, d.key, math.MaxInt64)
			return state.Fresh()
		}},
		{"fence", func(d *drawnKey) bool { return p.fence.State(d.hash, d.key, d.stamp) == fence.Current }},
		{"clock", func(*drawnKey) bool { return clock.Now() > 0 }},
		{"hash", func(d *drawnKey) bool { return p.hash(d.key) == d.hash }},
		{"loop", func(d *drawnKey) bool { return d.key != "" }},
	}
}

// round returns the round of a part alone.
func (p *hitPart) round(part part, l load) func() (sample, error) {
	return func() (sample, error) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		misses := 0
		s, err := measure(l, func(_, n int) error {
			if !part.do(&p.drawn[n&(drawsPerWorker-1)]) {
				misses++
			}
			return nil
		})
		if err == nil && float64(misses) > s["ops"]/1000 {
			err = fmt.Errorf("%w (%d of %.0f)", errMiss, misses, s["ops"])
		}
		return s, err
	}
}
