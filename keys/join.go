package keys

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Separator stands between the parts of a key.
const Separator = ":"

const (
	escape    = '%'
	emptyPart = "%-" // '-' is no hexadecimal digit, so no byte's escape looks like it
	upperHex  = "0123456789ABCDEF"
)

// ErrSplit is matched by every error of [Split].
var ErrSplit = errors.New("keys: not a key that Join builds")

// Join builds the key of parts, as the package comment says. No parts give the
// empty string, which is not a valid key. Parts may hold any bytes; the result
// may be longer than [MaxBytes].
func Join(parts ...string) string {
	switch len(parts) {
	case 0:
		return ""
	case 1:
		if plain(parts[0]) {
			return parts[0]
		}
	}
	var stack [128]byte
	dst := stack[:0]
	for i, p := range parts {
		if i > 0 {
			dst = append(dst, Separator...)
		}
		dst = appendPart(dst, p)
	}
	return string(dst)
}

// Split returns the parts that [Join] built key from: none for the empty
// string. It refuses what Join would have written differently, such as a lower
// case escape or an escape of a letter, since two spellings of one list would
// be two records; the error matches [ErrSplit].
func Split(key string) ([]string, error) {
	if key == "" {
		return nil, nil
	}
	parts := make([]string, 0, strings.Count(key, Separator)+1)
	offset := 0
	for raw := range strings.SplitSeq(key, Separator) {
		part, at := unescape(raw)
		if at < 0 {
			// Only one spelling counts, and appendPart is what defines it.
			if at = mismatch(raw, part); at < 0 {
				parts = append(parts, part)
				offset += len(raw) + len(Separator)
				continue
			}
		}
		return nil, fmt.Errorf("%w: byte %d of %s", ErrSplit, offset+at, quote(key))
	}
	return parts, nil
}

// appendPart appends one part in the spelling of the grammar.
func appendPart(dst []byte, part string) []byte {
	if part == "" {
		return append(dst, emptyPart...)
	}
	for i := 0; i < len(part); {
		c := part[i]
		if c < utf8.RuneSelf {
			if mustEscape(c) {
				dst = appendEscaped(dst, c)
			} else {
				dst = append(dst, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(part[i:])
		if (r == utf8.RuneError && size == 1) || isC1(r) {
			for j := range size {
				dst = appendEscaped(dst, part[i+j])
			}
		} else {
			dst = append(dst, part[i:i+size]...)
		}
		i += size
	}
	return dst
}

// plain reports whether a part is written as it is. It may say no for a part
// that would be: it looks at ASCII only.
func plain(part string) bool {
	for i := range len(part) {
		if c := part[i]; c >= utf8.RuneSelf || mustEscape(c) {
			return false
		}
	}
	return part != ""
}

func mustEscape(c byte) bool {
	return c < ' ' || c == 0x7f || c == ':' || c == escape || c == '{'
}

// isC1 reports a control character beyond ASCII.
func isC1(r rune) bool { return r >= 0x80 && r <= 0x9f }

func appendEscaped(dst []byte, c byte) []byte {
	return append(dst, escape, upperHex[c>>4], upperHex[c&15])
}

// unescape undoes the escapes of one part. bad is the offset of an escape that
// is none, -1 if all are.
func unescape(raw string) (part string, bad int) {
	if raw == emptyPart {
		return "", -1
	}
	first := strings.IndexByte(raw, escape)
	if first < 0 {
		return raw, -1
	}
	out := append(make([]byte, 0, len(raw)), raw[:first]...)
	for i := first; i < len(raw); i++ {
		c := raw[i]
		if c == escape {
			if i+2 >= len(raw) {
				return "", i
			}
			hi, lo := strings.IndexByte(upperHex, raw[i+1]), strings.IndexByte(upperHex, raw[i+2])
			if hi < 0 || lo < 0 {
				return "", i
			}
			c = byte(hi<<4 | lo)
			i += 2
		}
		out = append(out, c)
	}
	return string(out), -1
}

// mismatch returns the first byte at which raw is not how part is written, or
// -1 if it is.
func mismatch(raw, part string) int {
	if plain(raw) {
		return -1 // without escapes part is raw
	}
	var stack [128]byte
	want := appendPart(stack[:0], part)
	if string(want) == raw {
		return -1
	}
	n := min(len(raw), len(want))
	for i := range n {
		if raw[i] != want[i] {
			return i
		}
	}
	return n
}
