package tier

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l2"
)

func TestVersionCell_largerNumberWinsWhicheverComesLast(t *testing.T) {
	var forgets atomic.Uint64
	c := versionCell{forgets: &forgets}
	ticket, floor := c.begin()
	assert.Zero(t, floor)
	c.raise(200) // the message overtakes the answer
	assert.EqualValues(t, 200, use(c.learn(ticket, 100)))
	assert.EqualValues(t, 200, c.get())
	moved := c.moves.Load()
	c.raise(200)
	assert.Equal(t, moved, c.moves.Load(), "no news")

	ticket, floor = c.begin()
	assert.EqualValues(t, 200, floor)
	c.forget()
	assert.Zero(t, c.get())
	assert.EqualValues(t, 300, use(c.learn(ticket, 300)), "serves that one read")
	assert.Zero(t, c.get(), "and is not remembered: its message may be among the missed")
	ticket, _ = c.begin()
	c.learn(ticket, 300)
	assert.EqualValues(t, 300, c.get())

	moved = c.moves.Load()
	c.raise(250)
	assert.NotEqual(t, moved, c.moves.Load(), "a number that went back")
	assert.Zero(t, c.get(), "is read again")
	_, floor = c.begin()
	assert.EqualValues(t, 300, floor)
}

func TestVersionCell_movesWheneverSomethingIsVoid(t *testing.T) {
	var forgets atomic.Uint64
	c := versionCell{forgets: &forgets}
	seen := map[uint64]bool{c.moves.Load(): true}
	ticket, _ := c.begin()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"news", func() { c.raise(1000) }},
		{"went back", func() { c.raise(900) }},
		{"the same, unknown", func() { c.raise(1000) }},
		{"learned more", func() { c.learn(ticket, 2000) }},
	} {
		step.do()
		require.False(t, seen[c.moves.Load()], step.name)
		seen[c.moves.Load()] = true
	}
	moves := c.moves.Load()
	c.raise(2000)
	c.learn(ticket, 1500)
	c.forget()
	assert.Equal(t, moves, c.moves.Load())
}

// An entry tied to a cell that was evicted is void, also if it was tied after
// that: no message reaches the cell.
func TestTagTable_evictsAndVoids(t *testing.T) {
	var forgets atomic.Uint64
	table := newTagTable(&forgets)
	table.limit = 4
	cells := make(map[string]*tagCell)
	ties := make(map[string]seenTag)
	for i := range 20 {
		name := fmt.Sprint("tag", i)
		c := table.cell(name)
		cells[name], ties[name] = c, c.seen(1, c.moves.Load())
		require.LessOrEqual(t, len(table.cells), 4)
	}
	kept := 0
	for name, c := range cells {
		tie := ties[name]
		late := c.seen(1, c.moves.Load())
		if table.peek(name) == c {
			kept++
			assert.Equal(t, tie.Version, tie.Cell.Load(), name)
			assert.Equal(t, late.Version, late.Cell.Load(), name)
			continue
		}
		assert.NotEqual(t, tie.Version, tie.Cell.Load(), name)
		assert.NotEqual(t, late.Version, late.Cell.Load(), name)
	}
	assert.Equal(t, 4, kept)
}

// What is in use stays, as a rule.
func TestTagTable_evictsWhatIsNotUsed(t *testing.T) {
	var forgets atomic.Uint64
	table := newTagTable(&forgets)
	table.limit = 64
	hot := table.cell("hot")
	lost := 0
	for i := range 2000 {
		table.cell(fmt.Sprint("cold", i))
		if c := table.cell("hot"); c != hot {
			hot = c
			lost++
		}
	}
	assert.Less(t, lost, 20)
}

func TestTagTable_move(t *testing.T) {
	var forgets atomic.Uint64
	table := newTagTable(&forgets)
	names := make([]string, 100)
	for i := range names {
		names[i] = fmt.Sprint("tag", i)
		table.cell(names[i])
	}
	before := table.seq.Load()
	table.move("tag7")
	assert.True(t, table.movedSince("tag7", before))
	assert.False(t, table.movedSince("tag7", table.seq.Load()))
	assert.False(t, table.movedSince("tag8", before))

	before = table.seq.Load()
	book := bookOf("tag8")
	table.raise(signOf(book), 77)
	for _, name := range names {
		assert.Equal(t, bookOf(name) == book, table.movedSince(name, before), name)
		assert.Equal(t, bookOf(name) == book, table.cell(name).get() == 77, name)
	}
	assert.EqualValues(t, 77, table.floor("tag8"))
	assert.EqualValues(t, 77, table.floor(signOf(book)))
	table.moveAll()
	for _, name := range names {
		assert.True(t, table.movedSince(name, before), name)
	}
}

