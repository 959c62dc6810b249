package l2

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
)

// book is a book of the in-process store; luaBook says what it does and why.
type book struct {
	base, high uint64
	tags       map[string]uint64
}

// bookTagOverhead is about what a tag takes in a book beside its name.
const bookTagOverhead = 64

// bookOf returns the book that stands under s, nil if none does.
func (s *slot) bookOf() *book {
	if s.cell == nil {
		return nil
	}
	return s.cell.book
}

// state is what b says of tags. b may be nil, a missing book.
func (b *book) state(tags []string) BookState {
	if b == nil {
		return BookState{}
	}
	st := BookState{Base: b.base, Versions: make([]uint64, len(tags))}
	for i, tag := range tags {
		st.Versions[i] = max(b.base, b.tags[tag])
	}
	return st
}

// ReadMany implements Store. It is not one step, and need not be: nothing is
// promised of the order in which the keys are read.
func (m *Memory) ReadMany(ctx context.Context, keys []string, limit int, marks Marks) ([]Read, Marked) {
	reads := make([]Read, len(keys))
	for i, key := range keys {
		reads[i].Reply, reads[i].Err = m.Read(ctx, key, limit)
	}
	var out Marked
	if marks.Marker != "" {
		out.Err = m.do(ctx, marks.Marker, func(s *slot) { out.Version = s.marker() })
	}
	out.Books = make([]BookState, len(marks.Books))
	for i, b := range marks.Books {
		st := &out.Books[i]
		if st.Err = checkBook(b.Book, b.Tags); st.Err != nil {
			continue
		}
		st.Err = m.do(ctx, b.Book, func(s *slot) { *st = s.bookOf().state(b.Tags) })
	}
	return reads, out
}

// MakeBooks implements Store.
func (m *Memory) MakeBooks(ctx context.Context, books []BookMake) []BookState {
	states := make([]BookState, len(books))
	for i := range books {
		b, st := &books[i], &states[i]
		if st.Err = b.check(); st.Err != nil {
			continue
		}
		err := m.do(ctx, b.Book, func(s *slot) {
			if there := s.bookOf(); there != nil {
				*st = there.state(b.Tags)
				return
			}
			*st = s.raiseBook(b.Floor, b.Msg, len(b.Tags))
		})
		if err != nil {
			*st = BookState{Err: err}
		}
	}
	return states
}

// RaiseTags implements Store.
func (m *Memory) RaiseTags(ctx context.Context, raises []TagRaise) []BookState {
	states := make([]BookState, len(raises))
	for i := range raises {
		r, st := &raises[i], &states[i]
		if st.Err = r.check(); st.Err != nil {
			continue
		}
		if err := m.do(ctx, r.Book, func(s *slot) { *st = s.raiseTag(r) }); err != nil {
			*st = BookState{Err: err}
		}
	}
	return states
}

func (s *slot) raiseTag(r *TagRaise) BookState {
	b := s.bookOf()
	if b == nil || r.Tag == "" {
		return s.raiseBook(r.Floor, r.Wide, 1)
	}
	size := int64(len(r.Tag)) + bookTagOverhead
	if _, known := b.tags[r.Tag]; known {
		size = 0
	}
	if size > 0 && (len(b.tags) >= BookTags || s.m.numbers+size > s.m.opt.MaxBytes) {
		return s.raiseBook(r.Floor, r.Wide, 1)
	}
	version, ok := s.nextVersion(b.high, r.Floor)
	if !ok {
		return BookState{}
	}
	b.tags[r.Tag], b.high = version, version
	s.cell.extra += size
	s.m.bytes += size
	s.m.numbers += size
	s.tell(r.Msg, version)
	return BookState{Base: b.base, Versions: []uint64{version}}
}

// raiseBook raises all tags of the book, n of which were asked for, and makes
// the book if it is missing.
func (s *slot) raiseBook(floor uint64, wide []byte, n int) BookState {
	high := uint64(0)
	if b := s.bookOf(); b != nil {
		high = b.high
	}
	version, ok := s.nextVersion(high, floor)
	if !ok {
		return BookState{}
	}
	if !s.number(nil, 0) {
		s.err = errFull
		return BookState{}
	}
	s.cell.book = &book{base: version, high: version, tags: make(map[string]uint64)}
	s.tell(wide, version)
	st := BookState{Base: version, Versions: make([]uint64, n), Wide: true}
	for i := range st.Versions {
		st.Versions[i] = version
	}
	return st
}

// nextVersion is above both numbers, and not below the time.
func (s *slot) nextVersion(high, floor uint64) (version uint64, ok bool) {
	if high == math.MaxUint64 || floor == math.MaxUint64 {
		s.err = fmt.Errorf("%w: %q is at its end", ErrNotInteger, s.key)
		return 0, false
	}
	return max(uint64(s.now), high+1, floor+1), true
}

// tell publishes msg with version in its last 8 bytes.
func (s *slot) tell(msg []byte, version uint64) {
	if len(msg) == 0 {
		return
	}
	out := append([]byte(nil), msg...)
	binary.BigEndian.PutUint64(out[len(out)-8:], version)
	s.m.publishLocked(out)
}
