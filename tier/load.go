package tier

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/flight"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

const (
	// pollFirst and pollMost bound the pause between two looks at a key that
	// another node loads: short at first, because most loads are.
	pollFirst, pollMost = 4 * time.Millisecond, 100 * time.Millisecond
	// changedLimit is how often a key may change under a load before it is
	// loaded without being stored: such a key is written faster than read.
	changedLimit = 8
)

// GetOrSet returns the value of key, and loads and stores it if no tier holds
// a fresh one. ttl 0 is the cache's default, NoExpiry never ends, and any other
// ttl below zero stores nothing; below 1 ms is an error.
//
// # Loading
//
// For one key, one load runs at a time in this process, and in the fleet while
// Redis grants leases (OneLoad, after Nishtala et al., "Scaling Memcache at
// Facebook", NSDI 2013). Concurrent callers share its result; each must
// therefore pass a loader that computes the same. The loader's context carries
// the values of the caller that began it but not its cancellation: it ends when
// the last caller has left or after Options.LoadTimeout. A caller whose ctx
// ends leaves with its cause.
//
// The result is stored in L2 and L1 unless the key was invalidated, on any
// node, since the load began (NoStaleFill): it is then returned and kept
// nowhere. The same holds for a value above MaxValueBytes, or one that does
// not encode.
//
// # Errors
//
// ErrNotFound from the loader is remembered for NegativeTTL and returned. Any
// other error, LoadTimeout's among them, is never stored: it is answered with
// the value that is past its TTL and a nil error, if there is one
// (Options.StaleFor, [Cache.Expire]), else it is returned as it is. With
// Options.SoftTimeout that value is returned sooner. A panic of the loader
// reaches the caller that began the load, and is an error like any other for
// those who joined. ErrKey, ErrClosed, and errors about ttl or a nil load come
// before anything is done. Redis being down is no error (FailOpen).
//
// Round trips: none on an L1 hit, one on an L2 hit, three with a load.
func (c *Cache[T]) GetOrSet(ctx context.Context, key string, ttl time.Duration, load func(context.Context) (T, error)) (T, error) {
	h := c.hash(key)
	e, state := c.local.Get(h, key, c.node.member.heardUntil.Load())
	if state == l1.Hit && load != nil && (ttl <= 0 || ttl >= minTTL && ttl <= maxTTL) {
		if c.shares(e) {
			return e.Value, nil
		}
		return c.answer(e)
	}
	var fill loader[T]
	if load != nil {
		fill = func(ctx context.Context, _ *Fill[T]) (T, error) { return load(ctx) }
	}
	return c.getOrLoad(ctx, request[T]{key, h, Fill[T]{TTL: ttl}, fill}, e, state)
}

// answer is give with the absence as an error.
func (c *Cache[T]) answer(e *l1.Entry[T]) (T, error) {
	v, ok := c.give(e)
	if !ok {
		return v, ErrNotFound
	}
	return v, nil
}

// loader is the function of Fetch. That of GetOrSet is one that leaves its Fill
// as it is.
type loader[T any] func(context.Context, *Fill[T]) (T, error)

// request is what a caller of GetOrSet or Fetch asks for.
type request[T any] struct {
	key   string
	hash  uint64
	given Fill[T] // as the loader will find it
	load  loader[T]
}

// getOrLoad is the one way past a plain hit in L1, which found e in state. A caller's
// mistake is an error whatever the cache holds, else a program would work until
// the key has expired.
func (c *Cache[T]) getOrLoad(ctx context.Context, req request[T], e *l1.Entry[T], state l1.State) (T, error) {
	var zero T
	if req.load == nil {
		return zero, fmt.Errorf("tier: cache %q: load is nil, the function for %.80q", c.name, req.key)
	}
	if _, err := c.ttlOf(req.given.TTL); err != nil {
		return zero, err
	}
	if state.Fresh() {
		c.refresh(ctx, req, e)
		return c.answer(e)
	}
	if state == l1.Stale && c.resting(e) {
		return c.serve(e)
	}
	b := c.budget()
	r, err := c.lookFor(ctx, req, b, e)
	if err != nil {
		return zero, err
	}
	switch r.outcome {
	case hit:
		c.counts.hitsL2.Add(1)
		if c.node.clock.Now() >= c.refreshAt(r.entry) {
			c.refresh(ctx, req, r.entry)
		}
		return c.answer(r.entry)
	case down:
		if e := c.usable(ctx, req.hash, e); e != nil {
			return c.answer(e)
		}
		if ctx.Err() == nil && c.lasting(req.hash, e) {
			r.stale = e
		}
	}
	if r.stale != nil {
		switch {
		case c.failures.on(r.stale.Record, c.node.clock.Now()):
			return c.serve(r.stale)
		case c.opts.SoftTimeout < 0 && r.outcome == missed:
			c.refresh(ctx, req, r.stale)
			return c.serve(r.stale)
		}
	}
	c.counts.misses.Add(1)
	return c.load(ctx, req, r, b)
}

