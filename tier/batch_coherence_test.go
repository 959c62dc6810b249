package tier_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// stalledBatch is a batch under way that has read its source and has not returned.
type stalledBatch struct {
	release chan struct{}
	done    chan map[string]row
}

func stallMany(t *testing.T, c *tier.Cache[row], db *database, keys ...string) stalledBatch {
	t.Helper()
	s := stalledBatch{make(chan struct{}), make(chan map[string]row, 1)}
	begun := make(chan struct{})
	go func() {
		got, err := c.GetOrSetMany(context.Background(), keys, 0, func(ctx context.Context, missing []string) (map[string]row, error) {
			out, err := (&batch{db: db}).load(ctx, missing)
			close(begun)
			<-s.release
			return out, err
		})
		assert.NoError(t, err)
		s.done <- got
	}()
	<-begun
	return s
}

func (s stalledBatch) end() map[string]row {
	close(s.release)
	return <-s.done
}

// ReadYourWrites: nobody joins the load of a batch for a key that has changed
// since it began, and for its other keys everybody does.
func TestReadYourWrites_doesNotJoinAnOlderBatch(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		db := newDatabase()
		db.write("a")
		db.write("b")
		old := stallMany(t, c, db, "a", "b")
		newest := db.write("a").Version
		require.NoError(t, c.Delete(t.Context(), "a"))
		v, err := c.GetOrSet(t.Context(), "a", 0, db.loader("a"))
		require.NoError(t, err)
		assert.Equal(t, newest, v.Version)
		got := c.GetMany(t.Context(), []string{"a", "b"})
		assert.Equal(t, newest, got["a"].Version)
		assert.Len(t, got, 1)
		joined := make(chan row, 1)
		go func() {
			v, err := c.GetOrSet(context.Background(), "b", 0, db.loader("b"))
			assert.NoError(t, err)
			joined <- v
		}()
		await(t, "the other key to be joined", 5*time.Second, func() bool { return c.Stats().Collapsed == 1 })
		assert.Equal(t, newest-1, old.end()["a"].Version)
		assert.EqualValues(t, 1, (<-joined).Version)
		assert.Equal(t, newest, mustGet(t, c, "a"), "the old load stored nothing")
		assert.EqualValues(t, 1, mustGet(t, c, "b"))
		assert.Equal(t, 1, db.loadsOf("b"))
	})
}

// OneLoad: the leases of a slow batch are renewed, and a Clear gives them back.
func TestOneLoad_slowBatch(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	b := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	db := newDatabase()
	keys := []string{"x", "y", "z"}
	for _, key := range keys {
		db.write(key)
	}
	slow := stallMany(t, a, db, keys...)
	waited := make(chan map[string]row, 1)
	go func() {
		got, err := b.GetOrSetMany(context.Background(), keys, 0, (&batch{db: db}).load)
		assert.NoError(t, err)
		waited <- got
	}()
	select {
	case <-waited:
		require.Fail(t, "the other node did not wait")
	case <-time.After(3 * time.Second): // longer than a lease
	}
	slow.end()
	assert.Len(t, <-waited, 3)
	for _, key := range keys {
		assert.Equal(t, 1, db.loadsOf(key), key)
	}

	require.NoError(t, a.Clear(t.Context()))
	slow = stallMany(t, a, db, keys...)
	require.NoError(t, a.Clear(t.Context()))
	took := timed(func() {
		got, err := b.GetOrSetMany(t.Context(), keys, 0, (&batch{db: db}).load)
		require.NoError(t, err)
		assert.Len(t, got, 3)
	})
	assert.Less(t, took, 1500*time.Millisecond, "what a Clear has voided is not waited for")
	slow.end()
}

// What a full server refuses is deleted: it is older than what was to be set.
func TestNothingForgotten_refusedSetMany(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{})
	old, values := make(map[string]row), make(map[string]row)
	for i := range 50 {
		key := fmt.Sprint(i)
		old[key], values[key] = row{Key: key, Version: 1}, row{Key: key, Version: 2}
	}
	require.NoError(t, c.SetMany(t.Context(), old, 0))
	srv.MaxMemory(1, "noeviction")
	require.NoError(t, c.SetMany(t.Context(), values, 0))
	assert.Empty(t, c.GetMany(t.Context(), keysOf(old)))
	assert.Empty(t, cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{}).GetMany(t.Context(), keysOf(old)))
	assert.Zero(t, n.Stats().Journal.Owed)
}

// NothingForgotten: what is owed is served by no batch, and loaded by each.
func TestNothingForgotten_owedKeysOfABatch(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{})
	ctx := t.Context()
	values := map[string]row{"a": {Key: "a", Version: 1}, "b": {Key: "b", Version: 1}, "c": {Key: "c", Version: 1}}
	require.NoError(t, c.SetMany(ctx, values, 0))
	srv.Do("config", "set", "min-replicas-to-write", 1) // reads go on, changes fail
	require.NoError(t, c.SetMany(ctx, map[string]row{"a": {Key: "a", Version: 2}, "b": {Key: "b", Version: 2}}, 0))
	b := &batch{db: newDatabase()}
	b.db.write("a")
	for range 3 {
		assert.Equal(t, []string{"c"}, keysOf(c.GetMany(ctx, []string{"a", "b", "c"})))
		got, err := c.GetOrSetMany(ctx, []string{"a", "b", "c"}, 0, b.load)
		require.NoError(t, err)
		assert.Equal(t, []string{"a", "c"}, keysOf(got))
		assert.Equal(t, []string{"a", "b"}, b.asked())
	}
	srv.Do("config", "set", "min-replicas-to-write", 0)
	await(t, "the debts to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	assert.Equal(t, []string{"c"}, keysOf(c.GetMany(ctx, []string{"a", "b", "c"})))
}

