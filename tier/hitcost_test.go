//go:build !race

package tier_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// A hit in L1 costs about what a hit in ristretto alone costs, with the same
// values under the same keys and no TTL there.
func TestMeasure_hitCost(t *testing.T) {
	t.Run("pointers", func(t *testing.T) {
		measureHits(t, func(key string) *row { return &row{Key: key} })
	})
	t.Run("structs", func(t *testing.T) {
		measureHits(t, func(key string) row { return row{Key: key} })
	})
}

// measureHits measures in turns, in short batches, and compares the medians, so
// that whatever else the machine does hits all. What DESIGN asks for is 1.25; the
// bound leaves room for neighbors.
func measureHits[T any](t *testing.T, value func(key string) T) {
	const keys, batches, batch, bound = 1 << 12, 201, 1 << 12, 1.5
	ctx := t.Context()
	c, err := tier.New(open(t, tier.Config{}), "row", tier.Options[T]{})
	require.NoError(t, err)
	bare, err := ristretto.NewCache(&ristretto.Config[string, T]{NumCounters: 10 * keys, MaxCost: keys, BufferItems: 64, IgnoreInternalCost: true})
	require.NoError(t, err)
	defer bare.Close()
	names := make([]string, keys)
	for i := range names {
		names[i] = fmt.Sprintf("user:%017d", i)
		require.NoError(t, c.Set(ctx, names[i], value(names[i]), 0))
		bare.Set(names[i], value(names[i]), 1)
		if i%100 == 0 {
			bare.Wait()
		}
	}
	bare.Wait()
	for _, name := range names { // some were voided by the Set of another that shares their stamp
		_, ok := c.Get(ctx, name)
		require.True(t, ok)
	}
	load := func(context.Context) (v T, err error) { return v, errors.New("a miss") }

	zipf := rand.NewZipf(rand.New(rand.NewSource(1)), 1.1, 1, keys-1)
	order := make([]string, batch)
	for i := range order {
		order[i] = names[zipf.Uint64()]
	}
	before := c.Stats()
	ways := map[string]func(string) bool{
		"ristretto": func(key string) bool { _, ok := bare.Get(key); return ok },
		"Get":       func(key string) bool { _, ok := c.Get(ctx, key); return ok },
		"GetOrSet":  func(key string) bool { _, err := c.GetOrSet(ctx, key, 0, load); return err == nil },
	}
	took := make(map[string][]time.Duration)
	for range batches {
		for way, get := range ways {
			begin := time.Now()
			for _, key := range order {
				if !get(key) {
					t.Fatalf("%s: %s is no hit", way, key)
				}
			}
			took[way] = append(took[way], time.Since(begin))
		}
	}
	hits := float64(c.Stats().HitsL1 - before.HitsL1)
	require.Greater(t, hits/(2*batches*batch), 0.999, "hits in L1")
	median := func(way string) float64 {
		slices.Sort(took[way])
		return float64(took[way][batches/2]) / batch
	}
	for _, way := range []string{"Get", "GetOrSet"} {
		ratio := median(way) / median("ristretto")
		t.Logf("%s: %.1f ns, ristretto %.1f ns, ratio %.2f", way, median(way), median("ristretto"), ratio)
		assert.Less(t, ratio, bound, way)
	}
}
