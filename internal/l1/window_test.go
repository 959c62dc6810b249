package l1_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l1"
)

// The window and ristretto together hold what the store says that it holds, and
// the window no more than its part.
func TestWindow_keepsToItsPart(t *testing.T) {
	const maxBytes = 1 << 20
	s := newStore(t, l1.Config{MaxBytes: maxBytes})
	require.Less(t, s.WindowLimit(), int64(maxBytes/10))
	most := int64(0)
	for i := range 5000 {
		s.Put(mix(i), entry(s, mix(i), fmt.Sprint(i), ""), int64(i%500))
		_, bytes := s.Windowed()
		require.LessOrEqual(t, bytes, s.WindowLimit())
		most = max(most, bytes)
		if i%50 == 0 {
			s.WaitQueue() // a full queue is another matter
		}
	}
	assert.Greater(t, most, s.WindowLimit()*9/10, "it is used")
	s.WaitQueue()
	windowed, windowedBytes := s.Windowed()
	entries, bytes := s.Resident()
	st := s.Stats()
	assert.Equal(t, st.Entries, entries+int64(windowed))
	assert.Equal(t, st.Bytes, bytes+windowedBytes)
	assert.LessOrEqual(t, st.Bytes, int64(maxBytes))
	assert.Greater(t, st.Bytes, int64(maxBytes*9/10))
	s.Close()
	windowed, _ = s.Windowed()
	assert.Zero(t, windowed)
	assert.Zero(t, s.Stats().Bytes)
}

// The last entries put are hits, whatever ristretto thinks of their keys.
func TestWindow_holdsWhatWasPutLast(t *testing.T) {
	s := newStore(t, l1.Config{MaxBytes: 1 << 20})
	const recent = 20
	for i := range 20_000 {
		s.Put(mix(i), entry(s, mix(i), fmt.Sprint(i), ""), 100)
		if i%50 == 0 {
			s.WaitQueue()
		}
		if i%1000 == 999 {
			hits := 0
			for j := i - recent + 1; j <= i; j++ {
				if _, state := s.Get(mix(j), fmt.Sprint(j), never); state == l1.Hit {
					hits++
				}
			}
			require.Greater(t, hits, recent/2, "a few may be displaced in the front table")
		}
	}
}

func TestWindow_letsGoOfWhatWasPutAgainOrIsVoid(t *testing.T) {
	for name, second := range map[string]func(s *l1.Store[string]){
		"put again": func(s *l1.Store[string]) { s.Put(hash, entry(s, hash, "k", "second"), 1) },
		"moved":     func(s *l1.Store[string]) { s.Fence().Move(hash) },
		"voided":    func(s *l1.Store[string]) { s.Fence().Void() },
		"prefix":    func(s *l1.Store[string]) { s.Fence().Prefix("k") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, l1.Config{})
			first := entry(s, hash, "k", "first")
			s.Put(hash, first, 1)
			second(s)
			s.Wait()
			e, state := s.Get(hash, "k", never)
			st := s.Stats()
			if name != "put again" {
				assert.Equal(t, l1.None, state)
				assert.Zero(t, st.Entries)
				assert.Zero(t, st.Bytes)
				return
			}
			require.Equal(t, l1.Hit, state)
			assert.Equal(t, "second", e.Value)
			assert.EqualValues(t, 1, st.Entries)
			entries, bytes := s.Resident()
			assert.EqualValues(t, 1, entries)
			assert.Equal(t, st.Bytes, bytes)
		})
	}
}

// A drop is heard in the window, too, and so is a newer value that is refused: what
// was there before does not come back when its turn is there.
func TestWindow_letsGoOfWhatIsDroppedOrFollowed(t *testing.T) {
	for name, then := range map[string]func(s *l1.Store[string]){
		"dropped":  func(s *l1.Store[string]) { s.Drop(hash) },
		"followed": func(s *l1.Store[string]) { s.Put(hash, entry(s, hash, "k", "large"), 1<<40) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t, l1.Config{})
			s.Put(hash, entry(s, hash, "k", "v"), 1)
			windowed, _ := s.Windowed()
			require.Equal(t, 1, windowed)
			then(s)
			for range 2 {
				_, state := s.Get(hash, "k", never)
				assert.Equal(t, l1.None, state)
				s.Wait()
			}
			assert.Zero(t, s.Stats().Entries)
		})
	}
}

