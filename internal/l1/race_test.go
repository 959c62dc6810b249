package l1_test

import (
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tandemcache/tandem/internal/l1"
)

// Whatever the window, ristretto and the front table do with entries of one key, and
// whoever is at it: none is found that is older than the last move of its key which had
// returned before the look.
func TestGet_findsNothingOlderThanTheLastMove(t *testing.T) {
	t.Parallel()
	const keys, writers, readers, rounds = 12, 3, 3, 6000
	s := newStore(t, l1.Config{MaxBytes: 64 << 10}) // a window of some entries
	h := func(i int) uint64 { return uint64(i%3+1) | uint64(i)<<32 }
	var floors [keys]atomic.Int64
	var done atomic.Bool
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			rng := rand.New(rand.NewSource(int64(w)))
			for n := range rounds {
				i := rng.Intn(keys/writers)*writers + w // one writer for each key
				s.Fence().Move(h(i))
				floors[i].Store(int64(n))
				for range rng.Intn(3) {
					s.Put(h(i), entry(s, h(i), strconv.Itoa(i), strconv.Itoa(n)), int64(rng.Intn(300)))
				}
				switch rng.Intn(30) {
				case 0:
					s.Drop(h(i))
				case 1:
					s.Flush()
				case 2:
					s.WaitQueue()
				}
			}
		})
	}
	var hits atomic.Int64
	for r := range readers {
		reading.Go(func() {
			rng := rand.New(rand.NewSource(int64(r)))
			for !done.Load() {
				i := rng.Intn(keys)
				floor := floors[i].Load()
				e, state := s.Get(h(i), strconv.Itoa(i), never)
				if state == l1.None {
					continue
				}
				hits.Add(1)
				if n, err := strconv.ParseInt(e.Value, 10, 64); err != nil || n < floor || e.Key() != strconv.Itoa(i) {
					t.Errorf("found %q of %q for key %d, which had moved at %d", e.Value, e.Key(), i, floor)
					return
				}
			}
		})
	}
	writing.Wait()
	done.Store(true)
	reading.Wait()
	if hits.Load() == 0 {
		t.Error("nothing was found")
	}
	s.Wait()
	if entries, strays := s.Fronted(); strays != 0 {
		t.Errorf("%d of %d entries in the table are nobody's", strays, entries)
	}
}

// holds fails unless entries of T hold keys of all lengths, apart from their values.
func holds[T comparable](t *testing.T, value T) {
	t.Helper()
	for n := range 300 {
		key := fmt.Sprintf("%0*d", n, n)[:n]
		e := l1.NewEntry[T](key)
		e.Value = value
		if e.Key() != key || !e.Has(key) || e.Value != value {
			t.Fatalf("%T, %d bytes: key %q, value %v", value, n, e.Key(), e.Value)
		}
		var zero T
		if e.Value = zero; e.Key() != key {
			t.Fatalf("%T, %d bytes: key %q after the value changed", value, n, e.Key())
		}
	}
}

// The key lies behind whatever a value leaves of its words.
func TestNewEntry_ofValuesOfAllSizes(t *testing.T) {
	holds(t, struct{}{})
	holds(t, true)
	holds(t, [3]byte{1, 2, 3})
	holds(t, [9]byte{8: 9})
	holds(t, int32(-1))
	holds(t, "text")
	holds(t, struct {
		a any
		b uint8
	}{"a", 255})
	holds(t, [200]uint16{199: 1})
}
