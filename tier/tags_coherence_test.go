package tier_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// fleet is two nodes that share something, with a cache on each whose loaded
// values carry the tags in their Pad.
type fleet struct {
	na, nb *tier.Node
	a, b   *tier.Cache[row]
	shared bool // their L2
}

func newFleet(t *testing.T, cfg tier.Config) fleet {
	f := fleet{na: open(t, cfg), nb: open(t, cfg), shared: cfg.URL != ""}
	f.a, f.b = tagged(t, f.na, "t", byPad), tagged(t, f.nb, "t", byPad)
	return f
}

func eachFleet(t *testing.T, test func(t *testing.T, f fleet)) {
	t.Run("bus=local", func(t *testing.T) { test(t, newFleet(t, tier.Config{Bus: invalidation.NewLocal()})) })
	t.Run("bus=redis", func(t *testing.T) { test(t, newFleet(t, tier.Config{URL: redistest.Start(t).URL()})) })
	t.Run("bus=cluster", func(t *testing.T) { test(t, newFleet(t, tier.Config{URL: redistest.StartCluster(t).URL()})) })
}

// local waits until key comes from L1.
func local(t testing.TB, c *tier.Cache[row], key string) {
	t.Helper()
	await(t, "L1", 5*time.Second, func() bool {
		item, err := c.Lookup(context.Background(), key)
		return err == nil && item.Tier == tier.TierL1
	})
}

// stalled is a load under way that has read its source and has not returned.
type stalled struct {
	release chan struct{}
	done    chan row
}

func stall(t *testing.T, c *tier.Cache[row], key string, read func() row) stalled {
	t.Helper()
	s := stalled{make(chan struct{}), make(chan row, 1)}
	begun := make(chan struct{})
	go func() {
		v, err := c.GetOrSet(context.Background(), key, 0, func(context.Context) (row, error) {
			v := read()
			close(begun)
			<-s.release
			return v, nil
		})
		assert.NoError(t, err)
		s.done <- v
	}()
	<-begun
	return s
}

func (s stalled) end() row {
	close(s.release)
	return <-s.done
}

// NoStaleFill: a load that began before an invalidation of its tag stores
// nothing in any tier, whether the tag was known before or only the loader names
// it, and whichever node invalidates.
func TestNoStaleFill_slowLoaderAndItsTag(t *testing.T) {
	t.Parallel()
	eachFleet(t, func(t *testing.T, f fleet) {
		for i := range 12 {
			key, tag := fmt.Sprint("k", i), fmt.Sprint("tag", i)
			db := newDatabase()
			read := func() row {
				v := db.read(key)
				v.Pad = tag
				return v
			}
			n := []*tier.Node{f.na, f.nb}[i%2]
			if i%3 > 0 { // the tag is known to Redis, and to the node that loads
				require.NoError(t, f.a.Set(t.Context(), key+"other", row{}, 0, tag))
			}
			if i%3 > 1 { // and the key had it
				require.NoError(t, f.a.Set(t.Context(), key, row{Key: key}, 0, tag))
				require.NoError(t, f.na.InvalidateTags(t.Context(), tag))
			}
			db.write(key)
			load := stall(t, f.a, key, read)
			newest := db.write(key).Version
			require.NoError(t, n.InvalidateTags(t.Context(), tag))
			require.Less(t, load.end().Version, newest, "void: the loader read the new value")
			// A node that has not heard of it yet may have what it loaded in memory, until
			// the message arrives: what must not be is that it stays.
			for _, c := range []*tier.Cache[row]{f.b, f.a} {
				await(t, fmt.Sprintf("round %d: the stale value to be gone", i), 5*time.Second, func() bool {
					_, ok := c.Get(t.Context(), key)
					return !ok
				})
			}
			v, err := f.a.GetOrSet(t.Context(), key, 0, func(context.Context) (row, error) { return read(), nil })
			require.NoError(t, err)
			assert.Equal(t, newest, v.Version)
			local(t, f.a, key)
		}
		assert.NotZero(t, f.a.Stats().FillsRefused)
	})
}

