package l2

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
)

// What it costs to ask who is at the other end of a new connection, beside the
// connection itself and one PING over it.
func BenchmarkGreet(b *testing.B) {
	srv := redistest.Start(b)
	client := srv.Client(b)
	store, err := NewRedis(client, RedisOptions{Channel: "bench", Timeout: time.Second, Fleet: "bench:!fleet", Node: "bench"})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, store.Close()) })
	_, err = store.Ping(b.Context())
	require.NoError(b, err)
	for name, greet := range map[string]func(context.Context, *redis.Conn) error{
		"asked":   func(ctx context.Context, conn *redis.Conn) error { return store.Greet(ctx, "", conn) },
		"unasked": nil,
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c := redis.NewClient(&redis.Options{Addr: srv.Addr(), OnConnect: greet})
				require.NoError(b, c.Ping(b.Context()).Err())
				require.NoError(b, c.Close())
			}
		})
	}
}
