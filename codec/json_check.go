package codec

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// jsonRules is how encoding/json sees types.
type jsonRules struct{}

func implements[I any](t reflect.Type) bool { return t.Implements(reflect.TypeFor[I]()) }

func (jsonRules) self(t reflect.Type, addressable bool) (bool, string) {
	if t.Kind() == reflect.Interface {
		return false, ""
	}
	own := implements[json.Marshaler](t) || implements[encoding.TextMarshaler](t)
	if !own && addressable {
		t = reflect.PointerTo(t)
		own = implements[json.Marshaler](t) || implements[encoding.TextMarshaler](t)
	}
	return own, ""
}

func (jsonRules) field(f reflect.StructField) (skip bool, fault string) {
	tag := f.Tag.Get("json")
	if tag == "-" || slices.Contains(strings.Split(tag, ",")[1:], "omitzero") {
		return true, "" // with omitzero even a func encodes while it is nil
	}
	if f.IsExported() {
		return false, ""
	}
	if !f.Anonymous {
		return true, ""
	}
	t := f.Type
	pointer := t.Kind() == reflect.Pointer
	if pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() != reflect.Struct:
		return true, ""
	case pointer:
		return false, "is an embedded pointer to a type that is not exported, so it cannot be decoded"
	}
	return false, ""
}

func (jsonRules) kind(k reflect.Kind) string { return neverEncodes(k) }

func (jsonRules) reads(reflect.Type) bool { return false }

func (jsonRules) mapKey(t reflect.Type) string {
	if t.Kind() == reflect.String || isInteger(t.Kind()) || t.Kind() == reflect.Uintptr ||
		implements[encoding.TextMarshaler](t) {
		return ""
	}
	return "has keys of type " + t.String() + ", which are no strings, integers or TextMarshalers"
}
