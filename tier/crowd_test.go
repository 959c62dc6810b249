package tier_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// A fleet that loses its Redis: so many nodes, which all serve the same keys.
const (
	crowdNodes = 30
	crowdKeys  = 40
)

// crowd is many nodes in one process.
type crowd struct {
	srv    *redistest.Server
	db     *database
	nodes  []*tier.Node
	caches []*tier.Cache[row]
	keys   []string
}

func newCrowd(t *testing.T, srv *redistest.Server) *crowd {
	c := &crowd{srv: srv, db: newDatabase()}
	for i := range crowdKeys {
		c.keys = append(c.keys, fmt.Sprint("hot", i))
		c.db.write(c.keys[i])
	}
	for range crowdNodes {
		// On a busy machine thirty nodes in one process are slow by themselves.
		n := open(t, tier.Config{URL: srv.URL(), Timeout: 2 * time.Second})
		c.nodes = append(c.nodes, n)
		c.caches = append(c.caches, cache(t, n, tier.Options[row]{TTL: tier.TTLLong}))
	}
	c.await(t, "the nodes to know each other", func(_ int, st tier.NodeStats) bool { return st.Bus.Nodes == crowdNodes })
	for _, cc := range c.caches {
		for _, k := range c.keys {
			loaded(t, cc, c.db, k)
		}
	}
	return c
}

// await waits until something holds of every node.
func (c *crowd) await(t *testing.T, what string, ok func(i int, st tier.NodeStats) bool) {
	t.Helper()
	await(t, what, 30*time.Second, func() bool {
		all := true
		for i, n := range c.nodes {
			all = ok(i, n.Stats()) && all
		}
		return all
	})
}

// read has every node read all keys in turn, some hundred reads a second, until
// stop is called.
func (c *crowd) read(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for n, cc := range c.caches {
		running.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := n; ; i++ {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				key := c.keys[i%len(c.keys)]
				v, err := cc.GetOrSet(context.Background(), key, 0, c.db.loader(key))
				assert.NoError(t, err)
				assert.EqualValues(t, 1, v.Version)
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}

func (c *crowd) loads() (sum int) {
	for _, key := range c.keys {
		sum += c.db.loadsOf(key)
	}
	return sum
}

// commands returns how many commands the server has run, those of scripts included.
func commands(t *testing.T, srv *redistest.Server) int64 {
	t.Helper()
	n, err := strconv.ParseInt(srv.Info("stats")["total_commands_processed"], 10, 64)
	require.NoError(t, err)
	return n
}

// What the return of Redis costs is bounded: six commands for each node and key
// that is in use, beside the ten a second by which a node watches Redis, and no
// load of what Redis still has, else one for each key in the fleet, or two where the
// guard clears the caches after the first.
//
// It rests on three things. A node hears again at once, not when the pause of its
// subscription is over, because until then each of its reads asks Redis. What
// many ask for at once is asked once. And leases are shared by the fleet.
func TestFailure_fleetReconnects(t *testing.T) {
	// Not parallel: what 30 nodes do at once is bounded as long as Redis answers in time.
	c := newCrowd(t, redistest.Start(t, redistest.WithPersistence()))
	defer c.read(t)()
	t.Log("with its data")
	assert.Zero(t, c.outage(t, 8))
	t.Log("empty")
	c.srv.FlushAll()
	// Once more because the caches are cleared, which comes before the loads as a
	// rule; and on a busy machine some reads take all of Timeout and load alone.
	assert.LessOrEqual(t, c.outage(t, 1), 3*crowdKeys)
}

// outage kills the server, restarts it when each subscription has failed so many
// times, and returns how many loads its return took.
func (c *crowd) outage(t *testing.T, failures uint64) (loads int) {
	links := c.each(func(i int, st tier.NodeStats) uint64 { return st.Bus.Links })
	loads = c.loads()
	c.srv.Kill()
	// Until the pauses of the subscriptions have grown to most of a second.
	c.await(t, "the outage to last", func(i int, st tier.NodeStats) bool {
		return !st.Available && st.Bus.Links >= links[i]+failures
	})
	assert.Equal(t, loads, c.loads(), "L1 served, nothing was loaded")

	c.srv.Restart()
	begun := time.Now()
	var back, hears [crowdNodes]time.Time
	c.await(t, "everybody to hear", func(i int, st tier.NodeStats) bool {
		if st.Available && back[i].IsZero() {
			back[i] = time.Now()
		}
		if st.Available && st.Bus.Hears && hears[i].IsZero() {
			hears[i] = time.Now()
		}
		return !hears[i].IsZero()
	})
	took := time.Since(begun)
	hits := c.each(func(i int, _ tier.NodeStats) uint64 { return c.caches[i].Stats().HitsL1 })
	c.await(t, "everything to be in L1 again", func(i int, _ tier.NodeStats) bool {
		return c.caches[i].Stats().HitsL1 > hits[i]+crowdKeys
	})
	ran, seconds := commands(t, c.srv), time.Since(begun).Seconds()
	loads = c.loads() - loads
	var deaf []time.Duration
	for i := range crowdNodes {
		deaf = append(deaf, hears[i].Sub(back[i]).Round(time.Millisecond))
	}
	slices.Sort(deaf)
	half, last := deaf[crowdNodes/2], deaf[crowdNodes-1]
	t.Logf("%d nodes, %d keys: all hear after %v, half of them %v after Redis answered them, the last %v; %d commands and %d loads in %.1f s",
		crowdNodes, crowdKeys, took.Round(time.Millisecond), half, last, ran, loads, seconds)
	assert.Less(t, half, 250*time.Millisecond, "they sat out a pause")
	assert.LessOrEqual(t, float64(ran), 6*crowdNodes*crowdKeys+10*crowdNodes*seconds)
	return loads
}

// each asks every node something.
func (c *crowd) each(ask func(i int, st tier.NodeStats) uint64) (answers []uint64) {
	for i, n := range c.nodes {
		answers = append(answers, ask(i, n.Stats()))
	}
	return answers
}
