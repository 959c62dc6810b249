package l2

import (
	"errors"
	"fmt"
)

// A book is a key that holds the versions of many tags: a base, and the
// versions of those tags that were raised above it. A tag that was never
// raised has the version of the base.
//
// So there are few keys, whatever the number of tags, and a tag need not be
// made before it is used. And what is lost is lost as a whole: where a single
// tag could be raised and then evicted, unseen by a load that began before, the
// loss of a book shows in its base, which starts anew from the time of Redis.
//
// A version is a number that only grows: at least the time of Redis, in
// microseconds, at its last change, and above all that its book has given out
// before.

// BookTags is how many tags of a book may stand above its base. A book that
// would hold more raises its base instead, and with it all its tags.
const BookTags = 8192

// BookRead asks a book for the versions of tags.
type BookRead struct {
	Book string // its key
	Tags []string
}

// BookMake is a BookRead that makes a missing book, with a base above Floor.
// Msg is published if it was made, with the base in its last 8 bytes.
type BookMake struct {
	BookRead
	Floor uint64
	Msg   []byte
}

// TagRaise raises a tag above its version and above Floor, and publishes Msg
// with the new version in its last 8 bytes. An empty Tag stands for all tags of
// the book. When all are raised, because the tag is empty or the book was
// missing or is full, Wide is published instead.
type TagRaise struct {
	Book, Tag string
	Floor     uint64
	Msg, Wide []byte
}

// BookState is what a book says of the tags that it was asked for.
type BookState struct {
	Base     uint64   // 0: the book is missing
	Versions []uint64 // of the tags, each at least Base; after a raise the new one
	Wide     bool     // the call raised the base, and all tags with it
	Err      error
}

// Marks are the versions to be read along with records.
type Marks struct {
	Marker string // the key of a marker; empty: none
	Books  []BookRead
}

// Marked are the versions that Marks asked for.
type Marked struct {
	Version uint64 // of the marker; 0: missing
	Err     error  // of the marker
	Books   []BookState
}

// Read is one result of ReadMany.
type Read struct {
	Reply

	Err error
}

func (m *BookMake) check() error { return errors.Join(checkBook(m.Book, m.Tags), checkMessage(m.Msg)) }

func (r *TagRaise) check() error {
	var bad error
	if r.Tag != "" {
		bad = checkBook(r.Book, []string{r.Tag})
	}
	return errors.Join(bad, checkKey(r.Book), checkMessage(r.Msg), checkMessage(r.Wide))
}

// checkBook refuses the names under which a book keeps what is not a tag's.
func checkBook(book string, tags []string) error {
	for _, tag := range tags {
		if tag == "" || tag[0] < ' ' {
			return fmt.Errorf("%w: tag %q", ErrArgument, tag)
		}
	}
	return checkKey(book)
}
