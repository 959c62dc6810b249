package l1_test

import (
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l1"
)

// mix spreads small numbers over the hashes.
func mix(i int) uint64 { return uint64(i+1) * 0x9e3779b97f4a7c15 }

func TestBudget_isExact(t *testing.T) {
	s := newStore(t, l1.Config{MaxBytes: 256 << 10})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewSource(int64(g)))
			for range 20_000 {
				k := r.Intn(3000)
				key := fmt.Sprint(k)
				switch r.Intn(10) {
				case 0:
					s.Drop(mix(k))
				case 1:
					s.PutWait(mix(k), entry(s, mix(k), key, ""), int64(r.Intn(500)))
				case 2, 3, 4:
					s.Put(mix(k), entry(s, mix(k), key, ""), int64(r.Intn(500)))
				default:
					s.Get(mix(k), key, never)
				}
			}
		})
	}
	wg.Wait()
	s.Wait()
	entries, bytes := s.Resident()
	st := s.Stats()
	assert.Equal(t, entries, st.Entries)
	assert.Equal(t, bytes, st.Bytes)
	assert.LessOrEqual(t, bytes, 256<<10+s.Slack())
	assert.Positive(t, entries)
	assert.Positive(t, st.Evictions)
	s.Close()
	st = s.Stats()
	assert.Zero(t, st.Entries)
	assert.Zero(t, st.Bytes)
}

func TestBudget_countsAnEntryWhole(t *testing.T) {
	s := newStore(t, l1.Config{})
	e := entry(s, hash, "0123456789", "v")
	e.SetTags(make([]l1.Tag, 3))
	s.Put(hash, e, 1000)
	first := s.Overhead() + 11 + int64(unsafe.Sizeof([]l1.Tag{})+3*unsafe.Sizeof(l1.Tag{})) + 1000
	assert.InDelta(t, first, s.Stats().Bytes, l1.CostUnit)
	assert.GreaterOrEqual(t, s.Stats().Bytes, first, "rounded up")

	first = s.Stats().Bytes
	s.Put(hash+1, entry(s, hash+1, "", ""), -5)
	assert.InDelta(t, first+s.Overhead(), s.Stats().Bytes, l1.CostUnit, "a negative size counts as none")
}

func TestBudget_refusesWhatIsLargerThanAll(t *testing.T) {
	s := newStore(t, l1.Config{MaxBytes: 10_000})
	s.Put(hash, entry(s, hash, "k", "small"), 10)
	s.Put(hash, entry(s, hash, "k", "large"), 10_000)
	_, state := s.Get(hash, "k", never)
	assert.Equal(t, l1.None, state, "the older value, which was in the window, is gone")
	s.Wait()
	_, state = s.Get(hash, "k", never)
	assert.Equal(t, l1.None, state, "and does not come back when its turn is there")
	s.Put(hash, entry(s, hash, "k", "small"), 10)
	s.Wait()
	for _, bytes := range []int64{10_000, 1 << 62, 1<<63 - 1} {
		s.Put(hash, entry(s, hash, "k", "large"), bytes)
		_, state := s.Get(hash, "k", never)
		assert.Equal(t, l1.None, state, "the older value is gone: %d bytes", bytes)
	}
	s.Wait()
	assert.EqualValues(t, 4, s.Stats().Dropped)
	assert.Zero(t, s.Stats().Bytes)
	assert.True(t, s.PutWait(hash, entry(s, hash, "k", "small"), 10))
}

// Values that grow in place evict nothing in ristretto.
func TestBudget_boundsValuesThatGrow(t *testing.T) {
	const maxBytes, keys = 4 << 20, 1000
	s := newStore(t, l1.Config{MaxBytes: maxBytes})
	for _, bytes := range []int64{100, 20_000, 100, 50_000} {
		for range 3 {
			for i := range keys {
				s.Put(mix(i), entry(s, mix(i), fmt.Sprint(i), ""), bytes)
				require.LessOrEqual(t, s.Stats().Bytes, maxBytes+s.Slack())
			}
			s.Wait()
		}
		_, resident := s.Resident()
		require.LessOrEqual(t, resident, maxBytes+s.Slack())
		require.Equal(t, resident, s.Stats().Bytes)
	}
	// The store is not stuck: small values fit again, all of them.
	for range 3 {
		for i := range keys {
			s.Put(mix(i), entry(s, mix(i), fmt.Sprint(i), ""), 100)
		}
		s.Wait()
	}
	entries, _ := s.Resident()
	assert.Greater(t, entries, int64(keys*9/10))
}

