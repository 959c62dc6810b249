package tier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/flight"
	"github.com/tandemcache/tandem/internal/l1"
)

// batchLoader is the function of GetOrSetMany.
type batchLoader[T any] func(ctx context.Context, missing []string) (map[string]T, error)

// GetOrSetMany is [Cache.GetOrSet] of many keys: it returns the values of keys,
// and loads and stores those that no tier holds fresh, with one call of load for
// many of them. Keys without a value are missing in the result.
//
// load is called with distinct keys, at most 500 at a time, and may be called
// several times, one after another: for each 500 keys, and for keys that another
// process was loading and did not store. It returns the values of missing:
//
//   - A key that it leaves out does not exist. That is remembered for
//     Options.NegativeTTL, as an ErrNotFound of a single loader is. If load
//     returns ErrNotFound, no key of missing exists.
//   - A key that it adds unasked is stored where nothing is, if it is certain that
//     no node has invalidated it since load began. On a cluster that is never
//     certain, and such keys are not stored.
//
// Single loads and batches share their work: a key that is being loaded in this
// process is waited for, and whoever asks for a key of this batch waits for this
// one. The same holds between processes, by leases. A batch loads the keys that it
// owns before it waits for any other, so that batches that overlap never wait for
// each other in a circle.
//
// # Result
//
// Each key has the promises of GetOrSet, and those of ttl. The result holds what
// could be had, also with an error, which joins:
//
//   - ErrKey for the first invalid key; the others are served.
//   - load's error, if it ended with one other than ErrNotFound. Nothing that it
//     returned is used then, what is past its TTL stands in where there is something
//     (Options.StaleFor), and the error is returned only if some key has nothing.
//     The rest of keys is not loaded.
//   - the cause of a ctx that has ended.
//
// Options.SoftTimeout counts from when the load of up to 500 keys begins; those that
// have no value past its TTL to answer with are waited for all the same. What goes on
// in the background takes a place of Config.MaxBackground for each key.
//
// A panic of load reaches the caller. Errors about ttl, a nil load and ErrClosed
// come before anything is done.
//
// Round trips: none on L1 hits, one for each 500 keys in L2, three with a load, on
// a cluster to each master at once.
func (c *Cache[T]) GetOrSetMany(ctx context.Context, keys []string, ttl time.Duration, load func(ctx context.Context, missing []string) (map[string]T, error)) (map[string]T, error) {
	if load == nil {
		return nil, fmt.Errorf("tier: cache %q: GetOrSetMany: load is nil", c.name)
	}
	ttl, err := c.ttlOf(ttl)
	if err != nil {
		return nil, err
	}
	if c.node.calls.closed() {
		return nil, ErrClosed
	}
	out := make(map[string]T, len(keys))
	call := &batchCall[T]{c: c, ttl: ttl, load: load, out: out}
	items, invalid := c.localMany(keys, out, func(it *item[T], e *l1.Entry[T]) { c.refresh(ctx, call.single(it), e) })
	for len(items) > 0 {
		n := min(len(items), batchKeys)
		if err := call.chunk(ctx, items[:n]); err != nil {
			return out, errors.Join(invalid, err)
		}
		items = items[n:]
	}
	return out, invalid
}

// batchCall is one call of GetOrSetMany.
type batchCall[T any] struct {
	c    *Cache[T]
	ttl  time.Duration
	load batchLoader[T]
	out  map[string]T
	away bool      // Redis did not answer
	at   time.Time // when that was seen
}

// single is the request of one key alone, for loads in the background.
func (b *batchCall[T]) single(it *item[T]) request[T] {
	return request[T]{it.key, it.hash, Fill[T]{TTL: b.ttl}, func(ctx context.Context, _ *Fill[T]) (T, error) {
		values, err := b.load(ctx, []string{it.key})
		v, ok := values[it.key]
		if err == nil && !ok {
			err = ErrNotFound
		}
		return v, err
	}}
}

// chunk serves up to batchKeys keys.
func (b *batchCall[T]) chunk(ctx context.Context, items []*item[T]) error {
	for len(items) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := b.look(ctx, items); err != nil {
			return err
		}
		var missing []*item[T]
		for _, it := range items {
			if !b.found(ctx, it) {
				missing = append(missing, it)
			}
		}
		var err error
		if items, err = b.fly(ctx, missing); err != nil {
			return err
		}
	}
	return nil
}

// look is lookMany, but for Redis having answered nothing of a whole chunk: what
// comes within a Timeout after that does not ask it. Later it is asked again, for
// loads take their time, and L1 may stand in only while Redis does not answer.
func (b *batchCall[T]) look(ctx context.Context, items []*item[T]) error {
	c := b.c
	if err := c.node.enter(); err != nil {
		return err
	}
	defer c.node.leave()
	if !b.away || time.Since(b.at) > c.node.cfg.Timeout {
		c.lookMany(ctx, items, c.budget())
		b.away = !slices.ContainsFunc(items, func(it *item[T]) bool { return it.r.outcome != down })
		b.at = time.Now()
		return nil
	}
	for _, it := range items {
		it.r = reading[T]{outcome: down, err: ErrUnavailable}
		it.r.stamp, it.r.seq = c.fence.Stamp(it.hash), c.node.tags.seq.Load()
	}
	return nil
}

