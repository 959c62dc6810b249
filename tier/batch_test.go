package tier_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// batch is a loader of many that remembers what it was asked for.
type batch struct {
	db    *database
	mu    sync.Mutex
	calls [][]string
}

func (b *batch) load(_ context.Context, missing []string) (map[string]row, error) {
	b.mu.Lock()
	b.calls = append(b.calls, slices.Clone(missing))
	b.mu.Unlock()
	out := make(map[string]row)
	for _, key := range missing {
		if v := b.db.read(key); v.Version > 0 {
			out[key] = v
		}
	}
	return out, nil
}

func (b *batch) asked() (keys []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, call := range b.calls {
		keys = append(keys, call...)
	}
	slices.Sort(keys)
	b.calls = nil
	return keys
}

func keysOf(m map[string]row) []string { return slices.Sorted(maps.Keys(m)) }

func number(n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprintf("%05d", i))
	}
	return keys
}

func TestCache_SetMany_GetMany(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := tagged(t, n, "t", byPad)
		ctx := t.Context()
		values := make(map[string]row)
		for i, key := range number(1200) {
			values[key] = row{Key: key, Version: int64(i), Pad: fmt.Sprint("tag", i%3)}
		}
		require.NoError(t, c.SetMany(ctx, values, 0, "all"))
		asked := append(number(1300), "", "bad\x00")
		assert.Equal(t, values, c.GetMany(ctx, append(asked, asked...)))
		for _, key := range []string{"00000", "01199"} {
			assert.Equal(t, values[key], mustLookup(t, c, key).Value)
			assert.Contains(t, mustLookup(t, c, key).Tags, "all")
		}

		require.NoError(t, n.InvalidateTags(ctx, "tag1"))
		left := c.GetMany(ctx, asked)
		assert.Len(t, left, 800)
		assert.NotContains(t, left, "00001")
		require.NoError(t, c.Delete(ctx, "00000"))
		assert.Len(t, c.GetMany(ctx, asked), 799)
		require.NoError(t, c.SetMany(ctx, map[string]row{"00003": {}, "00005": {}}, -5))
		assert.Len(t, c.GetMany(ctx, asked), 797, "a ttl below zero deletes")
		require.NoError(t, n.InvalidateTags(ctx, "all"))
		assert.Empty(t, c.GetMany(ctx, asked))
		assert.Empty(t, c.GetMany(ctx, nil))
		require.NoError(t, c.SetMany(ctx, nil, 0))
	})
}

func TestCache_SetMany_partly(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c, err := tier.New(n, "small", tier.Options[row]{MaxValueBytes: 200, Tags: func(_ string, v row) []string {
			if v.Version == 9 {
				return []string{"\n"}
			}
			return nil
		}})
		require.NoError(t, err)
		ctx := t.Context()
		require.NoError(t, c.Set(ctx, "large", row{Key: "old"}, 0))
		err = c.SetMany(ctx, map[string]row{
			"good": {Key: "good"}, "": {}, "large": {Pad: fmt.Sprintf("%300d", 1)}, "tag": {Version: 9}, "too": {Key: "too"},
		}, 0)
		require.ErrorIs(t, err, tier.ErrKey)
		require.ErrorIs(t, err, tier.ErrTooLarge)
		assert.ErrorContains(t, err, `"\n"`)
		assert.Equal(t, []string{"good", "too"}, keysOf(c.GetMany(ctx, []string{"good", "large", "tag", "too", ""})))
		assert.ErrorContains(t, c.SetMany(ctx, map[string]row{"a": {}}, time.Microsecond), "ttl")
		require.NoError(t, n.Close())
		assert.ErrorIs(t, c.SetMany(ctx, map[string]row{"a": {}}, 0), tier.ErrClosed)
		assert.Empty(t, c.GetMany(ctx, []string{"good"}))
		_, err = c.GetOrSetMany(ctx, []string{"good"}, 0, func(context.Context, []string) (map[string]row, error) { return nil, nil })
		assert.ErrorIs(t, err, tier.ErrClosed)
	})
}

