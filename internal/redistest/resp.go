package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits of what the proxy reads: above anything that Redis sends by default.
const (
	respMaxDepth = 32
	respMaxBulk  = 512 << 20
	respMaxItems = 1 << 20
)

var errRESP = errors.New("redistest: malformed RESP")

// frame is one complete RESP value with the bytes that it came in.
type frame struct {
	raw   []byte
	kind  byte     // the type byte, '*' for an array
	items []string // of an array, set, map or push: its scalars; else the scalar
}

// readFrame reads one value of RESP2 or RESP3, a command included. Attributes
// ('|') belong to the value that follows them.
func readFrame(r *bufio.Reader) (frame, error) {
	var f frame
	for {
		kind, err := f.read(r, 0)
		if err != nil {
			return frame{}, err
		}
		if f.kind = kind; kind != '|' {
			return f, nil
		}
		f.items = nil
	}
}

// read reads one value into f.
func (f *frame) read(r *bufio.Reader, depth int) (kind byte, err error) {
	if depth > respMaxDepth {
		return 0, fmt.Errorf("%w: nested deeper than %d", errRESP, respMaxDepth)
	}
	line, err := f.line(r)
	if err != nil {
		return 0, err
	}
	if len(line) == 0 {
		return 0, fmt.Errorf("%w: empty line", errRESP)
	}
	switch kind = line[0]; kind {
	case '+', '-', ':', '_', ',', '#', '(':
		f.items = append(f.items, string(line[1:]))
		return kind, nil
	case '$', '=', '!':
		return kind, f.bulk(r, line[1:])
	case '*', '~', '>', '%', '|':
		return kind, f.aggregate(r, kind, line[1:], depth)
	}
	return 0, fmt.Errorf("%w: type byte %q", errRESP, kind)
}

// line reads up to CRLF, which the result does not hold.
func (f *frame) line(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadBytes('\n')
	f.raw = append(f.raw, line...)
	if err != nil {
		if errors.Is(err, io.EOF) && len(f.raw) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("%w: line without CRLF", errRESP)
	}
	return line[:len(line)-2], nil
}

func (f *frame) bulk(r *bufio.Reader, length []byte) error {
	n, err := strconv.Atoi(string(length))
	if err != nil || n < -1 || n > respMaxBulk {
		return fmt.Errorf("%w: length %q", errRESP, length)
	}
	if n == -1 {
		f.items = append(f.items, "")
		return nil
	}
	start := len(f.raw)
	// CopyN grows with what arrives, not with what the length claims.
	if _, err := io.CopyN((*appender)(&f.raw), r, int64(n)+2); err != nil {
		return fmt.Errorf("%w: %w", errRESP, io.ErrUnexpectedEOF)
	}
	if string(f.raw[start+n:]) != "\r\n" {
		return fmt.Errorf("%w: bulk without CRLF", errRESP)
	}
	f.items = append(f.items, string(f.raw[start:start+n]))
	return nil
}

func (f *frame) aggregate(r *bufio.Reader, kind byte, length []byte, depth int) error {
	n, err := strconv.Atoi(string(length))
	if err != nil || n < -1 || n > respMaxItems {
		return fmt.Errorf("%w: count %q", errRESP, length)
	}
	if kind == '%' || kind == '|' {
		n *= 2
	}
	for i := 0; i < n; {
		kind, err := f.read(r, depth+1)
		if err != nil {
			return err
		}
		if kind != '|' { // an attribute is no element, but part of the next
			i++
		}
	}
	return nil
}

// appender is a byte slice as an io.Writer.
type appender []byte

func (a *appender) Write(b []byte) (int, error) {
	*a = append(*a, b...)
	return len(b), nil
}