// found takes what a look at one key found, as getOrLoad does. False: a load is
// needed.
func (b *batchCall[T]) found(ctx context.Context, it *item[T]) bool {
	c := b.c
	switch it.r.outcome {
	case hit:
		it.count(&c.counts.hitsL2)
		if c.node.clock.Now() >= c.refreshAt(it.r.entry) {
			c.refresh(ctx, b.single(it), it.r.entry)
		}
		c.take(it.key, it.r.entry, b.out)
		return true
	case down:
		if e := c.usable(ctx, it.hash, it.old); e != nil {
			c.take(it.key, e, b.out)
			return true
		}
		if ctx.Err() == nil && c.lasting(it.hash, it.old) {
			it.r.stale = it.old
		}
	}
	if it.r.stale != nil {
		resting := c.failures.on(it.r.stale.Record, c.node.clock.Now())
		if again := c.opts.SoftTimeout < 0 && it.r.outcome == missed; again && !resting {
			c.refresh(ctx, b.single(it), it.r.stale)
			resting = true
		}
		if resting {
			b.serve(it.key, it.r.stale)
			return true
		}
	}
	it.count(&c.counts.misses)
	return false
}

// count counts what the first look at a key came to.
func (it *item[T]) count(as *atomic.Uint64) {
	if !it.counted {
		it.counted = true
		as.Add(1)
	}
}

func (b *batchCall[T]) serve(key string, e *l1.Entry[T]) {
	b.c.counts.staleServed.Add(1)
	b.c.take(key, e, b.out)
}

// place is an item's part in a flight.
type place[T any] struct {
	*item[T]

	pending *flight.Pending[*l1.Entry[T]] // nil: asked for by a load of the key itself
	own     *owned[T]                     // nil: of another's flight
	late    *item[T]                      // a copy, if there is a value to answer with; the load changes its own
}

// fly loads items or waits for those who do. It returns those that must be
// looked at again, because a load that they waited for came to nothing.
func (b *batchCall[T]) fly(ctx context.Context, items []*item[T]) (again []*item[T], err error) {
	if len(items) == 0 {
		return nil, nil
	}
	c := b.c
	load := newBatchLoad(ctx, b)
	places := make([]place[T], 0, len(items))
	for _, it := range items {
		p := place[T]{item: it}
		if it.r.stale != nil {
			late := *it
			p.late = &late
		}
		if c.flights.Inside(ctx, it.key) {
			p.own = load.own(it)
			p.own.nested = true
			places = append(places, p)
			continue
		}
		o := load.own(it)
		if p.pending, err = c.flights.Start(ctx, it.key, c.unmoved(it.hash, it.key, it.r.stamp, it.r.seq), o.fly); err != nil {
			load.disown()
			break // closed: so are the flights that were begun
		}
		if p.pending.Joined() {
			load.disown()
		} else {
			p.own, o.pending = o, p.pending
		}
		places = append(places, p)
	}
	load.begin()
	failed := errors.Join(err)
	if errors.Is(err, flight.ErrClosed) {
		failed = ErrClosed
	}
	settled := true
	var late []*item[T]
	var errs []error
	slow, stop := c.slow(places)
	defer stop()
	for i, p := range places {
		e, err := p.wait(ctx, slow)
		if errors.Is(err, flight.ErrSlow) && ctx.Err() != nil {
			err = context.Cause(ctx) // both at once
		}
		if p.own != nil && err != nil {
			settled = false
			if ctx.Err() == nil && !errors.Is(err, flight.ErrSlow) {
				load.raise(err, places[i+1:])
			} else {
				load.gone.Store(true)
			}
		}
		switch {
		case err == nil:
			c.take(p.key, e, b.out)
		case p.own == nil && errors.Is(err, errDropped):
			again = append(again, p.item)
		case errors.Is(err, flight.ErrClosed):
			failed = ErrClosed
		case p.late != nil && hides(ctx, err):
			late, errs = append(late, p.late), append(errs, err)
		case failed == nil:
			failed = err
		}
	}
	if settled {
		<-load.done // what was loaded unasked is being stored
	}
	changed, err := b.standIn(ctx, late, errs)
	if failed == nil {
		failed = err
	}
	return append(again, changed...), failed
}

// leave gives up the places in flights that are not waited for any more, so that
// those can end when the others leave, too.
func leave[T any](places []place[T]) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, p := range places {
		if p.pending != nil {
			_, _ = p.pending.Wait(gone)
		}
	}
}

// hasty reports whether the caller waits for the load no longer than SoftTimeout,
// see Cache.fly.
func (p *place[T]) hasty() bool {
	return p.late != nil && p.late.r.outcome == missed && p.pending != nil
}

func (p *place[T]) wait(ctx context.Context, slow <-chan time.Time) (*l1.Entry[T], error) {
	switch {
	case p.pending == nil:
		return p.own.fly(ctx)
	case p.hasty():
		return p.pending.WaitUntil(ctx, slow)
	default:
		return p.pending.Wait(ctx)
	}
}

// slow returns a channel that is closed after SoftTimeout, nil if there is none,
// and moves the places that do not wait for longer to the end: what comes while the
// others are waited for is fresh.
func (c *Cache[T]) slow(places []place[T]) (slow chan time.Time, stop func()) {
	if c.opts.SoftTimeout <= 0 || !slices.ContainsFunc(places, func(p place[T]) bool { return p.hasty() }) {
		return nil, func() {}
	}
	slices.SortStableFunc(places, func(a, b place[T]) int {
		switch {
		case a.hasty() == b.hasty():
			return 0
		case b.hasty():
			return -1
		default:
			return 1
		}
	})
	slow = make(chan time.Time)
	timer := time.AfterFunc(c.opts.SoftTimeout, func() { close(slow) })
	return slow, func() { timer.Stop() }
}