func TestCache_GetOrSetMany(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		ctx := t.Context()
		b := &batch{db: newDatabase()}
		keys := number(1100)
		want := make(map[string]row)
		for i, key := range keys {
			if i%11 > 0 {
				want[key] = b.db.write(key)
			}
		}
		require.NoError(t, c.Set(ctx, keys[1], want[keys[1]], 0))
		got, err := c.GetOrSetMany(ctx, append(keys, keys[:50]...), 0, b.load)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		assert.Len(t, b.calls, 3, "chunks of 500")
		assert.Equal(t, append(keys[:1:1], keys[2:]...), b.asked(), "each once, and what is there is not loaded")

		got, err = c.GetOrSetMany(ctx, keys, 0, b.load)
		require.NoError(t, err)
		assert.Equal(t, want, got)
		assert.Empty(t, b.asked(), "also that there is none is remembered")
		_, err = c.GetOrSet(ctx, keys[0], 0, func(context.Context) (row, error) { return row{}, errors.New("loaded") })
		assert.ErrorIs(t, err, tier.ErrNotFound)

		got, err = c.GetOrSetMany(ctx, []string{"", "a", "\n"}, 0, func(context.Context, []string) (map[string]row, error) {
			return map[string]row{"a": {Key: "a"}}, nil
		})
		require.ErrorIs(t, err, tier.ErrKey)
		assert.Equal(t, []string{"a"}, keysOf(got))
		_, err = c.GetOrSetMany(ctx, []string{"a"}, time.Microsecond, b.load)
		assert.ErrorContains(t, err, "ttl")
		_, err = c.GetOrSetMany(ctx, []string{"a"}, 0, nil)
		assert.ErrorContains(t, err, "nil")
		got, err = c.GetOrSetMany(ctx, []string{"x", "y"}, 0, func(context.Context, []string) (map[string]row, error) {
			return nil, fmt.Errorf("none: %w", tier.ErrNotFound)
		})
		require.NoError(t, err)
		assert.Empty(t, got)
		got, err = c.GetOrSetMany(ctx, []string{"x", "y"}, 0, b.load)
		require.NoError(t, err)
		assert.Empty(t, got)
		assert.Empty(t, b.asked())
		_, err = c.GetOrSetMany(ctx, []string{"no store"}, -7, func(context.Context, []string) (map[string]row, error) {
			return map[string]row{"no store": {}}, nil
		})
		require.NoError(t, err)
		mustMiss(t, c, "no store")
		got, err = c.GetOrSetMany(ctx, []string{"no store"}, -7, func(context.Context, []string) (map[string]row, error) { return nil, nil })
		require.NoError(t, err)
		assert.Empty(t, got)
		_, err = c.GetOrSet(ctx, "no store", 0, func(context.Context) (row, error) { return row{Key: "no store"}, nil })
		require.NoError(t, err, "that there is nothing was not to be stored")
	})
}

func TestCache_GetOrSetMany_errorsAndPanics(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		ctx := t.Context()
		require.NoError(t, c.Set(ctx, "there", row{Key: "there"}, 0))
		broken := errors.New("broken")
		got, err := c.GetOrSetMany(ctx, []string{"there", "a", "b"}, 0, func(context.Context, []string) (map[string]row, error) {
			return map[string]row{"a": {}}, broken
		})
		require.ErrorIs(t, err, broken)
		assert.Equal(t, []string{"there"}, keysOf(got))
		mustMiss(t, c, "a")
		assert.PanicsWithValue(t, "boom", func() {
			_, _ = c.GetOrSetMany(ctx, []string{"a", "b"}, 0, func(context.Context, []string) (map[string]row, error) { panic("boom") })
		})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = c.GetOrSetMany(ctx, []string{"a", "b"}, 0, func(context.Context, []string) (map[string]row, error) {
				runtime.Goexit()
				return nil, nil
			})
		}()
		<-ended
		// The leases were given back: nobody waits for them to end. A flight of the
		// load that ended may be joined for a moment, with its error.
		db := &batch{db: newDatabase()}
		took := timed(func() {
			require.Eventually(t, func() bool {
				_, err = c.GetOrSetMany(ctx, []string{"a", "b"}, 0, db.load)
				return err == nil
			}, 10*time.Second, time.Millisecond)
		})
		assert.Less(t, took, time.Second)
		asked := db.asked()
		slices.Sort(asked)
		assert.Equal(t, []string{"a", "b"}, asked)
		// A loader that asks for keys of its own batch does not wait for itself.
		_, err = c.GetOrSetMany(ctx, []string{"n1", "n2"}, 0, func(ctx context.Context, missing []string) (map[string]row, error) {
			v, err := c.GetOrSet(ctx, "n2", 0, func(context.Context) (row, error) { return row{Key: "n2"}, nil })
			return map[string]row{"n1": v}, err
		})
		require.NoError(t, err)
		_, err = c.GetOrSet(ctx, "n3", 0, func(ctx context.Context) (row, error) {
			got, err := c.GetOrSetMany(ctx, []string{"n3", "n4"}, 0, func(context.Context, []string) (map[string]row, error) {
				return map[string]row{"n3": {Key: "n3"}, "n4": {}}, nil
			})
			return got["n3"], err
		})
		require.NoError(t, err)
		mustGet(t, c, "n3")
	})
}

