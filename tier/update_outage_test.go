package tier_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// scriptOn matches the next script that runs on a key of the cache row.
func scriptOn(key string) func(redistest.Command) bool {
	return func(c redistest.Command) bool {
		return slices.Contains([]string{"eval", "evalsha"}, c.Name()) && len(c) > 3 && c[3] == "tandem:row:"+key
	}
}

// brokenPair is a node whose way to Redis can be broken, and one whose way cannot.
// Both hold version 1 of the key "1" in L1, and the server writes to disk.
func brokenPair(t *testing.T, strict bool) (srv *redistest.Server, proxy *redistest.Proxy, na *tier.Node, a, b *tier.Cache[row], db *database) {
	srv = redistest.Start(t, redistest.WithPersistence())
	proxy = redistest.NewProxy(t, srv)
	na = open(t, tier.Config{URL: proxy.URL(), Strict: strict})
	a, b = cache(t, na, tier.Options[row]{}), cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	// A script that the server does not know yet would not run late, but fail.
	_, err := b.Update(t.Context(), "scripts", 0, func(context.Context) (row, error) { return row{}, nil })
	require.NoError(t, err)
	require.NoError(t, b.Set(t.Context(), "scripts", row{}, 0))
	require.NoError(t, b.Delete(t.Context(), "scripts"))
	db = newDatabase()
	db.write("1")
	loaded(t, a, db, "1")
	loaded(t, b, db, "1")
	return srv, proxy, na, a, b, db
}

func sever(p *redistest.Proxy) {
	p.Refuse()
	p.Cut(redistest.All)
}

// settles waits until nothing is owed, and wants both nodes to agree with the
// database then, and to cache again.
func settles(t *testing.T, n *tier.Node, a, b *tier.Cache[row], db *database) {
	t.Helper()
	await(t, "the journal to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	for _, c := range []*tier.Cache[row]{a, b} {
		await(t, "the cache to agree with the database", 5*time.Second, func() bool {
			v, err := c.GetOrSet(t.Context(), "1", 0, db.loader("1"))
			require.NoError(t, err)
			return v.Version == db.version("1")
		})
	}
	for _, c := range []*tier.Cache[row]{a, b} {
		await(t, "the key to be cached", 10*time.Second, func() bool {
			v, ok := c.Get(t.Context(), "1")
			if !ok {
				_, err := c.GetOrSet(t.Context(), "1", 0, db.loader("1"))
				require.NoError(t, err)
				return false
			}
			require.Equal(t, db.version("1"), v.Version)
			return true
		})
	}
}

// OrderedUpdate: a process that dies between the commit and the end leaves the key
// empty, never stale, in L2 and in every L1, and the key is cached again when the
// placeholder has ended.
func TestOrderedUpdate_crash(t *testing.T) {
	t.Parallel()
	_, proxy, na, a, b, db := brokenPair(t, false)
	_, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		await(t, "the other node to drop its value", 5*time.Second, func() bool {
			_, ok := b.Get(t.Context(), "1")
			return !ok
		})
		defer sever(proxy)
		return db.write("1"), nil
	})
	require.NoError(t, err)
	require.NoError(t, na.Close()) // what it owes dies with it
	crashed := time.Now()
	await(t, "the key to be cached again", 15*time.Second, func() bool {
		v, err := b.GetOrSet(t.Context(), "1", 0, db.loader("1"))
		require.NoError(t, err)
		require.EqualValues(t, 2, v.Version, "stale")
		v, ok := b.Get(t.Context(), "1")
		require.True(t, !ok || v.Version == 2, "stale")
		return ok
	})
	t.Logf("empty for %v", time.Since(crashed).Round(time.Millisecond))
	assert.Greater(t, time.Since(crashed), time.Second, "void: nothing stood in the way of a fill")
	assert.EqualValues(t, 2, mustGet(t, b, "1"))
}

