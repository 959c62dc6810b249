package tier

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

// deleteWorkers is how many keys of one Delete are on their way at once.
const deleteWorkers = 32

// Set stores value under key for ttl: in L2 by one atomic step that also tells
// the other nodes to drop theirs, and then in L1. ttl 0 is the cache's default,
// NoExpiry never ends, any other ttl below zero deletes the key, and below 1 ms
// is an error. One round trip, and one more for tags that this node has not met.
//
// The value can be invalidated by its tags as well as by its key: by those given
// and those of Options.Tags, at most 64 together, which keep to the rules for
// keys. See [Node.InvalidateTags].
//
// When Set returns, reads on this node see value or something newer
// (ReadYourWrites), and no load begun before stores its result (NoStaleFill).
//
// Set is last-writer-wins in the order of Redis, which need not be the order
// of the database: of two processes that write the database and then Set, the
// older value may win. It is for values that have no other home, or one writer.
// Beside a database use [Cache.Update], [Cache.SetVersioned], or [Cache.Delete]
// after the commit; the package comment compares them.
//
// If Redis does not confirm, the key is owed: a deletion of it is replayed
// until confirmed, and until then this node serves the key from neither tier
// (NothingForgotten). Set then returns nil, or ErrUnavailable if Config.Strict.
// ErrTooLarge, an encoding error: nothing is stored and the key is deleted,
// because what it holds is older than value. ErrKey (of the key, or of a tag, which
// it names), ErrClosed: nothing is done. A ctx that ends does not stop a change: what the application has
// decided to invalidate must not depend on a request that was abandoned.
func (c *Cache[T]) Set(ctx context.Context, key string, value T, ttl time.Duration, tags ...string) error {
	ttl, err := c.ttlOf(ttl)
	if err != nil {
		return err
	}
	if ttl < 0 && ttl != NoExpiry {
		return c.Delete(ctx, key)
	}
	return c.set(ctx, making[T]{key: key, value: value, ttl: ttl}, tags)
}

// set is Set and SetVersioned: m lacks what is known of the cache and the tags.
func (c *Cache[T]) set(ctx context.Context, m making[T], tags []string) error {
	if err := checkKey(c.name, m.key); err != nil {
		return err
	}
	tags, err := c.tagsOf(m.key, m.value, tags)
	if err != nil {
		return err
	}
	if err := c.node.enter(); err != nil {
		return err
	}
	defer c.node.leave()
	ctx, cancel := c.node.detached(ctx)
	defer cancel()

	h := c.hash(m.key)
	begun := c.fence.Begin(h)
	if m.version, m.tags, err = c.writeMarks(ctx, tags); err != nil {
		return c.oweSet(m, 0, err)
	}
	m.ttl = c.jittered(m.ttl)
	w, err := c.encode(ctx, m)
	switch {
	case errors.Is(err, l2.ErrUnavailable):
		return c.oweSet(m, 0, err)
	case err != nil:
		return errors.Join(err, c.deleteOne(ctx, m.key, m.source))
	}
	res, err := c.store(ctx, m, w)
	if err != nil {
		return c.oweSet(m, res.Deadline, err)
	}
	if st := c.confirm(h, begun); res.Stored && !c.node.owesAny(m.tags) {
		c.keep(h, w.entry, w.bytes, st)
	}
	return nil
}

// currentVersion returns the cache's version for a write: from memory while
// the bus is heard, else from Redis.
func (c *Cache[T]) currentVersion(ctx context.Context) (uint64, error) {
	if known := c.cell.get(); known != 0 && c.node.member.hears() {
		return known, nil
	}
	return c.learnVersion(ctx)
}

// store is the Set of the store. What Redis refuses (full, read-only, too
// late) leaves the old value there, so the key is deleted at once.
func (c *Cache[T]) store(ctx context.Context, m making[T], w *encoded[T]) (l2.SetResult, error) {
	nt, err := c.node.member.compose(invalidation.Message{
		Kind: invalidation.KindKeys, Cache: c.name, Keys: []string{m.key}, Version: m.source,
	})
	if err != nil {
		return l2.SetResult{}, err
	}
	set := c.node.store.Set
	if m.source != 0 {
		set = c.node.store.SetVersioned
	}
	res, err := set(ctx, w.redisKey, w.record, w.redisTTL, nt.bytes)
	c.node.member.settle(nt, err == nil)
	if errors.Is(err, l2.ErrRefused) && !mutant.On(mutant.RefusedStays) {
		opt := l2.DeleteOptions{Version: m.source, Tombstone: c.tombstone()}
		if _, err := c.node.deleteKey(ctx, c.name, m.key, opt); err != nil {
			return l2.SetResult{Deadline: res.Deadline}, err
		}
		return l2.SetResult{}, nil
	}
	return res, err
}

