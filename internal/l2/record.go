package l2

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/tandemcache/tandem/internal/mutant"
)

// Bounds of a record. Parse takes nothing beyond them, so that a hostile record
// costs no more memory than its own bytes.
const (
	// MaxTags is the largest number of tags of one record.
	MaxTags = 64
	// MaxTagName is the largest length of a tag's name, in bytes.
	MaxTagName = 1024
	// MaxPayload is the largest payload that a record holds, in bytes; Redis
	// takes no string over 512 MiB.
	MaxPayload = 512<<20 - maxMeta
	// maxMeta is more than everything but the payload takes: the fixed part,
	// the inner array, and tags of a name (3+1024) and a version (9).
	maxMeta = headLen + 128 + MaxTags*(MaxTagName+3+9)
)

// Kind is what a record is.
type Kind byte

// The kinds of records. The letters are what stands in Redis.
const (
	KindValue     Kind = 'v' // a value
	KindNegative  Kind = 'n' // the source has no such thing
	KindTombstone Kind = 't' // nothing, but a source version below which nothing is stored
	KindReader    Kind = 'r' // placeholder: a reader loads
	KindWriter    Kind = 'w' // placeholder: one writer's bracket, undisturbed
	KindHold      Kind = 'h' // placeholder: nothing is stored while it lives
)

// Record is one entry of the second tier: value, lease and marks.
//
// Times are microseconds in the clock of the Redis server that owns the key.
type Record struct {
	Kind Kind
	// Soft says that Expire marked the value as past its time. On a KindHold
	// it says that LeaseEnd is the end of a hold, not only of writers.
	Soft     bool
	Version  uint64 // random, drawn anew by each store and by Expire
	Token    Token  // of the lease on it; zero: none. On a KindHold the sum of its writers'
	LeaseEnd int64
	Writers  uint8  // open writers' brackets; 0 on a KindHold is a plain hold
	Source   uint64 // version in the source; 0: none. In placeholders the floor

	// What follows only KindValue and KindNegative have.

	FreshUntil   int64  // 0: never ends
	StaleUntil   int64  // usable as a fallback until then; 0: as FreshUntil
	StoredAt     int64  // when the load or the write that made it began to store it
	Schema       uint64 // stamp of codec, type and version
	Load         time.Duration
	Cost         int64
	CacheVersion uint64
	Tags         []TagVersion
	Payload      []byte
}

// TagVersion is the version that a tag had before the value was loaded.
type TagVersion struct {
	Name    string
	Version uint64
}

// Token names one lease. The zero token names none and never holds a lease.
type Token [16]byte

// IsZero reports whether t names no lease.
func (t Token) IsZero() bool { return t == Token{} }

// plus and minus count writers' tokens in a KindHold, see luaTokens.
func (t Token) plus(u Token) Token {
	for i := range t {
		t[i] += u[i]
	}
	return t
}

func (t Token) minus(u Token) Token {
	for i := range t {
		t[i] -= u[i]
	}
	return t
}

// NewToken draws a token.
//
// It is drawn from the kernel, not from a generator of the process: two
// processes that were cloned from one memory image must not draw the same.
func NewToken() Token {
	var t Token
	for t.IsZero() {
		rand.Read(t[:])
	}
	return t
}

// NewVersion draws the version of a record. It is never 0, which says "none".
func NewVersion() uint64 {
	var b [8]byte
	for {
		rand.Read(b[:])
		if v := binary.BigEndian.Uint64(b[:]); v != 0 {
			return v
		}
	}
}

// HasBody reports whether records of this kind have a body: times, schema,
// tags and payload. The others end after the source version.
func (k Kind) HasBody() bool { return k == KindValue || k == KindNegative }

func (k Kind) valid() bool {
	switch k {
	case KindValue, KindNegative, KindTombstone, KindReader, KindWriter, KindHold:
		return true
	}
	return false
}

