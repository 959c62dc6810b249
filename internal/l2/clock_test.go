package l2

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// server is a clock some way off ours, which runs a little fast.
type server struct {
	c      *clock
	offset int64
}

func (s *server) time() int64 { return s.offset + s.c.local() + s.c.local()/2000 }

func (s *server) wantBounded(t *testing.T, width int64) {
	t.Helper()
	lo, hi, known := s.c.bounds()
	require.True(t, known)
	require.LessOrEqual(t, lo, s.time(), "from below")
	require.GreaterOrEqual(t, hi, s.time(), "from above")
	assert.LessOrEqual(t, hi-lo, width)
}

// ask sends TIME: there, then the server's look at its clock, then back.
func (s *server) ask(there, back time.Duration) {
	a := s.c.local()
	time.Sleep(there)
	shown := s.time()
	time.Sleep(back)
	s.c.observe(a, shown, s.c.local())
}

func TestClock_boundsTheServersClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{c: &clock{base: time.Now()}, offset: 1_700_000_000_000_000}
		_, _, known := s.c.bounds()
		require.False(t, known)
		s.ask(5*time.Millisecond, 0)
		s.wantBounded(t, 6_000)
		s.ask(0, 5*time.Millisecond)
		s.wantBounded(t, 300) // both bounds of two replies
		for range 100 {
			time.Sleep(time.Second)
			s.wantBounded(t, 25_000)
			s.ask(time.Millisecond, 20*time.Millisecond)
			s.wantBounded(t, 25_000)
		}
		time.Sleep(time.Hour)
		s.wantBounded(t, 8_000_000) // nothing heard for long: wider, still right
	})
}

func TestClock_takesOverAJump(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 50 * time.Millisecond, -50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			s := &server{c: &clock{base: time.Now()}, offset: 1_700_000_000_000_000}
			s.ask(time.Millisecond, time.Millisecond)
			time.Sleep(time.Second)
			s.offset += jump.Microseconds()
			s.ask(time.Millisecond, time.Millisecond)
			s.wantBounded(t, 3_000)
		})
	}
}
