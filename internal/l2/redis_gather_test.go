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

// Reads that meet others share pipelines, and each gets its own reply.
func TestGather_repliesReachTheirReaders(t *testing.T) {
	for name, client := range map[string]redis.UniversalClient{
		"standalone": redistest.Start(t).Client(t), "cluster": redistest.StartCluster(t).Client(t),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRedisStore(t, client, RedisOptions{Timeout: 5 * time.Second})
			const readers, rounds = 64, 50
			for i := range readers {
				key := fmt.Sprint("k", i)
				_, err := r.Set(t.Context(), key, record(key, fmt.Sprint("value ", i)), 0, nil)
				require.NoError(t, err)
			}
			var wg sync.WaitGroup
			for i := range readers {
				wg.Go(func() {
					for n := range rounds {
						key, want := fmt.Sprint("k", (i+n)%readers), fmt.Sprint("value ", (i+n)%readers)
						rep, err := r.Read(t.Context(), key, limit)
						if !assert.NoError(t, err) || !assert.Equal(t, StateRecord, rep.State) {
							return
						}
						assert.Equal(t, want, string(rep.Record.Payload))
						rep, err = r.Read(t.Context(), "absent", limit)
						assert.NoError(t, err)
						assert.Equal(t, StateAbsent, rep.State)
					}
				})
			}
			wg.Wait()
		})
	}
}

// A reader that leaves takes nothing from those it was sent with, and the
// deadline of one is not the others'.
func TestGather_aReaderLeavesAlone(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{Timeout: 10 * time.Second})
	_, err := r.Set(t.Context(), "k", record("k", "v"), 0, nil)
	require.NoError(t, err)
	srv.Freeze()
	ctx, cancel := context.WithCancel(t.Context())
	var left, got atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			c := t.Context()
			if i%2 == 0 {
				c = ctx
			}
			switch rep, err := r.Read(c, "k", limit); {
			case err == nil && rep.State == StateRecord:
				got.Add(1)
			case c.Err() != nil:
				left.Add(1)
			}
		})
	}
	require.Eventually(t, func() bool {
		g := &r.seed.gather
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.lone > 0 && g.pipes > 0
	}, 10*time.Second, time.Millisecond)
	cancel()
	srv.Thaw()
	wg.Wait()
	assert.EqualValues(t, 40, left.Load()+got.Load())
	assert.GreaterOrEqual(t, got.Load(), int64(20), "those who stayed have their value")
	assert.Eventually(t, func() bool {
		g := &r.seed.gather
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.lone == 0 && g.pipes == 0 && len(g.waiting) == 0
	}, 10*time.Second, time.Millisecond)
}

// tripCounter counts what goes to the server: commands sent alone and pipelines.
type tripCounter struct{ trips atomic.Int64 }

func (c *tripCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *tripCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "getrange" {
			c.trips.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *tripCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "getrange" {
			c.trips.Add(1)
		}
		return next(ctx, cmds)
	}
}

// What many read at once takes far fewer round trips than reads.
func TestGather_sharesRoundTrips(t *testing.T) {
	srv := redistest.Start(t)
	opt := srv.Options()
	opt.ContextTimeoutEnabled, opt.MaxRetries = true, -1 // so that the client is used as it is
	client := redis.NewClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	var count tripCounter
	client.AddHook(&count)
	r := newRedisStore(t, client, RedisOptions{Timeout: 10 * time.Second})
	const meeting = 200
	const readers = gatherLone + gatherPipes*gatherMost + meeting // however long the pipelines are that begin
	srv.Freeze()                                                  // so that they meet
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			_, err := r.Read(t.Context(), "k", limit)
			assert.NoError(t, err)
		})
	}
	met := func() bool {
		g := &r.seed.gather
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.waiting) >= meeting
	}
	require.Eventually(t, met, 10*time.Second, time.Millisecond)
	srv.Thaw()
	wg.Wait()
	// Some alone, some pipelines that began with what was there, and longer ones.
	const most = gatherLone + gatherPipes + readers/gatherFull + 1
	assert.LessOrEqual(t, count.trips.Load(), int64(most))
}

