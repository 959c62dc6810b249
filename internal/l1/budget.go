package l1

import (
	"math"
	"sync"
	"sync/atomic"
)

// budget counts the entries that the window or ristretto holds, queued ones
// included. It is exact, because each entry that goes in comes out once: at the
// end of the window, refused by Set, or through OnExit (rejected, replaced,
// evicted, cleared).
//
// It bounds what ristretto's own count does not: the queue, whose 32,768 places
// may hold values of any size; values that grew in place, which evict nothing;
// and costs that ristretto was not told because its queue was full.
type budget struct {
	bytes, entries atomic.Int64
	limit          int64 // what there should be
	policy         int64 // what ristretto's policy should hold of it, the rest being the window's
	slack          int64 // how much more may be there while it catches up

	mu      sync.Mutex // guards changes of the policy's limit
	lowered atomic.Bool
}

func newBudget(maxBytes int64) budget {
	const minSlack = 256 << 10
	slack := max(maxBytes/8, minSlack)
	return budget{
		limit: maxBytes, policy: maxBytes - maxBytes/windowPart,
		slack: min(slack, math.MaxInt64-maxBytes),
	}
}

// take counts an entry in, unless it has no room.
func (b *budget) take(cost int64) bool {
	// An entry larger than the whole budget would be accepted in place.
	if cost > b.policy {
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
// knows of or that are in the window, for the store to stay within its own. What
// it does not know of is queued, which heals by itself and is what half of the
// slack is for, or lost, which heals only when its limit is lowered by as much.
func (b *budget) policyLimit(known int64) int64 {
	unknown := b.bytes.Load() - known
	return max(b.policy-max(unknown-b.slack/2, 0), b.policy/16, 1)
}

// prepare fills in what the budget needs. bytes is the caller's estimate of the
// value.
func (s *Store[T]) prepare(e *Entry[T], bytes int64) {
	// What is more than the units can count, which a quarter of the range is and
	// to which nothing overflows, exceeds every budget in use.
	bytes = min(max(bytes, 0), math.MaxInt64/4)
	bytes += s.overhead + keyBytes(e.Key())
	if n := int64(len(e.Tags())); n > 0 {
		bytes += tagsBytes + n*tagBytes
	}
	e.weigh(bytes)
}

// put takes a prepared entry in: into the window, whose entries then move on.
//
// The entry is placed in the front table before anybody else can let go of it.
// Afterwards it might have left already, and nothing would remove it again.
func (s *Store[T]) put(h uint64, e *Entry[T]) {
	if !s.budget.take(e.bytes()) {
		s.refused.Add(1)
		s.correct()
		// The nil replaces an older value in place. For a key that is not there
		// it passes the policy in the entry's name, which evicts what is too
		// much; and the next put finds a place that it can replace.
		s.cache.Set(h, nil, min(e.bytes(), s.budget.policy))
		s.front.forget(h)
		return
	}
	// GetTTL is the one lookup that does not count as an access.
	_, known := s.cache.GetTTL(h)
	windowed := e.bytes() <= s.window.limit
	if windowed {
		e.weight.Or(inWindow)
	}
	s.displaced(s.front.put(h, e))
	if !windowed {
		s.hand(h, e)
	} else if s.window.push(e, known) {
		s.relieve()
	}
	if s.budget.lowered.Load() {
		s.correct()
	}
}

// correct adjusts the policy's limit to what the policy knows.
func (s *Store[T]) correct() {
	if !s.budget.mu.TryLock() {
		return // another put is at it
	}
	defer s.budget.mu.Unlock()
	current := s.cache.MaxCost()
	want := s.budget.policyLimit(current - s.cache.RemainingCost() + s.window.size())
	if want != current {
		s.cache.UpdateMaxCost(want)
	}
	s.budget.lowered.Store(want != s.budget.policy)
}

// onExit runs for each entry that leaves, on whatever goroutine made it leave.
func (s *Store[T]) onExit(e *Entry[T]) {
	if e != nil {
		s.front.remove(e)
		s.budget.give(e.bytes())
	}
}
