package l2

import (
	"encoding/binary"
	"math"
)

// Markers of the msgpack format, as far as a record has them.
const (
	markFixArray = 0x90
	markArray4   = 0x94
	markArray8   = 0x98 // a record without a body
	markArray15  = 0x9f // a record with one
	markFixStr   = 0xa0
	markBin8     = 0xc4
	markBin32    = 0xc6
	markUint8    = 0xcc
	markUint16   = 0xcd
	markUint32   = 0xce
	markUint64   = 0xcf
	markStr8     = 0xd9
	markStr16    = 0xda
	markArray16  = 0xdc
)

// format is the version of the layout that this package writes.
const format = 1

// Offsets of the head. Scripts know them too (scripts.go), so they are the
// same in every format that keeps the number.
const (
	offFormat  = 5
	offKind    = 7
	offSoft    = 9
	offVersion = 12
	offToken   = 22
	offLease   = 39
	offWriters = 48
	offSource  = 50
	headLen    = 58
)

// skeleton is a head whose fields are empty: what stands between the fields.
const skeleton = "\x98\xa4Tdm\x01\xcc\x00\xcc\x00" +
	"\xc4\x08\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\xc4\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\xcf\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\xcc\x00" +
	"\xcf\x00\x00\x00\x00\x00\x00\x00\x00"

func appendHead(dst []byte, r *Record) []byte {
	start := len(dst)
	dst = append(dst, skeleton...)
	h := dst[start:]
	if r.Kind.HasBody() {
		h[0] = markArray15
	}
	h[offKind] = byte(r.Kind)
	if r.Soft {
		h[offSoft] = 1
	}
	binary.BigEndian.PutUint64(h[offVersion:], r.Version)
	copy(h[offToken:], r.Token[:])
	binary.BigEndian.PutUint64(h[offLease:], uint64(r.LeaseEnd))
	h[offWriters] = r.Writers
	binary.BigEndian.PutUint64(h[offSource:], r.Source)
	return dst
}

// parseHead reads the head at the front of b. Only with StateRecord it sets r.
//
// NB: The scripts draw the same line between ours, newer and foreign with
// their function load. A record that one takes and the other does not would be
// read for ever and never replaced.
func parseHead(b []byte, r *Record) State {
	if len(b) == 0 {
		return StateAbsent
	}
	if len(b) <= offFormat || b[0]&0xf0 != markFixArray || string(b[1:offFormat]) != skeleton[1:offFormat] {
		return StateForeign
	}
	if b[offFormat] > format {
		return StateNewer
	}
	if len(b) < headLen || !headIntact(b[:headLen]) {
		return StateForeign
	}
	*r = Record{
		Kind:     Kind(b[offKind]),
		Soft:     b[offSoft] == 1,
		Version:  binary.BigEndian.Uint64(b[offVersion:]),
		Token:    Token(b[offToken : offToken+16]),
		LeaseEnd: clampTime(binary.BigEndian.Uint64(b[offLease:])),
		Writers:  b[offWriters],
		Source:   binary.BigEndian.Uint64(b[offSource:]),
	}
	return StateRecord
}

// headIntact checks everything in a head that is not free to take any value.
func headIntact(h []byte) bool {
	k := Kind(h[offKind])
	lead := byte(markArray8)
	if k.HasBody() {
		lead = markArray15
	}
	return k.valid() && h[0] == lead && h[offFormat] == format && h[offSoft] <= 1 &&
		h[offKind-1] == markUint8 && h[offSoft-1] == markUint8 &&
		string(h[offVersion-2:offVersion]) == skeleton[offVersion-2:offVersion] &&
		string(h[offToken-2:offToken]) == skeleton[offToken-2:offToken] &&
		h[offLease-1] == markUint64 && h[offWriters-1] == markUint8 && h[offSource-1] == markUint64
}

// clampTime keeps a hostile time from turning negative.
func clampTime(v uint64) int64 { return int64(min(v, math.MaxInt64)) }

func appendUint64(dst []byte, v uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, markUint64), v)
}

// appendUint appends v in the shortest form.
func appendUint(dst []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, markUint8, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, markUint16), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, markUint32), uint32(v))
	}
	return appendUint64(dst, v)
}

func appendString(dst []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		dst = append(dst, markFixStr|byte(n))
	case n <= math.MaxUint8:
		dst = append(dst, markStr8, byte(n))
	default:
		dst = binary.BigEndian.AppendUint16(append(dst, markStr16), uint16(n))
	}
	return append(dst, s...)
}

func appendArrayLen(dst []byte, n int) []byte {
	if n < 16 {
		return append(dst, markFixArray|byte(n))
	}
	return binary.BigEndian.AppendUint16(append(dst, markArray16), uint16(n))
}

// cursor reads the fields of a body one after the other. After the first that
// is not as it must be, ok is false and all further reads return zeros.
type cursor struct {
	b  []byte
	ok bool
}

// take returns the next n bytes, nil if they are not there.
func (c *cursor) take(n int) []byte {
	if !c.ok || n < 0 || n > len(c.b) {
		c.ok = false
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *cursor) byte() byte {
	p := c.take(1)
	if !c.ok {
		return 0
	}
	return p[0]
}

func (c *cursor) mark(m byte) {
	if c.byte() != m {
		c.ok = false
	}
}

// big reads an unsigned number of n bytes.
func (c *cursor) big(n int) uint64 {
	var v uint64
	for _, b := range c.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (c *cursor) fixed64() uint64 {
	c.mark(markUint64)
	return c.big(8)
}

func (c *cursor) time() int64 {
	v := c.fixed64()
	if v > math.MaxInt64 {
		c.ok = false
	}
	return clampTime(v)
}

func (c *cursor) uint() uint64 {
	switch m := c.byte(); {
	case m < 0x80:
		return uint64(m)
	case m >= markUint8 && m <= markUint64:
		return c.big(1 << (m - markUint8))
	}
	c.ok = false
	return 0
}

func (c *cursor) string() string {
	n := uint64(0)
	switch m := c.byte(); {
	case m&0xe0 == markFixStr:
		n = uint64(m & 0x1f)
	case m == markStr8:
		n = c.big(1)
	case m == markStr16:
		n = c.big(2)
	default:
		c.ok = false
	}
	if n > MaxTagName {
		c.ok = false
	}
	return string(c.take(int(n)))
}

func (c *cursor) tags() []TagVersion {
	n := uint64(0)
	switch m := c.byte(); {
	case m&0xf0 == markFixArray:
		n = uint64(m & 0x0f)
	case m == markArray16:
		n = c.big(2)
	default:
		c.ok = false
	}
	if n%2 != 0 || n/2 > MaxTags {
		c.ok = false
	}
	if !c.ok || n == 0 {
		return nil
	}
	tags := make([]TagVersion, 0, n/2)
	for range n / 2 {
		tags = append(tags, TagVersion{Name: c.string(), Version: c.uint()})
	}
	return tags
}

// payload reads what is left: a length and exactly that many bytes.
func (c *cursor) payload() []byte {
	c.mark(markBin32)
	n := c.big(4)
	if n != uint64(len(c.b)) {
		c.ok = false
		return nil
	}
	return c.take(int(n))
}
