package peer

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/vmihailenco/msgpack/v5"
)

// Remote returns the peers that answer hits from Redis, their memory turned off.
func Remote[T any]() []Peer[T] {
	return []Peer[T]{
		{"go-redis", "", newGoRedis[T]},
		{"tandem", "", newTandemRemote[T]},
		{"go-redis-autopipeline", "", newAutoPipeline[T]},
		{"rueidis", "", newRueidis[T]},
		{"go-redis-cache", "", newGoRedisCacheRemote[T]},
		{"jetcache-go", "", newJetcacheRemote[T]},
		{"gocache", "", newGocacheRemote[T]},
	}
}

// commands is the part of go-redis that the plain peers use.
type commands interface {
	Get(ctx context.Context, key string) *redis.StringCmd
	Del(ctx context.Context, keys ...string) *redis.IntCmd
}

// goRedis is what one writes without a cache library: GET, then decode. Set and
// Delete tell the other processes, as a cache must: the change and a PUBLISH in
// one pipeline.
type goRedis[T any] struct {
	env    Env
	client redis.UniversalClient
	read   commands
	close  func() error
}

func newGoRedis[T any](env Env) (Cache[T], error) {
	var c redis.UniversalClient = client(env)
	if len(env.Cluster) > 0 {
		c = redis.NewClusterClient(&redis.ClusterOptions{Addrs: env.Cluster, PoolSize: poolSize, ReadTimeout: readTimeout})
	}
	return goRedis[T]{env, c, c, c.Close}, nil
}

func newAutoPipeline[T any](env Env) (Cache[T], error) {
	c := client(env)
	auto, err := c.AutoPipeline()
	if err != nil {
		return nil, err
	}
	return goRedis[T]{env, c, auto, func() error { return errors.Join(auto.Close(), c.Close()) }}, nil
}

func (g goRedis[T]) Get(ctx context.Context, k string) (v T, ok bool, err error) {
	b, err := g.read.Get(ctx, key(g.env, k)).Bytes()
	if errors.Is(err, redis.Nil) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	err = msgpack.Unmarshal(b, &v)
	return v, err == nil, err
}

func (g goRedis[T]) Set(ctx context.Context, k string, v T) error {
	b, err := msgpack.Marshal(&v)
	if err != nil {
		return err
	}
	pipe := g.client.Pipeline()
	pipe.Set(ctx, key(g.env, k), b, TTL)
	pipe.Publish(ctx, g.env.Name, k)
	_, err = pipe.Exec(ctx)
	return err
}

func (g goRedis[T]) Delete(ctx context.Context, k string) error {
	pipe := g.client.Pipeline()
	pipe.Del(ctx, key(g.env, k))
	pipe.Publish(ctx, g.env.Name, k)
	_, err := pipe.Exec(ctx)
	return err
}

func (g goRedis[T]) Close() error { return g.close() }

// rueidisCache pipelines by itself. With track, reads go through its client-side
// cache, which holds the bytes and hears from Redis what changed.
type rueidisCache[T any] struct {
	env    Env
	client rueidis.Client
	track  bool
}

func newRueidis[T any](env Env) (Cache[T], error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{env.Addr}, DisableCache: true})
	return rueidisCache[T]{env: env, client: c}, err
}

func newRueidisTracking[T any](env Env) (Cache[T], error) {
	c, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{env.Addr}, CacheSizeEachConn: int(max(env.Bytes, 128<<20)),
		ClientTrackingOptions: []string{"PREFIX", env.Name + ":", "BCAST"},
	})
	return rueidisCache[T]{env: env, client: c, track: true}, err
}

func (r rueidisCache[T]) Get(ctx context.Context, k string) (v T, ok bool, err error) {
	var res rueidis.RedisResult
	if r.track {
		res = r.client.DoCache(ctx, r.client.B().Get().Key(key(r.env, k)).Cache(), TTL)
	} else {
		res = r.client.Do(ctx, r.client.B().Get().Key(key(r.env, k)).Build())
	}
	b, err := res.AsBytes()
	if rueidis.IsRedisNil(err) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	err = msgpack.Unmarshal(b, &v)
	return v, err == nil, err
}

func (r rueidisCache[T]) Set(ctx context.Context, k string, v T) error {
	b, err := msgpack.Marshal(&v)
	if err != nil {
		return err
	}
	return r.client.Do(ctx, r.client.B().Set().Key(key(r.env, k)).Value(rueidis.BinaryString(b)).Ex(TTL).Build()).Error()
}

func (r rueidisCache[T]) Delete(ctx context.Context, k string) error {
	return r.client.Do(ctx, r.client.B().Del().Key(key(r.env, k)).Build()).Error()
}

func (r rueidisCache[T]) Close() error {
	r.client.Close()
	return nil
}
