package codec_test

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
)

func zip[T any](t testing.TB, inner codec.Codec[T], opt codec.Compression) codec.Codec[T] {
	c, err := codec.Compressed(inner, opt)
	require.NoError(t, err)
	return c
}

func TestCompressed_storesPlainWhatDoesNotGain(t *testing.T) {
	c := zip(t, codec.Bytes(), codec.Compression{})
	for _, tt := range []struct {
		name       string
		v          []byte
		compressed bool
	}{
		{"empty", nil, false},
		{"below the threshold", bytes.Repeat([]byte("a"), 1023), false},
		{"at the threshold", bytes.Repeat([]byte("a"), 1024), true},
		{"noise", noise(4096), false},
	} {
		b, err := c.Append(nil, tt.v)
		require.NoError(t, err)
		if tt.compressed {
			assert.Equal(t, byte(1), b[0], tt.name)
			assert.Less(t, len(b), len(tt.v)/4, tt.name)
		} else {
			assert.Equal(t, append([]byte{0}, tt.v...), b, tt.name)
		}
	}
	b, err := zip(t, codec.Bytes(), codec.Compression{MinBytes: -1}).Append(nil, bytes.Repeat([]byte("a"), 64))
	require.NoError(t, err)
	assert.Equal(t, byte(1), b[0])
}

func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(1)
	for i := range b {
		x = x*6364136223846793005 + 1442695040888963407
		b[i] = byte(x >> 56)
	}
	return b
}

func TestCompressed_boundsWhatItUnpacks(t *testing.T) {
	small := zip(t, codec.Bytes(), codec.Compression{MaxBytes: 1000, MinBytes: -1})
	large := zip(t, codec.Bytes(), codec.Compression{MaxBytes: 1 << 28})
	for _, n := range []int{1001, 2000, 1 << 20, 64 << 20} {
		bomb, err := large.Append(nil, make([]byte, n))
		require.NoError(t, err)
		var v []byte
		spent := allocated(func() { err = small.Decode(bomb, &v) })
		assert.ErrorIs(t, err, codec.ErrTooLarge)
		assert.Less(t, spent, uint64(64<<10))
		_, err = small.Append(nil, make([]byte, n))
		assert.ErrorIs(t, err, codec.ErrTooLarge)
	}
	b, err := small.Append(nil, make([]byte, 1000))
	require.NoError(t, err)
	var v []byte
	require.NoError(t, small.Decode(b, &v))
	assert.Len(t, v, 1000)
	assert.ErrorIs(t, small.Decode(make([]byte, 1002), &v), codec.ErrTooLarge, "plain as well")
}

// frame is a zstd frame of zeros whose header declares what it likes.
func frame(t testing.TB, declared uint64, content int) []byte {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(true))
	require.NoError(t, err)
	b := enc.EncodeAll(make([]byte, content), []byte{1})
	require.Equal(t, byte(0xa4), b[5], "single segment, checksum, four bytes of size")
	binary.LittleEndian.PutUint32(b[6:], uint32(declared))
	return b
}

func TestCompressed_trustsNoDeclaredSize(t *testing.T) {
	c := zip(t, codec.Bytes(), codec.Compression{MaxBytes: 64 << 20})
	const real = 100_000
	var v []byte
	require.NoError(t, c.Decode(frame(t, real, real), &v))
	for _, declared := range []uint64{0, 1, real - 1, real + 1, 1 << 20, 60 << 20, 1<<32 - 1} {
		src := frame(t, declared, real)
		var err error
		spent := allocated(func() { err = c.Decode(src, &v) })
		require.Error(t, err, "%d", declared)
		assert.Less(t, spent, uint64(2<<20), "%d", declared)
		assert.Nil(t, v)
	}
	for name, src := range map[string]string{
		"empty": "", "flag only": "\x01", "unknown flag": "\x02abc", "no frame": "\x01hello, world",
		"skippable":       "\x01\x50\x2a\x4d\x18\x04\x00\x00\x00abcd",
		"no content size": "\x01\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00",
		"dictionary":      "\x01\x28\xb5\x2f\xfd\x21\x05\x01\x01\x00\x00",
	} {
		assert.ErrorIs(t, c.Decode([]byte(src), &v), codec.ErrMalformed, name)
	}
	two := append(frame(t, real, real), frame(t, real, real)[1:]...)
	assert.ErrorIs(t, c.Decode(two, &v), codec.ErrMalformed, "a second frame")

	hidden, err := zip(t, codec.Bytes(), codec.Compression{MaxBytes: 64 << 20}).Append(nil, make([]byte, 60<<20))
	require.NoError(t, err)
	behind := append(frame(t, real, real), hidden[1:]...)
	spent := allocated(func() { err = c.Decode(behind, &v) })
	assert.ErrorIs(t, err, codec.ErrMalformed, "a second frame that is a bomb")
	assert.Less(t, spent, uint64(2<<20))

	empty := []byte("\x01\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00")
	require.NoError(t, c.Decode(empty, &v))
	for range 3 { // the buffer of an earlier call has room
		require.NoError(t, c.Decode(frame(t, real, real), &v))
		assert.ErrorIs(t, c.Decode(append(empty, frame(t, real, real)[1:]...), &v), codec.ErrMalformed, "behind an empty one")
	}
}

func TestCompressed_levelsReadEachOther(t *testing.T) {
	want := strings.Repeat("levels ", 1000)
	for level := range 5 {
		b, err := zip(t, codec.Text(), codec.Compression{Level: level}).Append(nil, want)
		require.NoError(t, err)
		var got string
		require.NoError(t, zip(t, codec.Text(), codec.Compression{Level: 1 + level%4}).Decode(b, &got))
		assert.Equal(t, want, got)
	}
}

func TestCompressed_namesEveryFault(t *testing.T) {
	_, err := codec.Compressed[string](nil, codec.Compression{Level: 5, MaxBytes: 1<<30 + 1})
	require.Error(t, err)
	for _, says := range []string{"got nil", "Compression.Level is 5", "Compression.MaxBytes is 1073741825"} {
		assert.ErrorContains(t, err, says)
	}
	_, err = codec.Compressed(codec.Text(), codec.Compression{Level: -1, MaxBytes: -1})
	assert.ErrorContains(t, err, "Level is -1")
	assert.ErrorContains(t, err, "MaxBytes is -1")
}

func TestCompressed_ofLargeValues(t *testing.T) {
	c := zip(t, codec.Bytes(), codec.Compression{MaxBytes: 16 << 20})
	want := bytes.Repeat(noise(100_000), 60) // beyond the window
	b, err := c.Append(nil, want)
	require.NoError(t, err)
	assert.Less(t, len(b), len(want)/2)
	var got []byte
	require.NoError(t, c.Decode(b, &got))
	assert.True(t, bytes.Equal(want, got))
}

// Coders that are made with the first use, inside a bubble, would end the process
// with the next use outside.
func TestCompressed_inAndOutOfBubbles(t *testing.T) {
	c := zip(t, codec.Text(), codec.Compression{MinBytes: -1})
	want := strings.Repeat("bubble ", 100)
	use := func(c codec.Codec[string]) {
		b, err := c.Append(nil, want)
		require.NoError(t, err)
		var got string
		require.NoError(t, c.Decode(b, &got))
		require.Equal(t, want, got)
	}
	synctest.Test(t, func(t *testing.T) { use(c) })
	use(c)
	synctest.Test(t, func(t *testing.T) {
		use(zip(t, codec.Text(), codec.Compression{MinBytes: -1}))
	})
	use(c)
}
