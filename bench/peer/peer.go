// Package peer puts caches of many makers behind one small interface, each in
// the configuration that its documentation advises.
//
// What is compared must be alike: every peer returns a decoded value of type T.
// Those that hold bytes pay for decoding on each hit, because their users do.
package peer

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cache is what every peer can do.
type Cache[T any] interface {
	// Get returns the value of key, and whether there is one.
	Get(ctx context.Context, key string) (T, bool, error)
	Set(ctx context.Context, key string, v T) error
	Delete(ctx context.Context, key string) error
	Close() error
}

// Loader is what some peers can do: get a value, or load and keep it, with
// concurrent calls for a key collapsed.
type Loader[T any] interface {
	Load(ctx context.Context, key string, load func(context.Context) (T, error)) (T, error)
}

// Env is what a peer gets.
type Env struct {
	Addr    string // of a Redis server; empty for peers that need none
	Cluster []string
	Entries int    // how many entries must fit in memory
	Bytes   int64  // what they take, for peers that count bytes
	Name    string // unlike that of any other peer on the same server
	// Dial makes the connections to Addr, of peers that leave that to others; nil: as usual.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Peer is one contender.
type Peer[T any] struct {
	Name string
	// Holds says what a hit in memory finds: "values", or "bytes" to be decoded.
	Holds string
	Open  func(Env) (Cache[T], error)
}

// TTL is how long everything lives: with expiry on, and longer than any run.
const TTL = time.Hour

// client returns a go-redis client with the pool that the concurrency of the
// workloads calls for; the rest is go-redis' default.
func client(env Env) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: env.Addr, PoolSize: poolSize, ReadTimeout: readTimeout})
}

const (
	poolSize    = 64
	readTimeout = 5 * time.Second
)

func key(env Env, k string) string { return env.Name + ":" + k }