// A Set with a tag that overlaps an invalidation, or a value stored before one
// by a node that has not heard of it, is void.
func TestBoundedStaleness_otherNodeObeysInvalidateTags(t *testing.T) {
	t.Parallel()
	eachFleet(t, func(t *testing.T, f fleet) {
		ctx := t.Context()
		for i := range 20 {
			tag := fmt.Sprint("tag", i%3)
			from := []*tier.Cache[row]{f.a, f.b}[i%2] // from L2 into L1, or set
			if !f.shared {
				from = f.b
			}
			require.NoError(t, from.Set(ctx, "k", row{Key: "k", Version: 1}, 0, "other", tag))
			local(t, f.b, "k")
			require.NoError(t, f.na.InvalidateTags(ctx, tag))
			acked := time.Now()
			await(t, "the invalidation to arrive", 5*time.Second, func() bool {
				_, ok := f.b.Get(ctx, "k")
				return !ok
			})
			t.Logf("the other node obeyed within %v", time.Since(acked).Round(10*time.Microsecond))
			mustMiss(t, f.a, "k")
		}
	})
}

// ReadYourWrites: after InvalidateTags returned, nobody on the node joins a load
// from before, whatever its tags will turn out to be.
func TestReadYourWrites_invalidateTagsForbidsJoins(t *testing.T) {
	for _, from := range []string{"own", "received"} {
		t.Run(from, func(t *testing.T) {
			f := newFleet(t, tier.Config{Bus: invalidation.NewLocal()})
			db := newDatabase()
			db.write("k")
			old := stall(t, f.a, "k", func() row {
				v := db.read("k")
				v.Pad = "tag"
				return v
			})
			newest := db.write("k").Version
			if from == "own" {
				require.NoError(t, f.na.InvalidateTags(t.Context(), "tag"))
			} else {
				require.NoError(t, f.nb.InvalidateTags(t.Context(), "tag"))
			}
			got := make(chan row, 1)
			go func() {
				v, err := f.a.GetOrSet(context.Background(), "k", 0, db.loader("k"))
				assert.NoError(t, err)
				got <- v
			}()
			await(t, "the second to miss", 5*time.Second, func() bool { return f.a.Stats().Misses == 2 })
			assert.Less(t, old.end().Version, newest)
			assert.Equal(t, newest, (<-got).Version)
			assert.Zero(t, f.a.Stats().Collapsed)
		})
	}
}

// The caches need not be open on the node that invalidates, nor anywhere when it
// does.
func TestNode_InvalidateTags_withoutTheCaches(t *testing.T) {
	srv := redistest.Start(t)
	cfg := tier.Config{URL: srv.URL()}
	nb := open(t, cfg)
	b := cache(t, nb, tier.Options[row]{})
	require.NoError(t, b.Set(t.Context(), "k", row{Key: "k"}, 0, "tag"))
	local(t, b, "k")
	na := open(t, cfg)
	require.NoError(t, na.InvalidateTags(t.Context(), "tag"))
	await(t, "the invalidation to arrive", 5*time.Second, func() bool {
		_, ok := b.Get(t.Context(), "k")
		return !ok
	})
	require.NoError(t, b.Set(t.Context(), "k", row{Key: "k"}, 0, "tag"))
	require.NoError(t, nb.Close())
	require.NoError(t, na.InvalidateTags(t.Context(), "tag"))
	mustMiss(t, cache(t, open(t, cfg), tier.Options[row]{}), "k")
}

