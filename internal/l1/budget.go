package l1

import (
	"math"
	"sync"
	"sync/atomic"
)

// budget counts the entries that were handed to ristretto and have not left it,
// queued ones included. It is exact, because each entry that goes in comes out
// once: refused by Set, or through OnExit (rejected, replaced, evicted, cleared).
//
// It bounds what ristretto's own count does not: the queue, whose 32,768 places
// may hold values of any size; values that grew in place, which evict nothing;
// and costs that ristretto was not told because its queue was full.
type budget struct {
	bytes, entries atomic.Int64
	limit          int64 // what the policy should hold
	slack          int64 // how much more may be there while it catches up

	mu      sync.Mutex // guards changes of the policy's limit
	lowered atomic.Bool
}

func newBudget(maxBytes int64) budget {
	const minSlack = 256 << 10
	slack := max(maxBytes/8, minSlack)
	return budget{limit: maxBytes, slack: min(slack, math.MaxInt64-maxBytes)}
}

// take counts an entry in, unless it has no room.
func (b *budget) take(cost int64) bool {
	// An entry larger than the whole budget would be accepted in place.
	if cost > b.limit {
		return false
	}
	if b.bytes.Add(cost) > b.limit+b.slack {
		b.bytes.Add(-cost)
		return false
	}
	b.entries.Add(1)
	return true
}

func (b *budget) give(cost int64) {
	b.bytes.Add(-cost)
	b.entries.Add(-1)
}

// policyLimit returns the limit that the policy needs, given the bytes that it
// knows of, for the store to stay within its own. What it does not know of is
// queued, which heals by itself and is what half of the slack is for, or lost,
// which heals only when its limit is lowered by as much.
func (b *budget) policyLimit(known int64) int64 {
	unknown := b.bytes.Load() - known
	return max(b.limit-max(unknown-b.slack/2, 0), b.limit/16, 1)
}

// prepare fills in what Get and the budget need. bytes is the caller's estimate
// of the value.
func (s *Store[T]) prepare(h uint64, e *Entry[T], bytes int64) {
	e.hash = h
	// Get compares RefreshAt alone: before it, nothing depends on the age.
	if e.RefreshAt == 0 || e.RefreshAt > e.FreshUntil {
		e.RefreshAt = e.FreshUntil
	}
	e.UsableUntil = max(e.UsableUntil, e.FreshUntil)
	// What is more than the units can count, which a quarter of the range is and
	// to which nothing overflows, exceeds every budget in use.
	bytes = min(max(bytes, 0), math.MaxInt64/4)
	bytes += s.overhead + int64(len(e.Key)) + int64(len(e.Tags))*tagBytes
	e.cost = uint32(min((bytes+costUnit-1)/costUnit, math.MaxUint32))
}

// put hands a prepared entry to ristretto and reports whether it was taken,
// which does not yet mean that it is admitted.
//
// The entry is placed in the front table before it is handed over. Afterwards,
// ristretto might have let go of it already, and nothing would remove it again.
func (s *Store[T]) put(e *Entry[T]) bool {
	if !s.budget.take(e.bytes()) {
		s.refused.Add(1)
		s.correct()
		// The nil replaces an older value in place. For a key that is not there
		// it passes the policy in the entry's name, which evicts what is too
		// much; and the next put finds a place that it can replace.
		s.cache.Set(e.hash, nil, min(e.bytes(), s.budget.limit))
		return false
	}
	s.front.put(e)
	if !s.cache.Set(e.hash, e, e.bytes()) {
		s.front.remove(e)
		s.budget.give(e.bytes())
		s.refused.Add(1)
		return false
	}
	if s.budget.lowered.Load() {
		s.correct()
	}
	return true
}

// correct adjusts the policy's limit to what the policy knows.
func (s *Store[T]) correct() {
	if !s.budget.mu.TryLock() {
		return // another put is at it
	}
	defer s.budget.mu.Unlock()
	current := s.cache.MaxCost()
	want := s.budget.policyLimit(current - s.cache.RemainingCost())
	if want != current {
		s.cache.UpdateMaxCost(want)
	}
	s.budget.lowered.Store(want != s.budget.limit)
}

// onExit runs for each entry that leaves, on whatever goroutine made it leave.
func (s *Store[T]) onExit(e *Entry[T]) {
	if e != nil {
		s.front.remove(e)
		s.budget.give(e.bytes())
	}
}
