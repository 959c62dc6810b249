package tier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// paid waits until n owes nothing, and returns how long that took.
func paid(t testing.TB, n *tier.Node) time.Duration {
	t.Helper()
	return timed(func() {
		await(t, "the journal to be paid", 20*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	})
}

// NothingForgotten: a hundred thousand deletions that fail take the memory of
// MaxPending; nothing of what they concern is served, then or later.
func TestNothingForgotten_manyMoreThanThereIsRoomFor(t *testing.T) {
	t.Parallel()
	const changes, limit = 100_000, 1000
	srv := redistest.Start(t, redistest.WithPersistence())
	n := open(t, tier.Config{URL: srv.URL(), MaxPending: limit})
	c := cache(t, n, tier.Options[row]{})
	other, err := tier.New(n, "other", tier.Options[row]{})
	require.NoError(t, err)
	for _, k := range []string{"1", "99999", "untouched"} {
		require.NoError(t, c.Set(t.Context(), k, row{Key: k, Version: 1}, 0))
		require.NoError(t, other.Set(t.Context(), k, row{Key: k, Version: 1}, 0))
	}
	srv.Stop()
	openBreaker(t, n, c)
	owed := 0
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < changes; i += 4 {
				assert.NoError(t, c.Delete(context.Background(), fmt.Sprint(i)))
			}
		})
	}
	wg.Go(func() {
		for range 500 {
			if o := n.Stats().Journal.Owed; o > owed {
				owed = o
			}
			// Reads while the debts fold: never the old value.
			_, ok := c.Get(context.Background(), "1")
			assert.False(t, ok && n.Stats().Journal.Overflows > 0, "a value that is owed")
		}
	})
	wg.Wait()
	assert.LessOrEqual(t, owed, limit)
	st := n.Stats().Journal
	assert.LessOrEqual(t, st.Owed, limit)
	assert.EqualValues(t, 1, st.Overflows, "and not again and again")
	assert.GreaterOrEqual(t, st.Unconfirmed, uint64(changes))
	assert.Positive(t, st.Oldest)
	db := newDatabase()
	for _, k := range []string{"1", "99999", "untouched"} {
		mustMiss(t, c, k)
		for range 2 {
			mustLoad(t, c, db, k)
		}
		assert.EqualValues(t, 1, mustGet(t, other, k), "only the cache that owes too much is owed whole")
	}
	srv.Restart()
	paid(t, n)
	far := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	for _, k := range []string{"1", "99999", "untouched"} {
		mustMiss(t, far, k)
		mustMiss(t, c, k)
	}
}

// NothingForgotten: too many caches are owed for the journal to name them all. Then
// every cache of the namespace is cleared, also those that are not open here.
func TestNothingForgotten_overflowOfCaches(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, url string, stop, restart func()) {
		n := open(t, tier.Config{URL: url, MaxPending: 8})
		far := open(t, tier.Config{URL: url})
		c := cache(t, n, tier.Options[row]{})
		hidden, err := tier.New(far, "hidden", tier.Options[row]{})
		require.NoError(t, err)
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
		require.NoError(t, hidden.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
		stop()
		_, err = n.DeletePrefix(t.Context(), "hidden:1")
		require.NoError(t, err)
		for i := range 20 {
			_, err := n.DeletePrefix(t.Context(), fmt.Sprintf("cache%d:1", i))
			require.NoError(t, err)
		}
		mustMiss(t, c, "1")
		assert.Equal(t, 1, n.Stats().Journal.Owed)
		restart()
		paid(t, n)
		mustBecome(t, hidden, "1", 0)
		mustMiss(t, c, "1")
	})
}

// eachBackend runs a test on a server and on a cluster that can be stopped whole
// and come back with their data.
func eachBackend(t *testing.T, test func(t *testing.T, url string, stop, restart func())) {
	t.Run("redis=server", func(t *testing.T) {
		srv := redistest.Start(t)
		test(t, srv.URL(), srv.Freeze, srv.Thaw)
	})
	t.Run("redis=cluster", func(t *testing.T) {
		cl := redistest.StartCluster(t)
		test(t, cl.URL(), func() { freezeAll(cl.Nodes()) }, func() { thawAll(cl.Nodes()) })
	})
}

func freezeAll(nodes []*redistest.Server) {
	for _, node := range nodes {
		node.Freeze()
	}
}

func thawAll(nodes []*redistest.Server) {
	for _, node := range nodes {
		node.Thaw()
	}
}

