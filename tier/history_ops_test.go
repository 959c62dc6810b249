package tier_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/tier"
)

// The caches of a run, each with keys that are changed in ways of their own.
const (
	rows     = iota // changed by what voids: Delete, prefixes, Clear
	brief           // the same, and over after a moment by itself
	aging           // the same, refreshed ahead of that, and a fallback after it
	ledger          // changed by Update and Delete
	numbered        // changed by versioned writes
	owned           // Set and deleted by one client each
	last            // Set by all: the last one in Redis wins
	labeled         // voided by tags, some of which only the loader names
	caches
)

// Key i of labeled has the tags t<i modulo tagsOfKey> and u<i modulo tagsOfLoader>.
const tagsOfKey, tagsOfLoader = 8, 3

// cacheKind describes a cache of the run and its keys.
type cacheKind struct {
	name  string
	order history.Order
	ids   []string
	opts  tier.Options[fact]
}

// keyGroups is into how many prefixes the keys of rows are divided.
const keyGroups = 6

func cacheKinds() [caches]cacheKind {
	opts := tier.Options[fact]{
		TTL: 20 * time.Second, NegativeTTL: time.Second,
		// What is served while Redis does not answer is bounded by this.
		Local: tier.Local{TTL: localTTL, MaxBytes: 16 << 20},
	}
	short := opts
	short.TTL, short.NegativeTTL = 250*time.Millisecond, 100*time.Millisecond
	old := short
	old.TTL, old.StaleFor, old.RefreshAt, old.SoftTimeout = 400*time.Millisecond, 10*time.Second, 0.6, 10*time.Millisecond
	// The first tag follows from the key.
	marked := opts
	marked.Tags = func(id string, _ fact) []string {
		i, _ := strconv.Atoi(id[1:])
		return []string{fmt.Sprintf("t%d", i%tagsOfKey)}
	}
	// A version is known as long as its value lives.
	long := opts
	long.TTL = time.Hour
	ids := func(n int, id func(int) string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = id(i)
		}
		return all
	}
	flat := func(i int) string { return fmt.Sprintf("k%d", i) }
	return [caches]cacheKind{
		rows:     {"rows", history.ByDatabase, ids(keyGroups*60, func(i int) string { return fmt.Sprintf("g%d:%d", i%keyGroups, i) }), opts},
		brief:    {"brief", history.ByDatabase, ids(20, flat), short},
		aging:    {"aging", history.ByDatabase, ids(20, flat), old},
		ledger:   {"ledger", history.ByDatabase, ids(30, flat), opts},
		numbered: {"numbered", history.BySource, ids(24, flat), long},
		owned:    {"owned", history.ByDatabase, ids(ownedEach*clients, flat), opts},
		labeled:  {"labeled", history.ByDatabase, ids(40, flat), marked},
		last:     {"last", history.ByRedis, ids(12, flat), opts},
	}
}

// ownedEach is how many keys of owned a client has.
const ownedEach = 8

// operation is something that clients do. To add one, add a line to
// operations: it calls the cache and records what came of it.
type operation struct {
	weight int
	run    func(c *client, in *instance)
}

// The names of operations, in the history.
const (
	opGet = uint8(iota)
	opLookup
	opExists
	opTTL
	opGetOrSet
	opFetch
	opDelete
	opDeletePrefix
	opNodeDeletePrefix
	opClear
	opSet
	opStale
	opUpdate
	opSetVersioned
	opDeleteVersioned
	opExpire
	opInvalidateTags
	opGetMany
	opGetOrSetMany
	opSetMany
)

var names = []string{"Get", "Lookup", "Exists", "TTL", "GetOrSet", "Fetch", "Delete", "DeletePrefix", "Node.DeletePrefix", "Clear", "Set", "Fill.Stale", "Update", "SetVersioned", "DeleteVersioned", "Expire", "InvalidateTags", "GetMany", "GetOrSetMany", "SetMany"}

