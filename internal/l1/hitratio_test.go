//go:build !race

package l1_test

import (
	"math/rand"
	"strconv"
	"testing"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l1"
)

// Ristretto does not hear of every hit. Its decisions must not suffer: with room
// for as many entries, of 512 bytes, the hit ratio is that of ristretto alone,
// whether there are many misses, of which each makes hits known, or few.
func TestMeasure_hitRatio(t *testing.T) {
	const gets, keys = 400_000, 100_000
	for _, c := range []struct {
		name string
		skew float64
		room int
		jump int // by how much all keys change after half of the gets
	}{
		{"37 of 100 miss", 1.01, 2000, 0},
		{"9 of 100 miss", 1.3, 2000, 0},
		{"2 of 100 miss", 1.5, 5000, 0},
		{"3 of 1000 miss", 1.7, 10_000, 0},
		{"others become popular", 1.1, 2000, 7777},
		{"others become popular, few miss", 1.7, 2000, 7777},
	} {
		t.Run(c.name, func(t *testing.T) {
			zipf := rand.NewZipf(rand.New(rand.NewSource(1)), c.skew, 1, keys-1)
			order := make([]int, gets)
			for i := range order {
				order[i] = int(zipf.Uint64()) + i/(gets/2)*c.jump
			}
			theirs, ours := ristrettoHits(t, order, c.room), storeHits(t, order, c.room)
			t.Logf("ristretto %.2f %%, l1 %.2f %%", 100*theirs, 100*ours)
			// A tenth more misses, and what one run differs from the next.
			assert.GreaterOrEqual(t, ours, theirs-0.1*(1-theirs)-0.003)
		})
	}
}

// Keys that are asked for three times soon after each other and then never again,
// as those of sessions and of rows that are being worked on, are what ristretto
// alone turns away. Here two in three accesses can be hits.
func TestMeasure_hitRatioOfShortLivedKeys(t *testing.T) {
	const gets, room = 300_000, 2000
	order := make([]int, 0, gets)
	for i := range gets / 3 {
		order = append(order, i, i-10, i-30)
	}
	theirs, ours := ristrettoHits(t, order, room), storeHits(t, order, room)
	t.Logf("ristretto %.2f %%, l1 %.2f %%", 100*theirs, 100*ours)
	assert.Greater(t, ours, 0.6)
}

// A program that goes through more than there is room for, again and again, beside
// what it asks for all the time: what is passed through once must not push out what
// is kept, and ristretto must know what is hit.
func TestMeasure_hitRatioOfLoops(t *testing.T) {
	const gets, room = 400_000, 5000
	rng := rand.New(rand.NewSource(1))
	order := make([]int, gets)
	for i, at := 0, 0; i < gets; i++ {
		if at++; rng.Intn(3) == 0 {
			order[i] = -1 - rng.Intn(room/4)
		} else {
			order[i] = at % (3 * room)
		}
	}
	theirs, ours := ristrettoHits(t, order, room), storeHits(t, order, room)
	t.Logf("ristretto %.2f %%, l1 %.2f %%", 100*theirs, 100*ours)
	assert.GreaterOrEqual(t, ours, theirs-0.02, "runs of either differ by half a point")
}

// ristrettoHits is the share of hits that ristretto alone comes to. It waits
// after each set, as one that loads from elsewhere does in effect.
func ristrettoHits(t *testing.T, order []int, room int) float64 {
	cache, err := ristretto.NewCache(&ristretto.Config[uint64, string]{
		NumCounters: 10 * int64(room), MaxCost: int64(room), BufferItems: 64, IgnoreInternalCost: true,
	})
	require.NoError(t, err)
	defer cache.Close()
	hits := 0
	for _, k := range order {
		if _, ok := cache.Get(mix(k)); ok {
			hits++
			continue
		}
		cache.Set(mix(k), "", 1)
		cache.Wait()
	}
	return float64(hits) / float64(len(order))
}

func storeHits(t *testing.T, order []int, room int) float64 {
	probe := newStore(t, l1.Config{})
	const value = 512
	size := probe.Overhead() + value
	store := newStore(t, l1.Config{MaxBytes: int64(room) * size, Fence: fence.New(room)})
	defer store.Close()
	hits := 0
	for _, k := range order {
		key := strconv.Itoa(k)
		if _, state := store.Get(mix(k), key, never); state == l1.Hit {
			hits++
			continue
		}
		store.Put(mix(k), entry(store, mix(k), key, ""), value-int64(len(key)))
		store.WaitQueue()
	}
	return float64(hits) / float64(len(order))
}
