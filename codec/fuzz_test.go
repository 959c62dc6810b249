package codec_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
)

// fuzzed has a field for each way in which the library reads.
type fuzzed struct {
	A any                     `msgpack:"a" json:"a"`
	B []byte                  `msgpack:"b" json:"b"`
	C map[string]any          `msgpack:"c" json:"c"`
	D map[int16][]string      `msgpack:"d" json:"d"`
	E []fuzzed                `msgpack:"e" json:"e"`
	F *fuzzed                 `msgpack:"f" json:"f"`
	G time.Time               `msgpack:"g" json:"g"`
	H map[string]string       `msgpack:"h" json:"h"`
	I [3]int8                 `msgpack:"i" json:"i"`
	J map[string]map[int]bool `msgpack:"j" json:"j"`
	K float32                 `msgpack:"k" json:"k"`
	L [2]byte                 `msgpack:"l" json:"l"`
}

// bound is what decoding n bytes may allocate: the largest element of the type
// for each byte, doubled as slices grow, and what tests and errors cost.
func bound[T any](n int) uint64 {
	size := max(uint64(reflect.TypeFor[T]().Size()), uint64(reflect.TypeFor[fuzzed]().Size()))
	return 256<<10 + uint64(n)*3*size
}

// fuzzDecode holds the contract for hostile bytes, and that what decodes can be
// written and read again.
func fuzzDecode[T any](f *testing.F, c codec.Codec[T], limit uint64, seeds ...T) {
	s := suite[T]{codec: c}
	for _, v := range seeds {
		f.Add(s.encode(f, v))
	}
	for _, src := range []string{"", "\xc0", "\xdd\xff\xff\xff\xff", "\xdf\xff\xff\xff\xff", "\xc6\xff\xff\xff\xff",
		"\xd7\xff\xdf\x00\x20\x00\x00\xff\xff\xff", strings.Repeat("\x91", 300), "\x81\xa1c\xd7\xff\xdf\x00\x20\x00\x00\xff\xff\xff",
		"null", "{}", `{"a":[1,{"x":null}]}`, strings.Repeat("[", 300)} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var err error
		spent := allocated(func() { err = s.survive(t, src) })
		require.LessOrEqual(t, spent, limit+bound[T](len(src)))
		if err != nil {
			return
		}
		var v, again T
		require.NoError(t, codec.DecodeFor(c, src, key, &v))
		b, err := codec.AppendFor(c, nil, key, v)
		if err != nil {
			return // such as a time out of the range of years that JSON writes
		}
		require.NoError(t, codec.DecodeFor(c, b, key, &again))
	})
}

func seeds() []fuzzed {
	return []fuzzed{{}, {
		A: "a", B: []byte{1}, C: map[string]any{"x": []any{1.5, nil}}, D: map[int16][]string{-1: {"s"}}, E: []fuzzed{{K: 1}},
		F: &fuzzed{A: true}, G: time.Unix(0x3ffffffff, 937000000), H: map[string]string{"k": "v"},
		I: [3]int8{1, -1}, J: map[string]map[int]bool{"j": {1: true}}, L: [2]byte{1, 2},
	}}
}

func FuzzMsgpack(f *testing.F)    { fuzzDecode(f, codec.Msgpack[fuzzed](), 0, seeds()...) }
func FuzzMsgpackAny(f *testing.F) { fuzzDecode(f, codec.Msgpack[any](), 0, any("x"), any([]any{"a"})) }
func FuzzMsgpackInt(f *testing.F) { fuzzDecode[int16](f, codec.Msgpack[int16](), 0, 0, -1, 300) }
func FuzzMsgpackMap(f *testing.F) {
	fuzzDecode(f, codec.Msgpack[map[string]time.Time](), 0, map[string]time.Time{"x": time.Unix(0x3ffffffff, 937000000)})
}
func FuzzJSON(f *testing.F) { fuzzDecode(f, codec.JSON[fuzzed](), 0, seeds()...) }
func FuzzText(f *testing.F) { fuzzDecode(f, codec.Text(), 0, "", "a", "\u00fc") }

func FuzzCompressed(f *testing.F) {
	const limit = 1 << 20
	c := zip(f, codec.Bytes(), codec.Compression{MinBytes: -1, MaxBytes: limit})
	// The buffer, the value, and the tables that a decoder makes once.
	fuzzDecode(f, c, 3*limit, []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaa"), make([]byte, 100_000), noise(300))
}

func FuzzEncrypted(f *testing.F) {
	fuzzDecode(f, seal(f, codec.Bytes(), ring()), 0, []byte("a"), make([]byte, 1000))
}

// FuzzMsgpackValues holds the round trip for any values.
func FuzzMsgpackValues(f *testing.F) {
	f.Add("", int64(0), []byte(nil), 0.0, true)
	f.Add("x", int64(-1)<<63, []byte{1}, -1.5, false)
	c := codec.Msgpack[values]()
	f.Fuzz(func(t *testing.T, s string, n int64, b []byte, x float64, ok bool) {
		want := values{S: s, N: n, B: b, X: x, OK: ok, List: []string{s, s}, Map: map[string]int64{s: n}, At: time.Unix(n>>20, n&0xfffff)}
		src, err := c.Append(nil, want)
		require.NoError(t, err)
		var got values
		require.NoError(t, c.Decode(src, &got))
		require.True(t, want.At.Equal(got.At))
		want.At, got.At = time.Time{}, time.Time{}
		if x == x { // not NaN
			require.Equal(t, want, got)
		}
	})
}

type values struct {
	S    string
	N    int64
	B    []byte
	X    float64
	OK   bool
	List []string
	Map  map[string]int64
	At   time.Time
}
