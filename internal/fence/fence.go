package fence

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/tandemcache/tandem/internal/mutant"
)

const (
	minSlots = 1 << 10
	// maxSlots bounds a table to 256 MiB, whatever a budget asks for.
	maxSlots = 1 << 24
	// lineBytes is the distance that keeps two words from sharing a cache
	// line, with room for the prefetcher that fetches lines in pairs.
	lineBytes = 128
)

// Fence is the table of stamps of one cache. All methods may be called
// concurrently; none blocks for longer than a few instructions, but an event in
// each lap of them.
type Fence struct {
	lines []Line
	mask  uint64 // of slots
	_     [lineBytes]byte

	// events counts what voids or demotes many keys at once. The other three are
	// the numbers of the last of each kind. Events begin at one, which voids
	// all that came before: so the zero Stamp is void.
	events                       atomic.Uint64
	voided, distrusted, prefixed atomic.Uint64
	_                            [lineBytes]byte

	// changes counts calls that void something, whatever it is.
	changes atomic.Uint64
	_       [lineBytes]byte

	mu       sync.Mutex // serializes events: numbers are published in order
	prefixes []atomic.Uint64
}

// Line is one cache line: slots, and beside them room for what the fence's owner looks
// up by the same hash, who then finds both with one access to memory.
type Line struct {
	slots [lineSlots]atomic.Uint64
	// Guests are the owner's, to be read and written by sync/atomic.
	Guests [lineSlots]unsafe.Pointer
}

const lineSlots = 4

// lap is after how many events all that was stamped before is void. It is half of
// what a stamp can count.
const lap = 1 << 31

