package l1

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/ristretto/v2"

	"github.com/tandemcache/tandem/internal/fence"
)

// Config describes a Store.
type Config struct {
	// MaxBytes is the budget for entries, at least 1; see ForEntries. While puts are
	// queued the store may exceed it by an eighth, or 256 KiB if that is more.
	MaxBytes int64
	// Fence judges the entries. The store has it to itself: what the fence keeps for
	// guests are its entries. Required.
	Fence *fence.Fence
	// Hash is the one good 64-bit hash of a key, by which the fence knows it, too. Required.
	Hash func(key string) uint64
	// Clock is what the times of entries refer to. The zero Clock stands for a
	// new one.
	Clock Clock
	// Disabled makes a store that holds nothing: Put does nothing, Get misses.
	Disabled bool
}

// Store is a bounded map from keys to entries. All methods may be called
// concurrently. Their hashes are those of Config.Hash, whose collisions are told
// apart by the key in the entry.
type Store[T any] struct {
	cache    *ristretto.Cache[uint64, *Entry[T]] // nil: disabled
	front    front[T]
	window   window[T]
	fence    *fence.Fence
	hash     func(key string) uint64
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
// slots that its fence should have. It is at most 4,194,304, what 2 GiB hold, so
// that a budget that stands for "no limit" does not ask for tables of that size;
// larger stores work with more collisions.
func Capacity(maxBytes int64) int {
	const usualBytes, most = 512, 1 << 22
	return int(min(max(maxBytes/usualBytes, 1), most))
}

// ForEntries returns what a store and its fence leave for entries of a budget for
// all of them: Config.MaxBytes. The rest are the tables that an empty store has, 9 to
// 16 in 100 of a budget. Of a small one, of which ristretto's queue alone would take
// most, three quarters are left.
func ForEntries(budget int64) int64 {
	const (
		word  = 8
		queue = 32 * 1024 * word
		// A counter is four times half a byte, and in the Bloom filter one.
		counter = 3
	)
	powerOfTwo := func(n int) int64 { return 1 << bits.Len(uint(n-1)) }
	slots := powerOfTwo(Capacity(budget))
	tables := queue + 2*word*slots + counter*powerOfTwo(int(counters(budget)))
	return max(budget-min(tables, budget/4), 1)
}

// New returns an empty store. It runs goroutines until Close.
func New[T any](cfg Config) (*Store[T], error) {
	if cfg.Fence == nil {
		return nil, errors.New("l1: Config.Fence is missing")
	}
	if cfg.Hash == nil {
		return nil, errors.New("l1: Config.Hash is missing")
	}
	if cfg.MaxBytes < 1 && !cfg.Disabled {
		return nil, fmt.Errorf("l1: Config.MaxBytes is %d, want at least 1", cfg.MaxBytes)
	}
	if cfg.Clock.IsZero() {
		cfg.Clock = NewClock()
	}
	s := &Store[T]{
		front:    front[T]{cfg.Fence, cfg.Hash},
		fence:    cfg.Fence,
		hash:     cfg.Hash,
		guard:    newGuard(),
		clock:    cfg.Clock,
		overhead: overhead[T](),
		budget:   newBudget(cfg.MaxBytes),
		window:   window[T]{limit: cfg.MaxBytes / windowPart},
	}
	if cfg.Disabled {
		return s, nil
	}
	cache, err := ristretto.NewCache(s.config())
	if err != nil {
		return nil, fmt.Errorf("l1: %w", err)
	}
	s.cache = cache
	return s, nil
}

// config returns how ristretto is set up.
func (s *Store[T]) config() *ristretto.Config[uint64, *Entry[T]] {
	return &ristretto.Config[uint64, *Entry[T]]{
		NumCounters: counters(s.budget.limit),
		MaxCost:     s.budget.policy,
		BufferItems: 64,
		// The costs given here are bytes that include ristretto's own.
		IgnoreInternalCost: true,
		KeyToHash:          func(h uint64) (uint64, uint64) { return h, 0 },
		OnExit:             s.onExit,
		OnEvict:            s.onEvict,
		OnReject:           s.onReject,
		// No entry has a TTL, so there is nothing to sweep.
		TtlTickerDurationInSec: 24 * 60 * 60,
	}
}

// counters is the width of the policy's frequency sketch, which also sets after
// how many accesses it forgets half: more of them make better decisions. Ten for
// each entry is what its authors advise. These are 6 to 13 for each 512 bytes of
// the budget, depending on where between two powers of two it lies: ristretto
// rounds its tables up to powers of two, and a number of counters that fills
// them both is what it gets for the memory of any smaller one. That memory is
// 24 to 48 bytes for each 512 of the budget.
func counters(maxBytes int64) int64 {
	const (
		fill    = 0.8 // of a power of two; the Bloom filter beside it takes 9.6 bits a counter, of 8
		minimum = 1 << 10
	)
	powerOfTwo := max(1<<bits.Len(uint(8*Capacity(maxBytes)-1)), minimum)
	return int64(fill * float64(powerOfTwo))
}

// Clock returns the clock that the times of entries refer to.
func (s *Store[T]) Clock() Clock { return s.clock }

// Put hands e to the store, which owns it from then on; one entry is put once.
// bytes is the size of the value; the key, the tags and the entry itself are
// added. Whether and for how long Get sees e is up to the store. Put never waits.
func (s *Store[T]) Put(h uint64, e *Entry[T], bytes int64) {
	if s.cache == nil {
		return
	}
	at := s.guard.stripe()
	if !s.guard.enter(at) {
		return
	}
	defer at.leave()
	s.prepare(e, bytes)
	s.put(h, e)
}

// Drop lets go of the value that the store holds under h, if any. It is a hint
// about memory: what makes a value unusable is its fence. Drop never waits.
func (s *Store[T]) Drop(h uint64) {
	if s.cache == nil {
		return
	}
	at := s.guard.stripe()
	if !s.guard.enter(at) {
		return
	}
	defer at.leave()
	// Only what is in place is replaced: for a new key the nil would be queued
	// and take a slot. What is in the window leaves memory when it leaves that.
	// Nor is what has been dropped before: each Set wakes ristretto's goroutine.
	if _, ok := s.cache.GetTTL(h); ok {
		if e, _ := s.cache.Get(h); e != nil {
			s.cache.Set(h, nil, s.overhead)
		}
	}
	s.front.forget(h)
}

// Close frees everything and waits for calls under way and for the store's
// goroutines. Get misses from then on, and Put does nothing. It is idempotent.
func (s *Store[T]) Close() {
	s.close.Do(func() {
		s.guard.close()
		if s.cache == nil {
			return
		}
		s.shrink(0)
		s.cache.Close()
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
