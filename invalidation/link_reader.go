package invalidation

import (
	"context"
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

// receiver is told what comes over a link, by one goroutine.
type receiver interface {
	// stands is called once, when the server has confirmed the subscription.
	stands(addr string)
	// message is called for every message, whatever its channel.
	message(m *redis.Message)
	// answered is called when a PING sent at the given time has come back.
	answered(sent time.Time)
}

// linkReader reads one link to its end.
type linkReader struct {
	link      *link
	opt       *RedisOptions
	to        receiver
	confirmed time.Time // zero: not yet
	pings     pings
	pinging   sync.WaitGroup
	watchdog  *time.Timer
}

// run reads until the link has ended, at the latest with ctx, and returns why it
// did. No goroutine of the reader is left then.
func (r *linkReader) run(ctx context.Context) (GapReason, error) {
	stop := context.AfterFunc(ctx, func() { r.link.cut(GapLink, errClosed) })
	defer stop()
	r.read()
	r.link.cut(GapLink, errClosed) // before waiting for what sends PINGs
	r.pinging.Wait()
	return r.link.why()
}

// read returns when the link has ended.
//
// The watchdog runs only while the server is waited for: a slow handler is not
// the server's silence. The first time it covers everything up to the
// confirmation, dialing included.
func (r *linkReader) read() {
	l := r.link
	r.watchdog = time.AfterFunc(r.opt.DeadAfter, func() { l.cut(GapSilent, errSilent) })
	defer r.watchdog.Stop()
	if err := l.pubsub.Subscribe(l.ctx, r.opt.Channel); err != nil {
		l.cut(GapLink, err)
		return
	}
	for {
		v, err := l.receive()
		if err != nil {
			l.cut(GapLink, err)
			return
		}
		var reason GapReason
		r.unwatched(func() { reason, err = r.handle(v) })
		if err != nil {
			l.cut(reason, err)
			return
		}
	}
}

// unwatched calls f while the watchdog is off.
func (r *linkReader) unwatched(f func()) {
	r.watchdog.Stop()
	f()
	r.watchdog.Reset(r.opt.DeadAfter)
}

// overdue ends the link when messages are handled too slowly.
func (r *linkReader) overdue() (GapReason, error) {
	if r.pings.overdue(overdueFactor * r.opt.DeadAfter) {
		return GapSilent, errBehind
	}
	return GapNone, nil
}

// handle takes one reply. An error ends the link.
func (r *linkReader) handle(v any) (GapReason, error) {
	switch v := v.(type) {
	case *redis.Subscription:
		return r.handleSubscription(v)
	case *redis.Message:
		r.to.message(v)
		return r.overdue()
	case *redis.Pong:
		sent, ok := r.pings.answered(v.Payload)
		if !ok {
			return GapProtocol, errTurn
		}
		r.to.answered(sent)
		return GapNone, nil
	case refusedPing:
		sent, ok := r.pings.refused()
		if !ok {
			return GapLink, v.error
		}
		r.to.answered(sent)
		return GapNone, nil
	default:
		return GapProtocol, fmt.Errorf("unexpected reply of type %T", v)
	}
}

// handleSubscription takes the confirmation. Only now are PINGs sent, so what
// comes back proves this subscription and no earlier one.
func (r *linkReader) handleSubscription(v *redis.Subscription) (GapReason, error) {
	switch {
	case v.Kind != "subscribe" || v.Channel != r.opt.Channel:
		return GapUnsubscribed, errUnsubscribed
	case !r.confirmed.IsZero():
		return GapUnsubscribed, errTwice
	}
	r.confirmed = time.Now()
	r.to.stands(r.link.peer())
	r.pinging.Go(func() { r.pings.run(r.link, r.opt.PingEvery) })
	return GapNone, nil
}
