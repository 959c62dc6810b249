package l2

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testPrefix(t *testing.T, s *scene) {
	ctx := t.Context()
	put := func(key string) {
		_, err := s.Set(ctx, key, sample("x").Append(nil, key), minute, nil)
		require.NoError(t, err)
	}
	base := `test:glob:a*[b]?\`
	const n = 450
	for i := range n {
		put(base + ":" + strconv.Itoa(i))
	}
	s.key = base + ":lease"
	token := s.granted()
	s.plant(base+":foreign", []byte("x"))
	others := []string{`test:glob:aXX[b]?\:1`, `test:glob:a*b1\:1`, `test:glob:`}
	for _, key := range others {
		put(key)
	}
	s.heard()
	keys, err := s.Keys(ctx, base+":", n+2)
	require.NoError(t, err)
	assert.Len(t, keys, n+2)
	assert.True(t, slices.IsSorted(keys))
	assert.Contains(t, keys, s.key, "placeholders are keys as well")
	_, err = s.Keys(ctx, base+":", n+1)
	require.ErrorIs(t, err, ErrArgument)
	removed, err := s.DeletePrefix(ctx, base+":", []byte("gone"))
	require.NoError(t, err)
	assert.Equal(t, n, removed)
	keys, err = s.Keys(ctx, base+":", 0)
	require.NoError(t, err)
	assert.Empty(t, keys)
	assert.Equal(t, []string{"gone"}, s.heard())
	for i := range n {
		require.Nil(t, s.raw(base+":"+strconv.Itoa(i)))
	}
	assert.Nil(t, s.raw(base+":foreign"))
	assert.False(t, s.fill(token, "stale"), "placeholders go as well")
	for _, key := range others {
		assert.NotNil(t, s.raw(key), key)
	}
}

func tail(msg string) uint64 { return binary.BigEndian.Uint64([]byte(msg[len(msg)-8:])) }

func testMarker(t *testing.T, s *scene) {
	ctx, msg := t.Context(), []byte("tag........")
	low := s.Earliest(s.key)
	v, err := s.Marker(ctx, s.key, 0, msg)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, int64(v), low)
	assert.LessOrEqual(t, int64(v), s.Now(s.key))
	heard := s.heard()
	require.Len(t, heard, 1)
	assert.Equal(t, v, tail(heard[0]))
	assert.Equal(t, "tag", heard[0][:3])
	assert.Equal(t, strconv.FormatUint(v, 10), string(s.raw(s.key)))
	again, err := s.Marker(ctx, s.key, v+1000, msg)
	require.NoError(t, err)
	assert.Equal(t, v, again)
	assert.Empty(t, s.heard(), "nothing was created")

	s.key += ":floor"
	for _, text := range []string{"", "abc", "-5", "1.5", "18446744073709551616", "99999999999999999999", "123456789012345678901"} {
		s.plant(s.key, []byte(text))
		floor := uint64(1)<<60 + 12345
		v, err = s.Marker(ctx, s.key, floor, nil)
		require.NoError(t, err)
		assert.Equal(t, floor+1, v, text)
		s.remove(DeleteOptions{})
	}
}

func testRaise(t *testing.T, s *scene) {
	ctx, msg := t.Context(), []byte("........")
	raise := func(floor uint64) uint64 {
		t.Helper()
		v, err := s.Raise(ctx, s.key, floor, msg)
		require.NoError(t, err)
		heard := s.heard()
		require.Len(t, heard, 1)
		require.Equal(t, v, tail(heard[0]))
		require.Equal(t, strconv.FormatUint(v, 10), string(s.raw(s.key)))
		return v
	}
	low := s.Earliest(s.key)
	a := raise(0)
	assert.GreaterOrEqual(t, int64(a), low)
	assert.Greater(t, raise(0), a)
	for _, floor := range []uint64{1 << 53, 1<<54 + 1, 1<<62 + 255, 1 << 63, math.MaxUint64 - 600, math.MaxUint64 - 256} {
		assert.Equal(t, floor+1, raise(floor))
		assert.Equal(t, floor+2, raise(5), "a lower floor does not lower it")
	}
	s.plant(s.key, []byte(strconv.FormatUint(math.MaxUint64, 10)))
	_, err := s.Raise(ctx, s.key, 0, msg)
	assert.ErrorIs(t, err, ErrNotInteger)
	_, err = s.Raise(ctx, s.key+"2", math.MaxUint64, msg)
	assert.ErrorIs(t, err, ErrNotInteger)
}

func testAdd(t *testing.T, s *scene) {
	ctx := t.Context()
	n, err := s.Add(ctx, s.key, 3, minute)
	require.NoError(t, err)
	assert.EqualValues(t, 3, n)
	s.wantTTL(minute, minute)
	s.setTTL(s.key, 30*second)
	n, err = s.Add(ctx, s.key, -5, minute)
	require.NoError(t, err)
	assert.EqualValues(t, -2, n)
	s.wantTTL(30*second, 30*second) // never extended

	key := s.key + ":plain"
	n, err = s.Add(ctx, key, 1<<53+1, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 1<<53+1, n, "exact beyond 2^53")
	assert.Negative(t, s.ttl(key))
	_, err = s.Add(ctx, key, math.MaxInt64-5, 0)
	assert.ErrorIs(t, err, ErrNotInteger)
	assert.ErrorContains(t, err, key)
	for _, text := range []string{"abc", "1.5", "007", " 1"} {
		s.plant(key, []byte(text))
		_, err = s.Add(ctx, key, 1, 0)
		assert.ErrorIs(t, err, ErrNotInteger, text)
		assert.ErrorContains(t, err, key)
		assert.Equal(t, text, string(s.raw(key)))
	}
}

func testTake(t *testing.T, s *scene) {
	ctx := t.Context()
	for i := int64(1); i <= 5; i++ {
		taken, n, left, err := s.Take(ctx, s.key, 3, minute)
		require.NoError(t, err)
		assert.Equal(t, i <= 3, taken)
		assert.Equal(t, min(i, 3), n, "what is refused is not counted")
		assert.InDelta(t, minute, left, float64(2*second))
	}
	s.setTTL(s.key, 30*second)
	_, _, left, err := s.Take(ctx, s.key, 10, minute)
	require.NoError(t, err)
	assert.LessOrEqual(t, left, 30*second)

	key := s.key + ":none"
	taken, n, left, err := s.Take(ctx, key, 0, minute)
	require.NoError(t, err)
	assert.False(t, taken)
	assert.Zero(t, n)
	assert.Negative(t, left)
	assert.Nil(t, s.raw(key))
	for limit, want := range map[int64]bool{-5: false, -4: false, -3: true, 1 << 60: true} {
		s.plant(key, []byte("-4"))
		taken, _, _, err = s.Take(ctx, key, limit, 0)
		require.NoError(t, err)
		assert.Equal(t, want, taken, limit)
	}
	s.plant(key, []byte(strconv.Itoa(1<<53+1)))
	taken, n, _, err = s.Take(ctx, key, 1<<53+2, 0)
	require.NoError(t, err)
	assert.True(t, taken)
	assert.EqualValues(t, 1<<53+2, n)
	taken, _, _, err = s.Take(ctx, key, 1<<53+2, 0)
	require.NoError(t, err)
	assert.False(t, taken)
	s.plant(key, []byte("abc"))
	_, _, _, err = s.Take(ctx, key, 5, 0)
	assert.ErrorIs(t, err, ErrNotInteger)
	assert.ErrorContains(t, err, key)
}

func testCount(t *testing.T, s *scene) {
	ctx := t.Context()
	n, left, found, err := s.Count(ctx, s.key)
	require.NoError(t, err)
	assert.False(t, found)
	assert.Zero(t, n)
	assert.Negative(t, left)
	_, err = s.Add(ctx, s.key, 7, minute)
	require.NoError(t, err)
	n, left, found, err = s.Count(ctx, s.key)
	require.NoError(t, err)
	assert.True(t, found)
	assert.EqualValues(t, 7, n)
	assert.InDelta(t, minute, left, float64(2*second))
	s.plant(s.key, []byte("abc"))
	_, _, found, err = s.Count(ctx, s.key)
	assert.ErrorIs(t, err, ErrNotInteger)
	assert.False(t, found)
}
