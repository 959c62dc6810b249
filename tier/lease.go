package tier

import (
	"context"
	"errors"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
)

// leaseTime is short, so that a process that dies holds up a key for little
// more than that, and renewed while the load runs.
const leaseTime = 2 * time.Second

// patience is until when another node's load is waited for. The limit is that of
// a load: longer than that takes only one whose holder has died or that ends as
// late as it may, or one after another. Then the key is loaded without being
// stored, with a limit of its own: another node's lease must not turn into an
// error.
type patience time.Time

func (c *Cache[T]) patience() patience { return patience(time.Now().Add(c.opts.LoadTimeout)) }

func (p patience) over() bool { return !time.Now().Before(time.Time(p)) }

// lease asks for the lease. One that may have been given although the answer did
// not arrive is given back: others would wait for it.
func (f *filling[T]) lease(ctx context.Context, token l2.Token) (l2.Grant, error) {
	limited, cancel, ok := f.b.begin(ctx)
	if !ok {
		return l2.Grant{}, context.DeadlineExceeded
	}
	begun := time.Now()
	grant, err := f.c.node.store.Lease(limited, f.c.redisKey(f.key), f.r.seen, token, leaseTime)
	f.b.end(begun, cancel)
	if mayHold(err) {
		go f.release(context.WithoutCancel(ctx), token)
	}
	return grant, err
}

// mayHold reports whether a lease may have been given by a call that ended with
// err.
func mayHold(err error) bool { return err != nil && !errors.Is(err, l2.ErrRefused) }

// giveBack is release within what is left of the budget. When that is nothing,
// nobody waits for it.
func (f *filling[T]) giveBack(ctx context.Context, token l2.Token) {
	if f.b.left <= 0 {
		go f.release(context.WithoutCancel(ctx), token)
		return
	}
	ctx, done := f.b.spend(context.WithoutCancel(ctx))
	defer done()
	f.release(ctx, token)
}

func (f *filling[T]) release(ctx context.Context, token l2.Token) {
	if f.c.node.enter() != nil {
		return
	}
	defer f.c.node.leave()
	ctx, cancel := context.WithTimeout(ctx, f.c.node.cfg.Timeout)
	defer cancel()
	// One that fails ends with its time.
	_ = f.c.node.store.Release(ctx, f.c.redisKey(f.key), token)
}

// renew keeps the lease alive until the returned function is called, which
// waits for the renewal under way. A renewal that fails changes nothing: the
// fill finds out by the token.
//
// A Clear leaves leases alone, but what they would store is void. The lease is
// given back then, so that the next load need not wait for this one.
func (f *filling[T]) renew(ctx context.Context, token l2.Token) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	voided := f.c.voided.wait()
	go func() {
		defer close(done)
		ticker := time.NewTicker(leaseTime / 3)
		defer ticker.Stop()
		for f.c.fence.Load(f.hash, f.key, f.r.stamp) != fence.Void {
			select {
			case <-ctx.Done():
				return
			case <-voided:
			case <-ticker.C:
				if mutant.On(mutant.NoRenewal) {
					continue
				}
				held, err := f.c.node.store.Renew(ctx, f.c.redisKey(f.key), token, leaseTime, false)
				if err == nil && !held {
					return
				}
			}
		}
		f.release(context.WithoutCancel(ctx), token)
	}()
	return func() {
		cancel()
		<-done
	}
}
