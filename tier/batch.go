package tier

import (
	"context"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
)

const (
	// batchKeys is how many keys of a batch are under way at once. It bounds the
	// memory of a batch and the length of a pipeline.
	batchKeys = 500
	// batchBytes bounds what one pipeline of a batch stores.
	batchBytes = 4 << 20
)

// item is one key of a batch.
type item[T any] struct {
	key  string
	hash uint64
	old  *l1.Entry[T] // what L1 holds, if it may still be compared with
	r    reading[T]   // the latest look

	counted bool // as a hit or a miss
}

// GetMany returns the values of those of keys that have one, as [Cache.Get] does
// for each: what is missing in the result is what Get would say false to. Equal
// keys count once; invalid ones are left out.
//
// Keys that L1 does not hold are read from L2, 500 at a time in one round trip,
// on a cluster one to each master at once. While Redis does not answer, L1 serves
// as it does with Get, and what is left of the batch is not asked for. The map is
// the caller's; its values are shared as those of Get are. If ctx ends, what was
// found so far is returned.
func (c *Cache[T]) GetMany(ctx context.Context, keys []string) map[string]T {
	out := make(map[string]T, len(keys))
	items, _ := c.localMany(keys, out, nil)
	away := false
	for len(items) > 0 && ctx.Err() == nil {
		n := min(len(items), batchKeys)
		if !away {
			if c.node.enter() != nil {
				return out
			}
			c.lookMany(ctx, items[:n], c.budget())
			c.node.leave()
		}
		away = c.findMany(ctx, items[:n], out, away)
		items = items[n:]
	}
	return out
}

// localMany takes from L1 what it may serve, and returns the rest of keys, each
// once. refreshed is called for hits that are due to be loaded anew. The error
// names the first invalid key.
func (c *Cache[T]) localMany(keys []string, out map[string]T, refreshed func(*item[T], *l1.Entry[T])) ([]*item[T], error) {
	var invalid error
	items := make([]*item[T], 0, len(keys))
	met := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		if _, twice := met[key]; twice {
			continue
		}
		met[key] = struct{}{}
		if err := checkKey(c.name, key); err != nil {
			if invalid == nil {
				invalid = err
			}
			continue
		}
		it := &item[T]{key: key, hash: c.hash(key)}
		e, state := c.local.Get(it.hash, key, c.node.member.heardUntil.Load())
		if !state.Fresh() {
			it.old = e
			items = append(items, it)
			continue
		}
		c.take(key, e, out)
		if state == l1.Due && refreshed != nil {
			refreshed(it, e)
		}
	}
	return items, invalid
}

// take puts an entry's value into out, if it has one.
func (c *Cache[T]) take(key string, e *l1.Entry[T], out map[string]T) {
	if v, ok := c.give(e); ok {
		out[key] = v
	}
}

// findMany takes what lookMany found. away says that Redis was not asked; it
// returns whether none of the keys could be read, so that asking for more is of
// no use.
func (c *Cache[T]) findMany(ctx context.Context, items []*item[T], out map[string]T, away bool) bool {
	lost := 0
	for _, it := range items {
		switch {
		case !away && it.r.outcome == hit:
			c.counts.hitsL2.Add(1)
			c.take(it.key, it.r.entry, out)
			continue
		case away || it.r.outcome == down:
			lost++
			if e := c.usable(ctx, it.hash, it.old); e != nil {
				c.take(it.key, e, out)
				continue
			}
		}
		c.counts.misses.Add(1)
	}
	return lost == len(items)
}

// lookMany is look for many keys, at most batchKeys, in one round trip.
func (c *Cache[T]) lookMany(ctx context.Context, items []*item[T], b *budget) {
	const tries = 3
	for range tries {
		stamps := make([]fence.Stamp, len(items))
		seq := c.node.tags.seq.Load()
		for i, it := range items {
			stamps[i] = c.fence.Stamp(it.hash)
		}
		c.lookManyOnce(ctx, items, b)
		var again []*item[T]
		for i, it := range items {
			it.r.stamp, it.r.seq = stamps[i], seq
			switch {
			case it.r.outcome == owed || it.r.outcome == down:
			case !c.fence.Trusted(stamps[i]):
				again = append(again, it)
			case it.r.outcome == hit:
				c.keep(it.hash, it.r.entry, it.r.bytes, stamps[i])
			case it.r.stale != nil:
				c.keepStale(it.hash, it.r.stale, it.r.bytes, stamps[i], it.old)
			}
		}
		if items = again; len(items) == 0 {
			return
		}
	}
	for _, it := range items {
		it.r = c.unread(it.hash)
	}
}

