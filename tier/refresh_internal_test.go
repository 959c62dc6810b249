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
// and one of them loads. Each of them is one read all the same.
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
		load := func(context.Context) (int, error) {
			time.Sleep(time.Second)
			return 7, nil
		}
		for range 5 {
			wg.Go(func() {
				v, err := c.GetOrSet(context.Background(), "1", 0, load)
				assert.NoError(t, err)
				assert.Equal(t, 7, v)
			})
			wg.Go(func() {
				v, err := c.GetOrSetMany(context.Background(), []string{"1"}, 0, func(ctx context.Context, _ []string) (map[string]int, error) {
					v, err := load(ctx)
					return map[string]int{"1": v}, err
				})
				assert.NoError(t, err)
				assert.Equal(t, map[string]int{"1": 7}, v)
			})
		}
		synctest.Wait()
		require.Zero(t, c.Stats().Loads, "void: they did not join")
		close(release)
		wg.Wait()
		st := c.Stats()
		require.EqualValues(t, 1, st.Loads)
		require.EqualValues(t, 10, st.HitsL1+st.HitsL2+st.Misses)
	})
}

// A reader that found the old value in L2 before a refresh changed it, and is
// slow, does not put it over the new one.
func TestRefresh_slowReaderKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), Config{})
		require.NoError(t, err)
		defer func() { require.NoError(t, n.Close()) }()
		c, err := New(n, "row", Options[int]{TTL: 100 * time.Second, RefreshAt: 0.5, Jitter: -1})
		require.NoError(t, err)
		value := 0
		load := func(context.Context) (int, error) { value++; return value, nil }
		_, err = c.GetOrSet(t.Context(), "1", 0, load)
		require.NoError(t, err)
		time.Sleep(60 * time.Second)

		h := c.hash("1")
		st := c.fence.Stamp(h)
		slow := c.lookOnce(t.Context(), "1", c.budget(), nil)
		require.Equal(t, 1, slow.entry.Value)
		v, err := c.GetOrSet(t.Context(), "1", 0, load)
		require.NoError(t, err)
		require.Equal(t, 1, v)
		synctest.Wait()
		c.keep(h, slow.entry, slow.bytes, st)
		synctest.Wait()
		v, ok := c.Get(t.Context(), "1")
		require.True(t, ok)
		require.Equal(t, 2, v)
	})
}

// What was invalidated after the look, under the lease, is not offered to the
// loader.
func TestFilling_previousIsNotInvalidated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(t.Context(), Config{})
		require.NoError(t, err)
		defer func() { require.NoError(t, n.Close()) }()
		c, err := New(n, "row", Options[int]{StaleFor: time.Hour})
		require.NoError(t, err)
		for name, change := range map[string]func(){
			"key":    func() { c.invalidate("k:1") },
			"prefix": func() { c.invalidatePrefix("k") },
			"clear":  func() { c.fence.Void() },
		} {
			require.NoError(t, c.Set(t.Context(), "k:1", 1, time.Minute))
			time.Sleep(2 * time.Minute)
			f := filling[int]{c: c, request: request[int]{key: "k:1", hash: c.hash("k:1")}}
			f.r, err = c.lookFor(t.Context(), f.request, c.budget(), nil)
			require.NoError(t, err)
			require.Equal(t, 1, f.previous().Value, name)
			change()
			require.Nil(t, f.previous(), name)
		}
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
