package l1

import (
	"sync/atomic"
	"unsafe"

	"github.com/tandemcache/tandem/internal/fence"
)

// front is a table of pointers to entries that the window or ristretto holds, so
// that most hits need not go through ristretto: its lookup takes a lock and a
// pooled buffer and must be kept apart from Close, which together cost more than
// all the rest of a hit. Its slots lie beside those of the fence, which a hit reads
// too: one line of memory for both.
//
// It owns nothing: whatever those two let go of leaves the table (release and
// onExit), so that the budget holds for all. Where more keys fall on a bucket
// than it has slots, those that are left out are found in ristretto.
type front[T any] struct {
	fence *fence.Fence
	hash  func(key string) uint64
}

// bucket is what keys share whose slots in the fence lie in one line.
type bucket[T any] [len(fence.Line{}.Guests)]atomic.Pointer[Entry[T]]

// An atomic.Pointer is an unsafe.Pointer that is used by sync/atomic; see in.
var _ [unsafe.Sizeof(fence.Line{}.Guests)]byte = [unsafe.Sizeof(bucket[byte]{})]byte{}

// in returns the bucket that lies in a line, and the place in it at which a key with
// hash h is looked for first. Its other place is at^1. The bits of the hash are not
// those that the fence takes: keys that share a slot there need not share a place here.
func (f *front[T]) in(l *fence.Line, h uint64) (b *bucket[T], at uint64) {
	return (*bucket[T])(unsafe.Pointer(&l.Guests)), h >> 62
}

func (f *front[T]) at(h uint64) (b *bucket[T], at uint64) { return f.in(f.fence.Line(h), h) }

// find returns the entry of key, whose line is l, nil if it is not in the table.
func (f *front[T]) find(l *fence.Line, h uint64, key string) *Entry[T] {
	b, at := f.in(l, h)
	if e := b[at].Load(); e != nil && e.has(key) {
		return e
	}
	if e := b[at^1].Load(); e != nil && e.has(key) {
		return e
	}
	return nil
}

// put places e, which nobody else may hold yet: over an older entry of the key, in
// whichever place, else where nothing is, else over another key's, which it returns.
// With the older one left in the other place, that would be found again once
// another key displaces e, and stand for a newer entry when the window asks.
func (f *front[T]) put(h uint64, e *Entry[T]) (displaced *Entry[T]) {
	b, at := f.at(h)
	key := e.Key()
	mine, other := b[at].Load(), b[at^1].Load()
	if mine == nil || !mine.has(key) {
		if other == nil && mine != nil || other != nil && other.has(key) {
			at ^= 1
		}
	}
	if old := b[at].Swap(e); old != nil && !old.has(key) {
		return old
	}
	return nil
}

// promote places e where nothing is or, if displace is set, over another key's
// entry, which it returns, and reports whether it did.
func (f *front[T]) promote(h uint64, e *Entry[T], displace bool) (displaced *Entry[T], done bool) {
	b, at := f.at(h)
	if b[at].Load() != nil && b[at^1].Load() == nil {
		at ^= 1
	}
	old := b[at].Load()
	if old != nil && !displace || !b[at].CompareAndSwap(old, e) {
		return nil, false
	}
	return old, true
}

// other reports whether the table has another entry of e's key, whose hash is h.
func (f *front[T]) other(h uint64, e *Entry[T]) bool {
	b, at := f.at(h)
	for _, at := range [2]uint64{at, at ^ 1} {
		if o := b[at].Load(); o != nil && o != e && o.has(e.Key()) {
			return true
		}
	}
	return false
}

// forget takes out what is there under the hash h, whoever holds it.
func (f *front[T]) forget(h uint64) {
	b, at := f.at(h)
	for _, at := range [2]uint64{at, at ^ 1} {
		if e := b[at].Load(); e != nil && f.hash(e.Key()) == h {
			b[at].CompareAndSwap(e, nil)
		}
	}
}

// remove takes e out. Two readers may have placed it twice.
func (f *front[T]) remove(e *Entry[T]) {
	b, at := f.at(f.hash(e.Key()))
	for _, at := range [2]uint64{at, at ^ 1} {
		// Read first: most entries are in one slot, and many in none.
		if b[at].Load() == e {
			b[at].CompareAndSwap(e, nil)
		}
	}
}
