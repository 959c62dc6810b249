package tier

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tandemcache/tandem/internal/l2"
)

// CounterOptions describes a [Counter]. The zero value never resets.
type CounterOptions struct {
	// Window is how long a count lives. It is set with the first increment and
	// never extended. Default 0: for ever.
	Window time.Duration
}

// Counter keeps numbers that live in Redis alone (on a node without Redis, in
// its memory) and change atomically: every method is one script or command,
// one round trip, and never sees half of another. Nothing is kept in L1.
//
// Without an answer from Redis methods return ErrUnavailable. An increment may
// then have happened or not; it is neither repeated nor owed. All methods may be
// called concurrently. [NewCounter] makes one.
type Counter struct {
	node *Node
	name string
	opts CounterOptions
}

// Decision is the answer of [Counter.Allow].
type Decision struct {
	Allowed    bool
	Remaining  int64         // how many more the window takes
	RetryAfter time.Duration // if not allowed: until the window ends; NoExpiry: never
}

// NewCounter opens the counters of that name on n. The rules for names are
// those of [New], and a name is either a cache or counters. Opened again with
// the same options it returns the same Counter.
func NewCounter(n *Node, name string, opts CounterOptions) (*Counter, error) {
	var faults []error
	if err := checkName(name); err != nil {
		faults = append(faults, err)
	}
	if opts.Window < 0 || opts.Window > 0 && opts.Window < minTTL || opts.Window > maxTTL {
		faults = append(faults, fmt.Errorf("Window: %v is not between %v and %v (0 means for ever)", opts.Window, minTTL, maxTTL))
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("tier: counter %.80q: %w", name, errors.Join(faults...))
	}
	if err := n.enter(); err != nil {
		return nil, fmt.Errorf("counter %q: %w", name, err)
	}
	defer n.leave()
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.spaces[name]; ok {
		return nil, fmt.Errorf("tier: name %q is open as %s, asked for as counters", name, s.describe())
	}
	if c, ok := n.counters[name]; ok {
		if c.opts != opts {
			return nil, fmt.Errorf("tier: name %q is open with other CounterOptions", name)
		}
		return c, nil
	}
	c := &Counter{node: n, name: name, opts: opts}
	n.counters[name] = c
	return c, nil
}

// Increment adds delta to the counter of key, 0 at first, and returns the sum.
// The first one of a window sets its end. A sum beyond 64 bits, or something
// under the key that is no number, is an error that changes nothing.
func (c *Counter) Increment(ctx context.Context, key string, delta int64) (n int64, err error) {
	err = c.call(ctx, "increment", key, func(ctx context.Context, rkey string) error {
		n, err = c.node.store.Add(ctx, rkey, delta, c.opts.Window)
		return err
	})
	return n, err
}

// Decrement is Increment by minus delta.
func (c *Counter) Decrement(ctx context.Context, key string, delta int64) (int64, error) {
	if delta == -delta && delta != 0 {
		return 0, fmt.Errorf("tier: counter %q: decrement %.80q: %d has no negative", c.name, key, delta)
	}
	return c.Increment(ctx, key, -delta)
}

// Allow counts one event for key if fewer than limit were counted in its
// window, and says so: a fixed-window rate limit, exact under concurrency over
// all processes. What is not allowed is not counted. limit 0 or below allows
// nothing.
//
// With ErrUnavailable Allowed is true, so that a caller that ignores the error
// fails open; one that must not, checks it. With any other error (an invalid key,
// a closed node, something under the key that is no number) it is false.
func (c *Counter) Allow(ctx context.Context, key string, limit int64) (d Decision, err error) {
	err = c.call(ctx, "allow", key, func(ctx context.Context, rkey string) error {
		taken, count, left, err := c.node.store.Take(ctx, rkey, limit, c.opts.Window)
		if err != nil {
			return err
		}
		d = Decision{Allowed: taken, Remaining: remaining(limit, count)}
		if !taken {
			d.RetryAfter = window(left)
		}
		return nil
	})
	if errors.Is(err, ErrUnavailable) {
		d.Allowed = true
	}
	return d, err
}

// Get returns the counter of key, 0 if there is none.
func (c *Counter) Get(ctx context.Context, key string) (n int64, err error) {
	err = c.call(ctx, "get", key, func(ctx context.Context, rkey string) error {
		n, _, _, err = c.node.store.Count(ctx, rkey)
		return err
	})
	return n, err
}

// TTL returns the rest of key's window, NoExpiry if it has no end, and true; or
// false if there is no counter or Redis did not answer.
func (c *Counter) TTL(ctx context.Context, key string) (ttl time.Duration, found bool) {
	err := c.call(ctx, "ttl", key, func(ctx context.Context, rkey string) error {
		var err error
		_, ttl, found, err = c.node.store.Count(ctx, rkey)
		return err
	})
	if err != nil || !found {
		return 0, false
	}
	return window(ttl), true
}

// Reset removes the counters of keys. Errors are joined, one a key.
func (c *Counter) Reset(ctx context.Context, keys ...string) error {
	if len(keys) == 0 && c.node.calls.closed() {
		return ErrClosed
	}
	errs := make([]error, 0, len(keys))
	for _, key := range keys {
		errs = append(errs, c.call(ctx, "reset", key, func(ctx context.Context, rkey string) error {
			_, err := c.node.store.Delete(ctx, rkey, l2.DeleteOptions{}, nil)
			return err
		}))
	}
	return errors.Join(errs...)
}

// remaining is limit-count, within 0 and what 64 bits hold: a count may be negative.
func remaining(limit, count int64) int64 {
	switch left := limit - count; {
	case limit <= count:
		return 0
	case left < 0:
		return math.MaxInt64
	default:
		return left
	}
}

func window(left time.Duration) time.Duration {
	if left < 0 {
		return NoExpiry
	}
	return left
}

// call runs one operation on one key, with its errors made ours.
func (c *Counter) call(ctx context.Context, op, key string, f func(ctx context.Context, rkey string) error) error {
	if err := checkKey(c.name, key); err != nil {
		return err
	}
	if err := c.node.enter(); err != nil {
		return err
	}
	defer c.node.leave()
	err := f(ctx, c.node.redisKey(c.name, key))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, l2.ErrUnavailable), errors.Is(err, l2.ErrRefused):
		return fmt.Errorf("%w: counter %q: %s %.80q: %w", ErrUnavailable, c.name, op, key, err)
	}
	return fmt.Errorf("tier: counter %q: %s %.80q: %w", c.name, op, key, err)
}
