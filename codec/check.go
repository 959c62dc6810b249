package codec

import (
	"errors"
	"fmt"
	"reflect"
)

// typeWalk looks at everything that a value of a type can hold, as far as its
// type says, in the eyes of one library.
type typeWalk struct {
	rules  typeRules
	seen   map[visit]bool // recursive types end here
	faults []error

	readsMaps bool // the decoder may be asked for a map somewhere
}

// typeRules is what the libraries see differently.
type typeRules interface {
	// self says whether values of t encode themselves; fault says why that
	// cannot work.
	self(t reflect.Type, addressable bool) (leaf bool, fault string)
	// field says whether f is not encoded at all, or why it cannot be.
	field(f reflect.StructField) (skip bool, fault string)
	// kind says why a kind cannot be encoded.
	kind(k reflect.Kind) (fault string)
	// reads says whether some value of t, an interface with methods, can be decoded.
	reads(t reflect.Type) bool
	// mapKey says why t cannot be the key of a map.
	mapKey(t reflect.Type) (fault string)
}

// visit is what the answer depends on: methods with a pointer receiver are out
// of reach where a value is not addressable, that is, in a map.
type visit struct {
	t           reflect.Type
	addressable bool
}

// maxPointers ends types like "type P *P", which point and never arrive.
const maxPointers = 16

func walkType(rules typeRules, t reflect.Type) *typeWalk {
	w := &typeWalk{rules: rules, seen: map[visit]bool{}}
	w.walk(t, "", true)
	// Of a field that may be nil more is not known; of the value itself nothing is left.
	if t.Kind() == reflect.Interface && t.NumMethod() > 0 && !rules.reads(t) {
		w.fault("", "is a "+t.String()+", an interface with methods, and which type to decode is in no bytes")
	}
	return w
}

// err joins the faults, or is nil.
func (w *typeWalk) err(codec string, t reflect.Type) error {
	if w.faults == nil {
		return nil
	}
	return fmt.Errorf("%w: %s of %s: %w", ErrType, codec, t, errors.Join(w.faults...))
}

func (w *typeWalk) fault(path, what string) {
	if path == "" {
		path = "the value"
	}
	w.faults = append(w.faults, fmt.Errorf("%s %s", path, what))
}

func (w *typeWalk) walk(t reflect.Type, path string, addressable bool) {
	for n := 0; t.Kind() == reflect.Pointer; n++ {
		if n == maxPointers {
			w.fault(path, "is a pointer to a pointer without end")
			return
		}
		t, addressable = t.Elem(), true
	}
	if leaf, fault := w.rules.self(t, addressable); leaf {
		// Its methods may do anything with the decoder that they are given.
		w.readsMaps = true
		if fault != "" {
			w.fault(path, fault)
		}
		return
	}
	if fault := w.rules.kind(t.Kind()); fault != "" {
		w.fault(path, fault)
		return
	}
	// Here, not above: a fault is named at every place, a type walked once.
	if w.seen[visit{t, addressable}] {
		return
	}
	w.seen[visit{t, addressable}] = true
	switch t.Kind() {
	case reflect.Slice:
		w.walk(t.Elem(), path+"[]", true)
	case reflect.Array:
		w.walk(t.Elem(), path+"[]", addressable)
	case reflect.Map:
		w.readsMaps = true
		if fault := w.rules.mapKey(t.Key()); fault != "" {
			w.fault(path, fault)
		} else {
			w.walk(t.Key(), path+"[key]", false)
		}
		w.walk(t.Elem(), path+"[value]", false)
	case reflect.Struct:
		w.fields(t, path, addressable)
	}
}

func (w *typeWalk) fields(t reflect.Type, path string, addressable bool) {
	for f := range t.Fields() {
		at := f.Name
		if path != "" {
			at = path + "." + f.Name
		}
		skip, fault := w.rules.field(f)
		switch {
		case skip:
		case fault != "":
			w.fault(at, fault)
		default:
			w.walk(f.Type, at, addressable)
		}
	}
}

// neverEncodes is the kinds that no library takes.
func neverEncodes(k reflect.Kind) string {
	switch k {
	case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
		return "is a " + k.String()
	}
	return ""
}
