package redistest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// masters is the size of a cluster: the least in which a majority of masters
// can agree that one is gone.
const masters = 3

// slots is the number of hash slots of a Redis Cluster.
const slots = 16384

// WithReplicas gives each master of a cluster n replicas (default none), or the
// master of a [Sentinel] (default one).
func WithReplicas(n int) Option { return func(c *config) { c.replicas = n } }

// Cluster is a Redis Cluster of three masters. [StartCluster] makes one.
type Cluster struct {
	t     testing.TB
	cfg   config
	nodes []*Server // the first masters at first, then their replicas in turn
	buses []*port
}

// StartCluster runs a cluster and returns once every node says that it is
// complete. The options apply to each node; WithConfig changes what the cluster
// is for, as in WithConfig("cluster-require-full-coverage", "no").
func StartCluster(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	for _, opt := range opts {
		opt(&c.cfg)
	}
	if c.cfg.tls || c.cfg.socket {
		t.Fatal("redistest: StartCluster takes neither WithTLS nor WithUnixSocket")
	}
	for range masters * (1 + c.cfg.replicas) {
		c.nodes = append(c.nodes, c.startNode(opts))
	}
	c.assign()
	c.AwaitOK()
	c.replicate()
	return c
}

// startNode runs a node that knows no other.
func (c *Cluster) startNode(opts []Option) *Server {
	c.t.Helper()
	// The bus has a port of its own, set aside like the other: the default,
	// port + 10000, would reach into the ephemeral ports.
	bus, err := reservePort()
	if err != nil {
		c.t.Fatalf("redistest: no free port: %v", err)
	}
	c.t.Cleanup(func() { _ = bus.release() })
	c.buses = append(c.buses, bus)
	return Start(c.t, append([]Option{
		WithConfig("cluster-enabled", "yes"),
		WithConfig("cluster-port", strconv.Itoa(bus.number)),
		WithConfig("cluster-node-timeout", "2000"),
		// A replica that was cut off for long may still take over: tests
		// freeze nodes, and a refused election would hang them.
		WithConfig("cluster-replica-validity-factor", "0"),
		WithConfig("cluster-allow-replica-migration", "no"),
	}, opts...)...)
}

// assign gives each master its slots and lets every node meet the first.
func (c *Cluster) assign() {
	c.t.Helper()
	first := c.nodes[0]
	for i, node := range c.nodes {
		// Without epochs of their own they would start with a collision.
		node.Do("cluster", "set-config-epoch", i+1)
		if i < masters {
			node.Do("cluster", "addslotsrange", i*slots/masters, (i+1)*slots/masters-1)
		}
		if i > 0 {
			node.Do("cluster", "meet", "127.0.0.1", first.port.number, c.buses[0].number)
		}
	}
}

// replicate attaches the nodes after the masters to them in turn.
func (c *Cluster) replicate() {
	c.t.Helper()
	for i, node := range c.nodes[masters:] {
		node.Do("cluster", "replicate", c.nodes[i%masters].id())
	}
	for i, node := range c.nodes[masters:] {
		await(c.t, "replica "+node.Addr()+" in sync", node.synced)
		await(c.t, "replica "+node.Addr()+" known", func() error { return c.nodes[i%masters].knowsReplica(node) })
	}
	c.AwaitOK()
}

// id returns the node's id in its cluster.
func (s *Server) id() string {
	s.t.Helper()
	id, _ := s.Do("cluster", "myid").(string)
	return id
}

// synced says why the server is not a replica in sync with its master.
func (s *Server) synced() error {
	reply, err := s.do("info", "replication")
	if err != nil {
		return err
	}
	text, _ := reply.(string)
	info := infoFields(text)
	if info["role"] != "slave" || info["master_link_status"] != "up" {
		return fmt.Errorf("role %q, link %q", info["role"], info["master_link_status"])
	}
	return nil
}

// knowsReplica says why s, a master, does not know that replica follows it. The
// replication link tells nothing of it: the cluster bus does, later.
func (s *Server) knowsReplica(replica *Server) error {
	owners, err := s.slotOwners()
	if err != nil {
		return err
	}
	for _, o := range owners {
		if o.Nodes[0].Addr != s.Addr() {
			continue
		}
		if slices.ContainsFunc(o.Nodes[1:], func(n redis.ClusterNode) bool { return n.Addr == replica.Addr() }) {
			return nil
		}
	}
	return fmt.Errorf("%s does not know its replica %s", s.Addr(), replica.Addr())
}

