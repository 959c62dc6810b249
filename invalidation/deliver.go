package invalidation

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// newerEvery limits the gaps about messages of a newer format: in a rolling
// deploy each of its messages is one.
const newerEvery = time.Second

// delivery calls a handler and counts. Its methods, but for close and snapshot,
// are called by one goroutine at a time.
type delivery struct {
	handler Handler
	logger  *slog.Logger
	limit   time.Duration // between gaps about newer messages

	closed atomic.Bool

	owed      GapReason // a gap over which the handler panicked
	newerLast time.Time
	newerDue  time.Time // zero: no gap about newer messages is held back

	mu    sync.Mutex // guards stats
	stats SubscriptionStats
}

// message hands on what came over the channel.
func (d *delivery) message(raw []byte) {
	m, err := Parse(raw)
	switch {
	case err == nil:
		d.settle()
		d.update(func(s *SubscriptionStats) { s.Messages++ })
		if !d.call(func() { d.handler.Message(m) }) {
			d.gap(GapPanic)
		}
	case errors.Is(err, ErrNewer):
		d.update(func(s *SubscriptionStats) { s.Newer++ })
		d.newer(time.Now())
	default:
		d.garbage()
	}
}

func (d *delivery) garbage() { d.update(func(s *SubscriptionStats) { s.Garbage++ }) }

// newer makes a gap now, or holds it back until the next one is allowed.
func (d *delivery) newer(now time.Time) {
	if due := d.newerLast.Add(d.limit); now.Before(due) {
		d.newerDue = due
		return
	}
	d.newerLast, d.newerDue = now, time.Time{}
	d.gap(GapNewer)
}

// heard hands on the proof, after gaps that were held back or not taken.
func (d *delivery) heard(sent time.Time) {
	if now := time.Now(); !d.newerDue.IsZero() && !now.Before(d.newerDue) {
		d.newer(now)
	}
	if !d.settle() {
		return
	}
	d.update(func(s *SubscriptionStats) { s.LastHeard = sent })
	if !d.call(func() { d.handler.Heard(sent) }) {
		d.gap(GapPanic)
	}
}

// gap tells the handler. A handler that panics over it is told again before
// the next message, and is given no proof until it has taken it.
func (d *delivery) gap(reason GapReason) {
	d.owed = reason
	d.settle()
}

// settle reports whether no gap is owed any more.
func (d *delivery) settle() bool {
	if d.owed == GapNone {
		return true
	}
	reason := d.owed
	d.update(func(s *SubscriptionStats) {
		s.Gaps++
		s.LastGap, s.LastGapAt = reason, time.Now()
	})
	if d.call(func() { d.handler.Gap(reason) }) {
		d.owed = GapNone
	}
	return d.owed == GapNone
}

// call runs f unless the subscription is closed. False: it panicked.
func (d *delivery) call(f func()) (ok bool) {
	if d.closed.Load() {
		return true
	}
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		ok = false
		d.update(func(s *SubscriptionStats) { s.Panics++ })
		d.logger.Warn("invalidation: handler panicked", "panic", fmt.Sprint(v))
	}()
	f()
	return true
}

func (d *delivery) update(f func(s *SubscriptionStats)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.stats)
}

func (d *delivery) snapshot() SubscriptionStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stats
}
