// Package keys builds and takes apart the keys of a cache.
//
// # Grammar
//
// A key is one or more parts joined by ':'. Within a part these bytes are
// written as '%' and two upper-case hexadecimal digits:
//
//   - ':' and '%', which the grammar uses itself;
//   - '{', see Cluster below;
//   - control characters and bytes that are not valid UTF-8.
//
// Everything else stays as it is, so ordinary ids (numbers, UUIDs, mail
// addresses, words of any language) read in redis-cli as they read in the
// program. An empty part is written "%-": a key that [Join] built never begins
// or ends with ':' and never holds "::", so it cannot be mistaken for a prefix
// with a trailing separator.
//
// # Guarantees
//
//   - Injective: different lists of parts give different keys, so an id that
//     holds a ':' cannot reach into another's place. Join("a:b") is not
//     Join("a", "b").
//   - Reversible: Split(Join(p...)) equals p for all p, and Join of what
//     [Split] accepted is the same key again; Split refuses every other
//     spelling.
//   - Valid: what Join makes of at least one part passes [Check], unless it is
//     longer than [MaxBytes].
//   - Whole segments: Join(p...) is a prefix of Join(p..., q...) up to a ':'.
//     Deleting the prefix Join("1") of a cache never takes Join("10").
//
// # Cluster
//
// Redis Cluster hashes only what stands between the first '{' and the '}'
// after it. Nothing in Tandem needs two keys in one slot, since a record is one
// key, so any slot is right. But ids often come from outside, and "{x}1",
// "{x}2" and so on would all land on one shard. Join and the kinds therefore
// write '{' as "%7B": their keys never hold a hash tag. [Check] accepts braces,
// for callers that build keys themselves and want them.
//
// # Kinds
//
// A kind is a name and the types of the ids that follow it: a [Kind1] of string
// named "user" makes "123" for use in the cache "user", and "user:123" as a
// whole. Package keys/ghl is a catalog of kinds.
//
// Nothing here does I/O or keeps state; all functions and methods may be called
// concurrently.
package keys
