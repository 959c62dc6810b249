package l2

import (
	"bytes"
	"encoding/hex"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
)

var update = flag.Bool("update", false, "write the golden files anew")

func goldens() map[string]Record {
	token := Token{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	return map[string]Record{
		"value": {
			Kind: KindValue, Version: 0x0102030405060708, FreshUntil: 1_700_000_300_000_000,
			StaleUntil: 1_700_000_900_000_000, StoredAt: 1_700_000_000_000_000, Schema: 0xfedcba9876543210,
			Load: 12345 * time.Microsecond, Cost: 300, CacheVersion: 1_699_999_999_999_999,
			Tags:    []TagVersion{{"team:7", 1_699_000_000_000_000}, {strings.Repeat("t", 40), 9}},
			Payload: []byte("\xa5hello"),
		},
		"leased": {
			Kind: KindValue, Soft: true, Version: 1, Token: token, LeaseEnd: 1_700_000_002_000_000,
			Source: math.MaxUint64, StoredAt: 1, Payload: []byte{},
		},
		"negative":  {Kind: KindNegative, Version: 2, StoredAt: 3, Payload: []byte{}},
		"tombstone": {Kind: KindTombstone, Version: 3, Source: 42},
		"reader":    {Kind: KindReader, Version: 4, Token: token, LeaseEnd: 1_700_000_002_000_000},
		"writer":    {Kind: KindWriter, Version: 5, Token: token, LeaseEnd: 1_700_000_002_000_000, Writers: 1, Source: 7},
		"hold":      {Kind: KindHold, Soft: true, Version: 6, LeaseEnd: 1_700_000_060_000_000, Writers: 2},
	}
}

func TestRecord_golden(t *testing.T) {
	for name, want := range goldens() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".hex")
			got := want.Append(nil, "test:user:1")
			if *update {
				require.NoError(t, os.WriteFile(file, []byte(hex.EncodeToString(got)+"\n"), 0o644))
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			stored, err := hex.DecodeString(strings.TrimSpace(string(text)))
			require.NoError(t, err)
			assert.Equal(t, stored, got)
			assert.LessOrEqual(t, len(got), want.Size())
			rep := Parse(stored, "test:user:1")
			require.Equal(t, StateRecord, rep.State)
			assert.Equal(t, want, rep.Record)
		})
	}
}

// Any language's msgpack reads a record, as one document.
func TestRecord_isMsgpack(t *testing.T) {
	for name, r := range goldens() {
		b := r.Append(nil, "k")
		dec := msgpack.NewDecoder(bytes.NewReader(b))
		v, err := dec.DecodeInterface()
		require.NoError(t, err, name)
		want := 8
		if r.Kind.HasBody() {
			want = 15
		}
		assert.Len(t, v, want, name)
		_, err = dec.DecodeInterface()
		assert.Error(t, err, "nothing follows")
	}
}

func TestParse_states(t *testing.T) {
	const key = "test:user:1"
	value := goldens()["value"]
	good := value.Append(nil, key)
	change := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	at := func(i int, v byte) []byte { return change(func(b []byte) []byte { b[i] = v; return b }) }
	for name, c := range map[string]struct {
		b    []byte
		want State
	}{
		"nothing":            {nil, StateAbsent},
		"good":               {good, StateRecord},
		"text":               {[]byte("hello, world"), StateForeign},
		"magic alone":        {good[:5], StateForeign},
		"head cut":           {good[:headLen-1], StateForeign},
		"format 0":           {at(offFormat, 0), StateForeign},
		"newer":              {at(offFormat, 2), StateNewer},
		"newer and short":    {at(offFormat, 9)[:6], StateNewer},
		"kind":               {at(offKind, 'x'), StateForeign},
		"soft":               {at(offSoft, 2), StateForeign},
		"lead of no body":    {at(0, 0x98), StateForeign},
		"only a head":        {good[:headLen], StateCorrupt},
		"cut":                {good[:len(good)-1], StateCorrupt},
		"more":               {append(bytes.Clone(good), 0), StateCorrupt},
		"payload":            {at(len(good)-1, 'x'), StateCorrupt},
		"fresh until":        {at(headLen+8, 'x'), StateCorrupt},
		"kind of a value":    {at(offKind, 'n'), StateCorrupt},
		"placeholder longer": {append((&Record{Kind: KindHold}).Append(nil, key), 0), StateCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			rep := Parse(c.b, key)
			assert.Equal(t, c.want, rep.State)
			if c.want == StateCorrupt && name != "placeholder longer" {
				assert.Equal(t, value.Version, rep.Record.Version, "a lease can be taken on it")
				assert.Nil(t, rep.Record.Payload)
			}
		})
	}
	assert.Equal(t, StateCorrupt, Parse(good, "test:user:2").State, "a copy under another key")
}

