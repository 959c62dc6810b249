package tier

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

const (
	// tagBooks is the number of books that hold the tags of a fleet. Part of the
	// format: all nodes must find a tag in the same book. A few are enough to
	// spread tags over the masters of a cluster.
	tagBooks = 16
	// tagCells is how many tags a node remembers.
	tagCells = 1 << 16
	// tagSlots is the size of the table of the last invalidations, 32 KiB.
	tagSlots = 1 << 12
	// bookSign begins what stands for all tags of a book in messages and debts.
	// No tag begins so: control characters are not allowed in tags.
	bookSign = "\x00"
	// everyTag stands for all tags in debts.
	everyTag = ""
)

// tagTable is what a node knows of tags.
//
// It has three parts. Cells remember versions, and are what entries in L1 point
// to. Slots remember when a tag was last invalidated, for any tag and for ever:
// a fill asks them about tags that nobody knew when its load began. seq counts
// invalidations, so that a flight can tell whether there was any.
type tagTable struct {
	forgets *atomic.Uint64 // of the node's version cells
	seq     atomic.Uint64  // invalidations handled so far
	made    atomic.Bool    // all books were there once

	moveMu sync.Mutex // serializes moves: numbers are published in order
	slots  [tagSlots]atomic.Uint64
	books  [tagBooks]atomic.Uint64

	mu    sync.RWMutex
	limit int
	cells map[string]*tagCell // guarded by mu
}

// tagCell is the version of one tag.
type tagCell struct {
	versionCell

	name string
	book int
	used atomic.Bool // since it was last looked at for eviction
	gone atomic.Bool // it was evicted: no message reaches it any more
}

func newTagTable(forgets *atomic.Uint64) *tagTable {
	return &tagTable{forgets: forgets, limit: tagCells, cells: make(map[string]*tagCell)}
}

// bookOf returns the book of a tag, or of the sign of a book.
func bookOf(tag string) int {
	if digits, ok := strings.CutPrefix(tag, bookSign); ok {
		n, _ := strconv.Atoi(digits)
		return min(max(n, 0), tagBooks-1)
	}
	return int(xxhash.Sum64String(tag) % tagBooks)
}

func signOf(book int) string { return bookSign + strconv.Itoa(book) }

func isSign(tag string) bool { return strings.HasPrefix(tag, bookSign) }

// The upper bits: the lower ones have chosen the book.
func tagSlot(tag string) int { return int(xxhash.Sum64String(tag) >> 32 % tagSlots) }

// cell returns the cell of a tag, and makes it if there is none: from then on
// messages reach it.
func (t *tagTable) cell(tag string) *tagCell {
	if c := t.peek(tag); c != nil {
		if !c.used.Load() {
			c.used.Store(true)
		}
		return c
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.cells[tag]; c != nil {
		return c
	}
	if len(t.cells) >= t.limit {
		t.evictLocked()
	}
	c := &tagCell{name: strings.Clone(tag), book: bookOf(tag)}
	c.forgets = t.forgets
	t.cells[c.name] = c
	return c
}

func (t *tagTable) peek(tag string) *tagCell {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.cells[tag]
}

// evictLocked forgets one tag, of a few that the map yields the first that was
// not used since the last time. The entries that point to its cell are void,
// since nothing will tell them of an invalidation any more.
func (t *tagTable) evictLocked() {
	const tries = 16
	var victim *tagCell
	n := 0
	for _, c := range t.cells {
		victim = c
		if n++; n == tries || !c.used.Swap(false) {
			break
		}
	}
	if victim != nil {
		delete(t.cells, victim.name)
		victim.gone.Store(true)
		victim.moves.Add(1)
	}
}

// move voids what carries tag on this node: entries by the cell, fills under
// way by the slot, flights by the sequence. tag may be the sign of a book.
//
// The slot comes before the sequence: the other way round a load could begin
// with the new number and find the slot without it.
func (t *tagTable) move(tag string) {
	t.moveMu.Lock()
	n := t.seq.Load() + 1
	if isSign(tag) {
		t.books[bookOf(tag)].Store(n)
	} else {
		t.slots[tagSlot(tag)].Store(n)
	}
	t.seq.Store(n)
	t.moveMu.Unlock()
	t.each(tag, func(c *tagCell) { c.moves.Add(1) })
}

// moveAll is move of every tag.
func (t *tagTable) moveAll() {
	for book := range tagBooks {
		t.move(signOf(book))
	}
}

// raise is move to a version, one read from a message or from Redis' reply to an
// invalidation of this node.
func (t *tagTable) raise(tag string, version uint64) {
	t.each(tag, func(c *tagCell) { c.versionCell.raise(version) })
	t.move(tag)
}

// each calls f for the cell of tag, or for those of a book.
func (t *tagTable) each(tag string, f func(*tagCell)) {
	if !isSign(tag) {
		if c := t.peek(tag); c != nil {
			f(c)
		}
		return
	}
	book := bookOf(tag)
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, c := range t.cells {
		if c.book == book {
			f(c)
		}
	}
}

// movedSince reports whether tag was invalidated after the sequence showed seq.
// Tags that share a slot share the answer: it is yes too often, never no.
func (t *tagTable) movedSince(tag string, seq uint64) bool {
	return t.slots[tagSlot(tag)].Load() > seq || t.books[bookOf(tag)].Load() > seq
}

// floor is the highest version known of a tag, or of any tag of a book.
func (t *tagTable) floor(tag string) (floor uint64) {
	t.each(tag, func(c *tagCell) {
		_, highest := c.begin()
		floor = max(floor, highest)
	})
	return floor
}
