package tier_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// soonDue are options whose values are due two seconds after they were stored,
// and fresh for long after that.
func soonDue() tier.Options[row] {
	return tier.Options[row]{TTL: 40 * time.Second, RefreshAt: 0.05, Jitter: -1}
}

// OneLoad: a herd on two nodes that finds a value due loads it once, whether the
// refresh changes it or not.
func TestRefreshAt_oneLoadInTheFleet(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]int64{"changed": 1, "same": 0} {
		t.Run(name, func(t *testing.T) {
			srv := redistest.Start(t)
			caches := []*tier.Cache[row]{
				cache(t, open(t, tier.Config{URL: srv.URL()}), soonDue()),
				cache(t, open(t, tier.Config{URL: srv.URL()}), soonDue()),
			}
			var loads atomic.Int64
			load := func(ctx context.Context) (row, error) {
				n := loads.Add(1)
				return slow("1", 1+step*(n-1), 300*time.Millisecond)(ctx)
			}
			require.EqualValues(t, 1, fetchVersion(t, caches[0], "1", load))
			require.EqualValues(t, 1, fetchVersion(t, caches[1], "1", load))
			<-time.After(2 * time.Second)
			asked := srv.Calls("getrange", "evalsha")

			ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
			defer cancel()
			var reads atomic.Int64
			var herd sync.WaitGroup
			for i := range 16 {
				herd.Go(func() {
					for ctx.Err() == nil {
						_, err := caches[i%2].GetOrSet(context.Background(), "1", 0, load)
						assert.NoError(t, err)
						reads.Add(1)
						<-time.After(time.Millisecond)
					}
				})
			}
			herd.Wait()
			require.EqualValues(t, 2, loads.Load(), "of %d reads", reads.Load())
			require.Greater(t, reads.Load(), int64(200), "void: no herd")
			require.Less(t, srv.Calls("getrange", "evalsha")-asked, int64(60), "the herd asks L1")
			for i, c := range caches {
				require.EqualValues(t, 1+step, mustGet(t, c, "1"), "node %d", i)
			}
		})
	}
}

// Rule 14: the lease of a refresh lengthens the record's time in Redis, so that
// the fill finds it, and not its life.
func TestRefreshAt_leaseOutlastsTheValue(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	c := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{TTL: time.Second, RefreshAt: 0.1, Jitter: -1})
	require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
	release, read := make(chan struct{}), make(chan struct{})
	var once sync.Once
	await(t, "a refresh", 10*time.Second, func() bool {
		fetchVersion(t, c, "1", func(context.Context) (row, error) {
			once.Do(func() { close(read) })
			<-release
			return row{Key: "1", Version: 2}, nil
		})
		select {
		case <-read:
			return true
		default:
			return false
		}
	})
	assert.Greater(t, pttl(srv, "1"), int64(1200), "longer than the value had left")
	await(t, "the end of the value", 10*time.Second, func() bool { return !c.Exists(t.Context(), "1") })
	assert.Positive(t, pttl(srv, "1"), "the lease keeps the record")
	close(release)
	await(t, "the new value", 10*time.Second, func() bool {
		v, ok := c.Get(t.Context(), "1")
		return ok && v.Version == 2
	})
	require.EqualValues(t, 2, c.Stats().Loads)
}

// A refresh looks at L2 first: what is gone there is not loaded for nobody.
func TestRefreshAt_goneFromRedis(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, soonDue())
	require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
	srv.Do("DEL", "tandem:row:1")
	asked := srv.Calls("getrange")
	<-time.After(2 * time.Second)
	await(t, "a refresh", 10*time.Second, func() bool {
		require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 2, 0)), "L1 does not know")
		return srv.Calls("getrange") > asked && n.Stats().Background.Running == 0
	})
	require.EqualValues(t, 1, c.Stats().Loads)
	require.EqualValues(t, -2, pttl(srv, "1"))
}

// Without Redis nothing is refreshed: it could not be stored.
func TestRefreshAt_withoutRedis(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, soonDue())
	require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
	srv.Stop()
	openBreaker(t, n, c)
	<-time.After(2 * time.Second)
	for range 100 {
		require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 2, 0)))
	}
	await(t, "the background", 5*time.Second, func() bool { return n.Stats().Background.Running == 0 })
	require.EqualValues(t, 1, c.Stats().Loads)
}

// A refresh that changed the value, and does not learn that it did, leaves this
// node with what the others have: the new value, not its old one.
func TestRefreshAt_unknownOutcome(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), Heartbeat: time.Minute})
	c := cache(t, n, soonDue())
	require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
	<-time.After(2 * time.Second)
	fill := proxy.DropReply(func(cmd redistest.Command) bool {
		return cmd.Name() == "evalsha" && slices.ContainsFunc(cmd, func(arg string) bool { return strings.Contains(arg, "\xa4Tdm") })
	})
	defer fill.Release()
	await(t, "the refresh", 10*time.Second, func() bool {
		fetchVersion(t, c, "1", slow("1", 2, 0))
		return c.Stats().FillsRefused == 1
	})
	await(t, "the new value", 10*time.Second, func() bool {
		v, ok := c.Get(t.Context(), "1")
		return ok && v.Version == 2
	})
	require.EqualValues(t, 2, c.Stats().Loads)
}

// A loader that hangs in the background holds nothing up, and Close waits for it
// no longer than for others.
func TestRefreshAt_hungLoader(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	opts := soonDue()
	opts.LoadTimeout = 200 * time.Millisecond
	c := cache(t, n, opts)
	require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
	<-time.After(2 * time.Second)
	hang, ended := make(chan struct{}), make(chan struct{}, 64)
	await(t, "the refresh to begin", 10*time.Second, func() bool {
		fetchVersion(t, c, "1", func(context.Context) (row, error) {
			<-hang // ignores its context
			ended <- struct{}{}
			return row{Key: "1", Version: 9}, nil
		})
		return c.Stats().Loads > 1
	})
	require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 2, 0)), "the value serves on")
	assert.Less(t, timed(func() { require.NoError(t, n.Close()) }), 2*time.Second+4*slack)
	close(hang)
	for range c.Stats().Loads - 1 {
		<-ended
	}
}
