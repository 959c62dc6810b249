package tier_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

func TestCache_setThenGet(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{Jitter: -1})
		mustMiss(t, c, "1")
		require.NoError(t, c.Set(t.Context(), "1", row{"1", 7, "x"}, time.Hour))
		assert.EqualValues(t, 7, mustGet(t, c, "1"))
		assert.True(t, c.Exists(t.Context(), "1"))
		ttl, ok := c.TTL(t.Context(), "1")
		assert.True(t, ok)
		assert.InDelta(t, time.Hour, ttl, float64(2*time.Second))

		require.NoError(t, c.Set(t.Context(), "1", row{"1", 8, ""}, tier.NoExpiry))
		assert.EqualValues(t, 8, mustGet(t, c, "1"))
		ttl, ok = c.TTL(t.Context(), "1")
		assert.True(t, ok)
		assert.Equal(t, tier.NoExpiry, ttl)

		require.NoError(t, c.Delete(t.Context(), "1", "2"))
		mustMiss(t, c, "1")
		assert.False(t, c.Exists(t.Context(), "1"))
		_, ok = c.TTL(t.Context(), "1")
		assert.False(t, ok)
	})
}

func TestCache_Set_negativeTTLDeletes(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, -5*time.Second))
		mustMiss(t, c, "1")
	})
}

func TestCache_Lookup_tellsTheTier(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		_, err := c.Lookup(t.Context(), "1")
		require.ErrorIs(t, err, tier.ErrNotFound)
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
		await(t, "the value to enter L1", 5*time.Second, func() bool {
			item, err := c.Lookup(t.Context(), "1")
			require.NoError(t, err)
			return item.Tier == tier.TierL1
		})
		off, err := tier.New(n, "off", tier.Options[row]{Local: tier.Local{Disabled: true}})
		require.NoError(t, err)
		require.NoError(t, off.Set(t.Context(), "1", row{Key: "1"}, 0))
		item, err := off.Lookup(t.Context(), "1")
		require.NoError(t, err)
		assert.Equal(t, tier.TierL2, item.Tier)
		assert.False(t, item.Stale)
	})
}

func TestCache_GetOrSet_loadsOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		db := newDatabase()
		want := db.write("1")
		c := cache(t, open(t, cfg), tier.Options[row]{})
		for range 3 {
			got, err := c.GetOrSet(t.Context(), "1", 0, db.loader("1"))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		assert.Equal(t, 1, db.loadsOf("1"))
		assert.EqualValues(t, 1, c.Stats().Loads)
	})
}

// OneLoad: a thousand callers, one load.
func TestCache_GetOrSet_collapsesAStampede(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		db := newDatabase()
		want := db.write("1")
		c := cache(t, open(t, cfg), tier.Options[row]{})
		release := make(chan struct{})
		var wg sync.WaitGroup
		var begun atomic.Int64
		for range 1000 {
			wg.Go(func() {
				begun.Add(1)
				got, err := c.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) {
					<-release
					return db.read("1"), nil
				})
				assert.NoError(t, err)
				assert.Equal(t, want, got)
			})
		}
		await(t, "the callers to begin", 10*time.Second, func() bool { return begun.Load() == 1000 && c.Stats().Loads == 1 })
		close(release)
		wg.Wait()
		assert.Equal(t, 1, db.loadsOf("1"))
	})
}

func TestCache_GetOrSet_remembersThatThereIsNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		var loads int
		none := func(context.Context) (row, error) {
			loads++
			return row{}, fmt.Errorf("user 1: %w", tier.ErrNotFound)
		}
		for range 3 {
			_, err := c.GetOrSet(t.Context(), "1", 0, none)
			require.ErrorIs(t, err, tier.ErrNotFound)
			mustMiss(t, c, "1")
		}
		assert.Equal(t, 1, loads)
		assert.Zero(t, c.Stats().LoadErrors, "a fact is no failure")

		require.NoError(t, c.Delete(t.Context(), "1"))
		_, err := c.GetOrSet(t.Context(), "1", 0, none)
		require.ErrorIs(t, err, tier.ErrNotFound)
		assert.Equal(t, 2, loads, "a delete voids the fact")
	})
}

