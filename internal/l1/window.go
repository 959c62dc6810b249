package l1

import (
	"sync"

	"github.com/tandemcache/tandem/internal/fence"
)

// window holds the entries that were put last. Those of new keys are first in,
// first out, and ristretto decides about them when they leave it.
//
// Ristretto admits a new key if it was asked for more often than what would have
// to go. Of a key that is new that is not known yet: it would be turned away, or
// let in, by chance. In the window it has the time to be asked for again. On
// public traces of a database and of recommendations, a window of a thirtieth
// turns four to eight of a hundred accesses from misses into hits, and on one of
// a vault of transactions up to twenty-six; on one of a workstation's disk, which
// goes through more than there is room for, it costs nothing.
// (TestMeasure_hitRatioOfShortLivedKeys and TestMeasure_hitRatioOfLoops show it.)
//
// Entries of keys that ristretto has wait in it, too, but are the first to leave: not
// for a decision, but because each one that ristretto is given wakes a goroutine,
// which costs a Set as much as all else that the store does for it, and 16 that it is
// given at once cost little more. Until then the older entry stays in ristretto,
// void or outdated, where nobody looks as long as the newer one has its place.
//
// Its entries are found in the front table, and only there. So one that another
// key displaces there goes to ristretto at once, where it is found. Its place in
// the queue stays until its turn comes, and then means nothing.
type window[T any] struct {
	limit int64 // of bytes

	mu    sync.Mutex  // guards what follows, for a few instructions
	queue []*Entry[T] // of new keys, oldest first
	known []*Entry[T] // of keys that ristretto has, oldest first
	bytes int64
}

const (
	// windowPart is the part of the budget that the window takes.
	windowPart = 30
	// handAtOnce is how many entries leave a full window at once, as far as they
	// are no more than an eighth of it.
	handAtOnce = 16
)

// push reports whether the window now holds more than it should.
func (w *window[T]) push(e *Entry[T], known bool) (full bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if known {
		w.known = append(w.known, e)
	} else {
		w.queue = append(w.queue, e)
	}
	w.bytes += e.bytes()
	return w.bytes > w.limit
}

// pop takes an entry out of a window that holds more than the given number of
// bytes, or returns nil: the oldest of a known key, else that of a new one.
func (w *window[T]) pop(keep int64) (e *Entry[T]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.bytes <= keep {
		return nil
	}
	from := &w.known
	if len(w.known) == 0 {
		from = &w.queue
	}
	e, (*from)[0] = (*from)[0], nil
	*from = (*from)[1:]
	w.bytes -= e.bytes()
	return e
}

func (w *window[T]) size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// relieve lets entries go until the window keeps to its limit and, of a window that
// holds more than a hundred, some more.
func (s *Store[T]) relieve() {
	const large = 64 << 10
	keep := s.window.limit
	if keep >= large {
		keep -= keep / 8
	}
	for range handAtOnce {
		if !s.letGo(keep) {
			return
		}
	}
	s.shrink(s.window.limit)
}

// shrink lets entries go until no more than keep bytes are left.
func (s *Store[T]) shrink(keep int64) {
	for s.letGo(keep) {
	}
}

// letGo lets an entry go if more than keep bytes are there.
func (s *Store[T]) letGo(keep int64) bool {
	e := s.window.pop(keep)
	if e != nil && e.leaveWindow() {
		s.settle(e, true)
	}
	return e != nil
}

// displaced takes care of an entry that has lost its place in the front table.
func (s *Store[T]) displaced(e *Entry[T]) {
	if e != nil && e.leaveWindow() {
		s.settle(e, false)
	}
}

// settle decides about an entry that has left the window: it goes to ristretto,
// unless another has been put for its key since, or it is void. One whose turn has
// come should have its place in the front table: else it was dropped, or a newer one
// was refused.
func (s *Store[T]) settle(e *Entry[T], placed bool) {
	key := e.Key()
	h := s.hash(key)
	now := s.front.find(s.fence.Line(h), h, key)
	if now != e && (now != nil || placed) || s.fence.State(h, key, e.Stamp()) == fence.Void {
		s.release(e)
		return
	}
	s.hand(h, e)
}

// hand gives an entry to ristretto, and only then tells it of the access that the
// entry was put for. Told before, as of all others, it would let a key that was
// asked for once take the place of another one that was, and in the end of all that
// a loop comes back to.
func (s *Store[T]) hand(h uint64, e *Entry[T]) {
	if !s.cache.Set(h, e, e.bytes()) {
		s.refused.Add(1)
		s.release(e)
	}
	s.cache.Get(h)
}

// release lets go of an entry that neither the window nor ristretto holds.
func (s *Store[T]) release(e *Entry[T]) {
	s.front.remove(e)
	s.budget.give(e.bytes())
}
