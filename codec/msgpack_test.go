package codec_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/tandemcache/tandem/codec"
)

// refuses decodes hostile bytes, and holds that little memory is spent on it.
func refuses[T any](t *testing.T, src string, says string) {
	t.Helper()
	c := codec.Msgpack[T]()
	var v T
	_ = c.Decode([]byte(src), &v) // types are analyzed once
	var err error
	spent := allocated(func() { err = c.Decode([]byte(src), &v) })
	require.ErrorIs(t, err, codec.ErrMalformed)
	assert.ErrorContains(t, err, says)
	assert.Zero(t, v)
	assert.Less(t, spent, uint64(64<<10+4*len(src)))
}

func TestMsgpack_believesNoClaim(t *testing.T) {
	const more = "claims more"
	refuses[[]int64](t, "\xdd\x00\x80\x00\x00", more)
	refuses[[]int64](t, "\xdd\xff\xff\xff\xff", more)
	refuses[[]byte](t, "\xc6\x04\x00\x00\x00", more)
	refuses[[]byte](t, "\xc5\xff\xff", more)
	refuses[[]any](t, "\xdc\xff\xff", more)
	refuses[any](t, "\xdd\x00\x40\x00\x00", more)
	refuses[any](t, "\xdf\x7f\xff\xff\xff", more)
	refuses[map[string]any](t, "\xdf\x00\x10\x00\x00", more)
	refuses[map[int]int](t, "\xde\xff\xff\x01\x01", more)
	refuses[map[int]int](t, "\x82\x01\x01\x01", more)
	refuses[string](t, "\xdb\xff\xff\xff\xff", more)
	refuses[string](t, "\xd9", more)
	refuses[user](t, "\x81\xa4tags\xdd\xff\xff\xff\xff", more)
	refuses[user](t, "\x81\xa4what\xdd\xff\xff\xff\xff", more) // in a field that is skipped
	refuses[msgpack.RawMessage](t, "\xc9\xff\xff\xff\xff\x05", "extension")
	refuses[int](t, "\xc1", "does not use")
	refuses[int](t, "", "ends inside")
	refuses[[]int](t, "\x92\x01", more)
	refuses[[]int](t, "\x91\xcd\x01", more)
}

func TestMsgpack_boundsDepth(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("\x91", n) + "\xc0" }
	refuses[any](t, deep(257), "byte 256: nests too deep")
	refuses[any](t, deep(8<<20), "nests too deep")
	refuses[base](t, "\x81\xa1x"+deep(4<<20), "nests too deep")
	refuses[any](t, strings.Repeat("\x81\xa0", 1<<20)+"\xc0", "nests too deep")
	var v any
	require.NoError(t, codec.Msgpack[any]().Decode([]byte(deep(256)), &v))
}

// The library takes the payload of a timestamp for a map's header where it
// wants a map: these bytes would make maps of up to four billion entries.
func TestMsgpack_takesNoTimestampForAMap(t *testing.T) {
	const says = "timestamp where a map belongs"
	refuses[map[string]any](t, "\xd7\xff\xdf\x00\x20\x00\x00\xff\xff\xff", says)
	refuses[map[string]string](t, "\xd7\xff\xdf\x00\x0f\xff\xff\xff\xff\xff", says)
	refuses[map[int]int](t, "\xd6\xff\xde\xff\xff\x00", says)
	refuses[[]map[int]int](t, "\x92\x80\xd6\xff\xde\xff\xff\x00", says)
	refuses[map[string]map[string]int](t, "\x81\xa1a\xc7\x0c\xff\xdf\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00", says)
	refuses[user](t, "\x81\xa6limits\xd7\xff\xdf\x00\x20\x00\x00\xff\xff\xff", says)
	refuses[map[int]int](t, "\xd6\xff\xc0\xff\xff\x00", says) // a nil map, then the payload as values

	// The same bytes are a good timestamp.
	at := time.Unix(0x3ffffffff, 937000000)
	c := codec.Msgpack[map[string][]time.Time]()
	b, err := c.Append(nil, map[string][]time.Time{"a": {at, at}})
	require.NoError(t, err)
	require.Contains(t, string(b), "\xd7\xff\xdf")
	var got map[string][]time.Time
	require.NoError(t, c.Decode(b, &got))
	assert.True(t, at.Equal(got["a"][1]))
}

func TestMsgpack_refusesExtensionTypes(t *testing.T) {
	for _, src := range []string{
		"\xd4\x80\x00", "\xd5\x80\x00\x00", "\xd6\x05\x00\x00\x00\x00", "\xd6\x0d\x00\x00\x00\x00",
		"\xd7\x05\x00\x00\x00\x00\x00\x00\x00\x00", "\xd8\xff" + strings.Repeat("\x00", 16),
		"\xc7\x00\xff", "\xc7\x0c\x05" + strings.Repeat("\x00", 12), "\xc8\x00\x00\xff", "\xc9\x00\x00\x00\x00\xff",
	} {
		refuses[any](t, src, "extension type")
		refuses[string](t, src, "extension type")
		refuses[user](t, "\x81\xa1z"+src, "extension type")
	}
}

