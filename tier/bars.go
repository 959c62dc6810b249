package tier

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/invalidation"
)

// barredFor is how long a node waits for the origin of an invalidation to issue
// it again, before it does so itself.
const barredFor = 10 * time.Second

// bars hold what other nodes had invalidated, as far as this node has heard of
// it, while it is not known whether Redis still knows: it is served from neither
// tier, and nothing of it is stored.
//
// A bar is a debt of another node. It ends when that node has noted on the
// server that all its invalidations are in effect there, when an invalidation
// of the same thing arrives that was made on that server, or when this node,
// which has waited for long enough, takes the debt over.
type bars struct {
	limit int // keys of one origin

	mu  sync.Mutex             // serializes changes of all
	all atomic.Pointer[[]*bar] // copied on change, so that reads without bars cost nothing
}

// bar is what one node has to issue again.
type bar struct {
	origin invalidation.NodeID
	keys   *journal.Journal

	// Guarded by bars.mu.
	restart l2.Restart // the last one because of which
	since   time.Time  // and when it was noticed
}

func newBars(limit int) *bars {
	b := &bars{limit: limit}
	b.all.Store(new([]*bar))
	return b
}

func (b *bars) list() []*bar { return *b.all.Load() }

// add bars what origin has invalidated and r may have undone.
func (b *bars) add(origin invalidation.NodeID, r l2.Restart, d journal.Debt, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var of *bar
	for _, other := range b.list() {
		if other.origin == origin {
			of = other
		}
	}
	if of == nil {
		of = &bar{origin: origin, keys: journal.New(b.limit)}
		defer func() {
			next := append(slices.Clone(b.list()), of)
			b.all.Store(&next)
		}()
	}
	of.restart, of.since = r, now
	of.keys.Owe(d, now)
}

// owes reports whether key of cache is barred.
func (b *bars) owes(cache, key string) bool {
	for _, of := range b.list() {
		if of.keys.Owes(cache, key) {
			return true
		}
	}
	return false
}

// owesTag reports whether a tag, or all tags of a book, are barred.
func (b *bars) owesTag(tag string) bool {
	for _, of := range b.list() {
		if of.keys.OwesTag(tag) {
			return true
		}
	}
	return false
}

// lift ends the bars of what was invalidated on the server of now. Their stamps
// have moved since.
func (b *bars) lift(item *ringItem) {
	for _, of := range b.list() {
		if item.kind == invalidation.KindClear {
			of.keys.ForgiveCache(item.cache)
			continue
		}
		for i := range item.names {
			of.keys.Forgive(item.debt(i))
		}
	}
}

// scopeOf returns the scope of a debt for what a message is about.
func scopeOf(kind invalidation.Kind) journal.Scope {
	switch kind {
	case invalidation.KindPrefix:
		return journal.Prefix
	case invalidation.KindTags:
		return journal.Tag
	case invalidation.KindClear:
		return journal.Clear
	}
	return journal.Key
}

// expire takes over what is barred for too long: take owes it.
func (b *bars) expire(now time.Time, take func(journal.Debt)) {
	b.end(func(of *bar) bool {
		if now.Sub(of.since) < barredFor {
			return false
		}
		for _, d := range of.keys.Batch(of.keys.Len()) {
			take(journal.Debt{Scope: d.Scope, Cache: d.Cache, Name: d.Name, Version: d.Version})
		}
		return true
	})
}

// settle ends the bars whose origins have noted that there is nothing left to
// be issued again.
func (b *bars) settle(ctx context.Context) {
	byRestart := make(map[l2.Restart][]*bar)
	b.mu.Lock()
	for _, of := range b.list() {
		byRestart[of.restart] = append(byRestart[of.restart], of)
	}
	b.mu.Unlock()
	for r, list := range byRestart {
		what := make([]string, len(list))
		for i, of := range list {
			what[i] = reissued(of.origin)
		}
		noted, err := r.Noted(ctx, what...)
		if err != nil {
			continue // later
		}
		b.end(func(of *bar) bool {
			i := slices.Index(list, of)
			return i >= 0 && noted[i] && of.restart == r // else another one has come since
		})
	}
}

// reissued is what a node notes when it has issued everything again.
func reissued(node invalidation.NodeID) string { return "reissued:" + node.String() }

// end removes the bars of which over is true, and empty ones.
func (b *bars) end(over func(*bar) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := make([]*bar, 0, len(b.list()))
	for _, of := range b.list() {
		if of.keys.Len() > 0 && !over(of) {
			next = append(next, of)
		}
	}
	b.all.Store(&next)
}
