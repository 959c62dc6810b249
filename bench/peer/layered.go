package peer

import (
	"context"
	"errors"

	ristrettov1 "github.com/dgraph-io/ristretto"
	gocache "github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/marshaler"
	gocachestore "github.com/eko/gocache/lib/v4/store"
	gocacheredis "github.com/eko/gocache/store/redis/v4"
	gocacheristretto "github.com/eko/gocache/store/ristretto/v4"
	rediscache "github.com/go-redis/cache/v9"
	jetcache "github.com/mgtv-tech/jetcache-go"
	"github.com/mgtv-tech/jetcache-go/local"
	"github.com/mgtv-tech/jetcache-go/remote"
	"github.com/redis/go-redis/v9"
)

// goRedisCache is go-redis/cache: TinyLFU of bytes over Redis.
type goRedisCache[T any] struct {
	env    Env
	client *redis.Client
	c      *rediscache.Cache
}

func newGoRedisCacheMemory[T any](env Env) (Cache[T], error) {
	c := client(env)
	return goRedisCache[T]{env, c, rediscache.New(&rediscache.Options{
		Redis: c, LocalCache: rediscache.NewTinyLFU(env.Entries*11/10, TTL),
	})}, nil
}

func newGoRedisCacheRemote[T any](env Env) (Cache[T], error) {
	c := client(env)
	return goRedisCache[T]{env, c, rediscache.New(&rediscache.Options{Redis: c})}, nil
}

func (g goRedisCache[T]) Get(ctx context.Context, k string) (v T, ok bool, err error) {
	err = g.c.Get(ctx, key(g.env, k), &v)
	if errors.Is(err, rediscache.ErrCacheMiss) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (g goRedisCache[T]) Set(ctx context.Context, k string, v T) error {
	return g.c.Set(&rediscache.Item{Ctx: ctx, Key: key(g.env, k), Value: &v, TTL: TTL})
}

func (g goRedisCache[T]) Delete(ctx context.Context, k string) error {
	return g.c.Delete(ctx, key(g.env, k))
}

func (g goRedisCache[T]) Load(ctx context.Context, k string, load func(context.Context) (T, error)) (v T, err error) {
	err = g.c.Once(&rediscache.Item{Ctx: ctx, Key: key(g.env, k), Value: &v, TTL: TTL, Do: func(*rediscache.Item) (any, error) {
		loaded, err := load(ctx)
		return &loaded, err
	}})
	return v, err
}

func (g goRedisCache[T]) Close() error { return g.client.Close() }

// jetcacheCache is jetcache-go with its ristretto tier of bytes.
type jetcacheCache[T any] struct {
	env    Env
	client *redis.Client
	c      jetcache.Cache
}

func newJetcacheMemory[T any](env Env) (Cache[T], error) {
	// Its ristretto counts 56 bytes more than the 1 that an entry is said to cost.
	return openJetcache[T](env, jetcache.WithLocal(local.NewTinyLFU(env.Entries*60, TTL)))
}

func newJetcacheRemote[T any](env Env) (Cache[T], error) { return openJetcache[T](env) }

func openJetcache[T any](env Env, opts ...jetcache.Option) (Cache[T], error) {
	c := client(env)
	opts = append(opts, jetcache.WithName(env.Name), jetcache.WithRemote(remote.NewGoRedisV9Adapter(c)),
		jetcache.WithRemoteExpiry(TTL), jetcache.WithStatsDisabled(true))
	return jetcacheCache[T]{env, c, jetcache.New(opts...)}, nil
}

func (j jetcacheCache[T]) Get(ctx context.Context, k string) (v T, ok bool, err error) {
	err = j.c.Get(ctx, key(j.env, k), &v)
	if errors.Is(err, jetcache.ErrCacheMiss) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (j jetcacheCache[T]) Set(ctx context.Context, k string, v T) error {
	return j.c.Set(ctx, key(j.env, k), jetcache.Value(&v), jetcache.TTL(TTL))
}

func (j jetcacheCache[T]) Delete(ctx context.Context, k string) error {
	return j.c.Delete(ctx, key(j.env, k))
}

func (j jetcacheCache[T]) Load(ctx context.Context, k string, load func(context.Context) (T, error)) (v T, err error) {
	err = j.c.Once(ctx, key(j.env, k), jetcache.Value(&v), jetcache.TTL(TTL),
		jetcache.Do(func(ctx context.Context) (any, error) { return load(ctx) }))
	return v, err
}

func (j jetcacheCache[T]) Close() error {
	j.c.Close()
	return j.client.Close()
}

// gocacheMemory is the memory layer of an eko/gocache chain, typed: ristretto v1.
type gocacheMemory[T any] struct {
	client *ristrettov1.Cache
	c      *gocache.Cache[T]
}

func newGocacheMemory[T any](env Env) (Cache[T], error) {
	c, err := ristrettov1.NewCache(&ristrettov1.Config{
		NumCounters: 10 * int64(env.Entries), MaxCost: int64(env.Entries), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		return nil, err
	}
	store := gocacheristretto.NewRistretto(c, gocachestore.WithExpiration(TTL), gocachestore.WithCost(1))
	return gocacheMemory[T]{c, gocache.New[T](store)}, nil
}

func (g gocacheMemory[T]) Get(ctx context.Context, k string) (T, bool, error) {
	v, err := g.c.Get(ctx, k)
	if errors.Is(err, gocachestore.NotFound{}) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (g gocacheMemory[T]) Set(ctx context.Context, k string, v T) error {
	err := g.c.Set(ctx, k, v)
	g.client.Wait()
	return err
}

func (g gocacheMemory[T]) Delete(ctx context.Context, k string) error { return g.c.Delete(ctx, k) }

func (g gocacheMemory[T]) Close() error {
	g.client.Close()
	return nil
}

// gocacheRemote is its Redis layer behind its msgpack marshaler.
type gocacheRemote[T any] struct {
	env    Env
	client *redis.Client
	c      *marshaler.Marshaler
}

func newGocacheRemote[T any](env Env) (Cache[T], error) {
	c := client(env)
	store := gocacheredis.NewRedis(c, gocachestore.WithExpiration(TTL))
	return gocacheRemote[T]{env, c, marshaler.New(gocache.New[any](store))}, nil
}

func (g gocacheRemote[T]) Get(ctx context.Context, k string) (v T, ok bool, err error) {
	_, err = g.c.Get(ctx, key(g.env, k), &v)
	if errors.Is(err, gocachestore.NotFound{}) {
		return v, false, nil
	}
	return v, err == nil, err
}

func (g gocacheRemote[T]) Set(ctx context.Context, k string, v T) error {
	return g.c.Set(ctx, key(g.env, k), &v)
}

func (g gocacheRemote[T]) Delete(ctx context.Context, k string) error {
	return g.c.Delete(ctx, key(g.env, k))
}

func (g gocacheRemote[T]) Close() error { return g.client.Close() }
