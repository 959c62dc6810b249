package tier

import (
	"context"
	"fmt"
	"hash/maphash"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/flight"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/mutant"
)

// Cache holds values of one type under one name, in this process' memory (L1)
// over Redis (L2). [New] makes one. All methods may be called concurrently.
//
// Keys are ids inside the cache: the Redis key of id 123 in the cache user on
// a node with the prefix ghl is ghl:user:123.
type Cache[T any] struct {
	node   *Node
	name   string
	opts   Options[T]
	schema uint64
	seed   maphash.Seed

	fence   *fence.Fence
	local   *l1.Store[T]
	flights *flight.Group[*l1.Entry[T]]
	cell    versionCell
	voided  broadcast   // of clears
	tagged  atomic.Bool // loads may name tags
	hints   tagHints

	failures   pauses       // values for which the loader has just failed
	refreshes  pauses       // values for which a background load has just begun
	complained atomic.Int64 // when the last error was logged that no caller sees

	counts counts
}

// counts are the events off the hit path; hits in memory are counted by l1.
type counts struct {
	hitsL2, misses, loads, loadErrors, staleServed atomic.Uint64
	fillsRefused, decodeErrors                     atomic.Uint64
}

// New opens the cache of that name on n. Names hold letters, digits, '.', '_'
// and '-', at most 64; any other is ErrKey. The error names every fault of opts.
//
// A name that is already open with the same T and equal Options returns the
// same cache; another T, or other Options, are an error. With Redis at hand
// New reads the cache's version, one round trip; without, the first read does.
func New[T any](n *Node, name string, opts Options[T]) (*Cache[T], error) {
	opts, err := opts.resolve(name)
	if err != nil {
		return nil, err
	}
	if err := n.enter(); err != nil {
		return nil, fmt.Errorf("cache %q: %w", name, err)
	}
	defer n.leave()

	n.mu.Lock()
	if _, ok := n.counters[name]; ok {
		n.mu.Unlock()
		return nil, fmt.Errorf("tier: name %q is open as counters, asked for with T %v", name, reflect.TypeFor[T]())
	}
	if open, ok := n.spaces[name]; ok {
		n.mu.Unlock()
		return reopened(open, name, opts)
	}
	c, err := build(n, name, opts)
	if err == nil {
		n.spaces[name] = c
	}
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if n.store.Available(n.markerKey(name)) {
		ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Timeout)
		defer cancel()
		_, _ = c.learnVersion(ctx) // else the first read learns it
		if opts.Tags != nil {
			n.makeBooks(ctx)
		}
	}
	return c, nil
}

func reopened[T any](open space, name string, opts Options[T]) (*Cache[T], error) {
	c, ok := open.(*Cache[T])
	if !ok {
		return nil, fmt.Errorf("tier: name %q is open as %s, asked for with T %v", name, open.describe(), reflect.TypeFor[T]())
	}
	if !c.opts.same(opts) {
		return nil, fmt.Errorf("tier: name %q is open with other Options", name)
	}
	return c, nil
}

func build[T any](n *Node, name string, opts Options[T]) (*Cache[T], error) {
	forEntries := l1.ForEntries(opts.Local.MaxBytes)
	c := &Cache[T]{
		node: n, name: name, opts: opts, seed: n.seed, fence: fence.New(l1.Capacity(forEntries)),
		cell:   versionCell{forgets: &n.forgets},
		schema: schemaStamp(opts.Codec.Name(), reflect.TypeFor[T](), opts.Version),
	}
	var err error
	if c.local, err = l1.New[T](l1.Config{
		MaxBytes: forEntries, Disabled: opts.Local.Disabled, Fence: c.fence, Hash: c.hash, Clock: n.clock,
	}); err != nil {
		return nil, fmt.Errorf("tier: cache %q: Local: %w", name, err)
	}
	c.tagged.Store(opts.Tags != nil)
	// No flight older than Δ is joined: it may have read before an invalidation
	// whose message was lost.
	joinable := n.member.maxSilence()
	if mutant.On(mutant.OldFlights) {
		joinable = 0 // no limit
	}
	c.flights = flight.New[*l1.Entry[T]](flight.Options{
		Timeout: opts.LoadTimeout,
		MaxAge:  joinable,
		Slots:   n.background,
		OnPanic: func(key string, p *flight.PanicError) {
			n.log.Warn("tier: loader panicked after its caller had left", "cache", name, "key", key, "panic", p.Value, "stack", string(p.Stack))
		},
	})
	return c, nil
}

// hash is the one hash of a key that l1, fence and flights share.
func (c *Cache[T]) hash(key string) uint64 { return maphash.String(c.seed, key) }

// The methods below make Cache a space.

func (c *Cache[T]) describe() string { return fmt.Sprintf("a cache of %v", reflect.TypeFor[T]()) }

func (c *Cache[T]) redisKey(id string) string { return c.node.redisKey(c.name, id) }

func (c *Cache[T]) hold() time.Duration { return c.opts.Hold }

func (c *Cache[T]) version() *versionCell { return &c.cell }

func (c *Cache[T]) invalidate(key string) {
	h := c.hash(key)
	c.fence.Move(h)
	c.local.Drop(h)
}

func (c *Cache[T]) invalidatePrefix(prefix string) {
	if !mutant.On(mutant.NoPrefixFence) {
		c.fence.Prefix(prefix)
	}
}

func (c *Cache[T]) clear(version uint64) {
	// Also if the number is no news: whoever has read it may not have voided yet.
	c.cell.raise(version)
	c.voidAll()
}

// voidAll voids everything in this process; loads give back the leases they hold.
func (c *Cache[T]) voidAll() {
	c.fence.Void()
	c.voided.signal()
}

func (c *Cache[T]) distrust() {
	c.cell.forget()
	c.fence.Distrust()
}

func (c *Cache[T]) close(ctx context.Context) {
	// A loader that ignores its context is its caller's goroutine.
	_ = c.flights.Close(ctx)
	c.local.Close()
}

// jittered shortens ttl by a random part.
func (c *Cache[T]) jittered(ttl time.Duration) time.Duration {
	if ttl <= 0 || c.opts.Jitter <= 0 {
		return ttl
	}
	return max(ttl-time.Duration(randFloat()*c.opts.Jitter*float64(ttl)), minTTL)
}

// ttlOf resolves the ttl of a call.
func (c *Cache[T]) ttlOf(ttl time.Duration) (time.Duration, error) {
	if err := checkTTL(ttl); err != nil {
		return 0, fmt.Errorf("tier: cache %q: %w", c.name, err)
	}
	if ttl == 0 {
		return c.opts.TTL, nil
	}
	return ttl, nil
}
