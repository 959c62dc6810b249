package tier_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// errDB is what a loader returns whose database is down.
var errDB = errors.New("database is down")

// failing is a loader that fails, and counts how often.
func failing(loads *atomic.Int64) func(context.Context) (row, error) {
	return func(context.Context) (row, error) {
		loads.Add(1)
		return row{}, errDB
	}
}

// slow is a loader that takes d to read version.
func slow(key string, version int64, d time.Duration) func(context.Context) (row, error) {
	return func(ctx context.Context) (row, error) {
		select {
		case <-time.After(d):
			return row{Key: key, Version: version}, nil
		case <-ctx.Done():
			return row{}, context.Cause(ctx)
		}
	}
}

// staleOptions are those of most tests here: a minute fresh, an hour usable.
func staleOptions() tier.Options[row] {
	return tier.Options[row]{TTL: time.Minute, StaleFor: time.Hour, Jitter: -1}
}

// aged puts version 1 of key into c and lets its TTL pass.
func aged(t *testing.T, c *tier.Cache[row], key string) {
	t.Helper()
	require.NoError(t, c.Set(t.Context(), key, row{Key: key, Version: 1}, 0))
	synctest.Wait()
	time.Sleep(time.Minute + time.Millisecond)
}

// wantStale asserts that a failing load of key is answered with version.
func wantStale(t *testing.T, c *tier.Cache[row], key string, version int64) {
	t.Helper()
	got, err := c.GetOrSet(t.Context(), key, 0, failing(new(atomic.Int64)))
	require.NoError(t, err)
	require.Equal(t, version, got.Version)
}

// wantError asserts that nothing stands in for a failed load of key, and that
// its function is offered nothing.
func wantError(t *testing.T, c *tier.Cache[row], key string) {
	t.Helper()
	_, err := c.Fetch(t.Context(), key, func(_ context.Context, f *tier.Fill[row]) (row, error) {
		assert.False(t, f.HasStale)
		assert.Zero(t, f.Stale)
		return row{}, errDB
	})
	require.ErrorIs(t, err, errDB)
}

func TestStaleFor_servesWhenTheLoadFails(t *testing.T) {
	inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		mustMiss(t, c, "1")
		require.False(t, c.Exists(t.Context(), "1"))
		_, ok := c.TTL(t.Context(), "1")
		require.False(t, ok)
		item, err := c.Lookup(t.Context(), "1")
		require.NoError(t, err)
		require.EqualValues(t, 1, item.Value.Version)
		assert.True(t, item.Stale)
		assert.Zero(t, item.TTL)
		assert.InDelta(t, time.Minute, item.Age, float64(time.Second))

		served := c.Stats().StaleServed
		wantStale(t, c, "1", 1)
		assert.Equal(t, served+1, c.Stats().StaleServed)
		mustMiss(t, c, "1")

		time.Sleep(time.Hour - 10*time.Millisecond) // a moment before the end
		wantStale(t, c, "1", 1)
		time.Sleep(10 * time.Millisecond)
		wantError(t, c, "1")
		_, err = c.Lookup(t.Context(), "1")
		require.ErrorIs(t, err, tier.ErrNotFound)
	})
}

func TestStaleFor_zeroEndsWithTheTTL(t *testing.T) {
	inBubble(t, tier.Options[row]{TTL: time.Minute, Jitter: -1}, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		wantError(t, c, "1")
		_, err := c.Lookup(t.Context(), "1")
		require.ErrorIs(t, err, tier.ErrNotFound)
	})
}