// A reader that ties an entry while invalidations come never ends up with one
// that is valid and from before the last of them.
func TestTagTable_raceOfTiesAndMoves(t *testing.T) {
	var forgets atomic.Uint64
	table := newTagTable(&forgets)
	var wg sync.WaitGroup
	const rounds = 2000
	ties := make([]seenTag, 0, rounds)
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for v := range uint64(rounds) {
			table.raise("tag", v+1)
		}
	})
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		version, moves := table.cell("tag").show()
		ties = append(ties, table.cell("tag").seen(version, moves))
	}
	wg.Wait()
	for _, tie := range ties {
		if tie.version != rounds {
			require.NotEqual(t, tie.Version, tie.Cell.Load(), "valid with version %d", tie.version)
		}
	}
}

// skewed is a store whose estimate of the servers' clocks is off.
type skewed struct {
	l2.Store

	by time.Duration
}

func (s *skewed) Earliest(key string) int64 {
	if s.by < 0 {
		return 0 // not known
	}
	return s.Store.Earliest(key) + s.by.Microseconds()
}

// A tag that only the loader names: where the time of the load is not known the
// fill is refused, and the next one knows the tag from before its load.
func TestAfterLoad_clockNotKnown(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	n.store = &skewed{n.store, -1}
	c, err := New(n, "c", Options[string]{Tags: func(key, _ string) []string { return []string{"tag of " + key} }})
	require.NoError(t, err)
	loads := 0
	load := func(context.Context) (string, error) { loads++; return "v", nil }
	for _, want := range []int{1, 2, 2, 2} {
		_, err := c.GetOrSet(t.Context(), "k", 0, load)
		require.NoError(t, err)
		require.Equal(t, want, loads)
	}
	assert.EqualValues(t, 1, c.Stats().FillsRefused)
}

// Even if the clock of Redis has gone back unnoticed, so that an invalidation
// during the load seems to be from before it, what this node was told of counts.
func TestAfterLoad_clockWentBack(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	n.store = &skewed{n.store, time.Hour}
	c, err := New(n, "c", Options[string]{Tags: func(string, string) []string { return []string{"tag"} }})
	require.NoError(t, err)
	_, err = c.GetOrSet(t.Context(), "k", 0, func(ctx context.Context) (string, error) {
		return "old", n.InvalidateTags(ctx, "tag")
	})
	require.NoError(t, err)
	_, ok := c.Get(t.Context(), "k")
	assert.False(t, ok, "a stale fill")
	_, err = c.GetOrSet(t.Context(), "k", 0, func(context.Context) (string, error) { return "new", nil })
	require.NoError(t, err)
	v, ok := c.Get(t.Context(), "k")
	assert.True(t, ok)
	assert.Equal(t, "new", v)
}

func TestTagHints_bounded(t *testing.T) {
	var h tagHints
	for i := range uint64(3 * maxHints) {
		h.put(i, []string{"tag"})
	}
	assert.Len(t, h.names, maxHints)
	h.put(7, []string{"a", "b"})
	assert.Equal(t, []string{"a", "b"}, h.take(7))
	assert.Nil(t, h.take(7), "taken once")
}

// raiseHook is a store in which raising tags is watched, and may fail.
type raiseHook struct {
	l2.Store

	before func()
	fail   atomic.Bool
}

func (s *raiseHook) RaiseTags(ctx context.Context, raises []l2.TagRaise) []l2.BookState {
	if s.before != nil {
		s.before()
	}
	if !s.fail.Load() {
		return s.Store.RaiseTags(ctx, raises)
	}
	states := make([]l2.BookState, len(raises))
	for i := range states {
		states[i].Err = l2.ErrUnavailable
	}
	return states
}

