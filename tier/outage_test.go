package tier_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// slack is what a busy machine may add to a timeout.
const slack = 600 * time.Millisecond

// timed runs f and returns how long it took.
func timed(f func()) time.Duration {
	begun := time.Now()
	f()
	return time.Since(begun)
}

// openBreaker calls until calls fail at once.
func openBreaker(t *testing.T, n *tier.Node, c *tier.Cache[row]) {
	t.Helper()
	await(t, "the breaker to open", 10*time.Second, func() bool {
		_, _ = c.Lookup(t.Context(), "nothing")
		return !n.Stats().Available
	})
}

// FailOpen, row "Redis is down": reads load, L1 serves, changes are made here.
func TestFailOpen_stopped(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	db.write("cached")
	db.write("other")
	_, err := c.GetOrSet(t.Context(), "cached", 0, db.loader("cached"))
	require.NoError(t, err)
	await(t, "L1", 5*time.Second, func() bool {
		item, err := c.Lookup(t.Context(), "cached")
		return err == nil && item.Tier == tier.TierL1
	})
	srv.Stop()
	servesWithoutRedis(t, n, c, db)
}

// FailOpen, row "Redis hangs".
func TestFailOpen_frozen(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	db.write("cached")
	db.write("other")
	_, err := c.GetOrSet(t.Context(), "cached", 0, db.loader("cached"))
	require.NoError(t, err)
	await(t, "L1", 5*time.Second, func() bool {
		item, err := c.Lookup(t.Context(), "cached")
		return err == nil && item.Tier == tier.TierL1
	})
	srv.Freeze()
	defer srv.Thaw()
	servesWithoutRedis(t, n, c, db)
}

func servesWithoutRedis(t *testing.T, n *tier.Node, c *tier.Cache[row], db *database) {
	const timeout = 200 * time.Millisecond
	took := timed(func() {
		got, err := c.GetOrSet(t.Context(), "other", 0, db.loader("other"))
		require.NoError(t, err)
		require.EqualValues(t, 1, got.Version)
	})
	assert.Less(t, took, timeout+slack, "a read waited longer than Timeout")
	openBreaker(t, n, c)
	took = timed(func() {
		for range 100 {
			_, err := c.GetOrSet(t.Context(), "other", 0, db.loader("other"))
			require.NoError(t, err)
		}
	})
	assert.Less(t, took, timeout, "the open breaker adds something to a read")

	assert.EqualValues(t, 1, mustGet(t, c, "cached"), "L1 serves while Redis does not answer")
	_, err := c.Lookup(t.Context(), "nothing")
	require.ErrorIs(t, err, tier.ErrUnavailable)

	// NothingForgotten: a change is made here, and the key is served from neither tier.
	db.write("cached")
	require.NoError(t, c.Delete(t.Context(), "cached"))
	mustMiss(t, c, "cached")
	for range 2 {
		got, err := c.GetOrSet(t.Context(), "cached", 0, db.loader("cached"))
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Version)
	}
	assert.Equal(t, 3, db.loadsOf("cached"), "an owed key is loaded on every read")
	require.NoError(t, c.Set(t.Context(), "cached", row{Key: "cached", Version: 3}, 0))
	mustMiss(t, c, "cached")
	require.NoError(t, c.Clear(t.Context()))
	_, err = c.DeletePrefix(t.Context(), "x")
	require.NoError(t, err)
	health := n.Health(t.Context())
	assert.False(t, health.Healthy)
	assert.False(t, health.L2.Healthy)
	assert.NotEmpty(t, health.L2.Reason)
	assert.NotZero(t, n.Stats().Journal.Owed)
}