// What many ask for at once is asked once, and each has a copy of its own. That is
// so for plain reads, and for those of a node that does not hear the others, which
// need the version of the cache as well.
func TestGather_sameReadIsSentOnce(t *testing.T) {
	srv := redistest.Start(t)
	r := newRedisStore(t, srv.Client(t), RedisOptions{Timeout: 10 * time.Second})
	_, err := r.Set(t.Context(), "k", record("k", "value"), 0, nil)
	require.NoError(t, err)
	version, err := r.Marker(t.Context(), "m", 0, nil)
	require.NoError(t, err)
	for name, read := range map[string]func() (Reply, error){
		"plain": func() (Reply, error) { return r.Read(t.Context(), "k", limit) },
		"with a marker": func() (Reply, error) {
			reads, marked := r.ReadMany(t.Context(), []string{"k"}, limit, Marks{Marker: "m"})
			assert.NoError(t, marked.Err)
			assert.Equal(t, version, marked.Version)
			return reads[0].Reply, reads[0].Err
		},
	} {
		t.Run(name, func(t *testing.T) {
			const readers = 500
			before := srv.Calls("getrange")
			srv.Freeze() // so that they meet
			var wg sync.WaitGroup
			var met atomic.Int64
			for range readers {
				wg.Go(func() {
					met.Add(1)
					rep, err := read()
					assert.NoError(t, err)
					assert.Equal(t, "value", string(rep.Record.Payload))
					clear(rep.Record.Payload) // as a codec may that decrypts in place
				})
			}
			assert.Eventually(t, func() bool { return met.Load() == readers }, 10*time.Second, time.Millisecond)
			srv.Thaw()
			wg.Wait()
			// Two commands a pipeline, and for those that went alone.
			const most = 2 * (gatherLone + gatherPipes + 2*readers/gatherFull + 1)
			assert.LessOrEqual(t, srv.Calls("getrange")-before, int64(most))
		})
	}
}

// A lone read is sent as it comes.
func TestGather_aLoneReadIsNotGathered(t *testing.T) {
	r := newRedisStore(t, redistest.Start(t).Client(t), RedisOptions{})
	for range 10 {
		_, err := r.Read(t.Context(), "k", limit)
		require.NoError(t, err)
		require.Zero(t, r.seed.gather.pipes)
	}
}

// Concurrent reads against what go-redis does alone, with and without its own
// pipelining.
func BenchmarkReadConcurrent(b *testing.B) {
	srv := redistest.Start(b)
	client := srv.Client(b)
	r, err := NewRedis(client, RedisOptions{Timeout: 5 * time.Second})
	require.NoError(b, err)
	defer r.Close()
	auto, err := client.AutoPipeline()
	require.NoError(b, err)
	defer auto.Close()
	const keys = 1024
	for i := range keys {
		key := fmt.Sprint("k", i)
		_, err = r.Set(b.Context(), key, record(key, string(make([]byte, 512))), 0, nil)
		require.NoError(b, err)
	}
	reads := map[string]func(ctx context.Context, key string) error{
		"go-redis": func(ctx context.Context, key string) error { return client.Get(ctx, key).Err() },
		"auto":     func(ctx context.Context, key string) error { return auto.Get(ctx, key).Err() },
		"store": func(ctx context.Context, key string) error {
			_, err := r.Read(ctx, key, limit)
			return err
		},
	}
	for _, goroutines := range []int{1, 2, 4, 16, 64, 256} {
		for _, by := range []string{"go-redis", "auto", "store"} {
			b.Run(fmt.Sprintf("goroutines=%d/by=%s", goroutines, by), func(b *testing.B) {
				b.ReportAllocs()
				var next atomic.Int64
				var wg sync.WaitGroup
				for range goroutines {
					wg.Go(func() {
						for {
							i := next.Add(1)
							if i > int64(b.N) {
								return
							}
							if err := reads[by](context.Background(), fmt.Sprint("k", i%keys)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}