func TestCache_GetOrSet_neverStoresErrors(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		boom := errors.New("boom")
		for range 2 {
			_, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{}, boom })
			require.ErrorIs(t, err, boom)
		}
		got, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{Version: 3}, nil })
		require.NoError(t, err, "a failed load gives its lease back")
		assert.EqualValues(t, 3, got.Version)
		assert.EqualValues(t, 2, c.Stats().LoadErrors)
	})
}

func TestCache_GetOrSet_panicReachesTheCallerAndFreesTheKey(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		require.PanicsWithValue(t, "boom", func() {
			_, _ = c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { panic("boom") })
		})
		_, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{}, nil })
		require.NoError(t, err)
	})
}

func TestCache_GetOrSet_goexitEndsTheCallerOnly(t *testing.T) {
	c := cache(t, open(t, tier.Config{}), tier.Options[row]{})
	ended := make(chan bool)
	go func() {
		defer close(ended)
		_, _ = c.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) {
			runtime.Goexit()
			return row{}, nil
		})
		ended <- true
	}()
	require.False(t, <-ended, "the caller went on")
	_, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{}, nil })
	require.NoError(t, err)
}

// OneLoad: a caller's cancellation ends only its own wait, the last one to
// leave cancels the load.
func TestCache_GetOrSet_lastCallerToLeaveCancelsTheLoad(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		started, canceled := make(chan struct{}), make(chan struct{})
		load := func(ctx context.Context) (row, error) {
			close(started)
			<-ctx.Done()
			close(canceled)
			return row{}, ctx.Err()
		}
		first, leave1 := context.WithCancel(t.Context())
		second, leave2 := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		go func() { _, err := c.GetOrSet(first, "1", 0, load); errs <- err }()
		<-started
		go func() { _, err := c.GetOrSet(second, "1", 0, load); errs <- err }()
		await(t, "the second to join", 5*time.Second, func() bool { return c.Stats().Collapsed == 1 })
		leave1()
		require.ErrorIs(t, <-errs, context.Canceled)
		select {
		case <-canceled:
			require.Fail(t, "canceled although a caller waits")
		default:
		}
		leave2()
		require.ErrorIs(t, <-errs, context.Canceled)
		<-canceled
	})
}

