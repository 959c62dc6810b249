package l1

import (
	"math/bits"
	"sync/atomic"
)

// front is a table of pointers to entries that the window or ristretto holds, so
// that most hits need not go through ristretto: its lookup takes a lock and a
// pooled buffer and must be kept apart from Close, which together cost more than
// all the rest of a hit.
//
// It owns nothing: whatever those two let go of leaves the table (release and
// onExit), so that the budget holds for all. Where more keys fall on a bucket
// than it has slots, those that are left out are found in ristretto.
type front[T any] struct {
	slots []atomic.Pointer[Entry[T]]
	mask  uint64
}

// ways is the number of slots in a bucket. They share a cache line.
const ways = 2

func newFront[T any](capacity int) front[T] {
	n := max(1<<bits.Len(uint(capacity-1)), 64)
	return front[T]{slots: make([]atomic.Pointer[Entry[T]], n), mask: uint64(n - ways)}
}

// slot returns the slot at which a key with hash h is looked for first. The
// other one of its bucket is at^1. The bits of the hash are not those that the
// fence takes: keys that share a slot here do not share one there.
func (f *front[T]) slot(h uint64) uint64 { return h>>24&f.mask + h>>23&(ways-1) }

// find returns the entry of key, nil if it is not in the table.
func (f *front[T]) find(h uint64, key string) *Entry[T] {
	at := f.slot(h)
	if e := f.slots[at].Load(); e != nil && e.Key == key {
		return e
	}
	if e := f.slots[at^1].Load(); e != nil && e.Key == key {
		return e
	}
	return nil
}

// put places e, which nobody else may hold yet: over an older
// entry of the key, else where nothing is, else over another key's, which it
// returns.
func (f *front[T]) put(e *Entry[T]) (displaced *Entry[T]) {
	at := f.slot(e.hash)
	mine, other := f.slots[at].Load(), f.slots[at^1].Load()
	if mine != nil && mine.hash != e.hash && (other == nil || other.hash == e.hash) {
		at ^= 1
	}
	if old := f.slots[at].Swap(e); old != nil && old.hash != e.hash {
		return old
	}
	return nil
}

// promote places e where nothing is or, if displace is set, over another key's
// entry, which it returns, and reports whether it did.
func (f *front[T]) promote(e *Entry[T], displace bool) (displaced *Entry[T], done bool) {
	at := f.slot(e.hash)
	if f.slots[at].Load() != nil && f.slots[at^1].Load() == nil {
		at ^= 1
	}
	old := f.slots[at].Load()
	if old != nil && !displace || !f.slots[at].CompareAndSwap(old, e) {
		return nil, false
	}
	return old, true
}

// forget takes out what is there under the hash h, whoever holds it.
func (f *front[T]) forget(h uint64) {
	at := f.slot(h)
	for _, at := range [ways]uint64{at, at ^ 1} {
		if e := f.slots[at].Load(); e != nil && e.hash == h {
			f.slots[at].CompareAndSwap(e, nil)
		}
	}
}

// remove takes e out. Two readers may have placed it twice.
func (f *front[T]) remove(e *Entry[T]) {
	at := f.slot(e.hash)
	for _, at := range [ways]uint64{at, at ^ 1} {
		// Read first: most entries are in one slot, and many in none.
		if f.slots[at].Load() == e {
			f.slots[at].CompareAndSwap(e, nil)
		}
	}
}
