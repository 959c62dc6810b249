package invalidation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/redis/go-redis/v9"
)

// targets finds the server to subscribe on: the options of a client of it.
type targets interface {
	next(ctx context.Context) (redis.Options, error)
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

// cluster takes a random master, so that not every node of the fleet hangs on
// the one that owns the slot of the channel.
type cluster struct {
	client *redis.ClusterClient

	mu     sync.Mutex // guards asking
	asking *lookup    // nil: none is under way
}

type lookup struct {
	done    chan struct{}
	masters []redis.Options
	err     error
}

// next ends with ctx, although the client may not: it waits for a server as long
// as its own timeouts say. So the lookup runs apart, one at a time.
func (c *cluster) next(ctx context.Context) (redis.Options, error) {
	c.mu.Lock()
	l := c.asking
	if l == nil {
		l = &lookup{done: make(chan struct{})}
		c.asking = l
		go c.ask(ctx, l)
	}
	c.mu.Unlock()
	select {
	case <-l.done:
	case <-ctx.Done():
		return redis.Options{}, context.Cause(ctx)
	}
	switch {
	case l.err != nil:
		return redis.Options{}, l.err
	case len(l.masters) == 0:
		return redis.Options{}, errors.New("cluster without masters")
	}
	return l.masters[rand.IntN(len(l.masters))], nil
}

func (c *cluster) ask(ctx context.Context, l *lookup) {
	var mu sync.Mutex // ForEachMaster calls concurrently
	l.err = c.client.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		l.masters = append(l.masters, *node.Options())
		return nil
	})
	c.mu.Lock()
	c.asking = nil
	c.mu.Unlock()
	close(l.done)
}