// lookFor is look for a caller of GetOrSet or Fetch, within what Close waits
// for. The error is ErrKey or ErrClosed.
func (c *Cache[T]) lookFor(ctx context.Context, req request[T], b *budget, old *l1.Entry[T]) (reading[T], error) {
	if err := checkKey(c.name, req.key); err != nil {
		return reading[T]{}, err
	}
	if err := c.node.enter(); err != nil {
		return reading[T]{}, err
	}
	defer c.node.leave()
	return c.look(ctx, req.key, req.hash, b, old), nil
}

// load runs the loader, or joins who does, and answers with what comes of it or,
// if that is nothing or late, with the value of r that is past its time.
func (c *Cache[T]) load(ctx context.Context, req request[T], r reading[T], b *budget) (T, error) {
	var zero T
	for {
		e, joined, err := c.fly(ctx, req, r, b)
		switch {
		case err == nil:
			return c.answer(e)
		case errors.Is(err, flight.ErrSlow):
			if v, ok, err := c.meanwhile(ctx, req, &r); ok {
				return v, err
			}
			r.stale = nil // invalidated meanwhile: there is only the load to wait for
		case joined && errors.Is(err, errDropped):
		case errors.Is(err, flight.ErrClosed):
			return zero, ErrClosed
		default:
			return c.fallback(ctx, req, r, b, err)
		}
	}
}

// fly is one flight of the key. It is [flight.ErrSlow] when it takes longer than
// there is reason to wait.
//
// While Redis does not answer there is always reason: what is loaded is not
// stored, so that a load that nobody waits for would be for nothing.
func (c *Cache[T]) fly(ctx context.Context, req request[T], r reading[T], b *budget) (e *l1.Entry[T], joined bool, err error) {
	valid := c.unmoved(req.hash, req.key, r.stamp, r.seq)
	nested := c.flights.Inside(ctx, req.key)
	left := *b // a copy: the flight may go on when this caller has left it
	run := func(ctx context.Context) (*l1.Entry[T], error) {
		f := filling[T]{c: c, request: req, r: r, b: &left, nested: nested}
		return f.run(ctx)
	}
	if r.stale != nil && r.outcome == missed && c.opts.SoftTimeout > 0 {
		return c.flights.DoWithin(ctx, c.opts.SoftTimeout, req.key, valid, run)
	}
	return c.flights.Do(ctx, req.key, valid, run)
}

// unmoved returns what tells whether a flight may be joined: while nothing that it
// could have read was invalidated since st and seq, of tags, were taken.
func (c *Cache[T]) unmoved(h uint64, key string, st fence.Stamp, seq uint64) func() bool {
	return func() bool {
		if mutant.On(mutant.PlainJoin) {
			return true
		}
		return c.fence.Load(h, key, st) == fence.Current && (c.node.tags.seq.Load() == seq || mutant.On(mutant.NoTagFlights))
	}
}

// filling is one load of one key: it asks for the lease, runs the loader, and
// stores the result where that is allowed.
type filling[T any] struct {
	c *Cache[T]
	request[T]
	r      reading[T] // the latest look
	b      *budget    // what that look has left
	nested bool       // asked for by a load of the key itself, which holds the lease and stores
	failed func()     // if not nil, called when the loader has failed, before the lease is given back
}

// run returns the entry with the value for the callers of the flight.
func (f *filling[T]) run(ctx context.Context) (*l1.Entry[T], error) {
	c := f.c
	// A flight that has just ended may have filled L1 after this caller looked. What is
	// found here or after waiting for another's lease stays the miss as which the read
	// was counted.
	if e, state := c.local.Peek(f.hash, f.key, c.node.member.heardUntil.Load()); state.Fresh() {
		return e, nil
	}
	if f.nested {
		return f.unstored(ctx)
	}
	pause := pollFirst
	patience := c.patience()
	for changed := 0; f.r.outcome == missed && changed < changedLimit && ctx.Err() == nil; {
		token := l2.NewToken()
		grant, err := f.lease(ctx, token)
		if err != nil {
			break
		}
		switch grant.Kind {
		case l2.Granted:
			return f.underLease(ctx, token)
		case l2.GrantChanged:
			changed++
		case l2.GrantBusy:
			if mutant.On(mutant.NoLeaseWait) {
				return f.unstored(ctx)
			}
			if patience.over() {
				return f.unstored(ctx)
			}
			// Waiting is not Redis' time. Each answer proves that it is there.
			f.b = c.budget()
			if !sleep(ctx, min(jitter(pause), max(grant.Wait, pollFirst))) {
				return nil, context.Cause(ctx)
			}
			pause = min(pause*3/2, pollMost)
		default: // a writer's bracket, a hold, or a newer format
			e, err := f.unstored(ctx)
			if mutant.On(mutant.FillUnderWriter) && err == nil {
				e.SetTimes(l1.Times{FreshUntil: c.node.clock.Now() + int64(c.opts.TTL)})
				c.keep(f.hash, e, 0, f.r.stamp)
			}
			return e, err
		}
		f.r = c.look(ctx, f.key, f.hash, f.b, nil)
		if f.r.outcome == hit {
			return f.r.entry, nil
		}
	}
	return f.unstored(ctx)
}

