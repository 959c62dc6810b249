package l2

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/breaker"
)

// shard is one server as this process sees it.
type shard struct {
	r       *Redis
	addr    string
	source  atomic.Pointer[redis.Client] // the client's own for this server
	node    atomic.Pointer[redis.Client] // bounded copy of source; nil: not known yet
	breaker *breaker.Breaker
	clock   clock
	gather  gather[*gathered]
	writes  gather[*gatheredWrite]
	kick    chan struct{} // asks watch to look at once
	ctx     context.Context
	stop    context.CancelFunc
	told    uint64 // openings that Down was called for; only watch touches it
	joined  bool   // it became a master after the cluster was first looked at

	looking chan struct{} // one slot: held by whoever looks at the server
	met     atomic.Bool   // somebody has looked
	meeting sync.Mutex    // held while the owner is told of a restart; before mu

	mu       sync.Mutex // guards what follows
	id       string     // what makes the server the same one; empty: not known
	runID    string
	since    time.Time // of the present state
	last     error
	failures uint64
	refusals uint64
	probes   uint64
	warned   bool // about credentials
}

func newShard(r *Redis, addr string, node *redis.Client) *shard {
	s := &shard{r: r, addr: addr, clock: clock{base: r.base}, kick: make(chan struct{}, 1), looking: make(chan struct{}, 1), since: time.Now()}
	if node != nil {
		s.node.Store(node)
	}
	s.breaker = breaker.New(r.opt.Failures, s.opened)
	return s
}

// opened is called by the breaker, under its lock.
func (s *shard) opened() {
	s.mu.Lock()
	s.since = time.Now()
	s.mu.Unlock()
	s.wake()
}

func (s *shard) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// failed counts a call and has the server looked at, since the next one that
// answers may be another.
func (s *shard) failed(c class, err error) {
	s.mu.Lock()
	s.last = err
	warn := false
	switch c {
	case classRefused:
		s.refusals++
	case classUnavailable, classDead, classConfig:
		s.failures++
		warn = c == classConfig && !s.warned
		s.warned = s.warned || warn
	}
	s.mu.Unlock()
	if warn {
		s.r.log.Warn("l2: redis denies access", slog.String("addr", s.addr), slog.Any("error", err))
	}
	if c != classRefused && c != classUsage {
		s.wake()
	}
}

// unavailable is the error of a call that is not tried.
func (s *shard) unavailable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return fmt.Errorf("%w: %s: breaker open", ErrUnavailable, s.addr)
	}
	return fmt.Errorf("%w: %s: breaker open: %w", ErrUnavailable, s.addr, s.last)
}

func (s *shard) stats() ShardStats {
	s.mu.Lock()
	st := ShardStats{
		Addr: s.addr, Failures: s.failures, Refused: s.refusals, Reconnects: s.probes,
		Since: s.since, RunID: s.runID,
	}
	if s.last != nil {
		st.LastError = s.last.Error()
	}
	s.mu.Unlock()
	st.Available, st.Opened = !s.breaker.Open(), s.breaker.Opened()
	if _, hi, known := s.clock.bounds(); known {
		st.Offset = time.Duration(hi-time.Now().UnixMicro()) * time.Microsecond
	}
	return st
}

// shardFor returns the server that owns key. It never asks one.
func (r *Redis) shardFor(key string) *shard {
	if r.cluster == nil {
		return r.seed
	}
	r.mu.RLock()
	discovered := r.discovered
	r.mu.RUnlock()
	if !discovered {
		return r.seed
	}
	node, err := r.cluster.MasterForKey(r.ctx, key)
	if err != nil {
		return r.seed // a slot that nobody serves
	}
	r.mu.RLock()
	s := r.shards[node.Options().Addr]
	r.mu.RUnlock()
	if s == nil || s.source.Load() != node {
		s = r.adopt(node)
	}
	return s
}

// adopt makes node known under its address. A master that turns up after the
// first look at the cluster may have been promoted, and then lacks what its
// predecessor had not sent it; meet finds out, before a reply of it is used.
func (r *Redis) adopt(node *redis.Client) *shard {
	addr := node.Options().Addr
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.shards[addr]
	if s == nil {
		s = newShard(r, addr, nil)
		if r.closed.Load() {
			return s
		}
		s.ctx, s.stop = context.WithCancel(r.ctx)
		s.joined = r.discovered
		r.shards[addr] = s
	}
	if s.source.Load() != node {
		s.node.Store(bounded(node, r.opt.Timeout))
		if s.source.Swap(node) == nil {
			r.tasks.Go(s.watch)
		}
	}
	return s
}

// all returns the known servers.
func (r *Redis) all() []*shard {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.discovered {
		return []*shard{r.seed}
	}
	list := make([]*shard, 0, len(r.shards))
	for _, s := range r.shards {
		list = append(list, s)
	}
	return list
}

func (r *Redis) restarted(what Restart) {
	if f := r.opt.Events.Restarted; f != nil {
		f(what)
	}
}

// up calls the event for a server that is back, or for the first answer of all.
func (r *Redis) up(back bool) {
	r.answered.Do(func() { back = true })
	if f := r.opt.Events.Up; f != nil && back {
		f()
	}
}

// Stats implements Store.
func (r *Redis) Stats() []ShardStats {
	var list []ShardStats
	for _, s := range r.all() {
		list = append(list, s.stats())
	}
	return list
}

// Owner implements Store.
func (r *Redis) Owner(key string) string {
	if r.enter() != nil {
		return ""
	}
	defer r.tasks.Done()
	return r.shardFor(key).addr
}

// Available implements Store.
func (r *Redis) Available(key string) bool {
	s, leave := r.glance(key)
	defer leave()
	return s != nil && !s.breaker.Open()
}

// Now implements Store.
func (r *Redis) Now(key string) int64 {
	s, leave := r.glance(key)
	defer leave()
	if s == nil {
		return 0
	}
	_, hi, _ := s.clock.bounds()
	return hi
}

// glance returns the server that owns key to somebody who asks it nothing, nil
// when the store is closed. leave must follow. Only of a cluster does Close have
// to wait for that: a server may turn up, which is then watched.
func (r *Redis) glance(key string) (s *shard, leave func()) {
	switch {
	case r.cluster == nil:
		if !r.closed.Load() {
			s = r.seed
		}
		return s, nothing
	case r.enter() != nil:
		return nil, nothing
	}
	return r.shardFor(key), r.tasks.Done
}

func nothing() {}

// Clock implements Store.
func (r *Redis) Clock(ctx context.Context, key string) (int64, error) {
	if now := r.Now(key); now != 0 {
		return now, nil
	}
	return perform(ctx, r, key, false, func(ctx context.Context, s *shard) (int64, error) { return s.now(ctx) })
}

// Earliest implements Store.
func (r *Redis) Earliest(key string) int64 {
	if r.enter() != nil {
		return 0
	}
	defer r.tasks.Done()
	lo, _, _ := r.shardFor(key).clock.bounds()
	return lo
}
