package l2

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
)

// patience is how long a test waits for what must happen; slack is how much
// later than its deadline a call may end on a busy machine.
const (
	patience = 10 * second
	slack    = second
)

// await polls a real condition.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
		panic("unreachable")
	}
}

// events records what a store tells.
type events struct {
	up, restarted chan struct{}
	down          chan error
}

func newEvents() (*events, Events) {
	e := &events{up: make(chan struct{}, 100), restarted: make(chan struct{}, 100), down: make(chan error, 100)}
	return e, Events{
		Up:        func() { e.up <- struct{}{} },
		Restarted: func(Restart) { e.restarted <- struct{}{} },
		Down:      func(err error) { e.down <- err },
	}
}

// plainClient is what a user hands over who has set nothing: no context
// timeouts, four attempts, read timeouts of seconds.
func plainClient(t *testing.T, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func record(key, payload string) []byte { return sample(payload).Append(nil, key) }

func TestRedis_refusedPort(t *testing.T) {
	srv := redistest.Start(t)
	srv.Stop()
	ev, events := newEvents()
	r, err := NewRedis(plainClient(t, srv.Addr()), RedisOptions{Events: events})
	require.NoError(t, err, "Redis may be down at the start")
	defer func() { require.NoError(t, r.Close()) }()
	assert.Error(t, receive(t, "down", ev.down), "one refused connection is enough")
	require.False(t, r.Available("k"))

	start := time.Now()
	for range 100 {
		_, err = r.Read(t.Context(), "k", limit)
		require.ErrorIs(t, err, ErrUnavailable)
		res, err := r.Set(t.Context(), "k", record("k", "v"), minute, nil)
		require.ErrorIs(t, err, ErrUnavailable)
		require.Zero(t, res.Deadline, "nothing was sent")
	}
	assert.Less(t, time.Since(start), slack, "with the breaker open a call adds nothing")

	srv.Restart()
	receive(t, "up without anybody calling", ev.up)
	assert.True(t, r.Available("k"))
	_, err = r.Read(t.Context(), "k", limit)
	assert.NoError(t, err)
	st := r.Stats()
	require.Len(t, st, 1)
	assert.True(t, st[0].Available)
	assert.EqualValues(t, 1, st[0].Opened)
	assert.Positive(t, st[0].Reconnects)
	assert.NotEmpty(t, st[0].LastError)
	assert.NotEmpty(t, st[0].RunID)
	assert.Len(t, ev.up, 0, "told once")
}

func TestRedis_frozenServer(t *testing.T) {
	srv := redistest.Start(t)
	ev, events := newEvents()
	r := newRedisStore(t, plainClient(t, srv.Addr()), RedisOptions{Events: events, Timeout: 100 * time.Millisecond, BeatEvery: time.Hour})
	receive(t, "up", ev.up)
	srv.Freeze()
	calls := map[string]func() error{
		"read": func() error { _, err := r.Read(t.Context(), "k", limit); return err },
		"set":  func() error { _, err := r.Set(t.Context(), "k", record("k", "v"), minute, nil); return err },
		"delete": func() error {
			_, err := r.Delete(t.Context(), "k", DeleteOptions{}, nil)
			return err
		},
		"read many": func() error {
			reads, marked := r.ReadMany(t.Context(), []string{"k"}, limit, Marks{Marker: "m"})
			require.ErrorIs(t, marked.Err, ErrUnavailable)
			return reads[0].Err
		},
		"prefix": func() error { _, err := r.DeletePrefix(t.Context(), "k", nil); return err },
		"ping":   func() error { _, err := r.Ping(t.Context()); return err },
	}
	for name, call := range calls {
		start := time.Now()
		require.ErrorIs(t, call(), ErrUnavailable, name)
		require.Less(t, time.Since(start), 100*time.Millisecond+slack, name)
	}
	for r.Available("k") {
		require.Error(t, calls["read"]())
	}
	require.Error(t, receive(t, "down", ev.down))
	srv.Thaw()
	receive(t, "up", ev.up)
	_, err := r.Read(t.Context(), "k", limit)
	assert.NoError(t, err)
}

// Each call on a client with its defaults ends by our deadline, also on
// a cluster, whose client heeds no context.
func TestRedis_frozenCluster(t *testing.T) {
	cl := redistest.StartCluster(t)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cl.Addrs()})
	t.Cleanup(func() { _ = c.Close() })
	r := newRedisStore(t, c, RedisOptions{Timeout: 150 * time.Millisecond, BeatEvery: time.Hour})
	require.True(t, r.loose)
	const key = "frozen"
	owner := cl.Owner(key)
	other := ""
	for _, k := range []string{"a", "b", "c", "d", "e", "f"} {
		if cl.Owner(k) != owner {
			other = k
		}
	}
	_, err := r.Set(t.Context(), key, record(key, "v"), minute, nil)
	require.NoError(t, err)
	owner.Freeze()
	for r.Available(key) {
		start := time.Now()
		res, err := r.Set(t.Context(), key, record(key, "v"), minute, nil)
		require.ErrorIs(t, err, ErrUnavailable)
		require.Less(t, time.Since(start), 150*time.Millisecond+slack)
		assert.Positive(t, res.Deadline)
	}
	// One sick master stops nothing on the others.
	reads, marked := r.ReadMany(t.Context(), []string{other, key}, limit, Marks{Marker: key, Books: []BookRead{{other, nil}, {key, nil}}})
	require.NoError(t, reads[0].Err)
	require.ErrorIs(t, reads[1].Err, ErrUnavailable)
	require.ErrorIs(t, marked.Err, ErrUnavailable)
	require.NoError(t, marked.Books[0].Err)
	require.ErrorIs(t, marked.Books[1].Err, ErrUnavailable)
	for range 20 {
		_, err := r.Set(t.Context(), other, record(other, "v"), minute, nil)
		require.NoError(t, err)
	}
	assert.True(t, r.Available(other))
	_, err = r.DeletePrefix(t.Context(), "x", nil)
	assert.ErrorIs(t, err, ErrUnavailable, "a master could not be scanned")
	owner.Thaw()
	await(t, "available again", func() bool { return r.Available(key) })
	rep, err := r.Read(t.Context(), key, limit)
	require.NoError(t, err)
	assert.Equal(t, StateRecord, rep.State)
}

