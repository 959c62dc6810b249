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
)

const (
	// leaseTime is short, so that a process that dies holds up a key for little
	// more than that, and renewed while the load runs.
	leaseTime = 2 * time.Second
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
// other error is returned as it is and never stored. A panic of the loader
// reaches the caller that began the load, and is an error for those who joined.
// ErrKey, ErrClosed and errors about ttl come before anything is done. Redis
// being down is no error (FailOpen).
//
// Round trips: none on an L1 hit, one on an L2 hit, three with a load.
func (c *Cache[T]) GetOrSet(ctx context.Context, key string, ttl time.Duration, load func(context.Context) (T, error)) (T, error) {
	h := c.hash(key)
	e, state := c.local.Get(h, key, c.node.member.heardUntil.Load())
	if state.Fresh() {
		return c.answer(e)
	}
	if load == nil {
		var zero T
		return zero, fmt.Errorf("tier: cache %q: GetOrSet %.80q: load is nil", c.name, key)
	}
	fill := func(ctx context.Context, _ *Fill[T]) (T, error) { return load(ctx) }
	return c.getOrLoad(ctx, key, h, e, Fill[T]{TTL: ttl}, fill)
}

// answer is give with the absence as an error.
func (c *Cache[T]) answer(e *l1.Entry[T]) (T, error) {
	v, ok := c.give(e)
	if !ok {
		return v, ErrNotFound
	}
	return v, nil
}

// getOrLoad is the one way past L1 for GetOrSet and Fetch. given is the Fill as
// the function will find it.
func (c *Cache[T]) getOrLoad(ctx context.Context, key string, h uint64, old *l1.Entry[T], given Fill[T], fill func(context.Context, *Fill[T]) (T, error)) (T, error) {
	var zero T
	if _, err := c.ttlOf(given.TTL); err != nil {
		return zero, err
	}
	if err := checkKey(c.name, key); err != nil {
		return zero, err
	}
	r, err := c.firstLook(ctx, key, h, old)
	if err != nil {
		return zero, err
	}
	switch r.outcome {
	case hit:
		return c.answer(r.entry)
	case down:
		if e := c.usable(h, old); e != nil {
			return c.answer(e)
		}
	}
	c.counts.misses.Add(1)
	// The flight may be joined while nothing it could have read was invalidated.
	valid := func() bool { return c.fence.State(h, key, r.stamp) == fence.Current || mutant.On(mutant.PlainJoin) }
	e, _, err := c.flights.Do(ctx, key, valid, func(ctx context.Context) (*l1.Entry[T], error) {
		f := filling[T]{c: c, key: key, hash: h, given: given, fill: fill, r: r}
		return f.run(ctx)
	})
	if errors.Is(err, flight.ErrClosed) {
		return zero, ErrClosed
	}
	if err != nil {
		return zero, err
	}
	return c.answer(e)
}

func (c *Cache[T]) firstLook(ctx context.Context, key string, h uint64, old *l1.Entry[T]) (reading[T], error) {
	if err := c.node.enter(); err != nil {
		return reading[T]{}, err
	}
	defer c.node.leave()
	return c.look(ctx, key, h, c.budget(), old), nil
}

// filling is one load of one key: it asks for the lease, runs the loader, and
// stores the result where that is allowed.
type filling[T any] struct {
	c     *Cache[T]
	key   string
	hash  uint64
	given Fill[T] // as fill will find it
	fill  func(context.Context, *Fill[T]) (T, error)
	r     reading[T] // the latest look
}

// run returns the entry with the value for the callers of the flight.
func (f *filling[T]) run(ctx context.Context) (*l1.Entry[T], error) {
	c := f.c
	// A flight that has just ended may have filled L1 after this caller looked.
	if e, state := c.local.Get(f.hash, f.key, c.node.member.heardUntil.Load()); state.Fresh() {
		return e, nil
	}
	b := c.budget()
	pause := pollFirst
	for changed := 0; f.r.outcome == missed && changed < changedLimit && ctx.Err() == nil; {
		token := l2.NewToken()
		grant, err := f.lease(ctx, b, token)
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
			// Waiting is not Redis' time. Each answer proves that it is there.
			b = c.budget()
			if !sleep(ctx, min(jitter(pause), max(grant.Wait, pollFirst))) {
				return nil, context.Cause(ctx)
			}
			pause = min(pause*3/2, pollMost)
		default: // a writer's bracket, a hold, or a newer format
			e, err := f.unstored(ctx)
			if mutant.On(mutant.FillUnderWriter) && err == nil {
				e.FreshUntil = c.node.clock.Now() + int64(c.opts.TTL)
				c.keep(f.hash, e, 0, f.r.stamp)
			}
			return e, err
		}
		f.r = c.look(ctx, f.key, f.hash, b, nil)
		if f.r.outcome == hit {
			return f.r.entry, nil
		}
	}
	return f.unstored(ctx)
}

