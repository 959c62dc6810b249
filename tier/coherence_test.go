package tier_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// eachPair runs a test on two nodes that share something: the in-process bus,
// a Redis, a cluster.
func eachPair(t *testing.T, test func(t *testing.T, a, b *tier.Cache[row])) {
	pair := func(t *testing.T, cfg tier.Config) {
		test(t, cache(t, open(t, cfg), tier.Options[row]{}), cache(t, open(t, cfg), tier.Options[row]{}))
	}
	t.Run("bus=local", func(t *testing.T) { pair(t, tier.Config{Bus: invalidation.NewLocal()}) })
	t.Run("bus=redis", func(t *testing.T) { pair(t, tier.Config{URL: redistest.Start(t).URL()}) })
	t.Run("bus=tracking", func(t *testing.T) { pair(t, tier.Config{URL: redistest.Start(t).URL(), Tracking: true}) })
	t.Run("bus=cluster", func(t *testing.T) { pair(t, tier.Config{URL: redistest.StartCluster(t).URL()}) })
}

// eachRedis runs a test on a server and on a cluster.
func eachRedis(t *testing.T, test func(t *testing.T, cfg tier.Config)) {
	t.Run("redis=server", func(t *testing.T) { test(t, tier.Config{URL: redistest.Start(t).URL()}) })
	t.Run("redis=tracking", func(t *testing.T) { test(t, tier.Config{URL: redistest.Start(t).URL(), Tracking: true}) })
	t.Run("redis=cluster", func(t *testing.T) { test(t, tier.Config{URL: redistest.StartCluster(t).URL()}) })
}

// BoundedStaleness: the other node obeys when the message arrives.
func TestBoundedStaleness_otherNodeObeysEveryChange(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		changes := map[string]func() error{
			"Set":    func() error { return a.Set(t.Context(), "k:1", row{Key: "k:1", Version: 2}, 0) },
			"Delete": func() error { return a.Delete(t.Context(), "k:1") },
			"Prefix": func() error { _, err := a.DeletePrefix(t.Context(), "k"); return err },
			"Clear":  func() error { return a.Clear(t.Context()) },
		}
		for name, change := range changes {
			require.NoError(t, b.Set(t.Context(), "k:1", row{Key: "k:1", Version: 1}, 0), name)
			await(t, "L1 of the other node", 5*time.Second, func() bool {
				item, err := b.Lookup(t.Context(), "k:1")
				return err == nil && item.Tier == tier.TierL1
			})
			require.NoError(t, change(), name)
			acked := time.Now()
			await(t, name+" to arrive", 5*time.Second, func() bool {
				v, ok := b.Get(t.Context(), "k:1")
				return !ok || v.Version != 1
			})
			t.Logf("%s: the other node obeyed within %v", name, time.Since(acked).Round(10*time.Microsecond))
		}
	})
}

// NoStaleFill: a load begun before a change on another node stores nothing.
func TestNoStaleFill_slowLoaderOfAnotherNode(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		db := newDatabase()
		for i, change := range []func(k string) error{
			func(k string) error { return a.Delete(t.Context(), k) },
			func(k string) error { return a.Set(t.Context(), k, row{Key: k, Version: db.write(k).Version}, 0) },
			func(k string) error { _, err := a.DeletePrefix(t.Context(), k); return err },
			func(string) error { return a.Clear(t.Context()) },
		} {
			k := fmt.Sprint("key", i)
			db.write(k)
			read, release := make(chan struct{}), make(chan struct{})
			done := make(chan row)
			go func() {
				v, _ := b.GetOrSet(context.Background(), k, 0, func(context.Context) (row, error) {
					v := db.read(k)
					close(read)
					<-release
					return v, nil
				})
				done <- v
			}()
			<-read
			newest := db.write(k).Version
			require.NoError(t, change(k))
			close(release)
			assert.Less(t, (<-done).Version, newest, "the loader read the old value")
			await(t, "message", 5*time.Second, func() bool {
				v, err := b.GetOrSet(t.Context(), k, 0, db.loader(k))
				require.NoError(t, err)
				return v.Version >= newest
			})
			for _, c := range []*tier.Cache[row]{a, b} {
				v, err := c.GetOrSet(t.Context(), k, 0, db.loader(k))
				require.NoError(t, err)
				assert.GreaterOrEqual(t, v.Version, newest, "change %d: a stale fill", i)
			}
		}
	})
}

// OneLoad: while a node loads, the other waits for its result.
func TestOneLoad_acrossNodes(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	b := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	db := newDatabase()
	db.write("1")
	read, release := make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = a.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) {
			close(read)
			<-release
			return db.read("1"), nil
		})
	}()
	<-read
	done := make(chan row)
	go func() {
		v, err := b.GetOrSet(context.Background(), "1", 0, db.loader("1"))
		assert.NoError(t, err)
		done <- v
	}()
	await(t, "the second to miss", 5*time.Second, func() bool { return b.Stats().Misses == 1 })
	// Longer than a lease: the holder must renew it.
	select {
	case <-done:
		require.Fail(t, "the second did not wait")
	case <-time.After(3 * time.Second):
	}
	close(release)
	assert.EqualValues(t, 1, (<-done).Version)
	assert.Equal(t, 1, db.loadsOf("1"))
}

// An orphaned lease ends with its time and is no error.
func TestOneLoad_orphanedLease(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	b := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	read := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = a.GetOrSet(ctx, "1", 0, func(ctx context.Context) (row, error) {
			close(read)
			<-ctx.Done()
			return row{}, ctx.Err()
		})
	}()
	<-read
	// Make the lease an orphan: its owner's renewals find another token.
	srv.Do("SETRANGE", "tandem:row:1", 22, "another process.")
	took := timed(func() {
		v, err := b.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{Version: 5}, nil })
		require.NoError(t, err)
		assert.EqualValues(t, 5, v.Version)
	})
	assert.Less(t, took, 4*time.Second)
	assert.EqualValues(t, 5, func() int64 { v, _ := b.Get(t.Context(), "1"); return v.Version }())
}

// Hold: after a Delete nothing is stored for as long.
func TestHold_refusesFills(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c, err := tier.New(open(t, cfg), "held", tier.Options[row]{Hold: time.Minute})
		require.NoError(t, err)
		db := newDatabase()
		require.NoError(t, c.Delete(t.Context(), "1"))
		for range 3 {
			_, err := c.GetOrSet(t.Context(), "1", 0, db.loader("1"))
			require.NoError(t, err)
		}
		assert.Equal(t, 3, db.loadsOf("1"))
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0), "a Set is no fill")
		mustGet(t, c, "1")
	})
}

// The row "subscription cut or silent": L1 is not trusted past its lease, and
// what changed meanwhile is not served.
func TestBoundedStaleness_subscriptionKilled(t *testing.T) {
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	nb := open(t, tier.Config{URL: srv.URL()})
	b := cache(t, nb, tier.Options[row]{})
	for round := range 20 {
		k := fmt.Sprint(round)
		require.NoError(t, b.Set(t.Context(), k, row{Key: k, Version: 1}, 0))
		srv.Do("CLIENT", "KILL", "TYPE", "pubsub")
		require.NoError(t, a.Set(t.Context(), k, row{Key: k, Version: 2}, 0))
		acked := time.Now()
		await(t, "the change to arrive", nb.Stats().MaxStaleness+slack, func() bool {
			return mustGet(t, b, k) == 2
		})
		assert.Less(t, time.Since(acked), nb.Stats().MaxStaleness+slack)
	}
	assert.NotZero(t, nb.Stats().Bus.Gaps)
}