// BoundedStaleness: a lost message is noticed.
func TestBoundedStaleness_messageAboutTagsLost(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	na := open(t, tier.Config{URL: srv.URL(), Heartbeat: 100 * time.Millisecond})
	nb := open(t, tier.Config{URL: proxy.URL(), Heartbeat: 100 * time.Millisecond})
	b := cache(t, nb, tier.Options[row]{})
	await(t, "a beat of the other node", 10*time.Second, func() bool { return nb.Stats().Bus.Nodes == 2 })
	for i := range 5 {
		require.NoError(t, b.Set(t.Context(), "k", row{Key: "k"}, 0, "tag"))
		local(t, b, "k")
		lost := proxy.DropMessages(1, func(m redistest.Message) bool {
			msg, err := invalidation.Parse([]byte(m.Payload))
			return err == nil && msg.Kind == invalidation.KindTags
		})
		require.NoError(t, na.InvalidateTags(t.Context(), "tag"))
		acked := time.Now()
		await(t, "the gap to show", nb.Stats().MaxStaleness+slack, func() bool {
			_, ok := b.Get(t.Context(), "k")
			return !ok
		})
		t.Logf("round %d: obeyed within %v", i, time.Since(acked).Round(time.Millisecond))
		assert.Equal(t, 1, lost.Dropped())
	}
	assert.NotZero(t, nb.Stats().Bus.Gaps)
}

// NoStaleFill without a message: the loader's node does not hear of the
// invalidation, and finds out from the version that it was during the load.
func TestNoStaleFill_messageAboutItsTagLost(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	na := open(t, tier.Config{URL: srv.URL()})
	a := tagged(t, na, "t", byPad)
	nb := open(t, tier.Config{URL: proxy.URL()})
	b := tagged(t, nb, "t", byPad)
	for i := range 10 {
		key, tag := fmt.Sprint("k", i), fmt.Sprint("tag", i)
		if i%2 == 0 { // known to Redis, not to the node that loads
			require.NoError(t, a.Set(t.Context(), key+"other", row{Pad: tag}, 0))
		}
		load := stall(t, b, key, func() row { return row{Key: key, Pad: tag} })
		lost := proxy.DropMessages(1, func(m redistest.Message) bool {
			msg, err := invalidation.Parse([]byte(m.Payload))
			return err == nil && msg.Kind == invalidation.KindTags
		})
		require.NoError(t, na.InvalidateTags(t.Context(), tag))
		load.end()
		mustMiss(t, b, key)
		mustMiss(t, a, key)
		await(t, "the message to be lost", 5*time.Second, func() bool { return lost.Dropped() == 1 })
	}
}

