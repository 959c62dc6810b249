package tier

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/invalidation"
)

// minTombstone is how long a deleted version is remembered at least: longer
// than a write may be on its way.
const minTombstone = time.Hour

// tombstone makes Cache a space: as long as a value of the cache lives, or
// a day where that is for ever.
func (c *Cache[T]) tombstone() time.Duration {
	if c.opts.TTL == NoExpiry {
		return TTLDay
	}
	return max(c.opts.TTL, minTombstone)
}

// SetVersioned is Set for values that carry a version of their source's own: a
// row's version number, the time of its commit, an offset in its change log. It
// stores value unless the cache knows of a higher version of key, so that writers
// may come in any order and as late as they like: what stays is the newest.
//
// With a lower version than the one known nothing is stored and nil is
// returned. The key is then empty in both tiers, because the caller has just
// shown that somebody still works with what is old; the higher version stays
// known. With an equal version value replaces what is there. The version 0
// means none, and is an error.
//
// A version is known for as long as its value stands in Redis and, once that
// was deleted, for the longer of the cache's TTL (a day with NoExpiry) and an hour
// more, or until the value's own TTL. It is lost with Clear, with an eviction by
// Redis, with the value's TTL, and when MaxPending invalidations were owed.
// Set, Update and loads store whatever version they have over it and keep it
// known: only versioned writes are compared. Versions are compared for one key.
//
// ttl, promises, errors and costs are those of [Cache.Set]; a ttl below zero other
// than NoExpiry is [Cache.DeleteVersioned]. If Redis does not confirm, the
// deletion that is owed carries the version: it deletes nothing that is newer.
func (c *Cache[T]) SetVersioned(ctx context.Context, key string, value T, version uint64, ttl time.Duration) error {
	if version == 0 {
		return c.errVersion("SetVersioned", key)
	}
	ttl, err := c.ttlOf(ttl)
	if err != nil {
		return err
	}
	if ttl < 0 && ttl != NoExpiry {
		return c.DeleteVersioned(ctx, key, version)
	}
	return c.set(ctx, making[T]{key: key, value: value, ttl: ttl, source: version}, nil)
}

// DeleteVersioned is Delete for keys written by [Cache.SetVersioned]: it deletes
// key unless what stands there has a higher version, and remembers version, so
// that a SetVersioned of a lower one that comes later stores nothing. For how
// long is said there. A value that is newer than version stays in Redis, and
// nil is returned; local tiers drop theirs in any case.
//
// The version 0 means none, and is an error. The rest is as on [Cache.Delete].
func (c *Cache[T]) DeleteVersioned(ctx context.Context, key string, version uint64) error {
	if version == 0 {
		return c.errVersion("DeleteVersioned", key)
	}
	return c.eachKey(ctx, []string{key}, func(ctx context.Context, key string) error {
		return c.deleteOne(ctx, key, version)
	})
}

func (c *Cache[T]) errVersion(op, key string) error {
	return fmt.Errorf("tier: cache %q: %s %.80q: version is 0, which means none", c.name, op, key)
}

// Expire marks the values of keys as past their time, on every node: the next
// read loads, and until that load has succeeded the old value may stand in for
// it as one that ran out may (Options.StaleFor). Use it for values that are
// merely old. What must not be seen again, Delete.
//
// When Expire returns, no read on this node returns the old value as fresh, and
// no load begun before, on any node, stores its result; the other nodes obey as
// they do a Delete. What is no record of this library is deleted.
//
// If Redis does not confirm, a deletion is owed, see [Cache.Set], and nothing
// is left to stand in. Round trips, errors and ctx are as on [Cache.Delete].
func (c *Cache[T]) Expire(ctx context.Context, keys ...string) error {
	return c.eachKey(ctx, keys, c.expireOne)
}

func (c *Cache[T]) expireOne(ctx context.Context, key string) error {
	c.fence.Move(c.hash(key))
	err := c.node.expireKey(ctx, c.name, key)
	if err != nil {
		c.node.owe(journal.Debt{Scope: journal.Key, Cache: c.name, Name: key}, err)
		err = c.node.unconfirmedErr("expire", c.name, key, err)
	}
	c.invalidate(key)
	return err
}

// expireKey expires one key in Redis and tells the other nodes.
func (n *Node) expireKey(ctx context.Context, cache, key string) error {
	nt, err := n.member.compose(invalidation.Message{Kind: invalidation.KindKeys, Cache: cache, Keys: []string{key}})
	if err != nil {
		return err
	}
	err = n.store.Expire(ctx, n.redisKey(cache, key), nt.bytes)
	n.member.settle(nt, err == nil)
	return err
}
