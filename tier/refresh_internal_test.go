package tier

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l1"
)

// Callers that joined a background load which found nothing to do begin anew,
// and one of them loads.
func TestGetOrSet_joinedLoadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), Config{})
		require.NoError(t, err)
		defer func() { require.NoError(t, n.Close()) }()
		c, err := New(n, "row", Options[int]{})
		require.NoError(t, err)
		release := make(chan struct{})
		require.True(t, c.flights.Background(t.Context(), "1", nil, func(context.Context) (*l1.Entry[int], error) {
			<-release
			return nil, errDropped
		}))
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				v, err := c.GetOrSet(context.Background(), "1", 0, func(context.Context) (int, error) {
					time.Sleep(time.Second)
					return 7, nil
				})
				assert.NoError(t, err)
				assert.Equal(t, 7, v)
			})
		}
		synctest.Wait()
		require.Zero(t, c.Stats().Loads, "void: they did not join")
		close(release)
		wg.Wait()
		require.EqualValues(t, 1, c.Stats().Loads)
	})
}

func TestPauses(t *testing.T) {
	const ms = int64(time.Millisecond)
	var p pauses
	record := uint64(0xabcdef0123456789)
	require.False(t, p.on(record, 0))
	p.begin(record, 5*ms, 10*time.Millisecond)
	require.True(t, p.on(record, 5*ms))
	require.True(t, p.on(record, 15*ms-1))
	require.False(t, p.on(record, 15*ms))
	require.False(t, p.claim(record, 14*ms, time.Second))
	require.True(t, p.claim(record, 15*ms, time.Second))
	require.False(t, p.claim(record, 15*ms, time.Second))

	other := record ^ 1<<63 // the same slot
	require.False(t, p.on(other, 16*ms))
	require.True(t, p.claim(other, 16*ms, time.Second))
	require.False(t, p.on(record, 16*ms), "the place is taken")

	p.begin(0, 1, time.Nanosecond)
	require.True(t, p.on(0, 2), "rounded up")
	require.False(t, p.on(0, ms))
}

func TestPauseOf_isShorterThanTheTTL(t *testing.T) {
	for ttl, most := range map[time.Duration]time.Duration{
		NoExpiry: time.Second, time.Hour: time.Second, 100 * time.Millisecond: 100 * time.Millisecond,
	} {
		for range 100 {
			d := pauseOf(ttl)
			require.LessOrEqual(t, d, most)
			require.GreaterOrEqual(t, d, most/2)
		}
	}
}