// FailOpen: a read-only server serves reads, and refuses writes as refused.
func TestRedis_readOnlyServer(t *testing.T) {
	srv := redistest.Start(t)
	ev, events := newEvents()
	r := newRedisStore(t, srv.Client(t), RedisOptions{Events: events})
	ctx := t.Context()
	_, err := r.Set(ctx, "k", record("k", "v"), minute, nil)
	require.NoError(t, err)
	rep, err := r.Read(ctx, "k", limit)
	require.NoError(t, err)
	await(t, "a first look at the server", func() bool { return r.Stats()[0].RunID != "" })
	srv.ReadOnly(true)
	token := NewToken()
	for range 20 {
		for name, err := range map[string]error{
			"set":          second2(r.Set(ctx, "k", record("k", "w"), minute, nil)),
			"delete":       second2(r.Delete(ctx, "k", DeleteOptions{}, nil)),
			"delete empty": second2(r.Delete(ctx, "nothing there", DeleteOptions{}, nil)),
			"expire":       r.Expire(ctx, "k", nil),
			"expire empty": r.Expire(ctx, "nothing there", nil),
			"lease":        second2(r.Lease(ctx, "k", rep.Seen(), token, second)),
			"begin":        second2(r.Begin(ctx, "k", token, second, nil)),
			"end":          second2(r.End(ctx, "k", token, Bracket{}, nil, 0, nil)),
			"raise":        second2(r.Raise(ctx, "m", 0, nil)),
			"add":          second2(r.Add(ctx, "c", 1, 0)),
		} {
			require.ErrorIs(t, err, ErrRefused, name)
			require.NotErrorIs(t, err, ErrUnavailable, name)
		}
		rep, err := r.Read(ctx, "k", limit)
		require.NoError(t, err)
		require.Equal(t, "v", string(rep.Record.Payload), "nothing was changed")
	}
	_, err = r.DeletePrefix(ctx, "k", nil)
	assert.ErrorIs(t, err, ErrUnavailable)
	assert.True(t, r.Available("k"))
	assert.Empty(t, ev.down)
	assert.Positive(t, r.Stats()[0].Refused)

	receive(t, "demoted", ev.restarted)
	srv.ReadOnly(false)
	receive(t, "promoted: another history", ev.restarted)
}

func second2[T any](_ T, err error) error { return err }

