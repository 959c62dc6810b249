package tier_test

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
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

// The rest of a loader that failed in the background begins when it failed.
func TestRefreshAt_restsAfterTheFailure(t *testing.T) {
	inBubble(t, refreshOptions(), func(t *testing.T, c *tier.Cache[row]) {
		require.EqualValues(t, 1, fetchVersion(t, c, "1", slow("1", 1, 0)))
		time.Sleep(81 * time.Second)
		var mu sync.Mutex
		var ended time.Time
		load := func(context.Context) (row, error) {
			mu.Lock()
			rested := time.Since(ended)
			mu.Unlock()
			assert.GreaterOrEqual(t, rested, 500*time.Millisecond)
			time.Sleep(3 * time.Second)
			mu.Lock()
			ended = time.Now()
			mu.Unlock()
			return row{}, errDB
		}
		for range 100 {
			fetchVersion(t, c, "1", load)
			time.Sleep(100 * time.Millisecond)
		}
		require.GreaterOrEqual(t, c.Stats().LoadErrors, uint64(2), "void: it failed once at most")
		time.Sleep(3 * time.Second) // the last one ends
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

// A refresh tells the other nodes only of what is another than before.
func TestRefreshAt_tellsTheOthersWhatChanged(t *testing.T) {
	cases := map[string]struct {
		first, second int64 // versions, 0: there is nothing
		told          bool
	}{
		"same":          {1, 1, false},
		"changed":       {1, 2, true},
		"gone":          {1, 0, true},
		"appeared":      {0, 1, true},
		"still nothing": {0, 0, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := invalidation.NewLocal()
				na, nb := openInBubble(t, bus), openInBubble(t, bus)
				opts := refreshOptions()
				opts.NegativeTTL = opts.TTL
				a, b := cache(t, na, opts), cache(t, nb, opts)
				fetch := func(c *tier.Cache[row], version int64) {
					_, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) {
						if version == 0 {
							return row{}, tier.ErrNotFound
						}
						return row{Key: "1", Version: version}, nil
					})
					if err != nil {
						require.ErrorIs(t, err, tier.ErrNotFound)
					}
					synctest.Wait()
				}
				fetch(a, tc.first)
				fetch(b, tc.first)
				time.Sleep(81 * time.Second)
				before := nb.Stats().Bus.Received
				fetch(a, tc.second)
				require.EqualValues(t, 2, a.Stats().Loads, "void: no refresh")
				v, _ := a.Get(t.Context(), "1")
				require.Equal(t, tc.second, v.Version)
				require.Equal(t, tc.told, nb.Stats().Bus.Received > before)
				v, _ = b.Get(t.Context(), "1")
				if tc.told {
					require.Zero(t, v)
				} else {
					require.Equal(t, tc.first, v.Version)
				}
			})
		})
	}
}

// Whether a value is the same does not depend on how it is written.
func TestRefreshAt_sameInOtherBytes(t *testing.T) {
	ring := codec.Keyring{{ID: "a", Key: bytes.Repeat([]byte{7}, 32)}}
	sealed, err := codec.Encrypted(codec.Msgpack[map[string]time.Time](), ring)
	require.NoError(t, err)
	moment := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	here := time.FixedZone("here", 3600)
	cases := map[string]struct {
		codec  codec.Codec[map[string]time.Time]
		second map[string]time.Time
		told   bool
	}{
		"other bytes":        {sealed, map[string]time.Time{"a": moment.Local()}, false},
		"other zone":         {codec.Msgpack[map[string]time.Time](), map[string]time.Time{"a": moment.In(here)}, false},
		"other moment":       {codec.Msgpack[map[string]time.Time](), map[string]time.Time{"a": moment.Add(time.Second)}, true},
		"other sealed value": {sealed, map[string]time.Time{"a": moment.Add(time.Second)}, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bus := invalidation.NewLocal()
				na, nb := openInBubble(t, bus), openInBubble(t, bus)
				opts := tier.Options[map[string]time.Time]{TTL: 100 * time.Second, RefreshAt: 0.8, Jitter: -1, Codec: tc.codec}
				a, err := tier.New(na, "times", opts)
				require.NoError(t, err)
				fetch := func(v map[string]time.Time) {
					_, err := a.GetOrSet(t.Context(), "1", 0, func(context.Context) (map[string]time.Time, error) { return v, nil })
					require.NoError(t, err)
					synctest.Wait()
				}
				fetch(map[string]time.Time{"a": moment.Local()})
				time.Sleep(90 * time.Second)
				before := nb.Stats().Bus.Received
				fetch(tc.second)
				require.EqualValues(t, 2, a.Stats().Loads, "void: no refresh")
				require.Equal(t, tc.told, nb.Stats().Bus.Received > before)
			})
		})
	}
}

// encodings counts what a codec encodes.
type encodings struct {
	codec.Codec[row]
	n *atomic.Int64
}

func (e encodings) Append(dst []byte, v row) ([]byte, error) {
	e.n.Add(1)
	return e.Codec.Append(dst, v)
}

// What is not modified is not encoded again either.
func TestFetch_notModifiedStoresTheSamePayload(t *testing.T) {
	opts := staleOptions()
	count := encodings{codec.Msgpack[row](), new(atomic.Int64)}
	opts.Codec = count
	inBubble(t, opts, func(t *testing.T, c *tier.Cache[row]) {
		aged(t, c, "1")
		before := count.n.Load()
		_, err := c.Fetch(t.Context(), "1", func(_ context.Context, f *tier.Fill[row]) (row, error) {
			f.NotModified = true
			return row{}, nil
		})
		require.NoError(t, err)
		require.EqualValues(t, 1, mustGet(t, c, "1"))
		require.Equal(t, before, count.n.Load())
	})
}

// Rule 7: a result of a lower version in its source is returned and not kept.
func TestFetch_versionIsAFloor(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{TTL: time.Hour, StaleFor: time.Hour, RefreshAt: 0.8, Jitter: -1})
		fetch := func(version uint64, ttl time.Duration) {
			t.Helper()
			got, err := c.Fetch(t.Context(), "1", func(_ context.Context, f *tier.Fill[row]) (row, error) {
				f.Version, f.TTL = version, ttl
				return row{Key: "1", Version: int64(version)}, nil
			})
			require.NoError(t, err)
			require.EqualValues(t, version, got.Version)
		}
		const short = 20 * time.Millisecond
		end := func() {
			await(t, "the end of the TTL", 10*time.Second, func() bool { return !c.Exists(t.Context(), "1") })
		}
		fetch(5, short)
		end()
		fetch(4, 0)
		mustMiss(t, c, "1")
		require.EqualValues(t, 1, c.Stats().FillsRefused)
		fetch(5, short)
		end()
		fetch(6, 0)
		require.EqualValues(t, 6, mustGet(t, c, "1"))
	})
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
