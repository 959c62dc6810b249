package invalidation

import (
	"errors"
	"net"
)

// maxLineBytes and maxElements bound what a server may announce outside of
// payloads. Pub/sub and the handshake stay far below.
const (
	maxLineBytes = 64 << 10
	maxElements  = 1 << 16
)

var errOversized = errors.New("the server sent more than a message may have")

// boundedConn is a connection to Redis that ends when a reply announces more than
// [MaxMessageBytes]. go-redis allocates what a reply announces, up to 512 MiB,
// which anyone who may publish on the channel could have it do.
//
// It follows RESP 2 and 3 just far enough: lines, and payloads of the length that
// a line announced.
type boundedConn struct {
	net.Conn
	skip   int  // bytes of payload and its end still to come
	kind   byte // first byte of the line, 0: at its beginning
	length int  // bytes of the line
	number int  // its digits so far
	err    error
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	if c.err = c.scan(p[:n]); c.err != nil {
		return 0, c.err
	}
	return n, err
}

func (c *boundedConn) scan(b []byte) error {
	for len(b) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(b))
			c.skip -= n
			b = b[n:]
			continue
		}
		if err := c.next(b[0]); err != nil {
			return err
		}
		b = b[1:]
	}
	return nil
}

// next takes one byte of a line.
func (c *boundedConn) next(ch byte) error {
	switch {
	case c.kind == 0:
		c.kind, c.length, c.number = ch, 0, 0
	case ch == '\n':
		if c.payload() && c.number >= 0 {
			c.skip = c.number + len("\r\n")
		}
		c.kind = 0
		return nil
	case ch == '-' && c.length == 1: // nil, -1: nothing follows
		c.number = -1
	case ch >= '0' && ch <= '9' && c.number >= 0 && c.number <= MaxMessageBytes:
		c.number = c.number*10 + int(ch-'0')
	}
	c.length++
	if c.length > maxLineBytes || c.payload() && c.number > MaxMessageBytes || c.aggregate() && c.number > maxElements {
		return errOversized
	}
	return nil
}

func (c *boundedConn) payload() bool {
	return c.kind == '$' || c.kind == '=' || c.kind == '!'
}

func (c *boundedConn) aggregate() bool {
	switch c.kind {
	case '*', '%', '~', '>', '|':
		return true
	}
	return false
}
