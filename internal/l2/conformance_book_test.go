package l2

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// bookOf asks a book for the versions of tags.
func (s *scene) bookOf(tags ...string) BookState {
	s.t.Helper()
	_, marked := s.ReadMany(s.t.Context(), nil, limit, Marks{Books: []BookRead{{s.key, tags}}})
	require.Len(s.t, marked.Books, 1)
	require.NoError(s.t, marked.Books[0].Err)
	return marked.Books[0]
}

func (s *scene) makeBook(floor uint64, tags ...string) BookState {
	s.t.Helper()
	states := s.MakeBooks(s.t.Context(), []BookMake{{BookRead{s.key, tags}, floor, []byte("book........")}})
	require.Len(s.t, states, 1)
	require.NoError(s.t, states[0].Err)
	return states[0]
}

func (s *scene) raiseTag(tag string, floor uint64) BookState {
	s.t.Helper()
	states := s.RaiseTags(s.t.Context(), []TagRaise{{s.key, tag, floor, []byte("tag........"), []byte("wide........")}})
	require.Len(s.t, states, 1)
	require.NoError(s.t, states[0].Err)
	return states[0]
}

// wantHeard checks the messages since the last call: a word, and a version.
func (s *scene) wantHeard(word string, version uint64) {
	s.t.Helper()
	heard := s.heard()
	require.Len(s.t, heard, 1)
	require.Equal(s.t, word, heard[0][:len(word)])
	require.Equal(s.t, version, tail(heard[0]))
}

func testBook(t *testing.T, s *scene) {
	assert.Equal(t, BookState{}, s.bookOf("a", "b"), "a missing book")
	low := s.Earliest(s.key)
	made := s.makeBook(0, "a", "b")
	assert.True(t, made.Wide)
	assert.GreaterOrEqual(t, int64(made.Base), low)
	assert.LessOrEqual(t, int64(made.Base), s.Now(s.key))
	assert.Equal(t, []uint64{made.Base, made.Base}, made.Versions)
	s.wantHeard("book", made.Base)

	again := s.makeBook(made.Base+1000, "b")
	assert.Equal(t, BookState{Base: made.Base, Versions: []uint64{made.Base}}, again)
	assert.Empty(t, s.heard(), "nothing was made")

	a := s.raiseTag("a", 0)
	assert.False(t, a.Wide)
	assert.Greater(t, a.Versions[0], made.Base)
	s.wantHeard("tag", a.Versions[0])
	assert.Equal(t, BookState{Base: made.Base, Versions: []uint64{made.Base, a.Versions[0], made.Base}}, s.bookOf("b", "a", "c"))
	assert.Equal(t, BookState{Base: made.Base, Versions: []uint64{a.Versions[0]}}, s.makeBook(0, "a"))
	b := s.raiseTag("b", 0)
	assert.Greater(t, b.Versions[0], a.Versions[0], "versions of a book never repeat")

	s.heard()
	all := s.raiseTag("", 0)
	assert.True(t, all.Wide)
	assert.Greater(t, all.Base, b.Versions[0])
	s.wantHeard("wide", all.Base)
	assert.Equal(t, BookState{Base: all.Base, Versions: []uint64{all.Base, all.Base}}, s.bookOf("a", "z"))

	s.remove(DeleteOptions{})
	s.heard()
	assert.Equal(t, BookState{}, s.bookOf("a"))
	lost := s.raiseTag("a", 0)
	assert.True(t, lost.Wide, "who finds the book missing raises all that stood in it")
	assert.Greater(t, lost.Base, all.Base)
	s.wantHeard("wide", lost.Base)
}

func testBookFloors(t *testing.T, s *scene) {
	floor := uint64(1)<<60 + 12345
	assert.Equal(t, floor+1, s.makeBook(floor).Base)
	assert.Equal(t, []uint64{floor + 2}, s.raiseTag("a", 0).Versions)
	assert.Equal(t, []uint64{floor + 1001}, s.raiseTag("a", floor+1000).Versions)
	assert.Equal(t, floor+1002, s.raiseTag("", 5).Base, "a lower floor does not lower it")
	assert.Equal(t, uint64(math.MaxUint64-4), s.raiseTag("", math.MaxUint64-5).Base)
	for _, tag := range []string{"x", "y", "x", "y"} {
		s.raiseTag(tag, 0)
	}
	for _, tag := range []string{"x", "", "new"} {
		states := s.RaiseTags(t.Context(), []TagRaise{{Book: s.key, Tag: tag}})
		assert.ErrorIs(t, states[0].Err, ErrNotInteger, tag)
	}
	for _, bad := range []TagRaise{{Tag: "a"}, {Book: s.key, Tag: "\n"}, {Book: s.key, Tag: "a", Msg: []byte("short")}} {
		assert.ErrorIs(t, s.RaiseTags(t.Context(), []TagRaise{bad})[0].Err, ErrArgument)
	}
	for _, bad := range []BookRead{{"", []string{"a"}}, {s.key, []string{""}}, {s.key, []string{"a", "\n"}}} {
		assert.ErrorIs(t, s.MakeBooks(t.Context(), []BookMake{{BookRead: bad}})[0].Err, ErrArgument)
		_, marked := s.ReadMany(t.Context(), nil, limit, Marks{Books: []BookRead{bad}})
		assert.ErrorIs(t, marked.Books[0].Err, ErrArgument)
	}
}

