package l2

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A bracket that nobody ends, because its writer's process has died, ends in its
// time, however many others come and go meanwhile. That of a writer who lives does
// not end before its last renewal does.
func testBracketOrphan(t *testing.T, s *scene) {
	orphan, _ := s.begin()
	due := s.wantKind(KindWriter).LeaseEnd
	end := func() int64 {
		r := s.wantKind(KindHold)
		assert.EqualValues(t, 1, r.Writers)
		return r.LeaseEnd
	}
	for range 3 {
		b, _ := s.begin()
		assert.Greater(t, s.wantKind(KindHold).LeaseEnd, due, "while it is at work")
		assert.False(t, s.end(b, "b"))
		require.Equal(t, due, end())
	}

	// Of two that overlap, only the one that began last knows.
	b, _ := s.begin()
	mid := s.wantKind(KindHold).LeaseEnd
	c, _ := s.begin()
	s.end(c, "c")
	assert.Equal(t, mid, s.wantKind(KindHold).LeaseEnd)
	s.end(b, "b")
	assert.Equal(t, due, end())
	b, _ = s.begin()
	c, _ = s.begin()
	late := s.wantKind(KindHold).LeaseEnd
	s.end(b, "b")
	assert.Equal(t, late, s.wantKind(KindHold).LeaseEnd)
	s.end(c, "c")
	end()

	for name, live := range map[string]func(){
		"renewal": func() {
			_, err := s.Renew(t.Context(), s.key, orphan, 10*second, true)
			require.NoError(t, err)
		},
		"short renewal": func() {
			_, err := s.Renew(t.Context(), s.key, orphan, time.Millisecond, true)
			require.NoError(t, err)
		},
		"hold": func() { s.remove(DeleteOptions{Hold: time.Millisecond}) },
	} {
		b, _ = s.begin()
		live()
		want := s.wantKind(KindHold).LeaseEnd
		s.end(b, "b")
		assert.Equal(t, want, end(), name)
	}
}

// Whatever writers do, in whatever order, and although the clock may go back:
// what stands does not end before the last renewal of one who is at work.
func TestBracket_neverEndsBeforeAWriterAtWork(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	tried := 0
	var grow func(path []int)
	grow = func(path []int) {
		tried++
		m.mu.Lock()
		w := newBracketWalk(m)
		possible := true
		for _, step := range path {
			possible = possible && w.do(step)
		}
		broken := possible && w.broken()
		m.mu.Unlock()
		require.False(t, broken, "%v: what stands ends too early", path)
		if possible && len(path) < 7 {
			for step := range 11 {
				grow(append(path[:len(path):len(path)], step))
			}
		}
	}
	grow([]int{walkBegin}) // who is first makes no difference
	t.Log(tried, "ways")
}

// bracketWalk is three writers and a clock. Its steps are begin, renew and end, each
// plus the number of a writer, and the two of the clock.
type bracketWalk struct {
	slot    *slot
	writers [3]struct {
		bracket Bracket
		open    bool
		until   int64
	}
}

const (
	walkBegin, walkRenew, walkEnd = 0, 3, 6
	walkLater, walkEarlier        = 9, 10
)

func newBracketWalk(m *Memory) *bracketWalk {
	delete(m.cells, "k")
	return &bracketWalk{slot: &slot{m: m, key: "k", now: time.Hour.Microseconds()}}
}

// do takes a step. False: it is none that can be taken here.
func (w *bracketWalk) do(step int) bool {
	s := w.slot
	switch step {
	case walkLater:
		s.now += second.Microseconds()
		return true
	case walkEarlier:
		s.now -= second.Microseconds()
		return true
	}
	who, token, until := &w.writers[step%3], Token{byte(step%3 + 1)}, s.now+4*second.Microseconds()
	switch step / 3 * 3 {
	case walkBegin:
		if who.open {
			return false
		}
		who.bracket, who.open, who.until = s.begin(token, until), true, until
	case walkRenew:
		if !who.open || who.until <= s.now || !s.renew(token, until, true) {
			return false
		}
		who.until = until
	case walkEnd:
		if !who.open {
			return false
		}
		s.end(token, who.bracket, nil, 0)
		who.open = false
	}
	return true
}

func (w *bracketWalk) broken() bool {
	s := w.slot
	for _, who := range w.writers {
		// One that is over is no longer at work, as it knows.
		if who.open && who.until > s.now && (!s.open() || s.head.LeaseEnd < who.until) {
			return true
		}
	}
	return false
}
