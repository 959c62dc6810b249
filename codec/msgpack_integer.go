package codec

import (
	"encoding/binary"
	"reflect"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

func isInteger(k reflect.Kind) bool {
	return reflect.Int <= k && k <= reflect.Uint64
}

// decodeInteger reads a scanned document into a value of an integer kind. The
// library would cut a number that does not fit (300 becomes 44 in an int8), and
// take nil for zero.
func decodeInteger(src []byte, value reflect.Value) error {
	bits, negative, ok := integer(src)
	switch {
	case !ok:
		return malformed(msgpackName, 0, "not an integer", nil)
	case value.CanInt():
		n := int64(bits)
		if (n < 0) != negative || value.OverflowInt(n) {
			return malformed(msgpackName, 0, "integer out of range", nil)
		}
		value.SetInt(n)
	default:
		if negative || value.OverflowUint(bits) {
			return malformed(msgpackName, 0, "integer out of range", nil)
		}
		value.SetUint(bits)
	}
	return nil
}

// integer returns the number that src begins with, in two's complement.
// REQUIRES: src has passed the scanner.
func integer(src []byte) (bits uint64, negative, ok bool) {
	c, b := src[0], src[1:]
	var signed int64
	switch c {
	case msgpcode.Uint8:
		return uint64(b[0]), false, true
	case msgpcode.Uint16:
		return uint64(binary.BigEndian.Uint16(b)), false, true
	case msgpcode.Uint32:
		return uint64(binary.BigEndian.Uint32(b)), false, true
	case msgpcode.Uint64:
		return binary.BigEndian.Uint64(b), false, true
	case msgpcode.Int8:
		signed = int64(int8(b[0]))
	case msgpcode.Int16:
		signed = int64(int16(binary.BigEndian.Uint16(b)))
	case msgpcode.Int32:
		signed = int64(int32(binary.BigEndian.Uint32(b)))
	case msgpcode.Int64:
		signed = int64(binary.BigEndian.Uint64(b))
	default:
		if !msgpcode.IsFixedNum(c) {
			return 0, false, false
		}
		signed = int64(int8(c))
	}
	return uint64(signed), signed < 0, true
}
