package l2

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
)

// freezeWith makes n changes meet: it freezes the server, begins them, and thaws it
// when as many wait as pipelines do not take.
func freezeWith(t *testing.T, srv *redistest.Server, r *Redis, n int, change func(i int)) {
	t.Helper()
	srv.Freeze()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { change(i) })
	}
	taken := gatherLone + gatherPipes*gatherMost
	require.Eventually(t, func() bool {
		g := &r.seed.writes
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.waiting) >= n-taken && g.pipes > 0
	}, 10*time.Second, time.Millisecond)
	srv.Thaw()
	wg.Wait()
}

// Changes that meet share pipelines, and each is told what came of its own: in the
// order of their keys some are stored, barred by a bracket, and sent whole because
// the server has forgotten the scripts.
func TestGatherWrites_eachHasItsOwnAnswer(t *testing.T) {
	srv := redistest.Start(t)
	opt := srv.Options()
	opt.ContextTimeoutEnabled, opt.MaxRetries = true, -1
	client := redis.NewClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	var log wireLog
	client.AddHook(&log)
	r := newRedisStore(t, client, RedisOptions{Timeout: 10 * time.Second, Channel: "heard"})
	ctx := context.Background() // nobody can call it off
	const n = gatherLone + gatherPipes*gatherMost + 50
	key := func(i int) string { return fmt.Sprint("k", i) }
	for i := 0; i < n; i += 10 {
		_, err := r.Begin(ctx, key(i), NewToken(), time.Minute, nil)
		require.NoError(t, err)
	}
	srv.Do("script", "flush")
	log.take()
	freezeWith(t, srv, r, n, func(i int) {
		res, err := r.Set(ctx, key(i), record(key(i), fmt.Sprint("v", i)), 0, []byte("set"))
		if assert.NoError(t, err) {
			assert.Equal(t, i%10 != 0, res.Stored)
			assert.Equal(t, i%10 == 0, res.Barred)
			assert.Positive(t, res.Deadline)
		}
	})
	trips := log.take()
	assert.Less(t, len(trips), 60, "%d changes", n)
	for i := range n {
		rep, err := r.Read(ctx, key(i), limit)
		require.NoError(t, err)
		if i%10 != 0 {
			assert.Equal(t, fmt.Sprint("v", i), string(rep.Record.Payload))
		}
	}
	var removed atomic.Int64
	freezeWith(t, srv, r, n, func(i int) {
		res, err := r.Delete(ctx, key(i), DeleteOptions{}, []byte("delete"))
		if assert.NoError(t, err) && res.Removed {
			removed.Add(1)
		}
	})
	assert.EqualValues(t, n-(n+9)/10, removed.Load())
}

// With a server that does not answer, none waits longer than its Timeout, and each
// knows until when its script may still run.
func TestGatherWrites_endInTime(t *testing.T) {
	srv := redistest.Start(t)
	const timeout = 400 * time.Millisecond
	// One more than there are calls on their own: a pipeline must tell of its failure. How
	// many pipelines there are depends on who runs when.
	r := newRedisStore(t, srv.Client(t), RedisOptions{Timeout: timeout, Failures: gatherLone + 1})
	ctx := context.Background()
	_, err := r.Set(ctx, "k", record("k", "old"), 0, nil)
	require.NoError(t, err)
	srv.Freeze()
	defer srv.Thaw()
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			begun := time.Now()
			res, err := r.Set(ctx, "k", record("k", "new"), 0, nil)
			assert.ErrorIs(t, err, ErrUnavailable)
			assert.Less(t, time.Since(begun), timeout+2*time.Second)
			latest := r.Now("k") + timeout.Microseconds()
			assert.LessOrEqual(t, res.Deadline, latest)
		})
	}
	wg.Wait()
	assert.False(t, r.Available("k"), "the breaker has been told")
}

// What can be called off, has less time, or is large goes its own way.
func TestGatherWrites_onlyWhatCanWait(t *testing.T) {
	r := newRedisStore(t, redistest.Start(t).Client(t), RedisOptions{})
	background := context.Background()
	cancelable, cancel := context.WithCancel(background)
	defer cancel()
	short, stop := r.ends.With(background, time.Now(), r.opt.Timeout/2)
	defer stop()
	long, stop := r.ends.With(background, time.Now(), 2*r.opt.Timeout)
	defer stop()
	r.seed.writes.lone = gatherLone // others are under way
	defer func() { r.seed.writes.lone = 0 }()
	for _, c := range []struct {
		ctx  context.Context
		size int
		want bool
	}{{background, 1, true}, {long, 1, true}, {cancelable, 1, false}, {short, 1, false}, {long, gatherBytes + 1, false}} {
		s, join := r.joins(c.ctx, "k", c.size)
		assert.Equal(t, c.want, join)
		assert.Equal(t, c.want, s != nil)
	}
}

// A change that meets no other is sent as it comes.
func TestGatherWrites_aLoneOneIsNotGathered(t *testing.T) {
	r := newRedisStore(t, redistest.Start(t).Client(t), RedisOptions{})
	for range 10 {
		_, err := r.Set(context.Background(), "k", record("k", "v"), 0, nil)
		require.NoError(t, err)
		require.Zero(t, r.seed.writes.pipes)
		require.Zero(t, r.seed.writes.lone)
	}
}

// Close waits for those who wait for a pipeline.
func TestGatherWrites_Close(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{Timeout: 10 * time.Second})
	var stored, refused atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for {
				if _, err := r.Set(context.Background(), "k", record("k", "v"), 0, nil); err != nil {
					assert.ErrorIs(t, err, ErrClosed)
					refused.Add(1)
					return
				}
				stored.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool { return stored.Load() > 1000 }, 10*time.Second, time.Millisecond)
	require.NoError(t, r.Close())
	wg.Wait()
	assert.EqualValues(t, 64, refused.Load())
}
