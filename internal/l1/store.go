package l1

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/mutant"
)

// Config describes a Store.
type Config struct {
	// MaxBytes is the budget for entries, at least 1. While puts are queued the
	// store may exceed it by an eighth, or 256 KiB if that is more.
	MaxBytes int64
	// Fence judges the entries. Required.
	Fence *fence.Fence
	// Clock is what the times of entries refer to. The zero Clock stands for a
	// new one.
	Clock Clock
	// Disabled makes a store that holds nothing: Put does nothing, Get misses.
	Disabled bool
}

// Store is a bounded map from keys to entries. All methods may be called
// concurrently. Its hashes are those of the fence: one good 64-bit hash of the
// key, whose collisions are told apart by the key in the entry.
type Store[T any] struct {
	cache    *ristretto.Cache[uint64, *Entry[T]] // nil: disabled
	fence    *fence.Fence
	guard    *guard
	clock    Clock
	overhead int64
	budget   budget
	close    sync.Once

	evictions, rejected, refused atomic.Uint64
}

// Stats is the state of a Store and what happened in it so far.
type Stats struct {
	Hits, Misses uint64 // of Get; a Stale or Demoted entry is a miss
	Entries      int64  // those on their way in included
	Bytes        int64  // estimated, see Put; those on their way in included
	Evictions    uint64
	Rejected     uint64 // puts that the policy did not admit
	Dropped      uint64 // puts for which the queue or the budget had no room
}

// Capacity returns how many entries of usual size a budget holds, the number of
// slots that its fence should have.
func Capacity(maxBytes int64) int {
	const usualBytes = 512
	return int(min(max(maxBytes/usualBytes, 1), math.MaxInt32))
}

// New returns an empty store. It runs goroutines until Close.
func New[T any](cfg Config) (*Store[T], error) {
	if cfg.Fence == nil {
		return nil, errors.New("l1: Config.Fence is missing")
	}
	if cfg.MaxBytes < 1 && !cfg.Disabled {
		return nil, fmt.Errorf("l1: Config.MaxBytes is %d, want at least 1", cfg.MaxBytes)
	}
	if cfg.Clock.IsZero() {
		cfg.Clock = NewClock()
	}
	s := &Store[T]{
		fence:    cfg.Fence,
		guard:    newGuard(),
		clock:    cfg.Clock,
		overhead: overhead[T](),
		budget:   newBudget(cfg.MaxBytes),
	}
	if cfg.Disabled {
		return s, nil
	}
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, *Entry[T]]{
		NumCounters: counters(cfg.MaxBytes),
		MaxCost:     cfg.MaxBytes,
		BufferItems: 64,
		// The costs given here are bytes that include ristretto's own.
		IgnoreInternalCost: true,
		KeyToHash:          func(h uint64) (uint64, uint64) { return h, 0 },
		OnExit:             s.onExit,
		OnEvict:            s.onEvict,
		OnReject:           s.onReject,
		// No entry has a TTL, so there is nothing to sweep.
		TtlTickerDurationInSec: 24 * 60 * 60,
	})
	if err != nil {
		return nil, fmt.Errorf("l1: %w", err)
	}
	s.cache = cache
	return s, nil
}

// counters is the width of the policy's frequency sketch. Ten for each entry is
// what its authors advise; at about five bytes each they would take a tenth of
// the budget for entries of usual size, so half as many are used.
func counters(maxBytes int64) int64 {
	return max(5*int64(Capacity(maxBytes)), 1<<10)
}

// Clock returns the clock that the times of entries refer to.
func (s *Store[T]) Clock() Clock { return s.clock }

// Get returns what the store holds for key, whose hash is h, and what it may be
// used for. The entry is nil if and only if the state is None.
//
// lease is the end of the caller's permission to serve from memory, in the time
// of the store's clock: an entry that is read past it is demoted. math.MaxInt64
// stands for no limit, and spares the clock if the entry has none either.
//
// A hit allocates nothing, takes no lock of this package and writes no cache
// line that other running goroutines write.
func (s *Store[T]) Get(h uint64, key string, lease int64) (*Entry[T], State) {
	g := s.guard.enter()
	if g == nil {
		return nil, None
	}
	if s.cache == nil {
		g.misses.Add(1)
		return nil, None
	}
	e, _ := s.cache.Get(h)
	if e == nil || e.Key != key {
		g.misses.Add(1)
		return nil, None
	}
	trust := s.fence.Check(h, key, e.Stamp, &e.checked)
	if mutant.On(mutant.NoStampCheck) {
		trust = fence.Current
	}
	if trust == fence.Void || len(e.Tags) != 0 && !tagsHold(e.Tags) {
		g.misses.Add(1)
		return nil, None
	}
	state := Hit
	if limit := min(e.settled, lease); limit != math.MaxInt64 || trust != fence.Current {
		if now := s.clock.Now(); now >= limit || trust != fence.Current {
			state = e.judge(now, trust == fence.Demoted || now >= lease)
		}
	}
	if state < Due {
		g.misses.Add(1)
		if state == None {
			return nil, None
		}
		return e, state
	}
	g.hits.Add(1)
	return e, state
}