// What voids many keys at once is rare: it would hide what happens to single ones.
var operations = []operation{
	{30_000, (*client).get},
	{3_000, (*client).lookup},
	{500, (*client).exists},
	{500, (*client).ttl},
	{50_000, (*client).getOrSet},
	{3_000, (*client).fetch},
	{2_000, (*client).getMany},
	{4_000, (*client).getOrSetMany},
	{3_000, (*client).delete},
	{300, (*client).deleteSeveral},
	{10, (*client).deletePrefix},
	{5, (*client).nodeDeletePrefix},
	{5, (*client).clear},
	{1_200, (*client).setOwned},
	{300, (*client).deleteOwned},
	{700, (*client).setLast},
	{300, (*client).setMany},
	{2_000, (*client).update},
	{800, (*client).setVersioned},
	{400, (*client).deleteVersioned},
	{400, (*client).expire},
	{100, (*client).invalidateTags},
}

// key draws a key of a cache; low ones far more often.
func (c *client) key(cache int) int32 {
	u := c.rng.Float64()
	return c.run.first[cache] + int32(u*u*u*float64(len(c.run.kinds[cache].ids)))
}

// anyKey draws a key of any cache.
func (c *client) anyKey() (cache int, key int32) {
	cache = pick(c.rng, []int{rows, brief, aging, ledger, numbered, owned, last, labeled}, func(cache int) int {
		return [...]int{rows: 40, brief: 6, aging: 8, ledger: 8, numbered: 8, owned: 14, last: 6, labeled: 10}[cache]
	})
	return cache, c.key(cache)
}

// id is the key as its cache knows it.
func (c *client) id(cache int, key int32) string {
	return c.run.kinds[cache].ids[key-c.run.first[cache]]
}

// several draws a few different keys of a cache.
func (c *client) several(cache int) []int32 {
	var keys []int32
	for range 2 + c.rng.IntN(8) {
		if key := c.key(cache); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func (c *client) get(in *instance) {
	cache, key := c.anyKey()
	call := c.run.now()
	v, ok := in.caches[cache].Get(context.Background(), c.id(cache, key))
	op := history.Op{Key: key, Name: opGet, Kind: history.Peek, Result: history.Miss}
	if ok {
		op.Result, op.Version = c.answered(context.Background(), key, v, nil)
	}
	c.record(in, call, op, nil)
}

func (c *client) lookup(in *instance) {
	cache, key := c.anyKey()
	call := c.run.now()
	item, err := in.caches[cache].Lookup(context.Background(), c.id(cache, key))
	op := history.Op{Key: key, Name: opLookup, Kind: history.Peek, Result: history.Miss, Stale: item.Stale}
	if err == nil || !errors.Is(err, tier.ErrNotFound) && !errors.Is(err, tier.ErrUnavailable) {
		op.Result, op.Version = c.answered(context.Background(), key, item.Value, err)
	}
	c.record(in, call, op, err)
}

// exists and ttl tell no version: they are judged for their errors alone.
func (c *client) exists(in *instance) {
	cache, key := c.anyKey()
	call := c.run.now()
	in.caches[cache].Exists(context.Background(), c.id(cache, key))
	c.record(in, call, history.Op{Key: key, Name: opExists, Kind: history.Ignore, Result: history.OK}, nil)
}

func (c *client) ttl(in *instance) {
	cache, key := c.anyKey()
	call := c.run.now()
	ttl, ok := in.caches[cache].TTL(context.Background(), c.id(cache, key))
	op := history.Op{Key: key, Name: opTTL, Kind: history.Ignore, Result: history.OK}
	if most := c.run.kinds[cache].opts.TTL; ok && (ttl < 0 || ttl > most) {
		op.Result = history.Wrong
	}
	c.record(in, call, op, fmt.Errorf("ttl %v", ttl))
}

func (c *client) getOrSet(in *instance) {
	cache, key := c.anyKey()
	ctx, cancel := c.caller()
	defer cancel()
	call := c.run.now()
	load := c.loader(in, key, call)
	v, err := recovered(func() (fact, error) {
		if cache != labeled {
			return in.caches[cache].GetOrSet(ctx, c.id(cache, key), 0, load)
		}
		// Who else loads the key must name the same tags.
		return in.caches[cache].Fetch(ctx, c.id(cache, key), func(ctx context.Context, f *tier.Fill[fact]) (fact, error) {
			f.Tags = c.loaderTags(cache, key)
			return load(ctx)
		})
	})
	op := history.Op{Key: key, Name: opGetOrSet, Kind: history.Read}
	op.Result, op.Version = c.answered(ctx, key, v, err)
	c.record(in, call, op, err)
}

// loaderTags are the tags of a key that only its loader names.
func (c *client) loaderTags(cache int, key int32) []string {
	if cache != labeled {
		return nil
	}
	return []string{fmt.Sprintf("u%d", int(key-c.run.first[labeled])%tagsOfLoader)}
}

// recovered turns the panic of a loader that the run wants into its error.
func recovered(f func() (fact, error)) (v fact, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case errLoader:
			err = errLoader
		default:
			panic(p)
		}
	}()
	return f()
}

