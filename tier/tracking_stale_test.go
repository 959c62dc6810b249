package tier_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// A load's own lease, which Redis announces as a change of the record, takes
// neither its previous value from the function nor its fallback from callers.
func TestTracking_ownLeasesLeaveThePreviousValue(t *testing.T) {
	t.Parallel()
	eachTracked(t, func(t *testing.T, cfg tier.Config, s outsider) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{
			TTL: 50 * time.Millisecond, Jitter: -1, StaleFor: time.Hour, SoftTimeout: 300 * time.Millisecond,
		})
		// announced waits until what the load does has come back as changes.
		announced := func() {
			before := n.Stats().Tracking.Changes
			s.do("SET", "test:row:other", "x")
			await(t, "announcements", soon, func() bool { return n.Stats().Tracking.Changes > before })
		}
		stale := func(key string) {
			require.NoError(t, c.Set(t.Context(), key, row{Key: key, Version: 1}, 0))
			await(t, "the end of its TTL", soon, func() bool { _, ok := c.Get(t.Context(), key); return !ok })
		}
		t.Run("of the function", func(t *testing.T) {
			for i := range 20 {
				key := "f" + strconv.Itoa(i)
				stale(key)
				v, err := c.Fetch(t.Context(), key, func(_ context.Context, f *tier.Fill[row]) (row, error) {
					assert.True(t, f.HasStale)
					announced()
					f.NotModified = true
					return row{}, nil
				})
				require.NoError(t, err)
				assert.EqualValues(t, 1, v.Version)
			}
		})
		t.Run("of callers who do not wait", func(t *testing.T) {
			stale("c")
			release := make(chan struct{})
			v, err := c.GetOrSet(t.Context(), "c", 0, func(context.Context) (row, error) {
				announced()
				<-release
				return row{Key: "c", Version: 2}, nil
			})
			require.NoError(t, err)
			assert.EqualValues(t, 1, v.Version)
			close(release)
		})
		// What a stranger has deleted is no fallback any more.
		t.Run("but not after a stranger's change", func(t *testing.T) {
			stale("d")
			v, err := c.GetOrSet(t.Context(), "d", 0, func(ctx context.Context) (row, error) {
				s.do("DEL", "test:row:d")
				announced()
				select {
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
				return row{Key: "d", Version: 2}, nil
			})
			require.NoError(t, err)
			assert.EqualValues(t, 2, v.Version, "waited for")
		})
		t.Run("of loads that fail", func(t *testing.T) {
			stale("e")
			v, err := c.GetOrSet(t.Context(), "e", 0, func(context.Context) (row, error) {
				announced()
				return row{}, errDB
			})
			require.NoError(t, err)
			assert.EqualValues(t, 1, v.Version)
		})
	})
}
