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
