package l1_test

import (
	"math"
	"math/rand"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l1"
)

// An entry of every length of key has that key and no other, and the value beside
// it is not touched by it.
func TestNewEntry_holdsKeysOfAllLengths(t *testing.T) {
	all := strings.Repeat("0123456789abcdef", 40)
	for n := range 600 {
		key := all[:n]
		e := l1.NewEntry[[3]uint64](strings.Clone(key))
		e.Value = [3]uint64{1, 2, math.MaxUint64}
		e.Record, e.TTL = math.MaxUint64, -1
		require.Equal(t, key, e.Key())
		require.True(t, e.Has(key))
		require.False(t, e.Has(key+"x"))
		if n > 0 {
			require.False(t, e.Has(key[:n-1]), "n %d", n)
			require.False(t, e.Has(key[:n-1]+"\x00"), "n %d", n)
		}
		require.Equal(t, [3]uint64{1, 2, math.MaxUint64}, e.Value)
	}
}

// Keys lie in their entries, also when garbage was collected and the string that they
// came from is gone.
func TestNewEntry_outlivesItsKey(t *testing.T) {
	var entries []*l1.Entry[*int]
	var want []string
	for n := range 300 {
		key := strings.Repeat(string(rune('a'+n%26)), n)
		want = append(want, key)
		e := l1.NewEntry[*int](strings.Clone(key))
		e.Value = &n
		entries = append(entries, e)
	}
	runtime.GC()
	for n, e := range entries {
		require.Equal(t, want[n], e.Key())
		require.Equal(t, n, *e.Value)
	}
}

func TestEntry_isSmall(t *testing.T) {
	assert.LessOrEqual(t, unsafe.Sizeof(l1.Entry[uint64]{}), uintptr(64+8), "the more a hit reads, the longer it waits")
	assert.LessOrEqual(t, unsafe.Sizeof(fence.Line{}), uintptr(64), "a line of memory")
}

func TestEntry_timesRoundTrip(t *testing.T) {
	never := int64(math.MaxInt64)
	for _, c := range []l1.Times{
		{},
		{FreshUntil: never},
		{FreshUntil: 5, UsableUntil: never},
		{RefreshAt: 7, FreshUntil: never, UsableUntil: never},
		{RefreshAt: -7e9, FreshUntil: -1e9, UsableUntil: 2e15},
		{RefreshAt: int64(48 * time.Minute), FreshUntil: int64(time.Hour), UsableUntil: int64(3 * time.Hour)},
		{RefreshAt: 123, FreshUntil: 123 + int64(24*24*time.Hour), UsableUntil: 123 + int64(44*24*time.Hour)},
	} {
		e := l1.NewEntry[int]("k")
		e.SetTimes(c)
		want := c
		if want.RefreshAt == 0 {
			want.RefreshAt = want.FreshUntil
		}
		want.UsableUntil = max(want.UsableUntil, want.FreshUntil)
		assert.Equal(t, want, e.Times())
	}

	rng := rand.New(rand.NewSource(1))
	random := func() int64 { return rng.Int63() >> (3 + rng.Intn(60)) }
	for range 100_000 {
		at := random()
		if rng.Intn(2) == 0 {
			at = -at
		}
		c := l1.Times{RefreshAt: at}
		c.FreshUntil = c.RefreshAt + random()/4
		c.UsableUntil = c.FreshUntil + random()/4
		e := l1.NewEntry[int]("k")
		e.SetTimes(c)
		got := e.Times()
		if c.RefreshAt == 0 {
			c.RefreshAt = c.FreshUntil
		}
		require.Equal(t, c.FreshUntil, got.FreshUntil)
		require.GreaterOrEqual(t, got.RefreshAt, c.RefreshAt)
		require.LessOrEqual(t, got.RefreshAt-c.RefreshAt, (c.FreshUntil-c.RefreshAt)>>23)
		require.LessOrEqual(t, got.UsableUntil, c.UsableUntil, "never longer")
		require.LessOrEqual(t, c.UsableUntil-got.UsableUntil, (c.UsableUntil-c.FreshUntil)>>23)
	}
}

// The times of a record that a stranger wrote may be any. None of them makes an entry
// fresh, or usable, for longer than they say.
func TestEntry_timesOfAnySize(t *testing.T) {
	const lowest = math.MinInt64
	times := []int64{
		lowest, lowest + 1, -1 << 62, -1<<61 - 1, -1 << 61, -1e18, -1e6, -1, 0, 1, 1e6, 4295 * 1e6 * 1e6, 1e18,
		1<<62 - 1, 1 << 62, math.MaxInt64 - 1, math.MaxInt64,
	}
	for _, refresh := range times {
		for _, fresh := range times {
			for _, usable := range times {
				c := l1.Times{RefreshAt: refresh, FreshUntil: fresh, UsableUntil: usable}
				e := l1.NewEntry[int]("k")
				e.SetTimes(c)
				got := e.Times()
				require.LessOrEqual(t, got.RefreshAt, got.FreshUntil, "%+v", c)
				require.LessOrEqual(t, got.FreshUntil, got.UsableUntil, "%+v", c)
				if fresh < 1<<62 {
					require.Equal(t, max(fresh, -1<<61), got.FreshUntil, "%+v", c)
				}
				if usable = max(usable, got.FreshUntil); usable < 1<<62 {
					require.LessOrEqual(t, got.UsableUntil, usable, "%+v", c)
				}
			}
		}
	}
}

// A long key is copied, too: it may be a part of something that is much longer, or
// memory that its owner writes to.
func TestNewEntry_copiesItsKey(t *testing.T) {
	for _, n := range []int{1, 127, 128, 500} {
		key := []byte(strings.Repeat("k", n))
		e := l1.NewEntry[int](unsafe.String(&key[0], n))
		clear(key)
		assert.Equal(t, strings.Repeat("k", n), e.Key())
	}
}

func TestEntry_flagsAndCostAreApart(t *testing.T) {
	s := newStore(t, l1.Config{})
	e := entry(s, hash, "k", "")
	require.False(t, e.Negative())
	e.SetNegative()
	s.Put(hash, e, 1000)
	assert.True(t, e.Negative())
	assert.InDelta(t, s.Overhead()+2+1000, s.Stats().Bytes, l1.CostUnit)
	s.Put(hash+1<<32, entry(s, hash+1<<32, "huge", ""), math.MaxInt64)
	assert.EqualValues(t, 1, s.Stats().Dropped)
}

func TestEntry_stampsRoundTrip(t *testing.T) {
	f := fence.New(0)
	f.Announce(hash)
	f.Move(hash)
	f.Distrust()
	e := l1.NewEntry[int]("k")
	assert.Equal(t, fence.Void, f.State(hash, "k", e.Stamp()), "before it has one")
	e.SetStamp(f.Stamp(hash))
	assert.Equal(t, f.Stamp(hash), e.Stamp())
	assert.Equal(t, fence.Current, f.State(hash, "k", e.Stamp()))
}
