package redistest

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the sentinels call the master they watch.
const MasterName = "main"

// WithSentinels sets how many sentinels watch (default one). A majority of them
// decides.
func WithSentinels(n int) Option { return func(c *config) { c.watchers = n } }

// Sentinel is a master with replicas that sentinels watch. [StartSentinel]
// makes one.
type Sentinel struct {
	t        testing.TB
	cfg      config
	nodes    []*Server // the first master, then the replicas
	watchers []*Server
}

// StartSentinel runs one master, one replica ([WithReplicas]) and one sentinel
// ([WithSentinels]), and returns once every sentinel knows all of them. Other
// options apply to the servers that hold data.
func StartSentinel(t testing.TB, opts ...Option) *Sentinel {
	t.Helper()
	s := &Sentinel{t: t, cfg: config{replicas: 1, watchers: 1}}
	for _, opt := range opts {
		opt(&s.cfg)
	}
	if s.cfg.tls || s.cfg.socket {
		t.Fatal("redistest: StartSentinel takes neither WithTLS nor WithUnixSocket")
	}
	master := Start(t, opts...)
	s.nodes = append(s.nodes, master)
	for range s.cfg.replicas {
		replica := Start(t, append(slices.Clone(opts), WithConfig("replicaof", "127.0.0.1", master.portText()))...)
		await(t, "replica in sync", replica.synced)
		s.nodes = append(s.nodes, replica)
	}
	for range s.cfg.watchers {
		s.watchers = append(s.watchers, s.watch(master))
	}
	s.AwaitReady()
	return s
}

// AwaitReady waits until every running sentinel knows all servers, and could
// promote each replica: all of them follow the one master.
func (s *Sentinel) AwaitReady() {
	s.t.Helper()
	for _, watcher := range s.watchers {
		if watcher.up() {
			await(s.t, "sentinel ready", func() error { return s.ready(watcher) })
		}
	}
	await(s.t, "replicas in sync", func() error {
		master, err := s.master()
		if err != nil {
			return err
		}
		for _, node := range s.nodes {
			if node == master {
				continue
			}
			if err := node.synced(); err != nil {
				return fmt.Errorf("%s: %w", node.Addr(), err)
			}
		}
		return nil
	})
}

// watch runs a sentinel.
func (s *Sentinel) watch(master *Server) *Server {
	s.t.Helper()
	line := func(name string, args ...string) Option {
		return WithConfig("sentinel", append([]string{name, MasterName}, args...)...)
	}
	opts := []Option{
		func(c *config) { c.sentinel = true },
		line("monitor", "127.0.0.1", master.portText(), strconv.Itoa(s.cfg.watchers/2+1)),
		line("down-after-milliseconds", "1000"),
		line("failover-timeout", "10000"),
	}
	if s.cfg.password != "" {
		opts = append(opts, line("auth-pass", s.cfg.password))
	}
	return Start(s.t, opts...)
}

// ready says why a sentinel does not know everybody yet.
func (s *Sentinel) ready(watcher *Server) error {
	state, err := watcher.watched()
	if err != nil {
		return err
	}
	want := [...]string{"master", strconv.Itoa(s.cfg.replicas), strconv.Itoa(s.cfg.watchers - 1)}
	got := [...]string{state["flags"], state["num-slaves"], state["num-other-sentinels"]}
	if got != want {
		return fmt.Errorf("sentinel %s: flags, replicas, other sentinels are %v, not yet %v", watcher.Addr(), got, want)
	}
	return watcher.promotable()
}

// promotable says why a sentinel could not promote one of the replicas. It
// takes none (NOGOODSLAVE) that it is not connected to, or that has not
// described itself yet, which comes after it was counted.
func (s *Server) promotable() error {
	reply, err := s.do("sentinel", "replicas", MasterName)
	if err != nil {
		return err
	}
	list, _ := reply.([]any)
	for _, r := range list {
		replica := stateOf(r)
		if replica["flags"] != "slave" || replica["master-link-status"] != "ok" {
			return fmt.Errorf("sentinel %s: replica %s has flags %q and link %q",
				s.Addr(), replica["name"], replica["flags"], replica["master-link-status"])
		}
	}
	return nil
}

// watched returns what a sentinel knows of the master.
func (s *Server) watched() (map[string]string, error) {
	reply, err := s.do("sentinel", "master", MasterName)
	if err != nil {
		return nil, err
	}
	return stateOf(reply), nil
}