// NothingForgotten: without Redis commit runs all the same. From before commit
// this node serves the key from neither tier.
func TestUpdate_withoutRedis(t *testing.T) {
	_, proxy, na, a, b, db := brokenPair(t, true)
	sever(proxy)
	v, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		assert.Equal(t, 1, na.Stats().Journal.Owed, "owed before commit")
		mustMiss(t, a, "1")
		mustLoad(t, a, db, "1")
		v := db.write("1")
		mustLoad(t, a, db, "1")
		return v, nil
	})
	require.ErrorIs(t, err, tier.ErrUnavailable, "Strict")
	assert.EqualValues(t, 2, v.Version, "the database has changed")
	mustMiss(t, a, "1")
	for range 2 {
		mustLoad(t, a, db, "1")
	}
	proxy.Accept()
	settles(t, na, a, b, db)
}

// Redis comes back while commit runs: the debt is paid, the old value may be
// cached again, and the end of the bracket must still remove it.
func TestUpdate_redisComesBackDuringCommit(t *testing.T) {
	_, proxy, na, a, b, db := brokenPair(t, true)
	sever(proxy)
	v, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		proxy.Accept()
		settles(t, na, a, b, db)
		return db.write("1"), nil
	})
	require.NoError(t, err)
	assert.EqualValues(t, 2, v.Version)
	mustLoad(t, a, db, "1")
	settles(t, na, a, b, db)
}

func TestUpdate_redisGoesDuringCommit(t *testing.T) {
	t.Parallel()
	_, proxy, na, a, b, db := brokenPair(t, true)
	v, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		sever(proxy)
		return db.write("1"), nil
	})
	require.ErrorIs(t, err, tier.ErrUnavailable)
	assert.EqualValues(t, 2, v.Version)
	mustMiss(t, a, "1")
	mustLoad(t, a, db, "1")
	mustBecome(t, b, "1", 0)
	// The placeholder stands: the other node stores nothing.
	mustLoad(t, b, db, "1")
	mustLoad(t, b, db, "1")
	proxy.Accept()
	settles(t, na, a, b, db)
}

// A placeholder that cannot be kept ends commit's context.
func TestUpdate_bracketLost(t *testing.T) {
	t.Parallel()
	srv, proxy, na, a, b, db := brokenPair(t, false)
	for name, lose := range map[string]func(){
		"redis is away": func() { sever(proxy) },
		"redis hangs":   srv.Freeze,
		"flushed":       func() { srv.Do("FLUSHALL") },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Update(t.Context(), "1", 0, func(ctx context.Context) (row, error) {
				lose()
				took := timed(func() { <-ctx.Done() })
				assert.Less(t, took, 9*time.Second, "only LoadTimeout ended it")
				db.write("1") // and still it was too late to stop
				return row{}, ctx.Err()
			})
			require.ErrorIs(t, err, tier.ErrUnavailable)
			require.ErrorIs(t, err, context.Canceled)
			if name == "redis hangs" {
				srv.Thaw()
			}
			proxy.Accept()
			mustLoad(t, a, db, "1")
			settles(t, na, a, b, db)
		})
	}
}

// The reply to the beginning is lost: whether the placeholder stands is not
// known, so nothing is stored in its place.
func TestUpdate_beginUnknown(t *testing.T) {
	_, proxy, na, a, b, db := brokenPair(t, true)
	rule := proxy.DropReply(scriptOn("1"))
	_, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		rule.Wait()
		assert.Equal(t, 1, na.Stats().Journal.Owed)
		return db.write("1"), nil
	})
	require.NoError(t, err, "the end was confirmed")
	mustMiss(t, a, "1")
	mustLoad(t, a, db, "1")
	settles(t, na, a, b, db)
}

// A beginning that arrives late, after another node's whole Update, is no bracket
// around its commit: what it committed first must not be stored last.
func TestOrderedUpdate_lateBegin(t *testing.T) {
	_, proxy, na, a, b, db := brokenPair(t, true)
	rule := proxy.Hold(scriptOn("1"))
	_, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		v := db.write("1")
		_, err := b.Update(t.Context(), "1", 0, db.commit("1"))
		require.NoError(t, err)
		rule.Wait()
		rule.Release()
		await(t, "the late beginning", 5*time.Second, func() bool {
			_, ok := b.Get(t.Context(), "1")
			return !ok
		})
		return v, nil
	})
	require.NoError(t, err)
	mustLoad(t, a, db, "1")
	settles(t, na, a, b, db)
}

