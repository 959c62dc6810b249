package invalidation

import (
	"errors"
	"net"
)

// What a server may announce. Pub/sub, the handshake and what changed in one
// turn of a server stay below; where they do not, a gap is cheaper.
const (
	maxLineBytes     = 64 << 10            // outside of payloads
	maxElements      = 1 << 16             // of one array, map, set or push
	maxReplyElements = 2 * maxElements     // still to come in a reply, nested ones included
	maxReplyBytes    = 4 * MaxMessageBytes // of a reply as a whole
)

var errOversized = errors.New("the server sent more than a message may have")

// boundedConn is a connection to Redis that ends when a reply announces more than
// [MaxMessageBytes], or is larger than maxReplyBytes. go-redis allocates what a
// reply announces, up to 512 MiB, which anyone who may publish on the channel
// could have it do.
//
// It follows RESP 2 and 3 just far enough: lines, payloads of the length that a
// line announced, and how many elements a reply still has.
type boundedConn struct {
	net.Conn
	cut    func(error) // called once with what was too much
	skip   int         // bytes of payload and its end still to come
	kind   byte        // first byte of the line, 0: at its beginning
	length int         // bytes of the line
	number int         // its digits so far
	reply  int         // bytes of the reply so far
	left   int         // elements of the reply still to come, 0: it is whole
	err    error
}

func (c *boundedConn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	if c.err = c.scan(p[:n]); c.err != nil {
		// go-redis may have taken a part of the reply already, and stumble over
		// that before it comes back for this error.
		c.cut(c.err)
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
		if c.left == 0 {
			c.reply, c.left = 0, 1
		}
		c.kind, c.length, c.number = ch, 0, 0
	case ch == '\n':
		return c.endOfLine()
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

// endOfLine counts what the line was or announces.
func (c *boundedConn) endOfLine() error {
	c.left--
	switch {
	case c.number < 0: // nil
	case c.payload():
		c.skip = c.number + len("\r\n")
	case c.kind == '%':
		c.left += 2 * c.number
	case c.kind == '|': // attributes come before the reply that they are of
		c.left += 2*c.number + 1
	case c.aggregate():
		c.left += c.number
	}
	c.reply += c.length + len("\r\n") + c.skip
	c.kind = 0
	if c.reply > maxReplyBytes || c.left > maxReplyElements {
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