func (c *client) fetch(in *instance) {
	cache, key := c.anyKey()
	keep := c.rng.IntN(4) != 0
	call := c.run.now()
	load := c.loader(in, key, call)
	v, err := recovered(func() (fact, error) {
		return in.caches[cache].Fetch(context.Background(), c.id(cache, key), func(ctx context.Context, f *tier.Fill[fact]) (fact, error) {
			f.NoStore, f.Tags = !keep, c.loaderTags(cache, key)
			c.offered(in, key, call, f)
			v, err := load(ctx)
			f.NotModified = err == nil && f.HasStale && f.Stale.Version == v.Version
			if c.run.keys[key].Order == history.BySource {
				f.Version = uint64(v.Version) // 0 if there is none
			}
			return v, err
		})
	})
	op := history.Op{Key: key, Name: opFetch, Kind: history.Read}
	op.Result, op.Version = c.answered(context.Background(), key, v, err)
	c.record(in, call, op, err)
}

// offered notes the previous value that a fill is given: it must be one that a
// read could have returned.
func (c *client) offered(in *instance, key int32, call history.Time, f *tier.Fill[fact]) {
	if !f.HasStale {
		return
	}
	op := history.Op{Call: call, Return: c.run.now(), Key: key, Node: in.id, Client: c.number, Name: opStale, Kind: history.Read}
	op.Result, op.Version = c.answered(context.Background(), key, f.Stale, nil)
	c.run.mu.Lock()
	defer c.run.mu.Unlock()
	c.run.apart = append(c.run.apart, op)
}

// voidable draws a key whose changes void.
func (c *client) voidable() (cache int, key int32) {
	cache = pick(c.rng, []int{rows, brief, aging, ledger, labeled}, func(cache int) int {
		return [...]int{rows: 8, brief: 1, aging: 1, ledger: 1, labeled: 1}[cache]
	})
	return cache, c.key(cache)
}

// write commits a new version of a key, and mostly calls the cache at once.
func (c *client) write(key int32) (fact, int64) {
	absent, wait := c.rng.IntN(8) == 0, c.delay()
	// Options.Tags knows no tags of what is absent, so a tag does not void that.
	absent = absent && key < c.run.first[labeled]
	f, version := c.run.source.commit(key, absent)
	if c.rng.IntN(4) == 0 {
		pause(context.Background(), min(wait, 5*time.Millisecond))
	}
	return f, version
}

func (c *client) delete(in *instance) {
	cache, key := c.voidable()
	c.write(key)
	call := c.run.now()
	err := in.caches[cache].Delete(context.Background(), c.id(cache, key))
	c.record(in, call, history.Op{Key: key, Name: opDelete, Kind: history.Void, Result: changed(err)}, err)
}

