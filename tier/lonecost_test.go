//go:build !race

package tier_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// What a call of one goroutine allocates, in go-redis and for what the node hears of
// itself included. By hand, SET and PUBLISH in one pipeline take 37 in a process that
// is subscribed, DEL and PUBLISH 28, and GET with decoding 18. The bounds leave room
// for other versions of Go.
func TestMeasure_loneCallAllocations(t *testing.T) {
	n := open(t, tier.Config{URL: redistest.Start(t).URL()})
	c := cache(t, n, tier.Options[row]{})
	remote, err := tier.New(n, "remote", tier.Options[row]{Local: tier.Local{Disabled: true}})
	require.NoError(t, err)
	ctx, v := t.Context(), row{Key: "1", Version: 1, Pad: "a string of some length"}
	require.NoError(t, remote.Set(ctx, "1", v, 0))
	const runs = 1000
	assert.LessOrEqual(t, testing.AllocsPerRun(runs, func() { _ = c.Set(ctx, "1", v, 0) }), 38.0, "Set")
	assert.LessOrEqual(t, testing.AllocsPerRun(runs, func() { _ = c.Delete(ctx, "1") }), 35.0, "Delete")
	assert.LessOrEqual(t, testing.AllocsPerRun(runs, func() { _, _ = remote.Get(ctx, "1") }), 18.0, "Get from Redis")
	assert.GreaterOrEqual(t, remote.Stats().HitsL2, uint64(runs), "these were no hits")
}
