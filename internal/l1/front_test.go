package l1_test

import (
	"fmt"
	"math/rand"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l1"
)

// What ristretto has let go of is not counted in the budget. It must not live on
// in the front table, whoever let it go: eviction, rejection, replacement, drop,
// a full queue or Close.
func TestFront_holdsOnlyWhatRistrettoHolds(t *testing.T) {
	s := newStore(t, l1.Config{MaxBytes: 256 << 10})
	for round := range 20 {
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				r := rand.New(rand.NewSource(int64(10*round + g)))
				for range 3000 {
					k := r.Intn(2000)
					if r.Intn(2) == 0 {
						k %= 3 // replaced while it is being put
					}
					key := fmt.Sprint(k)
					switch r.Intn(20) {
					case 0:
						s.Drop(mix(k))
					case 1, 2, 3, 4:
						s.Put(mix(k), entry(s, mix(k), key, ""), int64(r.Intn(500)))
					default:
						s.Get(mix(k), key, never)
					}
				}
			})
		}
		wg.Wait()
		s.Wait()
		entries, strays := s.Fronted()
		require.Zero(t, strays)
		require.Positive(t, entries)
	}
	s.Close()
	entries, _ := s.Fronted()
	assert.Zero(t, entries)
}

// A reader finds an entry in ristretto, and before it has placed it in the front
// table the entry is gone.
func TestFront_doesNotKeepWhatLeavesMeanwhile(t *testing.T) {
	s := newStore(t, l1.Config{})
	e := entry(s, hash, "k", "v")
	require.True(t, s.PutWait(hash, e, 1))
	s.Drop(hash)
	s.Advance(hash, e)
	entries, _ := s.Fronted()
	assert.Zero(t, entries)
}

// Two goroutines find an entry in ristretto, and both place it.
func TestFront_letsGoOfAnEntryThatIsThereTwice(t *testing.T) {
	s := newStore(t, l1.Config{})
	e := entry(s, hash, "k", "v")
	require.True(t, s.PutWait(hash, e, 1)) // in its first slot
	s.Advance(hash, e)                     // in the other one
	entries, _ := s.Fronted()
	require.Equal(t, 2, entries)
	s.Drop(hash)
	entries, _ = s.Fronted()
	assert.Zero(t, entries)
}

// Keys whose hashes are equal in all bits displace each other and are never
// taken for each other.
func TestFront_tellsKeysOfOneHashApart(t *testing.T) {
	s := newStore(t, l1.Config{})
	keys := []string{"a", "b", "c", ""}
	for i := range 100 {
		key := keys[i%len(keys)]
		s.Put(hash, entry(s, hash, key, key), 1)
		if i%3 == 0 {
			s.Wait()
		}
		hits := 0
		for _, k := range keys {
			if e, state := s.Get(hash, k, never); state == l1.Hit {
				hits++
				require.Equal(t, k, e.Value)
			}
		}
		require.LessOrEqual(t, hits, 3, "two in the table, one in ristretto")
	}
}

// Many keys whose hashes differ only where the front table does not look share
// one bucket. All are found, and those that are asked for most get to the front.
func TestFront_sharesABucket(t *testing.T) {
	const keys = 200
	s := newStore(t, l1.Config{})
	h := func(i int) uint64 { return uint64(i+1) << 32 }
	for i := range keys {
		require.True(t, s.PutWait(h(i), entry(s, h(i), fmt.Sprint(i), ""), 1))
	}
	look := func(i int) {
		e, state := s.Get(h(i), fmt.Sprint(i), never)
		require.Equal(t, l1.Hit, state)
		require.Equal(t, fmt.Sprint(i), e.Key())
	}
	for i := range keys {
		look(i)
	}
	for range 100 {
		look(0)
	}
	before := s.Entered()
	for range 100 {
		look(0)
	}
	assert.Less(t, s.Entered()-before, uint64(20), "calls into ristretto for what is in front")
}

// A value that is put takes the place of the older one of its key, also where the
// place in which keys are looked for first has become free meanwhile. The older one
// would be found again when another key displaces the newer.
func TestFront_hasOnePlaceForAKey(t *testing.T) {
	s := newStore(t, l1.Config{})
	h := func(i int) uint64 { return uint64(i+1) << 32 } // one bucket, one first place
	put := func(i int, value string) {
		s.Put(h(i), entry(s, h(i), fmt.Sprint(i), value), 1)
	}
	put(0, "")
	put(1, "older") // in the second place
	s.Drop(h(0))
	put(1, "newer")
	put(2, "")
	put(3, "") // displaces one of the two
	s.WaitQueue()
	for range 2 {
		e, state := s.Get(h(1), "1", never)
		require.Equal(t, l1.Hit, state)
		require.Equal(t, "newer", e.Value)
		s.Wait()
	}
}

// A reader finds an entry in ristretto, and before it has placed it in the front
// table a newer one has been put, which waits in the window.
func TestFront_doesNotHideWhatWasPutMeanwhile(t *testing.T) {
	s := newStore(t, l1.Config{})
	h := func(i int) uint64 { return uint64(i+1) << 32 }
	older := entry(s, h(0), "0", "older")
	require.True(t, s.PutWait(h(0), older, 1))
	for i := 1; i <= 2; i++ { // one of them displaces it
		s.Put(h(i), entry(s, h(i), fmt.Sprint(i), ""), 1)
	}
	s.Drop(h(1))
	newer := entry(s, h(0), "0", "newer")
	s.Put(h(0), newer, 1) // in the second place
	s.Drop(h(2))
	require.Same(t, older, s.InRistretto(h(0)))
	s.Advance(h(0), older)
	for range 2 {
		e, state := s.Get(h(0), "0", never)
		require.Equal(t, l1.Hit, state)
		require.Same(t, newer, e)
		s.Wait()
	}
}
