package tier_test

import (
	"context"
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

// refreshOptions refresh from 80 s of 100 s on.
func refreshOptions() tier.Options[row] {
	return tier.Options[row]{TTL: 100 * time.Second, RefreshAt: 0.8, Jitter: -1}
}

// fetchVersion reads key by GetOrSet and returns the version that it got.
func fetchVersion(t *testing.T, c *tier.Cache[row], key string, load func(context.Context) (row, error)) int64 {
	t.Helper()
	got, err := c.GetOrSet(t.Context(), key, 0, load)
	require.NoError(t, err)
	require.Equal(t, key, got.Key)
	return got.Version
}

func TestRefreshAt_oneLoadInTheBackground(t *testing.T) {
	for name, local := range map[string]tier.Local{"L1": {}, "no L1": {Disabled: true}, "short L1": {TTL: time.Second}} {
		t.Run(name, func(t *testing.T) {
			opts := refreshOptions()
			opts.Local = local
			inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
				var loads atomic.Int64
				load := func(ctx context.Context) (row, error) {
					n := loads.Add(1)
					return slow("1", n, 200*time.Millisecond)(ctx)
				}
				require.EqualValues(t, 1, fetchVersion(t, c, "1", load))
				time.Sleep(80*time.Second - 10*time.Millisecond)
				require.EqualValues(t, 1, fetchVersion(t, c, "1", load))
				synctest.Wait()
				require.EqualValues(t, 1, loads.Load(), "before its time")

				time.Sleep(20 * time.Millisecond)
				require.EqualValues(t, 1, mustGet(t, c, "1"), "Get has no loader to refresh with")
				begun := time.Now()
				for range 100 {
					require.EqualValues(t, 1, fetchVersion(t, c, "1", load))
				}
				require.Zero(t, time.Since(begun), "nobody waits")
				time.Sleep(200 * time.Millisecond)
				synctest.Wait()
				require.EqualValues(t, 2, loads.Load())
				require.EqualValues(t, 2, fetchVersion(t, c, "1", load))
				ttl, ok := c.TTL(t.Context(), "1")
				require.True(t, ok)
				require.InDelta(t, 100*time.Second, ttl, float64(time.Second))
			})
		})
	}
}

// A refresh that fails leaves the value, and the loader rests in between.
func TestRefreshAt_failureLeavesTheValue(t *testing.T) {
	inBubble(t, refreshOptions(), func(t *testing.T, c *tier.Cache[row]) {
		require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
		time.Sleep(81 * time.Second)
		var loads atomic.Int64
		for range 100 { // 10 s
			require.EqualValues(t, 1, fetchVersion(t, c, "1", failing(&loads)))
			time.Sleep(100 * time.Millisecond)
		}
		require.GreaterOrEqual(t, loads.Load(), int64(8), "void: it was not tried again")
		require.LessOrEqual(t, loads.Load(), int64(22), "half a second of rest at least")
		time.Sleep(10 * time.Second)
		wantError(t, c, "1")
	})
}

// NoStaleFill: a background load is bound by its lease like any other.
func TestRefreshAt_droppedWhenTheValueChanges(t *testing.T) {
	changes := map[string]func(*tier.Cache[row]) error{
		"Delete": func(c *tier.Cache[row]) error { return c.Delete(context.Background(), "1") },
		"Clear":  func(c *tier.Cache[row]) error { return c.Clear(context.Background()) },
		"Set": func(c *tier.Cache[row]) error {
			return c.Set(context.Background(), "1", row{Key: "1", Version: 9}, 0)
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inBubble(t, refreshOptions(), func(t *testing.T, c *tier.Cache[row]) {
				require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
				time.Sleep(81 * time.Second)
				require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 2, time.Second)))
				synctest.Wait()
				require.NoError(t, change(c))
				time.Sleep(2 * time.Second)
				synctest.Wait()
				require.EqualValues(t, 2, c.Stats().Loads, "void: no refresh")
				require.EqualValues(t, 1, c.Stats().FillsRefused)
				if name == "Set" {
					require.EqualValues(t, 9, mustGet(t, c, "1"))
				} else {
					mustMiss(t, c, "1")
				}
			})
		})
	}
}

