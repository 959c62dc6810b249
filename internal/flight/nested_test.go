package flight_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/flight"
)

func value(v string) fn {
	return func(context.Context) (string, error) { return v, nil }
}

// A load that asks for its own key would wait for itself.
func TestDo_insideALoadOfTheSameKeyRunsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		c := call(t.Context(), g, "k", nil, func(ctx context.Context) (string, error) {
			v, joined, err := g.Do(ctx, "k", nil, value("inner"))
			assert.False(t, joined)
			return "outer of " + v, err
		})
		c.wantValue(t, "outer of inner", false)
		assert.EqualValues(t, 1, g.Stats().Loads)
	})
}

func TestDo_insideThroughAnotherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		c := call(t.Context(), g, "a", nil, func(ctx context.Context) (string, error) {
			v, _, err := g.Do(ctx, "b", nil, func(ctx context.Context) (string, error) {
				v, _, err := g.Do(ctx, "a", nil, value("a"))
				return v + " in b", err
			})
			return v + " in a", err
		})
		c.wantValue(t, "a in b in a", false)
		assert.EqualValues(t, 2, g.Stats().Loads)
	})
}

// Loads of one key in two groups have nothing to do with each other.
func TestDo_insideAnotherGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, other := flight.New[string](flight.Options{}), flight.New[string](flight.Options{})
		c := call(t.Context(), g, "k", nil, func(ctx context.Context) (string, error) {
			v, _, err := other.Do(ctx, "k", nil, value("other"))
			return v, err
		})
		c.wantValue(t, "other", false)
		assert.EqualValues(t, 1, other.Stats().Loads)
	})
}

// Without its context a load that asks for its own key cannot be told from
// anybody else. The time limit frees it.
func TestDo_insideWithoutTheContextEndsAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{Timeout: time.Second})
		begin := time.Now()
		c := call(t.Context(), g, "k", nil, func(context.Context) (string, error) {
			v, _, err := g.Do(context.Background(), "k", nil, value("never"))
			return v, err
		})
		<-c.done
		assert.ErrorIs(t, c.err, context.DeadlineExceeded)
		assert.Equal(t, time.Second, time.Since(begin))
	})
}

// Two callers that load each other's keys wait for each other until the limit.
func TestDo_deadlockEndsAtTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{Timeout: time.Second})
		both := make(chan struct{})
		crossing := func(other string) fn {
			return func(ctx context.Context) (string, error) {
				<-both
				v, _, err := g.Do(ctx, other, nil, value("never"))
				return v, err
			}
		}
		a := call(t.Context(), g, "a", nil, crossing("b"))
		b := call(t.Context(), g, "b", nil, crossing("a"))
		close(both)
		<-a.done
		<-b.done
		assert.ErrorIs(t, a.err, context.DeadlineExceeded)
		assert.ErrorIs(t, b.err, context.DeadlineExceeded)
	})
}

func TestBackground_lastsWithoutWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		h := hold("v")
		ctx, cancel := context.WithCancel(t.Context())
		require.True(t, g.Background(ctx, "k", yes, h.load))
		cancel()
		synctest.Wait()
		require.NoError(t, h.ctx.Err())

		brief, leave := context.WithCancel(t.Context())
		passing := call(brief, g, "k", yes, never(t))
		leave()
		<-passing.done
		synctest.Wait()
		require.NoError(t, h.ctx.Err(), "the last caller to leave is not the last to wait")

		joiner := call(t.Context(), g, "k", yes, never(t))
		h.land()
		joiner.wantValue(t, "v", true)
		assert.Equal(t, flight.Stats{Loads: 1, Collapsed: 2}, g.Stats())
	})
}

func TestBackground_takesPartInAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		h := hold("v")
		ctx, cancel := context.WithCancel(t.Context())
		leader := call(ctx, g, "k", yes, h.load)
		assert.False(t, g.Background(t.Context(), "k", yes, never(t)))
		cancel()
		<-leader.done
		synctest.Wait()
		require.NoError(t, h.ctx.Err(), "it goes on for the background")
		h.land()
		synctest.Wait()
		assert.Zero(t, g.Stats().Running)
	})
}

// Not even when the load that it is called in may not be joined any more.
func TestBackground_insideItsOwnKeyDoesNothing(t *testing.T) {
	for _, valid := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			g := flight.New[string](flight.Options{})
			c := call(t.Context(), g, "k", func() bool { return valid }, func(ctx context.Context) (string, error) {
				assert.False(t, g.Background(ctx, "k", nil, never(t)))
				return "v", nil
			})
			c.wantValue(t, "v", false)
			synctest.Wait()
			assert.Equal(t, flight.Stats{Loads: 1}, g.Stats())
		})
	}
}

func TestBackground_givesItsPanicToTheHookAndTheJoiners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onPanic, orphans := hook(t)
		g := flight.New[string](flight.Options{OnPanic: onPanic})
		load, light := bomb("boom")
		require.True(t, g.Background(t.Context(), "k", nil, load))
		joiner := call(t.Context(), g, "k", nil, never(t))
		light()
		<-joiner.done
		var p *flight.PanicError
		require.ErrorAs(t, joiner.err, &p)
		synctest.Wait()
		assert.Equal(t, []any{"boom"}, *orphans)
	})
}

func TestBackground_endsAtTheTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{Timeout: time.Second})
		h := hold("v")
		require.True(t, g.Background(t.Context(), "k", nil, limited(g, h.load)))
		time.Sleep(time.Second)
		synctest.Wait()
		assert.ErrorIs(t, context.Cause(h.ctx), context.DeadlineExceeded)
		assert.Zero(t, g.Stats().Running)
	})
}
