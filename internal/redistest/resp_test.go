package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReadFrame_takesOneWholeValue(t *testing.T) {
	for name, tc := range map[string]struct {
		in    string
		kind  byte
		items []string
	}{
		"simple":     {"+OK\r\n", '+', []string{"OK"}},
		"error":      {"-ERR no\r\n", '-', []string{"ERR no"}},
		"bulk":       {"$4\r\n\r\n+x\r\n", '$', []string{"\r\n+x"}},
		"null bulk":  {"$-1\r\n", '$', []string{""}},
		"null array": {"*-1\r\n", '*', nil},
		"empty":      {"*0\r\n", '*', nil},
		"command":    {"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", '*', []string{"GET", "k"}},
		"nested":     {"*2\r\n*1\r\n:1\r\n~1\r\n#t\r\n", '*', []string{"1", "t"}},
		"map":        {"%1\r\n+a\r\n_\r\n", '%', []string{"a", ""}},
		"push":       {">3\r\n+message\r\n+c\r\n+p\r\n", '>', []string{"message", "c", "p"}},
		"attribute":  {"|1\r\n+a\r\n:1\r\n+OK\r\n", '+', []string{"OK"}},
		"inner attribute": {
			"*2\r\n|1\r\n+a\r\n:1\r\n+x\r\n+y\r\n", '*', []string{"a", "1", "x", "y"},
		},
		"verbatim": {"=5\r\ntxt:x\r\n", '=', []string{"txt:x"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := bufio.NewReader(strings.NewReader(tc.in + "+next\r\n"))
			f, err := readFrame(r)
			require.NoError(t, err)
			assert.Equal(t, tc.in, string(f.raw))
			assert.Equal(t, tc.kind, f.kind)
			assert.Equal(t, tc.items, f.items)
		})
	}
}

func TestReadFrame_refusesWhatIsNotRESP(t *testing.T) {
	for _, in := range []string{
		"\r\n", "x\r\n", "+OK\n", "$x\r\n", "$-2\r\n", "$1\r\nabc", "*99999999\r\n", "$999999999999\r\n",
		strings.Repeat("*1\r\n", respMaxDepth+2),
	} {
		_, err := readFrame(bufio.NewReader(strings.NewReader(in)))
		assert.ErrorIs(t, err, errRESP, "%q", in)
	}
	_, err := readFrame(bufio.NewReader(strings.NewReader("*1\r\n$3\r\n")))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = readFrame(bufio.NewReader(strings.NewReader("")))
	assert.ErrorIs(t, err, io.EOF)
}

func FuzzReadFrame(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", ">3\r\n+message\r\n+c\r\n+p\r\n", "|1\r\n+a\r\n:1\r\n+OK\r\n",
		"$536870912\r\n", "*1048576\r\n", "%-1\r\n", "*1\r\n*1\r\n*1\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		fr, err := readFrame(bufio.NewReader(bytes.NewReader(in)))
		if err != nil {
			if !errors.Is(err, errRESP) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("unexpected error %v", err)
			}
			return
		}
		if !bytes.HasPrefix(in, fr.raw) {
			t.Fatalf("the bytes changed: %q of %q", fr.raw, in)
		}
	})
}