// NothingForgotten: the replay begins within a second of Redis answering, without
// a read or a change that prompts it.
func TestNothingForgotten_replayNeedsNoPrompting(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, url string, stop, restart func()) {
		n := open(t, tier.Config{URL: url})
		c := cache(t, n, tier.Options[row]{})
		far := cache(t, open(t, tier.Config{URL: url}), tier.Options[row]{})
		for i := range 30 {
			require.NoError(t, c.Set(t.Context(), fmt.Sprint("k:", i), row{Key: fmt.Sprint("k:", i)}, 0))
		}
		stop()
		for i := range 10 {
			require.NoError(t, c.Delete(t.Context(), fmt.Sprint("k:", i)))
			require.NoError(t, c.Set(t.Context(), fmt.Sprint("k:", 10+i), row{}, 0))
		}
		_, err := c.DeletePrefix(t.Context(), "k:20")
		require.NoError(t, err)
		restart()
		took := paid(t, n)
		t.Logf("paid %v after Redis came back", took.Round(time.Millisecond))
		assert.Less(t, took, time.Second+2*slack)
		for i := range 21 {
			mustBecome(t, far, fmt.Sprint("k:", i), 0)
		}
	})
}

// NothingForgotten: a master that is away does not hold up what is owed to the
// others, however much is owed to it.
func TestNothingForgotten_oneMasterAway(t *testing.T) {
	t.Parallel()
	cl := redistest.StartCluster(t)
	n := open(t, tier.Config{URL: cl.URL()})
	c := cache(t, n, tier.Options[row]{})
	away := cl.Owner("tandem:row:{0}")
	tag := "1" // of keys on another master
	for i := 1; cl.Owner("tandem:row:{"+tag+"}") == away; i++ {
		tag = fmt.Sprint(i)
	}
	var theirs, others []string
	for i := range 3000 { // six batches
		theirs = append(theirs, fmt.Sprint("{0}:", i))
	}
	for i := range 20 {
		others = append(others, fmt.Sprint("{"+tag+"}:", i))
	}
	for _, k := range others {
		require.NoError(t, c.Set(t.Context(), k, row{Key: k, Version: 1}, 0))
	}
	freezeAll(cl.Nodes())
	for _, k := range theirs {
		require.NoError(t, c.Delete(t.Context(), k))
	}
	for _, k := range others {
		require.NoError(t, c.Delete(t.Context(), k))
	}
	for _, node := range cl.Nodes() {
		if node != away {
			node.Thaw()
		}
	}
	took := timed(func() {
		await(t, "the others' debts to be paid", 20*time.Second, func() bool { return n.Stats().Journal.Owed == len(theirs) })
	})
	t.Logf("paid %v after the others came back", took.Round(time.Millisecond))
	assert.Less(t, took, time.Second+2*slack)
	away.Thaw()
	assert.Less(t, paid(t, n), 10*time.Second)
}

// NothingForgotten: a load that began before a deletion which did not reach Redis
// must not store what it read, although its lease still stands there.
func TestNothingForgotten_loadUnderAnOwedKeyStoresNothing(t *testing.T) {
	for name, load := range map[string]func(c *tier.Cache[row], read func() row) error{
		"one": func(c *tier.Cache[row], read func() row) error {
			_, err := c.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) { return read(), nil })
			return err
		},
		"many": func(c *tier.Cache[row], read func() row) error {
			_, err := c.GetOrSetMany(context.Background(), []string{"1", "2"}, 0, func(context.Context, []string) (map[string]row, error) {
				return map[string]row{"1": read(), "2": {Key: "2"}}, nil
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { loadUnderAnOwedKey(t, load) })
	}
}

func loadUnderAnOwedKey(t *testing.T, load func(c *tier.Cache[row], read func() row) error) {
	_, proxy, na, a, b, db := brokenPair(t, false)
	require.NoError(t, b.Delete(t.Context(), "1"))
	mustBecome(t, a, "1", 0)
	read, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		assert.NoError(t, load(a, func() row {
			v := db.read("1")
			close(read)
			<-release
			return v
		}))
	}()
	<-read
	db.write("1")
	sever(proxy)
	require.NoError(t, a.Delete(t.Context(), "1"))
	// The replay is kept back: its script has more arguments than a fill.
	replay := proxy.Hold(func(c redistest.Command) bool { return scriptOn("1")(c) && len(c) == 11 })
	proxy.Accept()
	replay.Wait()
	close(release)
	<-done
	mustMiss(t, b, "1")
	replay.Release()
	settles(t, na, a, b, db)
}

// Options.Hold holds for a deletion that is replayed as for any other.
func TestHold_ofAReplay(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c, err := tier.New(n, "held", tier.Options[row]{Hold: time.Minute})
	require.NoError(t, err)
	srv.Freeze()
	require.NoError(t, c.Delete(t.Context(), "1"))
	srv.Thaw()
	paid(t, n)
	db := newDatabase()
	for range 3 {
		mustLoad(t, c, db, "1")
	}
}

