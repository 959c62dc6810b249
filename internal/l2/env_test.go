package l2

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testChannel = "test:!bus"

// env is a store and the ways around it.
type env struct {
	Store
	t      *testing.T
	plant  func(key string, data []byte)       // puts a string there, without expiry
	raw    func(key string) []byte             // what stands there, nil for nothing
	ttl    func(key string) time.Duration      // negative: none
	setTTL func(key string, ttl time.Duration) // of what stands there
	heard  func() []string                     // messages since the last call
}

func newMemoryEnv(t *testing.T) *env {
	var mu sync.Mutex
	var msgs []string
	m := NewMemory(MemoryOptions{Publish: func(msg []byte) {
		mu.Lock()
		defer mu.Unlock()
		msgs = append(msgs, string(msg))
	}})
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	with := func(key string, f func(c *cell)) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.sweepLocked(m.now())
		f(m.cells[key])
	}
	return &env{
		Store: m, t: t,
		plant: func(key string, data []byte) {
			with(key, func(*cell) { m.putLocked(key, data, 0, false) })
		},
		raw: func(key string) (data []byte) {
			with(key, func(c *cell) {
				if c != nil {
					data = append([]byte{}, c.data...)
				}
			})
			return data
		},
		ttl: func(key string) (d time.Duration) {
			with(key, func(c *cell) {
				require.NotNil(t, c, key)
				d = time.Duration(c.expires-m.now()) * time.Microsecond
				if c.expires == 0 {
					d = -1
				}
			})
			return d
		},
		setTTL: func(key string, ttl time.Duration) {
			with(key, func(c *cell) { m.expireLocked(c, m.now()+ttl.Microseconds()) })
		},
		heard: func() []string {
			mu.Lock()
			defer mu.Unlock()
			out := msgs
			msgs = nil
			return out
		},
	}
}

func newRedisStore(t *testing.T, client redis.UniversalClient, opt RedisOptions) *Redis {
	t.Helper()
	if opt.Channel == "" {
		opt.Channel = testChannel
	}
	if opt.Timeout == 0 {
		opt.Timeout = 2 * time.Second // the machine is small and shared
	}
	r, err := NewRedis(client, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	_, err = r.Ping(t.Context())
	require.NoError(t, err)
	return r
}

// newRedisEnv is an env over client.
func newRedisEnv(t *testing.T, client redis.UniversalClient) *env {
	r := newRedisStore(t, client, RedisOptions{})
	ctx := context.Background()
	sub := client.Subscribe(ctx, testChannel)
	t.Cleanup(func() { _ = sub.Close() })
	_, err := sub.Receive(ctx)
	require.NoError(t, err)
	return &env{
		Store: r, t: t,
		plant: func(key string, data []byte) { require.NoError(t, client.Set(ctx, key, data, 0).Err()) },
		raw: func(key string) []byte {
			b, err := client.Get(ctx, key).Bytes()
			if errors.Is(err, redis.Nil) {
				return nil
			}
			require.NoError(t, err)
			return b
		},
		ttl: func(key string) time.Duration {
			d, err := client.PTTL(ctx, key).Result()
			require.NoError(t, err)
			return d
		},
		setTTL: func(key string, ttl time.Duration) { require.NoError(t, client.PExpire(ctx, key, ttl).Err()) },
		heard: func() []string {
			// From every server: a cluster's masters do not wait for each other.
			ends := 1
			if c, ok := client.(*redis.ClusterClient); ok {
				var n atomic.Int32
				require.NoError(t, c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
					n.Add(1)
					return node.Publish(ctx, testChannel, "!end").Err()
				}))
				ends = int(n.Load())
			} else {
				require.NoError(t, client.Publish(ctx, testChannel, "!end").Err())
			}
			var out []string
			for {
				msg, err := sub.ReceiveMessage(ctx)
				require.NoError(t, err)
				if msg.Payload != "!end" {
					out = append(out, msg.Payload)
				} else if ends--; ends == 0 {
					return out
				}
			}
		},
	}
}

func TestMemory_conformance(t *testing.T) { testStore(t, newMemoryEnv(t)) }

func TestRedis_conformance(t *testing.T) {
	srv := redistest.Start(t)
	testStore(t, newRedisEnv(t, srv.Client(t)))
}

func TestRedis_conformance_onCluster(t *testing.T) {
	testStore(t, newRedisEnv(t, redistest.StartCluster(t).Client(t)))
}

// endLease makes the lease that stands under key be over.
func (e *env) endLease(key string) {
	e.setLeaseEnd(key, 1)
}

func (e *env) setLeaseEnd(key string, end int64) {
	e.t.Helper()
	data := e.raw(key)
	require.GreaterOrEqual(e.t, len(data), headLen)
	binary.BigEndian.PutUint64(data[offLease:], uint64(end))
	ttl := e.ttl(key)
	e.plant(key, data)
	if ttl > 0 {
		e.setTTL(key, ttl)
	}
}