// After a load has failed the loader rests, whether L1 holds values or not.
func TestStaleFor_failedLoaderRests(t *testing.T) {
	for name, local := range map[string]tier.Local{"L1": {}, "no L1": {Disabled: true}} {
		t.Run(name, func(t *testing.T) {
			opts := staleOptions()
			opts.Local = local
			inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
				aged(t, c, "1")
				var loads atomic.Int64
				for range 10 {
					got, err := c.GetOrSet(t.Context(), "1", 0, failing(&loads))
					require.NoError(t, err)
					require.EqualValues(t, 1, got.Version)
					mustMiss(t, c, "1")
				}
				require.EqualValues(t, 1, loads.Load())
				time.Sleep(time.Second)
				for range 10 {
					_, err := c.GetOrSet(t.Context(), "1", 0, failing(&loads))
					require.NoError(t, err)
				}
				require.EqualValues(t, 2, loads.Load(), "it rests for a second at most")

				time.Sleep(time.Second)
				got, err := c.GetOrSet(t.Context(), "1", 0, slow("1", 2, 0))
				require.NoError(t, err)
				require.EqualValues(t, 2, got.Version)
				require.EqualValues(t, 2, mustGet(t, c, "1"))
			})
		})
	}
}

// A value without anything to stand in for it is asked for at every call: errors
// are never cached.
func TestStaleFor_loaderWithoutAValueDoesNotRest(t *testing.T) {
	inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
		var loads atomic.Int64
		for range 3 {
			_, err := c.GetOrSet(t.Context(), "1", 0, failing(&loads))
			require.ErrorIs(t, err, errDB)
		}
		require.EqualValues(t, 3, loads.Load())
	})
}

// NoStaleFill, rule 6: only age leaves a fallback.
func TestStaleFor_invalidatedIsNoFallback(t *testing.T) {
	changes := map[string]func(*tier.Cache[row], context.Context) error{
		"Delete":       func(c *tier.Cache[row], ctx context.Context) error { return c.Delete(ctx, "k:1") },
		"DeletePrefix": func(c *tier.Cache[row], ctx context.Context) error { _, err := c.DeletePrefix(ctx, "k"); return err },
		"Clear":        func(c *tier.Cache[row], ctx context.Context) error { return c.Clear(ctx) },
		"Update": func(c *tier.Cache[row], ctx context.Context) error {
			_, err := c.Update(ctx, "k:1", 0, func(context.Context) (row, error) { return row{}, errDB })
			if !errors.Is(err, errDB) {
				return fmt.Errorf("Update: %w", err)
			}
			return nil
		},
		"DeleteVersioned": func(c *tier.Cache[row], ctx context.Context) error { return c.DeleteVersioned(ctx, "k:1", 5) },
		"Set -1s":         func(c *tier.Cache[row], ctx context.Context) error { return c.Set(ctx, "k:1", row{}, -time.Second) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
				aged(t, c, "k:1")
				wantStale(t, c, "k:1", 1) // and the loader rests
				require.NoError(t, change(c, t.Context()))
				wantError(t, c, "k:1")
				_, err := c.Lookup(t.Context(), "k:1")
				require.ErrorIs(t, err, tier.ErrNotFound)
			})
			t.Run("during the load", func(t *testing.T) {
				inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
					aged(t, c, "k:1")
					release := make(chan struct{})
					var wg sync.WaitGroup
					wg.Go(func() {
						_, err := c.GetOrSet(context.Background(), "k:1", 0, func(context.Context) (row, error) {
							<-release
							return row{}, errDB
						})
						assert.ErrorIs(t, err, errDB)
					})
					synctest.Wait()
					require.NoError(t, change(c, t.Context()))
					close(release)
					wg.Wait()
				})
			})
			t.Run("by another node", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					bus := invalidation.NewLocal()
					a, b := openInBubble(t, bus), openInBubble(t, bus)
					ca, cb := cache(t, a, staleOptions()), cache(t, b, staleOptions())
					aged(t, ca, "k:1")
					wantStale(t, ca, "k:1", 1)
					require.NoError(t, change(cb, t.Context()))
					synctest.Wait()
					wantError(t, ca, "k:1")
				})
			})
		})
	}
}

