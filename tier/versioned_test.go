package tier_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// setVersioned stores a row under its own version.
func setVersioned(t testing.TB, c *tier.Cache[row], key string, version int64) {
	t.Helper()
	require.NoError(t, c.SetVersioned(t.Context(), key, row{Key: key, Version: version}, uint64(version), 0))
}

// mustBecome waits until c serves version of key, 0 for nothing.
func mustBecome(t testing.TB, c *tier.Cache[row], key string, version int64) {
	t.Helper()
	await(t, key+" to be obeyed", 5*time.Second, func() bool {
		v, ok := c.Get(t.Context(), key)
		return ok == (version != 0) && v.Version == version
	})
}

func TestSetVersioned_newestStaysInAnyOrder(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, cfg tier.Config) {
		a, b := cache(t, open(t, cfg), tier.Options[row]{}), cache(t, open(t, cfg), tier.Options[row]{})
		setVersioned(t, a, "1", 5)
		mustBecome(t, b, "1", 5)
		setVersioned(t, b, "1", 7)
		assert.EqualValues(t, 7, mustGet(t, b, "1"))
		mustBecome(t, a, "1", 7)
		setVersioned(t, a, "1", 7) // an equal one replaces
		assert.EqualValues(t, 7, mustGet(t, a, "1"))

		// An older one stores nothing, and shows that somebody works with what is
		// old: the key is empty on all nodes, and the newer version stays known.
		setVersioned(t, a, "1", 6)
		mustMiss(t, a, "1")
		mustBecome(t, b, "1", 0)
		setVersioned(t, b, "1", 6)
		mustMiss(t, b, "1")
		setVersioned(t, b, "1", 8)
		assert.EqualValues(t, 8, mustGet(t, b, "1"))
		mustBecome(t, a, "1", 8)

		// A load keeps the version known.
		require.NoError(t, a.Delete(t.Context(), "1"))
		db := newDatabase()
		loaded(t, a, db, "1")
		setVersioned(t, b, "1", 7)
		mustMiss(t, b, "1")
		mustBecome(t, a, "1", 0)
	})
}

func TestDeleteVersioned_keepsOlderWritesOut(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		setVersioned(t, a, "1", 5)
		require.NoError(t, a.DeleteVersioned(t.Context(), "1", 6))
		mustMiss(t, a, "1")
		mustBecome(t, b, "1", 0)
		setVersioned(t, b, "1", 5)
		mustMiss(t, b, "1")
		setVersioned(t, b, "1", 7)
		require.NoError(t, a.DeleteVersioned(t.Context(), "1", 6))
		assert.EqualValues(t, 7, mustGet(t, b, "1"), "newer than what was deleted")
		require.NoError(t, b.SetVersioned(t.Context(), "1", row{}, 8, -5), "a negative ttl deletes")
		mustMiss(t, b, "1")
		setVersioned(t, b, "1", 7)
		mustMiss(t, b, "1")
	})
}

// A tombstone lives for the longer of the TTL and an hour.
func TestDeleteVersioned_tombstone(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	for name, tc := range map[string]struct{ ttl, want time.Duration }{
		"short": {time.Minute, time.Hour}, "long": {3 * time.Hour, 3 * time.Hour}, "never": {tier.NoExpiry, tier.TTLDay},
	} {
		c, err := tier.New(n, name, tier.Options[row]{TTL: tc.ttl})
		require.NoError(t, err)
		require.NoError(t, c.DeleteVersioned(t.Context(), "1", 4))
		assert.InDelta(t, tc.want.Milliseconds(), srv.Do("PTTL", "tandem:"+name+":1"), 60_000, name)
	}
}

func TestSetVersioned_badInput(t *testing.T) {
	n := open(t, tier.Config{})
	c := cache(t, n, tier.Options[row]{})
	require.ErrorContains(t, c.SetVersioned(t.Context(), "1", row{}, 0, 0), "version is 0")
	require.ErrorContains(t, c.DeleteVersioned(t.Context(), "1", 0), "version is 0")
	require.ErrorIs(t, c.SetVersioned(t.Context(), "", row{}, 1, 0), tier.ErrKey)
	require.ErrorIs(t, c.DeleteVersioned(t.Context(), "", 1), tier.ErrKey)
	require.ErrorContains(t, c.SetVersioned(t.Context(), "1", row{}, 1, time.Microsecond), "ttl")

	// What does not fit deletes what is older than it, and keeps its version.
	small, err := tier.New(n, "small", tier.Options[row]{MaxValueBytes: 100})
	require.NoError(t, err)
	setVersioned(t, small, "1", 3)
	err = small.SetVersioned(t.Context(), "1", row{Pad: strings.Repeat("x", 200)}, 4, 0)
	require.ErrorIs(t, err, tier.ErrTooLarge)
	mustMiss(t, small, "1")
	setVersioned(t, small, "1", 3)
	mustMiss(t, small, "1")
}