// numbered returns the hash of one of 100,000 keys of a kind. They differ where
// ristretto's counters look: else those of many keys would add up.
func numbered(kind, i int) uint64 { return mix(100_000*kind + i) }

// stalled returns a store whose queue is full and not being emptied until
// release is called, with the entries of the given numbers resident.
func stalled(t *testing.T, maxBytes int64, resident int) (s *l1.Store[string], release func()) {
	var stall func() func()
	s, err := newHashed(l1.Config{MaxBytes: maxBytes}, func(cfg l1.Config) (s *l1.Store[string], err error) {
		s, stall, err = l1.NewStallable[string](cfg)
		return s, err
	})
	require.NoError(t, err)
	t.Cleanup(s.Close)
	for i := range resident {
		h := numbered(1, i)
		require.True(t, s.PutWait(h, entry(s, h, fmt.Sprint(i), ""), 1))
	}
	release = stall()
	t.Cleanup(release) // before Close, which waits for the queue
	for i := range l1.QueueLength + 10 {
		h := numbered(2, i)
		s.Put(h, entry(s, h, fmt.Sprint("fill", i), ""), 1)
		s.Flush()
	}
	require.Positive(t, s.Stats().Dropped, "the queue is full")
	return s, release
}

// While ristretto's queue is full, its Del blocks. An invalidation must not: it
// runs in the goroutine that reads messages.
func TestDrop_doesNotWaitForAFullQueue(t *testing.T) {
	s, release := stalled(t, 1<<30, 1)
	h := numbered(1, 0)
	_, state := s.Get(h, "0", never)
	require.Equal(t, l1.Hit, state)
	s.Drop(h) // would hang here
	_, state = s.Get(h, "0", never)
	assert.Equal(t, l1.None, state)
	s.Put(h, entry(s, h, "0", "new"), 1)
	e, state := s.Get(h, "0", never)
	assert.Equal(t, l1.Hit, state)
	assert.Equal(t, "new", e.Value)
	release()
	s.Wait()
	entries, bytes := s.Resident()
	assert.Equal(t, s.Stats().Entries, entries, "what the queue had no room for is not counted")
	assert.Equal(t, s.Stats().Bytes, bytes)
	_, strays := s.Fronted()
	assert.Zero(t, strays)
}

// The cost of a value that was replaced in place is not told to the policy while
// the queue is full. The store stays in its budget all the same.
func TestBudget_survivesLostCosts(t *testing.T) {
	const maxBytes, keys = 64 << 20, 500
	s, release := stalled(t, maxBytes, keys)
	for i := range keys {
		h := numbered(1, i)
		s.Put(h, entry(s, h, fmt.Sprint(i), "large"), 60_000)
	}
	before := s.Stats().Bytes
	require.Greater(t, before, int64(keys*60_000), "the large values are in place")
	release()
	s.Wait()
	require.Less(t, s.PolicyBytes(), before-20<<20, "the policy does not know of them")

	for i := range 3000 {
		h := numbered(3, i)
		s.Put(h, entry(s, h, fmt.Sprint("more", i), ""), 40_000)
		if i%100 == 0 {
			s.Wait()
		}
		require.LessOrEqual(t, s.Stats().Bytes, maxBytes+s.Slack())
	}
	s.Wait()
	assert.Positive(t, s.Stats().Evictions)
	assert.LessOrEqual(t, s.Stats().Bytes, maxBytes+s.Slack()/2, "ristretto's limit is lower by what it does not know of")
	// New values still get in, once ristretto, which is told of 64 accesses at a time,
	// has heard of them.
	last := func(i int) (h uint64, key string) { return numbered(4, i), fmt.Sprint("last", i) }
	for range 5 {
		for i := range 100 {
			h, key := last(i)
			s.Put(h, entry(s, h, key, ""), 1000)
			s.Wait()
		}
	}
	in := 0
	for i := range 100 {
		h, key := last(i)
		if _, state := s.Get(h, key, never); state == l1.Hit {
			in++
		}
	}
	assert.Greater(t, in, 50)
}