// A refresh that finds that there is nothing says so to everybody.
func TestRefreshAt_findsThatThereIsNothing(t *testing.T) {
	for name, negativeTTL := range map[string]time.Duration{"remembered": time.Minute, "not remembered": -1} {
		t.Run(name, func(t *testing.T) {
			opts := refreshOptions()
			opts.NegativeTTL = negativeTTL
			inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
				require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
				time.Sleep(81 * time.Second)
				require.EqualValues(t, 1, fetchVersion(t, c, "1", func(context.Context) (row, error) { return row{}, tier.ErrNotFound }))
				synctest.Wait()
				time.Sleep(2 * time.Millisecond)
				mustMiss(t, c, "1")
			})
		})
	}
}

func TestMaxBackground_boundsAndSkips(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := tier.Open(t.Context(), tier.Config{MaxBackground: 2})
		require.NoError(t, err)
		defer func() { require.NoError(t, n.Close()) }()
		c := cache(t, n, refreshOptions())
		keys := []string{"1", "2", "3", "4", "5"}
		for _, key := range keys {
			require.EqualValues(t, 1, fetchVersion(t, c, key, slow(key, 1, 0)))
		}
		time.Sleep(81 * time.Second)
		for _, key := range keys {
			require.EqualValues(t, 1, fetchVersion(t, c, key, slow(key, 2, time.Second)))
		}
		synctest.Wait()
		stats := n.Stats().Background
		require.Equal(t, 2, stats.Running)
		require.EqualValues(t, 3, stats.Skipped)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Zero(t, n.Stats().Background.Running)
		refreshed := 0
		for _, key := range keys {
			refreshed += int(mustGet(t, c, key)) - 1
		}
		require.Equal(t, 2, refreshed)

		// What was skipped is tried again by later reads.
		time.Sleep(time.Second)
		for range 3 {
			for _, key := range keys {
				fetchVersion(t, c, key, slow(key, 2, 10*time.Millisecond))
			}
			time.Sleep(time.Second)
		}
		for _, key := range keys {
			require.EqualValues(t, 2, mustGet(t, c, key))
		}
	})
}

// Close ends what runs in the background; the bubble fails if it does not.
func TestNode_Close_endsBackgroundLoads(t *testing.T) {
	opts := refreshOptions()
	opts.StaleFor, opts.SoftTimeout = time.Hour, time.Second
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		require.EqualValues(t, 1, fetchVersion(t, c, "refresh", slow("refresh", 1, 0)))
		time.Sleep(81 * time.Second)
		require.NoError(t, c.Set(t.Context(), "soft", row{Key: "soft", Version: 1}, time.Millisecond))
		time.Sleep(2 * time.Millisecond)
		require.EqualValues(t, 1, fetchVersion(t, c, "refresh", slow("refresh", 2, time.Hour)))
		require.EqualValues(t, 1, fetchVersion(t, c, "soft", slow("soft", 2, time.Hour)))
		synctest.Wait()
		require.EqualValues(t, 3, c.Stats().Loads)
	})
}

// A refresh tells the other nodes only of a value that is another.
func TestRefreshAt_tellsTheOthersWhatChanged(t *testing.T) {
	for name, version := range map[string]int64{"same": 1, "changed": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := invalidation.NewLocal()
				na, nb := openInBubble(t, bus), openInBubble(t, bus)
				a, b := cache(t, na, refreshOptions()), cache(t, nb, refreshOptions())
				require.EqualValues(t, 1, fetchVersion(t, a, "1", slow("1", 1, 0)))
				require.EqualValues(t, 1, fetchVersion(t, b, "1", slow("1", 1, 0)))
				time.Sleep(81 * time.Second)
				before := nb.Stats().Bus.Received
				require.EqualValues(t, 1, fetchVersion(t, a, "1", slow("1", version, 0)))
				synctest.Wait()
				require.EqualValues(t, version, mustGet(t, a, "1"))
				require.EqualValues(t, 2, a.Stats().Loads, "void: no refresh")
				if version == 1 {
					require.EqualValues(t, 1, mustGet(t, b, "1"))
					require.Equal(t, before, nb.Stats().Bus.Received)
				} else {
					mustMiss(t, b, "1")
					require.Equal(t, before+1, nb.Stats().Bus.Received)
				}
			})
		})
	}
}

