package invalidation_test

import (
	"encoding/binary"
	"encoding/hex"
	"flag"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testNode is a node id that is easy to find in golden bytes.
var testNode = invalidation.NodeID{0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF}

// samples holds a message of every kind, by the name of its golden file.
func samples() map[string]invalidation.Message {
	return map[string]invalidation.Message{
		"keys": {
			Kind: invalidation.KindKeys, Node: testNode, Seq: 7, Cache: "user",
			Keys: []string{"123", "ключ", "a:b"}, Version: 42,
		},
		"prefix": {Kind: invalidation.KindPrefix, Node: testNode, Seq: 8, Keys: []string{"user:123"}},
		"prefix_cache": {
			Kind: invalidation.KindPrefix, Node: testNode, Seq: 9, Cache: "user", Keys: []string{""},
		},
		"tags": {
			Kind: invalidation.KindTags, Node: testNode, Seq: math.MaxUint64, Keys: []string{"org:1"},
			Version: 1_700_000_000_000_000,
		},
		"clear": {Kind: invalidation.KindClear, Node: testNode, Seq: 300, Cache: "user", Version: math.MaxUint64},
		"beat": {Kind: invalidation.KindBeat, Node: testNode, Seq: 1000, Beat: invalidation.Beat{
			Number: 77, Interval: time.Second, Age: time.Hour, Quiet: 1500 * time.Microsecond,
			Overflow: true, Excused: []uint64{1, 2, 900}, Open: []uint64{998, 1000},
		}},
		"beat_first": {Kind: invalidation.KindBeat, Node: testNode, Beat: invalidation.Beat{
			Number: 1, Interval: time.Minute,
		}},
		"bye": {Kind: invalidation.KindBye, Node: testNode, Seq: 3, Beat: invalidation.Beat{
			Number: 2, Age: time.Second, Excused: []uint64{3},
		}},
	}
}

func mustAppend(t testing.TB, m invalidation.Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	require.NoError(t, err)
	return b
}

func TestMessage_Append_writesTheGoldenBytes(t *testing.T) {
	for name, m := range samples() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", "golden", name+".hex")
			got := mustAppend(t, m)
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644))
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			want, err := hex.DecodeString(strings.TrimSpace(string(text)))
			require.NoError(t, err)
			assert.Equal(t, want, got)

			back, err := invalidation.Parse(want)
			require.NoError(t, err)
			assert.Equal(t, m, back)
		})
	}
}

func TestMessage_Append_endsWithTheVersionInEveryKind(t *testing.T) {
	for name, m := range samples() {
		b := mustAppend(t, m)
		assert.Equal(t, m.Version, binary.BigEndian.Uint64(b[len(b)-8:]), name)

		binary.BigEndian.PutUint64(b[len(b)-8:], 99)
		spliced, err := invalidation.Parse(b)
		require.NoError(t, err, name)
		m.Version = 99
		assert.Equal(t, m, spliced, name)
	}
}

func TestMessage_Append_keepsWhatIsInDst(t *testing.T) {
	m := samples()["keys"]
	b, err := m.Append([]byte("before"))
	require.NoError(t, err)
	assert.Equal(t, "before"+string(mustAppend(t, m)), string(b))
}

func TestMessage_Append_refusesAndNamesTheField(t *testing.T) {
	type message = invalidation.Message
	many := make([]uint64, invalidation.MaxListed+1)
	for i := range many {
		many[i] = uint64(i + 1)
	}
	beat := func(b invalidation.Beat) message {
		return message{Kind: invalidation.KindBeat, Seq: 5000, Beat: b}
	}
	keys := func(keys ...string) message {
		return message{Kind: invalidation.KindKeys, Seq: 1, Cache: "c", Keys: keys}
	}
	tests := []struct {
		name  string
		m     message
		field string
	}{
		{"no kind", message{Seq: 1}, "Kind"},
		{"unknown kind", message{Kind: invalidation.KindBye + 1, Seq: 1}, "Kind"},
		{"no number", message{Kind: invalidation.KindClear, Cache: "c"}, "Seq"},
		{"keys of no cache", message{Kind: invalidation.KindKeys, Seq: 1, Keys: []string{"k"}}, "Cache"},
		{"clear of no cache", message{Kind: invalidation.KindClear, Seq: 1}, "Cache"},
		{"tags of a cache", message{Kind: invalidation.KindTags, Seq: 1, Cache: "c", Keys: []string{"t"}}, "Cache"},
		{"long cache", message{Kind: invalidation.KindClear, Seq: 1, Cache: strings.Repeat("c", 256)}, "Cache"},
		{"no keys", keys(), "Keys"},
		{"keys in clear", message{Kind: invalidation.KindClear, Seq: 1, Cache: "c", Keys: []string{"k"}}, "Keys"},
		{"too many keys", keys(make([]string, invalidation.MaxKeys+1)...), "Keys"},
		{"empty key", keys("a", ""), "Keys[1]"},
		{"empty prefix across caches", message{Kind: invalidation.KindPrefix, Seq: 1, Keys: []string{""}}, "Keys[0]"},
		{"long key", keys(strings.Repeat("k", invalidation.MaxKeyBytes+1)), "Keys[0]"},
		{"beat in clear", message{Kind: invalidation.KindClear, Seq: 1, Cache: "c", Beat: invalidation.Beat{Number: 1}}, "Beat"},
		{"no interval", beat(invalidation.Beat{}), "Beat.Interval"},
		{"long interval", beat(invalidation.Beat{Interval: time.Hour}), "Beat.Interval"},
		{"negative age", beat(invalidation.Beat{Interval: 1, Age: -1}), "Beat.Age"},
		{"negative quiet", beat(invalidation.Beat{Interval: 1, Quiet: -1}), "Beat.Quiet"},
		{"excused 0", beat(invalidation.Beat{Interval: 1, Excused: []uint64{0}}), "Beat.Excused"},
		{"excused twice", beat(invalidation.Beat{Interval: 1, Excused: []uint64{2, 2}}), "Beat.Excused"},
		{"open beyond the last", beat(invalidation.Beat{Interval: 1, Open: []uint64{5001}}), "Beat.Open"},
		{"too many open", beat(invalidation.Beat{Interval: 1, Open: many}), "Beat.Open"},
		{"too large", keys(slicesOf(strings.Repeat("k", 4000), 300)...), "bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.m.Append([]byte("x"))
			require.ErrorIs(t, err, invalidation.ErrMessage)
			assert.ErrorContains(t, err, tt.field)
			assert.Equal(t, "x", string(got))
		})
	}
}

