package tier_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// traffic is one writer for each of some keys, through two nodes in turn, that
// checks after each change what its node then reads.
type traffic struct {
	t      *testing.T
	caches []*tier.Cache[row]
	db     *database
	stop   chan struct{}
	rounds atomic.Int64
	owed   atomic.Int64 // prefix deletions
}

// run changes a key in every way until it is told to stop.
func (tr *traffic) run(id string) {
	ctx := context.Background()
	keys := []string{id, id + ":below"}
	for i := 0; ; i++ {
		select {
		case <-tr.stop:
			return
		default:
		}
		c := tr.caches[i%len(tr.caches)]
		for _, key := range keys {
			var err error
			switch i % 5 {
			case 0:
				_, err = c.Update(ctx, key, 0, tr.db.commit(key))
			case 1:
				tr.db.write(key)
				err = c.Delete(ctx, key)
			case 2:
				err = c.Set(ctx, key, tr.db.write(key), 0)
			case 3:
				err = c.SetMany(ctx, map[string]row{key: tr.db.write(key)}, 0)
			case 4:
				tr.db.write(key)
				// It is owed if slots move in each of its scans: made all the same.
				if _, err = c.DeletePrefix(ctx, key); errors.Is(err, tier.ErrUnavailable) {
					tr.owed.Add(1)
					err = nil
				}
			}
			assert.NoError(tr.t, err, "round %d of %s", i, key)
			v, err := c.GetOrSet(ctx, key, 0, tr.db.loader(key))
			assert.NoError(tr.t, err)
			assert.Equal(tr.t, tr.db.version(key), v.Version, "round %d of %s: a stale value", i, key)
		}
		many, err := c.GetOrSetMany(ctx, keys, 0, func(_ context.Context, missing []string) (map[string]row, error) {
			rows := make(map[string]row)
			for _, key := range missing {
				rows[key] = tr.db.read(key)
			}
			return rows, nil
		})
		assert.NoError(tr.t, err)
		for _, key := range keys {
			assert.Equal(tr.t, tr.db.version(key), many[key].Version, "round %d of %s: a stale value in a batch", i, key)
		}
		tr.rounds.Add(1)
	}
}

// Slots move between masters with the keys that are being changed: no call fails,
// although Strict would tell, no node reads what it changed as it was before, and
// in the end all are equal to the database.
func TestCluster_slotsMoveUnderTraffic(t *testing.T) {
	t.Parallel()
	cl := redistest.StartCluster(t)
	cfg := tier.Config{URL: cl.URL(), Strict: true, Timeout: 5 * time.Second}
	tr := &traffic{t: t, db: newDatabase(), stop: make(chan struct{})}
	for range 2 {
		tr.caches = append(tr.caches, cache(t, open(t, cfg), tier.Options[row]{}))
	}
	var keys []string
	var running sync.WaitGroup
	for i := range 4 {
		key := fmt.Sprint("k", i)
		keys = append(keys, key)
		running.Go(func() { tr.run(key) })
	}
	moves := 0
	for round := range 3 {
		to := cl.Nodes()[round%3]
		for _, key := range keys {
			for _, k := range []string{key, key + ":below"} {
				before := tr.rounds.Load()
				cl.MoveSlot(cl.Slot("tandem:row:"+k), to)
				moves++
				await(t, "traffic", 30*time.Second, func() bool { return tr.rounds.Load() > before+4 || t.Failed() })
			}
		}
	}
	close(tr.stop)
	running.Wait()
	t.Logf("%d moves of slots, %d rounds of changes, %d prefix deletions owed for a moment", moves, tr.rounds.Load(), tr.owed.Load())
	for key := range tr.db.rows {
		for _, c := range tr.caches {
			await(t, key+" to be as in the database", 10*time.Second, func() bool {
				v, err := c.GetOrSet(t.Context(), key, 0, tr.db.loader(key))
				require.NoError(t, err)
				return v.Version == tr.db.version(key)
			})
		}
	}
}

// A master is killed and its replica takes over: reads are never errors, and what
// is changed afterwards reaches the other node as ever.
func TestCluster_masterReplaced(t *testing.T) {
	t.Parallel()
	cl := redistest.StartCluster(t, redistest.WithReplicas(1))
	na, nb := open(t, tier.Config{URL: cl.URL()}), open(t, tier.Config{URL: cl.URL()})
	a, b := cache(t, na, tier.Options[row]{}), cache(t, nb, tier.Options[row]{})
	db := newDatabase()
	db.write("k")
	loaded(t, a, db, "k")
	loaded(t, b, db, "k")
	old := cl.KillMaster("tandem:row:k")
	replaced := make(chan struct{})
	go func() {
		defer close(replaced)
		cl.AwaitTakeover("tandem:row:k", old)
	}()
	reads := 0
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for over := false; !over; reads++ {
		select {
		case <-replaced:
			over = true
		case <-tick.C:
		}
		for _, c := range []*tier.Cache[row]{a, b} {
			took := timed(func() {
				v, err := c.GetOrSet(t.Context(), "k", 0, db.loader("k"))
				require.NoError(t, err)
				require.EqualValues(t, 1, v.Version)
			})
			require.Less(t, took, 2*200*time.Millisecond+slack)
		}
	}
	begun := time.Now()
	db.write("k")
	require.NoError(t, a.Delete(t.Context(), "k"))
	await(t, "the change on the other node", 20*time.Second, func() bool {
		v, err := a.GetOrSet(t.Context(), "k", 0, db.loader("k"))
		require.NoError(t, err)
		require.EqualValues(t, 2, v.Version, "the node that deleted it")
		v, err = b.GetOrSet(t.Context(), "k", 0, db.loader("k"))
		require.NoError(t, err)
		return v.Version == 2
	})
	took := time.Since(begun)
	loaded(t, b, db, "k")
	t.Logf("%d reads meanwhile; the other node followed %v after the takeover", reads, took.Round(time.Millisecond))
	assert.Less(t, took, time.Second+nb.Stats().MaxStaleness+slack)
}

