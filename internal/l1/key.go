package l1

import (
	"strings"
	"unsafe"
)

// keyed is an entry with its key behind it. K is an array of bytes, of which the first
// counts those of the key, or a longKey.
type keyed[T, K any] struct {
	entry Entry[T]
	key   K
}

// longKey is a key that is too long for an array.
type longKey struct {
	mark byte // long
	key  string
}

// long is what stands in place of a length that is not below it.
const long = 128

// NewEntry returns an entry of key, which it copies, without a value, that is void
// and expired until a stamp and times are set.
func NewEntry[T any](key string) *Entry[T] {
	switch n := len(key); {
	case n < 8:
		return newKeyed[T, [8]byte](key)
	case n < 16:
		return newKeyed[T, [16]byte](key)
	case n < 24:
		return newKeyed[T, [24]byte](key)
	case n < 32:
		return newKeyed[T, [32]byte](key)
	case n < 48:
		return newKeyed[T, [48]byte](key)
	case n < 64:
		return newKeyed[T, [64]byte](key)
	case n < 96:
		return newKeyed[T, [96]byte](key)
	case n < long:
		return newKeyed[T, [long]byte](key)
	}
	e := &keyed[T, longKey]{key: longKey{mark: long, key: strings.Clone(key)}}
	return &e.entry
}

func newKeyed[T, K any](key string) *Entry[T] {
	e := new(keyed[T, K])
	room := unsafe.Slice((*byte)(unsafe.Pointer(&e.key)), unsafe.Sizeof(e.key))
	room[0] = byte(copy(room[1:], key))
	return &e.entry
}

// keyBytes is the memory that a key takes in an entry, or of its own.
func keyBytes(key string) int64 {
	if n := int64(len(key)); n >= long {
		return int64(unsafe.Sizeof(longKey{})) + n
	}
	return int64(len(key)) + 1
}

// Key returns the key of the entry.
func (e *Entry[T]) Key() string {
	at := unsafe.Add(unsafe.Pointer(e), unsafe.Sizeof(*e))
	n := *(*byte)(at)
	if n == long {
		return (*longKey)(at).key
	}
	return unsafe.String((*byte)(unsafe.Add(at, 1)), n)
}

// has reports whether key is the key of the entry.
func (e *Entry[T]) has(key string) bool {
	at := unsafe.Add(unsafe.Pointer(e), unsafe.Sizeof(*e))
	if n := *(*byte)(at); n != long {
		return int(n) == len(key) && unsafe.String((*byte)(unsafe.Add(at, 1)), len(key)) == key
	}
	return (*longKey)(at).key == key
}
