package tier

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

// The ring holds what came last, in order, however it has grown and shrunk; and
// what is settled is what was entered under that number.
func TestRing_keepsWhatCameLast(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Now()
	limit := 500
	r := newRing(limit)
	var all []string // entered
	largest := 0
	for range 4000 {
		quiet := rng.IntN(400) == 0
		if quiet {
			now = now.Add(2 * ringSpan) // all but the next are too old
		}
		name := fmt.Sprint(len(all))
		number := r.enter(ringItem{kind: invalidation.KindKeys, cache: "c", names: []string{name}}, now)
		all = append(all, name)
		require.Equal(t, name, r.itemLocked(number).names[0])
		largest = max(largest, len(r.slots))
		now = now.Add(time.Millisecond)
		r.settle(number, true, now)

		items, _ := r.since(time.Time{})
		require.LessOrEqual(t, len(items), limit)
		if quiet {
			require.Len(t, items, 1)
		}
		for i, item := range items {
			require.Equal(t, all[len(all)-len(items)+i], item.names[0])
		}
		require.Equal(t, len(items), r.keys)
	}
	assert.Equal(t, 512, largest, "no more than the limit needs")
	for range 20 {
		now = now.Add(2 * ringSpan)
		r.settle(r.enter(ringItem{names: []string{"x"}}, now), true, now)
	}
	assert.Equal(t, ringSlots, len(r.slots), "what it does not need it gives back")
}
