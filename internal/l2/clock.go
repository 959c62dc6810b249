package l2

import (
	"sync"
	"sync/atomic"
	"time"
)

// clock estimates a server's clock by its answers to TIME. It stands on the
// monotonic clock of this process alone; the wall clock may be anything.
//
// A reply that was asked for at a and received at b, on our clock, shows the
// server's clock at some moment between: the server minus ours was then at
// least T-b and at most T-a. Both ends are kept. Between two answers the rates
// of the clocks may differ by drift, so an older bound is widened as it ages.
type clock struct {
	base  time.Time
	known atomic.Bool // set once, after the first answer

	mu       sync.Mutex // guards what follows
	lo, hi   int64      // bounds of the server's clock minus ours, in microseconds
	measured int64      // on our clock
}

// drift is how much faster one clock may run than another: 1 in 1000, twice
// what NTP lets a clock slew.
const drift = 1000

// local is our clock, in microseconds.
func (c *clock) local() int64 { return time.Since(c.base).Microseconds() }

// observe takes in that the server's clock showed t between a and b of ours.
//
// If that cannot be, drift included, one of the clocks has jumped, and only the
// newest answer counts.
func (c *clock) observe(a, t, b int64) { c.take(a, t, b, false) }

// replace is observe of a server that is another one than before. What is known
// is replaced in one step: the clock of a server is never unknown again.
func (c *clock) replace(a, t, b int64) { c.take(a, t, b, true) }

func (c *clock) take(a, t, b int64, another bool) {
	during := (b-a)/drift + 1          // the clocks may part while the call lasts
	lo, hi := t-b-during, t-a+during+1 // TIME cuts off parts of a microsecond
	c.mu.Lock()
	defer c.mu.Unlock()
	age := max(b-c.measured, 0)/drift + 1
	oldLo, oldHi := c.lo-age, c.hi+age
	if !another && c.known.Load() && lo <= oldHi && hi >= oldLo {
		lo, hi = max(lo, oldLo), min(hi, oldHi)
	}
	c.lo, c.hi, c.measured = lo, hi, b
	c.known.Store(true)
}

// bounds returns what the server's clock shows at least and at most now.
func (c *clock) bounds() (lo, hi int64, known bool) { return c.boundsAt(time.Now()) }

// boundsAt is bounds at a time that has just been read.
func (c *clock) boundsAt(at time.Time) (lo, hi int64, known bool) {
	if !c.known.Load() {
		return 0, 0, false
	}
	now := at.Sub(c.base).Microseconds()
	c.mu.Lock()
	defer c.mu.Unlock()
	age := max(now-c.measured, 0)/drift + 1
	return now + c.lo - age, now + c.hi + age, true
}
