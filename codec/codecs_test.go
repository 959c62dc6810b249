package codec_test

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tandemcache/tandem/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type user struct {
	ID      int64             `msgpack:"id" json:"id"`
	Name    string            `msgpack:"name" json:"name"`
	Email   *string           `msgpack:"email" json:"email"`
	Tags    []string          `msgpack:"tags" json:"tags"`
	Limits  map[string]int    `msgpack:"limits" json:"limits"`
	Labels  map[string]string `msgpack:"labels" json:"labels"`
	Photo   []byte            `msgpack:"photo" json:"photo"`
	Score   float64           `msgpack:"score" json:"score"`
	Active  bool              `msgpack:"active" json:"active"`
	Since   time.Time         `msgpack:"since" json:"since"`
	Addr    netip.Addr        `msgpack:"addr" json:"addr"`
	Friends []*user           `msgpack:"friends" json:"friends"`
	Hash    [4]byte           `msgpack:"hash" json:"hash"`
	Wait    time.Duration     `msgpack:"wait" json:"wait"`
	base
	secret string
}

type base struct {
	Version uint32 `msgpack:"version" json:"version"`
}

func users() []user {
	mail := "ann@example.org"
	full := user{
		ID: math.MinInt64, Name: "Ann \u00fc \U0001f642", Email: &mail, Tags: []string{"a", "", "b"},
		Limits: map[string]int{"x": -1, "y": math.MaxInt64}, Labels: map[string]string{"k": "v"},
		Photo: []byte{0, 255, 10}, Score: -0.5, Active: true,
		Since: time.Date(2026, 1, 2, 3, 4, 5, 949999999, time.UTC).Local(), // nanoseconds that begin with 0xe2
		Addr:  netip.MustParseAddr("::1"), Hash: [4]byte{1, 2, 3, 4}, Wait: time.Hour, base: base{7},
	}
	full.Friends = []*user{{Name: "Bob", Since: time.Unix(1, 0)}, nil, {Tags: []string{}, Photo: []byte{}}}
	long := user{Name: strings.Repeat("long ", 20_000)}
	return []user{full, {}, long}
}

// sameUser looks at times as instants only.
func sameUser(want, got user) bool {
	return fmt.Sprintf("%#v", plainUser(want)) == fmt.Sprintf("%#v", plainUser(got))
}

func plainUser(u user) any {
	u.Since = time.Unix(0, u.Since.UnixNano()).UTC()
	var mail string
	if u.Email != nil {
		mail, u.Email = "set:"+*u.Email, nil
	}
	var friends []any
	for _, f := range u.Friends {
		if f == nil {
			friends = append(friends, nil)
		} else {
			friends = append(friends, plainUser(*f))
		}
	}
	u.Friends = nil
	return []any{u, mail, friends}
}

func ring() codec.Keyring {
	return codec.Keyring{{ID: "k2", Key: []byte(strings.Repeat("2", 32))}, {ID: "k1", Key: []byte(strings.Repeat("1", 16))}}
}

// wrapped returns inner in every combination of wrappers.
func wrapped[T any](t testing.TB, inner codec.Codec[T]) []codec.Codec[T] {
	zip := func(c codec.Codec[T], opt codec.Compression) codec.Codec[T] {
		z, err := codec.Compressed(c, opt)
		require.NoError(t, err)
		return z
	}
	seal := func(c codec.Codec[T]) codec.Codec[T] {
		e, err := codec.Encrypted(c, ring())
		require.NoError(t, err)
		return e
	}
	return []codec.Codec[T]{
		inner, zip(inner, codec.Compression{}), zip(inner, codec.Compression{MinBytes: -1, Level: 3}), seal(inner),
		seal(zip(inner, codec.Compression{MinBytes: -1})), zip(seal(inner), codec.Compression{MinBytes: -1}),
	}
}

