package tier

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/invalidation"
)

// seenTag is a tag with its version at one moment, and what an entry needs to
// notice that the moment is over.
type seenTag struct {
	l1.Tag

	version uint64
}

// tagQuery asks for the versions of tags: from memory while the bus is heard,
// else from Redis.
//
// It is registered with their cells from the start, so that a message that
// arrives before the answer is not lost to it.
type tagQuery struct {
	node  *Node
	seen  []seenTag // in the order of the names; version 0: not known yet
	open  []openTag // those not known yet
	books []int     // to be asked, each with its part of open; ascending
	err   error
}

// openTag is a tag whose version is not known yet.
type openTag struct {
	place         int // in seen
	cell          *tagCell
	ticket, floor uint64
}

// queryTags begins a query. Names must be distinct.
func (n *Node) queryTags(names []string) *tagQuery {
	q := &tagQuery{node: n}
	if len(names) == 0 {
		return q
	}
	q.seen = make([]seenTag, len(names))
	hears := n.member.hears()
	for i, name := range names {
		cell := n.tags.cell(name)
		version, moves := cell.show()
		if version != 0 && hears {
			q.seen[i] = cell.seen(version, moves)
			continue
		}
		q.seen[i].Name = cell.name
		ticket, floor := cell.begin()
		q.open = append(q.open, openTag{i, cell, ticket, floor})
		q.want(cell.book)
	}
	return q
}

// seen ties a version to the cell. A cell that was evicted is not told of
// invalidations, so what is tied to it is void at once.
func (c *tagCell) seen(version, moves uint64) seenTag {
	if c.gone.Load() {
		moves = math.MaxUint64
	}
	return seenTag{l1.Tag{Name: c.name, Cell: &c.moves, Version: moves}, version}
}

// want makes the query ask for a book, whether or not it needs a tag of it.
func (q *tagQuery) want(book int) {
	if i, found := slices.BinarySearch(q.books, book); !found {
		q.books = slices.Insert(q.books, i, book)
	}
}

// wantAll makes the query ask for all books. Once they are there, no tag is new
// to Redis when a loader names it.
func (q *tagQuery) wantAll() {
	for book := range tagBooks {
		q.want(book)
	}
}

// done reports whether there is nothing to ask Redis for.
func (q *tagQuery) done() bool { return len(q.books) == 0 }

// reads is what to ask Redis for.
func (q *tagQuery) reads() []l2.BookRead {
	reads := make([]l2.BookRead, len(q.books))
	for i, book := range q.books {
		reads[i].Book = q.node.bookKey(book)
		for _, o := range q.open {
			if o.cell.book == book {
				reads[i].Tags = append(reads[i].Tags, o.cell.name)
			}
		}
	}
	return reads
}

// take takes the answers to reads. What stays to be asked are missing books.
func (q *tagQuery) take(states []l2.BookState) {
	var missing []int
	for i, st := range states {
		switch {
		case st.Err != nil:
			q.err = errors.Join(q.err, st.Err)
		case st.Base == 0:
			missing = append(missing, q.books[i])
		default:
			q.learn(q.books[i], st)
		}
	}
	q.books = missing
}

// learn takes what a book says of the open tags in it.
//
// A version that went back (a failover to a server that had not heard of the
// last invalidation) means that one was lost: it is owed again.
func (q *tagQuery) learn(book int, st l2.BookState) {
	next := 0
	q.open = slices.DeleteFunc(q.open, func(o openTag) bool {
		if o.cell.book != book {
			return false
		}
		version := st.Versions[next]
		next++
		if version < o.floor {
			q.node.oweTag(o.cell.name, fmt.Errorf("version %d of the tag went back to %d", o.floor, version))
		}
		q.seen[o.place] = o.cell.seen(o.cell.learnAt(o.ticket, version))
		return true
	})
}

// resolve asks Redis for what is not known: one round trip, and one more if
// books are missing, which are made then.
func (q *tagQuery) resolve(ctx context.Context) error {
	if !q.done() {
		_, marked := q.node.store.ReadMany(ctx, nil, 0, l2.Marks{Books: q.reads()})
		q.take(marked.Books)
	}
	return q.makeMissing(ctx)
}

// makeMissing makes the books that take found missing. All that stood in them
// is void, so whoever makes one says so in the same step.
func (q *tagQuery) makeMissing(ctx context.Context) error {
	if q.done() || q.err != nil {
		return q.err
	}
	n := q.node
	makes := make([]l2.BookMake, 0, len(q.books))
	for i, read := range q.reads() {
		sign := signOf(q.books[i])
		nt, err := n.member.number(invalidation.Message{Kind: invalidation.KindTags, Keys: []string{sign}})
		if err != nil {
			return err
		}
		// Published only if the book was made: nobody needs to wait for it.
		defer n.member.origin.Lost(nt.seq)
		makes = append(makes, l2.BookMake{BookRead: read, Floor: n.tags.floor(sign), Msg: nt.bytes})
	}
	states := n.store.MakeBooks(ctx, makes)
	for i, st := range states {
		if st.Err == nil && st.Wide {
			n.tags.raise(signOf(q.books[i]), st.Base)
		}
	}
	q.take(states)
	return q.err
}

// makeBooks makes sure, once for the node, that all books are there.
func (n *Node) makeBooks(ctx context.Context) {
	if n.tags.made.Load() {
		return
	}
	q := n.queryTags(nil)
	q.wantAll()
	if q.resolve(ctx) == nil {
		n.tags.made.Store(true)
	}
}

// bookKey is where a book stands. No cache's name begins with '!'.
func (n *Node) bookKey(book int) string { return n.cfg.Prefix + ":!tags:" + strconv.Itoa(book) }

// oweTag records that the invalidation of a tag is owed, and voids what carries
// it here.
func (n *Node) oweTag(tag string, cause error) {
	n.owe(journal.Debt{Scope: journal.Tag, Name: tag}, cause)
	n.tags.move(tag)
}

// owesTag reports whether the invalidation of a tag is owed, by this node or by
// another.
func (n *Node) owesTag(tag string) bool {
	if n.debts.Len() == 0 && len(n.guard.bars.list()) == 0 {
		return false
	}
	sign := signOf(bookOf(tag))
	return n.debts.OwesTag(tag) || n.debts.OwesTag(sign) || n.guard.bars.owesTag(tag) || n.guard.bars.owesTag(sign)
}

func (n *Node) owesAny(tags []seenTag) bool {
	return slices.ContainsFunc(tags, func(s seenTag) bool { return n.owesTag(s.Name) })
}