// NothingForgotten: what was deleted during the outage is gone after it,
// although the value survived in Redis.
func TestNothingForgotten_deleteDuringAnOutageIsReplayed(t *testing.T) {
	srv := redistest.Start(t, redistest.WithPersistence())
	n := open(t, tier.Config{URL: srv.URL()})
	other := open(t, tier.Config{URL: srv.URL()})
	c, far := cache(t, n, tier.Options[row]{}), cache(t, other, tier.Options[row]{})
	db := newDatabase()
	for _, k := range []string{"1", "2:a", "2:b", "3"} {
		db.write(k)
		_, err := c.GetOrSet(t.Context(), k, 0, db.loader(k))
		require.NoError(t, err)
		require.EqualValues(t, 1, mustGet(t, far, k))
		db.write(k)
	}
	srv.Stop()
	require.NoError(t, c.Delete(t.Context(), "1"))
	_, err := c.DeletePrefix(t.Context(), "2")
	require.NoError(t, err)
	require.NoError(t, c.Set(t.Context(), "3", row{Key: "3", Version: 2}, 0))
	srv.Restart()
	back := time.Now()
	for _, cc := range []*tier.Cache[row]{c, far} {
		for _, k := range []string{"1", "2:a", "2:b", "3"} {
			await(t, "the old value of "+k+" to go", 10*time.Second, func() bool {
				got, err := cc.GetOrSet(t.Context(), k, 0, db.loader(k))
				require.NoError(t, err)
				if cc == c {
					require.EqualValues(t, 2, got.Version, "the node that deleted served the old value")
				}
				return got.Version == 2
			})
		}
	}
	await(t, "the journal to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	t.Logf("coherent %v after Redis came back", time.Since(back).Round(time.Millisecond))
	for _, k := range []string{"1", "2:a", "2:b", "3"} {
		await(t, k+" to be cached again", 10*time.Second, func() bool {
			before := db.loadsOf(k)
			_, err := c.GetOrSet(t.Context(), k, 0, db.loader(k))
			require.NoError(t, err)
			return db.loadsOf(k) == before
		})
	}
}

// NothingForgotten: the store of pending keys is bounded; past it the cache is
// cleared, never forgotten.
func TestNothingForgotten_overflowClearsTheCache(t *testing.T) {
	srv := redistest.Start(t, redistest.WithPersistence())
	n := open(t, tier.Config{URL: srv.URL(), MaxPending: 4})
	c := cache(t, n, tier.Options[row]{})
	for _, k := range []string{"a", "b", "c", "d", "e", "f", "kept"} {
		require.NoError(t, c.Set(t.Context(), k, row{Key: k}, 0))
	}
	srv.Stop()
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		require.NoError(t, c.Delete(t.Context(), k))
	}
	mustMiss(t, c, "a")
	mustMiss(t, c, "f")
	assert.EqualValues(t, 1, n.Stats().Journal.Overflows)
	srv.Restart()
	await(t, "the journal to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	for _, k := range []string{"a", "f", "kept"} {
		mustMiss(t, c, k)
	}
}

func TestStrict_saysWhatRedisDidNotConfirm(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Strict: true})
	c := cache(t, n, tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
	srv.Stop()
	require.ErrorIs(t, c.Set(t.Context(), "1", row{Key: "1"}, 0), tier.ErrUnavailable)
	require.ErrorIs(t, c.Delete(t.Context(), "1"), tier.ErrUnavailable)
	require.ErrorIs(t, c.Clear(t.Context()), tier.ErrUnavailable)
	_, err := c.DeletePrefix(t.Context(), "1")
	require.ErrorIs(t, err, tier.ErrUnavailable)
	_, err = n.DeletePrefix(t.Context(), "row")
	require.ErrorIs(t, err, tier.ErrUnavailable)
	_, err = c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{}, nil })
	require.NoError(t, err, "a read is never an error")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, n.Shutdown(ctx), context.DeadlineExceeded, "Shutdown says what is left")
}

