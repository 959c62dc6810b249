package codec

import (
	"errors"
	"io"
)

// errOverlap stops a decoder that reads a header where the scan saw a payload.
var errOverlap = errors.New("codec: a timestamp where a map belongs")

// guardedReader hands scanned bytes to the library's decoder.
//
// It reads them as the scan did, with one exception: where it expects a map and
// finds an extension value, it skips only the header of that and takes the
// payload for the map's header. A timestamp whose nanoseconds begin with 0xdf
// then claims a map of four billion entries. The payload of a timestamp is read
// with Read and a header with ReadByte, so a ReadByte at the first byte of a
// payload is that mistake, and an error.
type guardedReader struct {
	src   []byte
	pos   int
	times []int // offsets of the payloads ahead, in rising order
}

func (r *guardedReader) Read(p []byte) (int, error) {
	if r.pos >= len(r.src) {
		return 0, io.EOF
	}
	n := copy(p, r.src[r.pos:])
	r.pos += n
	return n, nil
}

func (r *guardedReader) ReadByte() (byte, error) {
	if r.pos >= len(r.src) {
		return 0, io.EOF
	}
	for len(r.times) > 0 && r.times[0] <= r.pos {
		if r.times[0] == r.pos {
			return 0, errOverlap
		}
		r.times = r.times[1:]
	}
	c := r.src[r.pos]
	r.pos++
	return c, nil
}

// UnreadByte is called after a ReadByte only.
func (r *guardedReader) UnreadByte() error {
	r.pos--
	return nil
}

// firstLook is how many bytes the encoder may write before its nesting is
// looked at.
const firstLook = 64 << 10

// appendWriter appends what the library's encoder writes.
//
// A value that contains itself would be encoded until the stack of the process
// ends, which nothing can recover. Every level writes at least a byte, so the
// writer looks at the depth of what is there after 64 KiB, 128 KiB and so on:
// each byte is looked at about twice at most, and values below are not at all.
type appendWriter struct {
	buf  []byte
	base int // where this value begins in buf
	look int // length of buf at which to look
}

func (w *appendWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	if len(w.buf) >= w.look {
		return len(p), w.lookDepth()
	}
	return len(p), nil
}

func (w *appendWriter) WriteByte(c byte) error {
	w.buf = append(w.buf, c)
	if len(w.buf) >= w.look {
		return w.lookDepth()
	}
	return nil
}

func (w *appendWriter) lookDepth() error {
	s := scanner{src: w.buf[w.base:], prefix: true}
	if !s.values(1, 0) {
		return errors.New(s.what)
	}
	w.look = w.base + 2*(len(w.buf)-w.base)
	return nil
}
