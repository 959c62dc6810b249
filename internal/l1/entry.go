package l1

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/tandemcache/tandem/internal/fence"
)

// Entry is a value in the store with everything that a hit must compare. It is
// made by [NewEntry] alone: its key lies behind it in the same piece of memory, where
// reading it costs no access of its own. It must not be copied.
//
// It is not changed after [Store.Put] has taken it, but for what the store notes in it;
// to change anything, put another entry, which may share the value.
type Entry[T any] struct {
	Record   uint64        // version of the record in the second tier
	StoredAt int64         // when the value was stored in the second tier, on the store's clock
	TTL      time.Duration // what the value was stored with

	due, stale span // from refreshAt to FreshUntil, and from there to UsableUntil

	// What every hit reads stands together: this, the value and the key behind it.

	slot      uint64        // of the stamp
	checked   atomic.Uint32 // events of the stamp, see fence.Check
	weight    atomic.Uint32 // the cost in units of costUnit, inWindow and negative
	refreshAt int64         // from then on a hit is Due; a time of the store's clock
	tags      *[]Tag        // each must hold, else the entry is void; nil: none

	Value T
}

// Times says until when an entry may be used for what, in nanoseconds on the
// store's clock; math.MaxInt64 is never.
type Times struct {
	RefreshAt   int64 // from then on a hit is Due; 0, or later than FreshUntil: never
	FreshUntil  int64 // from then on the entry is Stale
	UsableUntil int64 // from then on it is not returned at all; less than FreshUntil: then
}

// span is a time between two others. Whole milliseconds, as which times are
// configured, are exact, up to 24 days; others are too short by at most one part in
// eight millions.
type span uint32

const (
	// inexact marks a span whose other bits are those of a float32, in nanoseconds.
	inexact = 1 << 31
	// endless is longer than an entry can count.
	endless = math.MaxUint32
	// never is the time from which on times are as good as math.MaxInt64: 146 years.
	never = 1 << 62
	// earliest is as good as any time before it: no difference overflows.
	earliest = -1 << 61
)

// spanBetween returns the time from one to another, which is not before it.
func spanBetween(from, to int64) span {
	if to >= never {
		return endless
	}
	d := to - from
	if ms := d / int64(time.Millisecond); ms < inexact && ms*int64(time.Millisecond) == d {
		return span(ms)
	}
	f := float32(d)
	if int64(f) > d {
		f = math.Nextafter32(f, 0)
	}
	return span(math.Float32bits(f) | inexact)
}

// length returns how long a span is that is not endless.
func (s span) length() int64 {
	if s < inexact {
		return int64(s) * int64(time.Millisecond)
	}
	return int64(math.Float32frombits(uint32(s) &^ inexact))
}

// since returns the time that is s later than at.
func (s span) since(at int64) int64 {
	if s == endless {
		return math.MaxInt64
	}
	return at + s.length()
}

// SetTimes sets the times of an entry, whatever they are: who wrote the record in the
// second tier made them.
func (e *Entry[T]) SetTimes(t Times) {
	t.RefreshAt, t.FreshUntil = max(t.RefreshAt, earliest), max(t.FreshUntil, earliest)
	if t.RefreshAt == 0 || t.RefreshAt > t.FreshUntil {
		t.RefreshAt = t.FreshUntil
	}
	e.due = spanBetween(t.RefreshAt, t.FreshUntil)
	e.stale = spanBetween(t.FreshUntil, max(t.UsableUntil, t.FreshUntil))
	// Get compares refreshAt alone: before it, nothing depends on the age. What due is too
	// short by, refreshAt is later, so that FreshUntil is exact.
	e.refreshAt = t.RefreshAt
	if e.due != endless {
		e.refreshAt = t.FreshUntil - e.due.length()
	}
}

// Times returns what SetTimes was given, to the precision of an entry: FreshUntil is exact,
// RefreshAt a little late and UsableUntil a little early where spans are.
func (e *Entry[T]) Times() Times {
	t := Times{RefreshAt: e.refreshAt}
	t.FreshUntil = e.due.since(t.RefreshAt)
	t.UsableUntil = e.stale.since(t.FreshUntil)
	return t
}

// Stamp returns the stamp of an entry, as far as it was compared with the fence.
func (e *Entry[T]) Stamp() fence.Stamp {
	return fence.Stamp{Slot: e.slot, Events: e.checked.Load()}
}

// SetStamp sets what the fence showed before the read that the value came from.
func (e *Entry[T]) SetStamp(s fence.Stamp) {
	e.slot = s.Slot
	e.checked.Store(s.Events)
}

// Tags returns what the entry is tied to.
func (e *Entry[T]) Tags() []Tag {
	if e.tags == nil {
		return nil
	}
	return *e.tags
}

// SetTags ties an entry to tags.
func (e *Entry[T]) SetTags(tags []Tag) {
	e.tags = nil
	if len(tags) > 0 {
		some := tags // where there are none, nothing is allocated
		e.tags = &some
	}
}

// Negative reports whether the loader said that there is no value.
func (e *Entry[T]) Negative() bool { return e.weight.Load()&negative != 0 }

// SetNegative makes an entry say that there is no value.
func (e *Entry[T]) SetNegative() { e.weight.Or(negative) }

const (
	// costUnit is the precision of an entry's cost. It is finer than the
	// estimate, and keeps costs of up to 16 GiB in 30 bits.
	costUnit = 16
	// inWindow marks an entry about which the window decides.
	inWindow = 1 << 31
	negative = 1 << 30
	maxUnits = negative - 1
)

// bytes is what the entry takes from the budget.
func (e *Entry[T]) bytes() int64 { return int64(e.weight.Load()&maxUnits) * costUnit }

// weigh sets the cost of an entry.
func (e *Entry[T]) weigh(bytes int64) {
	e.weight.And(negative)
	e.weight.Or(uint32(min((bytes+costUnit-1)/costUnit, maxUnits)))
}

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

// tagBytes is a Tag in an entry, and tagsBytes what holds all of them; names and
// cells are shared with others.
const (
	tagBytes  = int64(unsafe.Sizeof(Tag{}))
	tagsBytes = int64(unsafe.Sizeof([]Tag{}))
)