func TestRedis_fullServer(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{})
	ctx := t.Context()
	read := func(key string) Reply {
		t.Helper()
		rep, err := r.Read(ctx, key, limit)
		require.NoError(t, err)
		return rep
	}
	for _, key := range []string{"k", "expire", "w", "versioned", "bracket", "leased"} {
		rec := sample("v")
		rec.Source = 9
		_, err := r.SetVersioned(ctx, key, rec.Append(nil, key), minute, nil)
		require.NoError(t, err)
	}
	token := NewToken()
	_, err := r.Begin(ctx, "bracket", token, second, nil)
	require.NoError(t, err)
	rep := read("leased")
	_, err = r.Lease(ctx, "leased", rep.Seen(), token, second)
	require.NoError(t, err)
	srv.MaxMemory(1, "noeviction")

	for range 10 {
		_, err = r.Set(ctx, "k", record("k", "w"), minute, nil)
		require.ErrorIs(t, err, ErrRefused)
		require.NotErrorIs(t, err, ErrUnavailable)
		rep := read("k")
		require.Equal(t, "v", string(rep.Record.Payload), "the old value stays and must be deleted")
	}
	_, err = r.Lease(ctx, "empty", Seen{}, NewToken(), second)
	assert.ErrorIs(t, err, ErrRefused, "who could not fill must not keep others waiting")
	_, err = r.Fill(ctx, "leased", token, record("leased", "w"), minute, nil)
	assert.ErrorIs(t, err, ErrRefused)

	// Whatever invalidates gets through.
	res, err := r.Delete(ctx, "k", DeleteOptions{}, nil)
	require.NoError(t, err)
	assert.True(t, res.Removed)
	rep = read("k")
	assert.Equal(t, KindTombstone, rep.Record.Kind, "and keeps the floor")
	require.NoError(t, r.Expire(ctx, "expire", nil))
	rep = read("expire")
	assert.False(t, rep.Record.Kind.HasBody(), "deleted, which is more than asked for")
	other := NewToken()
	b, err := r.Begin(ctx, "w", other, second, nil)
	require.NoError(t, err)
	assert.True(t, b.Sole)
	ok, err := r.Renew(ctx, "w", other, second, true)
	require.NoError(t, err)
	assert.True(t, ok, "a bracket does not end because memory is full")
	stored, err := r.End(ctx, "bracket", token, Bracket{}, record("bracket", "w"), minute, nil)
	require.NoError(t, err)
	assert.False(t, stored)
	rep = read("bracket")
	assert.Equal(t, KindTombstone, rep.Record.Kind)
	_, err = r.Delete(ctx, "versioned", DeleteOptions{Hold: second}, nil)
	require.NoError(t, err)
	_, err = r.Raise(ctx, "m", 0, nil)
	require.NoError(t, err)
	assert.True(t, r.Available("k"))
}

// losing is a dialer whose connections, once armed, lose the reply to the next
// command that holds mark, and break: the server has run it, nobody hears.
type losing struct {
	mark  string
	armed atomic.Bool
}

func (l *losing) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &losingConn{Conn: c, l: l}, nil
}

type losingConn struct {
	net.Conn
	l    *losing
	lose atomic.Bool
}

func (c *losingConn) Write(b []byte) (int, error) {
	if c.l.armed.Load() && bytes.Contains(b, []byte(c.l.mark)) {
		c.lose.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *losingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.lose.Load() && err == nil {
		_ = c.Conn.Close()
		return 0, io.EOF
	}
	return n, err
}

// A write whose reply is lost is not sent again, whatever the client's retries.
func TestRedis_lostReply(t *testing.T) {
	lose := &losing{mark: "lossy"}
	srv := redistest.Start(t)
	cl := redistest.StartCluster(t)
	clients := map[string]redis.UniversalClient{
		"client":  redis.NewClient(&redis.Options{Addr: srv.Addr(), Dialer: lose.dial, MaxRetries: 5}),
		"cluster": redis.NewClusterClient(&redis.ClusterOptions{Addrs: cl.Addrs(), Dialer: lose.dial, MaxRetries: 5}),
		"cluster with deadlines": redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: cl.Addrs(), Dialer: lose.dial, MaxRetries: 5, ContextTimeoutEnabled: true,
		}),
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { _ = c.Close() })
			r := newRedisStore(t, c, RedisOptions{})
			lose.armed.Store(false)
			key := "lossy " + name
			_, err := r.Add(t.Context(), key, 1, 0)
			require.NoError(t, err)
			lose.armed.Store(true)
			_, err = r.Add(t.Context(), key, 1, 0)
			require.ErrorIs(t, err, ErrUnavailable)
			_, err = r.Read(t.Context(), key, limit)
			require.ErrorIs(t, err, ErrUnavailable)
			lose.armed.Store(false)
			n, _, _, err := r.Count(t.Context(), key)
			require.NoError(t, err)
			assert.EqualValues(t, 2, n)
		})
	}
}

