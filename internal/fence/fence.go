package fence

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/tandemcache/tandem/internal/mutant"
)

const (
	minSlots = 1 << 10
	// maxSlots bounds a table to 128 MiB, whatever a budget asks for.
	maxSlots = 1 << 24
	// lineBytes is the distance that keeps two words from sharing a cache
	// line, with room for the prefetcher that fetches lines in pairs.
	lineBytes = 128
)

// Fence is the table of stamps of one cache. All methods may be called
// concurrently; none blocks for longer than a few instructions.
type Fence struct {
	slots []atomic.Uint64
	mask  uint64
	_     [lineBytes]byte

	// The epochs. They begin at one, so that the zero Stamp is void. The first
	// two are only compared for equality, and nothing stays in a cache while one
	// of them goes all the way around.
	void, trust atomic.Uint32
	prefix      atomic.Uint64
	_           [lineBytes]byte

	// changes counts calls that void something, whatever it is.
	changes atomic.Uint64
	_       [lineBytes]byte

	prefixMu sync.Mutex // serializes Prefix: numbers are published in order
	prefixes []atomic.Uint64
}

// Stamp is what a fence showed for a key at one moment. Stamps are comparable.
// The zero Stamp was never shown by any fence: it is void everywhere.
type Stamp struct {
	slot        uint64
	void, trust uint32
	prefix      uint64
}

// State says what may be done with a value that carries a stamp.
type State uint8

// The states of a stamped value.
const (
	Void    State = iota // never use it, not even as a fallback
	Demoted              // not fresh; a fallback while the second tier does not answer
	Current              // nothing happened since
)

// New returns a fence with at least the given number of slots, rounded up to a
// power of two between 1,024 and 16,777,216. A slot takes eight bytes.
func New(slots int) *Fence {
	n := uint64(min(max(slots, minSlots), maxSlots))
	if n&(n-1) != 0 {
		n = 1 << bits.Len64(n)
	}
	f := &Fence{
		slots:    make([]atomic.Uint64, n),
		mask:     n - 1,
		prefixes: make([]atomic.Uint64, prefixSlots),
	}
	f.void.Store(1)
	f.trust.Store(1)
	f.prefix.Store(1)
	return f
}

// Slots returns the size of the table.
func (f *Fence) Slots() int { return len(f.slots) }

// Stamp returns what the fence shows for the key with hash h. Take it before
// looking at the second tier: a stamp taken afterwards would bless a value that
// an invalidation in between has made stale.
func (f *Fence) Stamp(h uint64) Stamp {
	return f.stamp(f.slots[h&f.mask].Load())
}

// The order in which the four words are read does not matter. Each is read
// before the caller's look at the second tier, so an invalidation that is
// missing from its word began to count after that, and shows up in State.
func (f *Fence) stamp(slot uint64) Stamp {
	return Stamp{slot: slot, void: f.void.Load(), trust: f.trust.Load(), prefix: f.prefix.Load()}
}

// Move voids everything that was stamped for the key with hash h so far.
func (f *Fence) Move(h uint64) {
	f.changes.Add(1)
	f.slots[h&f.mask].Add(1)
}

// Changes counts what was voided so far, of any key. While it stays the same
// nothing was, so it stands for the stamp of a key that is not known yet.
func (f *Fence) Changes() uint64 { return f.changes.Load() }

// announced is what Announce adds to a slot: the upper half of a slot counts
// announcements, the lower half everything else. That a half wraps, or the lower
// one carries into the upper, changes the number all the same.
const announced = 1 << 32

// Announce voids everything that was stamped for the key with hash h so far,
// like Move, because a server announced that the key has changed. It does not
// say what changed it, which may be the lease of the very load that is under
// way: see Load.
func (f *Fence) Announce(h uint64) { f.slots[h&f.mask].Add(announced) }

// Load is State for a load in flight that began with s, instead of for a value:
// announcements do not count. What a load stores, it stores under its lease,
// which every other change takes away.
func (f *Fence) Load(h uint64, key string, s Stamp) State {
	now := f.slots[h&f.mask].Load()
	if uint32(now) == uint32(s.slot) {
		s.slot = now
	}
	return f.State(h, key, s)
}

// Begin starts a local write of the key with hash h: it moves the slot and
// returns the stamp after the move, which only Confirm of the same write takes.
//
// The slot's number is the one that this very call produced, not one read
// afterwards: else the move of another writer between the two would go unseen.
func (f *Fence) Begin(h uint64) Stamp {
	f.changes.Add(1)
	return f.stamp(f.slots[h&f.mask].Add(1))
}

// Confirm ends a local write that began with s. It moves the slot in every
// case, because a read that began during the write may have seen the value from
// before it:
//
//	write: Begin            read: Stamp, looks at L2: old value
//	write: L2 has it
//	write: Confirm          read: stores the old value under its stamp, now void
//
// True says that neither another move of the slot nor Void nor Distrust came in
// between. Then the returned stamp may be carried by the value that was written.
// False says that the order of this write and of the other event is not known
// here, so that the value must not enter L1.
//
// A Prefix in between does not turn the answer to false: the returned stamp
// carries the number that Begin saw, so State finds out whether the key matches.
func (f *Fence) Confirm(h uint64, s Stamp) (Stamp, bool) {
	f.changes.Add(1)
	slot := &f.slots[h&f.mask]
	switch {
	case mutant.On(mutant.NoEndBump):
		return s, slot.Load() == s.slot && f.Trusted(s)
	case mutant.On(mutant.SetWithoutCAS):
		s.slot = slot.Add(1)
		return s, f.Trusted(s)
	}
	if !slot.CompareAndSwap(s.slot, s.slot+1) {
		slot.Add(1)
		return Stamp{}, false
	}
	if !f.Trusted(s) && !mutant.On(mutant.NoConfirmTrust) {
		return Stamp{}, false
	}
	s.slot++
	return s, true
}

// Void makes everything that was stamped before it void.
func (f *Fence) Void() {
	f.changes.Add(1)
	f.void.Add(1)
}

// Distrust demotes everything that was stamped before it: invalidations may
// have been missed.
func (f *Fence) Distrust() { f.trust.Add(1) }

// Trusted reports whether neither Void nor Distrust came since s was taken. A
// reader asks when the reply of the second tier is there: if not, the reply may
// be older than an invalidation that this process did not hear.
func (f *Fence) Trusted(s Stamp) bool {
	return f.trust.Load() == s.trust && f.void.Load() == s.void
}

// State says what may be done with a value of key that carries s; h is the
// key's hash. Void wins over Demoted.
func (f *Fence) State(h uint64, key string, s Stamp) State {
	return f.Check(h, key, s, nil)
}

// Check is State for a value that is asked about again and again. checked, if
// not nil, begins at zero and belongs to the value alone: it remembers up to
// which prefix deletion the key was compared, so that the comparison is made
// once for each deletion and the steady state writes nothing.
func (f *Fence) Check(h uint64, key string, s Stamp, checked *atomic.Uint64) State {
	if f.slots[h&f.mask].Load() != s.slot || f.void.Load() != s.void {
		return Void
	}
	if now := f.prefix.Load(); now != s.prefix {
		if f.prefixVoids(key, s.prefix, now, checked) {
			return Void
		}
	}
	if f.trust.Load() != s.trust {
		return Demoted
	}
	return Current
}