// A caller that leaves does not wait, and the last one to leave cancels the load.
func TestCache_GetOrSetMany_cancel(t *testing.T) {
	c := cache(t, open(t, tier.Config{}), tier.Options[row]{})
	ctx, cancel := context.WithCancel(context.Background())
	begun, canceled := make(chan struct{}), make(chan struct{})
	gone := make(chan error, 1)
	go func() {
		_, err := c.GetOrSetMany(ctx, number(10), 0, func(ctx context.Context, _ []string) (map[string]row, error) {
			close(begun)
			<-ctx.Done()
			close(canceled)
			return nil, ctx.Err()
		})
		gone <- err
	}()
	<-begun
	single := make(chan error, 1)
	stay, leave := context.WithCancel(context.Background())
	go func() {
		_, err := c.GetOrSet(stay, "00003", 0, func(context.Context) (row, error) { return row{}, nil })
		single <- err
	}()
	await(t, "the single to join", 5*time.Second, func() bool { return c.Stats().Collapsed == 1 })
	cancel()
	require.ErrorIs(t, <-gone, context.Canceled)
	select {
	case <-canceled:
		require.Fail(t, "the load was canceled although somebody waits for it")
	case <-time.After(200 * time.Millisecond):
	}
	leave()
	require.ErrorIs(t, <-single, context.Canceled)
	select {
	case <-canceled:
	case <-time.After(5 * time.Second): // half of LoadTimeout
		require.Fail(t, "the load was not canceled although nobody waits for it")
	}
}

// OneLoad: singles join batches, batches join singles, and batches that overlap
// share their work, whoever comes first.
func TestOneLoad_batchesAndSingles(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		ctx := context.Background()
		db := newDatabase()
		for _, key := range number(30) {
			db.write(key)
		}
		begun, release := make(chan struct{}, 3), make(chan struct{})
		slow := func(_ context.Context, missing []string) (map[string]row, error) {
			begun <- struct{}{}
			<-release
			out := make(map[string]row)
			for _, key := range missing {
				out[key] = db.read(key)
			}
			return out, nil
		}
		var all sync.WaitGroup
		many := func(keys []string) {
			all.Go(func() {
				got, err := c.GetOrSetMany(ctx, keys, 0, slow)
				assert.NoError(t, err)
				assert.Equal(t, keys, keysOf(got))
			})
		}
		all.Go(func() { // a single first
			_, err := c.GetOrSet(ctx, "00005", 0, func(ctx context.Context) (row, error) {
				got, err := slow(ctx, []string{"00005"})
				return got["00005"], err
			})
			assert.NoError(t, err)
		})
		<-begun
		many(number(20))
		<-begun
		many(number(30)[10:])
		<-begun
		for _, key := range []string{"00005", "00007", "00015", "00025"} {
			all.Go(func() {
				v, err := c.GetOrSet(ctx, key, 0, func(context.Context) (row, error) { return db.read(key), nil })
				assert.NoError(t, err)
				assert.Equal(t, key, v.Key)
			})
		}
		await(t, "all to wait", 5*time.Second, func() bool { return c.Stats().Collapsed == 1+10+4 })
		close(release)
		all.Wait()
		for _, key := range number(30) {
			assert.Equal(t, 1, db.loadsOf(key), key)
		}
	})
}

