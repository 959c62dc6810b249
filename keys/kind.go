package keys

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// ErrKind is matched by every error of the constructors of kinds.
var ErrKind = errors.New("keys: invalid kind")

// Spec says where the keys of a kind stand: namespace:name:segment:ids.
// Namespace and Segment may be empty and are then left out with their ':'.
//
// Each is one part that needs no escape: letters of any language, digits and
// punctuation, but no ':', '%', '{', no space and no character with a meaning in
// a glob pattern.
type Spec struct {
	Namespace string // the Prefix of the node, such as "ghl"
	Name      string // the name of the cache, such as "user"; required
	Segment   string // a fixed first part of the id inside the cache
}

// Kind is what the kinds have in common. It is a value; the zero Kind has no
// name and is of no use.
type Kind struct {
	name   string
	prefix string // namespace:name, without the ':' at the end
	lead   string // segment: or nothing
}

// Name returns the name of the cache that the keys belong to.
func (k Kind) Name() string { return k.name }

// Prefix returns what every whole key begins with, up to the ':' before the
// first id: "ghl:user".
func (k Kind) Prefix() string { return k.prefix + strings.TrimSuffix(":"+k.lead, ":") }

// Pattern returns the glob pattern of all whole keys, for SCAN, ACL rules and
// redis-cli: "ghl:user:*".
func (k Kind) Pattern() string { return k.Prefix() + ":*" }

func (s Spec) kind(ids ...reflect.Type) (Kind, error) {
	var faults []error
	fault := func(field string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%w: %s %w", ErrKind, field, err))
		}
	}
	if s.Name == "" {
		fault("Name", errors.New("is empty"))
	}
	fault("Namespace", checkWord(s.Namespace))
	fault("Name", checkWord(s.Name))
	fault("Segment", checkWord(s.Segment))
	for i, t := range ids {
		fault(fmt.Sprintf("id %d", i+1), checkID(t))
	}
	if faults != nil {
		return Kind{}, errors.Join(faults...)
	}
	k := Kind{name: s.Name, prefix: s.Name}
	if s.Namespace != "" {
		k.prefix = s.Namespace + Separator + s.Name
	}
	if s.Segment != "" {
		k.lead = s.Segment + Separator
	}
	return k, nil
}

// checkWord refuses what would need an escape, or would not be literal in the
// pattern of the kind.
func checkWord(word string) error {
	if word == "" {
		return nil
	}
	if err := Check(word); err != nil {
		return err
	}
	if i := strings.IndexAny(word, `:%{ *?[]\^`); i >= 0 {
		return fmt.Errorf("holds %q at byte %d of %s", word[i], i, quote(word))
	}
	return nil
}

// Kind1 makes keys of one id. Make one with [New1] or [Of1].
type Kind1[A any] struct{ Kind }

// Kind2 makes keys of two ids. Make one with [New2] or [Of2].
type Kind2[A, B any] struct{ Kind }

// Kind3 makes keys of three ids. Make one with [New3] or [Of3].
type Kind3[A, B, C any] struct{ Kind }

// New1 returns the kind of name. An id is of a type whose kind is string or an
// integer, or that has MarshalText (which is then what is used). The error
// matches [ErrKind] and says all that is wrong with the name and the types.
func New1[A any](name string) (Kind1[A], error) { return Of1[A](Spec{Name: name}) }

// New2 is [New1] for two ids.
func New2[A, B any](name string) (Kind2[A, B], error) { return Of2[A, B](Spec{Name: name}) }

// New3 is [New1] for three ids.
func New3[A, B, C any](name string) (Kind3[A, B, C], error) {
	return Of3[A, B, C](Spec{Name: name})
}

// Of1 is [New1] with all that a [Spec] can say.
func Of1[A any](s Spec) (Kind1[A], error) {
	k, err := s.kind(reflect.TypeFor[A]())
	return Kind1[A]{k}, err
}

// Of2 is [Of1] for two ids.
func Of2[A, B any](s Spec) (Kind2[A, B], error) {
	k, err := s.kind(reflect.TypeFor[A](), reflect.TypeFor[B]())
	return Kind2[A, B]{k}, err
}

