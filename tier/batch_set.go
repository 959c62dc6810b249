package tier

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/invalidation"
)

// setting is one key of a SetMany.
type setting[T any] struct {
	key   string
	hash  uint64
	value T
	names []string // of its tags
	begun fence.Stamp
	made  *encoded[T]
	tags  []seenTag
}

// SetMany is [Cache.Set] of many keys: each is stored by an atomic step of its
// own, with the same promises, and all go in one round trip, on a cluster one to
// each master at once, up to 500 keys and 4 MiB at a time. The keys of a batch
// are not set together: another reader may see some of them before the others.
// tags are those of every value, beside what Options.Tags names for each.
//
// The error joins those of single keys, which do not stop the others: an invalid
// key or tag (ErrKey) leaves its key alone; a value that does not encode or is too
// large (ErrTooLarge) is not stored, and its key is deleted; and what Redis does
// not confirm is owed key by key, ErrUnavailable if Config.Strict. Errors about
// ttl, and ErrClosed, come before anything is done. values is not kept.
func (c *Cache[T]) SetMany(ctx context.Context, values map[string]T, ttl time.Duration, tags ...string) error {
	ttl, err := c.ttlOf(ttl)
	if err != nil {
		return err
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	if ttl < 0 && ttl != NoExpiry {
		return c.Delete(ctx, keys...)
	}
	if err := c.node.enter(); err != nil {
		return err
	}
	defer c.node.leave()
	var errs []error
	for chunk := range slices.Chunk(keys, batchKeys) {
		list := make([]*setting[T], 0, len(chunk))
		for _, key := range chunk {
			s := &setting[T]{key: key, hash: c.hash(key), value: values[key]}
			err := checkKey(c.name, key)
			if err == nil {
				s.names, err = c.tagsOf(key, s.value, tags)
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
			list = append(list, s)
		}
		errs = append(errs, c.setChunk(ctx, list, ttl))
	}
	return errors.Join(errs...)
}

// setChunk sets up to batchKeys keys.
func (c *Cache[T]) setChunk(ctx context.Context, list []*setting[T], ttl time.Duration) error {
	for _, s := range list {
		s.begun = c.fence.Begin(s.hash)
	}
	version, err := c.markSettings(ctx, list)
	if err != nil {
		return c.oweSettings(list, err)
	}
	var errs []error
	var ready, faulty []*setting[T]
	var away error // Redis has answered nothing of a pipeline: it is not asked for more
	bytes := 0
	send := func() {
		var err error
		if away == nil {
			away, err = c.sendSettings(ctx, ready)
		} else {
			err = c.oweSettings(ready, away)
		}
		errs, ready, bytes = append(errs, err), nil, 0
	}
	for _, s := range list {
		s.made, err = c.encode(ctx, making[T]{key: s.key, value: s.value, ttl: c.jittered(ttl), version: version, tags: s.tags})
		switch {
		case errors.Is(err, l2.ErrUnavailable):
			errs = append(errs, c.oweSet(making[T]{key: s.key}, 0, err))
			continue
		case err != nil:
			errs = append(errs, err)
			faulty = append(faulty, s)
			continue
		}
		ready = append(ready, s)
		if bytes += len(s.made.record); bytes >= batchBytes {
			send()
		}
	}
	send()
	// What stands there is older than what could not be stored.
	errs = append(errs, c.eachOf(faulty, func(s *setting[T]) error {
		ctx, cancel := c.node.detached(ctx)
		defer cancel()
		return c.deleteOne(ctx, s.key, 0)
	}))
	return errors.Join(errs...)
}

// markSettings finds the versions that list is stored under.
func (c *Cache[T]) markSettings(ctx context.Context, list []*setting[T]) (version uint64, err error) {
	var names []string
	places := make(map[string]int)
	for _, s := range list {
		for _, name := range s.names {
			if _, met := places[name]; !met {
				places[name] = len(names)
				names = append(names, name)
			}
		}
	}
	ctx, cancel := c.node.detached(ctx)
	defer cancel()
	version, seen, err := c.writeMarks(ctx, names)
	if err != nil {
		return 0, err
	}
	for _, s := range list {
		s.tags = make([]seenTag, len(s.names))
		for i, name := range s.names {
			s.tags[i] = seen[places[name]]
		}
	}
	return version, nil
}

// oweSettings is the end of those that were not sent.
func (c *Cache[T]) oweSettings(list []*setting[T], cause error) error {
	errs := make([]error, len(list))
	for i, s := range list {
		errs[i] = c.oweSet(making[T]{key: s.key}, 0, cause)
		s.made = nil
	}
	return errors.Join(errs...)
}

// sendSettings stores what is encoded in one round trip. away is why Redis has
// answered nothing, nil if it has.
func (c *Cache[T]) sendSettings(ctx context.Context, list []*setting[T]) (away, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	ctx, cancel := c.node.detached(ctx) // its own: many pipelines take their time
	defer cancel()
	var errs []error
	sets := make([]l2.SetRequest, 0, len(list))
	notices := make([]notice, 0, len(list))
	sent := make([]*setting[T], 0, len(list))
	for _, s := range list {
		nt, err := c.node.member.compose(invalidation.Message{Kind: invalidation.KindKeys, Cache: c.name, Keys: []string{s.key}})
		if err != nil {
			errs = append(errs, c.oweSet(making[T]{key: s.key}, 0, err))
			continue
		}
		notices, sent = append(notices, nt), append(sent, s)
		sets = append(sets, l2.SetRequest{Key: s.made.redisKey, Rec: s.made.record, TTL: s.made.redisTTL, Msg: nt.bytes})
	}
	var refused []*setting[T]
	answered := len(sent) == 0
	for i, res := range c.node.store.SetMany(ctx, sets) {
		s := sent[i]
		c.node.member.settle(notices[i], res.Err == nil)
		answered = answered || res.Err == nil || errors.Is(res.Err, l2.ErrRefused)
		away = res.Err
		switch {
		case errors.Is(res.Err, l2.ErrRefused): // the old value is still there
			refused = append(refused, s)
		case res.Err != nil:
			errs = append(errs, c.oweSet(making[T]{key: s.key}, res.Deadline, res.Err))
		default:
			if st := c.confirm(s.hash, s.begun); res.Stored && !c.node.owesAny(s.tags) {
				c.keep(s.hash, s.made.entry, s.made.bytes, st)
			}
		}
		s.made = nil // the record need not outlive its pipeline
	}
	if answered {
		away = nil
	}
	return away, errors.Join(append(errs, c.eachOf(refused, func(s *setting[T]) error { return c.deleteRefused(ctx, s) }))...)
}

// deleteRefused deletes what a refused Set has left.
func (c *Cache[T]) deleteRefused(ctx context.Context, s *setting[T]) error {
	ctx, cancel := c.node.detached(ctx)
	defer cancel()
	if _, err := c.node.deleteKey(ctx, c.name, s.key, l2.DeleteOptions{}); err != nil {
		return c.oweSet(making[T]{key: s.key}, 0, err)
	}
	c.invalidate(s.key)
	return nil
}

// eachOf calls f for each of list, several at once.
func (c *Cache[T]) eachOf(list []*setting[T], f func(*setting[T]) error) error {
	errs := make([]error, len(list))
	var g errgroup.Group
	g.SetLimit(deleteWorkers)
	for i, s := range list {
		g.Go(func() error {
			errs[i] = f(s)
			return nil
		})
	}
	_ = g.Wait()
	return errors.Join(errs...)
}
