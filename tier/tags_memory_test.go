package tier_test

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// Tags are remembered for longer than values are. One that is a part of the key must
// not keep the value that it was made for.
func TestTags_madeOfTheKeyDoNotKeepTheValue(t *testing.T) {
	t.Parallel()
	type doc struct{ Text string }
	n, err := tier.Open(t.Context(), tier.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, n.Close()) })
	var tags []string
	c, err := tier.New(n, "docs", tier.Options[*doc]{Tags: func(key string, _ *doc) []string {
		org, _, _ := strings.Cut(key, ":")
		tags = append(tags, org)
		return []string{org}
	}})
	require.NoError(t, err)

	var freed atomic.Bool
	func() {
		_, err := c.GetOrSet(t.Context(), "org7:doc1", 0, func(context.Context) (*doc, error) {
			d := &doc{"text"}
			runtime.AddCleanup(d, func(b *atomic.Bool) { b.Store(true) }, &freed)
			return d, nil
		})
		require.NoError(t, err)
	}()
	require.NoError(t, n.Close())
	require.Eventually(t, func() bool { runtime.GC(); return freed.Load() }, 20*time.Second, time.Millisecond)
	assert.Contains(t, tags, "org7")
}
