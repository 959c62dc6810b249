package l2

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
)

// wireLog notes what a client sends: the names of the commands of each round trip.
type wireLog struct {
	mu    sync.Mutex
	trips [][]string
}

func (w *wireLog) add(cmds ...redis.Cmder) {
	var names []string
	for _, cmd := range cmds {
		names = append(names, cmd.Name())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trips = append(w.trips, names)
}

// take returns the round trips since the last call, without those of the watch.
func (w *wireLog) take() (trips [][]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, names := range w.trips {
		if names[0] != "ping" && names[0] != "time" {
			trips = append(trips, names)
		}
	}
	w.trips = nil
	return trips
}

func (w *wireLog) DialHook(next redis.DialHook) redis.DialHook { return next }

func (w *wireLog) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		w.add(cmd)
		return next(ctx, cmd)
	}
}

func (w *wireLog) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		w.add(cmds...)
		return next(ctx, cmds)
	}
}

// logged returns a store on srv and the log of what it sends.
func logged(t *testing.T, srv *redistest.Server) (*Redis, *wireLog) {
	t.Helper()
	o := srv.Options()
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1 // else the store takes a copy, without hooks
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	var log wireLog
	client.AddHook(&log)
	r := newRedisStore(t, client, RedisOptions{})
	log.take()
	return r, &log
}

func count(names []string, name string) (n int) {
	for _, s := range names {
		if s == name {
			n++
		}
	}
	return n
}

// A batch is one round trip, and one more where the server does not know the
// scripts: the first use of each carries it whole.
func TestRedis_batchRoundTrips(t *testing.T) {
	srv := redistest.Start(t)
	r, log := logged(t, srv)
	ctx := t.Context()
	keys := make([]string, 500)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	marks := Marks{Marker: "m", Books: []BookRead{{"b1", []string{"x"}}, {"b2", []string{"y"}}, {"b3", nil}}}
	read := func() [][]string {
		reads, marked := r.ReadMany(ctx, keys, limit, marks)
		for _, got := range reads {
			require.NoError(t, got.Err)
		}
		for _, book := range marked.Books {
			require.NoError(t, book.Err)
		}
		return log.take()
	}
	read()
	for range 3 {
		trips := read()
		require.Len(t, trips, 1)
		assert.Len(t, trips[0], 504)
	}
	srv.Do("script", "flush")
	trips := read()
	require.Len(t, trips, 2, "NOSCRIPT inside a pipeline")
	assert.Equal(t, []string{"eval", "evalsha", "evalsha"}, trips[1])
	assert.Len(t, read(), 1, "known again")

	srv.Do("script", "flush")
	raises := make([]TagRaise, 100)
	for i := range raises {
		raises[i] = TagRaise{Book: "b1", Tag: fmt.Sprint(i)}
	}
	seen := make(map[uint64]bool)
	for _, st := range r.RaiseTags(ctx, raises) {
		require.NoError(t, st.Err)
		seen[st.Versions[0]] = true
	}
	assert.Len(t, seen, 100, "each was raised once")
	trips = log.take()
	require.Len(t, trips, 2)
	assert.Equal(t, 1, count(trips[1], "eval"))
}

// Invalidating a tag must get through when memory is full.
func TestRedis_raiseTagWhenMemoryIsFull(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{})
	ctx := t.Context()
	base := r.MakeBooks(ctx, []BookMake{{BookRead: BookRead{"book", nil}}})[0].Base
	srv.MaxMemory(1, "noeviction")
	res, err := r.Set(ctx, "k", record("k", "v"), minute, nil)
	require.ErrorIs(t, err, ErrRefused, "void: memory is not full: %+v", res)
	for _, tag := range []string{"new", "new", ""} {
		st := r.RaiseTags(ctx, []TagRaise{{Book: "book", Tag: tag}})[0]
		require.NoError(t, st.Err)
		require.Greater(t, st.Versions[0], base)
	}
	st := r.RaiseTags(ctx, []TagRaise{{Book: "missing", Tag: "a"}})[0]
	require.NoError(t, st.Err)
	assert.True(t, st.Wide)
}

