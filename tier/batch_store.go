package tier

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
)

// loadOnce runs the loader for keys: leased are stored, free are not. Once it has
// failed it is not run again, and all further keys get the error.
func (l *batchLoad[T]) loadOnce(ctx context.Context, leased, free []*owned[T]) {
	c := l.c
	stop := l.renew(ctx, leased)
	stored := make(map[*owned[T]]bool, len(leased))
	defer func() {
		stop()
		l.release(ctx, slices.DeleteFunc(slices.Clone(leased), func(o *owned[T]) bool { return stored[o] }))
	}()

	keys := slices.Concat(leased, free)
	if l.failed != nil {
		l.fail(keys)
		return
	}
	missing := make([]string, len(keys))
	for i, o := range keys {
		missing[i] = o.key
	}
	before := l.beforeMany(ctx, keys)
	c.counts.loads.Add(1)
	values, err := l.call(ctx, missing)
	took := time.Since(before.at)
	if err != nil && !errors.Is(err, ErrNotFound) {
		c.counts.loadErrors.Add(1)
		l.failed = err
		l.fail(keys)
		return
	}
	if err != nil {
		values = nil
	}
	stop() // a renewal must not cross a fill
	entries := make([]*l1.Entry[T], len(keys))
	for i, o := range keys {
		v, ok := values[o.key]
		entries[i] = newEntry(o.key, v, !ok)
	}
	l.store(ctx, leased, entries, before.tagsBefore, took, stored)
	for i, o := range keys {
		o.settle(entries[i], nil)
	}
	l.storeUnasked(ctx, values, missing, before)
}

func (l *batchLoad[T]) call(ctx context.Context, missing []string) (map[string]T, error) {
	limited, done := l.c.flights.Limit(ctx)
	defer done()
	values, err := l.batchCall.load(limited, missing)
	return values, l.c.inTime(limited, err)
}

func (l *batchLoad[T]) fail(keys []*owned[T]) {
	for _, o := range keys {
		o.settle(nil, l.failed)
	}
}

// manyBefore is what was known before the loader ran.
type manyBefore struct {
	tagsBefore

	epochs  fence.Stamp
	changes uint64 // of the cache
	version uint64
}