func TestFetch_notModifiedKeepsTheValue(t *testing.T) {
	unchanged := func(loads *atomic.Int64) func(context.Context, *tier.Fill[row]) (row, error) {
		return func(_ context.Context, f *tier.Fill[row]) (row, error) {
			loads.Add(1)
			assert.True(t, f.HasStale)
			assert.EqualValues(t, 1, f.Stale.Version)
			f.NotModified = true
			return row{}, nil
		}
	}
	inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		var loads atomic.Int64
		for range 10 {
			got, err := c.Fetch(t.Context(), "1", unchanged(&loads))
			require.NoError(t, err)
			require.Equal(t, row{Key: "1", Version: 1}, got)
		}
		require.EqualValues(t, 1, loads.Load())
		ttl, ok := c.TTL(t.Context(), "1")
		require.True(t, ok)
		require.InDelta(t, time.Minute, ttl, float64(time.Second))
		time.Sleep(time.Minute)
		item, err := c.Lookup(t.Context(), "1")
		require.NoError(t, err)
		require.True(t, item.Stale)
		require.InDelta(t, time.Minute, item.Age, float64(time.Second))
	})
	// In a refresh it is a new life for what is still fresh.
	inBubble(t, refreshOptions(), func(t *testing.T, c *tier.Cache[row]) {
		require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
		var loads atomic.Int64
		for range 5 {
			time.Sleep(90 * time.Second)
			got, err := c.Fetch(t.Context(), "1", unchanged(&loads))
			require.NoError(t, err)
			require.Equal(t, row{Key: "1", Version: 1}, got)
			synctest.Wait()
		}
		require.EqualValues(t, 5, loads.Load())
	})
}

// With Clone what a function is offered is its own.
func TestFetch_staleIsACopyWithClone(t *testing.T) {
	opts := staleOptions()
	copies := 0
	opts.Clone = func(r row) row { copies++; return r }
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		before := copies
		_, err := c.Fetch(t.Context(), "1", func(_ context.Context, f *tier.Fill[row]) (row, error) {
			assert.Equal(t, before+1, copies)
			return row{Key: "1", Version: 2}, nil
		})
		require.NoError(t, err)
	})
}

// NoStore and a ttl that keeps nothing leave what was there as it was.
func TestFetch_noStoreLeavesWhatWasThere(t *testing.T) {
	decisions := map[string]func(*tier.Fill[row]){
		"NoStore":  func(f *tier.Fill[row]) { f.NoStore = true },
		"TTL -1ns": func(f *tier.Fill[row]) { f.TTL = -2 },
	}
	for name, decide := range decisions {
		t.Run(name, func(t *testing.T) {
			inBubble(t, staleOptions(), func(t *testing.T, c *tier.Cache[row]) {
				aged(t, c, "1")
				for range 3 {
					got, err := c.Fetch(t.Context(), "1", func(_ context.Context, f *tier.Fill[row]) (row, error) {
						decide(f)
						return row{Key: "1", Version: 2}, nil
					})
					require.NoError(t, err)
					require.EqualValues(t, 2, got.Version)
				}
				require.EqualValues(t, 3, c.Stats().Loads)
				wantStale(t, c, "1", 1)
			})
		})
	}
}

// OneLoad: callers for whom the value's time is over join the refresh under way.
func TestRefreshAt_isJoinedByThoseWhoMustWait(t *testing.T) {
	opts := staleOptions()
	opts.RefreshAt = 0.8
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
		synctest.Wait()
		time.Sleep(59 * time.Second)
		require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 2, 3*time.Second)))
		time.Sleep(1500 * time.Millisecond) // its time is over, the refresh runs
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				got, err := c.GetOrSet(context.Background(), "1", 0, slow("1", 3, time.Second))
				assert.NoError(t, err)
				assert.EqualValues(t, 2, got.Version, "they wait for the refresh")
			})
		}
		wg.Wait()
		require.EqualValues(t, 1, c.Stats().Loads)
	})
}