func TestRedis_unknownScripts(t *testing.T) {
	srv := redistest.Start(t)
	ev, events := newEvents()
	r := newRedisStore(t, srv.Client(t), RedisOptions{Events: events})
	ctx := t.Context()
	fill := func() {
		t.Helper()
		for _, key := range []string{"p:1", "p:2", "p:3"} {
			_, err := r.Set(ctx, key, record(key, "v"), minute, nil)
			require.NoError(t, err)
		}
	}
	fill()
	srv.Do("script", "flush")
	fill()
	srv.Do("script", "flush")
	n, err := r.DeletePrefix(ctx, "p:", nil)
	require.NoError(t, err)
	assert.Equal(t, 3, n, "in pipelines as well")

	srv.Restart()
	receive(t, "restarted", ev.restarted)
	await(t, "available", func() bool { return r.Available("p:1") })
	fill()
}

func TestRedis_Restarted(t *testing.T) {
	srv := redistest.Start(t)
	ev, events := newEvents()
	r := newRedisStore(t, srv.Client(t), RedisOptions{Events: events, BeatEvery: 50 * time.Millisecond})
	await(t, "identity", func() bool { return r.Stats()[0].RunID != "" })
	first := r.Stats()[0].RunID
	srv.Restart()
	receive(t, "restarted", ev.restarted)
	assert.NotEqual(t, first, r.Stats()[0].RunID)
	await(t, "two more looks", func() bool {
		return srv.Calls("time") > 2
	})
	assert.Empty(t, ev.restarted, "told once")
}

// A store that outlives its caller's patience refuses itself when it runs.
func TestRedis_lateSet(t *testing.T) {
	srv := redistest.Start(t)
	client := plainClient(t, srv.Addr())
	r := newRedisStore(t, client, RedisOptions{Timeout: 100 * time.Millisecond, Failures: 1000, BeatEvery: time.Hour})
	ctx := t.Context()
	_, err := r.Set(ctx, "warm", record("warm", "v"), minute, nil)
	require.NoError(t, err)
	srv.ResetStats()
	srv.Freeze()
	res, err := r.Set(ctx, "k", record("k", "zombie"), minute, []byte("x"))
	require.ErrorIs(t, err, ErrUnavailable)
	require.Positive(t, res.Deadline)
	// The deadline is by an estimate from above.
	await(t, "the deadline to pass", func() bool { return r.Earliest("k") > res.Deadline })
	srv.Thaw()
	await(t, "the script to run", func() bool { return srv.Calls("evalsha") >= 1 })
	rep, err := r.Read(ctx, "k", limit)
	require.NoError(t, err)
	assert.Equal(t, StateAbsent, rep.State)
	assert.Zero(t, srv.Calls("publish"))

	d, err := r.Delete(ctx, "k", DeleteOptions{NotBefore: res.Deadline}, nil)
	require.NoError(t, err)
	assert.Zero(t, d.Early, "a replay waits until then, and no longer")
}

// A server whose clock has jumped ahead refuses a store once; its reply tells
// the time.
func TestRedis_lateByTheClock(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{BeatEvery: time.Hour})
	_, err := r.Set(t.Context(), "k", record("k", "v"), minute, nil)
	require.NoError(t, err)
	now := r.seed.clock.local()
	r.seed.clock.replace(now, time.Now().Add(-time.Hour).UnixMicro(), now)
	res, err := r.Set(t.Context(), "k", record("k", "w"), minute, nil)
	require.NoError(t, err)
	assert.True(t, res.Stored)
	assert.InDelta(t, time.Now().UnixMicro(), r.Now("k"), 5e6)
}

// That callers go away says nothing of the server.
func TestRedis_cancelledCallers(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{Timeout: 500 * time.Millisecond, Failures: 3, BeatEvery: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		_, err := r.Read(ctx, "k", limit)
		require.ErrorIs(t, err, context.Canceled)
	}
	srv.Freeze()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			_, err := r.Delete(ctx, "k", DeleteOptions{}, nil)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorIs(t, err, ErrUnavailable, "the outcome is unknown")
		})
	}
	wg.Wait()
	assert.True(t, r.Available("k"))
	// But one that gave the server most of our own timeout has seen it fail.
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		_, err := r.Read(ctx, "k", limit)
		require.Error(t, err)
		cancel()
	}
	assert.False(t, r.Available("k"))
	srv.Thaw()
}

func TestRedis_deniedAccess(t *testing.T) {
	srv := redistest.Start(t, redistest.WithPassword("secret"))
	var log syncBuffer
	r, err := NewRedis(plainClient(t, srv.Addr()), RedisOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	for range 10 {
		_, err := r.Read(t.Context(), "k", limit)
		require.ErrorIs(t, err, ErrUnavailable)
	}
	require.NoError(t, r.Close())
	assert.Equal(t, 1, strings.Count(log.String(), "denies access"), log.String())
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
