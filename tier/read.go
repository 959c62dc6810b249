package tier

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/tandemcache/tandem/codec"
	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

// outcome is what a look at L2 came to.
type outcome uint8

const (
	missed outcome = iota // nothing fresh there: load, and store under a lease
	hit                   // entry holds a value, or the fact that there is none
	owed                  // an invalidation is owed: load, store nothing
	down                  // Redis did not answer: fall back, or load and store nothing
	blind                 // what was read cannot be trusted: load, store nothing
)

// reading is what a look at L2 found.
type reading[T any] struct {
	outcome outcome
	stamp   fence.Stamp // taken before the look
	seq     uint64      // of the node's tags, taken before the look
	entry   *l1.Entry[T]
	stale   *l1.Entry[T] // instead of entry: a value that only age or Expire has ended
	bytes   int64        // size of the value
	payload []byte       // the value as it is stored
	seen    l2.Seen      // what a lease depends on
	version uint64       // the cache's version that a fill stores
	tags    []seenTag    // versions of tags that were found on the way
	err     error        // why it is down
}

// budget is the Redis time that one read may still spend.
type budget struct {
	left time.Duration
	used bool
}

// begin returns the context of the next call, false when nothing is left. The
// first call needs no deadline of its own: the store's is the whole budget.
func (b *budget) begin(ctx context.Context) (context.Context, context.CancelFunc, bool) {
	if b.left <= 0 {
		return nil, nil, false
	}
	if !b.used {
		b.used = true
		return ctx, func() {}, true
	}
	ctx, cancel := context.WithTimeout(ctx, b.left)
	return ctx, cancel, true
}

// spend is begin for calls that are made in any case, and fail when nothing is
// left. done must be called after them.
func (b *budget) spend(ctx context.Context) (limited context.Context, done func()) {
	b.used = true
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, b.left)
	return ctx, func() { b.end(begun, cancel) }
}

func (b *budget) end(begun time.Time, cancel context.CancelFunc) {
	cancel()
	b.left -= time.Since(begun)
}

// look reads key from L2 and, on a hit, puts it into L1. old is the entry that
// L1 held, if it may still be compared with.
//
// The stamp is taken before anything else: whatever is invalidated from here
// on makes the entry invalid, although it enters L1 later. When an epoch moved
// before the reply came, the reply may be older than what this node was told
// to trust, and is asked for again.
func (c *Cache[T]) look(ctx context.Context, key string, h uint64, b *budget, old *l1.Entry[T]) reading[T] {
	const tries = 3
	for range tries {
		st, seq := c.fence.Stamp(h), c.node.tags.seq.Load()
		r := c.lookOnce(ctx, key, b, old)
		if mutant.On(mutant.StampAfterRead) {
			st = c.fence.Stamp(h)
		}
		r.stamp, r.seq = st, seq
		if r.outcome == owed || r.outcome == down {
			return r
		}
		if !c.fence.Trusted(st) && !mutant.On(mutant.NoReplyCheck) {
			continue
		}
		switch {
		case r.outcome == hit:
			c.keep(h, r.entry, r.bytes, st)
		case r.stale != nil:
			c.keepStale(h, r.stale, r.bytes, st, old)
		}
		return r
	}
	return c.unread(h)
}

// unread is the end of looks whose replies cannot be trusted. What is loaded
// after it may be shared by those who come before the next change.
func (c *Cache[T]) unread(h uint64) reading[T] {
	return reading[T]{outcome: blind, stamp: c.fence.Stamp(h), seq: c.node.tags.seq.Load()}
}

func (c *Cache[T]) lookOnce(ctx context.Context, key string, b *budget, old *l1.Entry[T]) reading[T] {
	if c.node.owes(c.name, key) {
		return reading[T]{outcome: owed}
	}
	rkey := c.redisKey(key)
	if !c.node.store.Available(rkey) {
		return reading[T]{outcome: down, err: l2.ErrUnavailable}
	}
	ctx, cancel, ok := b.begin(ctx)
	if !ok {
		return reading[T]{outcome: down, err: context.DeadlineExceeded}
	}
	begun := time.Now()
	defer b.end(begun, cancel)

	var names []string
	if old != nil {
		names = tagNames(old.Tags())
	}
	asked := c.askAlong(names)
	reply, version, err := c.fetch(ctx, b.left, rkey, asked)
	if err != nil {
		return reading[T]{outcome: down, err: err}
	}
	if version == 0 {
		return reading[T]{outcome: blind}
	}
	r := reading[T]{outcome: missed, version: version, tags: asked.seen, seen: reply.Seen()}
	var held []seenTag
	if len(reply.Record.Tags) > 0 && reply.Record.CacheVersion == version {
		ctx, cancel := context.WithTimeout(ctx, b.left-time.Since(begun))
		defer cancel()
		r.outcome, held = c.tagsHold(ctx, &reply.Record, asked)
		if held != nil {
			r.tags = held
		}
		if r.outcome != hit {
			return r
		}
	}
	return c.conclude(r, key, rkey, &reply, old, held)
}