func (f *filling[T]) lease(ctx context.Context, b *budget, token l2.Token) (l2.Grant, error) {
	ctx, cancel, ok := b.begin(ctx)
	if !ok {
		return l2.Grant{}, context.DeadlineExceeded
	}
	defer b.end(time.Now(), cancel)
	return f.c.node.store.Lease(ctx, f.c.redisKey(f.key), f.r.seen, token, leaseTime)
}

// unstored runs the loader without the permission to store.
func (f *filling[T]) unstored(ctx context.Context) (*l1.Entry[T], error) {
	res, err := f.call(ctx)
	if err != nil {
		return nil, err
	}
	return res.entry, nil
}

// result is what the loader came to.
type result[T any] struct {
	entry  *l1.Entry[T] // key and value, or the fact that there is none
	ttl    time.Duration
	keep   bool
	source uint64
	took   time.Duration
}

// call runs the loader, counts it, and resolves what it decided.
func (f *filling[T]) call(ctx context.Context) (result[T], error) {
	c := f.c
	c.counts.loads.Add(1)
	begun := time.Now()
	said := f.given
	v, err := f.fill(ctx, &said)
	res := result[T]{
		entry: &l1.Entry[T]{Key: f.key, Value: v, Negative: errors.Is(err, ErrNotFound)},
		took:  time.Since(begun), source: said.Version,
	}
	if err != nil && !res.entry.Negative {
		c.counts.loadErrors.Add(1)
		return res, err
	}
	ttl, err := c.ttlOf(said.TTL)
	switch {
	case err != nil:
		return res, fmt.Errorf("%w: Fill.TTL of %.80q", err, f.key)
	case said.NotModified:
		return res, fmt.Errorf("tier: cache %q: Fill.NotModified of %.80q: there is no previous value", c.name, f.key)
	}
	res.keep = !said.NoStore && (ttl > 0 || ttl == NoExpiry)
	if res.entry.Negative {
		var zero T
		res.entry.Value = zero
		ttl = c.opts.NegativeTTL
		res.keep = res.keep && ttl > 0
	}
	res.ttl = ttl
	return res, nil
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
			f.release(ctx, token)
		}
	}()

	res, err := f.call(ctx)
	if err != nil {
		return nil, err
	}
	if !res.keep {
		return res.entry, nil
	}
	w, err := c.encode(making[T]{
		key: f.key, value: res.entry.Value, negative: res.entry.Negative, ttl: c.jittered(res.ttl),
		version: f.r.version, source: res.source, took: res.took,
	})
	if err != nil {
		c.counts.fillsRefused.Add(1)
		c.node.log.Warn("tier: loaded value not stored", "cache", c.name, "key", f.key, "error", err)
		return res.entry, nil
	}
	stop() // a renewal must not cross the fill
	filled = f.store(ctx, token, w)
	if filled {
		c.keep(f.hash, w.entry, w.bytes, f.r.stamp)
		return w.entry, nil
	}
	c.counts.fillsRefused.Add(1)
	return res.entry, nil
}

// store fills the key with what was encoded. A caller that leaves at this point does not
// keep the others, and the next, from the value: the context is detached.
func (f *filling[T]) store(ctx context.Context, token l2.Token, w *encoded[T]) bool {
	if err := f.c.node.enter(); err != nil {
		return false
	}
	defer f.c.node.leave()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.c.node.cfg.Timeout)
	defer cancel()
	ok, err := f.c.node.store.Fill(ctx, w.redisKey, token, w.record, w.redisTTL, nil)
	return ok && err == nil
}

func (f *filling[T]) release(ctx context.Context, token l2.Token) {
	if f.c.node.enter() != nil {
		return
	}
	defer f.c.node.leave()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.c.node.cfg.Timeout)
	defer cancel()
	// One that fails ends with its time.
	_ = f.c.node.store.Release(ctx, f.c.redisKey(f.key), token)
}

// renew keeps the lease alive until the returned function is called, which
// waits for the renewal under way. A renewal that fails changes nothing: the
// fill finds out by the token.
//
// A Clear leaves leases alone, but what they would store is void. The lease is
// given back then, so that the next load need not wait for this one.
func (f *filling[T]) renew(ctx context.Context, token l2.Token) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	voided := f.c.voided.wait()
	go func() {
		defer close(done)
		ticker := time.NewTicker(leaseTime / 3)
		defer ticker.Stop()
		for f.c.fence.State(f.hash, f.key, f.r.stamp) != fence.Void {
			select {
			case <-ctx.Done():
				return
			case <-voided:
			case <-ticker.C:
				if mutant.On(mutant.NoRenewal) {
					continue
				}
				held, err := f.c.node.store.Renew(ctx, f.c.redisKey(f.key), token, leaseTime, false)
				if err == nil && !held {
					return
				}
			}
		}
		f.release(ctx, token)
	}()
	return func() {
		cancel()
		<-done
	}
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
