package keys_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/keys"
)

type (
	userID int64
	region string
	small  uint8
	broken struct{ why error }
	byPtr  struct{ s string }
)

func (b broken) MarshalText() ([]byte, error) { return []byte("half"), b.why }
func (p *byPtr) MarshalText() ([]byte, error) { return []byte(p.s), nil }

func TestKind_idsOfEveryType(t *testing.T) {
	assert.Equal(t, "user:ann", keys.Must(keys.New1[string]("user")).Key("ann"))
	assert.Equal(t, "user:a%3Ab", keys.Must(keys.New1[string]("user")).Key("a:b"))
	assert.Equal(t, "user:-7", keys.Must(keys.New1[int]("user")).Key(-7))
	assert.Equal(t, "user:-9223372036854775808", keys.Must(keys.New1[int64]("user")).Key(-1<<63))
	assert.Equal(t, "user:18446744073709551615", keys.Must(keys.New1[uint64]("user")).Key(1<<64-1))
	assert.Equal(t, "user:7", keys.Must(keys.New1[int32]("user")).Key(7))
	assert.Equal(t, "user:7", keys.Must(keys.New1[uint32]("user")).Key(7))
	assert.Equal(t, "user:7", keys.Must(keys.New1[uint]("user")).Key(7))
	assert.Equal(t, "user:-7", keys.Must(keys.New1[int8]("user")).Key(-7))
	assert.Equal(t, "user:7", keys.Must(keys.New1[uint16]("user")).Key(7))
	assert.Equal(t, "user:-7", keys.Must(keys.New1[userID]("user")).Key(-7))
	assert.Equal(t, "user:eu", keys.Must(keys.New1[region]("user")).Key("eu"))
	assert.Equal(t, "user:200", keys.Must(keys.New1[small]("user")).Key(200))
	assert.Equal(t, "ip:%3A%3A1", keys.Must(keys.New1[netip.Addr]("ip")).Key(netip.MustParseAddr("::1")))
	assert.Equal(t, "p:x", keys.Must(keys.New1[*byPtr]("p")).Key(&byPtr{"x"}))
}

func TestKind_severalIds(t *testing.T) {
	two := keys.Must(keys.New2[int, string]("rate"))
	assert.Equal(t, "7:/login", two.ID(7, "/login"))
	assert.Equal(t, "rate:7:/login", two.Key(7, "/login"))
	assert.Equal(t, "7", two.Prefix1(7))
	assert.Equal(t, "rate:7:%-", two.Key(7, ""))

	three := keys.Must(keys.Of3[region, userID, string](keys.Spec{Namespace: "ghl", Name: "visit", Segment: "day"}))
	assert.Equal(t, "day:eu:7:x%3Ay", three.ID("eu", 7, "x:y"))
	assert.Equal(t, "ghl:visit:day:eu:7:x%3Ay", three.Key("eu", 7, "x:y"))
	assert.Equal(t, "day:eu", three.Prefix1("eu"))
	assert.Equal(t, "day:eu:7", three.Prefix2("eu", 7))
	assert.Equal(t, "visit", three.Name())
	assert.Equal(t, "ghl:visit:day", three.Prefix())
	assert.Equal(t, "ghl:visit:day:*", three.Pattern())

	parts, err := keys.Split(three.Key("eu", 7, "x:y"))
	require.NoError(t, err)
	assert.Equal(t, []string{"ghl", "visit", "day", "eu", "7", "x:y"}, parts)
}

func TestKind_neverMakesAKeyOfAFailedId(t *testing.T) {
	why := errors.New("no text")
	k := keys.Must(keys.Of3[string, broken, int](keys.Spec{Name: "k", Segment: "s"}))
	assert.Empty(t, k.ID("a", broken{why}, 1))
	assert.Empty(t, k.Key("a", broken{why}, 1))
	got, err := k.AppendID([]byte("before"), "a", broken{why}, 1)
	require.ErrorIs(t, err, why)
	assert.Equal(t, "before", string(got))

	one := keys.Must(keys.New1[*byPtr]("p"))
	assert.Empty(t, one.Key(nil))
	_, err = one.AppendID(nil, nil)
	assert.ErrorContains(t, err, "nil *keys_test.byPtr")
}

func TestKind_constructorsNameEveryFault(t *testing.T) {
	_, err := keys.Of3[float64, byPtr, []int](keys.Spec{Namespace: "a:b", Name: "", Segment: "x*"})
	require.ErrorIs(t, err, keys.ErrKind)
	for _, says := range []string{
		`Namespace holds ':' at byte 1`, "Name is empty", `Segment holds '*' at byte 1`,
		"id 1 is a float64", "use *keys_test.byPtr", "id 3 is a []int",
	} {
		assert.ErrorContains(t, err, says)
	}
	for _, name := range []string{"", "a:b", "a%", "{a", "a b", "a*", "a?", "[a", "a\\", "a\n", "\xff"} {
		_, err := keys.New1[string](name)
		require.ErrorIs(t, err, keys.ErrKind, "%q", name)
		_, err = keys.New2[string, int](name)
		require.ErrorIs(t, err, keys.ErrKind, "%q", name)
		_, err = keys.New3[string, int, int](name)
		require.ErrorIs(t, err, keys.ErrKind, "%q", name)
	}
	_, err = keys.New1[string]("a\n")
	require.ErrorIs(t, err, keys.ErrControl)
	assert.Panics(t, func() { keys.Must(keys.New1[string]("a:b")) })
}

func TestKind_allocatesTheKeyOnly(t *testing.T) {
	s := keys.Must(keys.New1[string]("user"))
	i := keys.Must(keys.New2[int, string]("rate"))
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { s.Key("0b6f2c1e-5a43-4d3e") }), 1.0)
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { i.Key(1<<40, "/login") }), 1.0)
	buf := make([]byte, 0, 64)
	assert.Zero(t, testing.AllocsPerRun(100, func() { buf, _ = i.AppendID(buf[:0], 1<<40, "/login") }))
}

func BenchmarkKind(b *testing.B) {
	k := keys.Must(keys.New2[int64, string]("rate"))
	b.ReportAllocs()
	for b.Loop() {
		k.Key(1<<40, "/login")
	}
}