// Batches that overlap on two nodes do not wait for each other in a circle, and
// load each key once.
func TestOneLoad_batchesOfTwoNodes(t *testing.T) {
	t.Parallel()
	eachFleet(t, func(t *testing.T, f fleet) {
		if !f.shared {
			return // each node loads for itself
		}
		ctx := context.Background()
		for round := range 20 {
			db := newDatabase()
			keys := make([]string, 60)
			for i := range keys {
				keys[i] = fmt.Sprintf("r%d:%d", round, i)
				db.write(keys[i])
			}
			var both sync.WaitGroup
			for i, c := range []*tier.Cache[row]{f.a, f.b} {
				mine := slices.Clone(keys[i*20 : i*20+40])
				if i == 1 {
					slices.Reverse(mine)
				}
				both.Go(func() {
					b := &batch{db: db}
					got, err := c.GetOrSetMany(ctx, mine, 0, func(ctx context.Context, missing []string) (map[string]row, error) {
						runtime.Gosched()
						return b.load(ctx, missing)
					})
					assert.NoError(t, err)
					assert.Len(t, got, 40)
				})
			}
			both.Wait()
			for _, key := range keys {
				assert.Equal(t, 1, db.loadsOf(key), key)
			}
		}
	})
}

// What a loader adds is stored where nothing is, and nowhere else.
func TestCache_GetOrSetMany_unasked(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		ctx := t.Context()
		require.NoError(t, c.Set(ctx, "there", row{Key: "there", Version: 7}, 0))
		more := func(during func()) map[string]row {
			got, err := c.GetOrSetMany(ctx, []string{"a", "gone"}, 0, func(context.Context, []string) (map[string]row, error) {
				during()
				return map[string]row{"a": {Key: "a"}, "extra": {Key: "extra", Version: 1}, "there": {Key: "there", Version: 1}, "": {}}, nil
			})
			require.NoError(t, err)
			require.NoError(t, c.Delete(ctx, "a", "gone"))
			return got
		}
		assert.Equal(t, []string{"a"}, keysOf(more(func() {})))
		assert.EqualValues(t, 7, mustGet(t, c, "there"))
		assert.EqualValues(t, 1, mustGet(t, c, "extra"))

		for name, change := range map[string]func() error{
			"Delete": func() error { return c.Delete(ctx, "extra") },
			"Prefix": func() error { _, err := c.DeletePrefix(ctx, "extra"); return err },
			"Clear":  func() error { return c.Clear(ctx) },
		} {
			require.NoError(t, c.Delete(ctx, "extra"))
			more(func() { require.NoError(t, change()) })
			v, ok := c.Get(ctx, "extra")
			assert.False(t, ok, "%s during the load: a stale fill: %+v", name, v)
		}
	})
}

// NoStaleFill: what another node invalidates during the load is not stored
// unasked, although the message has not arrived when the load ends.
func TestNoStaleFill_unaskedKeysOfAnotherNode(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	b := cache(t, open(t, tier.Config{URL: proxy.URL()}), tier.Options[row]{})
	ctx := t.Context()
	for i := range 10 {
		key, extra := fmt.Sprint("k", i), fmt.Sprint("x", i)
		_, err := b.GetOrSetMany(ctx, []string{key}, 0, func(context.Context, []string) (map[string]row, error) {
			proxy.Delay(redistest.PubSub, 20*time.Millisecond)
			return map[string]row{key: {}, extra: {Key: "old"}}, a.Delete(ctx, extra)
		})
		require.NoError(t, err)
		proxy.Delay(redistest.PubSub, 0)
		mustMiss(t, a, extra)
	}
}

// NoStaleFill and ReadYourWrites for batches, a thousand rounds on two nodes.
func TestNoStaleFill_batchStress(t *testing.T) {
	srv := redistest.Start(t)
	f := newFleet(t, tier.Config{URL: srv.URL()})
	const workers, rounds = 4, 1_000
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			db := newDatabase()
			for i := w; i < rounds; i += workers {
				batchRound(t, f, db, w, i)
			}
		})
	}
	wg.Wait()
	require.NotZero(t, f.a.Stats().FillsRefused+f.b.Stats().FillsRefused, "void: no fill met a change")
	require.NotZero(t, f.b.Stats().HitsL1, "void: nothing came from L1")
	t.Logf("a %+v", f.a.Stats())
	t.Logf("b %+v", f.b.Stats())
}