// conclude judges a record whose tags hold, and are held.
func (c *Cache[T]) conclude(r reading[T], key, rkey string, reply *l2.Reply, old *l1.Entry[T], held []seenTag) reading[T] {
	now := c.node.store.Now(rkey)
	if now == 0 && reply.State == l2.StateRecord {
		// Its server is not known: the slot has just moved, or the masters of
		// a cluster are being looked for. Age cannot be told.
		return reading[T]{outcome: blind}
	}
	r.outcome, r.payload = missed, reply.Record.Payload
	e, bytes, fresh := c.judge(key, rkey, reply, r.version, now, old)
	r.bytes, r.seen = bytes, reply.Seen() // after judge: it may have found the payload corrupt
	if e != nil {
		e.SetTags(ties(held))
	}
	if fresh {
		r.outcome, r.entry = hit, e
	} else {
		r.stale = e
	}
	return r
}

// fetch reads a record together with the cache's version and what asked asks
// for: from memory while the bus is heard, else along with the record. Version 0
// is not known. It takes no longer than limit.
func (c *Cache[T]) fetch(ctx context.Context, limit time.Duration, rkey string, asked *tagQuery) (l2.Reply, uint64, error) {
	size, begun := c.payloadLimit(), time.Now()
	if known := c.cell.get(); known != 0 && c.node.member.hears() && asked.done() {
		reply, err := c.node.store.Read(ctx, rkey, size)
		if err == nil && reply.Record.CacheVersion > known {
			// Somebody cleared, and the message is on its way or was lost.
			ctx, cancel := context.WithTimeout(ctx, limit-time.Since(begun))
			defer cancel()
			known, err = c.learnVersion(ctx)
		}
		return reply, known, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit) // of all calls from here on
	defer cancel()
	ticket, floor := c.cell.begin()
	reads, marked := c.node.store.ReadMany(ctx, []string{rkey}, size, l2.Marks{Marker: c.node.markerKey(c.name), Books: asked.reads()})
	c.tookAlong(ctx, asked, marked.Books)
	reply, err := reads[0].Reply, reads[0].Err
	switch {
	case err != nil:
		return reply, 0, err
	case marked.Err != nil:
		return reply, 0, nil // the record was read; without the version it is not trusted
	case marked.Version == 0:
		version, err := c.learnVersion(ctx)
		return reply, version, err
	}
	return reply, c.tookVersion(ticket, floor, marked.Version), nil
}

// learnVersion reads the cache's version, and makes it where there is none.
func (c *Cache[T]) learnVersion(ctx context.Context) (uint64, error) {
	ticket, floor := c.cell.begin()
	nt, err := c.node.member.number(invalidation.Message{Kind: invalidation.KindClear, Cache: c.name})
	if err != nil {
		return 0, err
	}
	version, err := c.node.store.Marker(ctx, c.node.markerKey(c.name), floor, nt.bytes)
	// Published only if the marker was made: nobody needs to wait for it.
	c.node.member.origin.Lost(nt.seq)
	if err != nil {
		return 0, err
	}
	return c.tookVersion(ticket, floor, version), nil
}

// tookVersion remembers a version that was read. A higher one than was known
// voids what L1 holds: its message is on its way or lost, and brings no news when
// it comes. One that went back (a failover to a server that had not heard of the
// last Clear) means that a Clear was lost: it is owed again.
func (c *Cache[T]) tookVersion(ticket, floor, version uint64) uint64 {
	if version < floor {
		c.node.owe(journal.Debt{Scope: journal.Clear, Cache: c.name}, fmt.Errorf("version %d of the cache went back to %d", floor, version))
		c.fence.Void()
	}
	use, news := c.cell.learn(ticket, version)
	if news && !mutant.On(mutant.LearnsOnly) {
		c.voidAll()
	}
	return use
}

// payloadLimit is how many bytes of payload are read: more than MaxValueBytes
// is no value of this cache, but codecs may add a little to what they encode.
func (c *Cache[T]) payloadLimit() int { return c.opts.MaxValueBytes }