// NothingForgotten: the deletion that is owed for a versioned write carries its
// version. It spares what is newer and keeps out what is older; the one of a plain
// Delete of the same key does not.
func TestNothingForgotten_replaysCarryTheVersion(t *testing.T) {
	srv := redistest.Start(t, redistest.WithPersistence())
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), Strict: true})
	a, b := cache(t, n, tier.Options[row]{}), cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	for _, k := range []string{"newer", "older", "deleted", "plain"} {
		setVersioned(t, a, k, 5)
	}
	proxy.Refuse()
	proxy.Cut(redistest.All)
	set := func(k string, version uint64) error {
		return a.SetVersioned(t.Context(), k, row{Key: k, Version: int64(version)}, version, 0)
	}
	require.ErrorIs(t, set("newer", 6), tier.ErrUnavailable)
	require.ErrorIs(t, set("older", 6), tier.ErrUnavailable)
	require.ErrorIs(t, a.DeleteVersioned(t.Context(), "deleted", 6), tier.ErrUnavailable)
	require.ErrorIs(t, set("plain", 6), tier.ErrUnavailable)
	require.ErrorIs(t, a.Delete(t.Context(), "plain"), tier.ErrUnavailable)
	setVersioned(t, b, "newer", 7)
	setVersioned(t, b, "plain", 7)
	proxy.Accept()
	await(t, "the journal to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	mustBecome(t, a, "newer", 7)
	for _, k := range []string{"older", "deleted", "plain"} {
		mustBecome(t, a, k, 0)
	}
	for _, k := range []string{"older", "deleted"} {
		setVersioned(t, b, k, 5)
		mustMiss(t, b, k)
		setVersioned(t, b, k, 6)
		assert.EqualValues(t, 6, mustGet(t, b, k))
	}
}

func TestExpire_reloadsOnEveryNode(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		db := newDatabase()
		for _, k := range []string{"1", "2"} {
			db.write(k)
			loaded(t, a, db, k)
			loaded(t, b, db, k)
		}
		release := make(chan struct{})
		read := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err := b.GetOrSet(context.Background(), "slow", 0, func(context.Context) (row, error) {
				v := db.read("slow")
				close(read)
				<-release
				return v, nil
			})
			assert.NoError(t, err)
		}()
		<-read
		for _, k := range []string{"1", "2", "slow"} {
			db.write(k)
		}
		require.NoError(t, a.Expire(t.Context(), "1", "2", "slow"))
		close(release)
		<-done
		for _, k := range []string{"1", "2", "slow"} {
			mustMiss(t, a, k)
			mustBecome(t, b, k, 0)
			v, err := a.GetOrSet(t.Context(), k, 0, db.loader(k))
			require.NoError(t, err)
			require.Equal(t, db.version(k), v.Version)
			mustGet(t, a, k)
		}
		require.ErrorIs(t, a.Expire(t.Context(), "1", ""), tier.ErrKey)
		mustMiss(t, a, "1")
	})
}

// Expire leaves the value where a failed load can fall back on it; what Redis
// did not confirm is owed as a deletion.
func TestExpire_isSoftUnlessItIsOwed(t *testing.T) {
	srv := redistest.Start(t, redistest.WithPersistence())
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
	require.NoError(t, c.Expire(t.Context(), "1"))
	assert.EqualValues(t, 1, srv.Do("EXISTS", "tandem:row:1"))
	mustMiss(t, c, "1")
	srv.Stop()
	require.NoError(t, c.Expire(t.Context(), "1"))
	mustMiss(t, c, "1")
	srv.Restart()
	await(t, "the journal to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	assert.EqualValues(t, 0, srv.Do("EXISTS", "tandem:row:1"))
}