// Validate names the first field that Append cannot write so that Parse takes
// it back.
func (r *Record) Validate() error {
	switch {
	case !r.Kind.valid():
		return fmt.Errorf("l2: record: Kind %q is none of the known", byte(r.Kind))
	case r.LeaseEnd < 0 || r.FreshUntil < 0 || r.StaleUntil < 0 || r.StoredAt < 0:
		return fmt.Errorf("l2: record: a time is negative")
	case r.Load < 0:
		return fmt.Errorf("l2: record: Load %v is negative", r.Load)
	case r.Cost < 0:
		return fmt.Errorf("l2: record: Cost %d is negative", r.Cost)
	case len(r.Tags) > MaxTags:
		return fmt.Errorf("l2: record: %d Tags, at most %d are allowed", len(r.Tags), MaxTags)
	case len(r.Payload) > MaxPayload:
		return fmt.Errorf("l2: record: Payload of %d bytes, at most %d are allowed", len(r.Payload), MaxPayload)
	}
	for _, t := range r.Tags {
		if len(t.Name) > MaxTagName {
			return fmt.Errorf("l2: record: Tags: a name of %d bytes, at most %d are allowed", len(t.Name), MaxTagName)
		}
	}
	return nil
}

// Append appends r, encoded for key, to dst. It allocates only if dst has too
// little room; [Record.Size] bytes are enough.
//
// REQUIRES: r.Validate() is nil.
func (r *Record) Append(dst []byte, key string) []byte {
	dst = appendHead(dst, r)
	if !r.Kind.HasBody() {
		return dst
	}
	start := len(dst)
	dst = appendUint64(dst, uint64(r.FreshUntil))
	dst = appendUint64(dst, uint64(r.StaleUntil))
	dst = appendUint64(dst, uint64(r.StoredAt))
	dst = appendUint64(dst, r.Schema)
	dst = append(dst, markArray4)
	dst = appendUint(dst, uint64(max(r.Load, 0)/time.Microsecond))
	dst = appendUint(dst, uint64(max(r.Cost, 0)))
	dst = appendUint(dst, r.CacheVersion)
	dst = appendArrayLen(dst, 2*len(r.Tags))
	for _, t := range r.Tags {
		dst = appendString(dst, t.Name)
		dst = appendUint(dst, t.Version)
	}
	dst = appendUint64(dst, checksum(r.Kind, dst[start:], r.Payload, key))
	dst = append(dst, markBin32)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Payload)))
	return append(dst, r.Payload...)
}

// Size is at least the length of what Append appends.
func (r *Record) Size() int {
	n := headLen
	if !r.Kind.HasBody() {
		return n
	}
	n += 4*9 + 1 + 3*9 + 3 + 9 + 5 + len(r.Payload)
	for _, t := range r.Tags {
		n += 3 + len(t.Name) + 9
	}
	return n
}

// checksum covers all that scripts never change, and the key, so that a record
// that was copied under another key counts as corrupt.
func checksum(kind Kind, body, payload []byte, key string) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write([]byte{byte(kind)})
	_, _ = d.Write(body)
	_, _ = d.Write(payload)
	_, _ = d.WriteString(key)
	return d.Sum64()
}

// Parse reads what stands under key. It never panics, whatever b holds, and
// its work and memory are bounded by len(b). Payload aliases b.
//
//   - Nothing: StateAbsent.
//   - No record, or one whose head is damaged: StateForeign.
//   - A record of a newer format: StateNewer.
//   - A good head before anything else: StateCorrupt, and of Record only what
//     the head holds is set.
//   - A record: StateRecord.
func Parse(b []byte, key string) Reply {
	var rep Reply
	rep.State = parseHead(b, &rep.Record)
	if rep.State != StateRecord {
		return rep
	}
	if !rep.Record.Kind.HasBody() {
		if len(b) != headLen {
			rep.State = StateCorrupt
		}
		return rep
	}
	body := rep.Record
	if !parseBody(b[headLen:], &body, key) {
		rep.State = StateCorrupt
		return rep
	}
	rep.Record = body
	return rep
}

// parseBody reads b, what follows the head, into r.
func parseBody(b []byte, r *Record, key string) bool {
	c := cursor{b: b, ok: true}
	r.FreshUntil = c.time()
	r.StaleUntil = c.time()
	r.StoredAt = c.time()
	r.Schema = c.fixed64()
	c.mark(markArray4)
	micros := c.uint()
	cost := c.uint()
	r.CacheVersion = c.uint()
	r.Tags = c.tags()
	covered := b[:len(b)-len(c.b)]
	sum := c.fixed64()
	r.Payload = c.payload()
	if !c.ok || micros > math.MaxInt64/uint64(time.Microsecond) || cost > math.MaxInt64 {
		return false
	}
	r.Load = time.Duration(micros) * time.Microsecond
	r.Cost = int64(cost)
	return sum == checksum(r.Kind, covered, r.Payload, key) || mutant.On(mutant.NoChecksum)
}
