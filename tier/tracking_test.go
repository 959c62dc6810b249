package tier_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// soon is how long an announcement may take on a busy machine.
const soon = 10 * time.Second

// outsider is a client that knows nothing of Tandem.
type outsider struct {
	t testing.TB
	c redis.UniversalClient
}

// each calls f for every master.
func (s outsider) each(f func(c *redis.Client)) {
	s.t.Helper()
	cluster, ok := s.c.(*redis.ClusterClient)
	if !ok {
		f(s.c.(*redis.Client))
		return
	}
	var mu sync.Mutex
	require.NoError(s.t, cluster.ForEachMaster(s.t.Context(), func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		f(c)
		return nil
	}))
}

func (s outsider) do(args ...any) {
	s.t.Helper()
	err := s.c.Do(s.t.Context(), args...).Err()
	require.NoError(s.t, err, "%v", args)
}

// eachTracked runs a test on a standalone server and on a cluster of three masters.
func eachTracked(t *testing.T, test func(t *testing.T, cfg tier.Config, s outsider)) {
	t.Run("standalone", func(t *testing.T) {
		srv := redistest.Start(t)
		test(t, tier.Config{URL: srv.URL(), Prefix: "test", Tracking: true}, outsider{t, srv.Client(t)})
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t)
		test(t, tier.Config{URL: c.URL(), Prefix: "test", Tracking: true}, outsider{t, c.Client(t)})
	})
}

// inMemory makes the node serve key from memory, and returns its version.
func inMemory(t testing.TB, c *tier.Cache[row], db *database, key string) int64 {
	t.Helper()
	var version int64
	await(t, "hit in memory", soon, func() bool {
		v, err := c.GetOrSet(t.Context(), key, tier.TTLLong, db.loader(key))
		require.NoError(t, err)
		item, err := c.Lookup(t.Context(), key)
		version = v.Version
		return err == nil && item.Tier == tier.TierL1 && !item.Stale
	})
	return version
}

// Changes by strangers reach memory: what they do to a key is seen at once.
func TestTracking_memoryObeysStrangers(t *testing.T) {
	t.Parallel()
	eachTracked(t, func(t *testing.T, cfg tier.Config, s outsider) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		db := newDatabase()
		for i, tt := range []struct {
			name   string
			change func(key string)
		}{
			{"DEL", func(key string) { s.do("DEL", key) }},
			{"SET", func(key string) { s.do("SET", key, "garbage") }},
			{"another type", func(key string) { s.do("DEL", key); s.do("HSET", key, "f", "v") }},
			{"PEXPIRE", func(key string) { s.do("PEXPIRE", key, 30) }},
			{"a script", func(key string) { s.do("EVAL", "return redis.call('UNLINK', KEYS[1])", 1, key) }},
			{"APPEND", func(key string) { s.do("APPEND", key, "x") }},
		} {
			t.Run(tt.name, func(t *testing.T) {
				for round := range 10 {
					id := fmt.Sprintf("%d:%d", i, round)
					db.write(id)
					inMemory(t, c, db, id)
					tt.change("test:row:" + id)
					await(t, "the miss", soon, func() bool {
						_, ok := c.Get(t.Context(), id)
						return !ok
					})
					db.write(id)
					assert.EqualValues(t, 2, inMemory(t, c, db, id))
				}
			})
		}
	})
}

// So does what Redis gives up for want of memory.
func TestTracking_memoryObeysEvictions(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Prefix: "test", Tracking: true})
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	const count = 50
	for i := range count {
		inMemory(t, c, db, strconv.Itoa(i))
	}
	s := outsider{t, srv.Client(t)}
	srv.MaxMemory(4<<20, "allkeys-lru")
	pad := strings.Repeat("x", 1000)
	await(t, "eviction of everything", soon, func() bool {
		for range 1000 {
			s.do("SET", "other:"+strconv.Itoa(int(srv.Calls("set"))), pad)
		}
		size, err := s.c.Exists(t.Context(), "test:row:0").Result()
		require.NoError(t, err)
		return size == 0
	})
	await(t, "misses", soon, func() bool {
		_, ok := c.Get(t.Context(), "0")
		return !ok
	})
	// What is left in memory is left in Redis. What is left there may be void, if
	// the version of the cache was evicted.
	for i := range count {
		key := strconv.Itoa(i)
		await(t, "agreement", soon, func() bool {
			there, err := s.c.Exists(t.Context(), "test:row:"+key).Result()
			require.NoError(t, err)
			_, ok := c.Get(t.Context(), key)
			return !ok || there == 1
		})
	}
}

