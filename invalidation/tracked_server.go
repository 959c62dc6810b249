package invalidation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/push"
)

// invalidate is the name of the notification that names keys.
const invalidate = "invalidate"

var (
	errLeft    = errors.New("no master any more")
	errReplica = errors.New("the server is a replica")
	errNotKeys = errors.New("the server announced a change without keys")
)

// trackedServer keeps a link to one master on which the server announces changes.
// Its run is one goroutine; each link has a second one that sends PINGs.
type trackedServer struct {
	of     *Listener
	addr   string
	ctx    context.Context // ends when the server is left
	cancel context.CancelFunc
	logged string // the failure logged last; of run

	// Guarded by the mutex of the listener.
	target    redis.Options
	link      *link // nil: none
	confirmed bool
	heard     time.Time // when the last PING that came back was sent; zero: none of this link
	left      bool
	missing   int // looks in a row that did not show it
}

func newTrackedServer(ctx context.Context, of *Listener, addr string) *trackedServer {
	s := &trackedServer{of: of, addr: addr}
	s.ctx, s.cancel = context.WithCancel(ctx)
	return s
}

// run makes one link after the other.
func (s *trackedServer) run() {
	dials := newDialing()
	defer dials.wait()
	defer s.cancel()
	relink(s.ctx, &s.of.tracking.opt, nil, func() time.Duration { return s.serve(dials) }, func(time.Duration) {})
}

// serve makes one link and reads from it until it ends. It returns for how long
// the server tracked.
func (s *trackedServer) serve(dials *dialing) time.Duration {
	opt := &s.of.tracking.opt
	s.of.mu.Lock()
	target := s.target
	s.of.mu.Unlock()
	r := linkReader{opt: opt, to: s}
	var refusal error
	r.link = newLink(s.ctx, target, opt.DeadAfter, dials, func(o *redis.Options) {
		o.Protocol = 3 // only there are changes announced between replies
		o.PushNotificationProcessor = s.processor(&r)
		o.OnConnect = s.onConnect(target.OnConnect, &refusal)
	})
	defer r.link.close()
	s.current(r.link)
	defer s.current(nil)

	reason, cause := r.run(s.ctx)
	if s.ctx.Err() != nil {
		return 0
	}
	if refusal != nil {
		cause = refusal
		s.of.refused(refusal)
	}
	s.ended(reason, cause)
	if r.confirmed.IsZero() {
		return 0
	}
	s.lost(reason)
	return time.Since(r.confirmed)
}

// current notes the link, which counts as begun.
func (s *trackedServer) current(l *link) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.link = l
	if l == nil {
		s.confirmed, s.heard = false, time.Time{}
		return
	}
	s.of.links++
}

// onConnect returns what a new connection begins with: the application's own
// steps, then ours. What the server has against it goes to refusal.
func (s *trackedServer) onConnect(
	first func(context.Context, *redis.Conn) error, refusal *error,
) func(context.Context, *redis.Conn) error {
	return func(ctx context.Context, conn *redis.Conn) error {
		if first != nil {
			if err := first(ctx, conn); err != nil {
				return err
			}
		}
		err := track(ctx, conn, s.of.tracking.prefix)
		if errors.Is(err, ErrNoTracking) {
			*refusal = err
		}
		return err
	}
}

// track asks the server to announce changes on conn. It makes sure first that
// conn speaks RESP3, to which go-redis and servers of RESP2 agree otherwise
// without an error and without an announcement ever, and that it is a master.
func track(ctx context.Context, conn *redis.Conn, prefix string) error {
	reply, err := conn.Do(ctx, "hello").Result()
	if err != nil {
		return refusalOf("HELLO", err)
	}
	hello, _ := reply.(map[any]any)
	if proto, _ := hello["proto"].(int64); proto != 3 {
		return fmt.Errorf("%w: it speaks RESP2 only", ErrNoTracking)
	}
	if role, _ := hello["role"].(string); role == "replica" || role == "slave" {
		return errReplica
	}
	err = conn.Do(ctx, "client", "tracking", "on", "bcast", "prefix", prefix).Err()
	if err != nil {
		return refusalOf("CLIENT TRACKING", err)
	}
	return nil
}

