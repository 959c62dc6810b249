package tier

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

const (
	payEvery   = 250 * time.Millisecond // how often debts are tried while there are any
	payBatch   = 512
	payWorkers = 16
)

// payer replays debts until Redis confirms them. A replay deletes, whatever
// the failed change was: the source of truth is elsewhere, so a delete is right
// in any order.
type payer struct {
	node  *Node
	woken chan struct{} // one slot: wake while awake is remembered
	paid  chan struct{} // one slot: signals progress to drain
}

func newPayer(n *Node) *payer {
	return &payer{node: n, woken: make(chan struct{}, 1), paid: make(chan struct{}, 1)}
}

// wake makes the payer look at the debts now.
func (p *payer) wake() { signal(p.woken) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// owe records that an invalidation was not confirmed. From here on this node
// serves what it covers from neither tier.
//
// REQUIRES: the caller moves the stamps afterwards. A read that took its stamp
// before, and so may not have seen the debt, then keeps nothing.
func (n *Node) owe(d journal.Debt, cause error) {
	n.unconfirmed.Add(1)
	if mutant.On(mutant.NoJournal) {
		return
	}
	if n.debts.Owe(d, time.Now()) {
		n.log.Warn("tier: too many owed invalidations, caches will be cleared", "limit", n.cfg.MaxPending)
		n.eachSpace(func(s space) { s.invalidatePrefix("") })
		n.tags.moveAll()
	}
	n.log.Debug("tier: invalidation owed", "cache", d.Cache, "name", d.Name, "cause", cause)
	n.payer.wake()
}

// unconfirmed is what a change returns that was made here and is owed to Redis.
func (n *Node) unconfirmedErr(op, cache, name string, cause error) error {
	if !n.cfg.Strict {
		return nil
	}
	return fmt.Errorf("%w: %s %s %.80q is owed: %w", ErrUnavailable, op, cache, name, cause)
}

// run pays debts until the node is closed. Without debts it only waits.
func (p *payer) run() {
	var again <-chan time.Time
	for {
		select {
		case <-p.node.ctx.Done():
			return
		case <-p.woken:
		case <-again:
		}
		again = nil
		if p.node.debts.Len() > 0 {
			p.payAll()
		}
		if p.node.debts.Len() > 0 {
			again = time.After(payEvery)
		}
	}
}

// payAll tries a batch of debts, and again as long as that makes progress.
func (p *payer) payAll() {
	for p.node.ctx.Err() == nil {
		batch := p.node.debts.Batch(payBatch)
		before := p.node.debts.Len()
		var g errgroup.Group
		g.SetLimit(payWorkers)
		for _, d := range batch {
			g.Go(func() error { return p.pay(d) })
		}
		err := g.Wait()
		signal(p.paid)
		if err != nil || len(batch) == 0 || p.node.debts.Len() >= before {
			return
		}
	}
}

// pay replays one debt. Its stamps move after Redis confirmed and before it
// leaves the journal: a read that began while it was owed keeps nothing.
func (p *payer) pay(d journal.Debt) error {
	n := p.node
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Timeout)
	defer cancel()
	s := n.space(d.Cache)
	switch d.Scope {
	case journal.Key:
		key := n.redisKey(d.Cache, d.Name)
		if !n.store.Available(key) {
			return l2.ErrUnavailable
		}
		if mutant.On(mutant.NotBeforeIgnored) {
			d.NotBefore = 0
		}
		if mutant.On(mutant.ReplayUnversioned) {
			d.Version = 0
		}
		opt := l2.DeleteOptions{NotBefore: d.NotBefore, Version: d.Version}
		if s != nil {
			opt.Tombstone = s.tombstone()
		}
		res, err := n.deleteKey(ctx, d.Cache, d.Name, opt)
		if err != nil || res.Early > 0 {
			return err
		}
		if s != nil {
			s.invalidate(d.Name)
		}
	case journal.Prefix:
		nt, err := n.member.compose(invalidation.Message{Kind: invalidation.KindPrefix, Cache: d.Cache, Keys: []string{d.Name}})
		if err != nil {
			return err
		}
		_, err = n.removePrefix(n.ctx, d.Cache, d.Name, nt.bytes)
		n.member.settle(nt, err == nil)
		if err != nil {
			return err
		}
		if s != nil {
			s.invalidatePrefix(d.Name)
		}
	case journal.Tag:
		if err := n.payTag(ctx, d.Name); err != nil {
			return err
		}
	case journal.Clear:
		if err := n.raiseCache(ctx, d.Cache, s); err != nil {
			return err
		}
	}
	n.debts.Pay(d)
	return nil
}

// deleteKey deletes one key in Redis and tells the other nodes.
func (n *Node) deleteKey(ctx context.Context, cache, key string, opt l2.DeleteOptions) (l2.DeleteResult, error) {
	nt, err := n.member.compose(invalidation.Message{Kind: invalidation.KindKeys, Cache: cache, Keys: []string{key}, Version: opt.Version})
	if err != nil {
		return l2.DeleteResult{}, err
	}
	res, err := n.store.Delete(ctx, n.redisKey(cache, key), opt, nt.bytes)
	// A replay that came too early published nothing.
	n.member.settle(nt, err == nil && res.Early == 0)
	return res, err
}

// drain waits until nothing is owed.
func (p *payer) drain(ctx context.Context) error {
	for {
		left := p.node.debts.Len()
		if left == 0 {
			return nil
		}
		p.wake()
		select {
		case <-p.paid:
		case <-p.node.ctx.Done():
			return fmt.Errorf("tier: %d invalidations still owed: %w", left, ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("tier: %d invalidations still owed: %w", left, context.Cause(ctx))
		}
	}
}