// judge returns the entry that reply makes now, on the clock of Redis, nil if it
// makes none, and whether it is fresh. One that is not may serve as a fallback:
// age or Expire ended it, and nothing else.
func (c *Cache[T]) judge(key, rkey string, reply *l2.Reply, version uint64, now int64, old *l1.Entry[T]) (e *l1.Entry[T], bytes int64, fresh bool) {
	rec := &reply.Record
	switch {
	case reply.State == l2.StateAbsent:
		return nil, 0, false
	case reply.State != l2.StateRecord:
		c.counts.decodeErrors.Add(1)
		return nil, 0, false
	case !rec.Kind.HasBody(),
		rec.Schema != c.schema && !mutant.On(mutant.NoSchema),
		rec.CacheVersion != version && !mutant.On(mutant.NoVersion):
		return nil, 0, false
	}
	life := lifeOf(rec, now)
	if life.usable <= 0 {
		return nil, 0, false
	}
	e = l1.NewEntry[T](key)
	switch {
	case rec.Kind == l2.KindNegative:
		e.SetNegative()
	case old != nil && old.Record == rec.Version && !old.Negative():
		e.Value = old.Value // the same record: no need to decode it again
	default:
		if err := codec.DecodeFor(c.opts.Codec, rec.Payload, rkey, &e.Value); err != nil {
			c.counts.decodeErrors.Add(1)
			reply.State = l2.StateCorrupt
			return nil, 0, false
		}
	}
	e.Record = rec.Version
	mono := c.node.clock.Now()
	e.StoredAt = mono - (now-rec.StoredAt)*int64(time.Microsecond)
	e.TTL = NoExpiry
	if rec.FreshUntil != 0 {
		e.TTL = time.Duration(rec.FreshUntil-rec.StoredAt) * time.Microsecond
	}
	c.limit(e, mono, life)
	return e, c.bytesOf(e, len(rec.Payload)), life.fresh > 0
}

// life is how long a value may still be used, in nanoseconds: as fresh, and at
// all. math.MaxInt64 is for ever.
type life struct{ fresh, usable int64 }

// lifeOf returns the life of rec at now, on the clock of Redis. That nothing is
// there is remembered for its time and no longer: it is never a fallback.
func lifeOf(rec *l2.Record, now int64) life {
	left := func(until int64) int64 {
		if until == 0 || until-now > math.MaxInt64/int64(time.Microsecond) {
			return math.MaxInt64
		}
		return (until - now) * int64(time.Microsecond)
	}
	l := life{fresh: left(rec.FreshUntil)}
	l.usable = l.fresh
	if rec.StaleUntil != 0 {
		l.usable = left(rec.StaleUntil)
	}
	if rec.Soft {
		l.fresh = min(l.fresh, 0)
	}
	if rec.Kind == l2.KindNegative {
		l.usable = l.fresh
	}
	return l
}

// limit sets the times of an entry: it is fresh no longer than its record, nor
// than Local.TTL from now.
func (c *Cache[T]) limit(e *l1.Entry[T], mono int64, l life) {
	t := l1.Times{RefreshAt: c.refreshAt(e), FreshUntil: add(mono, l.fresh)}
	if c.opts.Local.TTL > 0 {
		t.FreshUntil = min(t.FreshUntil, add(mono, int64(c.opts.Local.TTL)))
	}
	if l.usable > l.fresh {
		t.UsableUntil = add(mono, l.usable)
	}
	e.SetTimes(t)
}

// newEntry returns an entry that has neither a stamp nor times yet.
func newEntry[T any](key string, v T, negative bool) *l1.Entry[T] {
	e := l1.NewEntry[T](key)
	if negative {
		e.SetNegative()
	} else {
		e.Value = v
	}
	return e
}

// add is a sum that stays at the end of time.
func add(mono, d int64) int64 {
	if d > math.MaxInt64-mono {
		return math.MaxInt64
	}
	return mono + d
}

// keep puts an entry into L1 if nothing was invalidated since st was taken. The
// check saves work; what decides is the stamp, at every read.
func (c *Cache[T]) keep(h uint64, e *l1.Entry[T], bytes int64, st fence.Stamp) {
	e.SetStamp(st)
	c.node.tracking.kept(h)
	if c.fence.State(h, e.Key(), st) == fence.Current {
		c.local.Put(h, e, bytes)
		return
	}
	c.node.tracking.lookLater(c, e.Key(), h)
}

// confirm is the end of a local write that began with begun: the stamp moves
// again, since what a read found while the write was under way is void. What was
// written may be kept under the stamp returned. That one does not hold if
// somebody else moved the stamp meanwhile: two writers could leave L1 and L2
// different.
func (c *Cache[T]) confirm(h uint64, begun fence.Stamp) fence.Stamp {
	if st, ok := c.fence.Confirm(h, begun); ok {
		return st
	}
	return begun
}

// keepStale puts a fallback into L1, where it is of use once Redis does not
// answer or the loader has failed, unless it is there already.
func (c *Cache[T]) keepStale(h uint64, e *l1.Entry[T], bytes int64, st fence.Stamp, old *l1.Entry[T]) {
	e.SetStamp(st)
	if old == nil || old.Record != e.Record || !tied(old.Tags()) || c.fence.State(h, e.Key(), old.Stamp()) != fence.Current {
		c.keep(h, e, bytes, st)
	}
}

// usable returns e if it may serve while Redis does not answer: not void, and
// not past its time.
//
// A look that ended with its caller's ctx says nothing of Redis, which may well
// answer: then only an entry that is fresh may serve, and e is not.
func (c *Cache[T]) usable(ctx context.Context, h uint64, e *l1.Entry[T]) *l1.Entry[T] {
	if ctx.Err() != nil || !c.lasting(h, e) || c.node.clock.Now() >= e.Times().FreshUntil {
		return nil
	}
	c.counts.staleServed.Add(1)
	return e
}
