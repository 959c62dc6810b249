package tier

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l2"
)

// OrderedUpdate: the placeholder of a process that died ends in its time, although
// others go on updating the key.
func TestOrderedUpdate_orphanEndsBesideOtherUpdates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), Config{})
		require.NoError(t, err)
		defer func() { require.NoError(t, n.Close()) }()
		c, err := New(n, "c", Options[int]{})
		require.NoError(t, err)
		_, err = n.store.Begin(t.Context(), c.redisKey("1"), l2.NewToken(), bracketTime, nil)
		require.NoError(t, err)
		begun := time.Now()
		for i := range 4 {
			time.Sleep(bracketTime * 2 / 5)
			_, err := c.Update(t.Context(), "1", 0, func(context.Context) (int, error) { return i, nil })
			require.NoError(t, err)
			v, ok := c.Get(t.Context(), "1")
			if ok {
				assert.Equal(t, i, v)
			}
			assert.Equal(t, time.Since(begun) >= bracketTime, ok, "after %v", time.Since(begun))
		}
	})
}
