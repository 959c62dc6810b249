package tier_test

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

func counter(t testing.TB, n *tier.Node, window time.Duration) *tier.Counter {
	t.Helper()
	c, err := tier.NewCounter(n, "rate", tier.CounterOptions{Window: window})
	require.NoError(t, err)
	return c
}

func TestCounter_counts(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := counter(t, open(t, cfg), 0)
		ctx := t.Context()
		n, err := c.Get(ctx, "1")
		require.NoError(t, err)
		require.Zero(t, n)
		_, ok := c.TTL(ctx, "1")
		require.False(t, ok)
		n, err = c.Increment(ctx, "1", 5)
		require.NoError(t, err)
		require.EqualValues(t, 5, n)
		n, err = c.Decrement(ctx, "1", 7)
		require.NoError(t, err)
		require.EqualValues(t, -2, n)
		n, err = c.Get(ctx, "1")
		require.NoError(t, err)
		require.EqualValues(t, -2, n)
		ttl, ok := c.TTL(ctx, "1")
		require.True(t, ok)
		require.Equal(t, tier.NoExpiry, ttl)
		require.NoError(t, c.Reset(ctx, "1", "2"))
		n, err = c.Get(ctx, "1")
		require.NoError(t, err)
		require.Zero(t, n)

		_, err = c.Increment(ctx, "1", math.MaxInt64)
		require.NoError(t, err)
		_, err = c.Increment(ctx, "1", 1)
		require.ErrorContains(t, err, `"1"`)
		n, err = c.Get(ctx, "1")
		require.NoError(t, err)
		require.EqualValues(t, math.MaxInt64, n, "an overflow changed something")
		_, err = c.Decrement(ctx, "1", math.MinInt64)
		require.Error(t, err)

		_, err = c.Decrement(ctx, "2", 9)
		require.NoError(t, err)
		d, err := c.Allow(ctx, "2", 3)
		require.NoError(t, err)
		require.Equal(t, tier.Decision{Allowed: true, Remaining: 11}, d)
		d, err = c.Allow(ctx, "2", math.MaxInt64)
		require.NoError(t, err)
		require.Equal(t, tier.Decision{Allowed: true, Remaining: math.MaxInt64}, d, "more than 64 bits hold")
	})
}

// The original counted with INCR and then SET, which lost or reset windows.
// Here the window is set once, and the limit is exact.
func TestCounter_Allow_exactUnderConcurrency(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := counter(t, n, time.Minute)
		var allowed atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 50 {
					d, err := c.Allow(t.Context(), "u", 100)
					assert.NoError(t, err)
					if d.Allowed {
						allowed.Add(1)
					} else {
						assert.Zero(t, d.Remaining)
						assert.Greater(t, d.RetryAfter, 50*time.Second)
						assert.LessOrEqual(t, d.RetryAfter, time.Minute)
					}
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 100, allowed.Load())
		count, err := c.Get(t.Context(), "u")
		require.NoError(t, err)
		assert.EqualValues(t, 100, count, "what is not allowed is not counted")
		d, err := c.Allow(t.Context(), "other", 0)
		require.NoError(t, err)
		assert.False(t, d.Allowed)
	})
}

func TestCounter_windowIsNeverExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := tier.Open(t.Context(), tier.Config{})
		require.NoError(t, err)
		defer n.Close()
		c := counter(t, n, time.Minute)
		for i := range 6 {
			d, err := c.Allow(t.Context(), "u", 10)
			require.NoError(t, err)
			require.True(t, d.Allowed)
			require.EqualValues(t, 9-i, d.Remaining)
			ttl, ok := c.TTL(t.Context(), "u")
			require.True(t, ok)
			require.Equal(t, time.Minute-time.Duration(i)*10*time.Second, ttl)
			time.Sleep(10 * time.Second)
		}
		time.Sleep(time.Millisecond)
		count, err := c.Get(t.Context(), "u")
		require.NoError(t, err)
		require.Zero(t, count, "the window ended")
	})
}

// Counter without Redis at hand: ErrUnavailable, and Allow lets the caller choose.
func TestCounter_withoutRedis(t *testing.T) {
	srv := redistest.Start(t)
	c := counter(t, open(t, tier.Config{URL: srv.URL()}), time.Minute)
	srv.Stop()
	_, err := c.Increment(t.Context(), "u", 1)
	require.ErrorIs(t, err, tier.ErrUnavailable)
	d, err := c.Allow(t.Context(), "u", 1)
	require.ErrorIs(t, err, tier.ErrUnavailable)
	require.True(t, d.Allowed)
	_, err = c.Get(t.Context(), "u")
	require.ErrorIs(t, err, tier.ErrUnavailable)
	require.ErrorIs(t, c.Reset(t.Context(), "u"), tier.ErrUnavailable)
	_, ok := c.TTL(t.Context(), "u")
	require.False(t, ok)
}

func TestCounter_foreignValue(t *testing.T) {
	srv := redistest.Start(t)
	c := counter(t, open(t, tier.Config{URL: srv.URL()}), 0)
	srv.Do("SET", "tandem:rate:u", "no number")
	_, err := c.Increment(t.Context(), "u", 1)
	require.ErrorContains(t, err, `"u"`)
	require.NotErrorIs(t, err, tier.ErrUnavailable)
	d, err := c.Allow(t.Context(), "u", 1)
	require.Error(t, err)
	require.NotErrorIs(t, err, tier.ErrUnavailable)
	require.False(t, d.Allowed, "only an outage lets pass")
}