// A beginning that arrives when all is over bars the key for its time, no more.
func TestUpdate_orphanedBegin(t *testing.T) {
	t.Parallel()
	_, proxy, na, a, b, db := brokenPair(t, true)
	rule := proxy.Hold(scriptOn("1"))
	_, err := a.Update(t.Context(), "1", 0, db.commit("1"))
	require.NoError(t, err)
	settles(t, na, a, b, db)
	rule.Release()
	await(t, "the late beginning", 5*time.Second, func() bool {
		_, ok := b.Get(t.Context(), "1")
		return !ok
	})
	settles(t, na, a, b, db)
}

// The reply to the end is lost: the key is owed, and deleted in the end.
func TestUpdate_endUnknown(t *testing.T) {
	_, proxy, na, a, b, db := brokenPair(t, true)
	var rule *redistest.Rule
	v, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		rule = proxy.DropReply(scriptOn("1"))
		return db.write("1"), nil
	})
	rule.Wait()
	require.ErrorIs(t, err, tier.ErrUnavailable)
	assert.EqualValues(t, 2, v.Version)
	mustLoad(t, a, db, "1")
	settles(t, na, a, b, db)
}

// An end that arrives late, after another node's whole Update, stores nothing.
func TestOrderedUpdate_lateEnd(t *testing.T) {
	_, proxy, na, a, b, db := brokenPair(t, true)
	var rule *redistest.Rule
	_, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		rule = proxy.Hold(scriptOn("1"))
		return db.write("1"), nil
	})
	rule.Wait()
	require.ErrorIs(t, err, tier.ErrUnavailable)
	_, err = b.Update(t.Context(), "1", 0, db.commit("1"))
	require.NoError(t, err)
	rule.Release()
	settles(t, na, a, b, db)
}

// What a read of this node found before the placeholder was there does not serve
// here while commit runs.
func TestUpdate_readFromBeforeThePlaceholder(t *testing.T) {
	_, proxy, _, _, b, db := brokenPair(t, true)
	n := open(t, tier.Config{URL: proxy.URL(), Timeout: 3 * time.Second})
	c := cache(t, n, tier.Options[row]{})
	loaded(t, c, db, "1")
	rule := proxy.Hold(scriptOn("1"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := c.Update(context.Background(), "1", 0, func(ctx context.Context) (row, error) {
			v := db.write("1")
			_, ok := c.Get(ctx, "1")
			assert.False(t, ok, "the old value from L1")
			return v, nil
		})
		assert.NoError(t, err)
	}()
	rule.Wait()
	loaded(t, c, db, "1") // from L2, where the old value still is
	rule.Release()
	<-done
	assert.EqualValues(t, 2, mustGet(t, c, "1"))
	mustBecome(t, b, "1", 2)
}

// Another node changes the key after the end of the bracket was stored and before
// its reply is here: the older value must not enter L1.
func TestOrderedUpdate_overtakenReply(t *testing.T) {
	_, proxy, _, _, b, db := brokenPair(t, true)
	n := open(t, tier.Config{URL: proxy.URL(), Timeout: 3 * time.Second})
	c := cache(t, n, tier.Options[row]{})
	loaded(t, c, db, "1") // so that L1 takes the next value at once
	overtaken := make(chan struct{})
	_, err := c.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
		received := n.Stats().Bus.Received
		proxy.Freeze(redistest.Commands, redistest.ToClient)
		go func() {
			defer close(overtaken)
			defer proxy.Thaw(redistest.Commands)
			stored := func() bool { v, ok := b.Get(context.Background(), "1"); return ok && v.Version == 2 }
			if !assert.Eventually(t, stored, 2*time.Second, time.Millisecond) {
				return
			}
			assert.NoError(t, b.Set(context.Background(), "1", db.write("1"), 0))
			heard := func() bool { return n.Stats().Bus.Received > received }
			assert.Eventually(t, heard, 2*time.Second, time.Millisecond)
		}()
		return db.write("1"), nil
	})
	require.NoError(t, err)
	<-overtaken
	for range 100 {
		require.EqualValues(t, 3, mustGet(t, c, "1"))
	}
}