// What is only demoted by a gap may still serve while Redis is away.
func TestWindow_keepsWhatIsOnlyDemoted(t *testing.T) {
	s := newStore(t, l1.Config{})
	s.Put(hash, entry(s, hash, "k", "v"), 1)
	s.Fence().Distrust()
	s.Wait()
	_, state := s.Get(hash, "k", never)
	assert.Equal(t, l1.Demoted, state)
}

// A value whose key ristretto has replaces the older one there, but not at once.
func TestWindow_handsOnWhatIsKnownInTheEnd(t *testing.T) {
	s := newStore(t, l1.Config{})
	require.True(t, s.PutWait(hash, entry(s, hash, "k", "first"), 1))
	for range 3 {
		s.Put(hash, entry(s, hash, "k", "second"), 1)
	}
	last := entry(s, hash, "k", "last")
	s.Put(hash, last, 1)
	e, state := s.Get(hash, "k", never)
	assert.Equal(t, l1.Hit, state)
	assert.Same(t, last, e)
	windowed, _ := s.Windowed()
	assert.Equal(t, 4, windowed)
	s.Wait()
	assert.EqualValues(t, 1, s.Stats().Entries, "those before are gone")
	entries, bytes := s.Resident()
	assert.EqualValues(t, 1, entries)
	assert.Equal(t, s.Stats().Bytes, bytes)
	e, _ = s.Get(hash, "k", never)
	assert.Same(t, last, e)
}

// Where a key that ristretto has is put again and again, ristretto is told now and
// then, and new keys have the window for themselves otherwise.
func TestWindow_tellsRistrettoNowAndThen(t *testing.T) {
	s := newStore(t, l1.Config{})
	for i := range 10 {
		require.True(t, s.PutWait(mix(i), entry(s, mix(i), fmt.Sprint(i), ""), 1))
	}
	fresh := entry(s, hash, "new", "v")
	s.Put(hash, fresh, 1)
	const puts = 5000
	told := 0
	for i := range puts {
		key := i % 10
		e := entry(s, mix(key), fmt.Sprint(key), "")
		s.Put(mix(key), e, 1)
		if i > 0 && s.InRistretto(mix(key)) == e {
			told++
		}
		_, bytes := s.Windowed()
		require.LessOrEqual(t, bytes, s.WindowLimit())
	}
	assert.Less(t, told, puts/8)
	windowed, _ := s.Windowed()
	assert.Positive(t, windowed)
	e, state := s.Get(hash, "new", never)
	assert.Equal(t, l1.Hit, state)
	assert.Same(t, fresh, e)
	assert.Nil(t, s.InRistretto(hash), "it waits for its turn")
}

// A key that another one displaces from the front table while it waits is found.
func TestWindow_findsWhatIsKnownAndDisplaced(t *testing.T) {
	s := newStore(t, l1.Config{})
	const n = 50 // keys that share a bucket of the front table
	for round := range 3 {
		for i := range n {
			h := uint64(i + 1)
			s.Put(h, entry(s, h, fmt.Sprint(i), fmt.Sprint(round)), 1)
		}
		s.WaitQueue()
		for i := range n {
			e, state := s.Get(uint64(i+1), fmt.Sprint(i), never)
			require.Equal(t, l1.Hit, state)
			require.Equal(t, fmt.Sprint(round), e.Value)
			s.WaitQueue()
		}
	}
}

// An entry larger than the window does not push all others out of it.
func TestWindow_isNotForLargeEntries(t *testing.T) {
	s := newStore(t, l1.Config{})
	s.Put(hash, entry(s, hash, "k", "v"), 1)
	s.Put(hash+1<<32, entry(s, hash+1<<32, "large", "v"), s.WindowLimit())
	windowed, _ := s.Windowed()
	assert.Equal(t, 1, windowed)
	s.WaitQueue()
	for h, key := range map[uint64]string{hash: "k", hash + 1<<32: "large"} {
		_, state := s.Get(h, key, never)
		assert.Equal(t, l1.Hit, state)
	}
}

// Entries of keys that share a bucket of the front table displace each other
// while they are in the window. All are found.
func TestWindow_losesNothing(t *testing.T) {
	s := newStore(t, l1.Config{})
	for i := range 50 {
		h := uint64(i+1) << 32
		s.Put(h, entry(s, h, fmt.Sprint(i), ""), 1)
	}
	s.WaitQueue()
	windowed, _ := s.Windowed()
	require.Equal(t, 2, windowed, "those that have a place")
	for range 3 {
		for i := range 50 {
			_, state := s.Get(uint64(i+1)<<32, fmt.Sprint(i), never)
			assert.Equal(t, l1.Hit, state)
			s.WaitQueue() // what lost its place to another is on its way
		}
	}
}
