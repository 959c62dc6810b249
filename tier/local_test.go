package tier_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// Nodes that share an in-process bus and invalidate at the same time do not wait
// for each other for ever, and what one has invalidated is gone on the others
// when the call returns.
func TestLocal_nodesInvalidateAtOnce(t *testing.T) {
	t.Parallel()
	f := newFleet(t, tier.Config{Bus: invalidation.NewLocal()})
	changes := []func(ctx context.Context, i string) error{
		func(ctx context.Context, i string) error { return f.na.InvalidateTags(ctx, i) },
		func(ctx context.Context, i string) error { return f.nb.InvalidateTags(ctx, i) },
		func(ctx context.Context, i string) error { return f.a.Delete(ctx, i) },
		func(ctx context.Context, i string) error { return f.b.Delete(ctx, i) },
		func(ctx context.Context, i string) error { _, err := f.a.DeletePrefix(ctx, i); return err },
		func(ctx context.Context, i string) error { _, err := f.b.DeletePrefix(ctx, i); return err },
	}
	var wg sync.WaitGroup
	for w, change := range changes {
		for i := range 500 {
			wg.Go(func() {
				key := strconv.Itoa(w) + ":" + strconv.Itoa(i)
				for _, c := range []*tier.Cache[row]{f.a, f.b} {
					_, err := c.GetOrSet(t.Context(), key, 0, func(context.Context) (row, error) { return row{Pad: key}, nil })
					assert.NoError(t, err)
				}
				assert.NoError(t, change(t.Context(), key))
				for _, c := range []*tier.Cache[row]{f.a, f.b} {
					_, ok := c.Get(t.Context(), key)
					assert.False(t, ok, "key %s is still there when the call has returned", key)
				}
			})
		}
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		panic("the nodes wait for each other") // whoever waits could not be closed either
	}
}

// BoundedStaleness: a Clear voids what another node of the bus has in its own
// records, whatever the numbers of the two say.
func TestBoundedStaleness_clearOverABusInTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that all happens in one microsecond
		bus := invalidation.NewLocal()
		b := cache(t, open(t, tier.Config{Bus: bus}), tier.Options[row]{})
		require.NoError(t, b.Clear(t.Context()))
		require.NoError(t, b.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
		a := cache(t, open(t, tier.Config{Bus: bus}), tier.Options[row]{})
		require.NoError(t, a.Clear(t.Context()))
		mustMiss(t, b, "k")
		require.NoError(t, b.Set(t.Context(), "k", row{Key: "k", Version: 2}, 0))
		require.NoError(t, a.Clear(t.Context()))
		mustMiss(t, b, "k")
	})
}
