package codec

import (
	"encoding/binary"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// maxDepth is how deep containers may nest in msgpack. The library recurses at
// under 1 KiB of stack a level, so that the bound keeps a goroutine small; no
// sensible value comes near it.
const maxDepth = 256

// timeExt is the only extension type that is let through, the timestamp of the
// msgpack specification.
const timeExt = 0xff // -1

// scanner walks the headers of a msgpack document without decoding it.
//
// The library's own limits do not work: it allocates what a header claims
// before it reads on (34 GiB for 5 bytes), it recurses as deep as the bytes say
// until the stack of the process ends, and it ignores what follows a value. So
// nothing reaches it that has not passed here: every claimed length is there,
// the depth is bounded, and exactly one value stands in the bytes.
type scanner struct {
	src []byte
	pos int

	// collect makes the scan note in times where the payload of each timestamp
	// begins. See guardedReader.
	collect bool
	times   []int

	// prefix says that more bytes will follow: the end of src is not an error.
	prefix bool

	what string // why the scan failed at pos
}

// document reports whether src is exactly one value.
func (s *scanner) document() bool {
	if !s.values(1, 0) {
		return false
	}
	if s.pos != len(s.src) {
		return s.fail("bytes after the value")
	}
	return true
}

func (s *scanner) fail(what string) bool {
	s.what = what
	return false
}

// values walks n values that stand in depth containers. Recursion ends at
// maxDepth. Each value consumes a byte, so the loop is bounded by the bytes
// whatever n is.
func (s *scanner) values(n uint64, depth int) bool {
	for ; n > 0; n-- {
		if s.pos >= len(s.src) {
			if s.prefix {
				return true
			}
			return s.fail("ends inside a value")
		}
		c := s.src[s.pos]
		switch {
		case c <= msgpcode.PosFixedNumHigh || c >= msgpcode.NegFixedNumLow:
			s.pos++
		case c <= msgpcode.FixedMapHigh:
			if !s.container(1, 2*uint64(c&msgpcode.FixedMapMask), depth) {
				return false
			}
		case c <= msgpcode.FixedArrayHigh:
			if !s.container(1, uint64(c&msgpcode.FixedArrayMask), depth) {
				return false
			}
		case c <= msgpcode.FixedStrHigh:
			if !s.skip(1, uint64(c&msgpcode.FixedStrMask)) {
				return false
			}
		default:
			if !s.coded(c, depth) {
				return false
			}
		}
	}
	return true
}

// coded walks a value whose first byte holds no part of it.
func (s *scanner) coded(c byte, depth int) bool {
	switch c {
	case msgpcode.Nil, msgpcode.False, msgpcode.True:
		return s.skip(1, 0)
	case msgpcode.Uint8, msgpcode.Int8:
		return s.skip(1, 1)
	case msgpcode.Uint16, msgpcode.Int16:
		return s.skip(1, 2)
	case msgpcode.Uint32, msgpcode.Int32, msgpcode.Float:
		return s.skip(1, 4)
	case msgpcode.Uint64, msgpcode.Int64, msgpcode.Double:
		return s.skip(1, 8)
	case msgpcode.Str8, msgpcode.Bin8:
		return s.sized(1)
	case msgpcode.Str16, msgpcode.Bin16:
		return s.sized(2)
	case msgpcode.Str32, msgpcode.Bin32:
		return s.sized(4)
	case msgpcode.Array16:
		return s.counted(2, 1, depth)
	case msgpcode.Array32:
		return s.counted(4, 1, depth)
	case msgpcode.Map16:
		return s.counted(2, 2, depth)
	case msgpcode.Map32:
		return s.counted(4, 2, depth)
	case msgpcode.FixExt4:
		return s.timestamp(1, 4)
	case msgpcode.FixExt8:
		return s.timestamp(1, 8)
	case msgpcode.Ext8:
		if s.pos+1 < len(s.src) && s.src[s.pos+1] != 12 {
			return s.fail("extension type that is no timestamp")
		}
		return s.timestamp(2, 12)
	case msgpcode.FixExt1, msgpcode.FixExt2, msgpcode.FixExt16, msgpcode.Ext16, msgpcode.Ext32:
		return s.fail("extension type that is no timestamp")
	}
	return s.fail("code that msgpack does not use")
}

// skip walks a header and a body of size bytes.
func (s *scanner) skip(header int, size uint64) bool {
	if left := uint64(len(s.src) - s.pos); left < uint64(header)+size {
		if s.prefix {
			s.pos = len(s.src)
			return true
		}
		return s.fail("claims more bytes than there are")
	}
	s.pos += header + int(size)
	return true
}

// sized walks a string or binary whose length has width bytes.
func (s *scanner) sized(width int) bool {
	size, ok := s.length(width)
	if !ok {
		return s.skip(1+width, 0)
	}
	return s.skip(1+width, size)
}

// counted walks an array or map whose count has width bytes.
func (s *scanner) counted(width int, each uint64, depth int) bool {
	n, ok := s.length(width)
	if !ok {
		return s.skip(1+width, 0)
	}
	return s.container(1+width, n*each, depth)
}

// length reads the big-endian number behind the code, if all of it is there.
func (s *scanner) length(width int) (uint64, bool) {
	if len(s.src)-s.pos < 1+width {
		return 0, false
	}
	b := s.src[s.pos+1:]
	switch width {
	case 1:
		return uint64(b[0]), true
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), true
	default:
		return uint64(binary.BigEndian.Uint32(b)), true
	}
}

// container walks a header and the n values behind it. A value has at least
// one byte, so more values than bytes cannot be there.
func (s *scanner) container(header int, n uint64, depth int) bool {
	if !s.prefix && uint64(len(s.src)-s.pos-header) < n {
		return s.fail("claims more elements than there are bytes")
	}
	if depth == maxDepth {
		return s.fail("nests too deep")
	}
	s.pos += header
	return s.values(n, depth+1)
}

// timestamp walks an extension value of a size that timestamps have.
func (s *scanner) timestamp(header, size int) bool {
	at := s.pos + header
	if at < len(s.src) && s.src[at] != timeExt {
		return s.fail("extension type that is no timestamp")
	}
	if !s.skip(header+1, uint64(size)) {
		return false
	}
	if s.collect {
		s.times = append(s.times, at+1)
	}
	return true
}
