package tier_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// The rows of the system that this began with, on a real Redis and with its
// prefix. Every row of the table is a subtest of that name.
func TestOriginalSystem(t *testing.T) {
	srv := redistest.Start(t)
	ctx := t.Context()
	t.Setenv("REDIS_URL", srv.URL())
	t.Setenv("CACHE_PREFIX", ghl.Namespace)
	var n *tier.Node
	t.Run("REDIS_URL from the environment", func(t *testing.T) {
		cfg, err := tier.ConfigFromEnv()
		require.NoError(t, err)
		n, err = tier.Open(ctx, cfg)
		require.NoError(t, err)
	})
	defer func() { require.NoError(t, n.Close()) }()
	users, err := tier.New(n, "user", tier.Options[User]{Jitter: -1})
	require.NoError(t, err)
	rdb := srv.Client(t)

	t.Run("get, set with TTL, delete, deletePattern, getOrSet", func(t *testing.T) {
		_, ok := users.Get(ctx, "123")
		assert.False(t, ok)
		require.NoError(t, users.Set(ctx, "123", User{"123", "Ada"}, tier.TTLShort))
		u, ok := users.Get(ctx, "123")
		assert.True(t, ok)
		assert.Equal(t, "Ada", u.Name)
		assert.EqualValues(t, 1, rdb.Exists(ctx, "ghl:user:123").Val())
		assert.InDelta(t, time.Minute, rdb.PTTL(ctx, "ghl:user:123").Val(), float64(time.Second))
		require.NoError(t, users.Delete(ctx, "123"))
		assert.Zero(t, rdb.Exists(ctx, "ghl:user:123").Val())

		u, err := users.GetOrSet(ctx, "123", tier.TTLLong, func(context.Context) (User, error) { return User{"123", "Eve"}, nil })
		require.NoError(t, err)
		assert.Equal(t, "Eve", u.Name)
		count, err := n.DeletePrefix(ctx, "user:")
		require.NoError(t, err)
		assert.Equal(t, 1, count)
		assert.Zero(t, rdb.Exists(ctx, "ghl:user:123").Val())
	})
	t.Run("exists, ttl -1 none, -2 absent", func(t *testing.T) {
		assert.False(t, users.Exists(ctx, "123"))
		_, ok := users.TTL(ctx, "123")
		assert.False(t, ok, "absent")
		require.NoError(t, users.Set(ctx, "123", User{}, tier.NoExpiry))
		ttl, ok := users.TTL(ctx, "123")
		assert.True(t, ok)
		assert.Equal(t, tier.NoExpiry, ttl)
		assert.EqualValues(t, -1, rdb.PTTL(ctx, "ghl:user:123").Val(), "no expiry in Redis either")
	})
	t.Run("increment, decrement", func(t *testing.T) {
		c, err := tier.NewCounter(n, "credits", tier.CounterOptions{})
		require.NoError(t, err)
		v, err := c.Increment(ctx, "123", 10)
		require.NoError(t, err)
		assert.EqualValues(t, 10, v)
		v, err = c.Decrement(ctx, "123", 3)
		require.NoError(t, err)
		assert.EqualValues(t, 7, v)
		assert.Equal(t, "7", rdb.Get(ctx, "ghl:credits:123").Val(), "readable with redis-cli")
	})
	t.Run("rate limiting", func(t *testing.T) {
		c, err := tier.NewCounter(n, "rate", tier.CounterOptions{Window: time.Minute})
		require.NoError(t, err)
		d, err := c.Allow(ctx, "123:search", 1)
		require.NoError(t, err)
		assert.True(t, d.Allowed)
		d, err = c.Allow(ctx, "123:search", 1)
		require.NoError(t, err)
		assert.False(t, d.Allowed)
		assert.InDelta(t, time.Minute, rdb.PTTL(ctx, "ghl:rate:123:search").Val(), float64(2*time.Second), "the window was set once")
	})
	t.Run("healthCheck, getStats", func(t *testing.T) {
		h := n.Health(ctx)
		assert.True(t, h.Healthy)
		assert.Positive(t, h.Latency)
		s := n.Stats()
		assert.True(t, s.Available)
		assert.Zero(t, s.ReconnectAttempts)
	})
	t.Run("a foreign DEL is a miss in L2 at once, in L1 when Local.TTL is over", func(t *testing.T) {
		c, err := tier.New(n, "session", tier.Options[User]{Local: tier.Local{TTL: 50 * time.Millisecond}})
		require.NoError(t, err)
		require.NoError(t, c.Set(ctx, "s", User{}, 0))
		require.NoError(t, rdb.Del(ctx, "ghl:session:s").Err())
		await(t, "L1 to notice", 2*time.Second, func() bool { return !c.Exists(ctx, "s") })
	})
	t.Run("never throws", func(t *testing.T) {
		srv.Stop()
		require.NoError(t, users.Set(ctx, "1", User{}, 0))
		require.NoError(t, users.Delete(ctx, "1"))
		_, ok := users.Get(ctx, "1")
		assert.False(t, ok)
		_, err := users.GetOrSet(ctx, "1", 0, func(context.Context) (User, error) { return User{}, nil })
		require.NoError(t, err)
		assert.False(t, n.Health(ctx).Healthy)
		srv.Restart()
	})
}
