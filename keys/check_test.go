package keys_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/keys"
)

func TestCheck_accepts(t *testing.T) {
	for _, key := range []string{
		"a", "ghl:user:123", "{tag}x", "a b", "Zürich", "🙂", "\ufffd", "%", "::",
		strings.Repeat("k", keys.MaxBytes),
	} {
		assert.NoError(t, keys.Check(key), "%q", key)
	}
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = keys.Check("ghl:user:Zürich") }))
}

func TestCheck_refusesAndSaysWhereAndWhy(t *testing.T) {
	for _, tt := range []struct {
		name, key string
		want      error
		says      string
	}{
		{"empty", "", keys.ErrEmpty, "empty"},
		{"too long", strings.Repeat("k", keys.MaxBytes+1), keys.ErrTooLong, "1025 bytes, at most 1024"},
		{"invalid UTF-8", "ab\xff", keys.ErrEncoding, `byte 2 of "ab\xff"`},
		{"overlong", "\xc0\xaf", keys.ErrEncoding, "byte 0"},
		{"line feed", "user:1\n", keys.ErrControl, `U+000A at byte 6 of "user:1\n"`},
		{"nul", "\x00", keys.ErrControl, "U+0000 at byte 0"},
		{"del", "a\x7f", keys.ErrControl, "U+007F at byte 1"},
		{"c1", "é\u0085", keys.ErrControl, "U+0085 at byte 2"},
		{"c1 last", "\u009f", keys.ErrControl, "U+009F"},
		{"at the end of a long key", strings.Repeat("k", 1000) + "\r", keys.ErrControl, "byte 1000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := keys.Check(tt.key)
			require.ErrorIs(t, err, tt.want)
			assert.Contains(t, err.Error(), tt.says)
			assert.Less(t, len(err.Error()), 200)
			if !errors.Is(err, keys.ErrTooLong) { // what a log line must not hold
				assert.NoError(t, keys.Check(err.Error()))
			}
		})
	}
	for _, other := range []error{keys.ErrTooLong, keys.ErrEncoding, keys.ErrControl} {
		assert.NotErrorIs(t, keys.Check(""), other)
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"", "a", "\xff", "\u0085", "a\x00", "🙂", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		bad := strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || (r >= 0x7f && r <= 0x9f) })
		want := key != "" && len(key) <= keys.MaxBytes && strings.ToValidUTF8(key, "") == key && !bad
		require.Equal(t, want, keys.Check(key) == nil, "%q", key)
	})
}
