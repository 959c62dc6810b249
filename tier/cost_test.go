package tier_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// warm puts a value into L1 and waits until it is there.
func warm(t testing.TB, c *tier.Cache[row], key string, tags ...string) {
	t.Helper()
	require.NoError(t, c.Set(context.Background(), key, row{Key: key, Version: 1}, 0, tags...))
	await(t, "L1", 5*time.Second, func() bool {
		item, err := c.Lookup(context.Background(), key)
		return err == nil && item.Tier == tier.TierL1
	})
}

// An L1 hit allocates nothing.
func TestCache_hitAllocatesNothing(t *testing.T) {
	for name, cfg := range map[string]tier.Config{"memory": {}, "redis": {URL: redistest.Start(t).URL()}} {
		t.Run(name, func(t *testing.T) {
			c := cache(t, open(t, cfg), tier.Options[row]{})
			warm(t, c, "1")
			ctx := t.Context()
			load := func(context.Context) (row, error) { return row{}, nil }
			before := c.Stats()
			// 6,400 hits make ristretto drain its read buffer a hundred times; a
			// pool that the garbage collector emptied may cost it one allocation.
			assert.Less(t, testing.AllocsPerRun(6400, func() { _, _ = c.Get(ctx, "1") }), 0.1, "Get")
			assert.Less(t, testing.AllocsPerRun(6400, func() { _, _ = c.GetOrSet(ctx, "1", 0, load) }), 0.1, "GetOrSet")
			assert.Less(t, testing.AllocsPerRun(6400, func() { _, _ = c.Lookup(ctx, "1") }), 0.1, "Lookup")
			warm(t, c, "tagged", "red", "green", "blue")
			assert.Less(t, testing.AllocsPerRun(6400, func() { _, _ = c.Get(ctx, "tagged") }), 0.1, "Get of a tagged value")
			after := c.Stats()
			assert.GreaterOrEqual(t, after.HitsL1-before.HitsL1, uint64(4*6400), "these were no hits")
		})
	}
}

// roundTrips counts what a client sends: commands and pipelines.
type roundTrips struct{ n atomic.Int64 }

func (r *roundTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *roundTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.n.Add(1)
		return next(ctx, cmd)
	}
}

func (r *roundTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.n.Add(1)
		return next(ctx, cmds)
	}
}

// Round trips on a real server: one for an L2 hit, a Set, a Delete; three for
// a miss with a load; of many keys as of one.
func TestCache_roundTrips(t *testing.T) {
	srv := redistest.Start(t)
	o := srv.Options()
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1 // else Tandem takes a copy, without hooks
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() }) // after the node
	var sent roundTrips
	client.AddHook(&sent)
	n := open(t, tier.Config{Redis: client, Heartbeat: time.Minute})
	c := cache(t, n, tier.Options[row]{Local: tier.Local{Disabled: true}})
	ctx := t.Context()
	// The first of each kind loads its script.
	require.NoError(t, c.Set(ctx, "0", row{Key: "0"}, 0))
	require.NoError(t, c.Delete(ctx, "0"))
	require.NoError(t, c.Set(ctx, "tagged", row{Key: "tagged"}, 0, "red", "blue"))
	require.NoError(t, n.InvalidateTags(ctx, "green"))
	_, err := c.GetOrSet(ctx, "kept", 0, func(context.Context) (row, error) { return row{Key: "kept"}, nil })
	require.NoError(t, err)

	many := make(map[string]row)
	for _, key := range number(400) {
		many[key] = row{Key: key}
	}
	require.NoError(t, c.SetMany(ctx, many, 0))

	const rounds = 50
	for name, tc := range map[string]struct {
		want int64
		call func(key string)
	}{
		"Set":    {1, func(k string) { require.NoError(t, c.Set(ctx, k, row{Key: k}, 0)) }},
		"Delete": {1, func(k string) { require.NoError(t, c.Delete(ctx, k)) }},
		"GetOrSet": {3, func(k string) {
			_, err := c.GetOrSet(ctx, "miss"+k, 0, newDatabase().loader(k))
			require.NoError(t, err)
		}},
		"Get":        {1, func(string) { mustGet(t, c, "kept") }},
		"Get tagged": {1, func(string) { mustGet(t, c, "tagged") }},
		"Set tagged": {1, func(k string) { require.NoError(t, c.Set(ctx, k, row{Key: k}, 0, "red", "blue")) }},
		"GetOrSet tagged": {3, func(k string) {
			_, err := c.Fetch(ctx, "tagged miss"+k, func(_ context.Context, f *tier.Fill[row]) (row, error) {
				f.Tags = []string{"red", "blue"}
				return row{}, nil
			})
			require.NoError(t, err)
		}},
		"GetMany": {1, func(string) { require.Len(t, c.GetMany(ctx, number(400)), 400) }},
		"SetMany": {1, func(string) { require.NoError(t, c.SetMany(ctx, many, 0, "red")) }},
		"GetOrSetMany": {3, func(k string) {
			keys := []string{"m1:" + k, "m2:" + k, "m3:" + k}
			_, err := c.GetOrSetMany(ctx, keys, 0, (&batch{db: newDatabase()}).load)
			require.NoError(t, err)
		}},
		"InvalidateTags": {1, func(k string) { require.NoError(t, n.InvalidateTags(ctx, "a"+k, "b"+k, "c"+k)) }},
		"Lookup":         {1, func(string) { _, err := c.Lookup(ctx, "kept"); require.NoError(t, err) }},
	} {
		t.Run(name, func(t *testing.T) {
			before := sent.n.Load()
			for i := range rounds {
				tc.call(fmt.Sprint(i))
			}
			got := sent.n.Load() - before
			assert.GreaterOrEqual(t, got, tc.want*rounds, "void: the hook counts less than there is")
			assert.Less(t, got, tc.want*rounds+10, "the background sends a few at most")
		})
	}
}

func BenchmarkCache_Get_hit(b *testing.B) {
	c := cache(b, open(b, tier.Config{URL: redistest.Start(b).URL()}), tier.Options[row]{})
	warm(b, c, "1")
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.Get(ctx, "1")
	}
}
