package tier_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// watched is a master with a replica, and a sentinel.
type watched struct {
	sentinel *redistest.Sentinel
	detours  [linked]detours
}

func newWatched(t *testing.T) topology {
	w := &watched{sentinel: redistest.StartSentinel(t)}
	for _, s := range w.sentinel.Sentinels() {
		// Twice this must pass between two failovers.
		s.Do("sentinel", "set", redistest.MasterName, "failover-timeout", "1000")
	}
	for i := range w.detours {
		w.detours[i] = newDetours(t, w.sentinel.Nodes())
	}
	return w
}

func (w *watched) connect(t *testing.T, slot *slot) tier.Config {
	if slot.index >= linked {
		return w.direct()
	}
	d := w.detours[slot.index]
	slot.links = d.links()
	o := w.sentinel.Options()
	o.Dialer, o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries = d.dial, true, -1, 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	client := redis.NewFailoverClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return tier.Config{Redis: client}
}

func (w *watched) direct() tier.Config { return tier.Config{URL: w.sentinel.URL()} }

func (w *watched) owner(string) *redistest.Server { return w.sentinel.Master() }

func (w *watched) mend() { w.sentinel.AwaitReady() }

func (w *watched) faults() []fault {
	master := func(*rand.Rand) *redistest.Server { return w.sentinel.Master() }
	return append(common(master),
		serverFault("failover", forgetful, history.Outage|history.Forgets, 0, func(*rand.Rand) func() {
			w.sentinel.AwaitReady()
			w.sentinel.Failover()
			return w.sentinel.AwaitReady
		}),
		serverFault("kill master", forgetful, history.Outage|history.Forgets, time.Second, func(*rand.Rand) func() {
			w.sentinel.AwaitReady()
			old := w.sentinel.KillMaster()
			return func() {
				w.sentinel.AwaitMaster(old)
				old.Restart()
				w.sentinel.AwaitReady()
			}
		}),
	)
}
