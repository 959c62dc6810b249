package tier

import (
	"context"
	"fmt"
	"time"
)

// Fill is what the function given to [Cache.Fetch] is told, and what it decides
// beside the value. It belongs to one run of the function, which must not keep
// it.
type Fill[T any] struct {
	// Stale is the previous value, if HasStale: one that is past its TTL, that
	// was expired, or that is about to be refreshed. A value that was deleted or
	// invalidated in any other way is never offered. It is shared as values from
	// Get are.
	Stale    T
	HasStale bool

	// TTL is how long the result is fresh. 0, as the function finds it, is the
	// cache's default, NoExpiry never ends, and any other ttl below zero keeps
	// nothing; below 1 ms is an error. An ErrNotFound has Options.NegativeTTL
	// instead, unless TTL says to keep nothing.
	TTL time.Duration

	// Tags are what the result can be invalidated by, beside its key.
	Tags []string

	// NoStore returns the result and keeps it in no tier. What was kept before
	// stays, as old as it is.
	NoStore bool

	// NotModified says that Stale is still true: it is kept for another TTL and
	// returned in place of the function's result. Without HasStale it is an error.
	NotModified bool

	// Version is the result's version in its source (a row version, a commit
	// time), 0 if there is none. A result of a lower version than one that was
	// stored or deleted by version before is returned and not kept.
	Version uint64
}

// Fetch is [Cache.GetOrSet] for a function that sees more and decides more: it
// is given the previous value, for conditional loads (If-None-Match and its
// like), and says how long and under which tags its result is kept, if at all.
// Promises, errors and round trips are those of GetOrSet; mistakes in what the
// function put into its Fill are errors too, and keep nothing.
func (c *Cache[T]) Fetch(ctx context.Context, key string, fill func(context.Context, *Fill[T]) (T, error)) (T, error) {
	h := c.hash(key)
	e, state := c.local.Get(h, key, c.node.member.heardUntil.Load())
	if state.Fresh() {
		return c.answer(e)
	}
	if fill == nil {
		var zero T
		return zero, fmt.Errorf("tier: cache %q: Fetch %.80q: fill is nil", c.name, key)
	}
	return c.getOrLoad(ctx, key, h, e, Fill[T]{}, fill)
}
