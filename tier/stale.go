package tier

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/flight"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/mutant"
)

// lasting reports whether e may stand in for a value that cannot be had: that
// it is past its time, at most, is all that may be wrong with it.
func (c *Cache[T]) lasting(h uint64, e *l1.Entry[T]) bool {
	return c.lastingLoad(h, e) && (c.fence.State(h, e.Key(), e.Stamp()) != fence.Void || mutant.On(mutant.VoidFallback))
}

// lastingLoad is lasting for a load under a lease on e's record, or of one about
// which no more is known than that: its own lease may have been announced.
func (c *Cache[T]) lastingLoad(h uint64, e *l1.Entry[T]) bool {
	return e != nil && c.node.clock.Now() < e.Times().UsableUntil &&
		(c.fence.Load(h, e.Key(), e.Stamp()) != fence.Void || mutant.On(mutant.VoidFallback)) && !c.node.owes(c.name, e.Key()) &&
		tied(e.Tags()) && !slices.ContainsFunc(e.Tags(), func(t l1.Tag) bool { return c.node.owesTag(t.Name) })
}

// serve answers with a value that is past its time.
func (c *Cache[T]) serve(e *l1.Entry[T]) (T, error) {
	c.counts.staleServed.Add(1)
	return c.answer(e)
}

// vouches reports whether e, which is past its time, is as coherent as a hit in L1:
// nothing was heard of it, and this node hears.
func (c *Cache[T]) vouches(h uint64, e *l1.Entry[T]) bool {
	return c.lasting(h, e) && c.fence.State(h, e.Key(), e.Stamp()) == fence.Current && c.node.member.hears()
}

// secondBudget is what the look before e stands in for a value may take: what is
// left of the caller's, but all of it anew where only an answer can tell that e was
// not deleted. Else a Redis that is merely slow would pass for one that is away.
func (c *Cache[T]) secondBudget(h uint64, e *l1.Entry[T], b *budget) *budget {
	if c.vouches(h, e) {
		return b
	}
	return c.budget()
}

// standIn returns what may stand in for the result of a load, nil if nothing may,
// once L2 was looked at again: what it holds, fresh or not. Only while Redis does
// not answer it is e, which this node may not have been told to drop; and that
// a look ended with its caller's ctx says nothing of Redis.
func (c *Cache[T]) standIn(ctx context.Context, h uint64, e *l1.Entry[T], again *reading[T]) *l1.Entry[T] {
	switch {
	case again.outcome == hit:
		return again.entry
	case again.outcome == down && ctx.Err() == nil && c.lasting(h, e):
		return e
	case again.outcome != down && c.lastingLoad(h, again.stale): // the end of the lease may just be announced
		return again.stale
	}
	return nil
}

// meanwhile answers a caller who does not wait for a load any longer with the
// value that is past its time, ok if that still stands. Where this node cannot
// vouch for it, L2 is asked: it may not hear, or a server has announced a change,
// which may have been the lease of the load.
func (c *Cache[T]) meanwhile(ctx context.Context, req request[T], r *reading[T]) (v T, ok bool, err error) {
	if c.vouches(req.hash, r.stale) {
		v, err = c.serve(r.stale)
		return v, true, err
	}
	if !c.lastingLoad(req.hash, r.stale) {
		return v, false, nil
	}
	again, err := c.lookFor(ctx, req, c.budget(), r.stale)
	if err != nil {
		return v, true, err
	}
	e := c.standIn(ctx, req.hash, r.stale, &again)
	switch {
	case e == nil:
		return v, false, nil
	case again.outcome == hit:
		v, err = c.answer(e)
	default:
		v, err = c.serve(e)
	}
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

// hides reports whether a value may stand in for err: not for a mistake of the
// loader, nor for the end of the caller's ctx.
func hides(ctx context.Context, err error) bool {
	var mistake *mistakeError
	return ctx.Err() == nil && !errors.As(err, &mistake)
}

// fallback is the end of a load that failed with err: the value that stands in
// for its result, or the error.
//
// L2 is looked at once more. The value may have been deleted while the load ran,
// or another node's load may have succeeded.
func (c *Cache[T]) fallback(ctx context.Context, req request[T], r reading[T], b *budget, err error) (T, error) {
	var zero T
	if r.stale == nil || !hides(ctx, err) {
		return zero, err
	}
	again, closed := c.lookFor(ctx, req, c.secondBudget(req.hash, r.stale, b), r.stale)
	if closed != nil {
		return zero, closed
	}
	e := c.standIn(ctx, req.hash, r.stale, &again)
	switch {
	case e == nil:
		return zero, err
	case again.outcome == hit:
		return c.answer(e)
	}
	c.failed(e)
	c.complain(req.key, err)
	return c.serve(e)
}

// standIn is fallback, or meanwhile, for items whose loads have ended with errs, with
// one look for all of them. It returns those that have changed during a load that
// takes too long, and the first error that nothing stands in for.
//
// Where Redis did not answer before, it is asked again only for what this node
// cannot vouch for.
func (b *batchCall[T]) standIn(ctx context.Context, items []*item[T], errs []error) (changed []*item[T], failed error) {
	if len(items) == 0 {
		return nil, nil
	}
	c := b.c
	if c.node.enter() != nil {
		return nil, ErrClosed
	}
	defer c.node.leave()
	ask := !b.away
	var rest []*item[T]
	var causes []error
	for i, it := range items {
		if errors.Is(errs[i], flight.ErrSlow) && c.vouches(it.hash, it.r.stale) {
			b.serve(it.key, it.r.stale)
			continue
		}
		rest, causes = append(rest, it), append(causes, errs[i])
	}
	if len(rest) == 0 {
		return nil, nil
	}
	for _, it := range rest {
		it.old = it.r.stale
		ask = ask || !c.vouches(it.hash, it.old)
	}
	if ask {
		c.lookMany(ctx, rest, c.budget())
	}
	for i, it := range rest {
		slow := errors.Is(causes[i], flight.ErrSlow)
		switch e := c.standIn(ctx, it.hash, it.old, &it.r); {
		case e == nil && slow:
			changed = append(changed, it)
		case e == nil:
			failed = cmp.Or(failed, causes[i])
		case it.r.outcome == hit:
			c.take(it.key, e, b.out)
		case slow:
			b.serve(it.key, e)
		default:
			c.failed(e)
			c.complain(it.key, causes[i])
			b.serve(it.key, e)
		}
	}
	return changed, failed
}

// complain logs the error of a load that no caller sees, at most one a second.
func (c *Cache[T]) complain(key string, err error) {
	now := c.node.clock.Now()
	last := c.complained.Load()
	if last != 0 && now-last < int64(time.Second) || !c.complained.CompareAndSwap(last, now) {
		return
	}
	c.node.log.Warn("tier: load or read failed, and no caller was told", "cache", c.name, "key", key, "error", err)
}