func tagsHold(tags []Tag) bool {
	for i := range tags {
		if tags[i].Cell.Load() != tags[i].Version {
			return false
		}
	}
	return true
}

// judge is the part of Get that most hits do not need.
func (e *Entry[T]) judge(now int64, demoted bool) State {
	switch {
	case now >= e.UsableUntil:
		return None
	case now >= e.FreshUntil && demoted:
		return StaleDemoted
	case now >= e.FreshUntil:
		return Stale
	case demoted:
		return Demoted
	case now >= e.RefreshAt:
		return Due
	}
	return Hit
}

// Put hands e to the store, which owns it from then on. bytes is the size of the
// value; the key, the tags and the entry itself are added. Whether and when a
// Get sees e is up to the store. Put never waits.
func (s *Store[T]) Put(h uint64, e *Entry[T], bytes int64) {
	if s.cache == nil {
		return
	}
	g := s.guard.enter()
	if g == nil {
		return
	}
	s.prepare(e, bytes)
	s.put(h, e)
	g.others.Add(1)
}

// PutWait is Put that waits until the store has decided, and reports whether Get
// sees e. It waits for puts that others have queued as well.
func (s *Store[T]) PutWait(h uint64, e *Entry[T], bytes int64) bool {
	if s.cache == nil {
		return false
	}
	g := s.guard.enter()
	if g == nil {
		return false
	}
	s.prepare(e, bytes)
	ok := s.putWait(h, e)
	g.others.Add(1)
	return ok
}

func (s *Store[T]) putWait(h uint64, e *Entry[T]) bool {
	// Of two puts of a new key the one that was queued first stays. It is in
	// place after the wait, so that the next try replaces it at once. Others may
	// put and evict in between, therefore the tries are limited.
	const tries = 3
	for range tries {
		taken := s.put(h, e)
		s.cache.Wait()
		got, _ := s.cache.Get(h)
		if got == e {
			return true
		}
		if taken && got == nil {
			return false // not admitted
		}
	}
	return false
}

// Drop frees the value that the store holds under h, if any. It is a hint about
// memory: what makes a value unusable is its fence. Drop never waits.
func (s *Store[T]) Drop(h uint64) {
	if s.cache == nil {
		return
	}
	g := s.guard.enter()
	if g == nil {
		return
	}
	// GetTTL is the one lookup that does not count as an access. Only what is in
	// place is replaced: for a new key the nil would be queued and take a slot.
	if _, ok := s.cache.GetTTL(h); ok {
		s.cache.Set(h, nil, s.overhead)
	}
	g.others.Add(1)
}

// Close frees everything and waits for calls under way and for the store's
// goroutines. Get misses from then on, and Put does nothing. It is idempotent.
func (s *Store[T]) Close() {
	s.close.Do(func() {
		s.guard.close()
		s.cache.Close() // accepts nil
	})
}

// Stats returns the state of the store. Its numbers are read one after another.
func (s *Store[T]) Stats() Stats {
	hits, misses := s.guard.counts()
	return Stats{
		Hits: hits, Misses: misses,
		Entries:   s.budget.entries.Load(),
		Bytes:     s.budget.bytes.Load(),
		Evictions: s.evictions.Load(),
		Rejected:  s.rejected.Load(),
		Dropped:   s.refused.Load(),
	}
}

// onEvict runs twice for some entries, the second time with nil, and for all of
// them when the store closes.
func (s *Store[T]) onEvict(item *ristretto.Item[*Entry[T]]) {
	if item.Value != nil && !s.guard.closed.Load() {
		s.evictions.Add(1)
	}
}

func (s *Store[T]) onReject(item *ristretto.Item[*Entry[T]]) {
	if item.Value != nil {
		s.rejected.Add(1)
	}
}
