package peer

import (
	"context"

	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidisaside"
	"github.com/vmihailenco/msgpack/v5"
)

// Loading returns the peers of two tiers that load: once for many callers, and then
// keep what they loaded.
func Loading[T any]() []Peer[T] {
	return append(named(Memory[T](), "tandem", "go-redis-cache", "jetcache-go"), Peer[T]{"rueidisaside", "bytes", newAside[T]})
}

// named picks peers.
func named[T any](all []Peer[T], names ...string) []Peer[T] {
	var picked []Peer[T]
	for _, name := range names {
		for _, p := range all {
			if p.Name == name {
				picked = append(picked, p)
			}
		}
	}
	return picked
}

// asideCache is rueidisaside: rueidis' client-side caching, and a lock in Redis around
// each load, whose end the others hear of from Redis.
type asideCache[T any] struct {
	env    Env
	client rueidisaside.CacheAsideClient
}

func newAside[T any](env Env) (Cache[T], error) {
	c, err := rueidisaside.NewClient(rueidisaside.ClientOption{ClientOption: rueidis.ClientOption{
		InitAddress: []string{env.Addr}, CacheSizeEachConn: int(max(env.Bytes, 128<<20)),
	}})
	return asideCache[T]{env, c}, err
}

func (a asideCache[T]) Get(ctx context.Context, k string) (v T, ok bool, err error) {
	s, err := a.client.Get(ctx, TTL, key(a.env, k), nil)
	if rueidis.IsRedisNil(err) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	err = msgpack.Unmarshal([]byte(s), &v)
	return v, err == nil, err
}

// Set is a SET by its client: it has no call for that, and Redis tells all who hold the key.
func (a asideCache[T]) Set(ctx context.Context, k string, v T) error {
	return rueidisCache[T]{env: a.env, client: a.client.Client()}.Set(ctx, k, v)
}

func (a asideCache[T]) Delete(ctx context.Context, k string) error {
	return a.client.Del(ctx, key(a.env, k))
}

func (a asideCache[T]) Load(ctx context.Context, k string, load func(context.Context) (T, error)) (v T, err error) {
	s, err := a.client.Get(ctx, TTL, key(a.env, k), func(ctx context.Context, _ string) (string, error) {
		loaded, err := load(ctx)
		if err != nil {
			return "", err
		}
		b, err := msgpack.Marshal(&loaded)
		return rueidis.BinaryString(b), err
	})
	if err != nil {
		return v, err
	}
	err = msgpack.Unmarshal([]byte(s), &v)
	return v, err
}

func (a asideCache[T]) Close() error {
	a.client.Close()
	return nil
}
