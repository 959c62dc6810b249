package tier_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// What stands in Redis beside the records is a handful, however many nodes, keys and
// tags there were: a version for each cache, sixteen books of tags, and the fleet.
func TestNode_leavesAHandfulOfMarkers(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	db := newDatabase()
	for node := range 3 {
		n := open(t, tier.Config{URL: srv.URL()})
		c := cache(t, n, tier.Options[row]{})
		for i := range 50 {
			k := fmt.Sprintf("%d:%d", node, i)
			require.NoError(t, c.Set(t.Context(), k, db.write(k), 0, "tag"+k))
			_, err := c.Update(t.Context(), k, 0, db.commit(k))
			require.NoError(t, err)
			require.NoError(t, n.InvalidateTags(t.Context(), "tag"+k))
			require.NoError(t, c.Expire(t.Context(), k))
			_, err = c.GetOrSet(t.Context(), k, 0, db.loader(k))
			require.NoError(t, err)
			require.NoError(t, c.Delete(t.Context(), k))
		}
		require.NoError(t, c.Clear(t.Context()))
		_, err := c.DeletePrefix(t.Context(), "")
		require.NoError(t, err)
		require.NoError(t, n.Close())
	}
	keys, ok := srv.Do("keys", "*").([]any)
	require.True(t, ok)
	for _, key := range keys {
		assert.True(t, strings.HasPrefix(key.(string), "tandem:!"), "%v is left of what was deleted", key)
	}
	assert.LessOrEqual(t, len(keys), 1+16+1)
}
