package l2

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
)

// ReadMany implements Store: a GETRANGE for each key and for the marker,
// a script for each book. One key with a marker, what a node reads that does not
// hear the others, shares pipelines like Read.
func (r *Redis) ReadMany(ctx context.Context, keys []string, limit int, marks Marks) ([]Read, Marked) {
	if len(keys) == 1 && marks.Marker != "" && len(marks.Books) == 0 && !r.loose && checkKey(keys[0]) == nil && checkLimit(limit) == nil {
		s := r.shardFor(keys[0])
		if !s.gather.alone() {
			return r.readMarked(ctx, s, keys[0], limit, marks.Marker)
		}
		defer s.gather.back()
	}
	bad := checkLimit(limit)
	orders := make([]order, 0, len(keys)+1+len(marks.Books))
	for _, key := range keys {
		orders = append(orders, order{key: key, bytes: limit + maxMeta + 1, err: bad})
	}
	if marks.Marker != "" {
		orders = append(orders, order{key: marks.Marker, bytes: markerLimit})
	}
	for _, b := range marks.Books {
		o := r.bookOrder(r.scripts.bookRead, b, nil, 0, false)
		o.err = checkBook(b.Book, b.Tags)
		orders = append(orders, o)
	}
	answers := r.batch(ctx, orders)

	reads := make([]Read, len(keys))
	for i, key := range keys {
		reads[i].Reply, reads[i].Err = replyOf(answers[i].text, answers[i].err, key, limit)
	}
	answers = answers[len(keys):]
	var m Marked
	if marks.Marker != "" {
		m.Version, m.Err = markerOf(answers[0].text, answers[0].err)
		answers = answers[1:]
	}
	m.Books = make([]BookState, len(marks.Books))
	for i, b := range marks.Books {
		m.Books[i] = bookState(b.Book, len(b.Tags), answers[i])
	}
	return reads, m
}

// readMarked reads a key and a marker, each together with others.
func (r *Redis) readMarked(ctx context.Context, s *shard, key string, limit int, marker string) ([]Read, Marked) {
	var m Marked
	w, err := r.join(ctx, r.shardFor(marker), asked{marker, markerLimit})
	reads := make([]Read, 1)
	reads[0].Reply, reads[0].Err = r.readGathered(ctx, s, key, limit)
	var cmd onceString
	if err == nil {
		cmd, err = r.leave(ctx, w)
	}
	if err == nil {
		m.Version, m.Err = markerOf(cmd, cmd.Err())
	} else {
		m.Err = err
	}
	return reads, m
}

// MakeBooks implements Store.
func (r *Redis) MakeBooks(ctx context.Context, books []BookMake) []BookState {
	orders := make([]order, len(books))
	for i := range books {
		b := &books[i]
		orders[i] = r.bookOrder(r.scripts.bookMake, b.BookRead, b.Msg, b.Floor, true)
		orders[i].err = b.check()
	}
	states := make([]BookState, len(books))
	for i, a := range r.batch(ctx, orders) {
		states[i] = bookState(books[i].Book, len(books[i].Tags), a)
	}
	return states
}

// RaiseTags implements Store.
func (r *Redis) RaiseTags(ctx context.Context, raises []TagRaise) []BookState {
	orders := make([]order, len(raises))
	for i := range raises {
		t := &raises[i]
		orders[i] = r.bookOrder(r.scripts.bookRaise, BookRead{t.Book, []string{t.Tag}}, t.Wide, t.Floor, true)
		orders[i].args[1], orders[i].err = bytesOf(t.Msg), t.check()
	}
	states := make([]BookState, len(raises))
	for i, a := range r.batch(ctx, orders) {
		states[i] = bookState(raises[i].Book, 1, a)
	}
	return states
}

func (r *Redis) bookOrder(sc *script, b BookRead, wide []byte, floor uint64, write bool) order {
	args := make([]any, 0, 4+len(b.Tags))
	args = append(args, r.opt.Channel, []byte{}, bytesOf(wide), be(floor))
	for _, tag := range b.Tags {
		args = append(args, tag)
	}
	return order{key: b.Book, script: sc, args: args, write: write}
}

// bookState reads the reply of luaBook for n tags.
func bookState(book string, n int, a answered) BookState {
	if a.err != nil {
		if strings.Contains(a.err.Error(), "marker overflow") {
			a.err = fmt.Errorf("%w: book %q is at its end", ErrNotInteger, book)
		}
		return BookState{Err: a.err}
	}
	text, ok := a.value.(string)
	if !ok || len(text) < 9 || text[0] != '0' && text[0] != '1' {
		return BookState{Err: unexpected(a.value)}
	}
	s := BookState{Wide: text[0] == '1', Base: binary.BigEndian.Uint64([]byte(text[1:9]))}
	if s.Base == 0 {
		return s
	}
	s.Versions = make([]uint64, n)
	for i := range s.Versions {
		s.Versions[i] = s.Base
	}
	if s.Wide {
		return s
	}
	if len(text) != 9+8*n {
		return BookState{Err: unexpected(a.value)}
	}
	for i := range s.Versions {
		s.Versions[i] = binary.BigEndian.Uint64([]byte(text[9+8*i:]))
	}
	return s
}
