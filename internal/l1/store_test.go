package l1_test

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l1"
)

const (
	hash  = 0xfeed_beef_1234_5678
	never = math.MaxInt64
)

func newStore(t *testing.T, cfg l1.Config) *l1.Store[string] {
	t.Helper()
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 1 << 20
	}
	s, err := newHashed(cfg, l1.New[string])
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// hashed are the hashes that a test chose for the keys of a store.
var hashed sync.Map // of *l1.Store to *sync.Map of keys

// newHashed returns what open opens, whose keys have the hashes that entry is given.
func newHashed(cfg l1.Config, open func(l1.Config) (*l1.Store[string], error)) (*l1.Store[string], error) {
	hashes := new(sync.Map)
	cfg.Hash = func(key string) uint64 {
		h, _ := hashes.Load(key)
		return h.(uint64)
	}
	if cfg.Fence == nil {
		cfg.Fence = fence.New(0)
	}
	s, err := open(cfg)
	hashed.Store(s, hashes)
	return s, err
}

// entry returns a fresh entry of key with the stamp of now.
func entry(s *l1.Store[string], h uint64, key, value string) *l1.Entry[string] {
	hashes, _ := hashed.Load(s)
	hashes.(*sync.Map).Store(key, h)
	e := l1.NewEntry[string](key)
	e.Value = value
	e.SetStamp(s.Fence().Stamp(h))
	e.SetTimes(l1.Times{FreshUntil: never})
	return e
}

func TestNew_refusesABadConfig(t *testing.T) {
	_, err := l1.New[int](l1.Config{MaxBytes: 1})
	assert.ErrorContains(t, err, "Config.Fence")
	_, err = l1.New[int](l1.Config{MaxBytes: 1, Fence: fence.New(0)})
	assert.ErrorContains(t, err, "Config.Hash")
	byLength := func(key string) uint64 { return uint64(len(key)) }
	for _, maxBytes := range []int64{0, -1} {
		_, err = l1.New[int](l1.Config{MaxBytes: maxBytes, Fence: fence.New(0), Hash: byLength})
		assert.ErrorContains(t, err, "Config.MaxBytes")
	}
}

func TestNew_takesABudgetWithoutLimit(t *testing.T) {
	s := newStore(t, l1.Config{MaxBytes: math.MaxInt64})
	require.True(t, s.PutWait(hash, entry(s, hash, "k", "v"), 1))
	_, state := s.Get(hash, "k", never)
	assert.Equal(t, l1.Hit, state)
}

func TestGet_returnsWhatWasPut(t *testing.T) {
	s := newStore(t, l1.Config{})
	e, state := s.Get(hash, "k", never)
	assert.Nil(t, e)
	assert.Equal(t, l1.None, state)

	put := entry(s, hash, "k", "v")
	s.Put(hash, put, 1)
	e, state = s.Get(hash, "k", never) // at once, though ristretto has it queued
	assert.Equal(t, l1.Hit, state)
	assert.Same(t, put, e)

	e, state = s.Get(hash, "other key of the same hash", never)
	assert.Nil(t, e)
	assert.Equal(t, l1.None, state)

	st := s.Stats()
	assert.EqualValues(t, 1, st.Hits)
	assert.EqualValues(t, 2, st.Misses)
	assert.EqualValues(t, 1, st.Entries)
}

func TestGet_neverReturnsAVoidEntry(t *testing.T) {
	var cell atomic.Uint64
	for name, void := range map[string]func(*l1.Store[string]){
		"moved":            func(s *l1.Store[string]) { s.Fence().Move(hash) },
		"void epoch":       func(s *l1.Store[string]) { s.Fence().Void() },
		"prefix":           func(s *l1.Store[string]) { s.Fence().Prefix("user") },
		"prefix and trust": func(s *l1.Store[string]) { s.Fence().Prefix("user"); s.Fence().Distrust() },
		"tag":              func(*l1.Store[string]) { cell.Add(1) },
		"dropped":          func(s *l1.Store[string]) { s.Drop(hash) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, queued := range []bool{true, false} {
				s := newStore(t, l1.Config{})
				e := entry(s, hash, "user:1", "v")
				e.SetTags([]l1.Tag{{Name: "t", Cell: &cell, Version: cell.Load()}})
				s.Put(hash, e, 1)
				if !queued || name == "dropped" {
					s.Wait()
				}
				_, state := s.Get(hash, "user:1", never)
				require.Equal(t, l1.Hit, state)
				void(s)
				s.Wait()
				for range 20 { // the sampled hits go another way
					got, state := s.Get(hash, "user:1", never)
					require.Nil(t, got)
					require.Equal(t, l1.None, state)
				}
				s.Put(hash, entry(s, hash, "user:1", "new"), 1)
				got, state := s.Get(hash, "user:1", never)
				require.Equal(t, l1.Hit, state)
				require.Equal(t, "new", got.Value)
			}
		})
	}
}