// oweSet is the end of a Set that Redis did not confirm. The debt comes before
// the stamp moves: a read that took its stamp before the move keeps nothing,
// and one that takes it later sees the debt.
func (c *Cache[T]) oweSet(m making[T], deadline int64, cause error) error {
	c.node.owe(journal.Debt{Scope: journal.Key, Cache: c.name, Name: m.key, Version: m.source, NotBefore: deadline}, cause)
	c.invalidate(m.key)
	return c.node.unconfirmedErr("set", c.name, m.key, cause)
}

// detached returns the context of a change: its values are the caller's, its
// end is not.
func (n *Node) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ends := ctx.Deadline(); ends || ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	return n.ends.With(ctx, time.Now(), 2*n.cfg.Timeout)
}

// Delete removes keys from both tiers on every node: each in L2 by one atomic
// step that also tells the other nodes, one round trip, several keys at once.
// Call it after the database has committed. A process that dies between the
// commit and Delete never makes it, and the old value stays until its TTL:
// [Cache.Update] has no such gap.
//
// When Delete returns, no read on this node returns what was stored or loaded
// before it (ReadYourWrites); other nodes stop serving it when the message
// arrives, and at the latest Δ after (BoundedStaleness); and no load begun
// before, on any node, stores its result (NoStaleFill). With Options.Hold no
// load stores anything for that long.
//
// What Redis does not confirm is owed, see Set: Delete returns nil, or
// ErrUnavailable if Config.Strict. An invalid key is ErrKey, the others are
// deleted all the same. ErrClosed: nothing is done. A ctx that ends does not
// stop a delete.
func (c *Cache[T]) Delete(ctx context.Context, keys ...string) error {
	return c.eachKey(ctx, keys, func(ctx context.Context, key string) error { return c.deleteOne(ctx, key, 0) })
}

// eachKey runs a change of one key for each of keys, several at once.
func (c *Cache[T]) eachKey(ctx context.Context, keys []string, change func(context.Context, string) error) error {
	if err := c.node.enter(); err != nil {
		return err
	}
	defer c.node.leave()
	one := func(key string) error {
		if err := checkKey(c.name, key); err != nil {
			return err
		}
		ctx, cancel := c.node.detached(ctx)
		defer cancel()
		return change(ctx, key)
	}
	if len(keys) == 1 {
		return one(keys[0])
	}
	errs := make([]error, len(keys))
	var g errgroup.Group
	g.SetLimit(deleteWorkers)
	for i, key := range keys {
		g.Go(func() error {
			errs[i] = one(key)
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}

// deleteOne deletes a key, up to a source version if it is not 0.
func (c *Cache[T]) deleteOne(ctx context.Context, key string, source uint64) error {
	h := c.hash(key)
	c.fence.Move(h)
	opt := l2.DeleteOptions{Hold: c.opts.Hold, Version: source, Tombstone: c.tombstone()}
	_, err := c.node.deleteKey(ctx, c.name, key, opt)
	if err != nil {
		c.node.owe(journal.Debt{Scope: journal.Key, Cache: c.name, Name: key, Version: source}, err)
		err = c.node.unconfirmedErr("delete", c.name, key, err)
	}
	if !mutant.On(mutant.NoEndBump) {
		c.invalidate(key)
	}
	return err
}

// DeletePrefix deletes the key that is prefix and every key below it: "1"
// takes 1 and 1:*, never 10. Glob characters are literal, a trailing ':' is
// accepted, and the empty prefix is everything in the cache ([Cache.Clear] does
// that in one step). It returns how many values it removed from Redis.
//
// Redis is scanned with a cursor on every master and never blocked; keys that
// appear during the scan may stay. What was stored before is gone from L1 here
// when DeletePrefix returns, and elsewhere when the message arrives, which is
// sent after the last key is gone. Loads begun before store nothing.
//
// When Redis does not confirm, the prefix is owed, see Set: the result is 0
// and nil, or ErrUnavailable if Config.Strict; so it is when ctx ends the scan.
// Errors: ErrKey, ErrClosed.
func (c *Cache[T]) DeletePrefix(ctx context.Context, prefix string) (int, error) {
	if prefix != "" {
		prefix = strings.TrimSuffix(prefix, ":")
		if err := checkKey(c.name, prefix); err != nil {
			return 0, fmt.Errorf("prefix: %w", err)
		}
	}
	if err := c.node.enter(); err != nil {
		return 0, err
	}
	defer c.node.leave()
	return c.node.deletePrefix(ctx, c.name, prefix)
}

// Clear voids everything in the cache, in one round trip however much that is:
// it raises the cache's version, and records of an older one are misses that
// end with their TTL. Promises and errors are those of Delete.
func (c *Cache[T]) Clear(ctx context.Context) error {
	if err := c.node.enter(); err != nil {
		return err
	}
	defer c.node.leave()
	ctx, cancel := c.node.detached(ctx)
	defer cancel()
	c.fence.Void()
	err := c.node.raiseCache(ctx, c.name, c)
	if err != nil {
		c.node.owe(journal.Debt{Scope: journal.Clear, Cache: c.name}, err)
		err = c.node.unconfirmedErr("clear", c.name, "", err)
	}
	if !mutant.On(mutant.NoEndBump) {
		c.fence.Void()
	}
	return err
}
