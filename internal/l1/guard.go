package l1

import (
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// guard lets any number of calls into ristretto run and keeps Close from
// overtaking them. It also counts what Get found.
//
// The counters are striped by the address of the caller's stack, so that
// goroutines that run at the same time mostly write to different cache lines. A
// sync.RWMutex would make every call write the same one.
type guard struct {
	stripes []stripe
	mask    uintptr
	closed  atomic.Bool
}

type stripe struct {
	hits, misses  atomic.Uint64
	entered, left atomic.Uint64 // calls into ristretto
	credit        atomic.Int64  // hits that ristretto is still to hear of, see spend
	_             [lineBytes - 40]byte
}

// A miss pays for telling ristretto of the next hits: it has cost so much that they
// cost little beside it, and where misses are many ristretto decides better about
// them if it knows what is hit.
const (
	missPays   = 8
	mostCredit = 8 * missPays
)

// miss counts one. Of two at once on a stripe one may pay nothing.
func (s *stripe) miss() {
	s.misses.Add(1)
	s.credit.Store(min(s.credit.Load()+missPays, mostCredit))
}

// spend reports whether a hit has been paid for.
func (s *stripe) spend() bool {
	c := s.credit.Load()
	if c <= 0 {
		return false
	}
	s.credit.Store(c - 1)
	return true
}

const (
	// lineBytes keeps stripes apart, with room for the prefetcher that fetches
	// cache lines in pairs.
	lineBytes = 128
	// stripesPerCPU makes it unlikely that two running goroutines share one.
	stripesPerCPU = 8
	// stackShift drops the address bits inside the smallest stack, 2 KiB.
	stackShift = 11
)

func newGuard() *guard {
	n := 32
	for n < stripesPerCPU*runtime.GOMAXPROCS(0) && n < 1024 {
		n *= 2
	}
	return &guard{stripes: make([]stripe, n), mask: uintptr(n - 1)}
}

// stripe returns the counters for the caller's goroutine.
func (g *guard) stripe() *stripe {
	var here byte
	at := uintptr(unsafe.Pointer(&here)) >> stackShift
	return &g.stripes[(at^at>>7)&g.mask]
}

// enter reports whether the caller may call ristretto; then it must leave, on
// the same stripe, which another look might not find: stacks move.
//
// Entering is counted before closed is read, and close stores closed before it
// reads the counters. So either the caller sees closed, or close sees the caller.
func (g *guard) enter(s *stripe) bool {
	s.entered.Add(1)
	if g.closed.Load() {
		s.leave()
		return false
	}
	return true
}

func (s *stripe) leave() { s.left.Add(1) }

// close turns new calls away and returns when those under way have left. They
// never wait for anything but the store's own goroutines, so it soon does.
func (g *guard) close() {
	g.closed.Store(true)
	for i := range g.stripes {
		for n := 0; !g.stripes[i].idle(); n++ {
			if n < 100 {
				runtime.Gosched()
			} else {
				time.Sleep(50 * time.Microsecond)
			}
		}
	}
}

// idle reports whether nobody is between entering and leaving. Those that left
// are read first: read after entered, they could hide one that is still inside
// behind one that came and went in between.
func (s *stripe) idle() bool {
	left := s.left.Load()
	return s.entered.Load() == left
}

// counts returns the hits and misses so far.
func (g *guard) counts() (hits, misses uint64) {
	for i := range g.stripes {
		hits += g.stripes[i].hits.Load()
		misses += g.stripes[i].misses.Load()
	}
	return hits, misses
}