// openInBubble opens a node without Redis that the bubble ends.
func openInBubble(t *testing.T, bus invalidation.Bus) *tier.Node {
	t.Helper()
	n, err := tier.Open(t.Context(), tier.Config{Bus: bus})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	return n
}

// Expire: the next read loads, whether the loader rests or not, and the old value
// stands in for as long as it would have lived, with StaleFor or without.
func TestExpire_leavesAFallback(t *testing.T) {
	for name, staleFor := range map[string]time.Duration{"StaleFor": time.Hour, "no StaleFor": 0} {
		t.Run(name, func(t *testing.T) {
			opts := staleOptions()
			opts.StaleFor = staleFor
			inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
				require.NoError(t, c.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
				require.NoError(t, c.Set(t.Context(), "ever", row{Key: "ever", Version: 1}, tier.NoExpiry))
				synctest.Wait()
				var loads atomic.Int64
				for i := range 3 {
					require.NoError(t, c.Expire(t.Context(), "1"))
					mustMiss(t, c, "1")
					require.False(t, c.Exists(t.Context(), "1"))
					item, err := c.Lookup(t.Context(), "1")
					require.NoError(t, err)
					require.True(t, item.Stale)
					require.Zero(t, item.TTL)
					for range 3 {
						got, err := c.GetOrSet(t.Context(), "1", 0, failing(&loads))
						require.NoError(t, err)
						require.EqualValues(t, 1, got.Version)
					}
					require.EqualValues(t, i+1, loads.Load(), "one load an Expire")
				}
				time.Sleep(time.Minute + staleFor)
				wantError(t, c, "1")

				require.NoError(t, c.Expire(t.Context(), "ever"))
				time.Sleep(365 * 24 * time.Hour)
				wantStale(t, c, "ever", 1)
				require.NoError(t, c.Delete(t.Context(), "ever"))
				wantError(t, c, "ever")
			})
		})
	}
	// A fact that there is nothing is asked for again, and nothing stands in.
	inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
		_, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{}, tier.ErrNotFound })
		require.ErrorIs(t, err, tier.ErrNotFound)
		require.NoError(t, c.Expire(t.Context(), "1"))
		wantError(t, c, "1")
	})
}

// A loader's ErrNotFound is a fact and no failure: nothing stands in for it, and
// the old value is gone, whether the fact is remembered or not.
func TestStaleFor_notFoundReplacesTheValue(t *testing.T) {
	for name, negativeTTL := range map[string]time.Duration{"remembered": time.Minute, "not remembered": -1} {
		eachRead(t, func(t *testing.T, read reader) {
			opts := staleOptions()
			opts.NegativeTTL = negativeTTL
			inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
				aged(t, c, "1")
				v, err := read(c, func(context.Context) (row, error) { return row{}, tier.ErrNotFound })
				if err != nil {
					require.ErrorIs(t, err, tier.ErrNotFound, name)
				}
				require.Zero(t, v, name)
				time.Sleep(time.Minute + time.Millisecond)
				wantError(t, c, "1") // a fact past its time is no fallback either
				_, err = c.Lookup(t.Context(), "1")
				require.ErrorIs(t, err, tier.ErrNotFound, name)
			})
		})
	}
}

func TestStaleFor_hungLoaderFallsBackAtLoadTimeout(t *testing.T) {
	opts := staleOptions()
	opts.LoadTimeout = 5 * time.Second
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		hang, begun := make(chan struct{}), time.Now()
		got, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) {
			<-hang
			return row{}, nil
		})
		require.NoError(t, err)
		require.EqualValues(t, 1, got.Version)
		require.Equal(t, 5*time.Second, time.Since(begun))
		close(hang)
	})
}

