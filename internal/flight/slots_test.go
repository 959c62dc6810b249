package flight_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/flight"
)

// errEnded is what a load returns whose context has ended.
var errEnded = errors.New("ended")

// taking returns a load that takes d, or less if its context ends.
func taking(d time.Duration) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		select {
		case <-time.After(d):
			return "loaded", nil
		case <-ctx.Done():
			return "", errEnded
		}
	}
}

func TestGroup_DoWithin_leavesALoadThatGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := flight.NewSlots(1)
		g := flight.New[string](flight.Options{Slots: slots})
		begun := time.Now()
		_, joined, err := g.DoWithin(t.Context(), time.Second, "k", nil, taking(5*time.Second))
		require.ErrorIs(t, err, flight.ErrSlow)
		require.False(t, joined)
		require.Equal(t, time.Second, time.Since(begun))
		require.Zero(t, slots.Free())

		// Others leave early, and the load still goes on; who stays gets it.
		for range 3 {
			_, joined, err = g.DoWithin(t.Context(), time.Second, "k", nil, taking(0))
			require.ErrorIs(t, err, flight.ErrSlow)
			require.True(t, joined)
		}
		v, joined, err := g.Do(t.Context(), "k", nil, taking(0))
		require.NoError(t, err)
		require.True(t, joined)
		require.Equal(t, "loaded", v)
		require.Equal(t, 5*time.Second, time.Since(begun))
		synctest.Wait()
		require.Equal(t, 1, slots.Free(), "the slot was given back, once")
	})
}

func TestGroup_DoWithin_isInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := flight.NewSlots(1)
		g := flight.New[string](flight.Options{Slots: slots})
		v, _, err := g.DoWithin(t.Context(), time.Second, "k", nil, taking(time.Second/2))
		require.NoError(t, err)
		require.Equal(t, "loaded", v)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		_, _, err = g.DoWithin(ctx, time.Second, "k", nil, taking(time.Hour))
		require.ErrorIs(t, err, context.DeadlineExceeded, "the caller's own end comes first")
		synctest.Wait()
		require.Zero(t, g.Stats().Running, "and cancels the load")
		require.Equal(t, 1, slots.Free())
	})
}

func TestGroup_DoWithin_cancelsALoadWithoutASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := flight.NewSlots(1)
		g := flight.New[string](flight.Options{Slots: slots})
		require.True(t, g.Background(t.Context(), "other", nil, taking(time.Minute)))
		_, _, err := g.DoWithin(t.Context(), time.Second, "k", nil, taking(time.Minute))
		require.ErrorIs(t, err, flight.ErrSlow)
		synctest.Wait()
		require.EqualValues(t, 1, g.Stats().Running, "the load without a slot was canceled, the other was not")
		require.EqualValues(t, 1, slots.Skipped())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, slots.Free())
	})
}

func TestGroup_Background_isBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := flight.NewSlots(2)
		a := flight.New[string](flight.Options{Slots: slots})
		b := flight.New[string](flight.Options{Slots: slots})
		require.True(t, a.Background(t.Context(), "1", nil, taking(time.Second)))
		require.True(t, b.Background(t.Context(), "1", nil, taking(time.Second)))
		require.False(t, a.Background(t.Context(), "1", nil, taking(time.Second)), "it is under way")
		require.Zero(t, slots.Skipped(), "and took no second slot")
		require.False(t, a.Background(t.Context(), "2", nil, taking(time.Second)))
		require.EqualValues(t, 1, slots.Skipped())
		require.EqualValues(t, 2, a.Stats().Running+b.Stats().Running)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 2, slots.Free())
		require.True(t, a.Background(t.Context(), "2", nil, taking(time.Second)))
		require.NoError(t, a.Close(t.Context()))
		require.False(t, a.Background(t.Context(), "3", nil, taking(time.Second)), "closed")
		require.Equal(t, 2, slots.Free(), "Close gave the slot of what it ended back")
	})
}

// A load that callers wait for becomes one that nobody need wait for.
func TestGroup_Background_takesPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{Slots: flight.NewSlots(1)})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _, err := g.Do(ctx, "k", nil, taking(time.Second))
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait()
		require.False(t, g.Background(t.Context(), "k", nil, taking(time.Second)))
		cancel()
		wg.Wait()
		synctest.Wait()
		require.EqualValues(t, 1, g.Stats().Running)
		v, joined, err := g.Do(t.Context(), "k", nil, taking(time.Hour))
		require.NoError(t, err)
		require.True(t, joined)
		require.Equal(t, "loaded", v)
	})
}

// A panic that nobody will raise reaches the hook, exactly once.
func TestGroup_DoWithin_panicAfterTheLeaderLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := make(chan string, 2)
		g := flight.New[string](flight.Options{OnPanic: func(key string, p *flight.PanicError) { panics <- key }})
		_, _, err := g.DoWithin(t.Context(), time.Second, "k", nil, func(context.Context) (string, error) {
			time.Sleep(2 * time.Second)
			panic("late")
		})
		require.ErrorIs(t, err, flight.ErrSlow)
		_, joined, err := g.Do(t.Context(), "k", nil, taking(0))
		require.True(t, joined)
		var p *flight.PanicError
		require.ErrorAs(t, err, &p)
		require.Equal(t, "k", <-panics)
		require.Empty(t, panics)
	})
}

func TestGroup_Background_panicReachesTheHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics := make(chan any, 2)
		g := flight.New[string](flight.Options{OnPanic: func(_ string, p *flight.PanicError) { panics <- p.Value }})
		require.True(t, g.Background(t.Context(), "k", nil, func(context.Context) (string, error) { panic("alone") }))
		synctest.Wait()
		require.Len(t, panics, 1)
		require.Equal(t, "alone", <-panics)
	})
}
