package tier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tandemcache/tandem/internal/flight"
	"github.com/tandemcache/tandem/internal/l1"
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

	// Tags are what the result can be invalidated by, beside its key and the tags
	// of Options.Tags: at most 64 in all, each a valid key. With NotModified none
	// means those of before.
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
	if state == l1.Hit && fill != nil {
		if c.shares(e) {
			return e.Value, nil
		}
		return c.answer(e)
	}
	if !c.tagged.Load() {
		c.tagged.Store(true)
	}
	return c.getOrLoad(ctx, request[T]{key, h, Fill[T]{}, fill}, e, state)
}

// mistakeError says that a loader decided what it cannot mean.
type mistakeError struct{ err error }

func (e *mistakeError) Error() string { return e.err.Error() }

func (e *mistakeError) Unwrap() error { return e.err }

// result is what a loader came to.
type result[T any] struct {
	entry   *l1.Entry[T] // key and value, or the fact that there is none
	payload []byte       // the value encoded, if it is the previous one
	ttl     time.Duration
	keep    bool
	source  uint64
	took    time.Duration
	tags    []string // that the loader gave
}

// call runs the loader, counts it, and resolves what it decided.
func (f *filling[T]) call(ctx context.Context) (result[T], error) {
	c := f.c
	said := f.given
	old := f.previous()
	if old != nil {
		said.Stale, said.HasStale = c.give(old)
	}
	c.counts.loads.Add(1)
	begun := time.Now()
	limited, done := c.flights.Limit(ctx)
	defer done()
	v, err := f.load(limited, &said)
	err = c.inTime(limited, err)
	took := time.Since(begun)
	negative := errors.Is(err, ErrNotFound)
	if err != nil && !negative {
		c.counts.loadErrors.Add(1)
		return result[T]{}, err
	}
	res, err := f.resolve(v, negative, old, &said)
	res.took = took
	if err != nil {
		return res, &mistakeError{fmt.Errorf("tier: cache %q: loader of %.80q: %w", c.name, f.key, err)}
	}
	return res, nil
}

// inTime tells what a loader returned because its time was over.
func (c *Cache[T]) inTime(limited context.Context, err error) error {
	late := context.Cause(limited)
	if err == nil || errors.Is(err, late) || !errors.As(late, new(*flight.TimeoutError)) {
		return err
	}
	return fmt.Errorf("%w: %w", late, err)
}

// resolve makes of what the loader said what is to be done.
func (f *filling[T]) resolve(v T, negative bool, old *l1.Entry[T], said *Fill[T]) (result[T], error) {
	c := f.c
	res := result[T]{
		entry: newEntry(f.key, v, negative),
		ttl:   said.TTL, source: said.Version,
	}
	if err := checkTTL(said.TTL); err != nil {
		return res, fmt.Errorf("Fill.TTL: %w", err)
	}
	if said.TTL == 0 {
		res.ttl = c.opts.TTL
	}
	var err error
	if res.tags, err = foldTags(c.name, f.key, slices.Clone(said.Tags)); err != nil {
		return res, fmt.Errorf("Fill.Tags: %w", err)
	}
	res.keep = !said.NoStore && (res.ttl > 0 || res.ttl == NoExpiry)
	switch {
	case negative:
		ttl, keep := c.negativeTTL(&f.r)
		res.ttl, res.keep = ttl, res.keep && keep
	case said.NotModified && old == nil:
		return res, errors.New("Fill.NotModified: there is no previous value")
	case said.NotModified:
		res.entry.Value = old.Value
		res.payload = f.r.payload
		if len(said.Tags) == 0 {
			res.tags = tagNames(old.Tags())
		}
	}
	return res, nil
}

// negativeTTL is how long it is remembered that there is nothing where r was
// found. With Options.NegativeTTL off it is not, unless something is there: that
// is known to be wrong, and replaced.
func (c *Cache[T]) negativeTTL(r *reading[T]) (ttl time.Duration, keep bool) {
	if c.opts.NegativeTTL >= 0 {
		return c.opts.NegativeTTL, true
	}
	return minTTL, r.entry != nil || r.stale != nil
}
