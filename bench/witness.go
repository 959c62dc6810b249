package main

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/tandemcache/tandem/invalidation"
)

// witness tells when a process has handled the invalidations that came over its
// connections, without asking it: a loop that asks takes the processor from the one
// that handles.
//
// A subscription of Tandem handles each message on the goroutine that reads, before
// it reads on, and its reader asks the connection for more only when it has no
// complete message left. So when a Read begins, all messages that were complete
// before it have been handled, and memory obeys. That is when the time is noted.
// Of several messages that one Read returned, the first may have been handled earlier.
type witness struct {
	mu    sync.Mutex // guards what follows, and what the connections note
	conns []*witnessed
}

// dial is the Dialer of a client.
func (w *witness) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &witnessed{Conn: conn, mu: &w.mu}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, c)
	return c, nil
}

// handled returns when each key that invalidations have named was known to obey.
func (w *witness) handled() map[string]int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := map[string]int64{}
	for _, c := range w.conns {
		c.eachHandled(func(payload []byte, now int64) {
			m, err := invalidation.Parse(payload)
			if err != nil || m.Kind != invalidation.KindKeys {
				return
			}
			for _, key := range m.Keys {
				at[key] = now
			}
		})
	}
	return at
}

// witnessed is a connection that keeps what comes once it has subscribed. What it
// was is looked at afterwards: until then all that it costs is a copy and a clock.
type witnessed struct {
	net.Conn

	mu         *sync.Mutex
	subscribed bool
	came       []byte
	reads      []begunRead
}

// begunRead is a Read that began when so many bytes had come.
type begunRead struct {
	came int
	at   int64
}

// Write implements net.Conn.
func (c *witnessed) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("\r\nsubscribe\r\n")) {
		c.mu.Lock()
		c.subscribed, c.came, c.reads = true, make([]byte, 0, 4<<20), make([]begunRead, 0, 1<<16)
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *witnessed) Read(p []byte) (int, error) {
	c.mu.Lock()
	if c.subscribed {
		c.reads = append(c.reads, begunRead{len(c.came), time.Now().UnixNano()})
	}
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	if c.subscribed {
		c.came = append(c.came, p[:n]...)
	}
	c.mu.Unlock()
	return n, err
}

// eachHandled calls f with the messages that came, and when the first Read after
// each began. A message is complete, and its time that of a Read, only with its last
// byte. The caller holds mu.
func (c *witnessed) eachHandled(f func(payload []byte, at int64)) {
	reads := c.reads
	for end := 0; ; {
		parts, n := nextReply(c.came[end:])
		if n == 0 {
			return
		}
		end += n
		for len(reads) > 0 && reads[0].came < end {
			reads = reads[1:]
		}
		if len(reads) == 0 {
			return
		}
		if len(parts) == 3 && string(parts[0]) == "message" {
			f(parts[2], reads[0].at)
		}
	}
}

// nextReply returns the strings of the first reply of b, in RESP 2, and how many
// bytes it has: 0 if it is not complete.
func nextReply(b []byte) (parts [][]byte, n int) {
	for left := 1; left > 0; left-- {
		line, _, ok := bytes.Cut(b[n:], []byte("\r\n"))
		if !ok || len(line) == 0 {
			return nil, 0
		}
		n += len(line) + len("\r\n")
		size, _ := strconv.Atoi(string(line[1:]))
		switch {
		case line[0] == '*':
			left += max(size, 0)
		case line[0] != '$':
			parts = append(parts, line[1:])
		case size >= 0:
			if len(b) < n+size+len("\r\n") {
				return nil, 0
			}
			parts = append(parts, b[n:n+size])
			n += size + len("\r\n")
		}
	}
	return parts, n
}
