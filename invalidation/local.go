package invalidation

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// always is how far in the future a [Local] has heard: longer than any process
// lives, and far from the range of a Duration.
const always = 100 * 365 * 24 * time.Hour

// Local is a [Bus] within a process, for nodes without Redis and for tests. All
// methods may be called concurrently, but not by a handler.
//
// Publish delivers synchronously: when it returns nil, every handler has run,
// and every handler sees all messages in the same order. Nothing can be lost, so
// Heard is called once after each Gap, with a time a hundred years ahead, and
// [SubscriptionStats.Always] is set.
//
// A Local is one place at a bus; [Local.Peer] makes another one at the same bus.
// Cut, Hold and Drop break the way to the subscriptions of their own place only.
// They are for tests.
type Local struct {
	hub *localHub

	// Guarded by the turn of the hub.
	subs  []*localSubscription
	cut   bool
	hold  bool
	drop  int
	queue [][]byte // held
}

// localHub is what the places of a bus have in common.
type localHub struct {
	// turn is held by whoever delivers. It is held over calls of handlers,
	// because that is what order means here; it is a channel so that waiting
	// for it ends with a context.
	turn   chan struct{}
	places []*Local
}

// NewLocal returns a new bus.
func NewLocal() *Local {
	hub := &localHub{turn: make(chan struct{}, 1)}
	l := &Local{hub: hub}
	hub.places = []*Local{l}
	return l
}

// Peer returns another place at the bus of l.
func (l *Local) Peer() *Local {
	defer l.take()()
	p := &Local{hub: l.hub}
	l.hub.places = append(l.hub.places, p)
	return p
}

// take waits for the turn and returns what gives it back.
func (l *Local) take() (release func()) {
	l.hub.turn <- struct{}{}
	return l.release
}

func (l *Local) release() { <-l.hub.turn }

// Subscribe adds h. Before it returns h has been called with [GapSubscribed] and
// has heard, unless the place is cut.
func (l *Local) Subscribe(h Handler) (Subscription, error) {
	if h == nil {
		return nil, errNoHandler
	}
	s := &localSubscription{local: l}
	s.out = delivery{handler: h, logger: slog.New(slog.DiscardHandler)}
	s.out.stats.Always = true
	defer l.take()()
	l.subs = append(l.subs, s)
	s.out.update(func(st *SubscriptionStats) { st.Links++ })
	if !l.cut {
		s.confirm()
	}
	return s, nil
}

// Publish delivers a copy of msg to every subscription at the bus. It returns
// the cause of ctx if that ends before it is its turn; nothing was delivered
// then.
func (l *Local) Publish(ctx context.Context, msg []byte) error {
	if err := checkSize(msg); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case l.hub.turn <- struct{}{}:
		defer l.release()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for _, place := range l.hub.places {
		place.arrive(msg)
	}
	return nil
}

func (l *Local) arrive(msg []byte) {
	switch {
	case l.cut:
	case l.drop > 0:
		l.drop--
	case l.hold:
		l.queue = append(l.queue, slices.Clone(msg))
	default:
		l.deliver(msg)
	}
}

func (l *Local) deliver(msg []byte) {
	for _, s := range l.subs {
		s.out.message(msg)
		s.reassure()
	}
}

// Cut with true cuts the subscriptions of this place off, which is a gap, and
// with false connects them again. What is published in between they miss.
func (l *Local) Cut(cut bool) {
	defer l.take()()
	if l.cut == cut {
		return
	}
	l.cut = cut
	l.queue = nil
	for _, s := range l.subs {
		if cut {
			s.lose("cut off")
		} else {
			s.out.update(func(st *SubscriptionStats) { st.Links++ })
			s.confirm()
		}
	}
}

// Hold with true keeps back what arrives at this place, unboundedly, and with
// false delivers it, in order. Nobody is told: it is a slow link.
func (l *Local) Hold(hold bool) {
	defer l.take()()
	l.hold = hold
	if hold {
		return
	}
	queue := l.queue
	l.queue = nil
	for _, msg := range queue {
		l.deliver(msg)
	}
}

// Drop loses the next n messages that arrive at this place. Nobody is told:
// only a [Tracker] can notice.
func (l *Local) Drop(n int) {
	defer l.take()()
	l.drop = n
}

// localSubscription is one handler at a [Local].
type localSubscription struct {
	local *Local
	out   delivery
	gaps  uint64 // after which it has heard; guarded by the turn of the hub

	once sync.Once
	err  error
}

func (s *localSubscription) confirm() {
	s.out.update(func(st *SubscriptionStats) { st.Confirmed = true })
	s.out.gap(GapSubscribed)
	s.reassure()
}

func (s *localSubscription) lose(why string) {
	s.out.update(func(st *SubscriptionStats) { st.Confirmed, st.LastError = false, why })
	s.out.gap(GapLink)
}

// reassure gives the proof again that a gap has voided.
func (s *localSubscription) reassure() {
	if gaps := s.out.snapshot().Gaps; gaps != s.gaps {
		s.gaps = gaps
		s.out.heard(time.Now().Add(always))
	}
}

func (s *localSubscription) Stats() SubscriptionStats { return s.out.snapshot() }

// Renew is a gap, and a new beginning.
func (s *localSubscription) Renew() {
	defer s.local.take()()
	if s.local.cut || s.out.closed.Load() {
		return
	}
	s.lose("renewed by its owner")
	s.out.update(func(st *SubscriptionStats) { st.Links++ })
	s.confirm()
}

func (s *localSubscription) Close() error {
	s.once.Do(func() {
		s.out.closed.Store(true)
		timer := time.NewTimer(closeWait)
		defer timer.Stop()
		select {
		case s.local.hub.turn <- struct{}{}:
			defer s.local.release()
			s.local.subs = slices.DeleteFunc(s.local.subs, func(o *localSubscription) bool { return o == s })
		case <-timer.C:
			s.err = ErrBusy
		}
	})
	return s.err
}

// checkSize refuses what no receiver would take.
func checkSize(msg []byte) error {
	if n := len(msg); n == 0 || n > MaxMessageBytes {
		return fmt.Errorf("%w: %d bytes, at least 1 and at most %d", ErrMessage, n, MaxMessageBytes)
	}
	return nil
}
