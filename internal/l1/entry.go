package l1

import (
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/tandemcache/tandem/internal/fence"
)

// Entry is a value in the store with everything that a hit must compare. It is
// not changed after [Store.Put] has taken it; to change anything, put another
// entry, which may share the value.
type Entry[T any] struct {
	// What every hit reads comes first. Times are on the store's clock, in
	// nanoseconds; math.MaxInt64 is never.

	Key       string
	Stamp     fence.Stamp // taken before the read that Value came from
	RefreshAt int64       // from then on a hit is Due; 0, or later than FreshUntil: never
	Tags      []Tag       // each must hold, else the entry is void

	Value    T
	Negative bool          // the loader said that there is no value
	weight   atomic.Uint32 // the cost in units of costUnit, and inWindow
	Record   uint64        // version of the record in the second tier

	FreshUntil  int64         // from then on the entry is Stale
	UsableUntil int64         // from then on it is not returned at all; less than FreshUntil: then
	StoredAt    int64         // when the value was stored in the second tier
	TTL         time.Duration // what the value was stored with

	checked atomic.Uint64 // see fence.Check
	hash    uint64
}

const (
	// costUnit is the precision of an entry's cost. It is finer than the
	// estimate, and keeps costs of up to 32 GiB in 31 bits.
	costUnit = 16
	// inWindow marks an entry about which the window decides.
	inWindow = 1 << 31
)

// bytes is what the entry takes from the budget.
func (e *Entry[T]) bytes() int64 { return int64(e.weight.Load()&^inWindow) * costUnit }

// leaveWindow reports whether the window decided about e until now. Of several
// callers one gets true: it is that one's to decide.
func (e *Entry[T]) leaveWindow() bool { return e.weight.And(^uint32(inWindow))&inWindow != 0 }

// Tag ties an entry to a version that others can change. The entry is valid
// while the cell shows the version.
type Tag struct {
	Name    string
	Cell    *atomic.Uint64
	Version uint64
}

// State is what Get found.
type State uint8

// The states of an entry, from the least usable to the most.
const (
	None         State = iota // nothing that may be used: the entry is nil
	StaleDemoted              // Stale and Demoted at once
	Stale                     // past its time: a fallback after a failed load
	Demoted                   // in time, but invalidations may have been missed: a fallback while the second tier does not answer
	Due                       // a hit that should be refreshed in the background
	Hit                       // serve it
)

// Fresh reports whether the entry may be served without a look at the second tier.
func (s State) Fresh() bool { return s >= Due }

// ristrettoBytes is what ristretto v2.4.2 spends on an entry besides the value:
// 48 bytes in a shard's map and 16 in the policy's, both with the slack of Go's
// maps. Measured by TestMeasure_estimate, which fails when the number is off.
const ristrettoBytes = 136

// overhead returns the bytes of an entry besides its value, its key and its tags.
func overhead[T any]() int64 {
	var e Entry[T]
	return int64(unsafe.Sizeof(e)-unsafe.Sizeof(e.Value)) + ristrettoBytes
}

// tagBytes is a Tag in an entry; names and cells are shared with others.
const tagBytes = int64(unsafe.Sizeof(Tag{}))
