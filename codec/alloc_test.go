package codec_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
)

type account struct {
	ID      int64    `msgpack:"id" json:"id"`
	Name    string   `msgpack:"name" json:"name"`
	Email   string   `msgpack:"email" json:"email"`
	Plan    string   `msgpack:"plan" json:"plan"`
	Credits int      `msgpack:"credits" json:"credits"`
	Ratio   float64  `msgpack:"ratio" json:"ratio"`
	Active  bool     `msgpack:"active" json:"active"`
	Tags    []string `msgpack:"tags" json:"tags"`
}

func anAccount() account {
	return account{42, "Ann Example", "ann@example.org", "enterprise", 1 << 20, 0.75, true, []string{"a", "b"}}
}

// Encoding costs nothing of ours (the library converts the []string), decoding
// what the value holds: three strings and a slice, the tags being single bytes.
func TestAllocations(t *testing.T) {
	for _, tt := range []struct {
		codec          codec.Codec[account]
		append, decode float64
	}{
		{codec.Msgpack[account](), 1, 4},
		{zip(t, codec.Msgpack[account](), codec.Compression{}), 1, 4},
		{zip(t, codec.Msgpack[account](), codec.Compression{MinBytes: -1}), 1, 4},
		{seal(t, codec.Msgpack[account](), ring()), 1, 4},
	} {
		buf, err := codec.AppendFor(tt.codec, make([]byte, 0, 1024), key, anAccount())
		require.NoError(t, err)
		src := append([]byte(nil), buf...)
		v := new(account)
		value := anAccount()
		appends := testing.AllocsPerRun(200, func() { buf, _ = codec.AppendFor(tt.codec, buf[:0], key, value) })
		decodes := testing.AllocsPerRun(200, func() { _ = codec.DecodeFor(tt.codec, src, key, v) })
		t.Logf("%s: append %v, decode %v", tt.codec.Name(), appends, decodes)
		assert.LessOrEqual(t, appends, tt.append+poolLoss, tt.codec.Name())
		assert.LessOrEqual(t, decodes, tt.decode+poolLoss, tt.codec.Name())
	}
}

func BenchmarkCodec(b *testing.B) {
	all := wrapped(b, codec.Msgpack[account]())
	for i, c := range append(all[:5:5], codec.JSON[account]()) {
		name := fmt.Sprintf("codec=%d.%s", i, c.Name())
		src, err := codec.AppendFor(c, nil, key, anAccount())
		require.NoError(b, err)
		b.Run("append/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			buf, v := make([]byte, 0, 1024), anAccount()
			for b.Loop() {
				buf, _ = codec.AppendFor(c, buf[:0], key, v)
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(src)))
			var v account
			for b.Loop() {
				_ = codec.DecodeFor(c, src, key, &v)
			}
		})
	}
}

func BenchmarkDecodeParallel(b *testing.B) {
	for i, c := range wrapped(b, codec.Msgpack[account]())[:5] {
		src, err := codec.AppendFor(c, nil, key, anAccount())
		require.NoError(b, err)
		b.Run(fmt.Sprintf("codec=%d.%s", i, c.Name()), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				var v account
				for pb.Next() {
					_ = codec.DecodeFor(c, src, key, &v)
				}
			})
		})
	}
}
