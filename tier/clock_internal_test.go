package tier

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l2"
)

// untimed is a store over servers whose clocks are not known while lost is set.
type untimed struct {
	l2.Store

	lost atomic.Bool
}

func (s *untimed) Now(key string) int64 {
	if s.lost.Load() {
		return 0
	}
	return s.Store.Now(key)
}

func (s *untimed) Clock(ctx context.Context, key string) (int64, error) {
	if s.lost.Load() {
		return 0, l2.ErrUnavailable
	}
	return s.Store.Clock(ctx, key)
}

// Where the time of Redis cannot be had nothing is stored that would be judged by
// another time, nothing is judged, and what was written is owed.
func TestNothingForgotten_clockNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), Config{Strict: true})
		require.NoError(t, err)
		defer func() { require.NoError(t, n.Close()) }()
		store := &untimed{Store: n.store}
		n.store = store
		c, err := New(n, "c", Options[string]{Local: Local{Disabled: true}})
		require.NoError(t, err)
		ctx := t.Context()
		load := func(context.Context) (string, error) { return "loaded", nil }
		for _, key := range []string{"set", "many", "update", "read"} {
			require.NoError(t, c.Set(ctx, key, "old", 0))
		}

		store.lost.Store(true)
		_, ok := c.Get(ctx, "read")
		assert.False(t, ok, "its age cannot be told")
		_, err = c.Lookup(ctx, "read")
		require.ErrorIs(t, err, ErrUnavailable)
		got, err := c.GetOrSet(ctx, "read", 0, load)
		require.NoError(t, err)
		assert.Equal(t, "loaded", got)
		require.ErrorIs(t, c.Set(ctx, "set", "new", 0), ErrUnavailable)
		require.ErrorIs(t, c.SetMany(ctx, map[string]string{"many": "new"}, 0), ErrUnavailable)
		got, err = c.Update(ctx, "update", 0, func(context.Context) (string, error) { return "new", nil })
		require.NoError(t, err, "its end was confirmed: the key is empty")
		assert.Equal(t, "new", got)

		store.lost.Store(false)
		time.Sleep(10 * time.Second) // the debts are paid
		require.Zero(t, n.Stats().Journal.Owed)
		for _, key := range []string{"set", "many", "update"} {
			v, ok := c.Get(ctx, key)
			assert.False(t, ok, "%s: %s", key, v)
		}
		v, ok := c.Get(ctx, "read")
		assert.True(t, ok)
		assert.Equal(t, "old", v, "nothing was stored")
	})
}
