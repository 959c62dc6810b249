package l2

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
)

func TestNewRedis_refusesClientsThatReadElsewhere(t *testing.T) {
	for name, client := range map[string]redis.UniversalClient{
		"read only":       redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"x:1"}, ReadOnly: true}),
		"by latency":      redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"x:1"}, RouteByLatency: true}),
		"randomly":        redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"x:1"}, RouteRandomly: true}),
		"ring":            redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"x": "x:1"}, HeartbeatFrequency: time.Hour}),
		"own cache":       redis.NewClient(&redis.Options{Addr: "x:1", Protocol: 3, ClientSideCacheConfig: &redis.ClientSideCacheConfig{}}),
		"nil":             nil,
		"nil client":      (*redis.Client)(nil),
		"nil for cluster": (*redis.ClusterClient)(nil),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewRedis(client, RedisOptions{})
			assert.ErrorIs(t, err, ErrArgument)
		})
		switch c := client.(type) {
		case *redis.Ring:
			_ = c.Close()
		case *redis.Client:
			if c != nil {
				_ = c.Close()
			}
		case *redis.ClusterClient:
			if c != nil {
				_ = c.Close()
			}
		}
	}
	client := plainClient(t, "x:1")
	for _, opt := range []RedisOptions{{Timeout: -1}, {Failures: -1}, {BeatEvery: -1}, {ProbeEvery: -1}} {
		_, err := NewRedis(client, opt)
		assert.ErrorIs(t, err, ErrArgument)
	}
}

// The user's client keeps its own options.
func TestNewRedis_leavesTheClientAlone(t *testing.T) {
	client := redistest.Start(t).Client(t)
	before := *client.Options()
	newRedisStore(t, client, RedisOptions{Timeout: 123 * time.Millisecond})
	after := *client.Options()
	assert.Equal(t, before.ReadTimeout, after.ReadTimeout)
	assert.Equal(t, before.MaxRetries, after.MaxRetries)
	assert.Equal(t, before.ContextTimeoutEnabled, after.ContextTimeoutEnabled)
}

// Cost: one round trip each.
func TestRedis_roundTrips(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{BeatEvery: time.Hour})
	ctx, token := t.Context(), NewToken()
	calls := []struct {
		name    string
		do      func() error
		scripts int64
	}{
		{"Read", func() error { return second2(r.Read(ctx, "k", limit)) }, 0},
		{"Lease", func() error { return second2(r.Lease(ctx, "k", Seen{}, token, second)) }, 1},
		{"Renew", func() error { return second2(r.Renew(ctx, "k", token, second, false)) }, 1},
		{"Fill", func() error { return second2(r.Fill(ctx, "k", token, record("k", "v"), minute, nil)) }, 1},
		{"Read hit", func() error { return second2(r.Read(ctx, "k", limit)) }, 0},
		{"Release", func() error { return r.Release(ctx, "k", token) }, 1},
		{"Set", func() error { return second2(r.Set(ctx, "k", record("k", "v"), minute, []byte("m"))) }, 1},
		{"Expire", func() error { return r.Expire(ctx, "k", []byte("m")) }, 1},
		{"Delete", func() error { return second2(r.Delete(ctx, "k", DeleteOptions{}, []byte("m"))) }, 1},
		{"Begin", func() error { return second2(r.Begin(ctx, "k", token, second, nil)) }, 1},
		{"End", func() error { return second2(r.End(ctx, "k", token, Bracket{}, record("k", "v"), minute, nil)) }, 1},
		{"Marker", func() error { return second2(r.Marker(ctx, "m", 0, nil)) }, 1},
		{"Raise", func() error { return second2(r.Raise(ctx, "m", 0, nil)) }, 1},
		{"Add", func() error { return second2(r.Add(ctx, "c", 1, minute)) }, 1},
	}
	for _, c := range calls { // the server gets to know the scripts
		require.NoError(t, c.do(), c.name)
	}
	for _, c := range calls {
		srv.ResetStats()
		require.NoError(t, c.do(), c.name)
		assert.Equal(t, c.scripts, srv.Calls("evalsha"), c.name)
		assert.Zero(t, srv.Calls("eval", "script", "watch", "multi"), c.name)
		if c.scripts == 0 {
			assert.EqualValues(t, 1, srv.Calls(), c.name)
		}
	}
}

