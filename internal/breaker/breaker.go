package breaker

import (
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// DefaultFailures is the number of failures in a row that opens a breaker.
const DefaultFailures = 5

// Outcome is what a call says about the server.
type Outcome uint8

// The outcomes of a call.
const (
	Success Outcome = iota // it answered
	Failure                // it did not
	Dead                   // nobody is there: the breaker opens at once
	Neutral                // the call says nothing of the server
)

var (
	errFailure = errors.New("failure")
	errDead    = errors.New("dead")
)

func (o Outcome) err() error {
	switch o {
	case Failure:
		return errFailure
	case Dead:
		return errDead
	}
	return nil
}

// Breaker counts the failures of one server. All methods may be called
// concurrently.
type Breaker struct {
	failures uint32
	onOpen   func()
	opened   atomic.Uint64
	current  atomic.Pointer[state]
}

// state is one closed period and what follows it. Close begins a new one,
// so that late reports reach the old one and change nothing.
type state struct {
	cb   *gobreaker.TwoStepCircuitBreaker[struct{}]
	open atomic.Bool
	dead atomic.Bool // the next failure opens, whatever the count
	row  atomic.Bool // failures may have been counted that a success ends
}

// New returns a closed breaker that opens after so many failures in a row; 0 is
// DefaultFailures. onOpen, if not nil, is called each time it opens, by the
// reporter of the last failure; it must not block or call the breaker.
func New(failures int, onOpen func()) *Breaker {
	if failures <= 0 {
		failures = DefaultFailures
	}
	b := &Breaker{failures: uint32(min(uint64(failures), math.MaxUint32)), onOpen: onOpen}
	b.current.Store(b.newState())
	return b
}

// forever is the time after which gobreaker would let a call try on its own.
const forever = 100 * 365 * 24 * time.Hour

func (b *Breaker) newState() *state {
	s := &state{}
	s.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout: forever,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= b.failures || s.dead.Load()
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to != gobreaker.StateOpen {
				return
			}
			s.open.Store(true)
			b.opened.Add(1)
			if b.onOpen != nil {
				b.onOpen()
			}
		},
	})
	return s
}

// Pass is a call that was let through. The zero Pass is none, of which nothing is
// to report.
type Pass struct{ s *state }

// Allow says whether a call may go through. If so, the outcome of it must be
// reported once.
func (b *Breaker) Allow() (Pass, bool) {
	s := b.current.Load()
	if s.open.Load() {
		return Pass{}, false
	}
	return Pass{s}, true
}

// Report says how the call ended.
//
// A success matters only after a failure, and nothing else is of interest to the
// circuit breaker while it is closed: so most calls do not come to its lock.
func (p Pass) Report(o Outcome) {
	s := p.s
	if s == nil || o == Neutral || o == Success && !s.row.Load() {
		return
	}
	if o == Dead {
		s.dead.Store(true)
	}
	report, err := s.cb.Allow()
	if err != nil {
		return // it has opened meanwhile
	}
	report(o.err())
	switch {
	case o != Success:
		s.row.Store(true)
	case s.cb.Counts().ConsecutiveFailures == 0:
		s.row.Store(false)
		// A failure that was counted in between may have set it before.
		if s.cb.Counts().ConsecutiveFailures > 0 {
			s.row.Store(true)
		}
	}
}

// Open reports whether calls are refused. It never blocks.
func (b *Breaker) Open() bool { return b.current.Load().open.Load() }

// Opened returns how many times it has opened.
func (b *Breaker) Opened() uint64 { return b.opened.Load() }

// Close lets calls through again and forgets all failures. It reports whether
// the breaker was open.
func (b *Breaker) Close() bool {
	for {
		s := b.current.Load()
		if !s.open.Load() {
			return false
		}
		if b.current.CompareAndSwap(s, b.newState()) {
			return true
		}
	}
}