// stateOf reads what a sentinel says of one server.
func stateOf(reply any) map[string]string {
	state := make(map[string]string)
	switch reply := reply.(type) {
	case map[any]any:
		for name, value := range reply {
			state[fmt.Sprint(name)] = fmt.Sprint(value)
		}
	case []any:
		for pair := range slices.Chunk(reply, 2) {
			state[fmt.Sprint(pair[0])] = fmt.Sprint(pair[1])
		}
	}
	return state
}

// Nodes returns the servers that hold data: the first master, then the first
// replicas. The roles may have changed since.
func (s *Sentinel) Nodes() []*Server { return s.nodes }

// Sentinels returns the sentinels.
func (s *Sentinel) Sentinels() []*Server { return s.watchers }

// URL returns redis+sentinel://sentinel?master_name=main, with the other
// sentinels as addr parameters. The password, which is that of the data, is the
// parameter of that name: user information would be the sentinels'.
func (s *Sentinel) URL() string {
	query := url.Values{"master_name": {MasterName}}
	if rest := addrs(s.watchers)[1:]; len(rest) > 0 {
		query["addr"] = rest
	}
	if s.cfg.password != "" {
		query.Set("password", s.cfg.password)
	}
	u := url.URL{Scheme: "redis+sentinel", Host: s.watchers[0].Addr(), RawQuery: query.Encode()}
	return u.String()
}

// Options returns what a client needs and nothing else.
func (s *Sentinel) Options() *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName:    MasterName,
		SentinelAddrs: addrs(s.watchers),
		Password:      s.cfg.password,
	}
}

// Client returns a client with go-redis' defaults, which is closed when t ends.
func (s *Sentinel) Client(t testing.TB) *redis.Client {
	t.Helper()
	return closed(t, redis.NewFailoverClient(s.Options()))
}

// Master returns the server that every running sentinel calls the master and
// that calls itself so.
func (s *Sentinel) Master() *Server {
	s.t.Helper()
	return s.AwaitMaster(nil)
}

// AwaitMaster waits until a server other than old is the master, for every
// running sentinel and for itself, and returns it.
func (s *Sentinel) AwaitMaster(old *Server) *Server {
	s.t.Helper()
	var master *Server
	await(s.t, "master", func() (err error) {
		master, err = s.master()
		if err == nil && master == old {
			err = errors.New("still " + old.Addr())
		}
		return err
	})
	return master
}

// master asks the sentinels, and who they name.
func (s *Sentinel) master() (*Server, error) {
	var master *Server
	for _, watcher := range s.watchers {
		if !watcher.up() {
			continue
		}
		state, err := watcher.watched()
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(s.nodes, func(n *Server) bool { return n.portText() == state["port"] })
		switch {
		case i < 0:
			return nil, fmt.Errorf("sentinel %s names port %q", watcher.Addr(), state["port"])
		case master != nil && master != s.nodes[i]:
			return nil, fmt.Errorf("the sentinels name %s and %s", master.Addr(), s.nodes[i].Addr())
		}
		master = s.nodes[i]
	}
	if master == nil {
		return nil, errors.New("no sentinel runs")
	}
	reply, err := master.do("info", "replication")
	if err != nil {
		return nil, err
	}
	text, _ := reply.(string)
	if role := infoFields(text)["role"]; role != "master" {
		return nil, fmt.Errorf("%s, which the sentinels name, calls itself %q", master.Addr(), role)
	}
	return master, nil
}

// KillMaster kills the master and returns it. It does not wait: see
// [Sentinel.AwaitMaster].
func (s *Sentinel) KillMaster() *Server {
	s.t.Helper()
	master := s.Master()
	master.Kill()
	return master
}

// Failover lets the sentinels promote a replica while the old master is alive
// (SENTINEL FAILOVER), waits until that is done and returns the new master. The
// sentinels make the old one a replica some seconds later.
func (s *Sentinel) Failover() *Server {
	s.t.Helper()
	old := s.Master()
	for _, watcher := range s.watchers {
		if watcher.up() {
			watcher.Do("sentinel", "failover", MasterName)
			return s.AwaitMaster(old)
		}
	}
	s.t.Fatal("redistest: no sentinel runs")
	return nil
}