func TestCache_DeletePrefix_takesWholeSegmentsLiterally(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		set := func(keys ...string) {
			for _, k := range keys {
				require.NoError(t, c.Set(t.Context(), k, row{Key: k}, 0))
			}
		}
		set("1", "1:a", "1:a:b", "10", "10:a", "2")
		count, err := c.DeletePrefix(t.Context(), "1:")
		require.NoError(t, err)
		assert.Equal(t, 3, count)
		for _, k := range []string{"1", "1:a", "1:a:b"} {
			mustMiss(t, c, k)
		}
		for _, k := range []string{"10", "10:a", "2"} {
			mustGet(t, c, k)
		}

		set("a*", "a*:x", "ab:x", "[ab]:x", "b:x", "?:x", `\:x`)
		for prefix, want := range map[string]int{"a*": 2, "[ab]": 1, "?": 1, `\`: 1} {
			count, err := c.DeletePrefix(t.Context(), prefix)
			require.NoError(t, err)
			assert.Equal(t, want, count, prefix)
		}
		mustGet(t, c, "ab:x")
		mustGet(t, c, "b:x")

		other, err := tier.New(n, "rows", tier.Options[row]{})
		require.NoError(t, err)
		require.NoError(t, other.Set(t.Context(), "1", row{Key: "1"}, 0))
		count, err = n.DeletePrefix(t.Context(), "row")
		require.NoError(t, err)
		assert.Equal(t, 5, count)
		mustMiss(t, c, "2")
		mustGet(t, other, "1")
		set("5", "5:x", "55")
		count, err = n.DeletePrefix(t.Context(), "row:5")
		require.NoError(t, err)
		assert.Equal(t, 2, count)
		mustMiss(t, c, "5:x")
		mustGet(t, c, "55")
		count, err = c.DeletePrefix(t.Context(), "")
		require.NoError(t, err)
		assert.Equal(t, 1, count)
		mustMiss(t, c, "55")
	})
}

func TestCache_Clear_voidsEverythingInTheCacheAlone(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		other, err := tier.New(n, "other", tier.Options[row]{})
		require.NoError(t, err)
		for i := range 10 {
			k := fmt.Sprint(i)
			require.NoError(t, c.Set(t.Context(), k, row{Key: k}, 0))
		}
		require.NoError(t, other.Set(t.Context(), "1", row{Key: "1"}, 0))
		require.NoError(t, c.Clear(t.Context()))
		for i := range 10 {
			mustMiss(t, c, fmt.Sprint(i))
		}
		mustGet(t, other, "1")
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1", Version: 2}, 0))
		assert.EqualValues(t, 2, mustGet(t, c, "1"))
	})
}

// Options.Clone: what callers pass in and get out is theirs.
func TestCache_Clone_separatesCallersFromTheCache(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c, err := tier.New(open(t, cfg), "list", tier.Options[[]string]{Clone: func(v []string) []string {
			return append([]string(nil), v...)
		}})
		require.NoError(t, err)
		in := []string{"a"}
		require.NoError(t, c.Set(t.Context(), "1", in, 0))
		in[0] = "changed"
		for range 3 {
			out, ok := c.Get(t.Context(), "1")
			require.True(t, ok)
			require.Equal(t, []string{"a"}, out)
			out[0] = "changed"
		}
		loaded := []string{"b"}
		out, err := c.GetOrSet(t.Context(), "2", 0, func(context.Context) ([]string, error) { return loaded, nil })
		require.NoError(t, err)
		out[0] = "changed"
		loaded[0] = "changed"
		again, ok := c.Get(t.Context(), "2")
		require.True(t, ok)
		require.Equal(t, []string{"b"}, again)
	})
}

// A record of another Version, codec or shape is a miss, and is replaced by
// the next load.
func TestCache_schemaOfAnotherVersionIsAMiss(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		if cfg.URL == "" {
			bus := cfg
			cfg = bus
		}
		old := open(t, cfg)
		if cfg.URL == "" {
			t.Log("one node has one schema a name without Redis")
			return
		}
		a := cache(t, old, tier.Options[row]{Version: "1"})
		require.NoError(t, a.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
		b := cache(t, open(t, cfg), tier.Options[row]{Version: "2"})
		mustMiss(t, b, "1")
		got, err := b.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{Key: "1", Version: 2}, nil })
		require.NoError(t, err)
		assert.EqualValues(t, 2, got.Version)
		assert.EqualValues(t, 2, mustGet(t, b, "1"))
		require.NoError(t, b.Delete(t.Context(), "1"))
		await(t, "the node of the other version to obey", 5*time.Second, func() bool {
			_, ok := a.Get(t.Context(), "1")
			return !ok
		})
	})
}

func TestNode_Close_isFinal(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		ctr, err := tier.NewCounter(n, "count", tier.CounterOptions{})
		require.NoError(t, err)
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
		require.NoError(t, n.Close())
		require.NoError(t, n.Close())
		mustMiss(t, c, "1")
		_, err = c.Lookup(t.Context(), "1")
		require.ErrorIs(t, err, tier.ErrClosed)
		_, err = c.GetOrSet(t.Context(), "1", 0, newDatabase().loader("1"))
		require.ErrorIs(t, err, tier.ErrClosed)
		require.ErrorIs(t, c.Set(t.Context(), "1", row{}, 0), tier.ErrClosed)
		require.ErrorIs(t, c.Delete(t.Context(), "1"), tier.ErrClosed)
		require.ErrorIs(t, c.Clear(t.Context()), tier.ErrClosed)
		_, err = c.DeletePrefix(t.Context(), "1")
		require.ErrorIs(t, err, tier.ErrClosed)
		_, err = n.DeletePrefix(t.Context(), "row")
		require.ErrorIs(t, err, tier.ErrClosed)
		_, err = ctr.Increment(t.Context(), "1", 1)
		require.ErrorIs(t, err, tier.ErrClosed)
		require.ErrorIs(t, c.Delete(t.Context()), tier.ErrClosed, "of nothing")
		require.ErrorIs(t, c.Expire(t.Context()), tier.ErrClosed, "of nothing")
		require.ErrorIs(t, c.SetMany(t.Context(), nil, 0), tier.ErrClosed, "of nothing")
		require.ErrorIs(t, n.InvalidateTags(t.Context()), tier.ErrClosed, "of nothing")
		require.ErrorIs(t, ctr.Reset(t.Context()), tier.ErrClosed, "of nothing")
		_, err = tier.New(n, "more", tier.Options[row]{})
		require.ErrorIs(t, err, tier.ErrClosed)
		assert.False(t, n.Health(t.Context()).Healthy)
		assert.False(t, n.Stats().Available)
	})
}

// Close while everything is in use: no panic, no deadlock, no leak.
func TestNode_Close_underLoad(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		for range 6 {
			n, err := tier.Open(t.Context(), cfg)
			require.NoError(t, err)
			c := cache(t, n, tier.Options[row]{})
			var wg sync.WaitGroup
			stop := make(chan struct{})
			for g := range 8 {
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						k := fmt.Sprint((i*7 + g) % 50)
						switch g % 4 {
						case 0:
							_ = c.Set(context.Background(), k, row{Key: k}, 0)
						case 1:
							_ = c.Delete(context.Background(), k)
						default:
							_, err := c.GetOrSet(context.Background(), k, 0, func(context.Context) (row, error) { return row{Key: k}, nil })
							if err != nil && !errors.Is(err, tier.ErrClosed) && !errors.Is(err, context.Canceled) {
								assert.NoError(t, err)
							}
						}
					}
				})
			}
			await(t, "some traffic", 10*time.Second, func() bool { return c.Stats().Loads > 20 })
			require.NoError(t, n.Close())
			close(stop)
			wg.Wait()
		}
	})
}

func TestNew_sameNameIsTheSameCache(t *testing.T) {
	n := open(t, tier.Config{})
	a := cache(t, n, tier.Options[row]{})
	assert.Same(t, a, cache(t, n, tier.Options[row]{TTL: tier.TTLMedium}), "the default said aloud")
	_, err := tier.New(n, "row", tier.Options[row]{TTL: time.Hour})
	require.ErrorContains(t, err, "Options")
	_, err = tier.New(n, "row", tier.Options[string]{})
	require.ErrorContains(t, err, "tier_test.row")
	_, err = tier.NewCounter(n, "row", tier.CounterOptions{})
	require.ErrorContains(t, err, `"row"`)
	_, err = tier.NewCounter(n, "count", tier.CounterOptions{})
	require.NoError(t, err)
	_, err = tier.New(n, "count", tier.Options[row]{})
	require.ErrorContains(t, err, "counters")
}

func TestCache_valueTypes(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		roundTrip(t, n, "string", strings.Repeat("é", 100))
		roundTrip(t, n, "int", -42)
		roundTrip(t, n, "slice", []int{1, 2, 3})
		roundTrip(t, n, "map", map[string][]string{"a": {"b"}})
		roundTrip(t, n, "pointer", &row{"1", 2, "3"})
		roundTrip(t, n, "bytes", []byte{0, 1, 2})
	})
}

func roundTrip[T any](t *testing.T, n *tier.Node, name string, v T) {
	t.Helper()
	for _, local := range []tier.Local{{}, {Disabled: true}} {
		c, err := tier.New(n, fmt.Sprintf("%s-%v", name, local.Disabled), tier.Options[T]{Local: local})
		require.NoError(t, err)
		require.NoError(t, c.Set(t.Context(), "k", v, 0))
		got, ok := c.Get(t.Context(), "k")
		require.True(t, ok)
		require.Equal(t, v, got)
	}
}
