package codec

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

func msgpackWalk(t reflect.Type) *typeWalk { return walkType(msgpackRules{}, t) }

// msgpackRules is how the msgpack library sees types, and what it does that
// cannot be borne: an embedded pointer starts a goroutine that never ends.
type msgpackRules struct{}

// msgpackMethods is the pairs of methods by which a type encodes itself, in the
// library's order of preference.
func msgpackMethods() [4]methodPair {
	return [4]methodPair{
		{"EncodeMsgpack", reflect.TypeFor[msgpack.CustomEncoder](), "DecodeMsgpack", reflect.TypeFor[msgpack.CustomDecoder]()},
		{"MarshalMsgpack", reflect.TypeFor[msgpack.Marshaler](), "UnmarshalMsgpack", reflect.TypeFor[msgpack.Unmarshaler]()},
		{"MarshalBinary", reflect.TypeFor[encoding.BinaryMarshaler](), "UnmarshalBinary", reflect.TypeFor[encoding.BinaryUnmarshaler]()},
		{"MarshalText", reflect.TypeFor[encoding.TextMarshaler](), "UnmarshalText", reflect.TypeFor[encoding.TextUnmarshaler]()},
	}
}

type methodPair struct {
	encode  string
	encoder reflect.Type
	decode  string
	decoder reflect.Type
}

// msgpackEncodeMethod returns the method by which t encodes itself and the one
// that must read it; pointer says that it is a method of *t only.
func msgpackEncodeMethod(t reflect.Type) (encode, decode string, pointer bool) {
	for _, p := range msgpackMethods() {
		if t.Implements(p.encoder) {
			return p.encode, p.decode, false
		}
	}
	for _, p := range msgpackMethods() {
		if reflect.PointerTo(t).Implements(p.encoder) {
			return p.encode, p.decode, true
		}
	}
	return "", "", false
}

// msgpackDecodeMethod returns the method by which t decodes itself and the one
// that must have written it.
func msgpackDecodeMethod(t reflect.Type) (decode, encode string) {
	if t.Kind() == reflect.Interface || t.Kind() == reflect.Pointer {
		return "", ""
	}
	for _, of := range [2]reflect.Type{t, reflect.PointerTo(t)} {
		for _, p := range msgpackMethods() {
			if of.Implements(p.decoder) {
				return p.decode, p.encode
			}
		}
	}
	return "", ""
}

func (msgpackRules) self(t reflect.Type, addressable bool) (bool, string) {
	if t.Kind() == reflect.Interface || t == reflect.TypeFor[time.Time]() {
		return false, "" // nothing is known, or the library's own
	}
	encode, reader, pointer := msgpackEncodeMethod(t)
	decode, writer := msgpackDecodeMethod(t)
	if encode == "" && decode == "" {
		return false, ""
	}
	// Bytes and strings are what these methods make of a value; where the value
	// is one itself, half a pair works.
	plain := t.Kind() == reflect.String || (t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8)
	switch {
	case pointer && !addressable:
		return true, "is a " + t.String() + " in a map, where " + encode + " of *" + t.Name() + " cannot be called: use a map of pointers"
	case decode == reader || plain && (encode == "" || decode == ""):
		return true, ""
	case decode == "":
		return true, "is a " + t.String() + ", which has " + encode + " but no " + reader
	case encode == "":
		return true, "is a " + t.String() + ", which has " + decode + " but no " + writer
	}
	return true, "is a " + t.String() + ", which encodes by " + encode + " but decodes by " + decode
}

func (msgpackRules) field(f reflect.StructField) (skip bool, fault string) {
	tag := strings.Split(f.Tag.Get("msgpack"), ",")
	if tag[0] == "-" || (!f.IsExported() && !f.Anonymous) {
		return true, ""
	}
	if slices.Contains(tag[1:], "intern") {
		return false, "has the tag option intern, which needs an extension type"
	}
	if !f.Anonymous || (slices.Contains(tag[1:], "noinline") && f.IsExported()) {
		return false, ""
	}
	t := f.Type
	for n := 0; t.Kind() == reflect.Pointer && n < maxPointers; n++ {
		t = t.Elem()
	}
	encode, _, _ := msgpackEncodeMethod(t)
	decode, _ := msgpackDecodeMethod(t)
	inline := t.Kind() == reflect.Struct &&
		(encode == "" && decode == "" && t != reflect.TypeFor[time.Time]() || slices.Contains(tag[1:], "inline"))
	switch {
	case inline && t != f.Type:
		return false, "is an embedded pointer: embed the struct itself, name the field or tag it `msgpack:\",noinline\"`"
	case !inline && !f.IsExported():
		return false, "is embedded, not exported and no plain struct, so it cannot be decoded"
	}
	return false, ""
}

func (msgpackRules) kind(k reflect.Kind) string {
	if k == reflect.Uintptr {
		return "is a uintptr"
	}
	return neverEncodes(k)
}

// reads: the library makes an error of the text that it wrote of one, and of what it
// makes of other bytes only a time has methods.
func (msgpackRules) reads(t reflect.Type) bool {
	return t == reflect.TypeFor[error]() || reflect.TypeFor[time.Time]().Implements(t)
}

func (msgpackRules) mapKey(reflect.Type) string { return "" }