// What scripts change does not break the checksum.
func TestParse_toleratesWhatScriptsChange(t *testing.T) {
	r := goldens()["value"]
	b := r.Append(nil, "k")
	for i := offSoft + 3; i < headLen; i++ {
		switch i {
		case offToken - 2, offToken - 1, offLease - 1, offWriters - 1, offSource - 1:
			continue // markers
		}
		b[i] = 0xee
	}
	b[offSoft] = 1
	assert.Equal(t, StateRecord, Parse(b, "k").State)
}

func TestRecord_Append_allocatesOnce(t *testing.T) {
	r := goldens()["value"]
	buf := make([]byte, 0, r.Size())
	assert.Zero(t, testing.AllocsPerRun(100, func() { r.Append(buf, "test:user:1") }))
}

func TestRecord_Validate(t *testing.T) {
	ok := goldens()["value"]
	require.NoError(t, ok.Validate())
	for field, f := range map[string]func(r *Record){
		"Kind":    func(r *Record) { r.Kind = 'x' },
		"time":    func(r *Record) { r.FreshUntil = -1 },
		"Load":    func(r *Record) { r.Load = -1 },
		"Cost":    func(r *Record) { r.Cost = -1 },
		"Tags":    func(r *Record) { r.Tags = make([]TagVersion, MaxTags+1) },
		"a name":  func(r *Record) { r.Tags = []TagVersion{{Name: strings.Repeat("x", MaxTagName+1)}} },
		"Payload": func(r *Record) { r.Payload = make([]byte, MaxPayload+1) },
	} {
		r := ok
		f(&r)
		assert.ErrorContains(t, r.Validate(), field)
	}
	ok.Tags = nil
	for range MaxTags {
		ok.Tags = append(ok.Tags, TagVersion{strings.Repeat("x", MaxTagName), math.MaxUint64})
	}
	ok.Payload = nil
	require.NoError(t, ok.Validate())
	b := ok.Append(nil, "k")
	assert.LessOrEqual(t, len(b), maxMeta)
	assert.Equal(t, StateRecord, Parse(b, "k").State)
}

func TestNewToken_isNeverZeroNorTwiceTheSame(t *testing.T) {
	seen := map[Token]bool{{}: true}
	for range 1000 {
		token := NewToken()
		require.False(t, seen[token])
		seen[token] = true
		require.NotZero(t, NewVersion())
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range goldens() {
		f.Add(r.Append(nil, "k"), "k")
	}
	f.Add([]byte("\x9f\xa4Tdm\x02"), "k")
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		before := bytes.Clone(b)
		rep := Parse(b, key)
		require.Equal(t, before, b, "parsing changes nothing")
		require.LessOrEqual(t, len(rep.Record.Tags), MaxTags)
		if rep.State == StateRecord {
			r := rep.Record
			// Shorter forms of numbers may differ; what they mean may not.
			again := Parse(r.Append(nil, key), key)
			require.Equal(t, StateRecord, again.State)
			if len(r.Payload) == 0 {
				r.Payload, again.Record.Payload = nil, nil
			}
			require.Equal(t, r, again.Record)
		}
	})
}

// FuzzParse_body makes the checksum right, so that what is behind it is reached.
func FuzzParse_body(f *testing.F) {
	for _, r := range goldens() {
		if r.Kind.HasBody() {
			f.Add(r.Append(nil, "k")[headLen:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := Record{Kind: KindValue}
		allocated := testing.AllocsPerRun(1, func() { parseBody(body, &r, "k") })
		require.LessOrEqual(t, allocated, float64(MaxTags+2))
	})
}
