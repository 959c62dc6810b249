package deadline_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/deadline"
)

const step = 10 * time.Millisecond

type key struct{}

func TestGroup_endsOnTimeAndAtMostAStepBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := deadline.NewGroup(step)
		parent := context.WithValue(context.Background(), key{}, "kept")
		for _, d := range []time.Duration{0, time.Nanosecond, step, 4*step - 1, 4 * step, 4*step + 1, 177 * time.Millisecond, time.Second} {
			time.Sleep(3 * time.Millisecond) // not always at the beginning of a slot
			begun := time.Now()
			ctx, cancel := g.With(parent, begun, d)
			end, ok := ctx.Deadline()
			require.True(t, ok)
			assert.Equal(t, begun.Add(d), end)
			assert.Equal(t, "kept", ctx.Value(key{}))
			if d > 0 {
				require.NoError(t, ctx.Err())
			}
			<-ctx.Done()
			lasted := time.Since(begun)
			assert.LessOrEqual(t, lasted, d)
			assert.Greater(t, lasted, d-step)
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			cancel()
		}
	})
}

func TestGroup_keepsToTheEarlierEndOfItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outer, inner := deadline.NewGroup(2*step), deadline.NewGroup(step)
		for _, d := range []struct{ outer, inner, want time.Duration }{
			{200 * time.Millisecond, 100 * time.Millisecond, 100 * time.Millisecond},
			{100 * time.Millisecond, 200 * time.Millisecond, 100 * time.Millisecond},
		} {
			begun := time.Now()
			around, cancel := outer.With(context.Background(), begun, d.outer)
			defer cancel()
			ctx, cancel := inner.With(around, begun, d.inner)
			defer cancel()
			end, _ := ctx.Deadline()
			assert.Equal(t, begun.Add(d.want), end)
			<-ctx.Done()
			assert.InDelta(t, d.want, time.Since(begun), float64(step))
		}
	})
}

func TestGroup_endsWithAParentThatIsCanceled(t *testing.T) {
	parent, stop := context.WithCancel(t.Context())
	ctx, cancel := deadline.NewGroup(step).With(parent, time.Now(), time.Hour)
	defer cancel()
	stop()
	<-ctx.Done()
	require.ErrorIs(t, ctx.Err(), context.Canceled)
}

func TestGroup_sharesAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := deadline.NewGroup(step)
		now := time.Now()
		a, _ := g.With(context.Background(), now, time.Second)
		b, _ := g.With(context.Background(), now, time.Second+step/2)
		c, _ := g.With(context.Background(), now, time.Second+step)
		assert.Equal(t, a.Done(), b.Done())
		assert.NotEqual(t, a.Done(), c.Done())
		assert.Equal(t, 2, g.Slots())
		time.Sleep(2 * time.Second)
		assert.Zero(t, g.Slots())
	})
}

func TestGroup_isCheap(t *testing.T) {
	g := deadline.NewGroup(step)
	now := time.Now()
	allocs := testing.AllocsPerRun(1000, func() {
		ctx, cancel := g.With(context.Background(), now, time.Hour)
		select {
		case <-ctx.Done():
		default:
		}
		cancel()
	})
	assert.LessOrEqual(t, allocs, 1.0)
}
