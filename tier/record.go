package tier

import (
	"context"
	"errors"
	"fmt"
	"math"
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
	payload  []byte        // the value in record
	redisTTL time.Duration // 0: none
	entry    *l1.Entry[T]
	bytes    int64 // size of the entry's value
}

// making is what a record and its entry are made of.
type making[T any] struct {
	key      string
	value    T
	negative bool   // there is no value, which is what the record says
	payload  []byte // the value as it is encoded already, if it is
	ttl      time.Duration
	version  uint64        // the cache's, as it was known before the value was read from its source
	source   uint64        // the value's in its source, 0: none
	took     time.Duration // of the load
	tags     []seenTag     // as they were before the value was read from its source
}

// encode makes the record of m, for both tiers. The error is the codec's,
// ErrTooLarge, or l2.ErrUnavailable where the clock that the record's times stand
// in cannot be had.
func (c *Cache[T]) encode(ctx context.Context, m making[T]) (*encoded[T], error) {
	key, ttl := m.key, m.ttl
	w := &encoded[T]{redisKey: c.redisKey(key)}
	rec := l2.Record{
		Kind: l2.KindValue, Version: l2.NewVersion(), Source: m.source,
		Schema: c.schema, CacheVersion: m.version, Load: m.took, Tags: stamps(m.tags),
	}
	room := c.node.scratches.take()
	defer c.node.scratches.give(room)
	if m.negative {
		rec.Kind = l2.KindNegative
	} else {
		payload, err := c.payloadOf(m, w.redisKey, room)
		if err != nil {
			return nil, err
		}
		rec.Payload = payload
		if c.opts.Cost != nil {
			rec.Cost = max(c.opts.Cost(m.value), 0)
		}
	}
	now, err := c.node.store.Clock(ctx, w.redisKey)
	if err != nil {
		return nil, fmt.Errorf("tier: cache %q: clock for %.80q: %w", c.name, key, err)
	}
	rec.StoredAt = now
	l := life{math.MaxInt64, math.MaxInt64}
	if ttl != NoExpiry {
		rec.FreshUntil = now + ttl.Microseconds()
		w.redisTTL = ttl
		if c.opts.StaleFor > 0 && !m.negative {
			w.redisTTL += c.opts.StaleFor
			rec.StaleUntil = now + w.redisTTL.Microseconds()
		}
		l = life{int64(ttl), int64(w.redisTTL)}
	}
	w.record = rec.Append(make([]byte, 0, rec.Size()), w.redisKey)

	mono := c.node.clock.Now()
	v := m.value
	if c.opts.Clone != nil && !m.negative {
		v = c.opts.Clone(v)
	}
	w.entry = newEntry(key, v, m.negative)
	w.entry.Record, w.entry.StoredAt, w.entry.TTL = rec.Version, mono, ttl
	w.entry.SetTags(ties(m.tags))
	c.limit(w.entry, mono, l)
	w.payload = w.record[len(w.record)-len(rec.Payload):] // its end
	w.bytes = c.bytesOf(w.entry, len(rec.Payload))
	return w, nil
}

// payloadOf encodes the value of m, if it is not encoded yet, and into room if that
// suffices.
func (c *Cache[T]) payloadOf(m making[T], redisKey string, room *scratch) ([]byte, error) {
	if m.payload != nil {
		return m.payload, nil
	}
	payload, err := codec.AppendFor(c.opts.Codec, room.bytes, redisKey, m.value)
	if errors.Is(err, codec.ErrTooLarge) {
		return nil, fmt.Errorf("%w: cache %q: value of %.80q: %w", ErrTooLarge, c.name, m.key, err)
	}
	if err != nil {
		return nil, fmt.Errorf("tier: cache %q: value of %.80q does not encode: %w", c.name, m.key, err)
	}
	if len(payload) > c.opts.MaxValueBytes {
		return nil, fmt.Errorf("%w: cache %q: value of %.80q has %d bytes, the limit is %d", ErrTooLarge, c.name, m.key, len(payload), c.opts.MaxValueBytes)
	}
	room.want(len(payload))
	return payload, nil
}

// bytesOf is what an entry's value counts against Local.MaxBytes: what the
// application says, else the value itself and what it points to, for which the
// encoded size stands.
func (c *Cache[T]) bytesOf(e *l1.Entry[T], encodedBytes int) int64 {
	if e.Negative() {
		return 0
	}
	if c.opts.Cost != nil {
		return max(c.opts.Cost(e.Value), 0)
	}
	return int64(unsafe.Sizeof(e.Value)) + int64(encodedBytes)
}
