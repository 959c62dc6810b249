package tier

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/vmihailenco/msgpack/v5"
)

// schemaStamp condenses what decides how a payload is to be read: the codec,
// the shape of T and the version that the application gives. A record with
// another stamp is a miss, so that a rolling deploy never decodes what it
// would misread. It is no part of the key: a delete by a node of one version
// must reach the record of the other.
func schemaStamp(codecName string, t reflect.Type, version string) uint64 {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %q ", codecName, version)
	writeShape(&b, t, map[reflect.Type]int{})
	return xxhash.Sum64String(b.String())
}

// selfEncoding returns the interfaces by which a type takes its encoding into its
// own hands. Its fields then say nothing about its bytes, its name has to.
func selfEncoding() []reflect.Type {
	return []reflect.Type{
		reflect.TypeFor[msgpack.CustomEncoder](),
		reflect.TypeFor[msgpack.Marshaler](),
		reflect.TypeFor[encoding.BinaryMarshaler](),
		reflect.TypeFor[encoding.TextMarshaler](),
	}
}

// writeShape writes a description of t that two types share only if the codecs
// write them alike. seen numbers the structs met, to end in recursive types.
func writeShape(b *strings.Builder, t reflect.Type, seen map[reflect.Type]int) {
	for _, i := range selfEncoding() {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			fmt.Fprintf(b, "self(%s.%s)", t.PkgPath(), t.String())
			return
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		if n, ok := seen[t]; ok {
			fmt.Fprintf(b, "#%d", n)
			return
		}
		seen[t] = len(seen)
		b.WriteString("{")
		for f := range fields(t) {
			fmt.Fprintf(b, "%s %q ", f.Name, f.Tag)
			writeShape(b, f.Type, seen)
			b.WriteString(";")
		}
		b.WriteString("}")
	case reflect.Pointer:
		// nil and the zero value differ, so a pointer is not its element.
		b.WriteString("*")
		writeShape(b, t.Elem(), seen)
	case reflect.Slice:
		b.WriteString("[]")
		writeShape(b, t.Elem(), seen)
	case reflect.Array:
		fmt.Fprintf(b, "[%d]", t.Len())
		writeShape(b, t.Elem(), seen)
	case reflect.Map:
		b.WriteString("map[")
		writeShape(b, t.Key(), seen)
		b.WriteString("]")
		writeShape(b, t.Elem(), seen)
	case reflect.Interface:
		fmt.Fprintf(b, "any(%s)", t.String())
	default:
		b.WriteString(t.Kind().String())
	}
}

// fields yields the fields that a codec can see: exported ones, and embedded
// structs whatever their name.
func fields(t reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			if (f.IsExported() || f.Anonymous) && !yield(f) {
				return
			}
		}
	}
}