// Both ways to an entry, through the table in front and through ristretto, obey
// the fence. Here two thousand keys share a few buckets, so most go the long way.
func TestGet_throughRistrettoObeysTheFence(t *testing.T) {
	const keys = 2000
	s := newStore(t, l1.Config{})
	h := func(i int) uint64 { return uint64(i) << 32 } // the same bucket for all
	for i := range keys {
		s.Put(h(i), entry(s, h(i), fmt.Sprint(i), "v"), 1)
		s.Wait()
	}
	for i := range keys {
		_, state := s.Get(h(i), fmt.Sprint(i), never)
		require.Equal(t, l1.Hit, state, "key %d", i)
	}
	s.Fence().Void()
	for i := range keys {
		_, state := s.Get(h(i), fmt.Sprint(i), never)
		require.Equal(t, l1.None, state, "key %d", i)
	}
}

func TestGet_byAge(t *testing.T) {
	for _, c := range []struct {
		name                    string
		fresh, usable, refresh  time.Duration // 0: not set; fresh 0: never
		lease                   time.Duration // 0: no limit
		distrust                bool
		before, after, farAfter l1.State // one nanosecond before and at one hour; at two hours
	}{
		{name: "never expires", before: l1.Hit, after: l1.Hit, farAfter: l1.Hit},
		{name: "fresh for an hour", fresh: time.Hour, before: l1.Hit, after: l1.None, farAfter: l1.None},
		{name: "usable for two", fresh: time.Hour, usable: 2 * time.Hour, before: l1.Hit, after: l1.Stale, farAfter: l1.None},
		{name: "due after an hour", fresh: 2 * time.Hour, refresh: time.Hour, before: l1.Hit, after: l1.Due, farAfter: l1.None},
		{name: "due though it never expires", refresh: time.Hour, before: l1.Hit, after: l1.Due, farAfter: l1.Due},
		{name: "lease of an hour", lease: time.Hour, before: l1.Hit, after: l1.Demoted, farAfter: l1.Demoted},
		{name: "lease and expiry", lease: time.Hour, fresh: time.Hour, usable: 2 * time.Hour, before: l1.Hit, after: l1.StaleDemoted, farAfter: l1.None},
		{name: "distrusted", distrust: true, before: l1.Demoted, after: l1.Demoted, farAfter: l1.Demoted},
		{name: "distrusted and due", distrust: true, refresh: time.Hour, before: l1.Demoted, after: l1.Demoted, farAfter: l1.Demoted},
		{name: "distrusted and fresh for an hour", distrust: true, fresh: time.Hour, usable: 2 * time.Hour, before: l1.Demoted, after: l1.StaleDemoted, farAfter: l1.None},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t, l1.Config{})
				lease := int64(never)
				if c.lease > 0 {
					lease = int64(c.lease)
				}
				e := entry(s, hash, "k", "v")
				times := l1.Times{FreshUntil: never, UsableUntil: int64(c.usable), RefreshAt: int64(c.refresh)}
				if c.fresh > 0 {
					times.FreshUntil = int64(c.fresh)
				}
				e.SetTimes(times)
				s.Put(hash, e, 1)
				if c.distrust {
					s.Fence().Distrust()
				}
				look := func(want l1.State, when string) {
					t.Helper()
					for range 20 { // the sampled hits go another way
						got, state := s.Get(hash, "k", lease)
						require.Equal(t, want, state, when)
						require.Equal(t, want == l1.None, got == nil, when)
					}
				}
				look(c.before, "at once")
				time.Sleep(time.Hour - 1)
				look(c.before, "before")
				time.Sleep(time.Nanosecond)
				look(c.after, "after")
				time.Sleep(time.Hour)
				look(c.farAfter, "far after")
			})
		})
	}
}