func runAll[T any](t *testing.T, name string, c codec.Codec[T], s suite[T]) {
	for i, w := range wrapped(t, c) {
		t.Run(fmt.Sprintf("%s/%d %s", name, i, w.Name()), func(t *testing.T) {
			s := s
			s.codec = w
			s.broad = s.broad && i < 3
			testCodec(t, s)
		})
	}
}

func TestCodecs_structs(t *testing.T) {
	runAll(t, "msgpack", codec.Msgpack[user](), suite[user]{values: users(), equal: sameUser})
	runAll(t, "json", codec.JSON[user](), suite[user]{values: users(), equal: sameUser})
}

func TestCodecs_raw(t *testing.T) {
	runAll(t, "bytes", codec.Bytes(), suite[[]byte]{values: [][]byte{{}, {0}, []byte(strings.Repeat("abc", 1e4))}, broad: true})
	runAll(t, "text", codec.Text(), suite[string]{values: []string{"", "a", "\u00fc", strings.Repeat("abc", 1e4)}, broad: true})
}

// one runs the suite over both libraries for one type.
func one[T any](t *testing.T, name string, equal func(a, b T) bool, values ...T) {
	// A prefix of a number in JSON is a number, and so is a number with more digits.
	t.Run(name+"/json", func(t *testing.T) {
		testCodec(t, suite[T]{codec: codec.JSON[T](), values: values, equal: equal, broad: true})
	})
	t.Run(name+"/msgpack", func(t *testing.T) {
		testCodec(t, suite[T]{codec: codec.Msgpack[T](), values: values, equal: equal})
	})
}

type (
	id     int16
	names  []string
	nested struct {
		Left, Right *nested
		More        []nested
		ByName      map[string]nested
	}
)

func TestCodecs_topLevelTypes(t *testing.T) {
	s := "pointed at"
	one(t, "string", nil, "", "a", strings.Repeat("x", 70_000))
	one(t, "bool", nil, true, false)
	one(t, "int", nil, 0, -1, 127, 128, -33, math.MinInt64, math.MaxInt64)
	one[int8](t, "int8", nil, 0, -128, 127)
	one[uint16](t, "uint16", nil, 0, 255, 65535)
	one[uint64](t, "uint64", nil, 0, math.MaxUint64)
	one[id](t, "named int", nil, -300, 7)
	one(t, "duration", nil, time.Second)
	one(t, "float64", nil, 0, -1.5, math.MaxFloat64)
	one[float32](t, "float32", nil, 0, 1.5)
	one(t, "slice", nil, []int(nil), []int{}, []int{1, -2, 300})
	one(t, "named slice", nil, names(nil), names{"a"})
	one(t, "slice of structs", nil, []base{{1}, {2}})
	one(t, "array", nil, [3]int{1, 2, 3})
	one(t, "map of strings", nil, map[string]string(nil), map[string]string{}, map[string]string{"a": "b"})
	one(t, "map by int", nil, map[int]base{-1: {1}, 2: {2}})
	one(t, "pointer", nil, &s, (*string)(nil))
	one(t, "pointer to struct", nil, &base{1}, (*base)(nil))
	one(t, "pointer to pointer", nil, new(&base{1}))
	one(t, "recursive", nil, nested{}, nested{Left: &nested{Right: &nested{}}, More: []nested{{}}, ByName: map[string]nested{"a": {}}})
	one(t, "any", nil, any(nil), any("a"), any(true), any(1.5), any([]any{"a", nil}), any(map[string]any{"a": []any{}}))
	one(t, "time", time.Time.Equal, time.Time{}, time.Unix(0, 0), time.Now(), time.Date(2500, 1, 1, 0, 0, 0, 1, time.UTC))
	one(t, "text marshaler", nil, netip.MustParseAddr("10.0.0.1"))
	one(t, "map with times", func(a, b map[string]time.Time) bool { return a["x"].Equal(b["x"]) && len(a) == len(b) },
		map[string]time.Time{"x": time.Unix(5, 935329793)}, nil)
}
