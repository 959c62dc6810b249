package tier_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// reads is how many reads st counts that no value past its time has answered.
func reads(st tier.Stats) uint64 { return st.HitsL1 + st.HitsL2 + st.Misses }

// Each read counts once, although many of those that race for a key find it a moment
// after they have missed it.
func TestStats_countEachReadOnce(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	c := cache(t, open(t, tier.Config{URL: srv.URL(), Timeout: 10 * time.Second}), tier.Options[row]{})
	load := func(context.Context) (row, error) { return row{}, nil }
	loadMany := func(_ context.Context, missing []string) (map[string]row, error) {
		return map[string]row{missing[0]: {}}, nil
	}
	const rounds, callers = 40, 50
	for round := range rounds {
		key := strconv.Itoa(round)
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = c.GetOrSet(t.Context(), key, 0, load)
				} else {
					_, err = c.GetOrSetMany(t.Context(), []string{key, key}, 0, loadMany)
				}
				assert.NoError(t, err)
			})
		}
		wg.Wait()
	}
	assert.EqualValues(t, rounds*callers, reads(c.Stats()), "%+v", c.Stats())
}

// A read that waits for another node's load is a miss, and not a hit as well when
// that load has come to something.
func TestStats_aReadThatWaitsIsOneMiss(t *testing.T) {
	t.Parallel()
	eachRead(t, func(t *testing.T, read reader) {
		srv := redistest.Start(t)
		cfg := tier.Config{URL: srv.URL(), Timeout: 10 * time.Second}
		a, b := cache(t, open(t, cfg), tier.Options[row]{}), cache(t, open(t, cfg), tier.Options[row]{})
		waits := make(chan error, 1)
		_, err := a.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) {
			go func() {
				_, err := read(b, func(context.Context) (row, error) { return row{}, errDB })
				waits <- err
			}()
			await(t, "the second to miss", 10*time.Second, func() bool { return b.Stats().Misses == 1 })
			return row{}, nil
		})
		require.NoError(t, err)
		require.NoError(t, <-waits)
		st := b.Stats()
		assert.EqualValues(t, 1, reads(st), "%+v", st)
		assert.Zero(t, st.Loads)
	})
}

// A fallback after a failed load is a miss and a stale value; one that answers
// without a load is that alone.
func TestStats_staleServed(t *testing.T) {
	c := cache(t, open(t, tier.Config{}), tier.Options[row]{StaleFor: time.Hour})
	require.NoError(t, c.Set(t.Context(), "1", row{}, 0))
	require.NoError(t, c.Expire(t.Context(), "1"))
	failing := func(context.Context) (row, error) { return row{}, errDB }
	_, err := c.GetOrSet(t.Context(), "1", 0, failing)
	require.NoError(t, err)
	st := c.Stats()
	assert.EqualValues(t, 1, reads(st))
	assert.EqualValues(t, 1, st.StaleServed)
	_, err = c.Lookup(t.Context(), "1")
	require.NoError(t, err)
	st = c.Stats()
	assert.EqualValues(t, 1, reads(st))
	assert.EqualValues(t, 2, st.StaleServed)
}