func TestState_Fresh(t *testing.T) {
	for state, fresh := range map[l1.State]bool{
		l1.None: false, l1.StaleDemoted: false, l1.Stale: false, l1.Demoted: false, l1.Due: true, l1.Hit: true,
	} {
		assert.Equal(t, fresh, state.Fresh())
	}
}

func TestGet_hitAllocatesNothing(t *testing.T) {
	s := newStore(t, l1.Config{})
	var cell atomic.Uint64
	e := entry(s, hash, "k", "v")
	e.SetTimes(l1.Times{FreshUntil: int64(time.Hour)})
	e.SetTags([]l1.Tag{{Name: "t", Cell: &cell}})
	s.Put(hash, e, 1)
	s.Wait()
	lease := int64(time.Hour)
	// Ristretto allocates a buffer for 64 of the accesses that it is told of, one
	// of eight: less than one in any run of 100.
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, state := s.Get(hash, "k", lease); state != l1.Hit {
			t.Error("no hit")
		}
	}))
}

func TestDisabled_holdsNothing(t *testing.T) {
	s := newStore(t, l1.Config{Disabled: true})
	s.Put(hash, entry(s, hash, "k", "v"), 1)
	s.Drop(hash)
	_, state := s.Get(hash, "k", never)
	assert.Equal(t, l1.None, state)
	assert.Equal(t, l1.Stats{Misses: 1}, s.Stats())
	s.Close()
	s.Close()
}

// Of two puts of a new key in a row ristretto keeps the first. If that is void,
// the key is a miss, until the next put replaces it in place.
func TestPut_overOneThatIsQueued(t *testing.T) {
	s := newStore(t, l1.Config{})
	for i := range 200 {
		h := uint64(i) << 32
		key := fmt.Sprint(i)
		s.Put(h, entry(s, h, key, "void"), 1)
		s.Fence().Move(h)
		s.Put(h, entry(s, h, key, "second"), 1)
		e, state := s.Get(h, key, never)
		if state == l1.Hit {
			require.Equal(t, "second", e.Value)
		}
		s.Wait()
		require.True(t, s.PutWait(h, entry(s, h, key, "third"), 1))
		e, state = s.Get(h, key, never)
		require.Equal(t, l1.Hit, state)
		require.Equal(t, "third", e.Value)
	}
	entries, bytes := s.Resident()
	st := s.Stats()
	assert.EqualValues(t, 200, entries)
	assert.Equal(t, st.Entries, entries)
	assert.Equal(t, st.Bytes, bytes)
}

// A put that follows a drop is not undone by it, as a Del that is applied late
// would undo it.
func TestDrop_doesNotUndoTheNextPut(t *testing.T) {
	s := newStore(t, l1.Config{})
	require.True(t, s.PutWait(hash, entry(s, hash, "k", "v0"), 1))
	for i := range 1000 {
		s.Drop(hash)
		_, state := s.Get(hash, "k", never)
		require.Equal(t, l1.None, state)
		s.Put(hash, entry(s, hash, "k", fmt.Sprint(i)), 1)
		if i%10 == 0 {
			s.Wait()
		}
		got, state := s.Get(hash, "k", never)
		require.Equal(t, l1.Hit, state)
		require.Equal(t, fmt.Sprint(i), got.Value)
	}
	s.Wait()
	entries, _ := s.Resident()
	assert.EqualValues(t, 1, entries)
}

// Whoever deletes a key twice need not wake ristretto twice.
func TestDrop_tellsRistrettoOnce(t *testing.T) {
	s := newStore(t, l1.Config{})
	require.True(t, s.PutWait(hash, entry(s, hash, "k", "v"), 1))
	s.Drop(hash)
	assert.Nil(t, s.InRistretto(hash))
	assert.Zero(t, testing.AllocsPerRun(100, func() { s.Drop(hash) }), "what is handed to ristretto is allocated")
}

func TestDrop_freesTheValue(t *testing.T) {
	s := newStore(t, l1.Config{})
	require.True(t, s.PutWait(hash, entry(s, hash, "k", "v"), 100))
	s.Drop(hash)
	st := s.Stats()
	assert.Zero(t, st.Bytes)
	assert.Zero(t, st.Entries)
	s.Drop(hash + 1) // nothing there
	s.Wait()
	assert.LessOrEqual(t, s.PolicyBytes(), s.Overhead(), "a key that is not there takes no place")
}
