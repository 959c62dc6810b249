package tier

import (
	"bytes"
	"context"
	"errors"
	"math"
	"reflect"
	"slices"

	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
)

// errDropped is the end of a background load that found nothing to do. Callers
// that joined it begin anew.
var errDropped = errors.New("tier: background load dropped")

// refreshAt is when e is to be loaded anew in the background.
func (c *Cache[T]) refreshAt(e *l1.Entry[T]) int64 {
	if c.opts.RefreshAt <= 0 || e.TTL <= 0 {
		return math.MaxInt64
	}
	return e.StoredAt + max(int64(c.opts.RefreshAt*float64(e.TTL)), 1)
}

// refresh begins to load e anew in the background, if nobody is at it. Many
// callers come here at once, for as long as it takes: one of them a pause goes
// on.
func (c *Cache[T]) refresh(ctx context.Context, req request[T], e *l1.Entry[T]) {
	now := c.node.clock.Now()
	if c.failures.on(e.Record, now) || !c.refreshes.claim(e.Record, now, pauseOf(e.TTL)) {
		return
	}
	valid := c.unmoved(req.hash, req.key, e.Stamp(), c.node.tags.seq.Load())
	c.flights.Background(ctx, req.key, valid, func(ctx context.Context) (*l1.Entry[T], error) {
		if c.failures.on(e.Record, c.node.clock.Now()) {
			return nil, errDropped // the flight before this one, which ended since we looked
		}
		f := filling[T]{c: c, request: req, b: c.budget(), failed: func() { c.failed(e) }}
		loaded, err := f.again(ctx, e)
		if err != nil && !errors.Is(err, errDropped) {
			c.complain(req.key, err)
		}
		return loaded, err
	})
}

// again loads a value anew that is in L1 or L2, fresh or not. It stores the
// result or does nothing: it neither waits for another's load nor loads without
// the permission to store. It looks at L2 first, because another node may have
// done it, or have deleted the value.
func (f *filling[T]) again(ctx context.Context, old *l1.Entry[T]) (*l1.Entry[T], error) {
	c := f.c
	var err error
	if f.r, err = c.lookFor(ctx, f.request, f.b, old); err != nil {
		return nil, errDropped
	}
	fresh := f.r.entry
	switch {
	case fresh != nil && c.node.clock.Now() < c.refreshAt(fresh):
		return fresh, nil
	case fresh == nil && f.r.stale == nil: // also when Redis does not answer
		return nil, errDropped
	}
	token := l2.NewToken()
	grant, err := f.lease(ctx, token)
	if err == nil && grant.Kind == l2.Granted {
		if c.failures.on(old.Record, c.node.clock.Now()) { // whoever had the lease before
			f.giveBack(ctx, token)
			return nil, errDropped
		}
		return f.underLease(ctx, token)
	}
	if fresh != nil {
		return fresh, nil
	}
	return nil, errDropped
}

// previous returns the value that the load is to replace, nil if there is none.
func (f *filling[T]) previous() *l1.Entry[T] {
	e := f.r.entry
	if e == nil {
		e = f.r.stale
	}
	if e == nil || e.Negative() || !f.c.lastingLoad(f.hash, e) {
		return nil
	}
	return e
}

// changes reports whether storing w changes what others hold as fresh, so that
// they must be told. When in doubt it does: codecs may write one value in two
// ways, and values that were decoded may differ from equal ones that were not.
func (f *filling[T]) changes(w *encoded[T]) bool {
	old := f.r.entry
	if old == nil {
		return false
	}
	if old.Negative() || w.entry.Negative() {
		return old.Negative() != w.entry.Negative()
	}
	if !slices.Equal(tagNames(old.Tags()), tagNames(w.entry.Tags())) {
		return true // others would not drop it with a tag that they do not know of
	}
	return !bytes.Equal(f.r.payload, w.payload) && !reflect.DeepEqual(old.Value, w.entry.Value)
}
