package flight_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/flight"
)

func TestDo_returnsTheCauseOfAContextThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		gone := errors.New("client went away")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		c := call(ctx, g, "k", nil, never(t))
		<-c.done
		assert.ErrorIs(t, c.err, gone)
		assert.Zero(t, g.Stats().Loads)
	})
}

func TestDo_cancelEndsOneWaitOnly(t *testing.T) {
	for _, leaves := range []string{"leader", "joiner"} {
		t.Run(leaves, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := flight.New[string](flight.Options{})
				h := hold("v")
				gone := errors.New("client went away")
				first, cancelFirst := context.WithCancelCause(t.Context())
				second, cancelSecond := context.WithCancelCause(t.Context())
				leader := call(first, g, "k", nil, h.load)
				joiner := call(second, g, "k", nil, never(t))
				left, stays, cancel := leader, joiner, cancelFirst
				if leaves == "joiner" {
					left, stays, cancel = joiner, leader, cancelSecond
				}
				cancel(gone)
				<-left.done
				require.ErrorIs(t, left.err, gone)
				require.Empty(t, left.value)
				synctest.Wait()
				require.True(t, stays.waits())
				third := call(t.Context(), g, "k", nil, never(t))
				h.land()
				stays.wantValue(t, "v", stays == joiner)
				third.wantValue(t, "v", true)
				cancelFirst(nil)
				cancelSecond(nil)
			})
		})
	}
}

// The last one to leave cancels the load, and nobody joins a load that is being
// canceled.
func TestDo_lastToLeaveCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		first, second := hold("old"), hold("new")
		ctx, cancel := context.WithCancel(t.Context())
		a := call(ctx, g, "k", yes, first.load)
		b := call(ctx, g, "k", yes, never(t))
		cancel()
		<-a.done
		<-b.done
		require.ErrorIs(t, a.err, context.Canceled)
		require.ErrorIs(t, b.err, context.Canceled)
		require.ErrorIs(t, context.Cause(first.ctx), context.Canceled)
		assert.ErrorContains(t, context.Cause(first.ctx), "every waiter has left")

		c := call(t.Context(), g, "k", yes, second.load)
		second.land()
		c.wantValue(t, "new", false)
		synctest.Wait()
		assert.Zero(t, g.Stats().Running)
	})
}

// As above, with a load that does not listen: its successor runs beside it.
func TestDo_doesNotJoinAnAbandonedLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		first, second := hold("old"), hold("new")
		ctx, cancel := context.WithCancel(t.Context())
		a := call(ctx, g, "k", yes, first.stubborn)
		cancel()
		<-a.done
		c := call(t.Context(), g, "k", yes, second.load)
		assert.EqualValues(t, 2, g.Stats().Running)
		first.land()
		synctest.Wait()
		require.True(t, c.waits(), "the result of the first is dropped")
		second.land()
		c.wantValue(t, "new", false)
	})
}

func TestDo_endsALoadAtTheTimeLimit(t *testing.T) {
	for _, listens := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			const limit = 10 * time.Second
			g := flight.New[string](flight.Options{Timeout: limit})
			h := hold("late")
			load := h.stubborn
			if listens {
				load = h.load
			}
			begin := time.Now()
			leader := call(t.Context(), g, "k", nil, load)
			joiner := call(t.Context(), g, "k", nil, never(t))
			for _, c := range []*caller{leader, joiner} {
				<-c.done
				assert.Equal(t, limit, time.Since(begin))
				var timeout *flight.TimeoutError
				require.ErrorAs(t, c.err, &timeout)
				assert.Equal(t, limit, timeout.Limit)
				assert.True(t, timeout.Timeout())
				assert.ErrorIs(t, c.err, context.DeadlineExceeded)
				assert.ErrorContains(t, c.err, "10s")
			}
			// The key is free, whether or not the load has returned.
			next := hold("next")
			next.land()
			call(t.Context(), g, "k", nil, next.load).wantValue(t, "next", false)
			if !listens {
				assert.EqualValues(t, 1, g.Stats().Running, "the one that was given up")
				h.land()
			}
			synctest.Wait()
			assert.Zero(t, g.Stats().Running)
		})
	}
}

// A load may wait for as long as it needs before its limit begins, and do what is
// left after it.
func TestLimit_isForAPartOfTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = time.Second
		g := flight.New[string](flight.Options{Timeout: limit})
		begun := time.Now()
		v, _, err := g.Do(t.Context(), "k", nil, func(ctx context.Context) (string, error) {
			time.Sleep(2 * limit)
			part, done := g.Limit(ctx)
			deadline, ok := part.Deadline()
			assert.True(t, ok)
			assert.Equal(t, begun.Add(3*limit), deadline)
			time.Sleep(limit - 1)
			assert.NoError(t, part.Err())
			done()
			assert.Error(t, part.Err())
			time.Sleep(2 * limit)
			return "v", ctx.Err()
		})
		require.NoError(t, err)
		assert.Equal(t, "v", v)
	})
}

// A load of many ends the flights that wait for it, as a load of one does.
func TestLimit_ofALoadOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{Timeout: time.Second})
		p, err := g.Start(t.Context(), "k", nil, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", context.Cause(ctx)
		})
		require.NoError(t, err)
		keys := map[string]struct{}{"k": {}}
		part, done := g.Limit(g.Enclose(t.Context(), keys, p.End))
		defer done()
		_, err = p.Wait(t.Context())
		var late *flight.TimeoutError
		require.ErrorAs(t, err, &late)
		require.ErrorAs(t, context.Cause(part), &late)
		assert.True(t, g.Inside(part, "k"))
	})
}

func TestDo_countsAResultThatComesWithTheTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{Timeout: time.Second})
		c := call(t.Context(), g, "k", nil, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "what there was", nil
		})
		<-c.done
		// Both are ready at the same moment, and either answer is right; none
		// may be mixed or lost.
		if c.err == nil {
			assert.Equal(t, "what there was", c.value)
		} else {
			assert.ErrorIs(t, c.err, context.DeadlineExceeded)
			assert.Empty(t, c.value)
		}
	})
}

func TestClose_endsEveryLoadAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		a, b := hold("a"), hold("b")
		leader := call(t.Context(), g, "a", nil, a.load)
		joiner := call(t.Context(), g, "a", nil, never(t))
		stubborn := call(t.Context(), g, "b", nil, b.stubborn)

		closed := make(chan error, 1)
		go func() { closed <- g.Close(t.Context()) }()
		for _, c := range []*caller{leader, joiner, stubborn} {
			<-c.done
			assert.ErrorIs(t, c.err, flight.ErrClosed)
		}
		synctest.Wait()
		require.Empty(t, closed, "a function has not returned")
		late := call(t.Context(), g, "c", nil, never(t))
		<-late.done
		assert.ErrorIs(t, late.err, flight.ErrClosed)
		assert.False(t, g.Background(t.Context(), "c", nil, never(t)))

		b.land()
		require.NoError(t, <-closed)
		assert.Zero(t, g.Stats().Running)
		assert.NoError(t, g.Close(t.Context()), "once more")
	})
}

func TestClose_givesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		h := hold("v")
		c := call(t.Context(), g, "k", nil, h.stubborn)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Close(ctx), context.DeadlineExceeded)
		<-c.done
		require.ErrorIs(t, c.err, flight.ErrClosed)
		h.land() // else the bubble would find it
	})
}
