package codec

// Codec turns values of T into bytes and back. All methods may be called
// concurrently. Every Codec of this package passes the conformance suite in
// conformance_test.go, which is the contract in code.
type Codec[T any] interface {
	// Append appends the encoding of v to dst and returns the longer slice. It
	// keeps neither dst nor v. On an error the result is dst in its old length;
	// the bytes behind that may be overwritten.
	Append(dst []byte, v T) ([]byte, error)

	// Decode sets *v to what src encodes, all of src and nothing more, and
	// whatever *v held before does not matter. It keeps no reference to src: the
	// value may outlive the buffer. src may be hostile: Decode never panics and
	// its memory is bounded by the length of src and the limits of the codec. On
	// an error *v is the zero T.
	Decode(src []byte, v *T) error

	// Name identifies the meaning of the bytes: codecs of one name read each
	// other's bytes. Wrappers put their own name around the inner one, as in
	// "zstd(msgpack)".
	Name() string
}

// Keyed is a Codec whose bytes are bound to the key that they are stored under:
// bytes moved to another key do not decode. The plain methods of a codec that
// needs the key return [ErrUnbound].
//
// The wrappers of this package implement Keyed around any codec, passing on the
// key as far as the inner codec takes it; [AppendFor] and [DecodeFor] pick the
// right methods of any codec.
type Keyed[T any] interface {
	Codec[T]
	AppendKeyed(dst []byte, key string, v T) ([]byte, error)
	DecodeKeyed(src []byte, key string, v *T) error
}

// Checker is implemented by codecs that can say beforehand whether a type
// can never be encoded. Check returns nil if values may encode, which is no
// promise that each does: what is in an interface field is not known. The
// error matches [ErrType] and names the path of every offending field.
type Checker interface {
	Check() error
}

// AppendFor is c.AppendKeyed if c is [Keyed], else c.Append.
func AppendFor[T any](c Codec[T], dst []byte, key string, v T) ([]byte, error) {
	if k, ok := c.(Keyed[T]); ok {
		return k.AppendKeyed(dst, key, v)
	}
	return c.Append(dst, v)
}

// DecodeFor is c.DecodeKeyed if c is [Keyed], else c.Decode.
func DecodeFor[T any](c Codec[T], src []byte, key string, v *T) error {
	if k, ok := c.(Keyed[T]); ok {
		return k.DecodeKeyed(src, key, v)
	}
	return c.Decode(src, v)
}

// checkInner is how wrappers forward Check.
func checkInner[T any](c Codec[T]) error {
	if k, ok := c.(Checker); ok {
		return k.Check()
	}
	return nil
}
