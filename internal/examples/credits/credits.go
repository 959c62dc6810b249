// Package credits keeps the credit balances of users in Redis, where several
// processes spend from them at once.
//
// A balance is a [tier.Counter]: a plain number under ghl:credits:<user>. It is
// as durable as the Redis is. Where credits are money, keep the ledger in a
// database and let this be what is shown.
package credits

import (
	"context"
	"errors"
	"fmt"

	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// ErrInsufficient says that a user has too few credits. Nothing was spent.
var ErrInsufficient = errors.New("credits: insufficient")

// Balances changes and tells the credits of users. All methods may be called
// concurrently, from any number of processes. Without an answer of Redis they
// return tier.ErrUnavailable: credits are no matter in which to fail open.
type Balances struct{ counter *tier.Counter }

// Open returns the balances on node.
func Open(node *tier.Node) (*Balances, error) {
	c, err := tier.NewCounter(node, ghl.UserCredits().Name(), tier.CounterOptions{})
	if err != nil {
		return nil, fmt.Errorf("credits: %w", err)
	}
	return &Balances{c}, nil
}

// Of returns the credits of a user, 0 for one who never had any.
func (b *Balances) Of(ctx context.Context, user string) (int64, error) {
	return b.counter.Get(ctx, ghl.UserCredits().ID(user))
}

// Grant adds credits, and returns how many the user has then.
func (b *Balances) Grant(ctx context.Context, user string, n int64) (int64, error) {
	if n < 0 {
		return 0, fmt.Errorf("credits: grant %d: negative", n)
	}
	return b.counter.Increment(ctx, ghl.UserCredits().ID(user), n)
}

// Spend takes n credits and returns how many are left, or ErrInsufficient. What
// all processes spend together never exceeds what was granted.
//
// It takes first and looks then, because a look before could be outdated when
// it takes. What it took too much it gives back; until then, others may be
// refused credits that were there.
func (b *Balances) Spend(ctx context.Context, user string, n int64) (int64, error) {
	if n < 0 {
		return 0, fmt.Errorf("credits: spend %d: negative", n)
	}
	id := ghl.UserCredits().ID(user)
	left, err := b.counter.Decrement(ctx, id, n)
	if err != nil || left >= 0 {
		return left, err
	}
	// A caller who leaves now must not keep what is not theirs.
	_, err = b.counter.Increment(context.WithoutCancel(ctx), id, n)
	return left + n, errors.Join(ErrInsufficient, err)
}
