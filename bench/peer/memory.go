package peer

import (
	"context"
	"time"

	theine "github.com/Yiling-J/theine-go"
	"github.com/dgraph-io/ristretto/v2"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/maypok86/otter/v2"
	"github.com/viccon/sturdyc"
)

// Memory returns the peers that answer hits from the memory of the process.
func Memory[T any]() []Peer[T] {
	return []Peer[T]{
		{"ristretto", "values", newRistretto[T]},
		{"tandem", "values", newTandem[T]},
		{"otter", "values", newOtter[T]},
		{"theine", "values", newTheine[T]},
		{"golang-lru", "values", newLRU[T]},
		{"sturdyc", "values", newSturdyc[T]},
		{"gocache", "values", newGocacheMemory[T]},
		{"rueidis-csc", "bytes", newRueidisTracking[T]},
		{"go-redis-cache", "bytes", newGoRedisCacheMemory[T]},
		{"jetcache-go", "bytes", newJetcacheMemory[T]},
	}
}

// ristrettoCache is ristretto alone: entries without a TTL, the least that can
// be asked of it. Tandem's values live in the same store.
type ristrettoCache[T any] struct{ c *ristretto.Cache[string, T] }

func newRistretto[T any](env Env) (Cache[T], error) {
	c, err := ristretto.NewCache(&ristretto.Config[string, T]{
		NumCounters: 10 * int64(env.Entries), MaxCost: int64(env.Entries), BufferItems: 64, IgnoreInternalCost: true,
	})
	return ristrettoCache[T]{c}, err
}

func (r ristrettoCache[T]) Get(_ context.Context, key string) (T, bool, error) {
	v, ok := r.c.Get(key)
	return v, ok, nil
}

func (r ristrettoCache[T]) Set(_ context.Context, key string, v T) error {
	r.c.Set(key, v, 1)
	r.c.Wait()
	return nil
}

func (r ristrettoCache[T]) Delete(_ context.Context, key string) error {
	r.c.Del(key)
	return nil
}

func (r ristrettoCache[T]) Close() error {
	r.c.Close()
	return nil
}

type otterCache[T any] struct{ c *otter.Cache[string, T] }

func newOtter[T any](env Env) (Cache[T], error) {
	c, err := otter.New(&otter.Options[string, T]{
		MaximumSize: env.Entries, ExpiryCalculator: otter.ExpiryWriting[string, T](TTL),
	})
	return otterCache[T]{c}, err
}

func (o otterCache[T]) Get(_ context.Context, key string) (T, bool, error) {
	v, ok := o.c.GetIfPresent(key)
	return v, ok, nil
}

func (o otterCache[T]) Set(_ context.Context, key string, v T) error {
	o.c.Set(key, v)
	return nil
}

func (o otterCache[T]) Delete(_ context.Context, key string) error {
	o.c.Invalidate(key)
	return nil
}

func (o otterCache[T]) Load(ctx context.Context, key string, load func(context.Context) (T, error)) (T, error) {
	return o.c.Get(ctx, key, otter.LoaderFunc[string, T](func(ctx context.Context, _ string) (T, error) { return load(ctx) }))
}

func (o otterCache[T]) Close() error {
	o.c.StopAllGoroutines()
	return nil
}

type theineCache[T any] struct{ c *theine.Cache[string, T] }

func newTheine[T any](env Env) (Cache[T], error) {
	c, err := theine.NewBuilder[string, T](int64(env.Entries)).Build()
	return theineCache[T]{c}, err
}

func (t theineCache[T]) Get(_ context.Context, key string) (T, bool, error) {
	v, ok := t.c.Get(key)
	return v, ok, nil
}

func (t theineCache[T]) Set(_ context.Context, key string, v T) error {
	t.c.SetWithTTL(key, v, 1, TTL)
	return nil
}

func (t theineCache[T]) Delete(_ context.Context, key string) error {
	t.c.Delete(key)
	return nil
}

func (t theineCache[T]) Close() error {
	t.c.Close()
	return nil
}

type lruCache[T any] struct{ c *expirable.LRU[string, T] }

func newLRU[T any](env Env) (Cache[T], error) {
	return lruCache[T]{expirable.NewLRU[string, T](env.Entries, nil, TTL)}, nil
}

func (l lruCache[T]) Get(_ context.Context, key string) (T, bool, error) {
	v, ok := l.c.Get(key)
	return v, ok, nil
}

func (l lruCache[T]) Set(_ context.Context, key string, v T) error {
	l.c.Add(key, v)
	return nil
}

func (l lruCache[T]) Delete(_ context.Context, key string) error {
	l.c.Remove(key)
	return nil
}

func (l lruCache[T]) Close() error { return nil }

type sturdycCache[T any] struct{ c *sturdyc.Client[T] }

func newSturdyc[T any](env Env) (Cache[T], error) {
	// Shards and eviction share are those of its README. Capacity is split among
	// shards, over which keys do not spread evenly, so there is more.
	return sturdycCache[T]{sturdyc.New[T](2*env.Entries+1000, 10, TTL, 10, sturdyc.WithEvictionInterval(time.Minute))}, nil
}

func (s sturdycCache[T]) Get(_ context.Context, key string) (T, bool, error) {
	v, ok := s.c.Get(key)
	return v, ok, nil
}

func (s sturdycCache[T]) Set(_ context.Context, key string, v T) error {
	s.c.Set(key, v)
	return nil
}

func (s sturdycCache[T]) Delete(_ context.Context, key string) error {
	s.c.Delete(key)
	return nil
}

func (s sturdycCache[T]) Load(ctx context.Context, key string, load func(context.Context) (T, error)) (T, error) {
	return s.c.GetOrFetch(ctx, key, load)
}

func (s sturdycCache[T]) Close() error { return nil }