// FailOpen: a server that refuses writes still serves reads, and nothing of
// what it refused is served later.
func TestFailOpen_readOnlyAndFull(t *testing.T) {
	for name, refuse := range map[string]func(*redistest.Server, bool){
		"readonly": func(s *redistest.Server, on bool) { s.ReadOnly(on) },
		"full": func(s *redistest.Server, on bool) {
			if on {
				s.MaxMemory(1, "noeviction")
			} else {
				s.MaxMemory(0, "noeviction")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := redistest.Start(t)
			n := open(t, tier.Config{URL: srv.URL()})
			c := cache(t, n, tier.Options[row]{Local: tier.Local{Disabled: true}})
			db := newDatabase()
			for _, k := range []string{"read", "set"} {
				db.write(k)
				_, err := c.GetOrSet(t.Context(), k, 0, db.loader(k))
				require.NoError(t, err)
			}
			refuse(srv, true)
			loads := db.loadsOf("read")
			for range 20 {
				got, err := c.GetOrSet(t.Context(), "read", 0, db.loader("read"))
				require.NoError(t, err)
				require.EqualValues(t, 1, got.Version)
			}
			assert.Equal(t, loads, db.loadsOf("read"), "a server that reads was not read")
			took := timed(func() {
				_, err := c.GetOrSet(t.Context(), "new", 0, db.loader("new"))
				require.NoError(t, err)
			})
			assert.Less(t, took, 200*time.Millisecond+slack)

			db.write("set")
			require.NoError(t, c.Set(t.Context(), "set", row{Key: "set", Version: 2}, 0))
			for range 20 {
				got, err := c.GetOrSet(t.Context(), "set", 0, db.loader("set"))
				require.NoError(t, err)
				require.EqualValues(t, 2, got.Version, "ReadYourWrites after a refused Set")
			}
			refuse(srv, false)
			await(t, "the journal to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
			await(t, "values to be stored again", 10*time.Second, func() bool {
				before := db.loadsOf("set")
				got, err := c.GetOrSet(t.Context(), "set", 0, db.loader("set"))
				require.NoError(t, err)
				require.EqualValues(t, 2, got.Version)
				return db.loadsOf("set") == before
			})
		})
	}
}

// A node starts without Redis and attaches when it appears.
func TestOpen_withoutRedisAttachesLater(t *testing.T) {
	srv := redistest.Start(t)
	srv.Stop()
	var n *tier.Node
	took := timed(func() { n = open(t, tier.Config{URL: srv.URL()}) })
	assert.Less(t, took, 200*time.Millisecond+slack)
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	db.write("1")
	got, err := c.GetOrSet(t.Context(), "1", 0, db.loader("1"))
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Version)
	srv.Restart()
	await(t, "the node to attach", 10*time.Second, func() bool { return n.Health(t.Context()).Healthy })
	await(t, "values to be shared", 10*time.Second, func() bool {
		_, err := c.GetOrSet(t.Context(), "1", 0, db.loader("1"))
		require.NoError(t, err)
		item, err := c.Lookup(t.Context(), "1")
		return err == nil && item.Tier == tier.TierL1
	})
	assert.NotZero(t, n.Stats().ReconnectAttempts)
	far := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	assert.EqualValues(t, 1, mustGet(t, far, "1"))
}

// FailOpen: the stampede protection holds per process without Redis.
func TestFailOpen_stampedeWithoutRedisLoadsOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	require.NoError(t, err)
	defer l.Close()
	n := open(t, tier.Config{URL: "redis://" + l.Addr().String()})
	c := cache(t, n, tier.Options[row]{})
	openBreaker(t, n, c)
	loads := 0
	release := make(chan struct{})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			_, err := c.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) {
				loads++
				<-release
				return row{}, nil
			})
			assert.NoError(t, err)
		})
	}
	await(t, "everybody to wait", 10*time.Second, func() bool { return c.Stats().Collapsed == 99 })
	close(release)
	wg.Wait()
	assert.Equal(t, 1, loads)
}

// A caller's deadline ends its wait for a frozen Redis and for a load.
func TestGetOrSet_callersDeadline(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Timeout: 5 * time.Second})
	c := cache(t, n, tier.Options[row]{})
	srv.Freeze()
	defer srv.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	took := timed(func() {
		_, err := c.GetOrSet(ctx, "1", 0, func(ctx context.Context) (row, error) {
			<-ctx.Done()
			return row{}, errors.New("canceled")
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	assert.Less(t, took, time.Second)
}

// A key that is owed is in no tier; whether the source has it nobody knows while
// Redis is away.
func TestLookup_owedWhileRedisIsAway(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), Prefix: "test"})
	c := cache(t, n, tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	proxy.Refuse()
	proxy.Cut(redistest.All)
	require.NoError(t, c.Delete(t.Context(), "k"))
	await(t, "the breaker to open", 10*time.Second, func() bool {
		_, _ = c.Lookup(t.Context(), "other")
		return !n.Stats().Available
	})
	for _, key := range []string{"k", "other"} {
		_, err := c.Lookup(t.Context(), key)
		require.ErrorIs(t, err, tier.ErrUnavailable, key)
		require.NotErrorIs(t, err, tier.ErrNotFound, key)
	}
	proxy.Accept()
	await(t, "the debt to be paid", 10*time.Second, func() bool {
		_, err := c.Lookup(t.Context(), "k")
		return errors.Is(err, tier.ErrNotFound)
	})
}