// A caller that has left is told so, not given an old value.
func TestStaleFor_callersEndIsItsOwn(t *testing.T) {
	inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.GetOrSet(ctx, "1", 0, slow("1", 2, time.Minute))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestStaleFor_panicReachesItsCallerOnly(t *testing.T) {
	inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		release := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			assert.PanicsWithValue(t, "boom", func() {
				_, _ = c.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) {
					<-release
					panic("boom")
				})
			})
		})
		synctest.Wait()
		wg.Go(func() {
			got, err := c.GetOrSet(context.Background(), "1", 0, slow("1", 2, 0))
			assert.NoError(t, err)
			assert.EqualValues(t, 1, got.Version, "who joined gets the old value")
		})
		synctest.Wait()
		close(release)
		wg.Wait()
	})
}

// A mistake in a Fill does not hide behind an old value.
func TestStaleFor_mistakesShow(t *testing.T) {
	inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		_, err := c.Fetch(t.Context(), "1", func(_ context.Context, f *tier.Fill[row]) (row, error) {
			f.TTL = time.Nanosecond
			return row{}, nil
		})
		require.ErrorContains(t, err, "Fill.TTL")
	})
}

func TestSoftTimeout_answersInTimeAndTheLoadGoesOn(t *testing.T) {
	opts := staleOptions()
	opts.SoftTimeout = time.Second
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		var loads atomic.Int64
		load := func(ctx context.Context) (row, error) {
			loads.Add(1)
			return slow("1", 2, 3*time.Second)(ctx)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				begun := time.Now()
				got, err := c.GetOrSet(context.Background(), "1", 0, load)
				assert.NoError(t, err)
				assert.EqualValues(t, 1, got.Version)
				assert.Equal(t, time.Second, time.Since(begun))
			})
		}
		wg.Wait()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 2, mustGet(t, c, "1"), "the load went on and was stored")
		require.EqualValues(t, 1, loads.Load())
	})
}

// A batch is as quick, with one load; also if it has more keys than loads may run in
// the background.
func TestSoftTimeout_batch(t *testing.T) {
	opts := staleOptions()
	opts.SoftTimeout = time.Second
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		var keys []string
		for i := range 300 {
			keys = append(keys, strconv.Itoa(i))
		}
		for _, key := range keys[1:] {
			require.NoError(t, c.Set(t.Context(), key, row{Key: key, Version: 1}, 0))
		}
		aged(t, c, keys[0])
		var loads atomic.Int64
		load := func(ctx context.Context, missing []string) (map[string]row, error) {
			loads.Add(1)
			rows := make(map[string]row)
			for _, key := range missing {
				rows[key] = row{Key: key, Version: 2}
			}
			_, err := slow("", 2, 3*time.Second)(ctx)
			return rows, err
		}
		begun := time.Now()
		got, err := c.GetOrSetMany(t.Context(), keys, 0, load)
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(begun))
		require.Len(t, got, len(keys))
		for _, r := range got {
			require.EqualValues(t, 1, r.Version)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, key := range keys {
			require.EqualValues(t, 2, mustGet(t, c, key), "the load went on and was stored")
		}
		require.EqualValues(t, 1, loads.Load())
	})
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "old")
		got, err := c.GetOrSetMany(t.Context(), []string{"old", "new"}, 0, func(ctx context.Context, missing []string) (map[string]row, error) {
			require.ElementsMatch(t, []string{"old", "new"}, missing)
			r, err := slow("", 2, 3*time.Second)(ctx)
			return map[string]row{"old": r, "new": r}, err
		})
		require.NoError(t, err)
		require.EqualValues(t, 2, got["new"].Version, "there is nothing else to answer with")
	})
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		time.AfterFunc(500*time.Millisecond, func() { assert.NoError(t, c.Delete(context.Background(), "1")) })
		var version atomic.Int64
		version.Store(1)
		got, err := c.GetOrSetMany(t.Context(), []string{"1"}, 0, func(ctx context.Context, _ []string) (map[string]row, error) {
			r, err := slow("1", version.Add(1), 3*time.Second)(ctx)
			return map[string]row{"1": r}, err
		})
		require.NoError(t, err)
		require.EqualValues(t, 3, got["1"].Version, "what was deleted does not answer, nor does a load from before")
	})
}