func TestMsgpack_checksTheValueItself(t *testing.T) {
	refuses[user](t, "\xc0", "nil where a struct belongs")
	refuses[base](t, "\xc0", "nil where a struct belongs")
	refuses[time.Time](t, "\xc0", "panic")
	refuses[int8](t, "\xcd\x01\x2c", "out of range")
	refuses[int8](t, "\xd1\xff\x00", "out of range")
	refuses[id](t, "\xd2\x7f\xff\xff\xff", "out of range")
	refuses[uint8](t, "\xff", "out of range")
	refuses[uint64](t, "\xd3\xff\xff\xff\xff\xff\xff\xff\xff", "out of range")
	refuses[int64](t, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "out of range")
	refuses[int](t, "\xc0", "not an integer")
	refuses[int](t, "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", "not an integer")
	refuses[time.Duration](t, "\xa11", "not an integer")

	for src, want := range map[string]int64{"\x07": 7, "\xff": -1, "\xd0\x80": -128, "\xcc\xff": 255,
		"\xce\xff\xff\xff\xff": 1<<32 - 1, "\xd3\x80\x00\x00\x00\x00\x00\x00\x00": -1 << 63, "\xd2\xff\xff\xff\xff": -1} {
		var got int64
		require.NoError(t, codec.Msgpack[int64]().Decode([]byte(src), &got))
		assert.Equal(t, want, got)
	}
}

func TestMsgpack_survivesPanicsOfTheLibrary(t *testing.T) {
	refuses[struct{ F interface{ String() string } }](t, "\x81\xa1F\x01", "panic")
	refuses[map[any]int](t, "\x81\x90\x01", "panic")
	c := codec.Msgpack[map[any]int]()
	var v map[any]int
	require.NoError(t, c.Decode([]byte("\x81\x01\x01"), &v), "and goes on working")
}

// stubborn does with the coders what it likes.
type stubborn struct{ Do string }

func (s *stubborn) EncodeMsgpack(e *msgpack.Encoder) error {
	switch s.Do {
	case "panic":
		panic("secret")
	case "nothing":
		return nil
	case "two":
		return errors.Join(e.EncodeInt(1), e.EncodeInt(2))
	case "half":
		return e.EncodeArrayLen(2)
	case "ext":
		return e.EncodeExtHeader(5, 0)
	}
	return e.EncodeString(s.Do)
}

func (s *stubborn) DecodeMsgpack(d *msgpack.Decoder) error {
	var err error
	if s.Do, err = d.DecodeString(); s.Do == "panic" {
		panic(errors.New("secret"))
	}
	if s.Do == "nothing" {
		return nil
	}
	return err
}

func TestMsgpack_refusesWhatMarshalersGetWrong(t *testing.T) {
	c := codec.Msgpack[stubborn]()
	for do, says := range map[string]string{"panic": "panic of type string", "nothing": "ends inside",
		"two": "bytes after", "half": "claims more", "ext": "extension type"} {
		got, err := c.Append([]byte("before"), stubborn{do})
		require.ErrorIs(t, err, codec.ErrEncode)
		assert.ErrorContains(t, err, says)
		assert.NotContains(t, err.Error(), "secret")
		assert.Equal(t, "before", string(got))
	}
	var v stubborn
	err := c.Decode([]byte("\xa5panic"), &v)
	require.ErrorIs(t, err, codec.ErrMalformed)
	assert.NotContains(t, err.Error(), "secret")
	assert.Zero(t, v)

	lists := codec.Msgpack[[]stubborn]() // elements of a slice are addressable
	b, err := lists.Append(nil, []stubborn{{"a"}, {"b"}})
	require.NoError(t, err)
	var got []stubborn
	require.NoError(t, lists.Decode(b, &got))
	assert.Equal(t, []stubborn{{"a"}, {"b"}}, got)

	raw := codec.Msgpack[msgpack.RawMessage]()
	_, err = raw.Append(nil, msgpack.RawMessage{})
	assert.ErrorIs(t, err, codec.ErrEncode)
}

type lazy struct{}

func (lazy) EncodeMsgpack(e *msgpack.Encoder) error  { return e.EncodeNil() }
func (*lazy) DecodeMsgpack(d *msgpack.Decoder) error { return nil }

func TestMsgpack_refusesATypeThatLeavesBytes(t *testing.T) {
	refuses[lazy](t, "\x01", "reads only a part")
	refuses[lazy](t, "\xc0\xc0", "bytes after")
}

type loop struct {
	Next *loop
	Any  any
}

