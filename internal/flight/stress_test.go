package flight_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/tandemcache/tandem/internal/flight"
)

// Everything at once, on real goroutines: joins, invalidations, cancellations,
// limits and panics. Whatever meets whatever, a caller gets the value of its own
// key, from a load that began after the last invalidation that had happened
// before its call; a panic reaches one place; and nothing is left running.
func TestStress(t *testing.T) {
	const callers, calls, keys = 8, 1500, 3
	var raised, orphans atomic.Int64
	g := flight.New[[2]uint64](flight.Options{
		Timeout: 2 * time.Millisecond,
		OnPanic: func(string, *flight.PanicError) { orphans.Add(1) },
	})
	var versions [keys]atomic.Uint64
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range calls {
				k := r.IntN(keys)
				if r.IntN(4) == 0 {
					versions[k].Add(1)
				}
				once(t, g, k, &versions[k], r.IntN(20), &raised)
			}
		})
	}
	wg.Wait()
	assert.NoError(t, g.Close(context.Background()))
	st := g.Stats()
	assert.Zero(t, st.Running)
	assert.Positive(t, st.Collapsed)
	assert.Positive(t, st.Panics)
	assert.EqualValues(t, st.Panics, raised.Load()+orphans.Load())
}

// once is one call, of a kind that dice choose.
func once(t *testing.T, g *flight.Group[[2]uint64], k int, version *atomic.Uint64, dice int, raised *atomic.Int64) {
	defer func() {
		if recover() != nil {
			raised.Add(1)
		}
	}()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if dice < 5 {
		go cancel()
	}
	begin := version.Load()
	load := func(ctx context.Context) ([2]uint64, error) {
		switch seen := version.Load(); dice {
		case 0, 6:
			panic("boom")
		case 7, 8:
			<-ctx.Done() // at the limit, or canceled
			if dice == 8 {
				panic("late")
			}
			return [2]uint64{}, context.Cause(ctx)
		default:
			return [2]uint64{uint64(k), seen}, nil
		}
	}
	valid := func() bool { return version.Load() == begin }
	v, _, err := g.Do(ctx, fmt.Sprint(k), valid, limited(g, load))
	if err == nil {
		assert.EqualValues(t, k, v[0], "the value of another key")
		assert.GreaterOrEqual(t, v[1], begin, "a value from before an invalidation")
	}
}
