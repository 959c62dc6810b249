package l2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/deadline"
)

// DefaultTimeout bounds one call to Redis.
const DefaultTimeout = 200 * time.Millisecond

// RedisOptions configures a Redis. The zero value is ready to use.
type RedisOptions struct {
	// Channel is where messages are published.
	Channel string
	// Timeout bounds each call, on top of its ctx; 0 is DefaultTimeout.
	Timeout time.Duration
	// Failures in a row after which calls to a server fail at once; 0 is 5.
	// A refused connection counts for all of them.
	Failures int
	// ProbeEvery is the longest time between two questions whether a server
	// that was given up is back; 0, and anything longer, is 500 ms.
	ProbeEvery time.Duration
	// BeatEvery is the time between two looks at a server that answers: its
	// clock and whether it is still the same one; 0 is 1 s.
	BeatEvery time.Duration
	// Fleet is the key of the marker at which processes leave marks, see
	// [Restart]; a cluster has one for each master, named after it. Empty: none,
	// and a restart proves nothing.
	Fleet string
	// Node is the name under which this process leaves its marks: no two have
	// the same, and it has no space.
	Node   string
	Events Events
	// Logger gets what happens in the background; nil discards it.
	Logger *slog.Logger
}

// Redis is the second tier in Redis: standalone, behind Sentinel, or a cluster.
//
// Every call ends by its deadline, whatever the client's own timeouts and
// retries are, and no call that writes is sent twice. While a server's breaker
// is open, calls for its keys fail at once; goroutines of the store find out
// when it is back, whether or not anybody calls.
type Redis struct {
	opt     RedisOptions
	log     *slog.Logger
	client  doer
	cluster *redis.ClusterClient // nil if it is none
	// loose says that client does not end calls at their deadlines, so they run
	// in goroutines that are left behind there.
	loose   bool
	channel any // opt.Channel
	scripts *scripts
	base    time.Time
	ends    *deadline.Group // of calls
	// gathered is kept here, not in the package: it holds channels, which belong to
	// the testing/synctest bubble that made them.
	gathered sync.Pool
	firsts   sync.Pool // maps for sendGathered, empty

	ctx    context.Context // of the store's goroutines
	cancel context.CancelFunc
	tasks  sync.WaitGroup // them, and calls under way

	mu         sync.RWMutex // guards what follows
	closed     atomic.Bool  // set under mu
	discovered bool         // the cluster's masters are known
	shards     map[string]*shard
	seed       *shard // the only one; of a cluster the one before it is known

	histories histories // of the marks
	answered  sync.Once // the first answer of all
}

var _ Store = (*Redis)(nil)

// doer is what a client of Redis does for this package.
type doer interface {
	Process(ctx context.Context, cmd redis.Cmder) error
	Pipeline() redis.Pipeliner
}

// NewRedis returns a store over client, which stays the caller's to close,
// after the store. It does not wait for any server.
//
// It takes a *redis.Client (of redis.NewFailoverClient, too) or
// a *redis.ClusterClient. It refuses those that may read what is not the
// primary's latest: with a cache of their own, or routed to replicas.
func NewRedis(client redis.UniversalClient, opt RedisOptions) (*Redis, error) {
	if opt.Timeout < 0 || opt.BeatEvery < 0 || opt.ProbeEvery < 0 || opt.Failures < 0 {
		return nil, fmt.Errorf("%w: Timeout, Failures, ProbeEvery or BeatEvery is negative", ErrArgument)
	}
	if opt.Timeout == 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.BeatEvery == 0 {
		opt.BeatEvery = time.Second
	}
	if opt.ProbeEvery == 0 || opt.ProbeEvery > maxProbe {
		opt.ProbeEvery = maxProbe
	}
	r := &Redis{opt: opt, log: opt.Logger, channel: opt.Channel, scripts: newScripts(), base: time.Now(), shards: make(map[string]*shard)}
	r.ends = deadline.NewGroup(max(opt.Timeout/16, 1))
	r.histories.all = make(map[string]*history)
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if err := r.attach(client); err != nil {
		return nil, err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	if r.cluster != nil {
		r.tasks.Go(r.watchCluster)
	} else {
		r.tasks.Go(r.seed.watch)
	}
	return r, nil
}

const maxProbe = 500 * time.Millisecond

// attach takes client if its reads are the primary's.
func (r *Redis) attach(client redis.UniversalClient) error {
	switch c := client.(type) {
	case *redis.Client:
		if c == nil {
			return fmt.Errorf("%w: client is nil", ErrArgument)
		}
		o := c.Options()
		if o.ClientSideCacheConfig != nil || o.ClientSideCache != nil {
			return fmt.Errorf("%w: client caches on its own side and may return what was deleted", ErrArgument)
		}
		node := bounded(c, r.opt.Timeout)
		r.client = node
		r.seed = newShard(r, o.Addr, node)
		return nil
	case *redis.ClusterClient:
		if c == nil {
			return fmt.Errorf("%w: client is nil", ErrArgument)
		}
		o := c.Options()
		if o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return fmt.Errorf("%w: client reads from replicas, which may return what was deleted", ErrArgument)
		}
		addr := ""
		if len(o.Addrs) > 0 {
			addr = o.Addrs[0]
		}
		r.client, r.cluster, r.loose = c, c, !o.ContextTimeoutEnabled
		r.seed = newShard(r, addr, nil)
		return nil
	}
	return fmt.Errorf("%w: client is a %T; a *redis.Client or a *redis.ClusterClient is needed", ErrArgument, client)
}

// bounded returns a client over c's connections whose calls end at the deadline
// of their context and are sent once.
//
// WithTimeout gives it a copy of the options of its own; that the copy may be
// changed is held by the tests of deadlines. The alternative, a goroutine for
// each call, costs a microsecond on every read.
//
// A copy lacks the hooks of c (tracing, metrics), so a client whose options are
// right already is taken as it is.
func bounded(c *redis.Client, timeout time.Duration) *redis.Client {
	if o := c.Options(); o.ContextTimeoutEnabled && o.MaxRetries == 0 {
		return c
	}
	b := c.WithTimeout(timeout)
	o := b.Options()
	o.ContextTimeoutEnabled = true
	o.MaxRetries = 0
	return b
}

// enter begins a call; every nil is followed by r.tasks.Done.
func (r *Redis) enter() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed.Load() {
		return ErrClosed
	}
	r.tasks.Add(1)
	return nil
}

// closeWait bounds Close: a call ends by its timeout, and one that was left
// behind by the client's own, which may be longer.
const closeWait = 2 * time.Second

// Close implements Store. It waits at most 2 s for calls that a client without
// ContextTimeoutEnabled has not let go of.
func (r *Redis) Close() error {
	r.mu.Lock()
	r.closed.Store(true)
	r.mu.Unlock()
	r.cancel()
	done := make(chan struct{})
	go func() {
		r.tasks.Wait()
		close(done)
	}()
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errors.New("l2: close: the client still holds calls past their deadline")
	}
}
