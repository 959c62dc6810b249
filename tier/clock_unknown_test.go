package tier_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// openUntimed opens a node whose first look at Redis gets no answer, and that
// does not look again for long. What it asks Redis for is answered.
func openUntimed(t *testing.T, srv *redistest.Server) *tier.Node {
	t.Helper()
	proxy := redistest.NewProxy(t, srv)
	lost := proxy.DropReply(redistest.Named("time"))
	n := open(t, tier.Config{URL: proxy.URL(), Strict: true, Heartbeat: time.Minute, Timeout: 500 * time.Millisecond})
	lost.Wait()
	return n
}

// A node that was not told the time of Redis keeps a value for
// its TTL all the same, in L1 too.
func TestTTL_beforeTheClockIsKnown(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{Jitter: -1})
	n := openUntimed(t, srv)
	b := cache(t, n, tier.Options[row]{Jitter: -1})
	const ttl = 3 * time.Second
	require.NoError(t, a.Set(t.Context(), "k", row{Key: "k", Version: 1}, ttl))
	stored := time.Now()
	await(t, "L1 to hold the value", ttl, func() bool {
		item, err := b.Lookup(t.Context(), "k")
		return err == nil && item.Tier == tier.TierL1
	})
	item, err := b.Lookup(t.Context(), "k")
	require.NoError(t, err)
	assert.LessOrEqual(t, item.Age, time.Since(stored)+time.Second)
	await(t, "the end of the TTL", 10*time.Second, func() bool { return !b.Exists(t.Context(), "k") })
	assert.InDelta(t, ttl, time.Since(stored), float64(2*time.Second))
}

// A write that was confirmed is what others read, whether or not the node that
// made it had been told the time of Redis.
func TestSet_beforeTheClockIsKnown(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	writes := map[string]func(c *tier.Cache[row]) error{
		"Set": func(c *tier.Cache[row]) error { return c.Set(t.Context(), "Set", row{Key: "Set"}, 0) },
		"SetMany": func(c *tier.Cache[row]) error {
			return c.SetMany(t.Context(), map[string]row{"SetMany": {Key: "SetMany"}}, 0)
		},
		"Update": func(c *tier.Cache[row]) error {
			_, err := c.Update(t.Context(), "Update", 0, newDatabase().commit("Update"))
			return err
		},
	}
	for key, write := range writes {
		require.NoError(t, write(cache(t, openUntimed(t, srv), tier.Options[row]{})), key)
		mustGet(t, a, key)
	}
}
