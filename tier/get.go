package tier

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/internal/l1"
)

// Tier tells where a value came from.
type Tier uint8

// The tiers.
const (
	TierL1   Tier = iota + 1 // this process' memory
	TierL2                   // Redis, or the in-process records of a node without it
	TierLoad                 // the loader
)

// String returns "L1", "L2" or "load".
func (t Tier) String() string {
	switch t {
	case TierL1:
		return "L1"
	case TierL2:
		return "L2"
	case TierLoad:
		return "load"
	}
	return fmt.Sprintf("Tier(%d)", uint8(t))
}

// Item is a value with what is known about it.
type Item[T any] struct {
	Value T
	Tier  Tier
	Age   time.Duration // since it was stored
	TTL   time.Duration // how long it stays fresh; NoExpiry: for ever
	Stale bool          // past its TTL, or served from memory unverified because Redis does not answer
	Tags  []string      // what it can be invalidated by, beside its key
}

// Get returns the value of key and true, or the zero value and false if no
// tier holds a fresh one: absent, remembered as not existing, expired, owed an
// invalidation, or an invalid key.
//
// An L1 hit takes no round trip and allocates nothing, but for what Options.Clone
// does. Otherwise Get asks L2, one round trip, and keeps what it finds in L1. It
// never returns a value that is past its TTL, or that was invalidated on this node
// before the call (ReadYourWrites) or on another longer than Δ ago
// (BoundedStaleness). While Redis does not answer it serves what L1 holds, for at
// most Local.TTL (FailOpen).
//
// The value is shared with other callers and must not be changed, unless
// Options.Clone is set.
func (c *Cache[T]) Get(ctx context.Context, key string) (T, bool) {
	h := c.hash(key)
	e, state := c.local.Get(h, key, c.node.member.heardUntil.Load())
	if state.Fresh() && c.shares(e) {
		return e.Value, true
	}
	if !state.Fresh() {
		var err error
		if e, _, _, err = c.find(ctx, key, h, e, false); err != nil {
			var zero T
			return zero, false
		}
	}
	return c.give(e)
}

// shares reports whether give would hand out the value of e itself. A hit asks, and then
// returns that: by way of give the value would be copied once more, a sixth of a hit's time.
func (c *Cache[T]) shares(e *l1.Entry[T]) bool { return c.opts.Clone == nil && !e.Negative() }

// give hands an entry's value out.
func (c *Cache[T]) give(e *l1.Entry[T]) (T, bool) {
	if e.Negative() || c.opts.Clone == nil {
		return e.Value, !e.Negative()
	}
	return c.opts.Clone(e.Value), true
}

// find looks in L2, and falls back to what L1 held while Redis does not answer:
// fresh is false then. With past it also returns what L2 holds past its time.
// The error is ErrNotFound, ErrUnavailable, ErrKey or ErrClosed.
func (c *Cache[T]) find(ctx context.Context, key string, h uint64, old *l1.Entry[T], past bool) (e *l1.Entry[T], tier Tier, fresh bool, err error) {
	if err := checkKey(c.name, key); err != nil {
		return nil, 0, false, err
	}
	if err := c.node.enter(); err != nil {
		return nil, 0, false, err
	}
	defer c.node.leave()
	r := c.look(ctx, key, h, c.budget(), old)
	switch {
	case r.outcome == hit:
		c.counts.hitsL2.Add(1)
		return r.entry, TierL2, true, nil
	case r.outcome == down:
		if e := c.usable(ctx, h, old); e != nil {
			return e, TierL1, false, nil
		}
		err = fmt.Errorf("%w: cache %q: %w", ErrUnavailable, c.name, r.err)
	case r.outcome == owed && !c.node.store.Available(c.redisKey(key)):
		err = fmt.Errorf("%w: cache %q: what is owed to %.80q cannot be paid", ErrUnavailable, c.name, key)
	case r.outcome == blind:
		err = fmt.Errorf("%w: cache %q: what it holds of %.80q cannot be trusted now", ErrUnavailable, c.name, key)
	case past && r.stale != nil:
		c.counts.staleServed.Add(1)
		return r.stale, TierL2, false, nil
	default:
		err = ErrNotFound
	}
	c.counts.misses.Add(1)
	return nil, 0, false, err
}

func (c *Cache[T]) budget() *budget { return &budget{left: c.node.cfg.Timeout} }

// Lookup is Get for whom a miss and an outage differ, with what is known about
// the value. Item.Stale marks what Get does not return: a value past its TTL that
// L2 still holds (see Options.StaleFor, [Cache.Expire]); and what it does, a value
// from L1 that could not be verified because Redis does not answer.
//
// The error is ErrNotFound if no tier holds a value, or one that this node owes
// a deletion of; ErrUnavailable if Redis could not be asked, or gave no answer that
// could be trusted, and L1 has nothing to serve; ErrKey or ErrClosed. Round trips
// as for Get.
func (c *Cache[T]) Lookup(ctx context.Context, key string) (Item[T], error) {
	return c.lookup(ctx, key, true)
}

// lookup is Lookup, and without past only of what Get returns too.
func (c *Cache[T]) lookup(ctx context.Context, key string, past bool) (Item[T], error) {
	h := c.hash(key)
	item := Item[T]{Tier: TierL1}
	e, state := c.local.Get(h, key, c.node.member.heardUntil.Load())
	if !state.Fresh() {
		var fresh bool
		var err error
		if e, item.Tier, fresh, err = c.find(ctx, key, h, e, past); err != nil {
			return Item[T]{}, err
		}
		item.Stale = !fresh
	}
	value, ok := c.give(e)
	if !ok {
		return Item[T]{}, ErrNotFound
	}
	item.Value = value
	now := c.node.clock.Now()
	item.Age = time.Duration(max(now-e.StoredAt, 0))
	if !item.Stale || item.Tier == TierL1 {
		item.TTL = left(e, now) // else its time is over, be it by Expire
	}
	item.Tags = tagNames(e.Tags())
	return item, nil
}

// left is how long an entry's record stays fresh.
func left[T any](e *l1.Entry[T], now int64) time.Duration {
	if e.TTL < 0 {
		return NoExpiry
	}
	// The time of storing is an estimate of Redis' clock and may lie ahead.
	return min(max(time.Duration(e.StoredAt-now)+e.TTL, 0), e.TTL)
}

// Exists reports whether Get would return a value. Effects and round trips are
// those of Get.
func (c *Cache[T]) Exists(ctx context.Context, key string) bool {
	_, err := c.lookup(ctx, key, false)
	return err == nil
}

// TTL returns how long the value of key stays fresh, NoExpiry if for ever, and
// true; or false if there is none. Effects and round trips are those of Get.
func (c *Cache[T]) TTL(ctx context.Context, key string) (time.Duration, bool) {
	item, err := c.lookup(ctx, key, false)
	return item.TTL, err == nil
}
