package tier_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// inBubble runs a test on a node without Redis where time passes as told.
func inBubble(t *testing.T, opts tier.Options[row], test func(t *testing.T, c *tier.Cache[row])) {
	synctest.Test(t, func(t *testing.T) {
		n, err := tier.Open(t.Context(), tier.Config{})
		require.NoError(t, err)
		defer func() { require.NoError(t, n.Close()) }()
		test(t, cache(t, n, opts))
	})
}

func TestTTL_endsExactly(t *testing.T) {
	inBubble(t, tier.Options[row]{Jitter: -1}, func(t *testing.T, c *tier.Cache[row]) {
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, time.Minute))
		time.Sleep(time.Minute - time.Millisecond)
		mustGet(t, c, "1")
		ttl, _ := c.TTL(t.Context(), "1")
		assert.Equal(t, time.Millisecond, ttl)
		time.Sleep(2 * time.Millisecond)
		mustMiss(t, c, "1")

		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, tier.NoExpiry))
		time.Sleep(365 * 24 * time.Hour)
		mustGet(t, c, "1")
	})
}

func TestTTL_defaultsAndPresets(t *testing.T) {
	assert.Equal(t, 60*time.Second, tier.TTLShort)
	assert.Equal(t, 300*time.Second, tier.TTLMedium)
	assert.Equal(t, 3600*time.Second, tier.TTLLong)
	assert.Equal(t, 86400*time.Second, tier.TTLDay)
	inBubble(t, tier.Options[row]{Jitter: -1}, func(t *testing.T, c *tier.Cache[row]) {
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
		ttl, _ := c.TTL(t.Context(), "1")
		assert.Equal(t, tier.TTLMedium, ttl)
	})
}

func TestJitter_onlyShortens(t *testing.T) {
	inBubble(t, tier.Options[row]{Jitter: 0.2}, func(t *testing.T, c *tier.Cache[row]) {
		var shortest, longest time.Duration = time.Hour, 0
		for range 200 {
			require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 100*time.Second))
			ttl, ok := c.TTL(t.Context(), "1")
			require.True(t, ok)
			shortest, longest = min(shortest, ttl), max(longest, ttl)
		}
		assert.GreaterOrEqual(t, shortest, 80*time.Second)
		assert.LessOrEqual(t, longest, 100*time.Second)
		assert.Greater(t, longest-shortest, 10*time.Second, "void: nothing was spread")
	})
}

func TestNegativeTTL(t *testing.T) {
	none := func(loads *int) func(context.Context) (row, error) {
		return func(context.Context) (row, error) { *loads++; return row{}, tier.ErrNotFound }
	}
	inBubble(t, tier.Options[row]{NegativeTTL: 10 * time.Second, Jitter: -1}, func(t *testing.T, c *tier.Cache[row]) {
		loads := 0
		for range 3 {
			_, err := c.GetOrSet(t.Context(), "1", time.Hour, none(&loads))
			require.ErrorIs(t, err, tier.ErrNotFound)
		}
		require.Equal(t, 1, loads)
		time.Sleep(10*time.Second + time.Millisecond)
		_, err := c.GetOrSet(t.Context(), "1", time.Hour, none(&loads))
		require.ErrorIs(t, err, tier.ErrNotFound)
		require.Equal(t, 2, loads)
	})
	inBubble(t, tier.Options[row]{NegativeTTL: -1}, func(t *testing.T, c *tier.Cache[row]) {
		loads := 0
		for range 3 {
			_, err := c.GetOrSet(t.Context(), "1", time.Hour, none(&loads))
			require.ErrorIs(t, err, tier.ErrNotFound)
		}
		require.Equal(t, 3, loads, "NegativeTTL is off")
	})
}

