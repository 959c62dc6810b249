package codec

import "unicode/utf8"

// Bytes returns the codec of values that are bytes already. Append and Decode
// copy. Nil and empty are the same: both decode to an empty slice that is not
// nil. Its name is "bytes".
func Bytes() Codec[[]byte] { return bytesCodec{} }

// Text returns the codec of strings that stand as they are, readable with
// redis-cli. Append and Decode refuse what is not valid UTF-8. Its name is
// "text".
func Text() Codec[string] { return textCodec{} }

type bytesCodec struct{}

func (bytesCodec) Name() string { return "bytes" }

func (bytesCodec) Append(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }

func (bytesCodec) Decode(src []byte, v *[]byte) error {
	*v = append(make([]byte, 0, len(src)), src...)
	return nil
}

type textCodec struct{}

func (textCodec) Name() string { return "text" }

func (textCodec) Append(dst []byte, v string) ([]byte, error) {
	if !utf8.ValidString(v) {
		return dst, &fault{kind: ErrEncode, codec: "text", text: "not valid UTF-8"}
	}
	return append(dst, v...), nil
}

func (textCodec) Decode(src []byte, v *string) error {
	*v = ""
	if !utf8.Valid(src) {
		return malformed("text", invalidAt(src), "not valid UTF-8", nil)
	}
	*v = string(src)
	return nil
}

// invalidAt returns the offset of the first byte that is not valid UTF-8.
func invalidAt(src []byte) int {
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(src)
}
