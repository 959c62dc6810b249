package tier

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l2"
)

// batchHook is a store in which reads are counted, watched or fail.
type batchHook struct {
	l2.Store

	reads int
	hook  func()
	away  bool

	writes int
	takes  time.Duration // each pipeline that stores
}

// write is the time of a pipeline that stores. False: Redis does not answer it.
func (s *batchHook) write(ctx context.Context) bool {
	s.writes++
	<-time.After(s.takes)
	return !s.away && ctx.Err() == nil
}

func (s *batchHook) SetMany(ctx context.Context, sets []l2.SetRequest) []l2.SetManyResult {
	if s.write(ctx) {
		return s.Store.SetMany(context.WithoutCancel(ctx), sets)
	}
	results := make([]l2.SetManyResult, len(sets))
	for i := range results {
		results[i].Err = l2.ErrUnavailable
	}
	return results
}

func (s *batchHook) FillMany(ctx context.Context, fills []l2.FillRequest) []l2.FillResult {
	if s.write(ctx) {
		return s.Store.FillMany(context.WithoutCancel(ctx), fills)
	}
	results := make([]l2.FillResult, len(fills))
	for i := range results {
		results[i].Err = l2.ErrUnavailable
	}
	return results
}

func (s *batchHook) Read(ctx context.Context, key string, limit int) (l2.Reply, error) {
	s.reads++
	reply, err := s.Store.Read(ctx, key, limit)
	if s.hook != nil {
		s.hook()
	}
	return reply, err
}

func (s *batchHook) ReadMany(ctx context.Context, keys []string, limit int, marks l2.Marks) ([]l2.Read, l2.Marked) {
	s.reads++
	reads, marked := s.Store.ReadMany(ctx, keys, limit, marks)
	if s.hook != nil {
		s.hook()
	}
	for i := range reads {
		if s.away {
			reads[i] = l2.Read{Err: l2.ErrUnavailable}
		}
	}
	return reads, marked
}

func newBatchHook(t *testing.T) (*Cache[string], *batchHook) {
	t.Helper()
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	s := &batchHook{Store: n.store}
	n.store = s
	c, err := New(n, "c", Options[string]{Local: Local{Disabled: true}})
	require.NoError(t, err)
	return c, s
}

// FailOpen: when Redis has answered nothing of 500 keys, the rest of the batch
// does not ask it.
func TestBatch_asksNoFurtherWhenRedisIsAway(t *testing.T) {
	c, s := newBatchHook(t)
	keys := make([]string, 2000)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	s.away = true
	assert.Empty(t, c.GetMany(t.Context(), keys))
	assert.Equal(t, 1, s.reads)
	got, err := c.GetOrSetMany(t.Context(), keys, 0, func(_ context.Context, missing []string) (map[string]string, error) {
		out := make(map[string]string)
		for _, key := range missing {
			out[key] = key
		}
		return out, nil
	})
	require.NoError(t, err)
	assert.Len(t, got, 2000)
	assert.Equal(t, 2, s.reads)
}

// When an epoch moves before the reply is there, the reply may be older than
// what this node was told to trust: a batch asks again, and in the end misses.
func TestBatch_epochMovesBeforeTheReply(t *testing.T) {
	c, s := newBatchHook(t)
	require.NoError(t, c.SetMany(t.Context(), map[string]string{"a": "1", "b": "2"}, 0))
	s.reads = 0
	s.hook = func() {
		s.hook = nil
		c.distrust()
	}
	assert.Len(t, c.GetMany(t.Context(), []string{"a", "b"}), 2)
	assert.Equal(t, 2, s.reads, "asked again")
	s.hook = c.distrust
	assert.Empty(t, c.GetMany(t.Context(), []string{"a", "b"}))
}

// manyLarge are values that take six pipelines.
func manyLarge() (values map[string]string, keys []string) {
	values = make(map[string]string)
	for i := range 30 {
		key := fmt.Sprint(i)
		values[key], keys = strings.Repeat("x", 900<<10), append(keys, key)
	}
	return values, keys
}

// there returns those of keys that have a value.
func there(c *Cache[string], keys []string) []string {
	got := c.GetMany(context.Background(), keys)
	return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return got[key] == "" })
}

// Every pipeline of a batch has the time of a call, however many there are.
func TestBatch_manyPipelinesTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newBatchHook(t)
		s.takes = c.node.cfg.Timeout - time.Millisecond
		values, keys := manyLarge()
		require.NoError(t, c.SetMany(t.Context(), values, 0))
		assert.Equal(t, 6, s.writes)
		assert.Zero(t, c.node.Stats().Journal.Unconfirmed)
		assert.Equal(t, keys, there(c, keys))

		require.NoError(t, c.Delete(t.Context(), keys...))
		_, err := c.GetOrSetMany(t.Context(), keys, 0, func(context.Context, []string) (map[string]string, error) { return values, nil })
		require.NoError(t, err)
		assert.Equal(t, 12, s.writes)
		assert.Zero(t, c.Stats().FillsRefused)
		assert.Equal(t, keys, there(c, keys))
	})
}

// When Redis has answered nothing of a pipeline, the rest is not sent: it is owed,
// or not stored.
func TestBatch_sendsNoFurtherWhenRedisIsAway(t *testing.T) {
	c, s := newBatchHook(t)
	values, keys := manyLarge()
	_, err := c.GetOrSetMany(t.Context(), keys, 0, func(context.Context, []string) (map[string]string, error) {
		s.away = true
		return values, nil
	})
	require.NoError(t, err)
	assert.Equal(t, 1, s.writes)
	assert.EqualValues(t, len(keys), c.Stats().FillsRefused)
	require.NoError(t, c.SetMany(t.Context(), values, 0))
	assert.Equal(t, 2, s.writes)
	assert.EqualValues(t, len(keys), c.node.Stats().Journal.Unconfirmed)
}

// OneLoad: who could not trust what Redis said loads, and others join.
func TestOneLoad_joinsALoadAfterRepliesThatCannotBeTrusted(t *testing.T) {
	for _, many := range []bool{false, true} {
		c, s := newBatchHook(t)
		begun, release := make(chan struct{}), make(chan struct{})
		first := make(chan error, 1)
		s.hook = c.distrust
		go func() {
			var err error
			if many {
				_, err = c.GetOrSetMany(context.Background(), []string{"k"}, 0, func(context.Context, []string) (map[string]string, error) {
					close(begun)
					<-release
					return map[string]string{"k": "v"}, nil
				})
			} else {
				_, err = c.GetOrSet(context.Background(), "k", 0, func(context.Context) (string, error) {
					close(begun)
					<-release
					return "v", nil
				})
			}
			first <- err
		}()
		<-begun
		assert.Equal(t, 3, s.reads, "void: the replies were trusted")
		s.hook = nil
		second := make(chan error, 1)
		go func() {
			_, err := c.GetOrSet(context.Background(), "k", 0, func(context.Context) (string, error) { return "another", nil })
			second <- err
		}()
		assert.Eventually(t, func() bool { return c.Stats().Collapsed+c.Stats().Loads == 2 }, 10*time.Second, time.Millisecond)
		close(release)
		require.NoError(t, <-first)
		require.NoError(t, <-second)
		assert.EqualValues(t, 1, c.Stats().Loads, "many=%v", many)
	}
}
