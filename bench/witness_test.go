package main

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/bench/peer"
	"github.com/tandemcache/tandem/invalidation"
)

// probe looks between a Read and the handling of what it returned, on the goroutine
// that handles, so that nothing else happens meanwhile.
type probe struct {
	*witnessed
	look func()
}

func (p probe) Read(b []byte) (int, error) {
	n, err := p.witnessed.Read(b)
	p.look()
	return n, err
}

// What the witness says is handled, memory obeys: at any time, also right after a
// Read that returned the next message, when memory does not obey that one yet.
func TestWitness_saysWhenMemoryObeys(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	keys := makeKeys(50)
	var (
		mu      sync.Mutex // guards what follows
		c       peer.Cache[User]
		changed bool
		early   []string // said to be handled, but memory had the old value
		waiting int      // came, was not said to be handled, and memory had the old value
	)
	var w witness
	env := peer.Env{Addr: s.addr, Bytes: 64 << 20, Name: "witness"}
	look := func() {
		mu.Lock()
		defer mu.Unlock()
		if !changed {
			return
		}
		handled := w.handled()
		for _, key := range keys {
			_, said := handled[key]
			v, ok, err := c.Get(context.Background(), key)
			old := err == nil && ok && v.Credits == 0
			if said && old {
				early = append(early, key)
			}
			if !said && old && w.came(key) {
				waiting++
			}
		}
	}
	reader := env
	reader.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := w.dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return probe{conn.(*witnessed), func() {
			if w.subscribed(conn.(*witnessed)) {
				look()
			}
		}}, nil
	}
	ours, err := openPeer(peer.Memory[User](), "tandem", reader)
	require.NoError(t, err)
	defer func() { assert.NoError(t, ours.Close()) }()
	other, err := openPeer(peer.Memory[User](), "tandem", env)
	require.NoError(t, err)
	defer func() { assert.NoError(t, other.Close()) }()
	require.NoError(t, hold(ours, keys))
	mu.Lock()
	c, changed = ours, true
	mu.Unlock()
	for _, key := range keys {
		require.NoError(t, other.Set(t.Context(), key, User{Credits: 1}))
	}
	require.NoError(t, until(10*time.Second, func() error {
		if len(w.handled()) < len(keys) {
			return assert.AnError
		}
		return nil
	}), "every change is witnessed")
	mu.Lock()
	defer mu.Unlock()
	assert.Empty(t, early)
	assert.Positive(t, waiting, "the look comes before the handling, else it proves nothing")
}

// came reports whether a change of key is among the bytes that were read.
func (w *witness) came(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		for end := 0; ; {
			parts, n := nextReply(c.came[end:])
			if n == 0 {
				break
			}
			end += n
			if len(parts) != 3 {
				continue
			}
			if m, err := invalidation.Parse(parts[2]); err == nil && len(m.Keys) == 1 && m.Keys[0] == key {
				return true
			}
		}
	}
	return false
}

func (w *witness) subscribed(c *witnessed) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.subscribed
}

// A message counts as handled with the first Read that begins when all of it has
// come, however it was split.
func TestWitnessed_splitMessages(t *testing.T) {
	const first, second = "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$3\r\none\r\n", "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\nt\r\nwo\r\n"
	whole := "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" + first + "*2\r\n$4\r\npong\r\n$-1\r\n" + second
	for cut := range whole {
		ours, theirs := net.Pipe()
		c := &witnessed{Conn: ours, mu: new(sync.Mutex), subscribed: true}
		go func() {
			_, _ = theirs.Write([]byte(whole[:cut]))
			_, _ = theirs.Write([]byte(whole[cut:]))
			_ = theirs.Close()
		}()
		buf := make([]byte, 1024)
		for {
			if _, err := c.Read(buf); err != nil {
				break
			}
		}
		for i := range c.reads {
			c.reads[i].at = int64(i)
		}
		at := map[string]int64{}
		c.eachHandled(func(payload []byte, now int64) { at[string(payload)] = now })
		reads := int64(len(c.reads) - 1) // the last one found the end
		want := map[string]int64{"one": reads, "t\r\nwo": reads}
		if reads == 2 && cut >= len(whole)-len(second)-len("*2\r\n$4\r\npong\r\n$-1\r\n") {
			want["one"] = 1
		}
		require.Equal(t, want, at, "cut at %d", cut)
	}
}
