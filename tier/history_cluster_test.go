package tier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// linked is how many slots of a fleet on several servers have proxies of their
// own. They hand over a client, since servers announce their own addresses and
// only a dialer can take another way; the other slots have a URL.
const linked = slots / 2

// detours are the proxies of a slot, by the address of the server behind.
type detours map[string]*redistest.Proxy

func newDetours(t *testing.T, servers []*redistest.Server) detours {
	d := make(detours)
	for _, s := range servers {
		d[s.Addr()] = redistest.NewProxy(t, s)
	}
	return d
}

func (d detours) links() links {
	var all links
	for _, p := range d {
		all = append(all, p)
	}
	return all
}

// dial takes the way through the proxies.
func (d detours) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if p := d[addr]; p != nil {
		addr = p.Addr()
	}
	dialer := net.Dialer{Timeout: timeout}
	return dialer.DialContext(ctx, network, addr)
}

// replicated is a cluster of three masters with a replica each.
type replicated struct {
	cluster *redistest.Cluster
	detours [linked]detours
}

func newReplicated(t *testing.T) topology {
	c := &replicated{cluster: redistest.StartCluster(t, redistest.WithReplicas(1), redistest.WithConfig("cluster-require-full-coverage", "no"))}
	for i := range c.detours {
		c.detours[i] = newDetours(t, c.cluster.Nodes())
	}
	return c
}

func (c *replicated) connect(t *testing.T, slot *slot) tier.Config {
	if slot.index >= linked {
		return c.direct()
	}
	d := c.detours[slot.index]
	slot.links = d.links()
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.cluster.Addrs(), Dialer: d.dial, ContextTimeoutEnabled: true, MaxRetries: -1,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = client.Close() })
	return tier.Config{Redis: client}
}

func (c *replicated) direct() tier.Config { return tier.Config{URL: c.cluster.URL()} }

func (c *replicated) owner(key string) *redistest.Server { return c.cluster.Owner(key) }

func (c *replicated) mend() { c.cluster.AwaitOK() }

// master draws one of the masters: the owner of a key.
func (c *replicated) master(rng *rand.Rand) *redistest.Server { return c.cluster.Owner(someKey(rng)) }

func someKey(rng *rand.Rand) string { return fmt.Sprintf("some:key:%d", rng.IntN(1000)) }

func (c *replicated) faults() []fault {
	return append(common(c.master),
		fault{"move slots", 4, 0, 0, onServer, func(r *run, _ *slot, rng *rand.Rand) func() {
			c.cluster.AwaitOK()
			to := c.master(rng)
			for range 3 {
				key := r.keys[rng.IntN(len(r.keys))]
				c.cluster.MoveSlot(c.cluster.Slot(r.prefix+":"+key.Name), to)
			}
			return nil
		}},
		serverFault("failover in order", 2, history.Outage, 0, func(rng *rand.Rand) func() {
			c.cluster.AwaitOK()
			c.cluster.Failover(someKey(rng))
			return nil
		}),
		serverFault("kill master", forgetful, history.Outage|history.Forgets, 2*time.Second, func(rng *rand.Rand) func() {
			c.cluster.AwaitOK()
			key := someKey(rng)
			old := c.cluster.KillMaster(key)
			return func() {
				c.cluster.AwaitTakeover(key, old)
				old.Restart()
				c.cluster.AwaitOK()
			}
		}),
	)
}
