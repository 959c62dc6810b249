package codec_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
)

func seal[T any](t testing.TB, inner codec.Codec[T], ring codec.Keyring) codec.Codec[T] {
	c, err := codec.Encrypted(inner, ring)
	require.NoError(t, err)
	return c
}

func secret(id string, n int) codec.Secret {
	return codec.Secret{ID: id, Key: bytes.Repeat([]byte(id[len(id)-1:]), n)}
}

func TestEncrypted_bindsToTheKey(t *testing.T) {
	for _, c := range wrapped(t, codec.Text())[3:] {
		b, err := codec.AppendFor(c, nil, "user:1", "hunter2")
		require.NoError(t, err)
		assert.NotContains(t, string(b), "hunter2")
		var v string
		require.NoError(t, codec.DecodeFor(c, b, "user:1", &v))
		assert.Equal(t, "hunter2", v)
		for _, other := range []string{"user:2", "user:", "user:11", "User:1"} {
			assert.ErrorIs(t, codec.DecodeFor(c, b, other, &v), codec.ErrForged)
			assert.Empty(t, v)
		}
	}
}

// The ID and the key are told apart: an ID cannot lend bytes to a key.
func TestEncrypted_bindsTheSecretsName(t *testing.T) {
	same := bytes.Repeat([]byte("x"), 32)
	a := seal(t, codec.Text(), codec.Keyring{{ID: "a", Key: same}, {ID: "ab", Key: same}})
	b, err := codec.AppendFor(a, nil, "bc", "v")
	require.NoError(t, err)
	renamed := append([]byte{1, 2, 'a', 'b'}, b[3:]...)
	var v string
	assert.ErrorIs(t, codec.DecodeFor(a, renamed, "c", &v), codec.ErrForged)
	assert.ErrorIs(t, codec.DecodeFor(a, renamed, "bc", &v), codec.ErrForged)
}

func TestEncrypted_withoutAKeySaysWhy(t *testing.T) {
	for _, c := range wrapped(t, codec.Text())[3:] {
		v := "before"
		out, err := c.Append([]byte("before"), "v")
		assert.ErrorIs(t, err, codec.ErrUnbound)
		assert.Equal(t, "before", string(out))
		_, err = codec.AppendFor(c, nil, "", "v")
		assert.ErrorIs(t, err, codec.ErrUnbound)
		good, err := codec.AppendFor(c, nil, "k", "v")
		require.NoError(t, err)
		assert.ErrorIs(t, c.Decode(good, &v), codec.ErrUnbound)
		assert.ErrorIs(t, codec.DecodeFor(c, good, "", &v), codec.ErrUnbound)
		assert.Empty(t, v)
	}
}

// The key reaches every layer.
func TestEncrypted_inLayers(t *testing.T) {
	tight := codec.Compression{MinBytes: -1}
	c := seal(t, zip(t, seal(t, seal(t, zip(t, codec.Text(), tight), ring()), ring()), tight), ring())
	assert.Equal(t, "aesgcm(zstd(aesgcm(aesgcm(zstd(text)))))", c.Name())
	testCodec(t, suite[string]{codec: c, values: []string{"", "a", strings.Repeat("abc", 1000)}})
}

func TestEncrypted_rotation(t *testing.T) {
	k1, k2 := secret("k1", 16), secret("k2", 32)
	old := seal(t, codec.Text(), codec.Keyring{k1})
	both := seal(t, codec.Text(), codec.Keyring{k1, k2})
	turned := seal(t, codec.Text(), codec.Keyring{k2, k1})
	last := seal(t, codec.Text(), codec.Keyring{k2})

	write := func(c codec.Codec[string]) []byte {
		b, err := codec.AppendFor(c, nil, key, "v")
		require.NoError(t, err)
		return b
	}
	read := func(c codec.Codec[string], b []byte) error {
		var v string
		err := codec.DecodeFor(c, b, key, &v)
		if err == nil {
			require.Equal(t, "v", v)
		}
		return err
	}
	// Neighbors in a rollout read each other.
	for _, pair := range [][2]codec.Codec[string]{{old, both}, {both, turned}, {turned, last}} {
		if pair[0] != old { // the oldest cannot read the next but one
			assert.NoError(t, read(pair[0], write(pair[1])))
		} else {
			assert.NoError(t, read(old, write(both)))
		}
	}
	assert.NoError(t, read(both, write(old)))
	assert.NoError(t, read(turned, write(both)))
	err := read(last, write(old))
	assert.ErrorIs(t, err, codec.ErrSecret)
	assert.ErrorContains(t, err, `"k1"`)
	assert.Equal(t, old.Name(), last.Name())
}

