// Package codec turns the values of a cache into bytes and back.
//
// # Which codec
//
//   - [Msgpack], the default: compact, fast, reads in every language.
//   - [JSON]: readable with redis-cli, for types whose tags and methods are
//     written for encoding/json, and for numbers in fields of type any.
//   - [Bytes] and [Text]: values that are encoded already, or plain text.
//
// Around any of these:
//
//   - [Compressed], for values of some kilobytes and more;
//   - [Encrypted], for values that whoever can read or write Redis must not read
//     or forge. Put it outside: Encrypted(Compressed(Msgpack)).
//
// # Guarantees
//
// For every codec of this package:
//
//   - Round trip: what Append writes, Decode of a codec of the same Name reads,
//     and the value is equal but for what stands under "Silent" below.
//   - Symmetry: what Decode would refuse for its form, Append refuses to write,
//     with an error that matches [ErrEncode] or [ErrTooLarge]. (Except JSON that
//     nests deeper than 10,000, which encoding/json writes and does not read.)
//   - No aliasing: a decoded value shares no memory with the bytes, nor the
//     bytes with the value.
//   - Hostile bytes: Decode never panics and never recurses without bound, and
//     allocates in proportion to the bytes that are there, not to what they
//     claim. The factor depends on the type, as a nil of one byte may stand for
//     a large element of a slice. A compressed value counts with the size that
//     it unpacks to, at most [Compression.MaxBytes].
//   - All of it: bytes after the value are an error.
//   - Nothing half done: after an error the value is the zero value, and dst has
//     its old length.
//   - Errors hold no part of a decoded value in their text.
//
// Append and Decode turn a panic of a library, or of a type's own marshaling
// methods, into an error.
//
// # Schema evolution
//
// Msgpack and JSON write structs as maps by field name. A field that the bytes
// lack is left zero; one that the type lacks is skipped. So adding and removing
// fields is safe while old and new programs run side by side, as far as zero is
// a good value for the new field. Renaming a field is removing one and adding
// another. Changing the type or the meaning of a field under its old name is
// not safe: change the Version of the cache's options, or the name.
//
// # What is refused
//
// Check of [Msgpack] and [JSON] finds, by the type alone, what can never be
// encoded or never be read back: channels, functions, complex numbers, unsafe
// pointers, a method to encode without its counterpart, and as the value itself
// an interface with methods (Msgpack takes error). For Msgpack also:
//
//   - embedded pointers to structs, for which the library starts a goroutine
//     that never ends: embed the struct, name the field, or tag it
//     `msgpack:",noinline"`;
//   - the tag option intern and types registered with msgpack.RegisterExt (these
//     only Append notices): extension types other than the timestamp are not
//     read, since their content cannot be bounded beforehand;
//   - types in a map, as key or value, whose encoding methods have a pointer
//     receiver.
//
// Msgpack nests at most 256 deep, in both directions; a value that contains
// itself is an error of Append. Integers as the value itself are checked for
// range, and nil is refused for a struct as the value itself.
//
// # Silent
//
// What the libraries do without an error, so that you look out for it:
//
//   - Msgpack: an integer inside a struct, slice or map that does not fit its
//     field is cut (300 is 44 in an int8), and nil becomes the zero value.
//     Strings and []byte are taken for each other.
//   - Msgpack: numbers in fields of type any come back in the smallest type that
//     holds them (int8 to uint64), maps as map[string]any. JSON makes them
//     float64.
//   - Both: a time keeps its instant and loses its monotonic reading. Msgpack
//     loses the location too and decodes into time.Local. Compare with Equal.
//   - Both: a struct that embeds a type with encoding methods, such as
//     time.Time, inherits them, and encodes only that part.
//   - Both: what a field that is an interface with methods holds is written, and
//     Decode refuses it, because the bytes do not name its type. Nil is read.
//   - Both: unexported fields are not encoded. JSON replaces invalid UTF-8 in
//     strings, and writes a nil slice as null, which comes back nil.
//   - [Bytes]: nil comes back empty.
//   - Msgpack: maps are written in random order, so equal values need not have
//     equal bytes; never compare encodings. An array tagged as_array whose
//     number of fields changed is an error, but an empty one is a zero struct.
//   - Msgpack prints a line with the standard logger when two fields have one
//     name.
//
// # Ownership
//
// Codecs keep neither what they are given nor what they return. A codec may be
// used by any number of goroutines. It holds its own coders, in pools, and
// starts no goroutine. Types' own methods must not keep the encoder, decoder or
// bytes that they are given.
package codec
