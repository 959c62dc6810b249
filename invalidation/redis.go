package invalidation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// RedisOptions configures a [Redis]. Zero fields have the defaults named.
type RedisOptions struct {
	// Channel is the name of the pub/sub channel. It is needed, and should hold
	// prefix and database number: channels are common to all databases.
	Channel string
	// PingEvery is how far apart the PINGs are. Default 500 ms.
	PingEvery time.Duration
	// DeadAfter is the silence after which a link is given up, and how long it may
	// take to come about. More than PingEvery; default 2 s.
	DeadAfter time.Duration
	// MinBackoff and MaxBackoff limit the wait between two links. It grows by half
	// each time, is off by up to a half at random, and begins anew after a
	// link that stood longer than MaxBackoff. Defaults 50 ms and 2 s.
	MinBackoff, MaxBackoff time.Duration
	// Logger gets a Warn when a link is lost or does not come about for a new
	// reason, and an Info when it stands again. Nil discards.
	Logger *slog.Logger
}

func (o *RedisOptions) setDefaults() {
	o.PingEvery = cmp.Or(o.PingEvery, 500*time.Millisecond)
	o.DeadAfter = cmp.Or(o.DeadAfter, 2*time.Second)
	o.MinBackoff = cmp.Or(o.MinBackoff, 50*time.Millisecond)
	o.MaxBackoff = cmp.Or(o.MaxBackoff, 2*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func (o *RedisOptions) check() error {
	var errs []error
	if o.Channel == "" {
		errs = append(errs, errors.New("Channel is empty"))
	}
	if o.PingEvery < 0 {
		errs = append(errs, fmt.Errorf("PingEvery is %v", o.PingEvery))
	}
	if o.DeadAfter <= o.PingEvery {
		errs = append(errs, fmt.Errorf("DeadAfter is %v, not more than PingEvery, %v", o.DeadAfter, o.PingEvery))
	}
	if o.MinBackoff < 0 || o.MaxBackoff < o.MinBackoff {
		errs = append(errs, fmt.Errorf("MinBackoff and MaxBackoff are %v and %v", o.MinBackoff, o.MaxBackoff))
	}
	return errors.Join(errs...)
}

// maxPublishing is how many calls of Publish are under way at most. More wait
// for their turn, or for the end of their context.
const maxPublishing = 64

// Redis is a [Bus] over Redis pub/sub: standalone, sentinel or cluster.
//
// Publish uses the client, so that messages take the way that data takes. A
// subscription has a connection of its own, made from the client's options with
// timeouts of its own; the client is never changed and never closed. In a
// cluster it goes to a master chosen at random, since each hears everything, and
// to another when that fails.
type Redis struct {
	client  redis.UniversalClient
	opt     RedisOptions
	targets targets
	slots   chan struct{} // of Publish
}

// NewRedis returns a bus over client, which must be a [*redis.Client] (that of
// [redis.NewFailoverClient] included) or a [*redis.ClusterClient] and stays the
// caller's to close, after the subscriptions. It does no I/O. The error names
// every fault of opt.
func NewRedis(client redis.UniversalClient, opt RedisOptions) (*Redis, error) {
	opt.setDefaults()
	targets, err := targetsOf(client)
	if err = errors.Join(err, opt.check()); err != nil {
		return nil, fmt.Errorf("invalidation: NewRedis: %w", err)
	}
	return &Redis{client: client, opt: opt, targets: targets, slots: make(chan struct{}, maxPublishing)}, nil
}

// Publish sends a copy of msg. It returns the cause of ctx when that ends first,
// even if the client would wait longer; the call then ends in the background
// with the timeouts of the client, and msg may still be delivered, or delivered
// twice, as after any error.
func (r *Redis) Publish(ctx context.Context, msg []byte) error {
	if err := checkSize(msg); err != nil {
		return err
	}
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	payload := string(msg)
	go func() {
		defer func() { <-r.slots }()
		done <- r.client.Publish(ctx, r.opt.Channel, payload).Err()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Subscribe begins to deliver to h in the background. It does no I/O.
func (r *Redis) Subscribe(h Handler) (Subscription, error) {
	if h == nil {
		return nil, errNoHandler
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &redisSubscription{
		bus:     r,
		cancel:  cancel,
		closing: closing{done: make(chan struct{})},
		retry:   make(chan struct{}, 1),
		out:     delivery{handler: h, logger: r.opt.Logger, limit: newerEvery},
	}
	go s.run(ctx)
	return s, nil
}
