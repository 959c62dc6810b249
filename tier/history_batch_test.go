package tier_test

import (
	"context"
	"errors"
	"slices"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/tier"
)

// manyKeys draws a cache and a few of its keys. Batch loaders name no tags of
// their own, so labeled is left to single ones.
func (c *client) manyKeys() (cache int, keys []int32, ids []string) {
	for cache = labeled; cache == labeled; {
		cache, _ = c.anyKey()
	}
	keys = c.several(cache)
	ids = make([]string, len(keys))
	for i, key := range keys {
		ids[i] = c.id(cache, key)
	}
	return cache, keys, ids
}

func (c *client) getMany(in *instance) {
	cache, keys, ids := c.manyKeys()
	call := c.run.now()
	found := in.caches[cache].GetMany(context.Background(), ids)
	for i, key := range keys {
		op := history.Op{Key: key, Name: opGetMany, Kind: history.Peek, Result: history.Miss}
		if v, ok := found[ids[i]]; ok {
			op.Result, op.Version = c.answered(context.Background(), key, v, nil)
		}
		c.record(in, call, op, nil)
	}
}

func (c *client) getOrSetMany(in *instance) {
	cache, keys, ids := c.manyKeys()
	ctx, cancel := c.caller()
	defer cancel()
	call := c.run.now()
	var found map[string]fact
	load := c.batchLoader(in, keys, ids, call)
	_, err := recovered(func() (v fact, err error) {
		found, err = in.caches[cache].GetOrSetMany(ctx, ids, 0, load)
		return v, err
	})
	for i, key := range keys {
		v, ok := found[ids[i]]
		outcome := err
		switch {
		case ok:
			outcome = nil // also beside keys that failed
		case err == nil:
			outcome = tier.ErrNotFound
		}
		op := history.Op{Key: key, Name: opGetOrSetMany, Kind: history.Read}
		op.Result, op.Version = c.answered(ctx, key, v, outcome)
		c.record(in, call, op, err)
	}
}

// batchLoader is loader for many keys: it fails for all of them or for none.
func (c *client) batchLoader(in *instance, keys []int32, ids []string, call history.Time) func(context.Context, []string) (map[string]fact, error) {
	before, after := c.delay(), c.delay()
	fate := c.rng.IntN(200)
	known := make(map[string]int32, len(ids))
	for i, id := range ids {
		known[id] = keys[i]
	}
	return func(ctx context.Context, missing []string) (map[string]fact, error) {
		begin := c.run.now()
		defer func() {
			for _, id := range missing {
				c.run.loaded(history.Load{
					Call: call, Begin: begin, End: c.run.now(), Key: known[id], Node: in.id, Abandoned: ctx.Err() != nil,
				})
			}
		}()
		pause(ctx, before)
		rows := make(map[string]fact, len(missing))
		for _, id := range missing {
			v, err := c.run.source.load(known[id])
			if err == nil {
				rows[id] = v
			} else if !errors.Is(err, tier.ErrNotFound) {
				return nil, err
			}
		}
		pause(ctx, after)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case fate == 0:
			panic(errLoader)
		case fate == 1:
			return nil, errLoader
		}
		return rows, nil
	}
}

// setMany sets some keys of owned that are this client's, or some of last.
func (c *client) setMany(in *instance) {
	cache, keys := last, c.several(last)
	if c.rng.IntN(3) != 0 {
		cache, keys = owned, nil
		for range 1 + c.rng.IntN(4) {
			if key := c.ownKey(); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	values := make(map[string]fact, len(keys))
	versions := make([]int64, len(keys))
	for i, key := range keys {
		values[c.id(cache, key)], versions[i] = c.run.source.commit(key, false)
	}
	call := c.run.now()
	err := in.caches[cache].SetMany(context.Background(), values, 0)
	for i, key := range keys {
		c.record(in, call, history.Op{Key: key, Name: opSetMany, Kind: history.Store, Result: changed(err), Version: versions[i]}, err)
	}
}
