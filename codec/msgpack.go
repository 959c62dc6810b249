package codec

import (
	"errors"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

const msgpackName = "msgpack"

// keepBytes is the longest encoding whose decoder goes back to its pool. The
// library's buffer never shrinks, so one huge value would hold its memory for
// good. (Its encoder has none: it writes into the slice of the caller.)
const keepBytes = 64 << 10

// Msgpack returns the codec of MessagePack, which reads and writes the struct
// tag `msgpack:"name,omitempty"`. It implements [Checker]. Its name is
// "msgpack". The package comment says what is refused and what is silent.
func Msgpack[T any]() Codec[T] {
	c := &msgpackCodec[T]{}
	t := reflect.TypeFor[T]()
	w := msgpackWalk(t)
	c.err, c.guarded = w.err(msgpackName, t), w.readsMaps
	if method, _ := msgpackDecodeMethod(t); method == "" {
		c.integer = isInteger(t.Kind())
		c.structure = t.Kind() == reflect.Struct
	}
	return c
}

// msgpackCodec holds its coders itself, so that what one program part does to
// them (a panic in a marshaler, a test bubble) stays there.
type msgpackCodec[T any] struct {
	err       error // why T cannot be encoded; then the library is never called
	guarded   bool  // the decoder may look for maps: see guardedReader
	integer   bool  // T is an integer: read here, where overflow is seen
	structure bool  // T is a struct: nil is not one

	encoders sync.Pool // of *msgpackEncoder[T]
	decoders sync.Pool // of *msgpackDecoder
}

func (c *msgpackCodec[T]) Name() string { return msgpackName }

// Check implements [Checker].
func (c *msgpackCodec[T]) Check() error { return c.err }

// msgpackEncoder keeps a T of its own to encode from: methods with a pointer
// receiver work on it, and a value that went through an interface would be
// allocated each time.
type msgpackEncoder[T any] struct {
	w     appendWriter
	lib   *msgpack.Encoder
	slot  T
	value reflect.Value // of slot
}

func (c *msgpackCodec[T]) Append(dst []byte, v T) (out []byte, err error) {
	if c.err != nil {
		return dst, c.err
	}
	e, _ := c.encoders.Get().(*msgpackEncoder[T])
	if e == nil {
		e = &msgpackEncoder[T]{lib: msgpack.NewEncoder(nil)}
		e.value = reflect.ValueOf(&e.slot).Elem()
	}
	// After an error or a panic the encoder is not put back: who knows its state.
	defer func() {
		if p := recover(); p != nil {
			out, err = dst, recovered(ErrEncode, msgpackName, p)
		}
	}()

	e.slot = v
	e.w = appendWriter{buf: dst, base: len(dst), look: len(dst) + firstLook}
	e.lib.Reset(&e.w)
	e.lib.UseCompactInts(true) // after Reset, which clears it
	if err := e.lib.EncodeValue(e.value); err != nil {
		return dst, &fault{kind: ErrEncode, codec: msgpackName, text: err.Error(), cause: err}
	}
	out = e.w.buf

	// A marshaler may write anything: nothing (a nil RawMessage), half a value,
	// an extension type. What Decode would refuse is refused here, where
	// somebody sees it.
	s := scanner{src: out[len(dst):]}
	if !s.document() {
		return dst, &fault{kind: ErrEncode, codec: msgpackName, text: s.what}
	}
	var zero T
	e.slot, e.w = zero, appendWriter{}
	c.encoders.Put(e)
	return out, nil
}

type msgpackDecoder struct {
	scan scanner
	r    guardedReader
	lib  *msgpack.Decoder
}

func (c *msgpackCodec[T]) Decode(src []byte, v *T) (err error) {
	var zero T
	*v = zero // the library merges into what is there
	if c.err != nil {
		return c.err
	}
	d, _ := c.decoders.Get().(*msgpackDecoder)
	if d == nil {
		d = &msgpackDecoder{lib: msgpack.NewDecoder(nil)}
	}
	// After an error or a panic the decoder is not put back: a failed one keeps
	// recording whatever it reads from then on.
	defer func() {
		if p := recover(); p != nil {
			err = recovered(ErrMalformed, msgpackName, p)
		}
		if err != nil {
			*v = zero
		}
	}()

	d.scan = scanner{src: src, collect: c.guarded, times: d.scan.times[:0]}
	if !d.scan.document() {
		return malformed(msgpackName, d.scan.pos, d.scan.what, nil)
	}
	if err := c.decode(d, src, v); err != nil {
		return err
	}
	if len(src) <= keepBytes {
		d.scan.src, d.r = nil, guardedReader{}
		c.decoders.Put(d)
	}
	return nil
}

// decode decodes scanned bytes.
func (c *msgpackCodec[T]) decode(d *msgpackDecoder, src []byte, v *T) error {
	value := reflect.ValueOf(v).Elem()
	if c.integer {
		return decodeInteger(src, value)
	}
	if c.structure && src[0] == msgpcode.Nil {
		return malformed(msgpackName, 0, "nil where a struct belongs", nil)
	}
	d.r = guardedReader{src: src, times: d.scan.times}
	d.lib.Reset(&d.r)
	if err := d.lib.DecodeValue(value); err != nil {
		what := "does not fit the type"
		if errors.Is(err, errOverlap) {
			what = "timestamp where a map belongs"
		}
		return malformed(msgpackName, d.r.pos, what, err)
	}
	if d.r.pos != len(src) {
		return malformed(msgpackName, d.r.pos, "the type reads only a part of the value", nil)
	}
	return nil
}
