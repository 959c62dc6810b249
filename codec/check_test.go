package codec_test

import (
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/tandemcache/tandem/codec"
)

func check[T any](c codec.Codec[T]) error { return c.(codec.Checker).Check() }

type (
	half       struct{ X int }
	wordly     string
	byPointer  struct{ X int }
	endless    *endless
	embeds     struct{ *base }
	embedsSelf struct {
		*embedsSelf
		X int
	}
	hidden      struct{ X int }
	embedsTwice struct {
		hidden
		Y []embedsTwice
	}
	number       int
	embedsNumber struct{ number }
	embedsHidden struct{ *hidden }
	noInline     struct {
		*Shown `msgpack:",noinline"`
	}
	Shown struct{ X int }
)

func (half) MarshalText() ([]byte, error)         { return nil, nil }
func (wordly) MarshalText() ([]byte, error)       { return nil, nil }
func (*byPointer) MarshalBinary() ([]byte, error) { return nil, nil }
func (*byPointer) UnmarshalBinary([]byte) error   { return nil }

func TestCheck_accepts(t *testing.T) {
	for name, err := range map[string]error{
		"user":        check(codec.Msgpack[user]()),
		"recursive":   check(codec.Msgpack[nested]()),
		"any":         check(codec.Msgpack[any]()),
		"map any":     check(codec.Msgpack[map[string]any]()),
		"time":        check(codec.Msgpack[time.Time]()),
		"duration":    check(codec.Msgpack[*time.Duration]()),
		"big":         check(codec.Msgpack[big.Int]()),
		"url":         check(codec.Msgpack[*url.URL]()),
		"raw":         check(codec.Msgpack[msgpack.RawMessage]()),
		"own":         check(codec.Msgpack[[]byPointer]()),
		"map of ptrs": check(codec.Msgpack[map[string]*byPointer]()),
		"word":        check(codec.Msgpack[wordly]()),
		"embedded":    check(codec.Msgpack[embedsTwice]()),
		"noinline":    check(codec.Msgpack[noInline]()),
		"error":       check(codec.Msgpack[error]()),
		"has a time":  check(codec.Msgpack[fmt.Stringer]()),
		"a field":     check(codec.Msgpack[struct{ F interface{ F() } }]()),
		"skipped": check(codec.Msgpack[struct {
			F func()   `msgpack:"-"`
			G chan int `msgpack:"-,omitempty"`
			c chan int
		}]()),
		"json": check(codec.JSON[user]()),
		"json skipped": check(codec.JSON[struct {
			F func()   `json:"-"`
			G chan int `json:",omitzero"`
			c chan int
		}]()),
		"json recursive":       check(codec.JSON[nested]()),
		"json embedded":        check(codec.JSON[noInline]()),
		"json keys":            check(codec.JSON[map[int]map[time.Month]string]()),
		"json uintptr":         check(codec.JSON[uintptr]()),
		"json embeds a number": check(codec.JSON[embedsNumber]()),
	} {
		assert.NoError(t, err, name)
	}
}

func TestCheck_namesThePathOfEveryFault(t *testing.T) {
	type bad struct {
		A  int
		B  []map[string]*struct{ C chan int }
		D  func()
		E  complex64
		F  unsafe.Pointer
		G  map[string][2]complex128
		H  *bad2
		ok chan int
	}
	for name, err := range map[string]error{"msgpack": check(codec.Msgpack[bad]()), "json": check(codec.JSON[bad]())} {
		require.ErrorIs(t, err, codec.ErrType, name)
		for _, says := range []string{"B[][value].C is a chan", "D is a func", "E is a complex64",
			"F is a unsafe.Pointer", "G[value][] is a complex128", "H.I is a chan"} {
			assert.ErrorContains(t, err, says, name)
		}
		assert.NotContains(t, err.Error(), "ok")
	}
	assert.ErrorContains(t, check(codec.Msgpack[chan int]()), "the value is a chan")
	assert.ErrorContains(t, check(codec.JSON[func()]()), "the value is a func")
}

type bad2 struct {
	I    chan int
	Self *bad2
}

