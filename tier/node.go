package tier

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/connect"
	"github.com/tandemcache/tandem/internal/deadline"
	"github.com/tandemcache/tandem/internal/flight"
	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/invalidation"
)

// closeLimit is how long Close waits for loads and calls under way.
const closeLimit = 2 * time.Second

// Node is one process' membership in a fleet that shares a Redis and a prefix:
// the connection, the subscription to invalidations, the debts to Redis, and
// the caches opened on it. A process normally has one. All methods may be
// called concurrently.
type Node struct {
	cfg   Config
	log   *slog.Logger
	id    invalidation.NodeID
	seed  maphash.Seed
	clock l1.Clock
	ends  *deadline.Group // of changes

	scratches scratchPool

	store  l2.Store
	client redis.UniversalClient // to be closed with the node; nil if it is the caller's

	clustered bool // messages go over several servers
	bus       invalidation.Bus
	sub       invalidation.Subscription
	member    *member
	tracking  *tracking // nil: Config.Tracking is off
	tags      *tagTable
	guard     *guard
	debts     *journal.Journal
	payer     *payer

	background *flight.Slots // loads of all caches that nobody waits for
	brackets   *brackets

	ctx    context.Context // ends with Close; background work runs under it
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines of the node

	mu       sync.Mutex
	spaces   map[string]space    // by cache name; guarded by mu
	counters map[string]*Counter // by name; guarded by mu

	calls     *gate // shut when Close begins
	endings   *gate // of calls that began before; shut when nothing may reach the store any more
	closeOnce sync.Once
	closeErr  error

	unconfirmed atomic.Uint64 // changes that Redis did not confirm at once
	forgets     atomic.Uint64 // times that what was known of versions was forgotten
}

// space is a cache as its node sees it, whatever its T.
type space interface {
	// describe says what is open under the name, for errors.
	describe() string
	// invalidate voids one key in this process: stamp, local value, flight.
	invalidate(key string)
	// invalidatePrefix voids prefix and everything below it; "" is everything.
	invalidatePrefix(prefix string)
	// clear voids everything that was stored before the given version.
	clear(version uint64)
	// announced voids one key that a server says has changed.
	announced(key string)
	// lookAgain reads one key, so that it is in L1 again.
	lookAgain(ctx context.Context, key string, h uint64)
	// flushed voids everything: Redis has lost it.
	flushed()
	// distrust demotes what is local: messages may have been missed.
	distrust()
	// redisKey returns the whole key of an id.
	redisKey(id string) string
	// hold is how long a delete of this cache refuses fills.
	hold() time.Duration
	// tombstone is how long a versioned delete of this cache keeps older writes out.
	tombstone() time.Duration
	// version is the cell of the cache's version, for Clear.
	version() *versionCell
	// close cancels loads and frees the local tier.
	close(ctx context.Context)
}