func (c *client) deleteSeveral(in *instance) {
	keys := c.several(rows)
	ids := make([]string, len(keys))
	for i, key := range keys {
		c.write(key)
		ids[i] = c.id(rows, key)
	}
	call := c.run.now()
	err := in.caches[rows].Delete(context.Background(), ids...)
	for _, key := range keys {
		c.record(in, call, history.Op{Key: key, Name: opDelete, Kind: history.Void, Result: changed(err)}, err)
	}
}

// wide records a change of a whole scope.
func (c *client) wide(in *instance, call history.Time, scope int32, name uint8, err error) {
	c.record(in, call, history.Op{Key: -1, Scope: scope, Name: name, Kind: history.Void, Result: changed(err)}, err)
}

// writeSome commits new versions of some keys of a scope.
func (c *client) writeSome(scope int32) {
	keys := c.run.scopes[scope]
	for range 1 + c.rng.IntN(5) {
		c.write(keys[c.rng.IntN(len(keys))])
	}
}

func (c *client) deletePrefix(in *instance) {
	group := c.rng.IntN(keyGroups)
	c.writeSome(int32(group))
	call := c.run.now()
	_, err := in.caches[rows].DeletePrefix(context.Background(), fmt.Sprintf("g%d", group))
	c.wide(in, call, int32(group), opDeletePrefix, err)
}

func (c *client) nodeDeletePrefix(in *instance) {
	group := c.rng.IntN(keyGroups)
	c.writeSome(int32(group))
	call := c.run.now()
	_, err := in.node.DeletePrefix(context.Background(), fmt.Sprintf("rows:g%d", group))
	c.wide(in, call, int32(group), opNodeDeletePrefix, err)
}

func (c *client) clear(in *instance) {
	scope := c.run.whole[rows]
	c.writeSome(scope)
	call := c.run.now()
	err := in.caches[rows].Clear(context.Background())
	c.wide(in, call, scope, opClear, err)
}

// invalidateTags voids all keys of one tag, or of two.
func (c *client) invalidateTags(in *instance) {
	scopes := []int32{c.run.byTag + int32(c.rng.IntN(tagsOfKey+tagsOfLoader))}
	if c.rng.IntN(4) == 0 {
		scopes = append(scopes, c.run.byTag+int32(c.rng.IntN(tagsOfKey+tagsOfLoader)))
	}
	var tags []string
	for _, scope := range scopes {
		c.writeSome(scope)
		tag := int(scope - c.run.byTag)
		if tag < tagsOfKey {
			tags = append(tags, fmt.Sprintf("t%d", tag))
		} else {
			tags = append(tags, fmt.Sprintf("u%d", tag-tagsOfKey))
		}
	}
	call := c.run.now()
	err := in.node.InvalidateTags(context.Background(), tags...)
	for _, scope := range scopes {
		c.wide(in, call, scope, opInvalidateTags, err)
	}
}

// ownKey draws a key of owned that is this client's.
func (c *client) ownKey() int32 {
	u := c.rng.Float64() // some are left alone for long
	return c.run.first[owned] + int32(u*u*ownedEach)*clients + int32(c.number)
}

func (c *client) setOwned(in *instance) {
	key := c.ownKey()
	f, version := c.run.source.commit(key, false)
	call := c.run.now()
	err := in.caches[owned].Set(context.Background(), c.id(owned, key), f, 0)
	c.record(in, call, history.Op{Key: key, Name: opSet, Kind: history.Store, Result: changed(err), Version: version}, err)
}

func (c *client) deleteOwned(in *instance) {
	key := c.ownKey()
	c.write(key)
	call := c.run.now()
	err := in.caches[owned].Delete(context.Background(), c.id(owned, key))
	c.record(in, call, history.Op{Key: key, Name: opDelete, Kind: history.Void, Result: changed(err)}, err)
}

