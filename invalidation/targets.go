package invalidation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// targets finds servers: the options of a client of each.
type targets interface {
	// next returns the server to subscribe on.
	next(ctx context.Context) (redis.Options, error)
	// masters returns all that hold data now, by address.
	masters(ctx context.Context) (map[string]redis.Options, error)
	// fixed reports whether masters always returns the same.
	fixed() bool
}

func targetsOf(client redis.UniversalClient) (targets, error) {
	switch c := client.(type) {
	case *redis.Client:
		if c != nil {
			return single{c}, nil
		}
	case *redis.ClusterClient:
		if c != nil {
			return &cluster{client: c}, nil
		}
	case nil:
	default:
		return nil, fmt.Errorf("client is a %T: only *redis.Client and *redis.ClusterClient have one channel for all", client)
	}
	return nil, errors.New("client is nil")
}

// single is a standalone server, or what sentinels say is the master: the
// dialer in the options asks them.
type single struct{ client *redis.Client }

func (s single) next(context.Context) (redis.Options, error) { return *s.client.Options(), nil }

func (s single) masters(context.Context) (map[string]redis.Options, error) {
	return map[string]redis.Options{s.client.Options().Addr: *s.client.Options()}, nil
}

func (single) fixed() bool { return true }

// cluster takes a random master, so that not every node of the fleet hangs on
// the one that owns the slot of the channel.
type cluster struct {
	client *redis.ClusterClient

	mu     sync.Mutex // guards asking
	asking *lookup    // nil: none is under way
}

type lookup struct {
	done    chan struct{}
	masters map[string]redis.Options
	err     error
	stale   error // why masters may be those of an earlier lookup
}

func (c *cluster) fixed() bool { return false }

func (c *cluster) next(ctx context.Context) (redis.Options, error) {
	l, err := c.look(ctx)
	if err != nil {
		return redis.Options{}, err
	}
	addrs := slices.Collect(maps.Keys(l.masters))
	return l.masters[addrs[rand.IntN(len(addrs))]], nil
}

func (c *cluster) masters(ctx context.Context) (map[string]redis.Options, error) {
	l, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	return l.masters, l.stale
}

// look ends with ctx, although the client may not: it waits for a server as long
// as its own timeouts say. So the lookup runs apart, one at a time.
func (c *cluster) look(ctx context.Context) (*lookup, error) {
	c.mu.Lock()
	l := c.asking
	if l == nil {
		l = &lookup{done: make(chan struct{}), masters: make(map[string]redis.Options)}
		c.asking = l
		go c.ask(ctx, l)
	}
	c.mu.Unlock()
	select {
	case <-l.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch {
	case l.err != nil:
		return nil, l.err
	case len(l.masters) == 0:
		return nil, errors.New("cluster without masters")
	}
	return l, nil
}

// ask reads the masters. The client answers with those of its last success when
// it reaches nobody, and does not say so; hence the second question.
func (c *cluster) ask(ctx context.Context, l *lookup) {
	var mu sync.Mutex // ForEachMaster calls concurrently
	l.err = c.client.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		l.masters[node.Options().Addr] = *node.Options()
		return nil
	})
	l.stale = c.client.ClusterInfo(ctx).Err()
	c.mu.Lock()
	c.asking = nil
	c.mu.Unlock()
	close(l.done)
}