// unstored runs the loader without the permission to store.
func (f *filling[T]) unstored(ctx context.Context) (*l1.Entry[T], error) {
	res, err := f.call(ctx)
	if err != nil {
		return nil, err
	}
	return res.entry, nil
}

// underLease runs the loader while the lease is renewed, and stores the result
// if the lease still stands. The lease is given back when there is nothing to
// store, also on a panic.
func (f *filling[T]) underLease(ctx context.Context, token l2.Token) (*l1.Entry[T], error) {
	c := f.c
	stop := f.renew(ctx, token)
	filled := false
	defer func() {
		stop()
		if !filled {
			f.giveBack(ctx, token)
		}
	}()

	limited, done := f.b.spend(ctx)
	before := c.beforeLoad(limited, f.hash, f.r.tags)
	done()
	res, err := f.call(ctx)
	if err != nil {
		if f.failed != nil {
			f.failed()
		}
		return nil, err
	}
	if !res.keep {
		return res.entry, nil
	}
	limited, done = f.b.spend(context.WithoutCancel(ctx))
	tags, ok := c.afterLoad(limited, res.entry, f.hash, res.tags, before)
	done()
	if !ok {
		c.counts.fillsRefused.Add(1)
		return res.entry, nil
	}
	w, err := c.encode(ctx, making[T]{
		key: f.key, value: res.entry.Value, negative: res.entry.Negative(), payload: res.payload,
		ttl: c.jittered(res.ttl), version: f.r.version, source: res.source, took: res.took, tags: tags,
	})
	if err != nil {
		c.counts.fillsRefused.Add(1)
		c.node.log.Warn("tier: loaded value not stored", "cache", c.name, "key", f.key, "error", err)
		return res.entry, nil
	}
	stop() // a renewal must not cross the fill
	if filled = f.store(ctx, token, w); !filled {
		c.counts.fillsRefused.Add(1)
		return res.entry, nil
	}
	return w.entry, nil
}

// store fills the key with what was encoded, in both tiers, and tells the other
// nodes if what they hold as fresh has changed. A caller that leaves at this
// point does not keep the others, and the next, from the value: the context is
// detached.
func (f *filling[T]) store(ctx context.Context, token l2.Token, w *encoded[T]) bool {
	c := f.c
	if err := c.node.enter(); err != nil {
		return false
	}
	defer c.node.leave()
	if f.b.left <= 0 || c.node.owes(c.name, f.key) {
		// Redis has had its time; or what would void the lease did not reach it.
		return false
	}
	ctx, done := f.b.spend(context.WithoutCancel(ctx))
	defer done()
	var nt notice
	changed := f.changes(w)
	if changed {
		var err error
		if nt, err = c.node.member.compose(invalidation.Message{Kind: invalidation.KindKeys, Cache: c.name, Keys: []string{f.key}}); err != nil {
			return false
		}
	}
	ok, err := c.node.store.Fill(ctx, w.redisKey, token, w.record, w.redisTTL, nt.bytes)
	ok = ok && err == nil
	st := f.r.stamp
	if changed {
		c.node.member.settle(nt, ok)
		if !ok {
			// It may have been stored all the same, and the others been told.
			c.invalidate(f.key)
			return false
		}
		// The stamp moves, as after a Set: a slow reader of this node that found
		// the old value in L2, still fresh, must not put it over the new one.
		// One that is not confirmed is void, so that nothing is kept.
		st = c.confirm(f.hash, st)
	}
	if ok {
		c.keep(f.hash, w.entry, w.bytes, st)
	}
	return ok
}

// sleep waits, and reports whether it waited to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// jitter spreads a pause over half to all of d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

func randFloat() float64 { return rand.Float64() }