// A key of any other type counts as not ours, for every call.
func TestRedis_wrongType(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{})
	ctx := t.Context()
	for name, do := range map[string]func(key string) error{
		"lease": func(key string) error {
			rep, err := r.Read(ctx, key, limit)
			require.NoError(t, err)
			require.Equal(t, StateForeign, rep.State)
			token := NewToken()
			g, err := r.Lease(ctx, key, rep.Seen(), token, second)
			require.Equal(t, Granted, g.Kind)
			require.NoError(t, err)
			ok, err := r.Fill(ctx, key, token, record(key, "v"), minute, nil)
			require.True(t, ok)
			return err
		},
		"fill": func(key string) error {
			ok, err := r.Fill(ctx, key, NewToken(), record(key, "v"), minute, nil)
			require.False(t, ok)
			require.NoError(t, err)
			return second2(r.Delete(ctx, key, DeleteOptions{}, nil))
		},
		"set":    func(key string) error { return second2(r.Set(ctx, key, record(key, "v"), 0, nil)) },
		"delete": func(key string) error { return second2(r.Delete(ctx, key, DeleteOptions{}, nil)) },
		"hold":   func(key string) error { return second2(r.Delete(ctx, key, DeleteOptions{Hold: second}, nil)) },
		"expire": func(key string) error { return r.Expire(ctx, key, nil) },
		"begin":  func(key string) error { return second2(r.Begin(ctx, key, NewToken(), second, nil)) },
		"end":    func(key string) error { return second2(r.End(ctx, key, NewToken(), Bracket{}, nil, 0, nil)) },
		"marker": func(key string) error {
			_, marked := r.ReadMany(ctx, nil, limit, Marks{Marker: key})
			require.NoError(t, marked.Err)
			require.Zero(t, marked.Version)
			return second2(r.Marker(ctx, key, 0, nil))
		},
		"book": func(key string) error {
			_, marked := r.ReadMany(ctx, nil, limit, Marks{Books: []BookRead{{key, []string{"a"}}}})
			require.NoError(t, marked.Books[0].Err)
			require.Zero(t, marked.Books[0].Base)
			st := r.MakeBooks(ctx, []BookMake{{BookRead: BookRead{key, []string{"a"}}}})[0]
			require.True(t, st.Wide)
			return st.Err
		},
		"tag": func(key string) error {
			st := r.RaiseTags(ctx, []TagRaise{{Book: key, Tag: "a"}})[0]
			require.True(t, st.Wide)
			return st.Err
		},
		"raise":  func(key string) error { return second2(r.Raise(ctx, key, 0, nil)) },
		"prefix": func(key string) error { return second2(r.DeletePrefix(ctx, key, nil)) },
	} {
		srv.Do("rpush", name, "a", "b")
		require.NoError(t, do(name), name)
		assert.NotEqual(t, "list", srv.Do("type", name), name)
	}
	srv.Do("rpush", "counter", "a")
	_, err := r.Add(ctx, "counter", 1, 0)
	assert.ErrorIs(t, err, ErrNotInteger)
	_, _, _, err = r.Take(ctx, "counter", 1, 0)
	assert.ErrorIs(t, err, ErrNotInteger)
	_, _, _, err = r.Count(ctx, "counter")
	assert.ErrorIs(t, err, ErrNotInteger)
}

// matchAll stands for a server or a proxy that takes a pattern for more than it
// says: it replies to SCAN with every key.
type matchAll struct{}

func (matchAll) DialHook(next redis.DialHook) redis.DialHook { return next }

func (matchAll) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (matchAll) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "scan" {
			cmd.Args()[3] = "*"
		}
		return next(ctx, cmd)
	}
}

func TestRedis_DeletePrefix_isLiteral(t *testing.T) {
	client := redistest.Start(t).Client(t)
	client.AddHook(matchAll{})
	r := newRedisStore(t, client, RedisOptions{})
	for _, key := range []string{"user:1", "user:2", "team:1"} {
		_, err := r.Set(t.Context(), key, record(key, "v"), 0, nil)
		require.NoError(t, err)
	}
	n, err := r.DeletePrefix(t.Context(), "user:", nil)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	rep, err := r.Read(t.Context(), "team:1", limit)
	require.NoError(t, err)
	assert.Equal(t, StateRecord, rep.State)
}

func TestRedis_Close(t *testing.T) {
	srv := redistest.Start(t)
	r, err := NewRedis(srv.Client(t), RedisOptions{})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				if _, err := r.Read(context.Background(), "k", limit); err != nil {
					assert.ErrorIs(t, err, ErrClosed)
					return
				}
			}
		})
	}
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	wg.Wait()
	_, err = r.Ping(t.Context())
	assert.ErrorIs(t, err, ErrClosed)
	_, err = r.DeletePrefix(t.Context(), "k", nil)
	assert.ErrorIs(t, err, ErrClosed)
	assert.False(t, r.Available("k"))
}

