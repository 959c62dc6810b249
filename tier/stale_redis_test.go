package tier_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// pttl returns what Redis says about the time to live of a row: milliseconds,
// -1 without end, -2 if it is not there.
func pttl(srv *redistest.Server, key string) int64 {
	return srv.Do("PTTL", "tandem:row:"+key).(int64)
}

// patient is for tests of what Redis answers: on a busy machine an answer takes longer
// than Timeout, and what follows from none is right, but not what they ask for. Strict
// shows it where it happens.
func patient(srv *redistest.Server) tier.Config {
	return tier.Config{URL: srv.URL(), Timeout: 10 * time.Second, Strict: true}
}

// setAged stores version 1 of key and waits until its TTL is over.
func setAged(t *testing.T, c *tier.Cache[row], key string, ttl time.Duration) {
	t.Helper()
	require.NoError(t, c.Set(t.Context(), key, row{Key: key, Version: 1}, ttl))
	await(t, "the end of the TTL", 10*time.Second, func() bool { return !c.Exists(t.Context(), key) })
}

// Redis keeps a record for as long as it is of any use.
func TestStaleFor_timeInRedis(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	const second = float64(time.Second / time.Millisecond)
	c := cache(t, n, tier.Options[row]{StaleFor: time.Hour, NegativeTTL: time.Minute, Jitter: -1})
	require.NoError(t, c.Set(t.Context(), "1", row{}, time.Minute))
	assert.InDelta(t, time.Hour.Milliseconds()+time.Minute.Milliseconds(), pttl(srv, "1"), 10*second)
	_, err := c.GetOrSet(t.Context(), "2", time.Minute, newDatabase().loader("2"))
	require.NoError(t, err)
	assert.InDelta(t, time.Hour.Milliseconds()+time.Minute.Milliseconds(), pttl(srv, "2"), 10*second)
	require.NoError(t, c.Set(t.Context(), "3", row{}, tier.NoExpiry))
	assert.EqualValues(t, -1, pttl(srv, "3"))
	_, err = c.GetOrSet(t.Context(), "4", 0, func(context.Context) (row, error) { return row{}, tier.ErrNotFound })
	require.ErrorIs(t, err, tier.ErrNotFound)
	assert.InDelta(t, time.Minute.Milliseconds(), pttl(srv, "4"), 10*second)

	without, err := tier.New(n, "without", tier.Options[row]{Jitter: -1})
	require.NoError(t, err)
	require.NoError(t, without.Set(t.Context(), "1", row{}, time.Minute))
	assert.InDelta(t, time.Minute.Milliseconds(), srv.Do("PTTL", "tandem:without:1"), 10*second)
}

// A value that was deleted while its load ran is no fallback, although no
// message says so: L2 is asked once more.
func TestStaleFor_deletedByAStrangerDuringTheLoad(t *testing.T) {
	srv := redistest.Start(t)
	c := cache(t, open(t, patient(srv)), tier.Options[row]{StaleFor: time.Hour})
	setAged(t, c, "1", 50*time.Millisecond)
	_, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) {
		srv.Do("DEL", "tandem:row:1")
		return row{}, errDB
	})
	require.ErrorIs(t, err, errDB)
}

// A value that another node has loaded meanwhile is better than an old one.
func TestStaleFor_anotherNodesLoadSucceeds(t *testing.T) {
	srv := redistest.Start(t)
	a := cache(t, open(t, patient(srv)), tier.Options[row]{StaleFor: time.Hour})
	b := cache(t, open(t, patient(srv)), tier.Options[row]{StaleFor: time.Hour})
	setAged(t, a, "1", 50*time.Millisecond)
	before := a.Stats()
	got, err := a.GetOrSet(t.Context(), "1", 0, func(ctx context.Context) (row, error) {
		assert.NoError(t, b.Set(ctx, "1", row{Key: "1", Version: 2}, 0))
		return row{}, errDB
	})
	require.NoError(t, err)
	require.EqualValues(t, 2, got.Version)
	assert.EqualValues(t, 1, reads(a.Stats())-reads(before), "a miss, and not a hit as well")
}

// While the loader rests, and while a background load is under way, the value in
// L1 answers without a round trip.
func TestStaleFor_restingCostsNoRoundTrip(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		soft time.Duration
		load func(context.Context) (row, error)
	}{
		"failed":     {0, failing(new(atomic.Int64))},
		"background": {-1, func(ctx context.Context) (row, error) { <-ctx.Done(); return row{}, ctx.Err() }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			srv := redistest.Start(t)
			c := cache(t, open(t, tier.Config{URL: srv.URL(), Heartbeat: time.Minute}), tier.Options[row]{StaleFor: time.Hour, SoftTimeout: tc.soft})
			setAged(t, c, "1", time.Second)
			before := c.Stats()
			var asked int64
			for range 2 { // the first begins the rest
				asked = srv.Calls("getrange")
				for range 200 {
					got, err := c.GetOrSet(t.Context(), "1", 0, tc.load)
					require.NoError(t, err)
					require.EqualValues(t, 1, got.Version)
				}
			}
			assert.Less(t, srv.Calls("getrange")-asked, int64(20), "of 200 reads")
			assert.EqualValues(t, 400, c.Stats().StaleServed-before.StaleServed)
			assert.Less(t, c.Stats().Loads-before.Loads, uint64(5))
		})
	}
}

