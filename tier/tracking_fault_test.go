package tier_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// killTracking ends the connections over which a server announces changes, and
// no others. It returns how many those were.
func killTracking(srv *redistest.Server) int {
	list, _ := srv.Do("CLIENT", "LIST", "TYPE", "pubsub").(string)
	count := 0
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		for _, field := range fields {
			if strings.HasPrefix(field, "flags=") && strings.Contains(field, "t") {
				srv.Do("CLIENT", "KILL", "ID", strings.TrimPrefix(fields[0], "id="))
				count++
			}
		}
	}
	return count
}

// tracks waits until a node hears what is announced, and serves from memory.
func tracks(t testing.TB, n *tier.Node) {
	t.Helper()
	await(t, "tracking", soon, func() bool { return n.Stats().Tracking.Hears && n.Stats().Bus.Hears })
}

// The loss of the announcements is a gap, as that of the bus: what was in memory
// is not believed any more, also when they are back.
func TestTracking_aLostConnectionIsAGap(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Prefix: "test", Tracking: true})
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	for round := range 5 {
		tracks(t, n)
		inMemory(t, c, db, "k")
		before := n.Stats()
		require.Equal(t, 1, killTracking(srv))
		await(t, "the gap", soon, func() bool {
			s := n.Stats()
			return s.Tracking.Gaps >= before.Tracking.Gaps+2 && s.Tracking.Confirmed == 1
		})
		item, err := c.Lookup(t.Context(), "k")
		require.NoError(t, err)
		assert.Equal(t, tier.TierL2, item.Tier, "round %d", round)
		assert.Equal(t, before.Bus.Links, n.Stats().Bus.Links, "the bus is not concerned")
	}
	assert.EqualValues(t, 1, c.Stats().Loads, "demoted, not thrown away")
}

// While nothing is announced, memory serves nothing as fresh, and the node says
// why. When it is allowed again, memory serves.
func TestTracking_withoutAnnouncementsMemoryIsNotFresh(t *testing.T) {
	srv := redistest.Start(t, redistest.WithUser("app", "on", ">secret", "+@all", "allkeys", "allchannels"))
	url := "redis://app:secret@" + srv.Addr()
	n := open(t, tier.Config{URL: url, Prefix: "test", Tracking: true, Heartbeat: 200 * time.Millisecond})
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	tracks(t, n)
	inMemory(t, c, db, "k")

	srv.Do("ACL", "SETUSER", "app", "-client|tracking")
	require.Equal(t, 1, killTracking(srv))
	await(t, "the refusal", soon, func() bool { return strings.Contains(n.Health(t.Context()).L1.Reason, "CLIENT TRACKING") })
	h := n.Health(t.Context())
	assert.False(t, h.Healthy)
	assert.Equal(t, "fallback", h.L1.State)
	assert.True(t, h.L2.Healthy)
	assert.Contains(t, n.Stats().Tracking.LastError, "CLIENT TRACKING")
	assert.Zero(t, n.Stats().Tracking.Confirmed)
	assert.True(t, n.Stats().Bus.Hears == n.Stats().Tracking.Hears, "one lease for both")
	for range 100 {
		item, err := c.Lookup(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, tier.TierL2, item.Tier)
	}
	srv.Do("DEL", "test:row:k")
	mustMiss(t, c, "k")

	srv.Do("ACL", "SETUSER", "app", "+client|tracking")
	tracks(t, n)
	inMemory(t, c, db, "k")
	assert.True(t, n.Health(t.Context()).Healthy)
}

// A Redis that is away is no error of Open, and tracked as soon as it is there.
func TestTracking_beginsWhenRedisComes(t *testing.T) {
	srv := redistest.Start(t)
	srv.Stop()
	n := open(t, tier.Config{URL: srv.URL(), Prefix: "test", Tracking: true})
	assert.Contains(t, n.Health(t.Context()).L1.Reason, "not heard")
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	for range 3 {
		srv.Restart() // comes, and goes and comes empty
		tracks(t, n)
		db.write("k")
		inMemory(t, c, db, "k")
		srv.Do("DEL", "test:row:k")
		await(t, "the miss", soon, func() bool { _, ok := c.Get(t.Context(), "k"); return !ok })
	}
}

// After a failover it is the new master that announces.
func TestTracking_followsAFailover(t *testing.T) {
	t.Parallel()
	t.Run("sentinel", func(t *testing.T) {
		s := redistest.StartSentinel(t)
		n := open(t, tier.Config{URL: s.URL(), Prefix: "test", Tracking: true})
		testFailover(t, n, s.Failover)
	})
	t.Run("cluster", func(t *testing.T) {
		c := redistest.StartCluster(t, redistest.WithReplicas(1))
		n := open(t, tier.Config{URL: c.URL(), Prefix: "test", Tracking: true})
		testFailover(t, n, func() *redistest.Server { return c.Failover("test:row:k") })
	})
}

func testFailover(t *testing.T, n *tier.Node, failover func() *redistest.Server) {
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	inMemory(t, c, db, "k")
	before := n.Stats().Tracking.Gaps
	master := failover()
	// As long as the node has not noticed, it may serve what it has.
	await(t, "the failover", soon, func() bool { return n.Stats().Tracking.Gaps > before })
	for range 10 {
		tracks(t, n)
		inMemory(t, c, db, "k")
		master.Do("DEL", "test:row:k")
		await(t, "the miss", soon, func() bool { _, ok := c.Get(t.Context(), "k"); return !ok })
	}
}

// Close waits for reads of what was announced, and they do not wait for Close.
func TestTracking_closesUnderAnnouncements(t *testing.T) {
	srv := redistest.Start(t)
	for range 20 {
		n, err := tier.Open(t.Context(), tier.Config{URL: srv.URL(), Prefix: "test", Tracking: true})
		require.NoError(t, err)
		c := cache(t, n, tier.Options[row]{})
		var writers sync.WaitGroup
		for i := range 8 {
			writers.Go(func() {
				for c.Set(context.Background(), strconv.Itoa(i), row{}, 0) == nil {
				}
			})
		}
		await(t, "announcements", soon, func() bool { return n.Stats().Tracking.Changes > 100 })
		begun := time.Now()
		require.NoError(t, n.Close())
		assert.Less(t, time.Since(begun), 5*time.Second)
		writers.Wait()
	}
}