// refusalOf tells a server that cannot from one that cannot now.
func refusalOf(command string, err error) error {
	var reply redis.Error
	if errors.As(err, &reply) && (strings.HasPrefix(reply.Error(), "ERR ") || strings.HasPrefix(reply.Error(), "NOPERM ")) {
		return fmt.Errorf("%w: %s: %w", ErrNoTracking, command, err)
	}
	return fmt.Errorf("%s: %w", command, err)
}

// processor returns what takes announcements out of the replies to r. It runs on
// the goroutine of r, inside of receive.
func (s *trackedServer) processor(r *linkReader) push.NotificationProcessor {
	p := redis.NewPushNotificationProcessor()
	// The one error there is: a name that is taken.
	_ = p.RegisterHandler(invalidate, announcements(func(keys []string, err error) {
		if err != nil {
			r.link.cut(GapProtocol, err)
			return
		}
		r.unwatched(func() { s.of.changed(keys) })
		if reason, err := r.overdue(); err != nil {
			r.link.cut(reason, err)
		}
	}), true)
	return p
}

// announcements is a push.NotificationHandler. No keys: all of them.
type announcements func(keys []string, err error)

// HandlePushNotification implements push.NotificationHandler. It returns no
// error: go-redis would print it.
func (f announcements) HandlePushNotification(_ context.Context, _ push.NotificationHandlerContext, notification []any) error {
	f(keysOf(notification))
	return nil
}

func keysOf(notification []any) ([]string, error) {
	if len(notification) != 2 {
		return nil, errNotKeys
	}
	if notification[1] == nil {
		return nil, nil
	}
	list, ok := notification[1].([]any)
	if !ok {
		return nil, errNotKeys
	}
	keys := make([]string, len(list))
	for i, v := range list {
		if keys[i], ok = v.(string); !ok {
			return nil, errNotKeys
		}
	}
	return keys, nil
}

// stands implements receiver: the server tracks, from now on.
func (s *trackedServer) stands(addr string) {
	if s.logged != "" {
		s.logged = ""
		s.of.out.logger.Info("invalidation: changes are tracked again", "prefix", s.of.tracking.prefix, "addr", addr)
	}
	s.of.call.Lock()
	defer s.of.call.Unlock()
	s.of.mu.Lock()
	s.confirmed, s.heard = true, time.Time{}
	s.of.mu.Unlock()
	s.of.gapLocked(GapSubscribed)
}

// message implements receiver: nobody publishes on the channel of a link.
func (*trackedServer) message(*redis.Message) {}

// answered implements receiver.
func (s *trackedServer) answered(sent time.Time) {
	s.of.mu.Lock()
	if s.confirmed && !s.left {
		s.heard = sent
	}
	s.of.mu.Unlock()
	s.of.prove()
}

// ended notes why a link ended or did not come about.
func (s *trackedServer) ended(reason GapReason, cause error) {
	s.of.failed(cause)
	signal(s.of.wake) // there may be another master now
	text := cause.Error()
	if text == s.logged {
		return
	}
	s.logged = text
	s.of.out.logger.Warn("invalidation: changes are not tracked",
		"prefix", s.of.tracking.prefix, "addr", s.addr, "reason", reason.String(), "cause", text)
}

// lost voids what was heard on a link that has ended.
func (s *trackedServer) lost(reason GapReason) {
	s.of.call.Lock()
	defer s.of.call.Unlock()
	s.of.mu.Lock()
	left := s.left
	s.heard = time.Time{}
	s.of.mu.Unlock()
	if !left {
		s.of.gapLocked(reason)
	}
}

// leave ends the link to a server that is no master any more. What it announced
// last may be unread, so that is a gap.
func (s *trackedServer) leave() {
	s.cancel()
	s.of.mu.Lock()
	s.left = true
	if s.link != nil {
		s.link.cut(GapLink, errLeft)
	}
	s.of.mu.Unlock()
	s.of.call.Lock()
	defer s.of.call.Unlock()
	s.of.gapLocked(GapLink)
}
