package tier

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l2"
)

// batchHook is a store in which reads of many are counted, watched or fail.
type batchHook struct {
	l2.Store

	reads int
	hook  func()
	away  bool
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
