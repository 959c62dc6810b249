package keys

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strconv"
)

// checkID says whether values of a type can be ids.
func checkID(t reflect.Type) error {
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return nil
	}
	switch t.Kind() {
	case reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return nil
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return fmt.Errorf("is a %s, whose MarshalText has a pointer receiver: use *%s", t, t)
	}
	return fmt.Errorf("is a %s: want a string, an integer or a type with MarshalText", t)
}

// appendID appends a value as one escaped part. On failure it returns dst cut
// back to length keep.
//
// The usual types are taken by a switch that lets nothing escape; only named
// types and those with MarshalText pay for reflection.
func appendID[A any](dst []byte, keep int, id A) ([]byte, error) {
	switch v := any(id).(type) {
	case string:
		return appendPart(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case int32:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case uint:
		return strconv.AppendUint(dst, uint64(v), 10), nil
	case uint64:
		return strconv.AppendUint(dst, v, 10), nil
	case uint32:
		return strconv.AppendUint(dst, uint64(v), 10), nil
	}
	part, err := idText(id)
	if err != nil {
		return dst[:keep], err
	}
	return appendPart(dst, part), nil
}

// idText returns the text of an id of any allowed type.
//
//go:noinline
func idText(id any) (string, error) {
	if m, ok := id.(encoding.TextMarshaler); ok {
		if v := reflect.ValueOf(id); v.Kind() == reflect.Pointer && v.IsNil() {
			return "", fmt.Errorf("keys: id is a nil %T", id)
		}
		b, err := m.MarshalText()
		if err != nil {
			return "", fmt.Errorf("keys: id of type %T: %w", id, err)
		}
		return string(b), nil
	}
	switch v := reflect.ValueOf(id); {
	case v.Kind() == reflect.String:
		return v.String(), nil
	case v.CanInt():
		return strconv.FormatInt(v.Int(), 10), nil
	case v.CanUint():
		return strconv.FormatUint(v.Uint(), 10), nil
	}
	// Reached by an interface type that is nil, and by a kind made as a literal.
	return "", errors.New("keys: id is neither a string, an integer nor a TextMarshaler")
}