func (c *client) setLast(in *instance) {
	key := c.key(last)
	f, version := c.run.source.commit(key, false)
	call := c.run.now()
	err := in.caches[last].Set(context.Background(), c.id(last, key), f, 0)
	c.record(in, call, history.Op{Key: key, Name: opSet, Kind: history.Store, Result: changed(err), Version: version}, err)
}

var errCommit = errors.New("the commit fails, as the run wants it")

// update commits inside the bracket. Its own version is the least that may be
// read afterwards; where commit failed, it is what a Delete in its place would
// have seen.
func (c *client) update(in *instance) {
	cache := pick(c.rng, []int{rows, brief, aging, ledger}, func(cache int) int { return [...]int{rows: 4, brief: 1, aging: 1, ledger: 4}[cache] })
	key := c.key(cache)
	before, after := c.delay(), c.delay()
	absent, fails, panics := c.rng.IntN(8) == 0, c.rng.IntN(30) == 0, c.rng.IntN(100) == 0
	var version int64
	commit := func(ctx context.Context) (fact, error) {
		cut := in.cut.Load()
		if !pause(ctx, before) {
			return fact{}, context.Cause(ctx)
		}
		if fails {
			return fact{}, errCommit
		}
		if cut {
			c.run.doubt(in, key)
		}
		var f fact
		f, version = c.run.source.commit(key, absent)
		pause(context.Background(), after)
		switch {
		case panics:
			panic(errLoader)
		case absent:
			return fact{}, tier.ErrNotFound
		}
		return f, nil
	}
	call := c.run.now()
	v, err := recovered(func() (fact, error) {
		return in.caches[cache].Update(context.Background(), c.id(cache, key), 0, commit)
	})
	op := history.Op{Key: key, Name: opUpdate, Kind: history.Void, Version: version, Bracket: true}
	switch {
	case errors.Is(err, tier.ErrUnavailable):
		op.Result = history.Owed
	case err == nil && (!v.whole(c.run.keys[key].Name) || v.Version != version):
		op.Result = history.Wrong
	case err == nil, errors.Is(err, errCommit):
		op.Result = history.OK
	case errors.Is(err, errLoader): // it panicked: whether Redis confirmed the end is not told
		op.Result = history.Left
	case errors.Is(err, tier.ErrNotFound) && absent:
		op.Result = history.OK
	default:
		op.Result = history.Failed
	}
	c.record(in, call, op, err)
}

func (c *client) setVersioned(in *instance) {
	key, wait := c.key(numbered), c.delay()
	f, version := c.run.source.commit(key, false)
	pause(context.Background(), wait) // others overtake it
	call := c.run.now()
	err := in.caches[numbered].SetVersioned(context.Background(), c.id(numbered, key), f, uint64(version), 0)
	c.record(in, call, history.Op{Key: key, Name: opSetVersioned, Kind: history.Store, Result: changed(err), Version: version}, err)
}

func (c *client) deleteVersioned(in *instance) {
	key, wait, absent := c.key(numbered), c.delay(), c.rng.IntN(2) == 0
	_, version := c.run.source.commit(key, absent)
	pause(context.Background(), wait)
	call := c.run.now()
	err := in.caches[numbered].DeleteVersioned(context.Background(), c.id(numbered, key), uint64(version))
	c.record(in, call, history.Op{Key: key, Name: opDeleteVersioned, Kind: history.Void, Result: changed(err), Version: version}, err)
}

// expire changes nothing that a read may return: the old value stays a fallback.
func (c *client) expire(in *instance) {
	cache, key := c.voidable()
	call := c.run.now()
	err := in.caches[cache].Expire(context.Background(), c.id(cache, key))
	op := history.Op{Key: key, Name: opExpire, Kind: history.Soften, Result: changed(err)}
	c.record(in, call, op, err)
}
