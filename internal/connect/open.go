package connect

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// minTimeout is the shortest limit that leaves time for a round trip.
const minTimeout = time.Millisecond

// Greet is called for each new connection before anything is asked over it.
// addr is the address of a cluster's node, empty otherwise. An error closes the
// connection, and is that of the call which wanted it.
type Greet func(ctx context.Context, addr string, conn *redis.Conn) error

// Open returns a client of the target; it is the caller's to close. It does not
// wait for Redis, which may be down. timeout is the limit of one dial, read or
// write, and of waiting for a connection, where the URL does not say otherwise.
func (t Target) Open(timeout time.Duration) (redis.UniversalClient, error) {
	return t.OpenGreeted(timeout, nil)
}

// OpenGreeted is [Target.Open] of a client that calls greet, which may be nil.
func (t Target) OpenGreeted(timeout time.Duration, greet Greet) (redis.UniversalClient, error) {
	if timeout < minTimeout {
		return nil, errors.New("connect: timeout is below 1ms")
	}
	// The parsed options are copied: a Target may be opened several times, and
	// clients write defaults into the options that they are given.
	switch t.kind {
	case Standalone:
		o := *t.single
		o.TLSConfig = o.TLSConfig.Clone()
		o.ContextTimeoutEnabled = true
		o.MaintNotificationsConfig = noMaintNotifications()
		o.OnConnect = greet.at("")
		t.settle(timeout, limits{&o.MaxRetries, &o.DialerRetries, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout})
		o.Dialer = steadily(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig})
		return redis.NewClient(&o), nil
	case Cluster:
		o := *t.cluster
		o.TLSConfig = o.TLSConfig.Clone()
		o.ContextTimeoutEnabled = true
		o.MaintNotificationsConfig = noMaintNotifications()
		o.NewClient = func(node *redis.Options) *redis.Client {
			node.OnConnect = greet.at(node.Addr)
			return redis.NewClient(node)
		}
		t.settle(timeout, limits{&o.MaxRetries, &o.DialerRetries, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout})
		o.Dialer = steadily(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig})
		return redis.NewClusterClient(&o), nil
	case Sentinel:
		o := *t.failover
		o.TLSConfig = o.TLSConfig.Clone()
		o.ContextTimeoutEnabled = true
		o.OnConnect = greet.at("")
		t.settle(timeout, limits{&o.MaxRetries, &o.DialerRetries, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.PoolTimeout})
		o.Dialer = steadily(&redis.Options{DialTimeout: o.DialTimeout, TLSConfig: o.TLSConfig})
		return redis.NewFailoverClient(&o), nil
	}
	return nil, errors.New("connect: the zero Target has nothing to open; use Parse")
}

// at returns the greeting as the option of a client of addr.
func (g Greet) at(addr string) func(context.Context, *redis.Conn) error {
	if g == nil {
		return nil
	}
	return func(ctx context.Context, conn *redis.Conn) error { return g(ctx, addr, conn) }
}

// limits points at the same options of three types that have no common one.
type limits struct {
	maxRetries, dialerRetries                           *int
	dialTimeout, readTimeout, writeTimeout, poolTimeout *time.Duration
}

// settle sets what the URL does not. go-redis' own defaults, four attempts of
// five dials each and reads of five seconds, make a call take 1.7 s when Redis is
// down and 5 s when it is frozen. Its defaults for the size of pools are kept.
func (t Target) settle(timeout time.Duration, l limits) {
	set(t, "max_retries", l.maxRetries, -1)
	set(t, "dialer_retries", l.dialerRetries, 1)
	set(t, "dial_timeout", l.dialTimeout, timeout)
	set(t, "read_timeout", l.readTimeout, timeout)
	set(t, "write_timeout", l.writeTimeout, timeout)
	set(t, "pool_timeout", l.poolTimeout, timeout)
}

func set[V any](t Target, name string, option *V, value V) {
	if last(t.params, name) == "" {
		*option = value
	}
}

// noMaintNotifications turns off an extra handshake whose only effect is to
// move connections ahead of maintenance of one vendor's service.
func noMaintNotifications() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// tls returns the TLS settings in t's options, nil without TLS.
func (t Target) tls() *tls.Config {
	switch t.kind {
	case Cluster:
		return t.cluster.TLSConfig
	case Sentinel:
		return t.failover.TLSConfig
	}
	return t.single.TLSConfig
}