// A version far ahead (the clock of Redis has gone back since) stays a floor.
func TestNode_InvalidateTags_clockOfRedisWentBack(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := tagged(t, n, "t", byPad)
	ctx := t.Context()
	require.NoError(t, n.InvalidateTags(ctx, "tag"))
	keys, _ := srv.Do("keys", "tandem:!tags:*").([]any)
	var book string
	for _, key := range keys {
		if srv.Do("hexists", key, "tag") == int64(1) {
			book = key.(string)
		}
	}
	require.NotEmpty(t, book)
	ahead := time.Now().Add(time.Hour).UnixMicro()
	for _, field := range []string{"tag", "\n"} {
		srv.Do("hset", book, field, ahead)
	}
	require.NoError(t, c.Set(ctx, "k", row{Key: "k", Pad: "tag"}, 0))
	loads := 0
	load := func(key string) {
		t.Helper()
		_, err := c.GetOrSet(ctx, key, 0, func(context.Context) (row, error) { loads++; return row{Key: key, Pad: "tag"}, nil })
		require.NoError(t, err)
	}
	load("loaded")
	load("loaded")
	load("loaded")
	assert.LessOrEqual(t, loads, 2, "a tag that seems to be from after the load is known before the next one")
	srv.Do("del", book) // its successor begins with the time of now
	require.NoError(t, n.InvalidateTags(ctx, "tag"))
	mustMiss(t, c, "k")
	mustMiss(t, c, "loaded")
	await(t, "nothing to be owed", 5*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	require.NoError(t, c.Set(ctx, "k", row{Key: "k", Pad: "tag"}, 0))
	mustGet(t, c, "k")
	require.NoError(t, n.InvalidateTags(ctx, "tag"))
	mustMiss(t, c, "k")
}

// What is lost in Redis invalidates and never resurrects: a book that is gone
// makes everything under it stale, and one that went back is raised again.
func TestNode_InvalidateTags_bookLostOrSetBack(t *testing.T) {
	srv := redistest.Start(t)
	cfg := tier.Config{URL: srv.URL()}
	n := open(t, cfg)
	c := cache(t, n, tier.Options[row]{})
	ctx := t.Context()
	set := func() { require.NoError(t, c.Set(ctx, "k", row{Key: "k"}, 0, "tag")) }
	books := func(each func(key string)) {
		keys, _ := srv.Do("keys", "tandem:!tags:*").([]any)
		require.NotEmpty(t, keys)
		for _, key := range keys {
			each(key.(string))
		}
	}
	fresh := func() *tier.Cache[row] { return cache(t, open(t, cfg), tier.Options[row]{}) }

	set()
	mustGet(t, fresh(), "k")
	books(func(key string) { srv.Do("del", key) })
	mustMiss(t, fresh(), "k")
	await(t, "the loss to arrive", 5*time.Second, func() bool {
		_, ok := c.Get(ctx, "k")
		return !ok
	})

	// Set back to before an invalidation, with the record from before it.
	set()
	record := srv.Do("dump", "tandem:row:k").(string)
	saved := make(map[string]string)
	books(func(key string) { saved[key] = srv.Do("dump", key).(string) })
	require.NoError(t, n.InvalidateTags(ctx, "tag"))
	for key, dump := range saved {
		srv.Do("restore", key, 0, dump, "replace")
	}
	srv.Do("restore", "tandem:row:k", 0, record, "replace")
	mustMiss(t, c, "k")
	srv.Do("client", "kill", "type", "pubsub") // what was remembered is forgotten
	await(t, "a gap", 5*time.Second, func() bool { return n.Stats().Bus.Gaps > 1 && n.Stats().Bus.Hears })
	mustMiss(t, c, "k")
	await(t, "the invalidation to come again", 5*time.Second, func() bool {
		_, ok := fresh().Get(ctx, "k")
		return !ok
	})
	await(t, "the debt to be paid", 5*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	set()
	mustGet(t, c, "k")
	mustGet(t, fresh(), "k")
}

// NothingForgotten: an invalidation that Redis did not confirm is owed.
func TestNothingForgotten_invalidateTags(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		t.Run(fmt.Sprint("strict=", strict), func(t *testing.T) {
			srv := redistest.Start(t)
			n := open(t, tier.Config{URL: srv.URL(), Strict: strict})
			c := cache(t, n, tier.Options[row]{})
			other := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
			ctx := t.Context()
			db := newDatabase()
			load := func() {
				t.Helper()
				_, err := c.Fetch(ctx, "k", func(_ context.Context, f *tier.Fill[row]) (row, error) {
					f.Tags = []string{"tag"}
					return db.read("k"), nil
				})
				require.NoError(t, err)
			}
			require.NoError(t, c.Set(ctx, "k", row{Key: "k"}, 0, "tag"))
			require.NoError(t, c.Set(ctx, "k2", row{Key: "k2"}, 0, "tag2"))
			local(t, c, "k2")

			// Redis is there for reads and does not take the change.
			srv.Do("config", "set", "min-replicas-to-write", 1)
			err := n.InvalidateTags(ctx, "tag")
			if strict {
				require.ErrorIs(t, err, tier.ErrUnavailable)
				require.ErrorContains(t, err, "tag")
			} else {
				require.NoError(t, err)
			}
			for i := range 3 {
				mustMiss(t, c, "k")
				load()
				assert.Equal(t, i+1, db.loadsOf("k"), "what is owed is loaded on every read")
			}
			mustGet(t, c, "k2")
			mustGet(t, other, "k") // Redis never heard of it
			require.Equal(t, 1, n.Stats().Journal.Owed)

			srv.Do("config", "set", "min-replicas-to-write", 0)
			await(t, "the debt to be paid", 5*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
			mustMiss(t, c, "k")
			await(t, "the others to hear", 5*time.Second, func() bool {
				_, ok := other.Get(ctx, "k")
				return !ok
			})
			load()
			load()
			assert.Equal(t, 4, db.loadsOf("k"))
			mustGet(t, other, "k")
		})
	}
}

// A load that was under way while an invalidation of its tag was owed and paid
// stores nothing.
func TestNothingForgotten_loadAcrossTheDebtOfATag(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := tagged(t, n, "t", byPad)
	for i := range 4 {
		key := fmt.Sprint("k", i)
		load := stall(t, c, key, func() row { return row{Key: key, Pad: "tag"} })
		srv.Do("config", "set", "min-replicas-to-write", 1)
		require.NoError(t, n.InvalidateTags(t.Context(), "tag"))
		if i%2 == 0 {
			load.end() // while it is owed
		}
		srv.Do("config", "set", "min-replicas-to-write", 0)
		await(t, "the debt to be paid", 5*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
		if i%2 == 1 {
			load.end()
		}
		mustMiss(t, c, key)
	}
}

// More owed tags than there is room for become one debt for every tag.
func TestNothingForgotten_tooManyTags(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), MaxPending: 10})
	c := cache(t, n, tier.Options[row]{})
	ctx := t.Context()
	var tags []string
	for i := range 50 {
		tags = append(tags, fmt.Sprint("tag", i))
		require.NoError(t, c.Set(ctx, tags[i], row{Key: tags[i]}, 0, tags[i]))
	}
	require.NoError(t, c.Set(ctx, "k", row{Key: "k"}, 0, "another"))
	require.NoError(t, c.Set(ctx, "plain", row{Key: "plain"}, 0))
	srv.Do("config", "set", "min-replicas-to-write", 1)
	require.NoError(t, n.InvalidateTags(ctx, tags...))
	assert.LessOrEqual(t, n.Stats().Journal.Owed, 11)
	for _, tag := range tags {
		mustMiss(t, c, tag)
	}
	mustMiss(t, c, "k")
	srv.Do("config", "set", "min-replicas-to-write", 0)
	await(t, "the debts to be paid", 5*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	other := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	for _, tag := range tags {
		mustMiss(t, other, tag)
	}
	mustMiss(t, other, "k")
	mustGet(t, other, "plain")
}

// On a cluster the master of a tag may be away: while the bus is heard, nodes
// that know the tag go on, and others load without storing.
func TestCluster_masterOfATagAway(t *testing.T) {
	t.Parallel()
	cl := redistest.StartCluster(t)
	cfg := tier.Config{URL: cl.URL(), Timeout: time.Second, Heartbeat: time.Minute}
	n := open(t, cfg)
	c := cache(t, n, tier.Options[row]{Local: tier.Local{Disabled: true}})
	ctx := t.Context()
	// Some keys and some tags of each master.
	const many = 30
	for i := range many {
		k := fmt.Sprint("k", i)
		require.NoError(t, c.Set(ctx, k, row{Key: k}, 0, fmt.Sprint("tag", i)))
	}
	away := cl.Owner("tandem:!tags:0")
	require.NotEqual(t, away, cl.Owner("tandem:!clear:row"), "void: choose another book")
	away.Freeze()
	var wg sync.WaitGroup
	for i := range many {
		k := fmt.Sprint("k", i)
		if cl.Owner("tandem:row:"+k) == away {
			continue
		}
		wg.Go(func() {
			_, ok := c.Get(ctx, k)
			assert.True(t, ok, k)
			assert.NoError(t, c.Set(ctx, k, row{Key: k}, 0, fmt.Sprint("tag", i)))
		})
	}
	wg.Wait()
	assert.Zero(t, n.Stats().Journal.Owed)
	away.Thaw()
}
