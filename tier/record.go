package tier

import (
	"fmt"
	"time"
	"unsafe"

	"github.com/tandemcache/tandem/codec"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
)

// encoded is an entry made ready for both tiers.
type encoded[T any] struct {
	redisKey string
	record   []byte
	redisTTL time.Duration // 0: none
	entry    *l1.Entry[T]
	bytes    int64 // size of the entry's value
}

// encode makes the record of e. version is the cache's version as it was known
// before the value was read from its source.
func (c *Cache[T]) encode(key string, e *l1.Entry[T], ttl time.Duration, version uint64, took time.Duration) (*encoded[T], error) {
	w := &encoded[T]{redisKey: c.redisKey(key)}
	rec := l2.Record{
		Kind: l2.KindValue, Version: l2.NewVersion(), Schema: c.schema, CacheVersion: version, Load: took,
	}
	if e.Negative {
		rec.Kind = l2.KindNegative
	} else {
		payload, err := codec.AppendFor(c.opts.Codec, nil, w.redisKey, e.Value)
		if err != nil {
			return nil, fmt.Errorf("tier: cache %q: value of %.80q does not encode: %w", c.name, key, err)
		}
		if len(payload) > c.opts.MaxValueBytes {
			c.counts.tooLarge.Add(1)
			return nil, fmt.Errorf("%w: cache %q: value of %.80q has %d bytes, the limit is %d", ErrTooLarge, c.name, key, len(payload), c.opts.MaxValueBytes)
		}
		rec.Payload = payload
		if c.opts.Cost != nil {
			rec.Cost = max(c.opts.Cost(e.Value), 0)
		}
	}
	now := c.node.store.Now(w.redisKey)
	rec.StoredAt = now
	left := int64(1<<63 - 1)
	if ttl != NoExpiry {
		rec.FreshUntil = now + ttl.Microseconds()
		w.redisTTL = ttl
		left = int64(ttl)
	}
	w.record = rec.Append(make([]byte, 0, rec.Size()), w.redisKey)

	mono := c.node.clock.Now()
	w.entry = &l1.Entry[T]{
		Key: key, Value: e.Value, Negative: e.Negative, Record: rec.Version, StoredAt: mono, TTL: ttl,
	}
	if c.opts.Clone != nil && !e.Negative {
		w.entry.Value = c.opts.Clone(e.Value)
	}
	c.limit(w.entry, mono, left)
	w.bytes = c.bytesOf(w.entry, len(rec.Payload))
	return w, nil
}

// bytesOf is what an entry's value counts against Local.MaxBytes: what the
// application says, else the value itself and what it points to, for which the
// encoded size stands.
func (c *Cache[T]) bytesOf(e *l1.Entry[T], encodedBytes int) int64 {
	if e.Negative {
		return 0
	}
	if c.opts.Cost != nil {
		return max(c.opts.Cost(e.Value), 0)
	}
	return int64(unsafe.Sizeof(e.Value)) + int64(encodedBytes)
}
