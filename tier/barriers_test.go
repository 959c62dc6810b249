package tier_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// Each batch whose loader adds keys waits until an own beat has come back. However
// many wait, the node takes none of its beats for another's.
func TestCache_GetOrSetMany_unaskedByMany(t *testing.T) {
	t.Parallel()
	const callers, rounds = 64, 5
	n := open(t, tier.Config{URL: redistest.Start(t).URL(), Timeout: 20 * time.Second, Heartbeat: 20 * time.Second})
	c := cache(t, n, tier.Options[row]{})
	gaps := n.Stats().Bus.Gaps
	var wg sync.WaitGroup
	for w := range callers {
		wg.Go(func() {
			for i := range rounds {
				key, extra := fmt.Sprintf("k%d:%d", w, i), fmt.Sprintf("x%d:%d", w, i)
				_, err := c.GetOrSetMany(t.Context(), []string{key}, 0, func(context.Context, []string) (map[string]row, error) {
					return map[string]row{key: {Key: key}, extra: {Key: extra, Version: 1}}, nil
				})
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	now := n.Stats().Bus
	require.Equal(t, gaps, now.Gaps, "%s", now.LastGap)
	for w := range callers {
		for i := range rounds {
			require.EqualValues(t, 1, mustGet(t, c, fmt.Sprintf("x%d:%d", w, i)))
		}
	}
}

// A beat that does not come back costs what was loaded unasked, and Close waits for
// it no longer than the calls that wait.
func TestCache_GetOrSetMany_unaskedUnheard(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), Timeout: time.Second, Heartbeat: time.Minute})
	c := cache(t, n, tier.Options[row]{})
	proxy.Freeze(redistest.PubSub, redistest.ToClient)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			key, extra := fmt.Sprint("k", w), fmt.Sprint("x", w)
			_, _ = c.GetOrSetMany(t.Context(), []string{key}, 0, func(context.Context, []string) (map[string]row, error) {
				return map[string]row{key: {Key: key}, extra: {Key: extra}}, nil
			})
		})
	}
	await(t, "the leases", 10*time.Second, func() bool {
		for w := range 8 {
			if srv.Do("exists", fmt.Sprint("tandem:row:x", w)) == int64(0) {
				return false
			}
		}
		return true
	})
	began := time.Now()
	require.NoError(t, n.Close())
	wg.Wait()
	assert.Less(t, time.Since(began), 10*time.Second)
	other := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	for w := range 8 {
		mustMiss(t, other, fmt.Sprint("x", w))
	}
}

// A beat that went to a link that is gone does not hold up those of the next.
func TestCache_GetOrSetMany_unaskedAfterACut(t *testing.T) {
	t.Parallel()
	proxy := redistest.NewProxy(t, redistest.Start(t))
	n := open(t, tier.Config{URL: proxy.URL(), Timeout: 10 * time.Second, Heartbeat: time.Minute})
	c := cache(t, n, tier.Options[row]{})
	load := func(key, extra string) {
		_, err := c.GetOrSetMany(t.Context(), []string{key}, 0, func(context.Context, []string) (map[string]row, error) {
			return map[string]row{key: {Key: key}, extra: {Key: extra, Version: 1}}, nil
		})
		assert.NoError(t, err)
	}
	load("k1", "x1")
	require.EqualValues(t, 1, mustGet(t, c, "x1"))

	gaps := n.Stats().Bus.Gaps
	drop := proxy.DropMessages(1_000, func(redistest.Message) bool { return true })
	unheard := make(chan struct{})
	go func() {
		defer close(unheard)
		load("k2", "x2")
	}()
	await(t, "its beat to be lost", 10*time.Second, func() bool { return drop.Dropped() > 0 })
	drop.Stop()
	proxy.Cut(redistest.PubSub)
	await(t, "another link", 10*time.Second, func() bool {
		bus := n.Stats().Bus
		return bus.Gaps > gaps && bus.Hears
	})
	load("k3", "x3")
	require.EqualValues(t, 1, mustGet(t, c, "x3"))
	<-unheard
	mustMiss(t, c, "x2")
}