// AwaitOK waits until every node that runs says cluster_state:ok, knows all
// others, is linked to those that it holds to be alive, and agrees with the rest
// on who owns what.
func (c *Cluster) AwaitOK() {
	c.t.Helper()
	await(c.t, "cluster complete", func() error {
		views := make(map[string]string)
		for _, node := range c.running() {
			if err := node.clusterOK(len(c.nodes)); err != nil {
				return fmt.Errorf("%s: %w", node.Addr(), err)
			}
			view, err := node.slotView()
			if err != nil {
				return err
			}
			views[view] = node.Addr()
		}
		if len(views) != 1 {
			return fmt.Errorf("%d views of the slots: %v", len(views), views)
		}
		return nil
	})
}

// clusterOK says why the node's view of its cluster is not complete.
func (s *Server) clusterOK(nodes int) error {
	reply, err := s.do("cluster", "info")
	if err != nil {
		return err
	}
	text, _ := reply.(string)
	info := infoFields(text)
	if info["cluster_state"] != "ok" || info["cluster_known_nodes"] != strconv.Itoa(nodes) {
		return fmt.Errorf("state %q, knows %s of %d nodes", info["cluster_state"], info["cluster_known_nodes"], nodes)
	}
	return s.linked()
}

// linked says to which node this one has no link, although it holds it to be
// alive: what it publishes would not reach that node.
func (s *Server) linked() error {
	reply, err := s.do("cluster", "nodes")
	if err != nil {
		return err
	}
	text, _ := reply.(string)
	for line := range strings.Lines(text) {
		const flags, state = 2, 7
		fields := strings.Fields(line)
		if len(fields) > state && !strings.Contains(fields[flags], "fail") && fields[state] != "connected" {
			return fmt.Errorf("link to %s is %s", fields[1], fields[state])
		}
	}
	return nil
}

// slotOwners asks the node who owns what.
func (s *Server) slotOwners() ([]redis.ClusterSlot, error) {
	s.mu.Lock()
	admin := s.admin
	s.mu.Unlock()
	if admin == nil {
		return nil, errors.New("the server is stopped")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	//nolint:staticcheck // CLUSTER SHARDS lists failed nodes too, in no order
	return admin.ClusterSlots(ctx).Result()
}

// slotView is slotOwners as text, masters only.
func (s *Server) slotView() (string, error) {
	owners, err := s.slotOwners()
	if err != nil {
		return "", err
	}
	view := make(map[int]string, len(owners)) // fmt sorts the keys of a map
	for _, o := range owners {
		view[o.Start] = fmt.Sprintf("%d %s", o.End, o.Nodes[0].Addr)
	}
	return fmt.Sprint(view), nil
}

// Nodes returns all nodes in the order of their start: the first masters, then
// replicas of each in turn. The roles may have changed since.
func (c *Cluster) Nodes() []*Server { return c.nodes }

// running returns the nodes that run.
func (c *Cluster) running() []*Server {
	var up []*Server
	for _, node := range c.nodes {
		if node.up() {
			up = append(up, node)
		}
	}
	return up
}

// Addrs returns the addresses of all nodes, in the order of Nodes.
func (c *Cluster) Addrs() []string { return addrs(c.nodes) }

func addrs(servers []*Server) []string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.Addr()
	}
	return list
}

// URL returns redis+cluster://a?addr=b&addr=c with every node.
func (c *Cluster) URL() string {
	u := url.URL{Scheme: "redis+cluster", Host: c.nodes[0].Addr()}
	if c.cfg.password != "" {
		u.User = url.UserPassword("", c.cfg.password)
	}
	u.RawQuery = url.Values{"addr": c.Addrs()[1:]}.Encode()
	return u.String()
}

// Options returns what a client of this cluster needs and nothing else.
func (c *Cluster) Options() *redis.ClusterOptions {
	return &redis.ClusterOptions{Addrs: c.Addrs(), Password: c.cfg.password}
}

// Client returns a client with go-redis' defaults, which is closed when t ends.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	t.Helper()
	return closed(t, redis.NewClusterClient(c.Options()))
}