// The end of a caller's ctx is that, also where SoftTimeout is over just before.
func TestSoftTimeout_batchEndsWithItsContext(t *testing.T) {
	opts := tier.Options[row]{TTL: 20 * time.Millisecond, StaleFor: time.Hour, Jitter: -1, SoftTimeout: 5 * time.Millisecond}
	c := cache(t, open(t, tier.Config{}), opts)
	values := make(map[string]row)
	var keys []string
	for i := range 500 {
		keys = append(keys, strconv.Itoa(i))
		values[keys[i]] = row{Key: keys[i], Version: 1}
	}
	require.NoError(t, c.SetMany(t.Context(), values, 0))
	await(t, "the end of their TTL", soon, func() bool { return len(c.GetMany(t.Context(), keys)) == 0 })
	release := make(chan struct{})
	defer close(release)
	for round := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond+time.Duration(round)*50*time.Microsecond)
		_, err := c.GetOrSetMany(ctx, keys, 0, func(context.Context, []string) (map[string]row, error) {
			<-release
			return nil, errDB
		})
		cancel()
		if err != nil {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	}
}

func TestSoftTimeout_waitsWithoutAnOldValue(t *testing.T) {
	for name, soft := range map[string]time.Duration{"positive": time.Second, "negative": -1} {
		t.Run(name, func(t *testing.T) {
			opts := staleOptions()
			opts.SoftTimeout = soft
			inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
				got, err := c.GetOrSet(t.Context(), "1", 0, slow("1", 2, 3*time.Second))
				require.NoError(t, err)
				require.EqualValues(t, 2, got.Version)
			})
		})
	}
}

// Nor does a value whose last time ends while a caller waits.
func TestSoftTimeout_valueEndsMeanwhile(t *testing.T) {
	opts := staleOptions()
	opts.SoftTimeout = 2 * time.Second
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		time.Sleep(time.Hour - time.Second)
		require.EqualValues(t, 2, fetchVersion(t, c, "1", slow("1", 2, 3*time.Second)))
	})
}

// What was deleted while a caller waited does not answer when its time is up.
func TestSoftTimeout_deletedMeanwhileDoesNotAnswer(t *testing.T) {
	opts := staleOptions()
	opts.SoftTimeout = time.Second
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		begun := time.Now()
		time.AfterFunc(500*time.Millisecond, func() { assert.NoError(t, c.Delete(context.Background(), "1")) })
		got, err := c.GetOrSet(t.Context(), "1", 0, slow("1", 2, 3*time.Second))
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Version)
		require.GreaterOrEqual(t, time.Since(begun), 3*time.Second)
		time.Sleep(time.Minute) // the load that was left ends
	})
}

func TestSoftTimeout_negativeAnswersAtOnce(t *testing.T) {
	opts := staleOptions()
	opts.SoftTimeout = -1
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		var loads atomic.Int64
		load := func(ctx context.Context) (row, error) {
			loads.Add(1)
			return slow("1", 2, 500*time.Millisecond)(ctx)
		}
		begun := time.Now()
		for range 100 {
			got, err := c.GetOrSet(t.Context(), "1", 0, load)
			require.NoError(t, err)
			require.EqualValues(t, 1, got.Version)
		}
		require.Zero(t, time.Since(begun))
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		require.EqualValues(t, 1, loads.Load())
		require.EqualValues(t, 2, mustGet(t, c, "1"))

		// A loader that fails in the background rests like any other.
		time.Sleep(time.Minute)
		for range 100 {
			got, err := c.GetOrSet(t.Context(), "1", 0, failing(&loads))
			require.NoError(t, err)
			require.EqualValues(t, 2, got.Version)
			synctest.Wait()
		}
		require.EqualValues(t, 2, loads.Load())
	})
}