// Of3 is [Of1] for three ids.
func Of3[A, B, C any](s Spec) (Kind3[A, B, C], error) {
	k, err := s.kind(reflect.TypeFor[A](), reflect.TypeFor[B](), reflect.TypeFor[C]())
	return Kind3[A, B, C]{k}, err
}

// Must returns kind and panics if err is not nil. It is for kinds of constant
// names.
func Must[K any](kind K, err error) K {
	if err != nil {
		panic(err)
	}
	return kind
}

// ID returns the id inside the cache: "123". It is what the methods of a cache
// take. It is empty, which every cache refuses, if MarshalText fails;
// [Kind1.AppendID] says why.
func (k Kind1[A]) ID(a A) string {
	var stack [128]byte
	return text(k.AppendID(stack[:0], a))
}

// Key returns the whole key: "ghl:user:123". It is empty if MarshalText fails.
func (k Kind1[A]) Key(a A) string {
	var stack [128]byte
	return text(k.AppendID(k.head(stack[:0]), a))
}

// AppendID appends what [Kind1.ID] returns to dst. The error is that of
// MarshalText; the bytes are then dst.
func (k Kind1[A]) AppendID(dst []byte, a A) ([]byte, error) {
	return appendID(append(dst, k.lead...), len(dst), a)
}

// ID returns the id inside the cache: "7:/login". See [Kind1.ID].
func (k Kind2[A, B]) ID(a A, b B) string {
	var stack [128]byte
	return text(k.AppendID(stack[:0], a, b))
}

// Key returns the whole key: "ghl:rate:7:/login". See [Kind1.Key].
func (k Kind2[A, B]) Key(a A, b B) string {
	var stack [128]byte
	return text(k.AppendID(k.head(stack[:0]), a, b))
}

// AppendID appends what [Kind2.ID] returns to dst. See [Kind1.AppendID].
func (k Kind2[A, B]) AppendID(dst []byte, a A, b B) ([]byte, error) {
	out, err := appendID(append(dst, k.lead...), len(dst), a)
	if err != nil {
		return out, err
	}
	return appendID(append(out, Separator...), len(dst), b)
}

// Prefix1 returns the prefix of all ids inside the cache that begin with a: what
// to give to DeletePrefix of the cache.
func (k Kind2[A, B]) Prefix1(a A) string { return Kind1[A](k).ID(a) }

// ID returns the id inside the cache: "7:eu:3". See [Kind1.ID].
func (k Kind3[A, B, C]) ID(a A, b B, c C) string {
	var stack [128]byte
	return text(k.AppendID(stack[:0], a, b, c))
}

// Key returns the whole key. See [Kind1.Key].
func (k Kind3[A, B, C]) Key(a A, b B, c C) string {
	var stack [128]byte
	return text(k.AppendID(k.head(stack[:0]), a, b, c))
}

// AppendID appends what [Kind3.ID] returns to dst. See [Kind1.AppendID].
func (k Kind3[A, B, C]) AppendID(dst []byte, a A, b B, c C) ([]byte, error) {
	out, err := Kind2[A, B](k).AppendID(dst, a, b)
	if err != nil {
		return out, err
	}
	return appendID(append(out, Separator...), len(dst), c)
}

// Prefix1 returns the prefix of all ids that begin with a. See [Kind2.Prefix1].
func (k Kind3[A, B, C]) Prefix1(a A) string { return Kind1[A](k).ID(a) }

// Prefix2 returns the prefix of all ids that begin with a and b. See [Kind2.Prefix1].
func (k Kind3[A, B, C]) Prefix2(a A, b B) string { return Kind2[A, B](k).ID(a, b) }

// head appends what stands before the id of a whole key.
func (k Kind) head(dst []byte) []byte {
	return append(append(dst, k.prefix...), Separator...)
}

// text makes a failed id the empty string: never a key that is somebody else's.
func text(b []byte, err error) string {
	if err != nil {
		return ""
	}
	return string(b)
}
