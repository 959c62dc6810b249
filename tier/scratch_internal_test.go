package tier

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
)

// hoarder returns memory of its own, as codecs must not, and looks after it.
type hoarder struct {
	codec.Codec[string]
	mine []byte
}

func (h *hoarder) Append([]byte, string) ([]byte, error) { return h.mine, nil }

// What a codec returns stays its own: nothing is ever encoded into it.
func TestScratch_neverKeepsWhatACodecReturned(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	h := &hoarder{codec.Text(), make([]byte, 8<<10)}
	before := string(h.mine)
	odd, err := New(n, "odd", Options[string]{Codec: h})
	require.NoError(t, err)
	c, err := New(n, "c", Options[string]{Codec: codec.Text()})
	require.NoError(t, err)
	for i := range 100 {
		require.NoError(t, odd.Set(t.Context(), "k", "v", 0))
		want := strings.Repeat("x", 100*i)
		require.NoError(t, c.Set(t.Context(), "k", want, 0))
		got, ok := c.Get(t.Context(), "k")
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	assert.Equal(t, before, string(h.mine))
}

func TestScratch_growsWithinBounds(t *testing.T) {
	var p scratchPool
	s := p.take()
	s.want(3000)
	p.give(s)
	assert.GreaterOrEqual(t, cap(s.bytes), 3000)
	assert.Empty(t, s.bytes)
	s.want(scratchMost + 1)
	p.give(s)
	assert.Less(t, cap(s.bytes), scratchMost, "one large value does not keep its memory")
}