// Stamp is what a fence showed for a key at one moment. Stamps are comparable.
// The zero Stamp was never shown by any fence: it is void everywhere.
//
// Its fields are numbers for those who keep stamps in little room, see [Fence.Check].
type Stamp struct {
	Slot uint64
	// Events is how many events had happened, its lower half. No stamp is valid for
	// longer than lap events, so that an old one is not mistaken for a newer one.
	Events uint32
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
// power of two between 1,024 and 16,777,216. A slot takes eight bytes, and eight for
// the guest beside it.
func New(slots int) *Fence {
	n := uint64(min(max(slots, minSlots), maxSlots))
	if n&(n-1) != 0 {
		n = 1 << bits.Len64(n)
	}
	f := &Fence{
		lines:    make([]Line, n/lineSlots),
		mask:     n - 1,
		prefixes: make([]atomic.Uint64, prefixSlots),
	}
	f.events.Store(1)
	f.voided.Store(1)
	return f
}

// Slots returns the size of the table.
func (f *Fence) Slots() int { return len(f.lines) * lineSlots }

func (f *Fence) slot(h uint64) *atomic.Uint64 {
	return f.Line(h).slot(h)
}

// Line returns the line of the slot of the key with hash h, which four slots share.
func (f *Fence) Line(h uint64) *Line { return &f.lines[h&f.mask/lineSlots] }

func (l *Line) slot(h uint64) *atomic.Uint64 { return &l.slots[h%lineSlots] }

// Lines returns all lines.
func (f *Fence) Lines() []Line { return f.lines }

// Stamp returns what the fence shows for the key with hash h. Take it before
// looking at the second tier: a stamp taken afterwards would bless a value that
// an invalidation in between has made stale.
func (f *Fence) Stamp(h uint64) Stamp { return f.stamp(f.slot(h).Load()) }

// The order in which the two words are read does not matter. Each is read
// before the caller's look at the second tier, so an invalidation that is
// missing from its word began to count after that, and shows up in State.
func (f *Fence) stamp(slot uint64) Stamp {
	return Stamp{Slot: slot, Events: uint32(f.events.Load())}
}

// Move voids everything that was stamped for the key with hash h so far.
func (f *Fence) Move(h uint64) {
	f.changes.Add(1)
	f.slot(h).Add(1)
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
func (f *Fence) Announce(h uint64) { f.slot(h).Add(announced) }

// Load is State for a load in flight that began with s, instead of for a value:
// announcements do not count. What a load stores, it stores under its lease,
// which every other change takes away.
func (f *Fence) Load(h uint64, key string, s Stamp) State {
	now := f.slot(h).Load()
	if uint32(now) == uint32(s.Slot) {
		s.Slot = now
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
	return f.stamp(f.slot(h).Add(1))
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
	slot := f.slot(h)
	switch {
	case mutant.On(mutant.NoEndBump):
		return s, slot.Load() == s.Slot && f.Trusted(s)
	case mutant.On(mutant.SetWithoutCAS):
		s.Slot = slot.Add(1)
		return s, f.Trusted(s)
	}
	if !slot.CompareAndSwap(s.Slot, s.Slot+1) {
		slot.Add(1)
		return Stamp{}, false
	}
	if !f.Trusted(s) && !mutant.On(mutant.NoConfirmTrust) {
		return Stamp{}, false
	}
	s.Slot++
	return s, true
}

// Void makes everything that was stamped before it void.
func (f *Fence) Void() {
	f.changes.Add(1)
	f.happens(&f.voided)
}

// Distrust demotes everything that was stamped before it: invalidations may
// have been missed.
func (f *Fence) Distrust() { f.happens(&f.distrusted) }

// happens counts an event and notes its number as the last of its kinds.
//
// In each lap of events all slots move: stamps that are older are void, long before
// the half of the count that they hold comes around.
//
// The kinds first, the count after them. The other way round a reader could see
// the new count, find no event of that number, and note that its value was compared
// with an event that it never saw.
func (f *Fence) happens(kinds ...*atomic.Uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.events.Load() + 1
	if n%lap == 0 {
		for i := range f.lines {
			for j := range f.lines[i].slots {
				f.lines[i].slots[j].Add(1)
			}
		}
	}
	for _, kind := range kinds {
		kind.Store(n)
	}
	f.events.Store(n)
}

// Trusted reports whether neither Void nor Distrust came since s was taken. A
// reader asks when the reply of the second tier is there: if not, the reply may
// be older than an invalidation that this process did not hear.
func (f *Fence) Trusted(s Stamp) bool {
	since := after(s.Events, f.events.Load())
	return f.distrusted.Load() <= since && f.voided.Load() <= since
}

// after returns the number of events whose lower half is event, given what the
// count was later.
func after(event uint32, later uint64) uint64 { return later - uint64(uint32(later)-event) }

// State says what may be done with a value of key that carries s; h is the
// key's hash. Void wins over Demoted.
func (f *Fence) State(h uint64, key string, s Stamp) State {
	if f.slot(h).Load() != s.Slot {
		return Void
	}
	now := f.events.Load()
	if uint32(now) == s.Events {
		return Current
	}
	return f.compare(key, after(s.Events, now))
}

// Check is State for a value that is asked about again and again, by who has the
// key's line. It carries the parts of its stamp: slot, and in checked the events,
// which move forward as the value is compared with them. So the comparison is made
// once for each event, and the steady state loads two words and writes nothing.
func (f *Fence) Check(l *Line, h uint64, key string, slot uint64, checked *atomic.Uint32) State {
	if l.slot(h).Load() != slot {
		return Void
	}
	// In this order: what was checked then never lies after the count read now.
	since := checked.Load()
	now := f.events.Load()
	if uint32(now) == since {
		return Current
	}
	state := f.compare(key, after(since, now))
	if state == Current {
		// Two readers may store in either order. The lower number then makes the
		// next reader compare once more.
		checked.Store(uint32(now))
	}
	return state
}

// compare says what a value of key is after the events later than since.
func (f *Fence) compare(key string, since uint64) State {
	switch {
	case f.voided.Load() > since:
		return Void
	case f.prefixed.Load() > since && f.prefixMatches(key, since):
		return Void
	case f.distrusted.Load() > since:
		return Demoted
	}
	return Current
}
