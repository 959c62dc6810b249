package tier_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

	"github.com/tandemcache/tandem/codec"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// api is the part of the API that users' interfaces and fakes are written against.
// A name or a signature that changes does not compile here.
type api[T any] interface {
	Get(ctx context.Context, key string) (T, bool)
	Lookup(ctx context.Context, key string) (tier.Item[T], error)
	GetOrSet(ctx context.Context, key string, ttl time.Duration, load func(context.Context) (T, error)) (T, error)
	Fetch(ctx context.Context, key string, fill func(context.Context, *tier.Fill[T]) (T, error)) (T, error)
	Set(ctx context.Context, key string, value T, ttl time.Duration, tags ...string) error
	Update(ctx context.Context, key string, ttl time.Duration, commit func(context.Context) (T, error)) (T, error)
	SetVersioned(ctx context.Context, key string, value T, version uint64, ttl time.Duration) error
	DeleteVersioned(ctx context.Context, key string, version uint64) error
	Delete(ctx context.Context, keys ...string) error
	Expire(ctx context.Context, keys ...string) error
	DeletePrefix(ctx context.Context, prefix string) (int, error)
	Clear(ctx context.Context) error
	Exists(ctx context.Context, key string) bool
	TTL(ctx context.Context, key string) (time.Duration, bool)
	GetMany(ctx context.Context, keys []string) map[string]T
	SetMany(ctx context.Context, values map[string]T, ttl time.Duration, tags ...string) error
	GetOrSetMany(ctx context.Context, keys []string, ttl time.Duration,
		load func(ctx context.Context, missing []string) (map[string]T, error)) (map[string]T, error)
	Stats() tier.Stats
}

var _ api[row] = (*tier.Cache[row])(nil)

var _ interface {
	Health(ctx context.Context) tier.Health
	Stats() tier.NodeStats
	InvalidateTags(ctx context.Context, tags ...string) error
	DeletePrefix(ctx context.Context, prefix string) (int, error)
	Close() error
	Shutdown(ctx context.Context) error
} = (*tier.Node)(nil)

var _ interface {
	Increment(ctx context.Context, key string, delta int64) (int64, error)
	Decrement(ctx context.Context, key string, delta int64) (int64, error)
	Allow(ctx context.Context, key string, limit int64) (tier.Decision, error)
	Get(ctx context.Context, key string) (int64, error)
	Reset(ctx context.Context, keys ...string) error
	TTL(ctx context.Context, key string) (time.Duration, bool)
} = (*tier.Counter)(nil)

func TestContract_namesAndZeroValues(t *testing.T) {
	_ = tier.Config{
		URL: "", Redis: redis.UniversalClient(nil), Prefix: "", Logger: (*slog.Logger)(nil), Strict: false,
		Timeout: time.Duration(0), Heartbeat: time.Duration(0), MaxPending: 0, Bus: invalidation.Bus(nil), Tracking: false,
	}
	_ = tier.Options[row]{
		TTL: time.Duration(0), Jitter: float64(0), NegativeTTL: time.Duration(0), StaleFor: time.Duration(0),
		RefreshAt: float64(0), SoftTimeout: time.Duration(0), LoadTimeout: time.Duration(0),
		Local: tier.Local{MaxBytes: int64(0), TTL: time.Duration(0), Disabled: false},
		Codec: codec.Codec[row](nil), Version: "", Cost: (func(row) int64)(nil), Clone: (func(row) row)(nil),
		Tags: (func(string, row) []string)(nil), Hold: time.Duration(0), MaxValueBytes: 0,
	}
	_ = tier.Item[row]{Value: row{}, Tier: tier.TierL1, Age: 0, TTL: 0, Stale: false, Tags: []string(nil)}
	_ = tier.Fill[row]{
		Stale: row{}, HasStale: false, TTL: 0, Tags: []string(nil), NoStore: false, NotModified: false, Version: uint64(0),
	}
	_ = tier.Decision{Allowed: false, Remaining: int64(0), RetryAfter: time.Duration(0)}
	_ = tier.CounterOptions{Window: time.Duration(0)}
	_ = tier.Stats{
		HitsL1: 0, HitsL2: 0, Misses: 0, Loads: 0, LoadErrors: 0, Collapsed: 0, StaleServed: 0, FillsRefused: 0,
		DecodeErrors: 0, Entries: 0, Bytes: 0, BytesLimit: 0, Evictions: 0,
	}
	assert.Equal(t, []time.Duration{time.Minute, 5 * time.Minute, time.Hour, 24 * time.Hour, -1},
		[]time.Duration{tier.TTLShort, tier.TTLMedium, tier.TTLLong, tier.TTLDay, tier.NoExpiry})
	assert.Len(t, []tier.Tier{tier.TierL1, tier.TierL2, tier.TierLoad}, 3)
	for _, err := range []error{tier.ErrNotFound, tier.ErrUnavailable, tier.ErrClosed, tier.ErrTooLarge, tier.ErrKey} {
		assert.Error(t, err)
	}
	n, err := tier.Open(t.Context(), tier.Config{})
	assert.NoError(t, err)
	assert.True(t, n.Health(t.Context()).Healthy)
	assert.True(t, n.Stats().Available)
	assert.Zero(t, n.Stats().ReconnectAttempts)
	assert.NoError(t, n.Close())
}
