package invalidation

import (
	"crypto/rand"
	"encoding/hex"
	"time"

	"github.com/tandemcache/tandem/internal/mutant"
)

// NodeID tells nodes apart. It is random and lives as long as its process.
type NodeID [16]byte

// NewNodeID returns a random id.
func NewNodeID() NodeID {
	var id NodeID
	if mutant.On(mutant.SharedID) {
		return id
	}
	_, _ = rand.Read(id[:]) // never fails: it ends the process instead
	return id
}

// String returns the id in hexadecimal.
func (id NodeID) String() string { return hex.EncodeToString(id[:]) }

// Kind says what a [Message] is about.
type Kind uint8

// The kinds of messages.
const (
	KindKeys   Kind = iota + 1 // keys of one cache
	KindPrefix                 // prefixes of one cache, or across caches
	KindTags                   // tags
	KindClear                  // a whole cache
	KindBeat                   // a sign of life, with the count of messages sent
	KindBye                    // the last sign of life
)

// String returns the kind in one word.
func (k Kind) String() string {
	switch k {
	case KindKeys:
		return "keys"
	case KindPrefix:
		return "prefix"
	case KindTags:
		return "tags"
	case KindClear:
		return "clear"
	case KindBeat:
		return "beat"
	case KindBye:
		return "bye"
	default:
		return "unknown"
	}
}

// Message is one invalidation, or a sign of life. It never carries values.
type Message struct {
	Kind Kind
	Node NodeID // who sent it
	// Seq is the number of the message at its origin: 1, 2, 3 and so on. Beats and
	// byes have none of their own and carry the last one given out, which may be 0.
	Seq uint64
	// Cache names the cache of KindKeys and KindClear, and that of KindPrefix
	// unless it goes across caches. Empty in all other kinds.
	Cache string
	// Keys holds ids in Cache (KindKeys), prefixes (KindPrefix; an empty one is
	// everything in Cache) or tags (KindTags). Empty in all other kinds.
	Keys []string
	// Version is the new version of the tags or the cache (KindTags, KindClear),
	// or the source's version of a versioned write, else 0 (KindKeys). It travels
	// with every kind and means nothing in the others.
	Version uint64
	// Beat is what KindBeat and KindBye tell. Zero in all other kinds.
	Beat Beat
}

// Beat is what a node tells of itself in regular intervals.
type Beat struct {
	Number   uint64        // of the beat at its origin: 1, 2, 3 and so on
	Interval time.Duration // until the next beat, above 0 in a beat, at most [MaxInterval]
	Age      time.Duration // since the origin began
	Quiet    time.Duration // since the origin last gave out a number or learned an outcome
	// Overflow says that Open is not complete. Each beat that says so is a gap.
	Overflow bool
	// Excused are numbers, ascending, that were given out and are lost: never
	// published, or perhaps. Their invalidation comes again under another number.
	Excused []uint64
	// Open are numbers, ascending, that were given out and whose outcome is not
	// known yet. A later beat excuses them or claims them by not naming them.
	Open []uint64
}

// Bounds of a [Message].
const (
	MaxMessageBytes = 1 << 20     // an encoded message
	MaxKeys         = 1 << 14     // entries of Keys
	MaxKeyBytes     = 4096        // one of Keys
	MaxCacheBytes   = 255         // Cache
	MaxListed       = 4096        // entries of each of Beat.Excused and Beat.Open
	MaxInterval     = time.Minute // Beat.Interval
)