// A batch whose loader fails serves what only age has ended, and fails for the rest.
func TestFailOpen_batchServesStale(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c, err := tier.New(open(t, cfg), "stale", tier.Options[row]{StaleFor: time.Minute})
		require.NoError(t, err)
		ctx := t.Context()
		require.NoError(t, c.SetMany(ctx, map[string]row{"a": {Key: "a", Version: 1}, "b": {Key: "b", Version: 1}}, 0))
		require.NoError(t, c.Expire(ctx, "a", "b"))
		require.NoError(t, c.Delete(ctx, "b"))
		fail := func(context.Context, []string) (map[string]row, error) { return nil, context.DeadlineExceeded }
		got, err := c.GetOrSetMany(ctx, []string{"a", "b"}, 0, fail)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, []string{"a"}, keysOf(got))
		got, err = c.GetOrSetMany(ctx, []string{"a"}, 0, fail)
		require.NoError(t, err)
		assert.Equal(t, []string{"a"}, keysOf(got))
		assert.Empty(t, c.GetMany(ctx, []string{"a"}), "GetMany never returns a stale value")
	})
}

// With Clone what goes in and comes out is the caller's.
func TestCache_batchesClone(t *testing.T) {
	c, err := tier.New(open(t, tier.Config{}), "slices", tier.Options[[]int]{Clone: func(v []int) []int { return append([]int(nil), v...) }})
	require.NoError(t, err)
	ctx := t.Context()
	in := map[string][]int{"a": {1}}
	require.NoError(t, c.SetMany(ctx, in, 0))
	in["a"][0] = 2
	load := func(context.Context, []string) (map[string][]int, error) { return map[string][]int{"b": {1}}, nil }
	for range 3 {
		got, err := c.GetOrSetMany(ctx, []string{"a", "b"}, 0, load)
		require.NoError(t, err)
		require.Equal(t, map[string][]int{"a": {1}, "b": {1}}, got)
		got["a"][0], got["b"][0] = 3, 3
		again := c.GetMany(ctx, []string{"a", "b"})
		require.Equal(t, map[string][]int{"a": {1}, "b": {1}}, again)
		again["a"][0], again["b"][0] = 4, 4
	}
}

// OneLoad: a batch whose loader panics no longer counts as waiting for the other
// keys, so that their load is canceled when its own caller leaves.
func TestOneLoad_panickedBatchWaitsForNobody(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		synctest.Test(t, func(t *testing.T) {
			c := cache(t, open(t, tier.Config{}), tier.Options[row]{})
			ctx, cancel := context.WithCancel(context.Background())
			begun, canceled := time.Now(), make(chan struct{})
			go func() {
				_, _ = c.GetOrSet(ctx, "other", 0, func(ctx context.Context) (row, error) {
					<-ctx.Done()
					close(canceled)
					return row{}, context.Cause(ctx)
				})
			}()
			synctest.Wait()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer func() { _ = recover() }()
				_, _ = c.GetOrSetMany(context.Background(), []string{"own", "other"}, 0, func(context.Context, []string) (map[string]row, error) {
					end()
					return nil, nil
				})
			}()
			<-ended
			require.EqualValues(t, 1, c.Stats().Collapsed, "void: the other load was not joined")
			cancel()
			<-canceled
			assert.Zero(t, time.Since(begun), name)
		})
	}
}

// BoundedStaleness: a batch whose first keys found Redis away looks again for those
// that come after a load, when Redis may be back. What L1 would serve meanwhile is
// not known to be current.
func TestBoundedStaleness_batchLooksAgainAfterALoad(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	const timeout = 100 * time.Millisecond
	n := open(t, tier.Config{URL: srv.URL(), Timeout: timeout})
	c := cache(t, n, tier.Options[row]{})
	ctx := t.Context()
	require.NoError(t, c.Set(ctx, "last", row{Key: "last", Version: 1}, 0))
	local(t, c, "last")
	srv.Freeze()
	defer srv.Thaw()
	await(t, "L1 to be trusted no more", 10*time.Second, func() bool {
		item, err := c.Lookup(ctx, "last")
		return err == nil && item.Stale
	})
	var found []string
	got, err := c.GetOrSetMany(ctx, append(number(500), "last"), 0, func(_ context.Context, missing []string) (map[string]row, error) {
		if found = append(found, missing...); len(missing) == 1 {
			return map[string]row{"last": {Key: "last", Version: 2}}, nil
		}
		srv.Thaw()
		srv.Do("del", "tandem:row:last") // nobody is told
		since := time.Now()
		await(t, "Redis to answer", 10*time.Second, func() bool {
			return n.Health(ctx).L2.Healthy && time.Since(since) > timeout
		})
		return nil, nil
	})
	require.NoError(t, err)
	assert.EqualValues(t, 2, got["last"].Version, "served from L1 although Redis answers")
	assert.Equal(t, 501, len(found))
}