// A book is bounded: past its limit all its tags are raised at once, and none
// goes back.
func testBookFull(t *testing.T, s *scene) {
	base := s.makeBook(0).Base
	raises := make([]TagRaise, 512)
	high := base
	for i := 0; i < BookTags; i += len(raises) {
		for j := range raises {
			raises[j] = TagRaise{Book: s.key, Tag: fmt.Sprint("tag", i+j)}
		}
		for _, st := range s.RaiseTags(t.Context(), raises) {
			require.NoError(t, st.Err)
			require.False(t, st.Wide)
			require.Greater(t, st.Versions[0], high)
			high = st.Versions[0]
		}
	}
	assert.Equal(t, []uint64{high}, s.bookOf(fmt.Sprint("tag", BookTags-1)).Versions)
	again := s.raiseTag("tag5", 0)
	assert.False(t, again.Wide, "a tag that is in the book already")
	s.heard()
	over := s.raiseTag("one more", 0)
	assert.True(t, over.Wide)
	assert.Greater(t, over.Base, again.Versions[0])
	s.wantHeard("wide", over.Base)
	assert.Equal(t, []uint64{over.Base, over.Base}, s.bookOf("tag7", "never").Versions)
	assert.False(t, s.raiseTag("tag7", 0).Wide, "there is room again")
}

func testReadMany(t *testing.T, s *scene) {
	ctx := t.Context()
	const n = 40 // on a cluster: keys, markers and books of several masters
	var keys []string
	var books []BookRead
	for i := range n {
		keys = append(keys, fmt.Sprintf("%s:%d", s.key, i))
		if i%2 == 0 {
			_, err := s.Set(ctx, keys[i], sample(fmt.Sprint("v", i)).Append(nil, keys[i]), minute, nil)
			require.NoError(t, err)
		}
	}
	want, err := s.Raise(ctx, "test:!marker", 0, nil)
	require.NoError(t, err)
	for i := range 8 {
		books = append(books, BookRead{fmt.Sprint("test:!many:", i), []string{"a", "b"}})
	}
	raised := s.RaiseTags(ctx, []TagRaise{{Book: books[2].Book, Tag: "b"}, {Book: books[5].Book, Tag: "a"}, {Book: books[5].Book, Tag: "b"}})

	for range 2 {
		reads, marked := s.ReadMany(ctx, keys, limit, Marks{Marker: "test:!marker", Books: books})
		require.Len(t, reads, n)
		for i, r := range reads {
			require.NoError(t, r.Err)
			if i%2 == 1 {
				assert.Equal(t, StateAbsent, r.State)
				continue
			}
			require.Equal(t, StateRecord, r.State)
			assert.Equal(t, fmt.Sprint("v", i), string(r.Record.Payload))
		}
		require.NoError(t, marked.Err)
		assert.Equal(t, want, marked.Version)
		require.Len(t, marked.Books, len(books))
		for i, st := range marked.Books {
			require.NoError(t, st.Err)
			switch i {
			case 2:
				assert.Equal(t, raised[0].Versions[0], st.Versions[1])
			case 5:
				assert.Equal(t, []uint64{raised[1].Versions[0], raised[2].Versions[0]}, st.Versions)
			default:
				assert.Zero(t, st.Base)
			}
		}
	}

	reads, marked := s.ReadMany(ctx, []string{"", keys[0]}, limit, Marks{Marker: "test:!no marker"})
	assert.ErrorIs(t, reads[0].Err, ErrArgument)
	assert.NoError(t, reads[1].Err, "a wrong key takes no other along")
	assert.NoError(t, marked.Err)
	assert.Zero(t, marked.Version, "missing")
	reads, _ = s.ReadMany(ctx, keys[:1], 1, Marks{})
	assert.Equal(t, StateTooLarge, reads[0].State)
	reads, marked = s.ReadMany(ctx, nil, limit, Marks{})
	assert.Empty(t, reads)
	assert.Equal(t, Marked{Books: []BookState{}}, marked)
}