// Untrusted: what is damaged in a book makes it a missing one, wherever a call
// looks at the damage, and its successor stands above all that can be read.
func TestRedis_damagedBook(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{})
	ctx := t.Context()
	said := func(tags ...string) BookState {
		_, m := r.ReadMany(ctx, nil, limit, Marks{Books: []BookRead{{"book", tags}}})
		require.NoError(t, m.Books[0].Err)
		return m.Books[0]
	}
	for _, junk := range []string{"", "abc", "-5", "0", "18446744073709551616", "123456789012345678901", "1 "} {
		for _, field := range []string{"", "a"} {
			high := r.RaiseTags(ctx, []TagRaise{{Book: "book", Tag: "a"}, {Book: "book", Tag: "a"}})[1].Versions[0]
			srv.Do("hset", "book", field, junk)
			assert.Zero(t, said("a").Base, "%q in %q", junk, field)
			made := r.MakeBooks(ctx, []BookMake{{BookRead: BookRead{"book", []string{"a"}}}})[0]
			require.NoError(t, made.Err)
			assert.True(t, made.Wide, "%q in %q", junk, field)
			assert.Greater(t, made.Base, high)
		}
		r.RaiseTags(ctx, []TagRaise{{Book: "book", Tag: "a"}})
		srv.Do("hset", "book", "a", junk)
		assert.NotZero(t, said("b").Base, "damage where nobody looks")
		assert.True(t, r.RaiseTags(ctx, []TagRaise{{Book: "book", Tag: "a"}})[0].Wide, junk)
	}
	// A tag that stands below its base has the base's version.
	base := said().Base
	srv.Do("hset", "book", "low", "5")
	assert.Equal(t, []uint64{base}, said("low").Versions)
}

// A batch whose caller goes away says nothing of the server; one that finds
// nobody does, once, and then costs nothing.
func TestRedis_batchFails(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, plainClient(t, srv.Addr()), RedisOptions{})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		reads, marked := r.ReadMany(canceled, []string{"a", "b"}, limit, Marks{Marker: "m"})
		require.ErrorIs(t, reads[1].Err, ErrUnavailable)
		require.ErrorIs(t, reads[1].Err, context.Canceled)
		require.ErrorIs(t, marked.Err, context.Canceled)
	}
	require.True(t, r.Available("a"))
	srv.Stop()
	for r.Available("a") {
		reads, _ := r.ReadMany(t.Context(), []string{"a", "b"}, limit, Marks{})
		require.ErrorIs(t, reads[0].Err, ErrUnavailable)
		require.ErrorIs(t, reads[1].Err, ErrUnavailable)
	}
	reads, marked := r.ReadMany(t.Context(), []string{"a"}, limit, Marks{Books: []BookRead{{"b", nil}}})
	require.ErrorContains(t, reads[0].Err, "breaker open")
	require.ErrorContains(t, marked.Books[0].Err, "breaker open")
	require.NoError(t, r.Close())
	reads, _ = r.ReadMany(t.Context(), []string{"a"}, limit, Marks{})
	assert.ErrorIs(t, reads[0].Err, ErrClosed)
}

// Sets of a batch are bound to a deadline each, and one that came too late (the
// clock of the server has jumped) is tried once more.
func TestRedis_setManyLate(t *testing.T) {
	srv := redistest.Start(t)
	r, log := logged(t, srv)
	ctx := t.Context()
	sets := []SetRequest{{Key: "a", Rec: record("a", "v"), TTL: minute}, {Key: "b", Rec: record("b", "v"), TTL: minute}}
	for _, res := range r.SetMany(ctx, sets) {
		require.NoError(t, res.Err)
	}
	log.take()
	now := r.seed.clock.local()
	r.seed.clock.replace(now, 1, now) // the server seems to be in 1970
	for _, res := range r.SetMany(ctx, sets) {
		require.NoError(t, res.Err)
		assert.True(t, res.Stored)
	}
	assert.Len(t, log.take(), 2)
}

// A batch that a full server refuses is refused key by key, and the server is
// not given up for it.
func TestRedis_setManyRefused(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{})
	srv.MaxMemory(1, "noeviction")
	sets := make([]SetRequest, 50)
	for i := range sets {
		key := fmt.Sprint(i)
		sets[i] = SetRequest{Key: key, Rec: record(key, "v"), TTL: minute}
	}
	for _, res := range r.SetMany(t.Context(), sets) {
		require.ErrorIs(t, res.Err, ErrRefused)
		require.Positive(t, res.Deadline)
	}
	assert.True(t, r.Available("0"))
	assert.EqualValues(t, 50, r.Stats()[0].Refused)
}