// FailOpen: without Redis, a value past its TTL serves after the loader has
// failed and not before, whatever SoftTimeout says. What was loaded cannot be
// stored, so that nobody would ever get it.
func TestStaleFor_withoutRedis(t *testing.T) {
	for name, soft := range map[string]time.Duration{"wait": 0, "soft": time.Millisecond, "at once": -1} {
		t.Run(name, func(t *testing.T) {
			srv := redistest.Start(t)
			n := open(t, tier.Config{URL: srv.URL()})
			c := cache(t, n, tier.Options[row]{StaleFor: time.Hour, SoftTimeout: soft})
			setAged(t, c, "1", 50*time.Millisecond)
			srv.Stop()
			openBreaker(t, n, c)
			mustMiss(t, c, "1")
			_, err := c.Lookup(t.Context(), "1")
			require.ErrorIs(t, err, tier.ErrUnavailable)
			for version := int64(2); version < 4; version++ {
				require.EqualValues(t, version, fetchVersion(t, c, "1", slow("1", version, 20*time.Millisecond)))
			}
			wantStale(t, c, "1", 1)
			mustMiss(t, c, "1")

			// NothingForgotten: what was deleted here is no fallback.
			require.NoError(t, c.Delete(t.Context(), "1"))
			wantError(t, c, "1")
		})
	}
}

// A fallback that this node cannot know to be deleted serves for as long as
// messages may be late: not when they were heard.
func TestStaleFor_deletedOnAnotherNode(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{StaleFor: time.Hour})
	b := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{StaleFor: time.Hour})
	setAged(t, a, "1", time.Second)
	wantStale(t, a, "1", 1) // it is in L1, and the loader rests
	require.NoError(t, b.Delete(t.Context(), "1"))
	await(t, "the message", 5*time.Second, func() bool {
		_, err := a.GetOrSet(t.Context(), "1", 0, failing(new(atomic.Int64)))
		return err != nil
	})
	wantError(t, a, "1")
}

// OneLoad: a node that finds another at the load of a value past its TTL does
// not wait for it in the background.
func TestSoftTimeout_backgroundDoesNotWaitForAnotherNode(t *testing.T) {
	srv := redistest.Start(t)
	na, nb := open(t, tier.Config{URL: srv.URL()}), open(t, tier.Config{URL: srv.URL()})
	a := cache(t, na, tier.Options[row]{StaleFor: time.Hour})
	b := cache(t, nb, tier.Options[row]{StaleFor: time.Hour, SoftTimeout: -1})
	setAged(t, a, "1", 50*time.Millisecond)
	read, release := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		_, err := a.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) {
			close(read)
			<-release
			return row{Key: "1", Version: 2}, nil
		})
		done <- err
	}()
	<-read
	for range 10 {
		require.EqualValues(t, 1, fetchVersion(t, b, "1", slow("1", 3, 0)))
	}
	await(t, "the background load to give up", 5*time.Second, func() bool { return nb.Stats().Background.Running == 0 })
	require.Zero(t, b.Stats().Loads)
	close(release)
	require.NoError(t, <-done)
	await(t, "the value of the other node", 5*time.Second, func() bool {
		return fetchVersion(t, b, "1", failing(new(atomic.Int64))) == 2
	})
	require.Zero(t, b.Stats().Loads)
}

// The lease of a load that came to nothing is given back, whatever the reason:
// the other node need not wait for its end.
func TestStaleFor_leaseIsGivenBack(t *testing.T) {
	srv := redistest.Start(t)
	c := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{StaleFor: time.Hour})
	_, err := c.Fetch(t.Context(), "1", func(_ context.Context, f *tier.Fill[row]) (row, error) {
		f.TTL, f.Version = 50*time.Millisecond, 5
		return row{Key: "1", Version: 1}, nil
	})
	require.NoError(t, err)
	await(t, "the end of the TTL", 10*time.Second, func() bool { return !c.Exists(t.Context(), "1") })
	free := func() bool {
		head := srv.Do("GETRANGE", "tandem:row:1", 22, 37).(string)
		return head == strings.Repeat("\x00", 16)
	}
	for name, load := range map[string]func(context.Context, *tier.Fill[row]) (row, error){
		"error":       func(context.Context, *tier.Fill[row]) (row, error) { return row{}, errDB },
		"NoStore":     func(_ context.Context, f *tier.Fill[row]) (row, error) { f.NoStore = true; return row{}, nil },
		"TTL -2":      func(_ context.Context, f *tier.Fill[row]) (row, error) { f.TTL = -2; return row{}, nil },
		"a bad TTL":   func(_ context.Context, f *tier.Fill[row]) (row, error) { f.TTL = 1; return row{}, nil },
		"old version": func(_ context.Context, f *tier.Fill[row]) (row, error) { f.Version = 4; return row{}, nil },
	} {
		held := false
		await(t, "a load for "+name, 10*time.Second, func() bool { // the loader rests after an error
			_, _ = c.Fetch(t.Context(), "1", func(ctx context.Context, f *tier.Fill[row]) (row, error) {
				held = !free()
				return load(ctx, f)
			})
			return held
		})
		assert.True(t, free(), name)
	}
	assert.EqualValues(t, 1, c.Stats().FillsRefused, "the old version")
	wantStale(t, c, "1", 1)
}