// A panic in what the application gave the cache reaches the reader that has it
// called, and none of the node's own goroutines.
func TestTracking_panicsReachReadersOnly(t *testing.T) {
	t.Parallel()
	cfg := tier.Config{URL: redistest.Start(t).URL(), Prefix: "test", Tracking: true}
	a := cache(t, open(t, cfg), tier.Options[row]{})
	looked := make(chan struct{}, 100)
	b := cache(t, open(t, cfg), tier.Options[row]{Cost: func(r row) int64 {
		if r.Version == 2 {
			looked <- struct{}{}
			panic("cost of version 2")
		}
		return 1
	}})
	require.NoError(t, a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	inL1(t, b, "k", 1)
	require.NoError(t, a.Set(t.Context(), "k", row{Key: "k", Version: 2}, 0))
	select {
	case <-looked:
	case <-time.After(soon):
		t.Fatal("void: nothing looked again")
	}
	assert.PanicsWithValue(t, "cost of version 2", func() { b.Get(t.Context(), "k") })
	require.NoError(t, a.Set(t.Context(), "k", row{Key: "k", Version: 3}, 0))
	await(t, "the next value", soon, serves(t, b, "k", 3))
}

// A flush voids everything, also what is loaded while it happens.
func TestTracking_memoryObeysFlushes(t *testing.T) {
	t.Parallel()
	eachTracked(t, func(t *testing.T, cfg tier.Config, s outsider) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		db := newDatabase()
		for round := range 10 {
			for i := range 20 {
				inMemory(t, c, db, strconv.Itoa(i))
			}
			flushes := n.Stats().Tracking.Flushes
			s.each(func(c *redis.Client) {
				flushes++
				assert.NoError(t, c.FlushDB(t.Context()).Err())
			})
			await(t, "the flushes", soon, func() bool { return n.Stats().Tracking.Flushes == flushes })
			await(t, "misses", soon, func() bool {
				for i := range 20 {
					if _, ok := c.Get(t.Context(), strconv.Itoa(i)); ok {
						return false
					}
				}
				return true
			})
			assert.EqualValues(t, (round+1)*20, c.Stats().Loads)
		}
	})
}

// quiet waits until the node has nothing left to do for what was announced.
func quiet(t testing.TB, n *tier.Node, s outsider) {
	t.Helper()
	last, same := "", 0
	await(t, "quiet", soon, func() bool {
		now := fmt.Sprint(n.Stats().Tracking.Changes)
		var lines []string
		s.each(func(c *redis.Client) {
			info, err := c.Info(t.Context(), "commandstats").Result()
			require.NoError(t, err)
			for line := range strings.Lines(info) {
				if strings.HasPrefix(line, "cmdstat_getrange:") {
					lines = append(lines, line)
				}
			}
		})
		slices.Sort(lines)
		now += strings.Join(lines, "")
		if same++; now != last {
			last, same = now, 0
		}
		return same > 20
	})
}

// A node hears its own changes as well, and they cost it nothing that it has
// just stored.
func TestTracking_ownChangesStayInMemory(t *testing.T) {
	t.Parallel()
	eachTracked(t, func(t *testing.T, cfg tier.Config, s outsider) {
		const count = 100
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		db := newDatabase()
		for name, store := range map[string]func(key string){
			"set": func(key string) { require.NoError(t, c.Set(t.Context(), key, row{Key: key}, 0)) },
			"set over another": func(key string) {
				for version := range 3 {
					require.NoError(t, c.Set(t.Context(), key, row{Key: key, Version: int64(version)}, 0))
				}
			},
			"loaded": func(key string) {
				_, err := c.GetOrSet(t.Context(), key, 0, db.loader(key))
				require.NoError(t, err)
			},
		} {
			for i := range count {
				store(name + strconv.Itoa(i))
			}
			quiet(t, n, s)
			hits := 0
			for i := range count {
				item, err := c.Lookup(t.Context(), name+strconv.Itoa(i))
				require.NoError(t, err)
				if item.Tier == tier.TierL1 {
					hits++
				}
			}
			// A look that found no room, or a put that ristretto dropped, is
			// made good by the next read.
			assert.Greater(t, hits, count*9/10, name)
		}
	})
}

