package connect_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/connect"
	"github.com/tandemcache/tandem/internal/redistest"
)

// open opens a URL and closes the client when t ends.
func open(t *testing.T, raw string, timeout time.Duration) redis.UniversalClient {
	t.Helper()
	target, err := connect.Parse(raw)
	require.NoError(t, err)
	client, err := target.Open(timeout)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// speaks checks that a client reaches its server, in the database given, and
// that Inspect accepts it.
func speaks(t *testing.T, client redis.UniversalClient, want connect.Kind, db int) connect.Info {
	t.Helper()
	ctx := t.Context()
	require.NoError(t, client.Set(ctx, "k", "v", 0).Err())
	require.Equal(t, "v", client.Get(ctx, "k").Val())
	info, err := connect.Inspect(client)
	require.NoError(t, err)
	assert.Equal(t, want, info.Kind)
	assert.Equal(t, db, info.DB)
	assert.True(t, info.ContextTimeoutEnabled)
	return info
}

const generous = 10 * time.Second

func TestOpen_reachesAServer(t *testing.T) {
	srv := redistest.Start(t, redistest.WithPassword("p@ss/w?rd"), redistest.WithUser("app", "on", ">s&cret", "~*", "+@all"))
	t.Run("password", func(t *testing.T) {
		info := speaks(t, open(t, srv.URL(), generous), connect.Standalone, 0)
		assert.Equal(t, []string{srv.Addr()}, info.Addrs)
	})
	t.Run("user and database", func(t *testing.T) {
		u := url.URL{Scheme: "redis", User: url.UserPassword("app", "s&cret"), Host: srv.Addr(), Path: "/3"}
		speaks(t, open(t, u.String(), generous), connect.Standalone, 3)
	})
	t.Run("database as a parameter", func(t *testing.T) {
		speaks(t, open(t, srv.URL()+"?db=5&pool_size=2", generous), connect.Standalone, 5)
	})
	t.Run("wrong password", func(t *testing.T) {
		client := open(t, "redis://:wrong@"+srv.Addr(), generous)
		assert.True(t, redis.IsAuthError(client.Ping(t.Context()).Err()))
	})
}

func TestOpen_reachesASocket(t *testing.T) {
	srv := redistest.Start(t, redistest.WithUnixSocket())
	info := speaks(t, open(t, srv.URL(), generous), connect.Standalone, 0)
	assert.Equal(t, []string{srv.Socket()}, info.Addrs)
}

// A certificate that nobody vouches for is refused, unless the URL says to trust
// any.
func TestOpen_verifiesCertificates(t *testing.T) {
	srv := redistest.Start(t, redistest.WithTLS())
	err := open(t, srv.URL(), generous).Ping(t.Context()).Err()
	require.ErrorContains(t, err, "certificate")
	err = open(t, srv.URL()+"?skip_verify=false", generous).Ping(t.Context()).Err()
	require.ErrorContains(t, err, "certificate")
	speaks(t, open(t, srv.URL()+"?skip_verify=true", generous), connect.Standalone, 0)

	require.Error(t, open(t, "redis://"+srv.Addr(), generous).Ping(t.Context()).Err(), "it speaks TLS only")
}

// Each client gets TLS settings of its own: whoever changes them on one does not
// change them on another.
func TestOpen_sharesNoSettings(t *testing.T) {
	target, err := connect.Parse("rediss://localhost?skip_verify=true")
	require.NoError(t, err)
	var seen []*redis.Options
	for range 2 {
		client, err := target.Open(time.Second)
		require.NoError(t, err)
		defer client.Close()
		seen = append(seen, client.(*redis.Client).Options())
	}
	require.True(t, seen[0].TLSConfig.InsecureSkipVerify)
	seen[0].TLSConfig.InsecureSkipVerify = false
	seen[0].DialTimeout = 1
	assert.True(t, seen[1].TLSConfig.InsecureSkipVerify)
	assert.Equal(t, time.Second, seen[1].DialTimeout)
}

func TestOpen_reachesACluster(t *testing.T) {
	c := redistest.StartCluster(t)
	info := speaks(t, open(t, c.URL(), generous), connect.Cluster, 0)
	assert.ElementsMatch(t, c.Addrs(), info.Addrs)
}

func TestOpen_reachesThePrimaryOfSentinels(t *testing.T) {
	s := redistest.StartSentinel(t, redistest.WithPassword("s&cret"))
	client := open(t, s.URL(), generous)
	info := speaks(t, client, connect.Sentinel, 0)
	assert.Empty(t, info.Addrs)
	assert.EqualValues(t, "v", s.Master().Do("GET", "k"))
}

// options are those that settle sets, of any client.
type options struct {
	retries, dialerRetries  int // retries below 0: none
	dial, read, write, pool time.Duration
	contextTimeout          bool
}

func optionsOf(client redis.UniversalClient) options {
	switch c := client.(type) {
	case *redis.Client:
		o := c.Options()
		return options{max(o.MaxRetries, 0), o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout, o.ContextTimeoutEnabled}
	case *redis.ClusterClient:
		o := c.Options()
		return options{max(o.MaxRetries, 0), o.DialerRetries, o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout, o.ContextTimeoutEnabled}
	}
	panic(fmt.Sprintf("%T", client))
}

// What a call may cost is the caller's timeout, unless the URL says otherwise.
func TestOpen_doesNotWait(t *testing.T) {
	const timeout = 123 * time.Millisecond
	want := options{0, 1, timeout, timeout, timeout, timeout, true}
	for _, raw := range []string{"redis://localhost", "rediss://localhost", "unix:///redis.sock", "redis+cluster://localhost", "redis+sentinel://localhost?master_name=m"} {
		assert.Equal(t, want, optionsOf(open(t, raw, timeout)), raw)
	}
	want = options{2, 3, 4 * time.Second, 5 * time.Second, 6 * time.Second, 7 * time.Second, true}
	for _, raw := range []string{"redis+cluster://localhost?", "redis+sentinel://localhost?master_name=m&"} {
		got := optionsOf(open(t, raw+"max_retries=2&dialer_retries=3&dial_timeout=4s&read_timeout=5&write_timeout=6s&pool_timeout=7s", timeout))
		assert.Equal(t, want, got, raw)
	}
	standalone := open(t, "redis://localhost", timeout).(*redis.Client).Options()
	assert.Equal(t, maintnotifications.ModeDisabled, standalone.MaintNotificationsConfig.Mode)
	clustered := open(t, "redis+cluster://localhost", timeout).(*redis.ClusterClient).Options()
	assert.Equal(t, maintnotifications.ModeDisabled, clustered.MaintNotificationsConfig.Mode)
	assert.Zero(t, optionsOf(open(t, "redis://localhost?max_retries=0", timeout)).retries, "0 is none, not go-redis' three")

	target, err := connect.Parse("redis://localhost")
	require.NoError(t, err)
	for _, short := range []time.Duration{0, -1, time.Millisecond - 1} {
		_, err = target.Open(short)
		assert.ErrorContains(t, err, "timeout")
	}
	_, err = connect.Target{}.Open(time.Second)
	assert.ErrorContains(t, err, "use Parse")
}

// A server that hangs holds a call up for as long as its context says, not for as
// long as the client would wait for itself.
func TestOpen_callsEndWithTheirContext(t *testing.T) {
	const own = 20 * time.Second
	srv := redistest.Start(t)
	client := open(t, srv.URL(), own)
	require.NoError(t, client.Ping(t.Context()).Err())
	srv.Freeze()
	defer srv.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	begin := time.Now()
	var timeout net.Error
	require.ErrorAs(t, client.Ping(ctx).Err(), &timeout)
	assert.True(t, timeout.Timeout())
	assert.Less(t, time.Since(begin), own/2)
}

// A command is tried once and a connection is made once: whoever is there and
// hangs up at once sees one connection for one command.
func TestOpen_triesOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var accepted atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			_ = conn.Close()
		}
	})
	client := open(t, "redis://"+ln.Addr().String(), generous)
	require.Error(t, client.Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, ln.Close())
	wg.Wait()
	assert.EqualValues(t, 1, accepted.Load())
	assert.Error(t, client.Set(t.Context(), "k", "v", 0).Err(), "nobody is there")
}

// After more failed dials than it has room for connections, a client works again
// as soon as Redis does: go-redis alone would wait for up to a second.
func TestTarget_Open_dialsAgainAtOnce(t *testing.T) {
	srv := redistest.Start(t)
	client := open(t, srv.URL()+"?pool_size=2", time.Second)
	require.NoError(t, client.Ping(t.Context()).Err())
	srv.Stop()
	for range 6 {
		require.ErrorIs(t, client.Ping(t.Context()).Err(), syscall.ECONNREFUSED)
	}
	srv.Restart()
	assert.NoError(t, client.Ping(t.Context()).Err())
}
