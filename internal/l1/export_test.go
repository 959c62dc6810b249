package l1

import (
	"slices"
	"sync"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/tandemcache/tandem/internal/fence"
)

// QueueLength is the number of places in ristretto's queue.
const QueueLength = 32 * 1024

// CostUnit is the precision of an entry's cost.
const CostUnit = costUnit

// Flush empties the window into ristretto.
func (s *Store[T]) Flush() { s.shrink(0) }

// Wait waits until ristretto has decided about all that was put.
func (s *Store[T]) Wait() {
	s.Flush()
	s.WaitQueue()
}

// WaitQueue waits until what is queued has been applied.
func (s *Store[T]) WaitQueue() { s.cache.Wait() }

// Windowed returns the entries in the window and their bytes.
func (s *Store[T]) Windowed() (entries int, bytes int64) {
	s.window.mu.Lock()
	defer s.window.mu.Unlock()
	for _, e := range append(slices.Clone(s.window.queue), s.window.known...) {
		if e.weight.Load()&inWindow != 0 {
			entries++
			bytes += e.bytes()
		}
	}
	return entries, bytes
}

// WindowLimit is how many bytes the window may hold.
func (s *Store[T]) WindowLimit() int64 { return s.window.limit }

// PolicyBytes is what the policy believes to be in the store.
func (s *Store[T]) PolicyBytes() int64 { return s.cache.MaxCost() - s.cache.RemainingCost() }

// Slack is how far a store may exceed its budget.
func (s *Store[T]) Slack() int64 { return s.budget.slack }

// Overhead is what an entry costs besides its value, key and tags.
func (s *Store[T]) Overhead() int64 { return s.overhead }

// Resident sums up what is really in the map.
func (s *Store[T]) Resident() (entries, bytes int64) {
	s.cache.IterValues(func(e *Entry[T]) bool {
		if e != nil {
			entries++
			bytes += e.bytes()
		}
		return false
	})
	return entries, bytes
}

// PutWait is Put that waits until ristretto has decided, and reports whether it
// keeps e.
func (s *Store[T]) PutWait(h uint64, e *Entry[T], bytes int64) bool {
	s.Put(h, e, bytes)
	s.Wait()
	got, _ := s.cache.Get(h)
	return got == e
}

// InRistretto returns what ristretto holds under h, nil if nothing.
func (s *Store[T]) InRistretto(h uint64) *Entry[T] {
	e, _ := s.cache.Get(h)
	return e
}

// Fronted returns the entries in the front table and how many of them ristretto
// does not hold. Nothing else may happen meanwhile.
func (s *Store[T]) Fronted() (entries, strays int) {
	for i := range s.fence.Lines() {
		for _, guest := range s.fence.Lines()[i].Guests {
			e := (*Entry[T])(guest)
			if e == nil {
				continue
			}
			entries++
			if got, _ := s.cache.Get(s.hash(e.Key())); got != e {
				strays++
			}
		}
	}
	return entries, strays
}

// Entered returns how often ristretto was called so far.
func (s *Store[T]) Entered() (n uint64) {
	for i := range s.guard.stripes {
		n += s.guard.stripes[i].entered.Load()
	}
	return n
}

// Inside returns how many calls are under way in ristretto.
func (s *Store[T]) Inside() (n int) {
	for i := range s.guard.stripes {
		n += int(s.guard.stripes[i].entered.Load() - s.guard.stripes[i].left.Load())
	}
	return n
}

// Enter is what each call into ristretto begins with; leave is its end.
func (s *Store[T]) Enter() (ok bool, leave func()) {
	stripe := s.guard.stripe()
	if !s.guard.enter(stripe) {
		return false, func() {}
	}
	return true, stripe.leave
}

// Advance is what Get does with an entry that it found in ristretto.
func (s *Store[T]) Advance(h uint64, e *Entry[T]) { s.advance(h, e, true) }

// NewStallable returns a store and a function that keeps the goroutine which
// applies ristretto's queue from going on until release is called.
func NewStallable[T any](cfg Config) (s *Store[T], stall func() (release func()), err error) {
	s, err = New[T](cfg)
	if err != nil {
		return nil, nil, err
	}
	const key = 0xdead
	held, let := make(chan struct{}), make(chan struct{})
	config := s.config()
	config.OnReject = func(item *ristretto.Item[*Entry[T]]) {
		s.onReject(item)
		if item.Key == key {
			close(held)
			<-let
		}
	}
	s.cache.Close()
	s.cache, err = ristretto.NewCache(config)
	return s, func() func() {
		s.cache.Set(key, nil, s.cache.MaxCost()+1) // too large: rejected
		<-held
		return sync.OnceFunc(func() { close(let) })
	}, err
}

// Fence returns the fence that judges the entries.
func (s *Store[T]) Fence() *fence.Fence { return s.fence }

// MissPays is how many hits ristretto hears of for a miss.
const MissPays = missPays

// Has reports whether key is the key of e.
func (e *Entry[T]) Has(key string) bool { return e.has(key) }
