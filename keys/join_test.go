package keys_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/keys"
)

func TestJoin_writesOrdinaryIdsAsTheyAre(t *testing.T) {
	for _, id := range []string{
		"123", "user-7", "a.b_c", "0b6f2c1e-5a43-4d3e-9c6b-3f1f6f0e6a55", "ann@example.org",
		"/v1/users?id=7", "Zürich", "東京", "🙂", "}", "a b", "\ufffd",
	} {
		assert.Equal(t, id, keys.Join(id))
		assert.Equal(t, "x:"+id, keys.Join("x", id))
	}
}

func TestJoin_spelling(t *testing.T) {
	for _, tt := range []struct {
		name  string
		parts []string
		want  string
	}{
		{"none", nil, ""},
		{"empty", []string{""}, "%-"},
		{"empties", []string{"", ""}, "%-:%-"},
		{"empty in the middle", []string{"a", "", "b"}, "a:%-:b"},
		{"separator", []string{"a:b"}, "a%3Ab"},
		{"escape", []string{"100%"}, "100%25"},
		{"looks like an empty part", []string{"%-"}, "%25-"},
		{"looks like an escape", []string{"%3A"}, "%253A"},
		{"hash tag", []string{"{x}1"}, "%7Bx}1"},
		{"line end", []string{"a\r\nb"}, "a%0D%0Ab"},
		{"nul and del", []string{"\x00\x7f"}, "%00%7F"},
		{"c1 control", []string{"a\u0085b"}, "a%C2%85b"},
		{"invalid UTF-8", []string{"a\xffb"}, "a%FFb"},
		{"cut rune", []string{"\xe6\x9d"}, "%E6%9D"},
		{"surrogate", []string{"\xed\xa0\x80"}, "%ED%A0%80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, keys.Join(tt.parts...))
			got, err := keys.Split(tt.want)
			require.NoError(t, err)
			assert.Equal(t, tt.parts, got)
		})
	}
}

func TestSplit_refusesEveryOtherSpelling(t *testing.T) {
	for _, tt := range []struct{ key, at string }{
		{":", "byte 0 "}, {"a:", "byte 2 "}, {":a", "byte 0 "}, {"a::b", "byte 2 "},
		{"%", "byte 0 "}, {"a%3", "byte 1 "}, {"a:b%zz", "byte 3 "}, {"%3a", "byte 0 "},
		{"ab%41", "byte 2 "}, {"{x}", "byte 0 "}, {"a\nb", "byte 1 "}, {"a\xff", "byte 1 "},
		{"%C3%BC", "byte 0 "}, // a letter that needs no escape
		{"%-%-", "byte 0 "}, {"x%-", "byte 1 "},
	} {
		got, err := keys.Split(tt.key)
		require.ErrorIs(t, err, keys.ErrSplit, "%q", tt.key)
		assert.Contains(t, err.Error(), tt.at, "%q", tt.key)
		assert.Nil(t, got)
	}
}

func TestSplit_errorIsShort(t *testing.T) {
	_, err := keys.Split("%" + strings.Repeat("\x00", 1<<20))
	require.ErrorIs(t, err, keys.ErrSplit)
	assert.Less(t, len(err.Error()), 500)
}

func TestJoin_ofSegmentsIsAPrefixOnlyAtASeparator(t *testing.T) {
	ids := []string{"", "1", "10", "1:", "1:0", ":", "%", "%-", "1%3A", "{1}", "1\x00"}
	for _, a := range ids {
		for _, b := range ids {
			if a == b {
				continue
			}
			assert.NotEqual(t, keys.Join(a), keys.Join(b))
			assert.False(t, strings.HasPrefix(keys.Join(b, "z"), keys.Join(a)+":"), "%q covers %q", a, b)
			assert.True(t, strings.HasPrefix(keys.Join(a, b), keys.Join(a)+":"))
		}
	}
}

// FuzzJoin holds that parts survive, that keys are valid, and that no two lists
// share a key.
func FuzzJoin(f *testing.F) {
	f.Add("a", "b", "c")
	f.Add("", ":", "%-")
	f.Add("%3A", "\xff", "{}")
	f.Add("a\u0085", "\xc2", "\x85")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, parts := range [][]string{{a}, {a, b}, {a, b, c}, {a + ":" + b, c}, {a, b + "%-" + c}} {
			key := keys.Join(parts...)
			got, err := keys.Split(key)
			require.NoError(t, err)
			require.Equal(t, parts, got)
			if len(key) <= keys.MaxBytes {
				require.NoError(t, keys.Check(key))
			}
			require.NotContains(t, key, "{")
		}
		require.NotEqual(t, keys.Join(a, b), keys.Join(a+":"+b))
		require.NotEqual(t, keys.Join(a), keys.Join(a, ""))
	})
}

// FuzzSplit holds that whatever Split accepts is what Join builds.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{"", "a:b", "%-", "%3A", "%3a", "%C2:%85", "%C2%85", "a::b", "%F0%9F%99%82", "%F0%9F:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		parts, err := keys.Split(key)
		if err != nil {
			require.ErrorIs(t, err, keys.ErrSplit)
			require.Nil(t, parts)
			return
		}
		require.Equal(t, key, keys.Join(parts...))
	})
}

func TestJoin_allocatesTheResultOnly(t *testing.T) {
	assert.Zero(t, testing.AllocsPerRun(100, func() { keys.Join("0b6f2c1e-5a43-4d3e") }))
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() { keys.Join("user", "1:2", "x") }), 1.0)
}

func BenchmarkJoin(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		keys.Join("user", "0b6f2c1e-5a43-4d3e", "profile")
	}
}
