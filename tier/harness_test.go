package tier_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row is what the tests cache: a version of a record of the fake database.
type row struct {
	Key     string
	Version int64
	Pad     string
}

// database is a source of truth that counts its reads. Its versions only grow.
type database struct {
	mu    sync.Mutex
	rows  map[string]int64
	loads map[string]int
}

func newDatabase() *database {
	return &database{rows: make(map[string]int64), loads: make(map[string]int)}
}

// write commits a new version of key and returns it.
func (d *database) write(key string) row {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[key]++
	return row{Key: key, Version: d.rows[key]}
}

// read returns the version of key as a loader would.
func (d *database) read(key string) row {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.loads[key]++
	return row{Key: key, Version: d.rows[key]}
}

func (d *database) loader(key string) func(context.Context) (row, error) {
	return func(context.Context) (row, error) { return d.read(key), nil }
}

func (d *database) loadsOf(key string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.loads[key]
}

// open starts a node that the test ends.
func open(t testing.TB, cfg tier.Config) *tier.Node {
	t.Helper()
	n, err := tier.Open(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// cache opens a cache of rows.
func cache(t testing.TB, n *tier.Node, opts tier.Options[row]) *tier.Cache[row] {
	t.Helper()
	c, err := tier.New(n, "row", opts)
	require.NoError(t, err)
	return c
}

// eachStore runs a test on a node without Redis and on one with.
func eachStore(t *testing.T, test func(t *testing.T, cfg tier.Config)) {
	t.Run("store=memory", func(t *testing.T) { test(t, tier.Config{}) })
	t.Run("store=redis", func(t *testing.T) {
		srv := redistest.Start(t)
		test(t, tier.Config{URL: srv.URL(), Prefix: "test"})
	})
}

// mustGet reads a value that must be there, and returns its version.
func mustGet(t testing.TB, c *tier.Cache[row], key string) int64 {
	t.Helper()
	v, ok := c.Get(t.Context(), key)
	require.True(t, ok, "no value under %q", key)
	require.Equal(t, key, v.Key)
	return v.Version
}

func mustMiss(t testing.TB, c *tier.Cache[row], key string) {
	t.Helper()
	v, ok := c.Get(t.Context(), key)
	require.False(t, ok, "a value under %q: %+v", key, v)
}

// await polls a condition of something that runs on its own.
func await(t testing.TB, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			require.Fail(t, "not in time: "+what, "after %v", limit)
		case <-tick.C:
		}
	}
}

// commit returns what Update runs: a write of the next version.
func (d *database) commit(key string) func(context.Context) (row, error) {
	return func(context.Context) (row, error) { return d.write(key), nil }
}

// version returns the version of key in the database, without counting a load.
func (d *database) version(key string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rows[key]
}

// loaded makes both tiers of c hold the present version of key.
func loaded(t testing.TB, c *tier.Cache[row], db *database, key string) {
	t.Helper()
	await(t, "L1 to hold "+key, 10*time.Second, func() bool {
		_, err := c.GetOrSet(t.Context(), key, 0, db.loader(key))
		require.NoError(t, err)
		item, err := c.Lookup(t.Context(), key)
		return err == nil && item.Tier == tier.TierL1
	})
}

// mustLoad reads through c and wants the version of the database, from a loader.
func mustLoad(t testing.TB, c *tier.Cache[row], db *database, key string) {
	t.Helper()
	before := db.loadsOf(key)
	v, err := c.GetOrSet(t.Context(), key, 0, db.loader(key))
	require.NoError(t, err)
	require.Equal(t, db.version(key), v.Version)
	require.Equal(t, before+1, db.loadsOf(key), "not loaded, but cached")
}

// reader reads "1" through a cache.
type reader func(c *tier.Cache[row], load func(context.Context) (row, error)) (row, error)

// eachRead runs a test on GetOrSet and on GetOrSetMany.
func eachRead(t *testing.T, test func(t *testing.T, read reader)) {
	t.Run("single", func(t *testing.T) {
		t.Parallel()
		test(t, func(c *tier.Cache[row], load func(context.Context) (row, error)) (row, error) {
			return c.GetOrSet(context.Background(), "1", 0, load)
		})
	})
	t.Run("batch", func(t *testing.T) {
		t.Parallel()
		test(t, func(c *tier.Cache[row], load func(context.Context) (row, error)) (row, error) {
			got, err := c.GetOrSetMany(context.Background(), []string{"1"}, 0, func(ctx context.Context, _ []string) (map[string]row, error) {
				v, err := load(ctx)
				return map[string]row{"1": v}, err
			})
			return got["1"], err
		})
	})
}