// Local.TTL: memory is asked no longer than that, the record lives on.
func TestLocalTTL(t *testing.T) {
	inBubble(t, tier.Options[row]{Local: tier.Local{TTL: time.Second}, Jitter: -1}, func(t *testing.T, c *tier.Cache[row]) {
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, time.Minute))
		synctest.Wait()
		item, err := c.Lookup(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, tier.TierL1, item.Tier)
		time.Sleep(time.Second + time.Millisecond)
		item, err = c.Lookup(t.Context(), "1")
		require.NoError(t, err)
		require.Equal(t, tier.TierL2, item.Tier)
		assert.InDelta(t, 59*time.Second, item.TTL, float64(10*time.Millisecond))
		assert.InDelta(t, time.Second, item.Age, float64(10*time.Millisecond))
	})
}

// OneLoad: a hung loader frees the key after LoadTimeout.
func TestLoadTimeout_freesTheKey(t *testing.T) {
	inBubble(t, tier.Options[row]{LoadTimeout: 5 * time.Second}, func(t *testing.T, c *tier.Cache[row]) {
		hang, ended := make(chan struct{}), make(chan struct{})
		begun := time.Now()
		_, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) {
			defer close(ended)
			<-hang // ignores its context
			return row{Version: 1}, nil
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 5*time.Second, time.Since(begun))
		got, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{Key: "1", Version: 2}, nil })
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Version)
		close(hang)
		<-ended
		synctest.Wait()
		got, err = c.GetOrSet(t.Context(), "1", 0, nil)
		if err == nil {
			require.EqualValues(t, 2, got.Version, "the late result was kept")
		}
	})
}

// ReadYourWrites: a read after a delete does not join a load from before it.
func TestReadYourWrites_doesNotJoinAnOlderLoad(t *testing.T) {
	changes := map[string]func(*tier.Cache[row], context.Context) error{
		"Delete":       func(c *tier.Cache[row], ctx context.Context) error { return c.Delete(ctx, "k:1") },
		"DeletePrefix": func(c *tier.Cache[row], ctx context.Context) error { _, err := c.DeletePrefix(ctx, "k"); return err },
		"Clear":        func(c *tier.Cache[row], ctx context.Context) error { return c.Clear(ctx) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, tier.Options[row]{}, func(t *testing.T, c *tier.Cache[row]) {
				var wg sync.WaitGroup
				release := make(chan struct{})
				wg.Go(func() {
					got, err := c.GetOrSet(context.Background(), "k:1", 0, func(context.Context) (row, error) {
						<-release
						return row{Key: "k:1", Version: 1}, nil
					})
					assert.NoError(t, err)
					assert.EqualValues(t, 1, got.Version)
				})
				synctest.Wait()
				require.NoError(t, change(c, t.Context()))
				got, err := c.GetOrSet(t.Context(), "k:1", 0, func(context.Context) (row, error) {
					return row{Key: "k:1", Version: 2}, nil
				})
				require.NoError(t, err)
				require.EqualValues(t, 2, got.Version)
				close(release)
				wg.Wait()
				require.EqualValues(t, 2, mustGet(t, c, "k:1"), "NoStaleFill: the older load stored its result")
			})
		})
	}
}

// OneLoad under cancellation storms: callers leave at all times, the value
// gets through to those who stay, and nobody waits for ever.
func TestGetOrSet_cancellationStorm(t *testing.T) {
	inBubble(t, tier.Options[row]{}, func(t *testing.T, c *tier.Cache[row]) {
		var wg sync.WaitGroup
		var got, left atomic.Int64
		for i := range 500 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*time.Millisecond)
				defer cancel()
				v, err := c.GetOrSet(ctx, "1", 0, func(ctx context.Context) (row, error) {
					select {
					case <-time.After(250 * time.Millisecond):
						return row{Key: "1", Version: 1}, nil
					case <-ctx.Done():
						return row{}, context.Cause(ctx)
					}
				})
				switch {
				case err == nil:
					assert.EqualValues(t, 1, v.Version)
					got.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					left.Add(1)
				default:
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		assert.InDelta(t, 250, got.Load(), 2)
		assert.InDelta(t, 250, left.Load(), 2)
	})
}
