package codec

import (
	"errors"
	"fmt"
)

// Errors of both directions.
var (
	// ErrType says that values of the type can never be encoded, or never be
	// decoded again. It is the program's fault: change the type or the codec.
	ErrType = errors.New("codec: type cannot be encoded")

	// ErrTooLarge says that a value is larger than [Compression.MaxBytes]
	// uncompressed, or that bytes claim to be.
	ErrTooLarge = errors.New("codec: value too large")

	// ErrUnbound says that an encrypting codec was called without a key to bind
	// the bytes to. Use [AppendFor] and [DecodeFor] with a key.
	ErrUnbound = errors.New("codec: encryption needs the key of the entry")
)

// ErrEncode is matched by errors of Append for this one value: the library, or
// a marshaler of the type, refused it.
var ErrEncode = errors.New("codec: value does not encode")

// Errors of Decode.
var (
	// ErrMalformed is matched by every error of Decode for which the bytes are
	// to blame, except [ErrTooLarge], [ErrSecret] and [ErrForged].
	ErrMalformed = errors.New("codec: malformed bytes")

	// ErrSecret says that bytes were encrypted under a secret that the keyring
	// does not hold (any more, or yet).
	ErrSecret = errors.New("codec: encrypted under an unknown secret")

	// ErrForged says that bytes do not authenticate: they were changed, or
	// written for another key.
	ErrForged = errors.New("codec: bytes do not authenticate")
)

// fault is an error of one codec. Its text holds no part of the value, since
// errors end up in logs; the cause, whose text may, is reached with errors.As
// and errors.Is only.
type fault struct {
	kind  error
	codec string
	text  string
	cause error
}

func (e *fault) Error() string {
	return fmt.Sprintf("%v: %s: %s", e.kind, e.codec, e.text)
}

func (e *fault) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

// malformed is the fault of bytes at an offset. what names the rule that they
// break, never the bytes.
func malformed(codec string, offset int, what string, cause error) error {
	return &fault{kind: ErrMalformed, codec: codec, text: fmt.Sprintf("byte %d: %s", offset, what), cause: cause}
}

// recovered turns a panic of a library or of a type's own methods into an error.
func recovered(kind error, codec string, p any) error {
	err, _ := p.(error)
	return &fault{kind: kind, codec: codec, text: fmt.Sprintf("panic of type %T", p), cause: err}
}
