package flight_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/internal/flight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	group = flight.Group[string]
	fn    = func(context.Context) (string, error)
)

// caller is a call of Do on a goroutine of its own.
type caller struct {
	done chan struct{} // closed at the end; what follows is set by then

	value    string
	joined   bool
	err      error
	panicked any
	exited   bool // by runtime.Goexit
}

// call calls Do and returns when the caller waits for its result, or has it.
func call(ctx context.Context, g *group, key string, valid func() bool, load fn) *caller {
	c := &caller{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		returned := false
		defer func() {
			c.panicked = recover()
			c.exited = !returned && c.panicked == nil
		}()
		c.value, c.joined, c.err = g.Do(ctx, key, valid, limited(g, load))
		returned = true
	}()
	synctest.Wait()
	return c
}

// limited returns load under the group's time limit.
func limited[T any](g *flight.Group[T], load func(context.Context) (T, error)) func(context.Context) (T, error) {
	return func(ctx context.Context) (T, error) {
		ctx, done := g.Limit(ctx)
		defer done()
		return load(ctx)
	}
}

func (c *caller) waits() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

func (c *caller) wantValue(t *testing.T, want string, joined bool) {
	t.Helper()
	<-c.done
	require.NoError(t, c.err)
	require.Nil(t, c.panicked)
	require.False(t, c.exited)
	assert.Equal(t, want, c.value)
	assert.Equal(t, joined, c.joined)
}

// held is a load that waits for land or for the end of its context.
type held struct {
	value  string
	landed chan struct{}
	begun  atomic.Int32
	ctx    context.Context // of the last call; set when it has begun
}

func hold(value string) *held { return &held{value: value, landed: make(chan struct{})} }

func (h *held) land() { close(h.landed) }

func (h *held) load(ctx context.Context) (string, error) {
	h.ctx = ctx
	h.begun.Add(1)
	select {
	case <-h.landed:
		return h.value, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// stubborn is load without an ear for its context.
func (h *held) stubborn(context.Context) (string, error) {
	h.begun.Add(1)
	<-h.landed
	return h.value, nil
}

// never is a load that must not be called.
func never(t *testing.T) fn {
	return func(context.Context) (string, error) {
		t.Error("the load was called")
		return "", nil
	}
}

func yes() bool { return true }

func TestDo_joinsTheLoadUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		h := hold("v")
		leader := call(t.Context(), g, "k", yes, h.load)
		var joiners []*caller
		for range 10 {
			joiners = append(joiners, call(t.Context(), g, "k", yes, never(t)))
		}
		assert.Equal(t, flight.Stats{Running: 1, Loads: 1, Collapsed: 10}, g.Stats())
		require.True(t, leader.waits())
		h.land()
		leader.wantValue(t, "v", false)
		for _, j := range joiners {
			j.wantValue(t, "v", true)
		}
		synctest.Wait()
		assert.Equal(t, flight.Stats{Loads: 1, Collapsed: 10}, g.Stats())
	})
}

func TestDo_loadsAgainWhenTheLoadHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		for _, v := range []string{"1", "2", "3"} {
			h := hold(v)
			h.land()
			call(t.Context(), g, "k", nil, h.load).wantValue(t, v, false)
		}
		assert.EqualValues(t, 3, g.Stats().Loads)
	})
}

func TestDo_loadsDifferentKeysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		a, b := hold("a"), hold("b")
		ca, cb := call(t.Context(), g, "a", nil, a.load), call(t.Context(), g, "b", nil, b.load)
		b.land()
		cb.wantValue(t, "b", false)
		require.True(t, ca.waits())
		a.land()
		ca.wantValue(t, "a", false)
	})
}

func TestDo_givesAnErrorToAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		broken := errors.New("no database")
		gate := make(chan struct{})
		leader := call(t.Context(), g, "k", nil, func(context.Context) (string, error) {
			<-gate
			return "partial", broken
		})
		joiner := call(t.Context(), g, "k", nil, never(t))
		close(gate)
		for _, c := range []*caller{leader, joiner} {
			<-c.done
			assert.Equal(t, broken, c.err) //nolint:testifylint // the very error
			assert.Equal(t, "partial", c.value)
		}
	})
}

// A load that began before an invalidation goes on for those who wait for it
// already. Who comes later must not have its result.
func TestDo_doesNotJoinWhatIsNoLongerValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{})
		var moved atomic.Bool
		first, second := hold("old"), hold("new")
		leader := call(t.Context(), g, "k", func() bool { return !moved.Load() }, first.load)
		early := call(t.Context(), g, "k", yes, never(t))
		moved.Store(true)
		late := call(t.Context(), g, "k", yes, second.load)
		later := call(t.Context(), g, "k", yes, never(t)) // joins the second
		require.EqualValues(t, 2, g.Stats().Running)

		first.land()
		leader.wantValue(t, "old", false)
		early.wantValue(t, "old", true)
		synctest.Wait()
		require.True(t, late.waits())
		latest := call(t.Context(), g, "k", yes, never(t)) // the end of the first left the second open
		second.land()
		late.wantValue(t, "new", false)
		later.wantValue(t, "new", true)
		latest.wantValue(t, "new", true)
	})
}

func TestDo_doesNotJoinALoadOfMaxAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := flight.New[string](flight.Options{MaxAge: 2 * time.Second})
		first, second := hold("1"), hold("2")
		leader := call(t.Context(), g, "k", yes, first.load)
		time.Sleep(2*time.Second - time.Nanosecond)
		early := call(t.Context(), g, "k", yes, never(t))
		time.Sleep(time.Nanosecond)
		late := call(t.Context(), g, "k", yes, second.load)
		second.land()
		late.wantValue(t, "2", false)
		first.land()
		leader.wantValue(t, "1", false)
		early.wantValue(t, "1", true)
	})
}

func TestDo_givesTheLoadTheCallersValuesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		g := flight.New[string](flight.Options{Timeout: time.Minute})
		h := hold("v")
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "trace"), time.Second)
		defer cancel()
		begin := time.Now()
		c := call(ctx, g, "k", nil, h.load)
		joiner := call(t.Context(), g, "k", nil, never(t))
		assert.Equal(t, "trace", h.ctx.Value(key{}))
		deadline, ok := h.ctx.Deadline()
		assert.True(t, ok)
		assert.Equal(t, begin.Add(time.Minute), deadline, "the group's limit, not the caller's")
		<-c.done
		require.ErrorIs(t, c.err, context.DeadlineExceeded)
		assert.NoError(t, h.ctx.Err(), "somebody still waits")
		h.land()
		joiner.wantValue(t, "v", true)
		synctest.Wait()
		assert.Error(t, h.ctx.Err(), "what the load left running ends with it")
	})
}
