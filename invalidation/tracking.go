package invalidation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// TrackingOptions configures a [Tracking]. Zero fields have the defaults named.
type TrackingOptions struct {
	// Prefix is what the keys of interest begin with. It is needed.
	Prefix string
	// PingEvery, DeadAfter, MinBackoff, MaxBackoff and Logger are those of
	// [RedisOptions].
	PingEvery, DeadAfter   time.Duration
	MinBackoff, MaxBackoff time.Duration
	Logger                 *slog.Logger
}

// link returns the options of the links. The channel is one on which nobody
// publishes: being a subscriber makes the server cut a link that falls behind
// (client-output-buffer-limit pubsub). What is no subscriber it would keep
// waiting for with no limit to its memory.
func (o *TrackingOptions) link() RedisOptions {
	l := RedisOptions{
		PingEvery: o.PingEvery, DeadAfter: o.DeadAfter,
		MinBackoff: o.MinBackoff, MaxBackoff: o.MaxBackoff, Logger: o.Logger,
	}
	if o.Prefix != "" {
		l.Channel = o.Prefix + "!tracking"
	}
	l.setDefaults()
	return l
}

func (o *TrackingOptions) check(link *RedisOptions) error {
	if o.Prefix == "" {
		named := *link
		named.Channel = "!tracking"
		return errors.Join(errors.New("Prefix is empty"), named.check())
	}
	return link.check()
}

// Tracking lets the servers themselves say which keys change (CLIENT TRACKING
// in broadcasting mode, Redis 6 or later): by whatever client, by expiry and by
// eviction. It has one link to each master, made from the client's options, and
// in a cluster follows the masters as they change.
type Tracking struct {
	prefix  string
	opt     RedisOptions
	targets targets
}

// NewTracking returns a Tracking through client, which is as in [NewRedis]. It
// does no I/O. The error names every fault of opt.
func NewTracking(client redis.UniversalClient, opt TrackingOptions) (*Tracking, error) {
	link := opt.link()
	targets, err := targetsOf(client)
	if err = errors.Join(err, opt.check(&link)); err != nil {
		return nil, fmt.Errorf("invalidation: NewTracking: %w", err)
	}
	return &Tracking{prefix: opt.Prefix, opt: link, targets: targets}, nil
}

// ChangeHandler is told what a [Listener] hears, under the rules of the package
// documentation (C1 to C5). One goroutine at a time calls it. It should return
// soon: while it works nothing else is heard. A panic is recovered and becomes a
// [GapPanic].
type ChangeHandler interface {
	// Changed is called for keys with the prefix that changed, in whatever way
	// and by whomever, the process itself included. The slice is the handler's.
	Changed(keys []string)
	// Flushed is called when all keys of a server went (FLUSHALL, FLUSHDB).
	Flushed()
	// Gap is called when changes may have been missed, until now.
	Gap(reason GapReason)
	// Heard is called when every change has been told that a server had
	// confirmed before the given time, which is monotonic.
	Heard(sent time.Time)
	// Refused is called when a server answers but does not track for us: err
	// matches [ErrNoTracking]. It is tried again all the same.
	Refused(err error)
}

// Listen begins to report to h, in the background, until the Listener is closed.
// It does no I/O. The error is of the caller's making (no handler).
func (t *Tracking) Listen(h ChangeHandler) (*Listener, error) {
	if h == nil {
		return nil, errNoHandler
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Listener{
		tracking: t,
		handler:  h,
		cancel:   cancel,
		closing:  closing{done: make(chan struct{})},
		wake:     make(chan struct{}, 1),
		out:      delivery{handler: gapsOnly{h}, logger: t.opt.Logger},
		servers:  make(map[string]*trackedServer),
	}
	go l.run(ctx)
	return l, nil
}

// gapsOnly makes a [ChangeHandler] a [Handler] that gets no messages.
type gapsOnly struct{ ChangeHandler }

// Message implements Handler.
func (gapsOnly) Message(Message) {}

// TrackingStats describes a [Listener]. Counters only grow.
type TrackingStats struct {
	Servers   int    // masters known
	Confirmed int    // of them, those that track for us now
	Changes   uint64 // keys told
	Flushes   uint64
	Gaps      uint64    // calls of Gap
	Panics    uint64    // panics of the handler
	Links     uint64    // links that were begun, successful or not
	LastHeard time.Time // what Heard was called with last; zero: never
	LastGap   GapReason
	LastGapAt time.Time
	LastError string // why the last link ended or did not come about
}