// The master that holds the version of a cache dies, without a replica. While the
// bus is heard, the cache goes on with what the other masters hold.
func TestCluster_masterOfTheVersionAway(t *testing.T) {
	t.Parallel()
	cl := redistest.StartCluster(t, redistest.WithConfig("cluster-require-full-coverage", "no"))
	// Not the one that the beats go through.
	name, away := "", (*redistest.Server)(nil)
	for i := 0; away == nil || away == cl.Owner("tandem:!bus:0"); i++ {
		name = fmt.Sprint("row", i)
		away = cl.Owner("tandem:!clear:" + name)
	}
	subscribed := func() int {
		list, _ := away.Do("client", "list", "type", "pubsub").(string)
		return strings.Count(list, "\n")
	}
	hearing := func(t *testing.T) (*tier.Node, *tier.Cache[row]) {
		for {
			// A node subscribes on a master by chance.
			n, err := tier.Open(t.Context(), tier.Config{URL: cl.URL(), Strict: true, Timeout: time.Second})
			require.NoError(t, err)
			await(t, "the bus", 10*time.Second, func() bool { return n.Stats().Bus.Hears })
			if subscribed() > 0 {
				require.NoError(t, n.Close())
				await(t, "it to leave", 10*time.Second, func() bool { return subscribed() == 0 })
				continue
			}
			t.Cleanup(func() { require.NoError(t, n.Close()) })
			c, err := tier.New(n, name, tier.Options[row]{})
			require.NoError(t, err)
			return n, c
		}
	}
	na, a := hearing(t)
	nb, b := hearing(t)
	db := newDatabase()
	var keys []string
	for i := 0; len(keys) < 10; i++ {
		key := fmt.Sprint("k", i)
		if cl.Owner("tandem:"+name+":"+key) == away {
			continue
		}
		keys = append(keys, key)
		require.NoError(t, a.Set(t.Context(), key, db.write(key), 0))
	}
	gaps := nb.Stats().Bus.Gaps + na.Stats().Bus.Gaps
	away.Kill()
	for _, key := range keys {
		item, err := b.Lookup(t.Context(), key)
		require.NoError(t, err)
		assert.Equal(t, tier.TierL2, item.Tier, "the first read of %s on this node", key)
		require.NoError(t, a.Set(t.Context(), key, db.write(key), 0), "a change is confirmed")
		await(t, "the other node", 10*time.Second, serves(t, b, key, 2))
		inL1(t, b, key, 2)
	}
	assert.Equal(t, gaps, nb.Stats().Bus.Gaps+na.Stats().Bus.Gaps, "void: the bus was not heard throughout")
}

// A key that moves from a master that was not scanned yet to one that was is
// deleted with its prefix all the same.
func TestCluster_prefixOfAKeyThatMoves(t *testing.T) {
	t.Parallel()
	cl := redistest.StartCluster(t)
	ways := newDetours(t, cl.Nodes())
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: cl.Addrs(), Dialer: ways.dial, ContextTimeoutEnabled: true, MaxRetries: -1,
	})
	t.Cleanup(func() { _ = client.Close() })
	c := cache(t, open(t, tier.Config{Redis: client, Strict: true, Timeout: 20 * time.Second}), tier.Options[row]{})
	for _, tc := range []struct {
		name         string
		before, move func(slot int, to *redistest.Server)
	}{
		{"with its slot", func(int, *redistest.Server) {}, cl.MoveSlot},
		{"in a slot that stays open", cl.OpenSlot, cl.MigrateKeys},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.NoError(t, c.Set(t.Context(), "p:1", row{Key: "p:1"}, 0))
			from, slot := cl.Owner("tandem:row:p:1"), cl.Slot("tandem:row:p:1")
			to := cl.Nodes()[0]
			if to == from {
				to = cl.Nodes()[1]
			}
			tc.before(slot, to)
			held := ways[from.Addr()].Hold(redistest.Named("scan"))
			type result struct {
				n   int
				err error
			}
			done := make(chan result)
			scanned := to.Calls("scan")
			go func() {
				n, err := c.DeletePrefix(context.Background(), "p")
				done <- result{n, err}
			}()
			held.Wait()
			await(t, "the other master to be scanned", 10*time.Second, func() bool { return to.Calls("scan") > scanned })
			tc.move(slot, to)
			held.Release()
			r := <-done
			require.NoError(t, r.err)
			assert.Equal(t, 1, r.n)
			mustMiss(t, c, "p:1")
			assert.Empty(t, to.Do("cluster", "getkeysinslot", slot, 1), "it is there, whoever is asked for it")
		})
	}
}