func TestMsgpack_refusesAValueThatContainsItself(t *testing.T) {
	l := &loop{}
	l.Next = l
	_, err := codec.Msgpack[*loop]().Append(nil, l)
	require.ErrorIs(t, err, codec.ErrEncode)
	assert.ErrorContains(t, err, "nests too deep")

	s := []any{nil}
	s[0] = s
	_, err = codec.Msgpack[any]().Append([]byte("before"), s)
	require.ErrorIs(t, err, codec.ErrEncode)

	var chain *loop
	for range 300 {
		chain = &loop{Next: chain}
	}
	_, err = codec.Msgpack[*loop]().Append(nil, chain)
	require.ErrorIs(t, err, codec.ErrEncode, "and one that nests deeper than Decode takes")
}

func TestMsgpack_keepsNoHugeBuffers(t *testing.T) {
	c := codec.Msgpack[string]()
	huge := strings.Repeat("x", 32<<20)
	b, err := c.Append(nil, huge)
	require.NoError(t, err)
	var v string
	require.NoError(t, c.Decode(b, &v))
	v, huge, b = "", "", nil
	small, err := c.Append(nil, "small")
	require.NoError(t, err)
	require.NoError(t, c.Decode(small, &v))
	var m runtime.MemStats
	runtime.GC() // pools keep one generation
	runtime.ReadMemStats(&m)
	assert.Less(t, m.HeapAlloc, uint64(24<<20))
	runtime.KeepAlive(c)
	_, _ = huge, b
}

func TestMsgpack_errorsHoldNoValue(t *testing.T) {
	var at struct{ At time.Time }
	b, err := codec.Msgpack[map[string]string]().Append(nil, map[string]string{"At": "hunter2"})
	require.NoError(t, err)
	err = codec.Msgpack[struct{ At time.Time }]().Decode(b, &at)
	require.ErrorIs(t, err, codec.ErrMalformed)
	assert.NotContains(t, err.Error(), "hunter2")

	var n struct{ N int8 }
	err = codec.JSON[struct{ N int8 }]().Decode([]byte(`{"N":123456}`), &n)
	require.ErrorIs(t, err, codec.ErrMalformed)
	assert.NotContains(t, err.Error(), "123456")
	assert.ErrorContains(t, err, "N does not fit a int8")
	err = codec.JSON[struct{ At time.Time }]().Decode([]byte(`{"At":"hunter2"}`), &at)
	require.ErrorIs(t, err, codec.ErrMalformed)
	assert.NotContains(t, err.Error(), "hunter2")
	_, ok := errors.AsType[*time.ParseError](err)
	assert.True(t, ok, "the cause is reachable")
}

// A field added, removed and reordered.
func TestMsgpack_evolution(t *testing.T) {
	type v1 struct {
		A int    `msgpack:"a"`
		B string `msgpack:"b"`
	}
	type v2 struct {
		C []int  `msgpack:"c"`
		B string `msgpack:"b"`
	}
	b, err := codec.Msgpack[v1]().Append(nil, v1{1, "b"})
	require.NoError(t, err)
	var got v2
	require.NoError(t, codec.Msgpack[v2]().Decode(b, &got))
	assert.Equal(t, v2{nil, "b"}, got)
}

func TestMsgpack_compactInts(t *testing.T) {
	c := codec.Msgpack[[]int64]()
	for range 3 { // Reset of a pooled encoder clears its options
		b, err := c.Append(nil, []int64{1, 2, 3})
		require.NoError(t, err)
		assert.True(t, bytes.Equal([]byte{0x93, 1, 2, 3}, b))
	}
}

func TestJSON_checksTheValueItself(t *testing.T) {
	var b base
	assert.ErrorIs(t, codec.JSON[base]().Decode([]byte(" null\n"), &b), codec.ErrMalformed)
	assert.ErrorIs(t, codec.JSON[base]().Decode([]byte(`{"version":1} {}`), &b), codec.ErrMalformed)
	assert.ErrorIs(t, codec.JSON[any]().Decode([]byte(strings.Repeat("[", 1<<20)), new(any)), codec.ErrMalformed)
	_, err := codec.JSON[any]().Append(nil, func() {})
	assert.ErrorIs(t, err, codec.ErrEncode)
	out, err := codec.JSON[string]().Append(nil, "<&>")
	require.NoError(t, err)
	assert.Equal(t, `"<&>"`, string(out))
}

func TestText_refusesInvalidUTF8(t *testing.T) {
	out, err := codec.Text().Append([]byte("x"), "a\xff")
	assert.ErrorIs(t, err, codec.ErrEncode)
	assert.Equal(t, "x", string(out))
	s := "before"
	err = codec.Text().Decode([]byte("\u00fc\xffa"), &s)
	assert.ErrorIs(t, err, codec.ErrMalformed)
	assert.ErrorContains(t, err, "byte 2")
	assert.Empty(t, s)
}