func TestCheck_refusesWhatOnlyOneLibraryCannot(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		says string
	}{
		"uintptr":          {check(codec.Msgpack[uintptr]()), "the value is a uintptr"},
		"embedded pointer": {check(codec.Msgpack[embeds]()), "base is an embedded pointer"},
		"embeds itself":    {check(codec.Msgpack[embedsSelf]()), "embedsSelf is an embedded pointer"},
		"embedded number":  {check(codec.Msgpack[embedsNumber]()), "number is embedded, not exported"},
		"endless":          {check(codec.Msgpack[endless]()), "pointer without end"},
		"json endless":     {check(codec.JSON[endless]()), "pointer without end"},
		"intern": {check(codec.Msgpack[struct {
			S string `msgpack:"s,intern"`
		}]()), "S has the tag option intern"},
		"half a pair":          {check(codec.Msgpack[[]half]()), "[] is a codec_test.half, which has MarshalText but no UnmarshalText"},
		"pointer in map":       {check(codec.Msgpack[map[string]byPointer]()), "use a map of pointers"},
		"pointer in map array": {check(codec.Msgpack[map[string][1]struct{ F byPointer }]()), "[value][].F is a codec_test.byPointer in a map"},
		"json keys":            {check(codec.JSON[map[float64]int]()), "keys of type float64"},
		"interface":            {check(codec.Msgpack[interface{ F() }]()), "an interface with methods"},
		"json interface":       {check(codec.JSON[fmt.Stringer]()), "an interface with methods"},
		"json error":           {check(codec.JSON[error]()), "an interface with methods"},
		"json hidden":          {check(codec.JSON[embedsHidden]()), "embedded pointer to a type that is not exported"},
	} {
		require.ErrorIs(t, tt.err, codec.ErrType, name)
		assert.ErrorContains(t, tt.err, tt.says, name)
	}
}

// What Check refuses never reaches the library, where it would end the process
// or leave a goroutine behind (TestMain sees those).
func TestCheck_isHeldByAppendAndDecode(t *testing.T) {
	var e endless
	assert.ErrorIs(t, codec.Msgpack[endless]().Decode([]byte{1}, &e), codec.ErrType)
	var s embedsSelf
	assert.ErrorIs(t, codec.Msgpack[embedsSelf]().Decode([]byte{0x80}, &s), codec.ErrType)
	_, err := codec.Msgpack[embedsSelf]().Append(nil, s)
	assert.ErrorIs(t, err, codec.ErrType)
	var p embeds
	assert.ErrorIs(t, codec.Msgpack[embeds]().Decode([]byte("\x81\xa7version\x01"), &p), codec.ErrType)
	_, err = codec.JSON[chan int]().Append(nil, nil)
	assert.ErrorIs(t, err, codec.ErrType)
	var n noInline
	require.NoError(t, codec.Msgpack[noInline]().Decode([]byte("\x81\xa5Shown\x81\xa1X\x07"), &n))
	assert.Equal(t, 7, n.X)
}

func TestCheck_isForwarded(t *testing.T) {
	for _, c := range wrapped(t, codec.Msgpack[chan int]()) {
		assert.ErrorIs(t, check(c), codec.ErrType, c.Name())
	}
	for _, c := range wrapped(t, codec.Text())[1:] {
		assert.NoError(t, check(c), c.Name())
	}
}

// What check lets through as an interface with methods does come back.
func TestCheck_interfacesThatAreRead(t *testing.T) {
	b, err := codec.Msgpack[error]().Append(nil, errors.New("text"))
	require.NoError(t, err)
	var e error
	require.NoError(t, codec.Msgpack[error]().Decode(b, &e))
	require.EqualError(t, e, "text")

	b, err = codec.Msgpack[fmt.Stringer]().Append(nil, time.Unix(5, 0))
	require.NoError(t, err)
	var s fmt.Stringer
	require.NoError(t, codec.Msgpack[fmt.Stringer]().Decode(b, &s))
	require.Equal(t, time.Unix(5, 0).String(), s.String())
}