func batchRound(t *testing.T, f fleet, db *database, w, i int) {
	ctx := context.Background()
	keys := make([]string, 12)
	for j := range keys {
		keys[j] = fmt.Sprintf("%d:%d", w, (i+j)%40)
		db.write(keys[j])
	}
	assert.NoError(t, f.a.Delete(ctx, keys...))
	tag := fmt.Sprint("w", w)
	load := func(_ context.Context, missing []string) (map[string]row, error) {
		out := make(map[string]row)
		for _, key := range missing {
			v := db.read(key)
			v.Pad = tag
			out[key] = v
		}
		runtime.Gosched()
		return out, nil
	}
	var readers sync.WaitGroup
	for j, c := range []*tier.Cache[row]{f.a, f.b, f.a, f.b} {
		mine := keys[j*2 : j*2+6]
		readers.Go(func() {
			for range 2 {
				_, err := c.GetOrSetMany(ctx, mine, 0, load)
				assert.NoError(t, err)
				c.GetMany(ctx, mine)
			}
		})
	}
	runtime.Gosched()
	key := keys[5]
	want := db.write(key)
	switch i % 3 {
	case 0:
		assert.NoError(t, f.na.InvalidateTags(ctx, tag))
	case 1:
		assert.NoError(t, f.a.SetMany(ctx, map[string]row{key: want}, 0))
	default:
		assert.NoError(t, f.a.Delete(ctx, key))
	}
	if v, ok := f.a.GetMany(ctx, []string{key})[key]; ok {
		assert.GreaterOrEqual(t, v.Version, want.Version, "GetMany right after a change (key %s, round %d)", key, i)
	}
	got, err := f.a.GetOrSetMany(ctx, keys, 0, load)
	assert.NoError(t, err)
	assert.GreaterOrEqual(t, got[key].Version, want.Version, "GetOrSetMany right after a change (key %s, round %d)", key, i)
	readers.Wait()
	obeys(t, f.a, f.b, db, key, want, i)
}

// FailOpen: with Redis away a batch loads, within the limit, and what L1 holds
// serves.
func TestFailOpen_batches(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Timeout: timeout})
	c := cache(t, n, tier.Options[row]{})
	ctx := t.Context()
	keys := number(1200)
	b := &batch{db: newDatabase()}
	for _, key := range keys {
		b.db.write(key)
	}
	require.NoError(t, c.Set(ctx, keys[0], row{Key: keys[0], Version: 1}, 0))
	local(t, c, keys[0])
	srv.Freeze()
	defer srv.Thaw()
	took := timed(func() { assert.Equal(t, keys[:1], keysOf(c.GetMany(ctx, keys))) })
	assert.Less(t, took, timeout+slack)
	var got map[string]row
	var err error
	took = timed(func() { got, err = c.GetOrSetMany(ctx, keys, 0, b.load) })
	require.NoError(t, err)
	assert.Len(t, got, 1200)
	assert.Less(t, took, timeout+3*time.Second, "the rest of a batch does not ask a server that hangs")
	values := map[string]row{"x": {Key: "x"}, "y": {Key: "y"}}
	require.NoError(t, c.SetMany(ctx, values, 0))
	assert.Empty(t, c.GetMany(ctx, []string{"x", "y"}), "what is owed is not served")
	assert.Equal(t, 2, n.Stats().Journal.Owed)
	srv.Thaw()
	await(t, "the debts to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	require.NoError(t, c.SetMany(ctx, values, 0))
	assert.Equal(t, values, c.GetMany(ctx, []string{"x", "y"}))
}

// Batches of 10,000 keys need the memory of their values, and of 500 keys under way.
func TestCache_batchesAreBounded(t *testing.T) {
	c := cache(t, open(t, tier.Config{URL: redistest.Start(t).URL(), Timeout: 10 * time.Second}), tier.Options[row]{Local: tier.Local{Disabled: true}})
	keys := number(10_000)
	var most atomic.Int64
	got, err := c.GetOrSetMany(t.Context(), keys, 0, func(_ context.Context, missing []string) (map[string]row, error) {
		most.Store(max(most.Load(), int64(runtime.NumGoroutine())))
		out := make(map[string]row)
		for _, key := range missing {
			out[key] = row{Key: key}
		}
		return out, nil
	})
	require.NoError(t, err)
	assert.Len(t, got, 10_000)
	assert.Less(t, most.Load(), int64(3*500+200))
	assert.Len(t, c.GetMany(t.Context(), keys), 10_000)
}