func TestRedis_onCluster(t *testing.T) {
	cl := redistest.StartCluster(t)
	ev, events := newEvents()
	r := newRedisStore(t, cl.Client(t), RedisOptions{Events: events, Timeout: time.Second, BeatEvery: 100 * time.Millisecond})
	ctx := t.Context()
	await(t, "all masters", func() bool { return len(r.Stats()) == 3 })

	// Scripts follow a slot that moves.
	const key = "moving"
	old := cl.Owner(key)
	var to *redistest.Server
	for _, node := range cl.Nodes() {
		if node != old {
			to = node
		}
	}
	_, err := r.Set(ctx, key, record(key, "v"), minute, nil)
	require.NoError(t, err)
	cl.MoveSlot(cl.Slot(key), to)
	res, err := r.Delete(ctx, key, DeleteOptions{}, nil)
	require.NoError(t, err)
	assert.True(t, res.Removed)
	_, err = r.Set(ctx, key, record(key, "v"), minute, nil)
	require.NoError(t, err)
	n, err := r.DeletePrefix(ctx, "mov", nil)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Empty(t, ev.restarted, "nothing was lost")

	// A master that is gone is noticed, and nothing claims to have reached it.
	dead := cl.KillMaster(key)
	await(t, "its breaker", func() bool {
		_, _ = r.Read(ctx, key, limit)
		return !r.Available(key)
	})
	assert.NotNil(t, dead)
	// The other masters are emptied all the same.
	alive := ""
	for i := 0; alive == ""; i++ {
		if k := "k" + strconv.Itoa(i); r.Owner(k) != dead.Addr() {
			alive = k
		}
	}
	_, err = r.Set(ctx, alive, record(alive, "v"), minute, nil)
	require.NoError(t, err)
	_, err = r.DeletePrefix(ctx, "k", nil)
	assert.ErrorIs(t, err, ErrUnavailable)
	rep, err := r.Read(ctx, alive, limit)
	require.NoError(t, err)
	assert.Equal(t, StateAbsent, rep.State)
	_, err = r.Keys(ctx, "k", 10)
	assert.ErrorIs(t, err, ErrUnavailable, "who cannot ask all masters does not know")
}

// Two hundred goroutines use one key in every way; the race detector and the
// conservation of one count watch.
func TestStores_concurrentUse(t *testing.T) {
	srv := redistest.Start(t)
	for name, s := range map[string]Store{
		"redis":  newRedisStore(t, srv.Client(t), RedisOptions{Timeout: 10 * second}),
		"memory": NewMemory(MemoryOptions{Publish: func([]byte) {}}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for range 25 {
						token := NewToken()
						rep, err := s.Read(ctx, "k", limit)
						assert.NoError(t, err)
						_, err = s.Lease(ctx, "k", rep.Seen(), token, second)
						assert.NoError(t, err)
						_, err = s.Fill(ctx, "k", token, record("k", "v"), minute, []byte("12345678"))
						assert.NoError(t, err)
						_, err = s.Begin(ctx, "k", token, second, []byte("12345678"))
						assert.NoError(t, err)
						_, err = s.End(ctx, "k", token, Bracket{}, record("k", "v"), minute, []byte("12345678"))
						assert.NoError(t, err)
						assert.NoError(t, s.Expire(ctx, "k", []byte("12345678")))
						_, err = s.Raise(ctx, "m", 0, []byte("12345678"))
						assert.NoError(t, err)
						_, err = s.Add(ctx, "c", 1, 0)
						assert.NoError(t, err)
						_ = s.Now("k")
						_ = s.Stats()
					}
				})
			}
			wg.Wait()
			n, _, _, err := s.Count(ctx, "c")
			require.NoError(t, err)
			assert.EqualValues(t, 200, n)
		})
	}
}

// Read against what go-redis does alone.
func BenchmarkRead(b *testing.B) {
	srv := redistest.Start(b)
	client := srv.Client(b)
	r, err := NewRedis(client, RedisOptions{})
	require.NoError(b, err)
	defer r.Close()
	ctx := b.Context()
	_, err = r.Set(ctx, "k", record("k", string(make([]byte, 512))), 0, nil)
	require.NoError(b, err)
	b.Run("by=go-redis", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.Get(ctx, "k").Bytes(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by=store", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Read(ctx, "k", limit); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by=store-absent", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := r.Read(ctx, "absent", limit); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("by=store-set", func(b *testing.B) {
		b.ReportAllocs()
		rec := record("k", "v")
		for b.Loop() {
			if _, err := r.Set(ctx, "k", rec, 0, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
