package tier

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

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
	if d.Scope == journal.Clear {
		n.guard.forget(d.Cache) // no other node's clear settles this one
	}
	n.record(d)
	n.log.Debug("tier: invalidation owed", "cache", d.Cache, "name", d.Name, "cause", cause)
	n.payer.incurred()
}

// record puts a debt into the journal, and voids what that folds into clears.
//
// REQUIRES: as for owe.
func (n *Node) record(d journal.Debt) { n.fold(n.debts.Owe(d, time.Now())) }

// fold voids what is owed whole from now on because there was no room for its
// single debts: caches, the empty name for all.
func (n *Node) fold(caches []string) {
	for _, name := range caches {
		n.log.Warn("tier: too many owed invalidations, a cache will be cleared", "cache", name, "limit", n.cfg.MaxPending)
		if name == "" {
			n.eachSpace(func(s space) { s.invalidatePrefix("") })
			n.tags.moveAll()
		} else if s := n.space(name); s != nil {
			s.invalidatePrefix("")
		}
	}
}

// unconfirmedErr is what a change returns that was made here and is owed to Redis.
func (n *Node) unconfirmedErr(op, cache, name string, cause error) error {
	if !n.cfg.Strict {
		return nil
	}
	return fmt.Errorf("%w: %s %s %.80q is owed: %w", ErrUnavailable, op, cache, name, cause)
}

// debtKey is the key on whose server a debt depends, empty if it is on all.
func (n *Node) debtKey(d *journal.Debt) string {
	switch d.Scope {
	case journal.Key:
		return n.redisKey(d.Cache, d.Name)
	case journal.Tag:
		if d.Name != everyTag {
			return n.bookKey(bookOf(d.Name))
		}
	case journal.Clear:
		return n.markerKey(d.Cache)
	}
	return ""
}

// pay replays one debt. Its stamps move after Redis confirmed and before it
// leaves the journal: a read that began while it was owed keeps nothing. False
// without an error: its time has not come, or it was owed anew meanwhile.
func (p *payer) pay(d journal.Debt) (paid bool, err error) {
	n := p.node
	ctx, cancel := context.WithTimeout(n.ctx, n.cfg.Timeout)
	defer cancel()
	s := n.space(d.Cache)
	switch d.Scope {
	case journal.Key:
		res, err := n.deleteKey(ctx, d.Cache, d.Name, n.replay(&d, s))
		if err != nil || res.Early > 0 {
			return false, err
		}
		if s != nil {
			s.invalidate(d.Name)
		}
	case journal.Prefix:
		nt, err := n.member.compose(invalidation.Message{Kind: invalidation.KindPrefix, Cache: d.Cache, Keys: []string{d.Name}})
		if err != nil {
			return false, err
		}
		_, err = n.removePrefix(n.ctx, d.Cache, d.Name, nt.bytes)
		n.member.settle(nt, err == nil)
		if err != nil {
			return false, err
		}
		if s != nil {
			s.invalidatePrefix(d.Name)
		}
	case journal.Tag:
		if err := n.payTag(ctx, d.Name); err != nil {
			return false, err
		}
	case journal.Clear:
		if err := n.guard.clear(ctx, d.Cache, s); err != nil {
			return false, err
		}
	case journal.All:
		if err := n.raiseAll(n.ctx); err != nil {
			return false, err
		}
	}
	return n.debts.Pay(d), nil
}

// replayGrace is how long after the last failure a replay waits, at most, for the
// deadline of a store that may still run, beyond the time of two calls.
const replayGrace = 2 * time.Second

// replay is how the deletion of a key is replayed. s may be nil.
//
// The deadline of a store that timed out is a time in the clock of its server,
// which passes within two Timeouts of ours. If it has not by then, another server
// answers, with another clock: there the store cannot run any more.
func (n *Node) replay(d *journal.Debt, s space) l2.DeleteOptions {
	opt := l2.DeleteOptions{NotBefore: d.NotBefore, Version: d.Version}
	if mutant.On(mutant.ReplayUnversioned) {
		opt.Version = 0
	}
	if time.Since(d.Last) > 2*n.cfg.Timeout+replayGrace || mutant.On(mutant.NotBeforeIgnored) {
		opt.NotBefore = 0
	}
	if s != nil {
		opt.Hold, opt.Tombstone = s.hold(), s.tombstone()
	}
	return opt
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