// beforeMany is beforeLoad for many keys.
func (l *batchLoad[T]) beforeMany(ctx context.Context, keys []*owned[T]) manyBefore {
	c := l.c
	met := make(map[string]bool)
	var seen []seenTag
	var names []string
	for _, o := range keys {
		for _, s := range o.r.tags {
			if !met[s.Name] {
				met[s.Name] = true
				seen = append(seen, s)
			}
		}
	}
	for _, o := range keys {
		for _, name := range c.hints.take(o.hash) {
			if !met[name] {
				met[name] = true
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		ctx, cancel := context.WithTimeout(ctx, c.node.cfg.Timeout)
		defer cancel()
		if q := c.node.queryTags(names); q.resolve(ctx) == nil {
			seen = append(seen, q.seen...)
		}
	}
	return manyBefore{
		tagsBefore: tagsBefore{seen, c.node.tags.seq.Load(), time.Now()},
		epochs:     c.fence.Stamp(0), changes: c.fence.Changes(), version: c.cell.get(),
	}
}

// store fills leased with what was loaded for them, the first of entries, and
// notes those that it filled. The entries are replaced by those that are in L1.
func (l *batchLoad[T]) store(ctx context.Context, leased []*owned[T], entries []*l1.Entry[T], before tagsBefore, took time.Duration, stored map[*owned[T]]bool) {
	c := l.c
	if len(leased) == 0 || c.node.enter() != nil {
		return
	}
	defer c.node.leave()
	ctx = context.WithoutCancel(ctx)
	tags := l.settleMany(ctx, leased, entries, before)
	var fills []l2.FillRequest
	var made []*encoded[T]
	var places []int
	bytes, away := 0, false
	flush := func() {
		ctx, cancel := context.WithTimeout(ctx, c.node.cfg.Timeout) // for each: many pipelines take their time
		defer cancel()
		away = true
		for j, res := range c.node.store.FillMany(ctx, fills) {
			i := places[j]
			away = away && res.Err != nil
			if res.Err != nil || !res.OK {
				c.counts.fillsRefused.Add(1)
				continue
			}
			o := leased[i]
			stored[o], entries[i] = true, made[j].entry
			c.keep(o.hash, made[j].entry, made[j].bytes, o.r.stamp)
		}
		fills, made, places, bytes = nil, nil, nil, 0
	}
	for i, o := range leased {
		if away || c.node.owes(c.name, o.key) {
			// Redis has answered nothing of a pipeline, and is not asked for more; or
			// what would void the lease did not reach it.
			c.counts.fillsRefused.Add(1)
			continue
		}
		w := l.encode(ctx, o, entries[i], took, tags[i])
		if w == nil {
			continue
		}
		fills = append(fills, l2.FillRequest{Held: l2.Held{Key: w.redisKey, Token: o.token}, Rec: w.record, TTL: w.redisTTL})
		made, places = append(made, w), append(places, i)
		if bytes += len(w.record); bytes >= batchBytes {
			flush()
		}
	}
	if len(fills) > 0 {
		flush()
	}
}

// settled are the tags of one value; refused: it may not be stored.
type settled struct {
	tags    []seenTag
	refused bool
}

// encode makes the record of a loaded value, nil if it is not to be stored.
func (l *batchLoad[T]) encode(ctx context.Context, o *owned[T], e *l1.Entry[T], took time.Duration, s settled) *encoded[T] {
	c := l.c
	ttl := l.ttl
	if ttl < 0 && ttl != NoExpiry {
		return nil
	}
	if e.Negative() {
		var keep bool
		if ttl, keep = c.negativeTTL(&o.r); !keep {
			return nil
		}
	}
	if s.refused {
		c.counts.fillsRefused.Add(1)
		return nil
	}
	w, err := c.encode(ctx, making[T]{
		key: o.key, value: e.Value, negative: e.Negative(), ttl: c.jittered(ttl), version: o.r.version, took: took, tags: s.tags,
	})
	if err != nil {
		c.counts.fillsRefused.Add(1)
		c.node.log.Warn("tier: loaded value not stored", "cache", c.name, "key", o.key, "error", err)
		return nil
	}
	return w
}

// settleMany is afterLoad for many keys, with one question to Redis.
func (l *batchLoad[T]) settleMany(ctx context.Context, keys []*owned[T], entries []*l1.Entry[T], before tagsBefore) []settled {
	c := l.c
	out := make([]settled, len(keys))
	if c.opts.Tags == nil {
		return out
	}
	lists := make([][]string, len(keys))
	met := make(map[string]bool)
	var names []string
	for i, o := range keys {
		if entries[i].Negative() {
			continue
		}
		var err error
		if lists[i], err = c.tagsOf(o.key, entries[i].Value, nil); err != nil {
			c.node.log.Warn("tier: loaded value not stored", "cache", c.name, "key", o.key, "error", err)
			out[i].refused = true
		}
		for _, name := range lists[i] {
			if !met[name] {
				met[name] = true
				names = append(names, name)
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.node.cfg.Timeout)
	defer cancel()
	usable := c.node.tagsUsable(ctx, names, before)
	for i, o := range keys {
		for _, name := range lists[i] {
			s, ok := usable[name]
			if !ok {
				out[i].refused = true
				c.hints.put(o.hash, lists[i])
				break
			}
			out[i].tags = append(out[i].tags, s)
		}
	}
	return out
}

// release gives back what was leased and not filled.
func (l *batchLoad[T]) release(ctx context.Context, leased []*owned[T]) {
	if len(leased) > 0 {
		l.giveBack(ctx, l.held(leased))
	}
}

func (l *batchLoad[T]) giveBack(ctx context.Context, held []l2.Held) {
	if l.c.node.enter() != nil {
		return
	}
	defer l.c.node.leave()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.c.node.cfg.Timeout)
	defer cancel()
	_ = l.c.node.store.ReleaseMany(ctx, held) // those that fail end with their time
}

func (l *batchLoad[T]) held(leased []*owned[T]) []l2.Held {
	held := make([]l2.Held, len(leased))
	for i, o := range leased {
		held[i] = l2.Held{Key: l.c.redisKey(o.key), Token: o.token}
	}
	return held
}

// renewOnce renews leases and returns those that are still to be kept.
func (l *batchLoad[T]) renewOnce(ctx context.Context, leased []*owned[T]) []*owned[T] {
	var keep, void []*owned[T]
	for _, o := range leased {
		if l.c.fence.Load(o.hash, o.key, o.r.stamp) == fence.Void {
			void = append(void, o)
		} else {
			keep = append(keep, o)
		}
	}
	l.release(ctx, void)
	if len(keep) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, l.c.node.cfg.Timeout)
	defer cancel()
	results := l.c.node.store.RenewMany(limited, l.held(keep), leaseTime)
	var still []*owned[T]
	for i, res := range results {
		if res.Err != nil || res.OK {
			still = append(still, keep[i])
		}
	}
	return still
}

// storeUnasked stores what the loader returned beyond what it was asked for,
// where nothing is.
//
// These keys have no lease from before the load, and no stamp. So it takes three
// things to know that none of them was invalidated since: nothing in the cache
// was, as far as this node has heard; it has heard everything that was published
// before the leases were given, which a message to itself proves that comes back
// after them; and whatever is changed later voids the leases.
func (l *batchLoad[T]) storeUnasked(ctx context.Context, values map[string]T, missing []string, before manyBefore) {
	c := l.c
	if len(values) <= len(missing) && !slices.ContainsFunc(missing, func(key string) bool { _, ok := values[key]; return !ok }) ||
		c.node.clustered || before.version == 0 {
		return
	}
	asked := make(map[string]bool, len(missing))
	for _, key := range missing {
		asked[key] = true
	}
	var extra []*owned[T]
	for key := range values {
		if !asked[key] && checkKey(c.name, key) == nil && !c.node.owes(c.name, key) && len(extra) < batchKeys {
			it := &item[T]{key: key, hash: c.hash(key)}
			it.r.version = before.version
			extra = append(extra, &owned[T]{item: it, load: l, token: l2.NewToken()})
		}
	}
	if len(extra) > 0 && c.node.enter() == nil {
		defer c.node.leave()
		l.fillUnasked(ctx, values, extra, before)
	}
}

func (l *batchLoad[T]) fillUnasked(ctx context.Context, values map[string]T, extra []*owned[T], before manyBefore) {
	c := l.c
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.node.cfg.Timeout)
	defer cancel()
	requests := make([]l2.LeaseRequest, len(extra))
	for i, held := range l.held(extra) {
		requests[i] = l2.LeaseRequest{Held: held, Seen: l2.Seen{State: l2.StateAbsent}}
	}
	var leased []*owned[T]
	for i, res := range l.ask(ctx, requests) {
		if res.Err == nil && res.Kind == l2.Granted {
			leased = append(leased, extra[i])
		}
	}
	stored := make(map[*owned[T]]bool)
	if len(leased) > 0 && c.node.member.barrier(ctx) && c.node.member.hears() &&
		c.fence.Changes() == before.changes && c.fence.Trusted(before.epochs) && c.cell.get() == before.version {
		entries := make([]*l1.Entry[T], len(leased))
		for i, o := range leased {
			entries[i] = newEntry(o.key, values[o.key], false)
		}
		l.store(ctx, leased, entries, before.tagsBefore, time.Since(before.at), stored)
	}
	l.release(ctx, slices.DeleteFunc(leased, func(o *owned[T]) bool { return stored[o] }))
}
