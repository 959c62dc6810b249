package flight_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/flight"
)

// bomb panics with v when it is lit.
func bomb(v any) (load fn, light func()) {
	lit := make(chan struct{})
	return func(context.Context) (string, error) {
		<-lit
		panic(v)
	}, func() { close(lit) }
}

// hook collects the panics that no caller raised.
func hook(t *testing.T) (func(string, *flight.PanicError), *[]any) {
	got := new([]any)
	return func(key string, p *flight.PanicError) {
		assert.Equal(t, "k", key)
		assert.NotEmpty(t, p.Stack)
		*got = append(*got, p.Value)
	}, got
}

func TestDo_panicsInTheCallerWhoseLoadItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onPanic, orphans := hook(t)
		g := flight.New[string](flight.Options{OnPanic: onPanic})
		cause := errors.New("index out of range")
		load, light := bomb(cause)
		leader := call(t.Context(), g, "k", nil, load)
		joiner := call(t.Context(), g, "k", nil, never(t))
		light()

		<-leader.done
		assert.Equal(t, cause, leader.panicked, "the value itself")
		<-joiner.done
		require.Nil(t, joiner.panicked)
		var p *flight.PanicError
		require.ErrorAs(t, joiner.err, &p)
		assert.Equal(t, cause, p.Value)
		assert.ErrorIs(t, joiner.err, cause)
		assert.Contains(t, string(p.Stack), "panic_test.go", "the stack of the panic")
		assert.NotContains(t, p.Error(), "panic_test.go", "nothing of it in what users may see")
		synctest.Wait()
		assert.Empty(t, *orphans)
		assert.Equal(t, flight.Stats{Loads: 1, Collapsed: 1, Panics: 1}, g.Stats())

		// The key is free.
		h := hold("v")
		h.land()
		call(t.Context(), g, "k", nil, h.load).wantValue(t, "v", false)
	})
}

func TestPanicError_ofAValueThatIsNoError(t *testing.T) {
	p := &flight.PanicError{Value: "boom"}
	assert.Equal(t, "flight: load panicked: boom", p.Error())
	assert.NoError(t, p.Unwrap())
}

// A panic is raised in the leader or goes to the hook: never both, never neither.
func TestDo_tellsTheHookOfAPanicWithoutALeader(t *testing.T) {
	for _, leaves := range []bool{true, false} { // else it waits until the time limit
		synctest.Test(t, func(t *testing.T) {
			onPanic, orphans := hook(t)
			g := flight.New[string](flight.Options{Timeout: time.Second, OnPanic: onPanic})
			load, light := bomb("boom")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			leader := call(ctx, g, "k", nil, load)
			joiner := call(t.Context(), g, "k", nil, never(t))
			if leaves {
				cancel()
			}
			<-leader.done
			require.Nil(t, leader.panicked)
			require.Error(t, leader.err)
			light()
			<-joiner.done
			require.Nil(t, joiner.panicked)
			var p *flight.PanicError
			assert.Equal(t, leaves, errors.As(joiner.err, &p))
			synctest.Wait()
			assert.Equal(t, []any{"boom"}, *orphans)
			assert.EqualValues(t, 1, g.Stats().Panics)
		})
	}
}

func TestDo_withoutAHookDropsAnOrphanedPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		load, light := bomb("boom")
		require.True(t, g.Background(t.Context(), "k", nil, load))
		light()
		synctest.Wait()
		assert.Equal(t, flight.Stats{Loads: 1, Panics: 1}, g.Stats())
	})
}

// t.FailNow in a loader is a Goexit, for one.
func TestDo_exitsTheCallerWhoseLoadExits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		onPanic, orphans := hook(t)
		g := flight.New[string](flight.Options{OnPanic: onPanic})
		gate := make(chan struct{})
		leader := call(t.Context(), g, "k", nil, func(context.Context) (string, error) {
			<-gate
			runtime.Goexit()
			return "", nil
		})
		joiner := call(t.Context(), g, "k", nil, never(t))
		close(gate)
		<-leader.done
		assert.True(t, leader.exited)
		<-joiner.done
		assert.False(t, joiner.exited)
		assert.ErrorIs(t, joiner.err, flight.ErrGoexit)
		synctest.Wait()
		assert.Empty(t, *orphans)
		assert.Zero(t, g.Stats().Running)
	})
}

func TestDo_panicWithNilIsAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		load, light := bomb(nil)
		c := call(t.Context(), g, "k", nil, load)
		light()
		<-c.done
		assert.IsType(t, new(runtime.PanicNilError), c.panicked)
	})
}
