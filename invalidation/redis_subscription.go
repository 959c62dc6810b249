package invalidation

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisSubscription keeps a link to Redis until it is closed. run is its only
// goroutine, and the only one that calls the handler; each link has a second one
// that sends PINGs, and a timer that cuts it.
type redisSubscription struct {
	bus     *Redis
	out     delivery
	cancel  context.CancelFunc
	closing closing
	retry   chan struct{} // one slot: asks for a link soon

	mu       sync.Mutex // guards what follows
	link     *link      // nil: none
	renewals uint64     // calls of Renew

	logged string // the failure logged last; of run
}

// run makes one link after the other.
func (s *redisSubscription) run(ctx context.Context) {
	dials := newDialing()
	defer close(s.closing.done)
	defer dials.wait()
	defer s.out.update(func(st *SubscriptionStats) { st.Confirmed = false })
	relink(ctx, &s.bus.opt, s.retry, func() time.Duration { return s.serve(ctx, dials) }, func(pause time.Duration) {
		s.out.update(func(st *SubscriptionStats) { st.BackoffFor = pause })
	})
}

// serve makes one link and reads from it until it ends. It returns for how long
// the subscription stood.
//
// A link counts as begun before its server is looked for. So a Renew from then on
// is about this link, also while it does not exist: the renewals are read first.
func (s *redisSubscription) serve(ctx context.Context, dials *dialing) time.Duration {
	renewals := s.renewed()
	s.out.update(func(st *SubscriptionStats) { st.Links++ })
	find, cancel := context.WithTimeout(ctx, s.bus.opt.DeadAfter)
	defer cancel()
	target, err := s.bus.targets.next(find)
	if err != nil {
		s.ended(GapLink, err)
		return 0
	}
	l := newLink(ctx, target, s.bus.opt.DeadAfter, dials, nil)
	defer l.close()
	s.current(l, renewals)
	defer s.current(nil, 0)

	r := linkReader{link: l, opt: &s.bus.opt, to: s}
	reason, cause := r.run(ctx)
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

// renewed returns how often Renew was called.
func (s *redisSubscription) renewed() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renewals
}

// current makes l the link for Renew to cut, and cuts it if there were more
// renewals than those given.
func (s *redisSubscription) current(l *link, renewals uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	if l != nil && s.renewals != renewals {
		l.cut(GapLink, errRenew)
	}
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

// stands implements receiver.
func (s *redisSubscription) stands(addr string) {
	s.out.update(func(st *SubscriptionStats) { st.Confirmed, st.Addr = true, addr })
	if s.logged != "" {
		s.logged = ""
		s.out.logger.Info("invalidation: subscribed again", "channel", s.bus.opt.Channel, "addr", addr)
	}
	s.out.gap(GapSubscribed)
}

// message implements receiver.
func (s *redisSubscription) message(m *redis.Message) {
	if m.Channel != s.bus.opt.Channel || m.PayloadSlice != nil {
		s.out.garbage()
		return
	}
	s.out.message([]byte(m.Payload))
}

// answered implements receiver.
func (s *redisSubscription) answered(sent time.Time) {
	s.out.update(func(st *SubscriptionStats) { st.RTT = time.Since(sent) })
	s.out.heard(sent)
}

// Stats describes the subscription now.
func (s *redisSubscription) Stats() SubscriptionStats { return s.out.snapshot() }

// Renew cuts the link, one that is yet to come about as well, and ends the pause
// before the next one.
func (s *redisSubscription) Renew() {
	signal(s.retry)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewals++
	if s.link != nil {
		s.link.cut(GapLink, errRenew)
	}
}

// Close cancels everything and waits for run.
func (s *redisSubscription) Close() error {
	return s.closing.close(func() {
		s.out.closed.Store(true)
		s.cancel()
	})
}
