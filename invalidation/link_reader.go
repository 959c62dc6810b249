package invalidation

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// overdueFactor: a PING unanswered for so many times DeadAfter, while messages
// arrive, means that the handler is far behind. One gap is cheaper than the rest
// of the backlog.
const overdueFactor = 3

var (
	errUnsubscribed = errors.New("the server ended the subscription")
	errTwice        = errors.New("the server confirmed the subscription twice")
	errTurn         = errors.New("the server answered out of turn")
	errBehind       = errors.New("messages are handled too slowly")
)

// linkReader reads one link to its end.
type linkReader struct {
	subscription *redisSubscription
	link         *link
	confirmed    time.Time // zero: not yet
	pings        pings
	pinging      sync.WaitGroup
}

// read returns when the link has ended; link.why says why.
//
// The watchdog runs only while the server is waited for: a slow handler is not
// the server's silence. The first time it covers everything up to the
// confirmation, dialing included.
func (r *linkReader) read() {
	l, opt := r.link, &r.subscription.bus.opt
	watchdog := time.AfterFunc(opt.DeadAfter, func() { l.cut(GapSilent, errSilent) })
	defer watchdog.Stop()
	if err := l.pubsub.Subscribe(l.ctx, opt.Channel); err != nil {
		l.cut(GapLink, err)
		return
	}
	for {
		v, err := l.receive()
		if err != nil {
			l.cut(reasonOf(err), err)
			return
		}
		watchdog.Stop()
		if reason, err := r.handle(v); err != nil {
			l.cut(reason, err)
			return
		}
		watchdog.Reset(opt.DeadAfter)
	}
}

func reasonOf(err error) GapReason {
	if errors.Is(err, errOversized) {
		return GapProtocol
	}
	return GapLink
}

// handle takes one reply. An error ends the link.
func (r *linkReader) handle(v any) (GapReason, error) {
	opt := &r.subscription.bus.opt
	out := &r.subscription.out
	switch v := v.(type) {
	case *redis.Subscription:
		return r.handleSubscription(v)
	case *redis.Message:
		if v.Channel != opt.Channel || v.PayloadSlice != nil {
			out.garbage()
			return GapNone, nil
		}
		out.message([]byte(v.Payload))
		if r.pings.overdue(overdueFactor * opt.DeadAfter) {
			return GapSilent, errBehind
		}
		return GapNone, nil
	case *redis.Pong:
		sent, ok := r.pings.answered(v.Payload)
		if !ok {
			return GapProtocol, errTurn
		}
		out.update(func(st *SubscriptionStats) { st.RTT = time.Since(sent) })
		out.heard(sent)
		return GapNone, nil
	default:
		return GapProtocol, fmt.Errorf("unexpected reply of type %T", v)
	}
}

// handleSubscription takes the confirmation. Only now are PINGs sent, so what
// comes back proves this subscription and no earlier one.
func (r *linkReader) handleSubscription(v *redis.Subscription) (GapReason, error) {
	s := r.subscription
	switch {
	case v.Kind != "subscribe" || v.Channel != s.bus.opt.Channel:
		return GapUnsubscribed, errUnsubscribed
	case !r.confirmed.IsZero():
		return GapUnsubscribed, errTwice
	}
	r.confirmed = time.Now()
	s.stands(r.link.peer())
	s.out.gap(GapSubscribed)
	r.pinging.Go(func() { r.pings.run(r.link, s.bus.opt.PingEvery) })
	return GapNone, nil
}
