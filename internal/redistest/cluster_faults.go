package redistest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Slot returns the hash slot of key.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	slot, _ := c.running()[0].Do("cluster", "keyslot", key).(int64)
	return int(slot)
}

// Owner returns the master of key, on which all nodes that run agree.
func (c *Cluster) Owner(key string) *Server {
	c.t.Helper()
	var owner *Server
	slot := c.Slot(key)
	await(c.t, "owner of "+key, func() (err error) {
		owner, err = c.owner(slot)
		return err
	})
	return owner
}

// owner returns the master of slot, if all that run agree on it.
func (c *Cluster) owner(slot int) (*Server, error) {
	var addr string
	for _, node := range c.running() {
		owners, err := node.slotOwners()
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(owners, func(s redis.ClusterSlot) bool { return s.Start <= slot && slot <= s.End })
		if i < 0 {
			return nil, fmt.Errorf("%s knows no owner of slot %d", node.Addr(), slot)
		}
		theirs := owners[i].Nodes[0].Addr
		if addr != "" && addr != theirs {
			return nil, fmt.Errorf("slot %d belongs to %s and to %s", slot, addr, theirs)
		}
		addr = theirs
	}
	i := slices.IndexFunc(c.nodes, func(s *Server) bool { return s.Addr() == addr })
	if i < 0 {
		return nil, fmt.Errorf("slot %d belongs to %q, which is none of ours", slot, addr)
	}
	return c.nodes[i], nil
}

// MoveSlot moves a slot with its keys to another master, as a resharding does,
// and returns once every node that runs knows.
func (c *Cluster) MoveSlot(slot int, to *Server) {
	c.t.Helper()
	from, err := c.owner(slot)
	to.must(err)
	if from == to {
		return
	}
	c.OpenSlot(slot, to)
	c.MigrateKeys(slot, to)
	// The new owner first: in the other order there would be none for a moment.
	to.Do("cluster", "setslot", slot, "node", to.id())
	from.Do("cluster", "setslot", slot, "node", to.id())
	await(c.t, fmt.Sprintf("move of slot %d", slot), func() error {
		owner, err := c.owner(slot)
		if err == nil && owner != to {
			err = errors.New("still " + owner.Addr())
		}
		return err
	})
}

// OpenSlot begins the move of a slot to another master. Its owner stays who it was.
func (c *Cluster) OpenSlot(slot int, to *Server) {
	c.t.Helper()
	from, err := c.owner(slot)
	to.must(err)
	to.Do("cluster", "setslot", slot, "importing", from.id())
	from.Do("cluster", "setslot", slot, "migrating", to.id())
}

// MigrateKeys moves the keys of a slot that was opened.
func (c *Cluster) MigrateKeys(slot int, to *Server) {
	c.t.Helper()
	from, err := c.owner(slot)
	to.must(err)
	for {
		keys, _ := from.Do("cluster", "getkeysinslot", slot, 100).([]any)
		if len(keys) == 0 {
			return
		}
		args := []any{"migrate", "127.0.0.1", to.port.number, "", 0, deadline.Milliseconds()}
		if c.cfg.password != "" {
			args = append(args, "auth", c.cfg.password)
		}
		from.Do(append(append(args, "keys"), keys...)...)
	}
}

// KillMaster kills the master of key and returns it. It does not wait: see
// [Cluster.AwaitTakeover] (with [WithReplicas]) and [Server.Restart].
func (c *Cluster) KillMaster(key string) *Server {
	c.t.Helper()
	owner := c.Owner(key)
	owner.Kill()
	return owner
}

// AwaitTakeover waits until another node than old is the master of key and the
// cluster works again, and returns it. old may be dead, frozen or alive; while it is
// frozen it is not asked.
func (c *Cluster) AwaitTakeover(key string, old *Server) *Server {
	c.t.Helper()
	return c.awaitTakeover(key, old, func() error { return nil })
}

// awaitTakeover calls again as long as old is the master.
func (c *Cluster) awaitTakeover(key string, old *Server, again func() error) *Server {
	c.t.Helper()
	var owner *Server
	slot := c.Slot(key)
	await(c.t, "takeover of "+key, func() (err error) {
		if owner, err = c.owner(slot); err != nil {
			return err
		}
		if owner == old {
			return cmp.Or(again(), errors.New("still "+old.Addr()))
		}
		return owner.clusterOK(len(c.nodes))
	})
	return owner
}

// manualFailover is how long an attempt at a CLUSTER FAILOVER may take, and a bit:
// CLUSTER_MF_TIMEOUT of Redis' cluster.h.
const manualFailover = 6 * time.Second

// Failover lets a replica of the master of key take over in good order (CLUSTER
// FAILOVER: nothing is lost, the old master stays as a replica), waits until
// that is done and returns the new master.
func (c *Cluster) Failover(key string) *Server {
	c.t.Helper()
	old := c.Owner(key)
	for _, node := range c.running() {
		info := node.Info("replication")
		if info["role"] == "slave" && info["master_port"] == old.portText() {
			// A master ignores the request of a replica that it does not know.
			await(c.t, "replica known", func() error { return old.knowsReplica(node) })
			var asked time.Time
			return c.awaitTakeover(key, old, func() (err error) {
				// Soon after another failover a vote may be refused, by a master that
				// has not heard of it: the attempt is given up after five seconds.
				if time.Since(asked) > manualFailover {
					_, err = node.do("cluster", "failover")
					asked = time.Now()
				}
				return err
			})
		}
	}
	c.t.Fatalf("redistest: the master of %q, %s, has no replica: use WithReplicas", key, old.Addr())
	return nil
}