// Open starts a node. It returns an error only for a malformed Config, naming
// every fault: a Redis that is down makes a node that starts degraded (loads
// run, nothing is shared) and attaches when Redis answers. With a Redis that
// answers, Open returns when the subscription to invalidations is confirmed,
// or after Config.Timeout (see Config.Tracking for what that adds). ctx bounds
// that wait only.
//
// A zero Config makes a node without Redis: a complete in-memory cache with
// the same promises inside the process.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Logger, id: invalidation.NewNodeID(), seed: maphash.MakeSeed(),
		clock: l1.NewClock(), debts: journal.New(cfg.MaxPending), spaces: make(map[string]space),
		counters: make(map[string]*Counter), background: flight.NewSlots(cfg.MaxBackground),
		brackets: newBrackets(), calls: newGate(), endings: newGate(), ends: deadline.NewGroup(max(cfg.Timeout/8, 1)),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.tags = newTagTable(&n.forgets)
	n.payer = newPayer(n)
	n.member = newMember(n)
	n.guard = newGuard(n)
	if err := n.attach(); err != nil {
		n.cancel()
		return nil, fmt.Errorf("tier: config: %w", err)
	}
	if n.sub, err = n.bus.Subscribe(n.member); err != nil {
		n.cancel()
		return nil, errors.Join(fmt.Errorf("tier: subscribe: %w", err), n.store.Close(), n.closeClient())
	}
	if err := n.tracking.start(); err != nil {
		n.cancel()
		return nil, errors.Join(fmt.Errorf("tier: tracking: %w", err), n.sub.Close(), n.store.Close(), n.closeClient())
	}
	n.tasks.Go(n.payer.run)
	if n.remote() {
		n.guard.watch(n.sub)
		n.tasks.Go(n.guard.run)
		n.tasks.Go(n.member.beat)
		if err := n.awaitRedis(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// remote reports whether the node has a Redis, up or not.
func (n *Node) remote() bool { return n.cfg.URL != "" || n.cfg.Redis != nil }

// attach makes the store and the bus that cfg asks for. It does not wait for
// any server.
func (n *Node) attach() error {
	if !n.remote() {
		n.bus = n.cfg.Bus
		if n.bus == nil {
			n.bus = invalidation.NewLocal()
		}
		n.store = l2.NewMemory(l2.MemoryOptions{Publish: n.publishLocal})
		return nil
	}
	client := n.cfg.Redis
	// The client calls greet from its first connection on, the store knows who
	// is there only once it stands over the client.
	var greeting atomic.Pointer[l2.Redis]
	greet := func(ctx context.Context, addr string, conn *redis.Conn) error {
		if store := greeting.Load(); store != nil {
			return store.Greet(ctx, addr, conn)
		}
		return nil
	}
	if client == nil {
		target, err := connect.Parse(n.cfg.URL)
		if err != nil {
			return fmt.Errorf("URL: %w", err)
		}
		if client, err = target.OpenGreeted(n.cfg.Timeout, greet); err != nil {
			return fmt.Errorf("URL: %w", err)
		}
		n.client = client
	}
	info, err := connect.Inspect(client)
	if err != nil {
		return errors.Join(fmt.Errorf("Redis: %w", err), n.closeClient())
	}
	n.clustered = info.Kind == connect.Cluster
	channel := fmt.Sprintf("%s:!bus:%d", n.cfg.Prefix, info.DB)
	bus, err := invalidation.NewRedis(client, invalidation.RedisOptions{
		Channel: channel, PingEvery: n.cfg.Heartbeat / 2, DeadAfter: 2 * n.cfg.Heartbeat, Logger: n.log,
	})
	if err != nil {
		return errors.Join(err, n.closeClient())
	}
	n.bus = bus
	if err := n.track(client); err != nil {
		return errors.Join(err, n.closeClient())
	}
	store, err := l2.NewRedis(client, l2.RedisOptions{
		Channel: channel, Timeout: n.cfg.Timeout, BeatEvery: n.cfg.Heartbeat, Logger: n.log,
		Fleet: n.cfg.Prefix + ":!fleet", Node: n.id.String(),
		Events: l2.Events{Up: n.redisUp, Restarted: n.guard.restarted},
	})
	if err != nil {
		return errors.Join(err, n.closeClient())
	}
	greeting.Store(store)
	n.store = store
	return nil
}

// redisUp is called when a server of Redis is back.
func (n *Node) redisUp() {
	n.payer.wake()
	signal(n.member.relink)
}

// publishLocal delivers what the in-process store publishes.
func (n *Node) publishLocal(msg []byte) {
	if err := n.bus.Publish(n.ctx, msg); err != nil {
		n.log.Warn("tier: in-process publish", "error", err)
	}
}

// awaitRedis waits until the node hears invalidations, so that L1 serves from
// the first read on. A Redis that does not answer is not waited for. The error
// is that of a server that answers and does not track.
func (n *Node) awaitRedis(ctx context.Context) error {
	limit := n.cfg.Timeout
	if n.cfg.Tracking {
		limit = max(limit, verdictLimit)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if _, err := n.store.Ping(ctx); err != nil {
		return nil // the node starts degraded
	}
	if n.tracking != nil {
		return n.tracking.verdict(ctx)
	}
	select {
	case <-n.member.heardOnce:
	case <-ctx.Done():
	}
	return nil
}

// enter begins a call that must not overlap the end of Close. Every nil error
// must be followed by n.leave().
//
// Close waits for the calls under way, each bounded by timeouts, and none begins
// on a closing store.
func (n *Node) enter() error {
	if n.calls.enter() {
		return nil
	}
	return ErrClosed
}

func (n *Node) leave() { n.calls.leave() }

// enterLast is enter for what ends a call that began before Close: it is let in
// while Close still waits. n.endings.leave() must follow.
func (n *Node) enterLast() error {
	if n.endings.enter() {
		return nil
	}
	return ErrClosed
}

// Close ends the node and every cache opened on it: it cancels loads and commits
// and waits at most 2 s for them, says goodbye to the fleet, and ends all goroutines.
// Invalidations that Redis has not confirmed are lost with the process, up to
// the TTL of what they concern: see [Node.Shutdown]. A client given in
// Config.Redis stays open. Close is idempotent; afterwards methods that return
// an error return ErrClosed, and Get misses.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()

	n.calls.shut()
	n.brackets.cancel() // also of scans, which last as long as the key space is large
	n.calls.wait()
	n.mu.Lock()
	spaces := n.spaces
	n.spaces = nil
	n.mu.Unlock()
	for _, s := range spaces {
		s.close(ctx)
	}
	n.brackets.wait(ctx)
	n.endings.shut()
	n.endings.wait()

	n.cancel()
	n.tasks.Wait()
	if n.remote() && n.store.Available("") {
		n.member.goodbye()
	}
	return errors.Join(n.sub.Close(), n.tracking.close(), n.store.Close(), n.closeClient())
}

func (n *Node) closeClient() error {
	if n.client == nil {
		return nil
	}
	return n.client.Close()
}

// Shutdown is Close that first waits until Redis has confirmed every owed
// invalidation, or until ctx ends: the error then tells how many are left,
// and matches ctx's error. The node is closed in either case.
func (n *Node) Shutdown(ctx context.Context) error {
	err := n.payer.drain(ctx)
	return errors.Join(err, n.Close())
}

// space returns the cache of that name, nil if none is open.
func (n *Node) space(name string) space {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.spaces[name]
}

// eachSpace calls f for every open cache.
func (n *Node) eachSpace(f func(space)) {
	n.mu.Lock()
	all := make([]space, 0, len(n.spaces))
	for _, s := range n.spaces {
		all = append(all, s)
	}
	n.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

// DeletePrefix deletes across caches: "user" is everything in the cache user,
// "user:123" is the key 123 in it and all keys below it. A prefix means whole
// segments, glob characters in it are literal, and a trailing ':' is accepted;
// the empty prefix is ErrKey. The cache need not be open on this node.
//
// It returns the number of values removed from Redis. The rest is as on
// [Cache.DeletePrefix].
func (n *Node) DeletePrefix(ctx context.Context, prefix string) (int, error) {
	if err := n.enter(); err != nil {
		return 0, err
	}
	defer n.leave()
	name, below, err := splitPrefix(prefix)
	if err != nil {
		return 0, err
	}
	return n.deletePrefix(ctx, name, below)
}
