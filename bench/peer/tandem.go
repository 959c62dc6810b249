package peer

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/tier"
)

// tandemCache is a node of its own with one cache.
type tandemCache[T any] struct {
	node   *tier.Node
	client redis.UniversalClient
	*tier.Cache[T]
}

func newTandem[T any](env Env) (Cache[T], error) {
	// Entries are what the others are given. The budget counts what an entry takes.
	return OpenTandem(env, tier.Options[T]{TTL: TTL, Local: tier.Local{MaxBytes: env.Bytes}})
}

func newTandemRemote[T any](env Env) (Cache[T], error) {
	return OpenTandem(env, tier.Options[T]{TTL: TTL, Local: tier.Local{Disabled: true}})
}

// OpenTandem opens a cache with the options given.
func OpenTandem[T any](env Env, opts tier.Options[T]) (Cache[T], error) {
	cfg := tier.Config{Prefix: env.Name, Timeout: 5 * time.Second}
	c := tandemCache[T]{}
	switch {
	case len(env.Cluster) > 0:
		c.client = redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: env.Cluster, PoolSize: 64, ContextTimeoutEnabled: true, MaxRetries: -1,
		})
	case env.Addr != "":
		c.client = redis.NewClient(&redis.Options{
			Addr: env.Addr, PoolSize: 64, ContextTimeoutEnabled: true, MaxRetries: -1, Dialer: env.Dial,
		})
	}
	cfg.Redis = c.client
	var err error
	if c.node, err = tier.Open(context.Background(), cfg); err != nil {
		return nil, err
	}
	c.Cache, err = tier.New(c.node, "bench", opts)
	return c, err
}

func (c tandemCache[T]) Get(ctx context.Context, key string) (T, bool, error) {
	v, ok := c.Cache.Get(ctx, key)
	return v, ok, nil
}

func (c tandemCache[T]) Set(ctx context.Context, key string, v T) error {
	return c.Cache.Set(ctx, key, v, 0)
}

func (c tandemCache[T]) Delete(ctx context.Context, key string) error {
	return c.Cache.Delete(ctx, key)
}

func (c tandemCache[T]) Load(ctx context.Context, key string, load func(context.Context) (T, error)) (T, error) {
	return c.Cache.GetOrSet(ctx, key, 0, load)
}

func (c tandemCache[T]) Close() error {
	err := c.node.Close()
	if c.client != nil {
		err = errors.Join(err, c.client.Close())
	}
	return err
}
