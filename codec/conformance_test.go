package codec_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
)

const key = "ghl:user:123"

// suite is one codec and values of its type.
type suite[T any] struct {
	codec  codec.Codec[T]
	values []T
	equal  func(want, got T) bool // nil: reflect.DeepEqual
	broad  bool                   // any bytes are a value, as for Bytes
}

// testCodec is the contract of a codec.
func testCodec[T any](t *testing.T, s suite[T]) {
	if s.equal == nil {
		s.equal = func(want, got T) bool { return reflect.DeepEqual(want, got) }
	}
	t.Run("round trip", s.roundTrip)
	t.Run("append keeps dst", s.appends)
	t.Run("no aliasing", s.aliasing)
	t.Run("decodes over anything", s.overwrites)
	t.Run("truncated", s.truncated)
	t.Run("bytes after the value", s.trailing)
	t.Run("bit flips", s.flips)
	t.Run("noise", s.noise)
	t.Run("concurrent", s.concurrent)
}

func (s suite[T]) encode(t require.TestingT, v T) []byte {
	b, err := codec.AppendFor(s.codec, nil, key, v)
	require.NoError(t, err)
	return b
}

// survive decodes hostile bytes: no panic, a zero value with an error, and an
// error that a caller can tell.
func (s suite[T]) survive(t require.TestingT, src []byte) error {
	before := bytes.Clone(src)
	got := new(T)
	err := codec.DecodeFor(s.codec, src, key, got)
	require.Equal(t, before, src, "src was written to")
	if err != nil {
		require.Zero(t, *got)
		require.True(t, errors.Is(err, codec.ErrMalformed) || errors.Is(err, codec.ErrTooLarge) ||
			errors.Is(err, codec.ErrForged) || errors.Is(err, codec.ErrSecret), "%v", err)
	}
	return err
}

func (s suite[T]) roundTrip(t *testing.T) {
	for _, v := range s.values {
		var got T
		require.NoError(t, codec.DecodeFor(s.codec, s.encode(t, v), key, &got))
		assert.True(t, s.equal(v, got), "want %#v\n got %#v", v, got)
	}
}

func (s suite[T]) appends(t *testing.T) {
	for _, v := range s.values {
		for _, dst := range [][]byte{[]byte("before"), append(make([]byte, 0, 1<<16), "before"...)} {
			b, err := codec.AppendFor(s.codec, dst, key, v)
			require.NoError(t, err)
			require.True(t, bytes.HasPrefix(b, []byte("before")))
			var got T
			require.NoError(t, codec.DecodeFor(s.codec, b[len("before"):], key, &got))
			require.True(t, s.equal(v, got))
		}
	}
}

func (s suite[T]) aliasing(t *testing.T) {
	for _, v := range s.values {
		src := s.encode(t, v)
		var got, again T
		require.NoError(t, codec.DecodeFor(s.codec, src, key, &got))
		// The network buffer is used again, and so are the codec's own.
		for i := range src {
			src[i] = ^src[i]
		}
		for _, other := range s.values {
			require.NoError(t, codec.DecodeFor(s.codec, s.encode(t, other), key, &again))
		}
		require.True(t, s.equal(v, got), "the value shares memory with the bytes")
	}
}

func (s suite[T]) overwrites(t *testing.T) {
	for _, v := range s.values {
		for _, before := range s.values {
			got := before
			require.NoError(t, codec.DecodeFor(s.codec, s.encode(t, v), key, &got))
			require.True(t, s.equal(v, got), "over %#v: %#v", before, got)
		}
	}
}

func (s suite[T]) truncated(t *testing.T) {
	for _, v := range s.values {
		b := s.encode(t, v)
		for n := 0; n < len(b); n += step(len(b)) {
			if err := s.survive(t, b[:n:n]); !s.broad {
				require.Error(t, err, "%d of %d bytes", n, len(b))
			}
		}
	}
}

func (s suite[T]) trailing(t *testing.T) {
	for _, v := range s.values {
		for _, more := range []string{"\x00", "\xc0", "\x80", "1", "{}", "null"} {
			if err := s.survive(t, append(s.encode(t, v), more...)); !s.broad {
				require.Error(t, err, "%q after %#v", more, v)
			}
		}
	}
}

func (s suite[T]) flips(t *testing.T) {
	for _, v := range s.values {
		b := s.encode(t, v)
		for i := 0; i < len(b); i += step(len(b)) {
			for bit := range 8 {
				if len(b) > 4096 && bit != i%8 {
					continue
				}
				b[i] ^= 1 << bit
				_ = s.survive(t, b)
				b[i] ^= 1 << bit
			}
		}
	}
}

func (s suite[T]) noise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		_ = s.survive(t, b)
		if len(s.values) > 0 { // a good beginning, then noise
			good := s.encode(t, s.values[r.IntN(len(s.values))])
			_ = s.survive(t, append(good[:r.IntN(len(good)+1)], b...))
		}
	}
}

func (s suite[T]) concurrent(t *testing.T) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 12 {
				v := s.values[(g+i)%len(s.values)]
				b, err := codec.AppendFor(s.codec, nil, key, v)
				var got T
				if !assert.NoError(t, err) || !assert.NoError(t, codec.DecodeFor(s.codec, b, key, &got)) {
					return
				}
				assert.True(t, s.equal(v, got))
				if len(b) > 0 { // failures in between must not spoil the coders
					_ = codec.DecodeFor(s.codec, b[:len(b)-1], key, &got)
				}
			}
		})
	}
	wg.Wait()
}

// step visits every byte of a short encoding and some of a long one.
func step(n int) int { return 1 + n/1024*31 }

// allocated returns the bytes that f allocated.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
