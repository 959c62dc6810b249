package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"sync"
)

const jsonName = "json"

// JSON returns the codec of encoding/json, which reads and writes the struct tag
// `json:"name,omitempty"`. It implements [Checker]. Its name is "json". It
// writes '<', '>' and '&' as they are. The package comment says what is refused
// and what is silent.
//
// A type's own UnmarshalJSON must copy what it keeps, as its contract says.
func JSON[T any]() Codec[T] {
	t := reflect.TypeFor[T]()
	c := &jsonCodec[T]{err: walkType(jsonRules{}, t).err(jsonName, t)}
	own, _ := jsonRules{}.self(t, true)
	c.structure = t.Kind() == reflect.Struct && !own && !implements[json.Unmarshaler](reflect.PointerTo(t))
	return c
}

type jsonCodec[T any] struct {
	err       error // why T cannot be encoded
	structure bool  // T is a struct: null is not one

	encoders sync.Pool // of *jsonEncoder[T]
}

// jsonEncoder keeps a T of its own; see msgpackEncoder.
type jsonEncoder[T any] struct {
	out  sliceWriter
	lib  *json.Encoder
	slot T
}

// sliceWriter appends what it is given.
type sliceWriter struct{ buf []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

func (c *jsonCodec[T]) Name() string { return jsonName }

// Check implements [Checker].
func (c *jsonCodec[T]) Check() error { return c.err }

func (c *jsonCodec[T]) Append(dst []byte, v T) (out []byte, err error) {
	if c.err != nil {
		return dst, c.err
	}
	e, _ := c.encoders.Get().(*jsonEncoder[T])
	if e == nil {
		e = &jsonEncoder[T]{}
		e.lib = json.NewEncoder(&e.out)
		e.lib.SetEscapeHTML(false)
	}
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, recovered(ErrEncode, jsonName, p)
		}
	}()
	e.slot, e.out.buf = v, dst
	if err := e.lib.Encode(&e.slot); err != nil {
		return dst, &fault{kind: ErrEncode, codec: jsonName, text: err.Error(), cause: err}
	}
	out = e.out.buf[:len(e.out.buf)-1] // without the line feed of Encode
	var zero T
	e.slot, e.out.buf = zero, nil
	c.encoders.Put(e)
	return out, nil
}

func (c *jsonCodec[T]) Decode(src []byte, v *T) (err error) {
	var zero T
	*v = zero // the library merges into what is there
	if c.err != nil {
		return c.err
	}
	defer func() {
		if p := recover(); p != nil {
			err = recovered(ErrMalformed, jsonName, p)
		}
		if err != nil {
			*v = zero
		}
	}()
	if c.structure && string(bytes.TrimSpace(src)) == "null" {
		return malformed(jsonName, 0, "null where a struct belongs", nil)
	}
	if err := json.Unmarshal(src, v); err != nil {
		return jsonFault(err)
	}
	return nil
}

// jsonFault says where the library stopped. Its own text quotes the value.
func jsonFault(err error) error {
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return malformed(jsonName, int(e.Offset), "syntax", err)
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		what := "does not fit a " + e.Type.String()
		if e.Field != "" {
			what = e.Field + " " + what
		}
		return malformed(jsonName, int(e.Offset), what, err)
	}
	return &fault{kind: ErrMalformed, codec: jsonName, text: "does not fit the type", cause: err}
}
