package keys

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// MaxBytes is the length of the longest valid key. Redis would take more; this
// bounds messages and indexes that carry keys.
const MaxBytes = 1024

// Reasons why [Check] refuses a key.
var (
	ErrEmpty    = errors.New("keys: empty key")
	ErrTooLong  = errors.New("keys: key too long")
	ErrEncoding = errors.New("keys: key is not valid UTF-8")
	ErrControl  = errors.New("keys: key holds a control character")
)

// Check returns nil for a valid key: not empty, at most [MaxBytes] bytes, valid
// UTF-8 without control characters. The error matches the reason ([ErrEmpty],
// [ErrTooLong], [ErrEncoding] or [ErrControl]) and names the byte offset and
// the key, quoted and cut short. A valid key costs no allocation.
func Check(key string) error {
	if key == "" {
		return ErrEmpty
	}
	if len(key) > MaxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d: %s", ErrTooLong, len(key), MaxBytes, quote(key))
	}
	for i := 0; i < len(key); {
		c := key[i]
		if c >= ' ' && c < 0x7f {
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(key[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Errorf("%w: byte %d of %s", ErrEncoding, i, quote(key))
		case c < utf8.RuneSelf || isC1(r):
			return fmt.Errorf("%w: %U at byte %d of %s", ErrControl, r, i, quote(key))
		}
		i += size
	}
	return nil
}

// quote makes a key fit for a line of a log: printable, and short whatever was
// given.
func quote(key string) string {
	const most = 64
	if len(key) <= most {
		return strconv.QuoteToASCII(key)
	}
	return strconv.QuoteToASCII(key[:most]) + "..."
}