func newRaiseHook(t *testing.T) (*Node, *Cache[string], *raiseHook) {
	t.Helper()
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	hook := &raiseHook{Store: n.store}
	n.store = hook
	c, err := New(n, "c", Options[string]{Tags: func(string, string) []string { return []string{"tag"} }})
	require.NoError(t, err)
	return n, c, hook
}

// reachesL1 gives ristretto's own goroutine time to show what was put, and
// reports whether it did.
func reachesL1(c *Cache[string], key string) bool {
	for range 200 {
		if _, state := c.local.Get(c.hash(key), key, 1<<62); state.Fresh() {
			return true
		}
		runtime.Gosched()
	}
	return false
}

// ReadYourWrites: what a read finds while an invalidation is under way is gone
// when it returns, confirmed or not.
func TestInvalidateTags_readsDuringIt(t *testing.T) {
	for _, fail := range []bool{false, true} {
		t.Run(fmt.Sprint("fail=", fail), func(t *testing.T) {
			n, c, hook := newRaiseHook(t)
			ctx := t.Context()
			require.NoError(t, c.Set(ctx, "k", "old", 0))
			met := false
			hook.before = func() {
				hook.before = nil
				for range 1000 { // a new entry may lose to one on its way in
					if _, ok := c.Get(ctx, "k"); ok && reachesL1(c, "k") {
						met = true
						return
					}
				}
			}
			hook.fail.Store(fail)
			require.NoError(t, n.InvalidateTags(ctx, "tag"))
			require.True(t, met, "void: nothing was read meanwhile")
			_, ok := c.Get(ctx, "k")
			assert.False(t, ok)
			hook.fail.Store(false)
		})
	}
}

// NothingForgotten: while the invalidation of a tag is owed, nothing under it is
// stored, loaded or set.
func TestInvalidateTags_nothingIsKeptWhileOwed(t *testing.T) {
	n, c, hook := newRaiseHook(t)
	ctx := t.Context()
	hook.fail.Store(true)
	require.NoError(t, n.InvalidateTags(ctx, "tag"))
	loads := 0
	for want := range 3 {
		_, err := c.GetOrSet(ctx, "loaded", 0, func(context.Context) (string, error) { loads++; return "v", nil })
		require.NoError(t, err)
		require.Equal(t, want+1, loads)
		require.False(t, reachesL1(c, "loaded"))
	}
	require.NoError(t, c.Set(ctx, "set", "v", 0))
	require.False(t, reachesL1(c, "set"))
	_, ok := c.Get(ctx, "set")
	require.False(t, ok)
	hook.fail.Store(false)
	n.payer.wake()
	require.NoError(t, n.payer.drain(ctx))
	_, ok = c.Get(ctx, "set")
	assert.False(t, ok, "from before the replay")
	require.NoError(t, c.Set(ctx, "set", "v", 0))
	_, ok = c.Get(ctx, "set")
	assert.True(t, ok)
}

// counted is a store that counts what reads send.
type counted struct {
	l2.Store

	calls atomic.Int64
}

func (s *counted) Read(ctx context.Context, key string, limit int) (l2.Reply, error) {
	s.calls.Add(1)
	return s.Store.Read(ctx, key, limit)
}

func (s *counted) ReadMany(ctx context.Context, keys []string, limit int, marks l2.Marks) ([]l2.Read, l2.Marked) {
	s.calls.Add(1)
	return s.Store.ReadMany(ctx, keys, limit, marks)
}

// While the bus is not heard versions are not remembered, and come along with
// the value: one round trip for whom this node has met before.
func TestLook_versionsComeAlongWhileUnheard(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	store := &counted{Store: n.store}
	n.store = store
	c, err := New(n, "c", Options[string]{})
	require.NoError(t, err)
	require.NoError(t, c.Set(t.Context(), "k", "v", 0, "red", "blue"))
	get := func(want int64) {
		t.Helper()
		before := store.calls.Load()
		_, ok := c.Get(t.Context(), "k")
		require.True(t, ok)
		require.Equal(t, want, store.calls.Load()-before)
	}
	local := func() { require.True(t, reachesL1(c, "k")) }
	local()
	get(0)
	n.member.heardUntil.Store(0)
	get(1)
	get(1)
	c.distrust()
	get(1)
	n.member.heardUntil.Store(1 << 62)
	local()
	get(0)
}

// use is what learn says to use.
func use(version uint64, _ bool) uint64 { return version }
