package fence

import (
	"math/bits"
	"strings"
)

// prefixSlots is the size of the table of prefix deletions, 32 KiB. An entry
// that is not read while d other prefixes are deleted is voided by a collision
// with probability about d*segments/prefixSlots.
const prefixSlots = 1 << 12

// Prefix voids every key that is prefix or begins with prefix and a colon. The
// empty prefix voids every key.
//
// For each slot of a table, chosen by the hash of the prefix, the fence keeps the
// number of the last deletion that fell on it; a key looks up the slots of all its
// own prefixes. Against a list of recent prefixes this needs no search and no rule
// for what has left the list: memory is fixed, nothing is ever forgotten, and a
// collision costs a miss.
func (f *Fence) Prefix(prefix string) {
	f.changes.Add(1)
	f.happens(&f.prefixed, &f.prefixes[prefixSlot(hashString(hashSeed, prefix))])
}

// prefixMatches looks up the prefixes of key: the empty one, what stands before
// each colon, and the key itself. One pass over the key hashes all of them.
func (f *Fence) prefixMatches(key string, from uint64) bool {
	hash := hashSeed
	if f.prefixes[prefixSlot(hash)].Load() > from {
		return true
	}
	for {
		i := strings.IndexByte(key, ':')
		if i < 0 {
			hash = hashString(hash, key)
			return f.prefixes[prefixSlot(hash)].Load() > from
		}
		hash = hashString(hash, key[:i])
		if f.prefixes[prefixSlot(hash)].Load() > from {
			return true
		}
		hash = hashString(hash, ":")
		key = key[i+1:]
	}
}

// FNV-1a, because it extends from one prefix to the next longer one. Keys that
// were chosen to collide cost misses, nothing else, so it needs no secret seed.
const (
	hashSeed  uint64 = 14695981039346656037
	hashPrime uint64 = 1099511628211
)

func hashString(hash uint64, s string) uint64 {
	for i := range len(s) {
		hash = (hash ^ uint64(s[i])) * hashPrime
	}
	return hash
}

// prefixSlot mixes before it cuts: the low bits of FNV-1a depend on the low bits
// of the text alone.
func prefixSlot(hash uint64) uint64 {
	hi, lo := bits.Mul64(hash, 0x9e3779b97f4a7c15)
	return (hi ^ lo) % prefixSlots
}
