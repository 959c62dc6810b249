package invalidation

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// redisSubscription keeps a link to Redis until it is closed. run is its only
// goroutine, and the only one that calls the handler; each link has a second one
// that sends PINGs, and a timer that cuts it.
type redisSubscription struct {
	bus    *Redis
	out    delivery
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	once   sync.Once
	err    error

	mu   sync.Mutex // guards link
	link *link      // nil: none

	logged string // the failure logged last; of run
}

// run makes one link after the other.
func (s *redisSubscription) run(ctx context.Context) {
	dials := newDialing()
	defer close(s.done)
	defer dials.wait()
	opt := &s.bus.opt
	wait := &backoff.ExponentialBackOff{
		InitialInterval:     opt.MinBackoff,
		RandomizationFactor: 0.5,
		Multiplier:          1.5,
		MaxInterval:         opt.MaxBackoff,
	}
	wait.Reset()
	for ctx.Err() == nil {
		stood := s.serve(ctx, dials)
		if ctx.Err() != nil {
			return
		}
		if stood > opt.MaxBackoff {
			wait.Reset()
		}
		pause := wait.NextBackOff()
		s.out.update(func(st *SubscriptionStats) { st.BackoffFor = pause })
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// serve makes one link and reads from it until it ends. It returns for how long
// the subscription stood.
func (s *redisSubscription) serve(ctx context.Context, dials *dialing) time.Duration {
	s.out.update(func(st *SubscriptionStats) { st.Links++ })
	find, cancel := context.WithTimeout(ctx, s.bus.opt.DeadAfter)
	defer cancel()
	target, err := s.bus.targets.next(find)
	if err != nil {
		s.ended(GapLink, err)
		return 0
	}
	l := newLink(ctx, target, s.bus.opt.DeadAfter, dials)
	defer l.close()
	s.current(l)
	defer s.current(nil)
	stop := context.AfterFunc(ctx, func() { l.cut(GapLink, errClosed) })
	defer stop()

	r := linkReader{subscription: s, link: l}
	defer r.pinging.Wait()
	defer l.cut(GapLink, errClosed) // before waiting for what sends PINGs
	r.read()
	reason, cause := l.why()
	if ctx.Err() != nil {
		return 0
	}
	s.ended(reason, cause)
	if r.confirmed.IsZero() {
		return 0
	}
	s.out.gap(reason)
	return time.Since(r.confirmed)
}

func (s *redisSubscription) current(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
}

// ended notes why a link ended or did not come about.
func (s *redisSubscription) ended(reason GapReason, cause error) {
	text := cause.Error()
	s.out.update(func(st *SubscriptionStats) { st.Confirmed, st.LastError = false, text })
	if text == s.logged {
		return
	}
	s.logged = text
	s.out.logger.Warn("invalidation: no subscription", "channel", s.bus.opt.Channel, "reason", reason.String(), "cause", text)
}

// stands notes that a link is subscribed.
func (s *redisSubscription) stands(addr string) {
	s.out.update(func(st *SubscriptionStats) { st.Confirmed, st.Addr = true, addr })
	if s.logged == "" {
		return
	}
	s.logged = ""
	s.out.logger.Info("invalidation: subscribed again", "channel", s.bus.opt.Channel, "addr", addr)
}

// Stats describes the subscription now.
func (s *redisSubscription) Stats() SubscriptionStats { return s.out.snapshot() }

// Renew cuts the link. The backoff between links holds here too.
func (s *redisSubscription) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		s.link.cut(GapLink, errRenew)
	}
}

// Close cancels everything and waits for run.
func (s *redisSubscription) Close() error {
	s.once.Do(func() {
		s.out.closed.Store(true)
		s.cancel()
		timer := time.NewTimer(closeWait)
		defer timer.Stop()
		select {
		case <-s.done:
			s.out.update(func(st *SubscriptionStats) { st.Confirmed = false })
		case <-timer.C:
			s.err = ErrBusy
		}
	})
	return s.err
}