func slicesOf(s string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = s
	}
	return list
}

func TestParse_refusesEveryTruncationAndExtension(t *testing.T) {
	for name, m := range samples() {
		b := mustAppend(t, m)
		for n := range b {
			_, err := invalidation.Parse(b[:n])
			require.ErrorIs(t, err, invalidation.ErrGarbage, "%s cut to %d bytes", name, n)
		}
		_, err := invalidation.Parse(append(b, 0))
		require.ErrorIs(t, err, invalidation.ErrGarbage, name)
	}
}

func TestParse_tellsNewerFromGarbage(t *testing.T) {
	b := mustAppend(t, samples()["keys"])
	newer := append([]byte(nil), b...)
	newer[2]++
	_, err := invalidation.Parse(newer)
	require.ErrorIs(t, err, invalidation.ErrNewer)
	_, err = invalidation.Parse(newer[:3])
	require.ErrorIs(t, err, invalidation.ErrNewer, "nothing beyond the header of a newer format is known")

	for name, change := range map[string]func(b []byte){
		"magic":    func(b []byte) { b[0]++ },
		"format 0": func(b []byte) { b[2] = 0 },
		"kind 0":   func(b []byte) { b[3] = 0 },
		"kind 99":  func(b []byte) { b[3] = 99 },
	} {
		other := append([]byte(nil), b...)
		change(other)
		_, err = invalidation.Parse(other)
		require.ErrorIs(t, err, invalidation.ErrGarbage, name)
	}
	_, err = invalidation.Parse(nil)
	require.ErrorIs(t, err, invalidation.ErrGarbage)
	_, err = invalidation.Parse(make([]byte, invalidation.MaxMessageBytes+1))
	require.ErrorIs(t, err, invalidation.ErrGarbage)
}

func TestParse_sharesNothingWithItsInput(t *testing.T) {
	for name, m := range samples() {
		b := mustAppend(t, m)
		got, err := invalidation.Parse(b)
		require.NoError(t, err)
		for i := range b {
			b[i] = 0xFF
		}
		assert.Equal(t, m, got, name)
	}
}

// hostile is a header of a kind, followed by body and a version.
func hostile(kind invalidation.Kind, body ...byte) []byte {
	b := append([]byte{0xC5, 'i', 1, byte(kind)}, make([]byte, 24)...)
	b[27] = 1 // number
	b = append(b, body...)
	return append(b, make([]byte, 8)...)
}

func TestParse_allocatesNoMoreThanIsThere(t *testing.T) {
	const claim = "\xFF\xFF\x03" // 65,535
	_, err := invalidation.Parse(hostile(invalidation.KindBeat, []byte("\x00\x00\x00\x01\x01\x00\x00\x00\x00")...))
	require.NoError(t, err, "the beat that the others spoil")
	huge := "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F"
	for name, b := range map[string][]byte{
		"keys claimed":       hostile(invalidation.KindKeys, []byte("\x01c"+claim)...),
		"huge count":         hostile(invalidation.KindKeys, []byte("\x01c"+huge)...),
		"huge key":           hostile(invalidation.KindKeys, []byte("\x01c\x01"+huge)...),
		"long cache":         hostile(invalidation.KindKeys, 0xFF),
		"excused claimed":    hostile(invalidation.KindBeat, []byte("\x00\x00\x00\x01\x01\x00\x00"+claim)...),
		"endless uvarint":    hostile(invalidation.KindKeys, []byte("\x01c"+strings.Repeat("\xFF", 20))...),
		"not the shortest":   hostile(invalidation.KindKeys, []byte("\x01c\x81\x00\x01k")...),
		"overflow is 2":      hostile(invalidation.KindBeat, []byte("\x00\x00\x02\x01\x01\x00\x00\x00\x00")...),
		"duration too long":  hostile(invalidation.KindBeat, []byte("\x00\x00\x00\x01\x01"+"\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x00\x00\x00")...),
		"list that wraps":    hostile(invalidation.KindBeat, []byte("\x00\x00\x00\x01\x01\x00\x00\x02\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x00")...),
		"bytes after a beat": hostile(invalidation.KindBeat, []byte("\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00")...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := invalidation.Parse(b)
			require.ErrorIs(t, err, invalidation.ErrGarbage)
			assert.Less(t, allocated(func() { _, _ = invalidation.Parse(b) }), uint64(4096), "for %d bytes", len(b))
		})
	}
}

// allocated returns how many bytes f allocates, the least of some runs, as other
// goroutines allocate too.
func allocated(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 10 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}

func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		f.Add(mustAppend(f, m))
	}
	f.Add(hostile(invalidation.KindKeys, []byte("\x01c\xFF\xFF\x03")...))
	f.Add([]byte{0xC5, 'i', 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := invalidation.Parse(b)
		if err != nil {
			return
		}
		again, err := m.Append(nil)
		require.NoError(t, err, "what Parse takes Append takes")
		require.Equal(t, b, again, "a message has one encoding")
	})
}