func (c *Cache[T]) lookManyOnce(ctx context.Context, items []*item[T], b *budget) {
	asked := make([]*item[T], 0, len(items))
	keys := make([]string, 0, len(items))
	for _, it := range items {
		if c.node.owes(c.name, it.key) {
			it.r = reading[T]{outcome: owed}
			continue
		}
		asked, keys = append(asked, it), append(keys, c.redisKey(it.key))
	}
	if len(asked) == 0 {
		return
	}
	ctx, cancel, ok := b.begin(ctx)
	if !ok {
		for _, it := range asked {
			it.r = reading[T]{outcome: down, err: context.DeadlineExceeded}
		}
		return
	}
	begun := time.Now()
	defer b.end(begun, cancel)
	along := c.askAlong(oldTags(asked))
	replies, version := c.fetchMany(ctx, keys, along)
	limited, stop := context.WithTimeout(ctx, b.left-time.Since(begun))
	defer stop()
	tags, err := c.tagsOfReplies(limited, replies, version, along)
	for i, it := range asked {
		it.r = c.readOne(it, keys[i], &replies[i], version, tags, err)
	}
}

// fetchMany is fetch for many keys. Version 0 is not known.
func (c *Cache[T]) fetchMany(ctx context.Context, keys []string, along *tagQuery) ([]l2.Read, uint64) {
	known := c.cell.get()
	if known == 0 || !c.node.member.hears() {
		known = 0
	}
	marks := l2.Marks{Books: along.reads()}
	var ticket, floor uint64
	if known == 0 {
		marks.Marker = c.node.markerKey(c.name)
		ticket, floor = c.cell.begin()
	}
	replies, marked := c.node.store.ReadMany(ctx, keys, c.payloadLimit(), marks)
	c.tookAlong(ctx, along, marked.Books)
	switch {
	case known == 0 && marked.Err != nil:
		return replies, 0
	case known == 0 && marked.Version == 0:
		known, _ = c.learnVersion(ctx)
	case known == 0:
		known = c.tookVersion(ticket, floor, marked.Version)
	default:
		for i := range replies {
			if replies[i].Err == nil && replies[i].Record.CacheVersion > known {
				known, _ = c.learnVersion(ctx) // see fetch
				break
			}
		}
	}
	return replies, known
}

// tagsOfReplies returns the versions now of all tags in replies.
func (c *Cache[T]) tagsOfReplies(ctx context.Context, replies []l2.Read, version uint64, along *tagQuery) (map[string]seenTag, error) {
	tags := make(map[string]seenTag)
	var names []string
	for i := range replies {
		rec := &replies[i].Record
		if replies[i].Err != nil || rec.CacheVersion != version || !validTags(rec.Tags) {
			continue
		}
		for _, t := range rec.Tags {
			if _, met := tags[t.Name]; !met {
				tags[t.Name] = seenTag{}
				names = append(names, t.Name)
			}
		}
	}
	seen, err := c.node.tagsNow(ctx, names, along)
	for _, s := range seen {
		tags[s.Name] = s
	}
	return tags, err
}

// readOne judges one reply. tagsErr is why tags could not be read.
func (c *Cache[T]) readOne(it *item[T], key string, reply *l2.Read, version uint64, tags map[string]seenTag, tagsErr error) reading[T] {
	switch {
	case reply.Err != nil:
		return reading[T]{outcome: down, err: reply.Err}
	case version == 0:
		return reading[T]{outcome: blind}
	}
	rec := &reply.Record
	r := reading[T]{outcome: missed, version: version, seen: reply.Seen()}
	var held []seenTag
	if len(rec.Tags) > 0 && rec.CacheVersion == version {
		switch {
		case !validTags(rec.Tags):
			c.counts.decodeErrors.Add(1)
			return r
		case tagsErr != nil:
			return reading[T]{outcome: blind}
		}
		held = make([]seenTag, len(rec.Tags))
		for i, t := range rec.Tags {
			held[i] = tags[t.Name]
		}
		r.tags = held
		if r.outcome = c.node.compareTags(rec, held); r.outcome != hit {
			return r
		}
	}
	return c.conclude(r, it.key, key, &reply.Reply, it.old, held)
}

// oldTags returns the tags of what L1 holds of items.
func oldTags[T any](items []*item[T]) []string {
	var names []string
	met := make(map[string]struct{})
	for _, it := range items {
		if it.old == nil {
			continue
		}
		for _, tag := range it.old.Tags() {
			name := tag.Name
			if _, twice := met[name]; !twice {
				met[name] = struct{}{}
				names = append(names, name)
			}
		}
	}
	return names
}
