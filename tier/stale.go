package tier

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/mutant"
)

// lasting reports whether e may stand in for a value that cannot be had: that
// it is past its time, at most, is all that may be wrong with it.
func (c *Cache[T]) lasting(h uint64, e *l1.Entry[T]) bool {
	return c.lastingLoad(h, e) && (c.fence.State(h, e.Key, e.Stamp) != fence.Void || mutant.On(mutant.VoidFallback))
}

// lastingLoad is lasting for a load under a lease on e's record, or of one about
// which no more is known than that: its own lease may have been announced.
func (c *Cache[T]) lastingLoad(h uint64, e *l1.Entry[T]) bool {
	return e != nil && c.node.clock.Now() < e.UsableUntil &&
		(c.fence.Load(h, e.Key, e.Stamp) != fence.Void || mutant.On(mutant.VoidFallback)) && !c.node.owes(c.name, e.Key) &&
		tied(e.Tags) && !slices.ContainsFunc(e.Tags, func(t l1.Tag) bool { return c.node.owesTag(t.Name) })
}

// serve answers with a value that is past its time.
func (c *Cache[T]) serve(e *l1.Entry[T]) (T, error) {
	c.counts.staleServed.Add(1)
	return c.answer(e)
}

// meanwhile answers a caller who does not wait for a load any longer with the
// value that is past its time, ok if that still stands. Where a server has
// announced a change, it may have been the lease of the load: L2 is asked.
func (c *Cache[T]) meanwhile(ctx context.Context, req request[T], r *reading[T], b *budget) (v T, ok bool, err error) {
	lasts := c.lasting
	if !lasts(req.hash, r.stale) && c.lastingLoad(req.hash, r.stale) {
		again, err := c.lookFor(ctx, req, b, r.stale)
		if err != nil {
			return v, true, err
		}
		if again.outcome == hit {
			c.counts.hitsL2.Add(1)
			v, err = c.answer(again.entry)
			return v, true, err
		}
		r.stale, lasts = again.stale, c.lastingLoad
	}
	if !lasts(req.hash, r.stale) {
		return v, false, nil
	}
	v, err = c.serve(r.stale)
	return v, true, err
}

// resting reports whether L1 alone may answer with e, which is past its time:
// the loader has just failed with it, or is at it in the background and nobody
// waits for that. It is as coherent as a hit, since L1 is trusted all the same,
// and lasts for pauseTime at most: another node may have a newer value.
func (c *Cache[T]) resting(e *l1.Entry[T]) bool {
	now := c.node.clock.Now()
	return c.failures.on(e.Record, now) || c.opts.SoftTimeout < 0 && c.refreshes.on(e.Record, now)
}

// failed notes that the loader failed where e could stand in for its value.
//
// That is known to this process alone: its loader may fail where another's does
// not, and the value in Redis should not depend on it.
func (c *Cache[T]) failed(e *l1.Entry[T]) {
	c.failures.begin(e.Record, c.node.clock.Now(), pauseOf(e.TTL))
}

// fallback is the end of a load that failed with err: the value that stands in
// for its result, or the error.
//
// L2 is looked at once more, with what is left of the caller's budget. The
// value may have been deleted while the load ran, or another node's load may
// have succeeded.
func (c *Cache[T]) fallback(ctx context.Context, req request[T], r reading[T], b *budget, err error) (T, error) {
	var zero T
	var mistake *mistakeError // must not hide behind a value
	if r.stale == nil || ctx.Err() != nil || errors.As(err, &mistake) {
		return zero, err
	}
	again, closed := c.lookFor(ctx, req, b, r.stale)
	if closed != nil {
		return zero, closed
	}
	e, lasts := again.stale, c.lastingLoad // the end of the lease may just be announced
	switch again.outcome {
	case hit:
		c.counts.hitsL2.Add(1)
		return c.answer(again.entry)
	case down:
		e, lasts = r.stale, c.lasting
	}
	if !lasts(req.hash, e) {
		return zero, err
	}
	c.failed(e)
	c.complain(req.key, err)
	return c.serve(e)
}

// complain logs the error of a load that no caller sees, at most one a second.
func (c *Cache[T]) complain(key string, err error) {
	now := c.node.clock.Now()
	last := c.complained.Load()
	if last != 0 && now-last < int64(time.Second) || !c.complained.CompareAndSwap(last, now) {
		return
	}
	c.node.log.Warn("tier: load failed, and no caller was told", "cache", c.name, "key", key, "error", err)
}