func TestEncrypted_nonceIsNew(t *testing.T) {
	c := seal(t, codec.Text(), ring())
	seen := map[string]bool{}
	for range 1000 {
		b, err := codec.AppendFor(c, nil, key, "v")
		require.NoError(t, err)
		require.Len(t, b, 1+30+len("k2"))
		nonce := string(b[4:16])
		require.False(t, seen[nonce])
		seen[nonce] = true
	}
}

func TestEncrypted_everyByteCounts(t *testing.T) {
	c := seal(t, codec.Text(), ring())
	b, err := codec.AppendFor(c, nil, key, "value")
	require.NoError(t, err)
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			var v string
			require.Error(t, codec.DecodeFor(c, b, key, &v), "byte %d bit %d", i, bit)
			b[i] ^= 1 << bit
		}
	}
	var v string
	for n := range 256 { // whatever length the ID claims
		src := append([]byte{1, byte(n)}, bytes.Repeat([]byte("a"), 290)...)
		require.Error(t, codec.DecodeFor(c, src, key, &v))
		require.Error(t, codec.DecodeFor(c, src[:2+n/2], key, &v))
	}
}

func TestEncrypted_namesEveryFault(t *testing.T) {
	_, err := codec.Encrypted[string](nil, codec.Keyring{
		{ID: "", Key: make([]byte, 16)}, {ID: "a b", Key: make([]byte, 5)},
		secret("k1", 16), secret("k1", 32), {ID: strings.Repeat("x", 33), Key: []byte("0123456789abcdef")},
	})
	require.Error(t, err)
	for _, says := range []string{
		"got nil", `[0].ID is ""`, "[0].Key is all zero", `[1].ID is "a b"`, "[1].Key has 5 bytes",
		`[3].ID is that of [2]: "k1"`, "[4].ID is",
	} {
		assert.ErrorContains(t, err, says)
	}
	assert.NotContains(t, err.Error(), "0123456789abcdef")
	_, err = codec.Encrypted(codec.Text(), nil)
	assert.ErrorContains(t, err, "Keyring is empty")
}

func TestEncrypted_copiesTheRing(t *testing.T) {
	r := ring()
	c := seal(t, codec.Text(), r)
	b, err := codec.AppendFor(c, nil, key, "v")
	require.NoError(t, err)
	clear(r[0].Key)
	r[0].ID = "other"
	var v string
	require.NoError(t, codec.DecodeFor(c, b, key, &v))
	again, err := codec.AppendFor(c, nil, key, "v")
	require.NoError(t, err)
	assert.Equal(t, b[:4], again[:4])
}

func TestSecret_neverShows(t *testing.T) {
	r := codec.Keyring{{ID: "k1", Key: []byte("0123456789abcdef")}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("ring", "secret", r[0], "ring", r)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("ring", "secret", r[0], "ring", r)
	text, err := json.Marshal(r)
	require.NoError(t, err)
	for _, s := range []string{
		fmt.Sprint(r), fmt.Sprintf("%v %+v %#v %s %q", r, r, r, r[0], r), fmt.Sprintf("%x %d", r, r[0]),
		log.String(), string(text),
	} {
		for _, shown := range []string{"0123456789abcdef", "48 49", "0x30", "3031", "MDEyMz"} {
			assert.NotContains(t, s, shown)
		}
		assert.Contains(t, s, "k1")
	}
}

func TestNames_compose(t *testing.T) {
	var names []string
	for _, c := range wrapped(t, codec.JSON[int]()) {
		names = append(names, c.Name())
	}
	assert.Equal(t, []string{"json", "zstd(json)", "zstd(json)", "aesgcm(json)", "aesgcm(zstd(json))", "zstd(aesgcm(json))"}, names)
	assert.Equal(t, "msgpack", codec.Msgpack[int]().Name())
	assert.Equal(t, "bytes", codec.Bytes().Name())
	assert.Equal(t, "text", codec.Text().Name())
}
