package codec_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
)

var update = flag.Bool("update", false, "write testdata/*.hex anew; say so in the changelog, stored values change meaning")

type order struct {
	ID    int64             `msgpack:"id" json:"id"`
	Lines []line            `msgpack:"lines" json:"lines"`
	Note  *string           `msgpack:"note" json:"note"`
	Meta  map[string]string `msgpack:"meta" json:"meta"` // one entry: maps have no order
	At    time.Time         `msgpack:"at" json:"at"`
	Raw   []byte            `msgpack:"raw" json:"raw"`
}

type line struct {
	Item  string  `msgpack:"item" json:"item"`
	Price float64 `msgpack:"price" json:"price"`
}

func golden() order {
	return order{
		ID: 1 << 40, Lines: []line{{"tea", 2.5}, {strings.Repeat("coffee ", 300), -1}},
		Meta: map[string]string{"k": "v"}, At: time.Unix(1767225600, 937000000).UTC(), Raw: []byte{0, 1, 255},
	}
}

// What is stored today must read tomorrow, and, where writing is deterministic
// and ours, must be written the same.
func TestGolden(t *testing.T) {
	z := zip(t, codec.Msgpack[order](), codec.Compression{})
	for _, tt := range []struct {
		file   string
		codec  codec.Codec[order]
		writes bool // encryption is random, compression may improve
	}{
		{"msgpack.hex", codec.Msgpack[order](), true},
		{"json.hex", codec.JSON[order](), true},
		{"zstd_msgpack.hex", z, false},
		{"aesgcm_zstd_msgpack.hex", seal(t, z, ring()), false},
	} {
		t.Run(tt.file, func(t *testing.T) {
			path := filepath.Join("testdata", tt.file)
			if *update {
				b, err := codec.AppendFor(tt.codec, nil, key, golden())
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(path, []byte(wrapHex(b)), 0o644))
			}
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
			require.NoError(t, err)

			var got order
			require.NoError(t, codec.DecodeFor(tt.codec, b, key, &got))
			got.At = got.At.UTC()
			assert.Equal(t, golden(), got)
			if tt.writes {
				again, err := codec.AppendFor(tt.codec, nil, key, golden())
				require.NoError(t, err)
				assert.True(t, bytes.Equal(b, again), "the bytes changed")
			}
		})
	}
}

func wrapHex(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(40, len(b))
		out.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return out.String()
}