// What goes back into memory is what Redis holds: a stranger's change that hides
// behind one of our own is not missed.
func TestTracking_putsBackOnlyWhatStands(t *testing.T) {
	t.Parallel()
	eachTracked(t, func(t *testing.T, cfg tier.Config, s outsider) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		db := newDatabase()
		const count = 200
		for i := range count {
			key := strconv.Itoa(i)
			if i%2 == 0 {
				require.NoError(t, c.Set(t.Context(), key, row{Key: key}, 0))
			} else {
				_, err := c.GetOrSet(t.Context(), key, 0, db.loader(key))
				require.NoError(t, err)
			}
			s.do("DEL", "test:row:"+key)
		}
		quiet(t, n, s)
		for i := range count {
			mustMiss(t, c, strconv.Itoa(i))
		}
	})
}

// OneLoad: the announcements of a load's own lease and renewals neither split
// its callers nor take its lease away.
func TestTracking_ownLeasesDoNotDisturbLoads(t *testing.T) {
	t.Parallel()
	eachTracked(t, func(t *testing.T, cfg tier.Config, s outsider) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		db := newDatabase()
		changes := func() uint64 { return n.Stats().Tracking.Changes }
		begun, release := make(chan struct{}), make(chan struct{})
		var callers sync.WaitGroup
		call := func() {
			callers.Go(func() {
				v, err := c.GetOrSet(t.Context(), "k", 0, func(context.Context) (row, error) {
					close(begun)
					<-release
					return db.read("k"), nil
				})
				assert.NoError(t, err)
				assert.Equal(t, "k", v.Key)
			})
		}
		before := changes()
		call()
		<-begun
		for renewals := range uint64(3) { // the lease itself, then renewals
			await(t, "an announcement", soon, func() bool { return changes() > before+renewals })
			for range 20 {
				call()
			}
		}
		await(t, "callers that wait", soon, func() bool { return c.Stats().Misses == 61 })
		close(release)
		callers.Wait()
		assert.EqualValues(t, 1, c.Stats().Loads)
		assert.EqualValues(t, 60, c.Stats().Collapsed, "all of them in one flight")
		assert.Zero(t, c.Stats().FillsRefused)
		assert.Equal(t, 1, db.loadsOf("k"))
		_, err := s.c.Get(t.Context(), "test:row:k").Result()
		require.NoError(t, err, "the load was stored")
	})
}

// A marker that a stranger removes is missed and made anew.
func TestTracking_aMarkerRemovedIsMissed(t *testing.T) {
	t.Parallel()
	eachTracked(t, func(t *testing.T, cfg tier.Config, s outsider) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		inMemory(t, c, newDatabase(), "a")
		const marker = "test:!clear:row"
		s.do("DEL", marker)
		await(t, "the marker", soon, func() bool {
			mustMiss(t, c, "b")
			there, err := s.c.Exists(t.Context(), marker).Result()
			require.NoError(t, err)
			return there == 1
		})
		inMemory(t, c, newDatabase(), "a")
	})
}

func TestTracking_needsRedis(t *testing.T) {
	_, err := tier.Open(t.Context(), tier.Config{Tracking: true})
	require.ErrorContains(t, err, "Tracking")
}

// A server that answers and does not track is an error of Open.
func TestTracking_aServerWithoutItIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		opt  redistest.Option
		user string
		want string
	}{
		"without RESP3":     {redistest.WithConfig("rename-command", "HELLO", ""), "", "HELLO"},
		"without the right": {redistest.WithUser("app", "on", ">secret", "+@all", "-client|tracking", "allkeys", "allchannels"), "app:secret@", "CLIENT TRACKING"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := redistest.Start(t, tt.opt)
			url := "redis://" + tt.user + srv.Addr()
			_, err := tier.Open(t.Context(), tier.Config{URL: url, Prefix: "test", Tracking: true})
			require.ErrorContains(t, err, "Tracking")
			require.ErrorContains(t, err, tt.want)
			require.ErrorIs(t, err, invalidation.ErrNoTracking)
			n := open(t, tier.Config{URL: url, Prefix: "test"})
			assert.True(t, n.Health(t.Context()).Healthy)
			assert.False(t, n.Stats().Tracking.On)
		})
	}
}