// NothingForgotten: Shutdown waits until Redis is back and has confirmed.
func TestNothingForgotten_shutdownDrains(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n, err := tier.Open(t.Context(), tier.Config{URL: srv.URL()})
	require.NoError(t, err)
	far := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	c := cache(t, n, tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
	srv.Freeze()
	require.NoError(t, c.Delete(t.Context(), "1"))
	require.NoError(t, c.Clear(t.Context()))
	done := make(chan error)
	go func() { done <- n.Shutdown(context.Background()) }()
	select {
	case err := <-done:
		require.Fail(t, "Shutdown did not wait", "%v", err)
	case <-time.After(500 * time.Millisecond):
	}
	srv.Thaw()
	require.NoError(t, <-done)
	mustBecome(t, far, "1", 0)
	require.ErrorIs(t, c.Delete(t.Context(), "1"), tier.ErrClosed)
}

// NothingForgotten under the race detector: changes and reads on a node whose way to
// Redis comes and goes. What a change of the node replaced is never served there,
// and when all is paid both nodes agree with the database.
func TestNothingForgotten_stress(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), MaxPending: 16})
	a, b := cache(t, n, tier.Options[row]{}), cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	db := newDatabase()
	keyOf := func(w, i int) string { return fmt.Sprintf("%d:%d", w, i) }
	const workers, keys = 4, 12
	var stop atomic.Bool
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for !stop.Load() {
				<-time.After(time.Millisecond) // the machine has others to serve
				oweRound(t, a, db, keyOf(w, rand.IntN(keys)))
			}
		})
		wg.Go(func() {
			for !stop.Load() {
				<-time.After(time.Millisecond)
				k := keyOf(w, rand.IntN(keys))
				_, err := b.GetOrSet(context.Background(), k, 0, db.loader(k))
				assert.NoError(t, err)
			}
		})
	}
	defer func() { // also when the test fails
		stop.Store(true)
		wg.Wait()
	}()
	for range 8 {
		sever(proxy)
		await(t, "something to be owed", 5*time.Second, func() bool { return n.Stats().Journal.Owed > 2 })
		proxy.Accept()
		await(t, "something to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed < 2 })
	}
	stop.Store(true)
	wg.Wait()
	paid(t, n)
	st := n.Stats().Journal
	assert.NotZero(t, st.Paid, "void: nothing was owed")
	for w := range workers {
		for i := range keys {
			k := keyOf(w, i)
			for _, c := range []*tier.Cache[row]{a, b} {
				await(t, "both to agree with the database", 5*time.Second, func() bool {
					v, ok := c.Get(t.Context(), k)
					return !ok || v.Version == db.version(k)
				})
			}
		}
	}
	t.Logf("%+v", st)
}

// oweRound changes key on c, and wants every later read there to know.
func oweRound(t *testing.T, c *tier.Cache[row], db *database, key string) {
	ctx := context.Background()
	least := db.write(key)
	var err error
	switch rand.IntN(8) {
	case 0:
		_, err = c.DeletePrefix(ctx, key)
	case 1:
		err = c.Expire(ctx, key)
	case 2:
		least, err = c.Update(ctx, key, 0, db.commit(key))
	case 3:
		err = c.SetVersioned(ctx, key, least, uint64(least.Version), 0)
	default:
		err = c.Delete(ctx, key)
	}
	assert.NoError(t, err)
	for range 3 {
		if v, ok := c.Get(ctx, key); ok {
			assert.GreaterOrEqual(t, v.Version, least.Version, "Get after a change")
		}
		v, err := c.GetOrSet(ctx, key, 0, db.loader(key))
		assert.NoError(t, err)
		assert.GreaterOrEqual(t, v.Version, least.Version, "GetOrSet after a change")
	}
}

// NothingForgotten: an owed key is served from neither tier by any read, while
// Redis is away and L1 serves the others, and after it has come back.
func TestNothingForgotten_noReadServesAnOwedKey(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{StaleFor: time.Hour})
	db := newDatabase()
	for _, k := range []string{"owed", "free"} {
		db.write(k)
		loaded(t, c, db, k)
	}
	srv.ReadOnly(true) // reads are answered, the deletion is not made
	db.write("owed")
	require.NoError(t, c.Delete(t.Context(), "owed"))
	check := func() {
		t.Helper()
		_, err := c.Lookup(t.Context(), "owed")
		require.Error(t, err)
		assert.False(t, c.Exists(t.Context(), "owed"))
		_, ok := c.TTL(t.Context(), "owed")
		assert.False(t, ok)
		mustMiss(t, c, "owed")
		mustLoad(t, c, db, "owed")
		v, err := c.Fetch(t.Context(), "owed", func(_ context.Context, f *tier.Fill[row]) (row, error) {
			assert.False(t, f.HasStale, "what was deleted is no fallback")
			return db.read("owed"), nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 2, v.Version)
		assert.EqualValues(t, 1, mustGet(t, c, "free"))
	}
	check()
	srv.Freeze()
	openBreaker(t, n, c)
	check()
	srv.Thaw()
	srv.ReadOnly(false)
	paid(t, n)
	loaded(t, c, db, "owed")
	assert.EqualValues(t, 2, mustGet(t, c, "owed"))
}
