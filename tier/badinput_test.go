package tier_test

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/codec"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

func TestOpen_namesEveryFault(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg  tier.Config
		want []string
	}{
		"scheme":     {tier.Config{URL: "http://localhost"}, []string{"URL", "scheme", "redis+cluster"}},
		"malformed":  {tier.Config{URL: "redis://local host:x"}, []string{"URL"}},
		"braces":     {tier.Config{Prefix: "a{b}"}, []string{"Prefix", "a{b}"}},
		"glob":       {tier.Config{Prefix: "a*"}, []string{"Prefix"}},
		"colon":      {tier.Config{Prefix: "a:b"}, []string{"Prefix"}},
		"long":       {tier.Config{Prefix: strings.Repeat("a", 65)}, []string{"Prefix", "65"}},
		"timeout":    {tier.Config{Timeout: time.Microsecond}, []string{"Timeout"}},
		"no timeout": {tier.Config{Timeout: math.MaxInt64}, []string{"Timeout", "1h"}},
		"no beats":   {tier.Config{Heartbeat: math.MaxInt64}, []string{"Heartbeat", "1h"}},
		"heartbeat":  {tier.Config{Heartbeat: -1}, []string{"Heartbeat"}},
		"maxpending": {tier.Config{MaxPending: -1}, []string{"MaxPending"}},
		"both":       {tier.Config{URL: "redis://localhost", Redis: redis.NewClient(&redis.Options{})}, []string{"URL", "Redis"}},
		"bus":        {tier.Config{URL: "redis://localhost", Bus: invalidation.NewLocal()}, []string{"Bus"}},
		"ring":       {tier.Config{Redis: redis.NewRing(&redis.RingOptions{})}, []string{"Redis", "Ring"}},
		"all at once": {
			tier.Config{URL: "ftp://x", Prefix: "*", Timeout: -1, Heartbeat: -1, MaxPending: -1},
			[]string{"URL", "Prefix", "Timeout", "Heartbeat", "MaxPending"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := tier.Open(t.Context(), tc.cfg)
			require.Nil(t, n)
			require.Error(t, err)
			for _, want := range tc.want {
				assert.ErrorContains(t, err, want)
			}
			if tc.cfg.Redis != nil {
				_ = tc.cfg.Redis.Close()
			}
		})
	}
}

func TestConfigFromEnv(t *testing.T) {
	t.Setenv("REDIS_URL", "")
	t.Setenv("CACHE_PREFIX", "")
	cfg, err := tier.ConfigFromEnv()
	require.NoError(t, err)
	assert.Equal(t, tier.Config{}, cfg)

	t.Setenv("REDIS_URL", "redis://localhost:6379/2")
	t.Setenv("CACHE_PREFIX", "ghl")
	cfg, err = tier.ConfigFromEnv()
	require.NoError(t, err)
	assert.Equal(t, tier.Config{URL: "redis://localhost:6379/2", Prefix: "ghl"}, cfg)

	t.Setenv("REDIS_URL", "localhost:6379")
	t.Setenv("CACHE_PREFIX", "g hl")
	_, err = tier.ConfigFromEnv()
	require.ErrorContains(t, err, "REDIS_URL")
	require.ErrorContains(t, err, "CACHE_PREFIX")

	t.Setenv("REDIS_URL", "redis://user:secret@host:port/0")
	_, err = tier.ConfigFromEnv()
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "secret")
}

func TestNew_namesEveryFault(t *testing.T) {
	n := open(t, tier.Config{})
	for name, want := range map[string]string{"": "empty", "a:b": "a:b", "a b": "a b", "!x": "!x", strings.Repeat("n", 65): "65"} {
		_, err := tier.New(n, name, tier.Options[row]{})
		require.ErrorContains(t, err, "name", name)
		require.ErrorContains(t, err, want, name)
		require.ErrorIs(t, err, tier.ErrKey, name)
		_, err = tier.NewCounter(n, name, tier.CounterOptions{})
		require.ErrorContains(t, err, "name", name)
		require.ErrorIs(t, err, tier.ErrKey, name)
	}
	_, err := tier.New(n, "bad", tier.Options[row]{
		TTL: time.Microsecond, Jitter: 2, NegativeTTL: time.Nanosecond, LoadTimeout: -1, MaxValueBytes: -1, Hold: -1,
		Local: tier.Local{MaxBytes: -1, TTL: -1},
	})
	for _, field := range []string{"TTL", "Jitter", "NegativeTTL", "LoadTimeout", "MaxValueBytes", "Hold", "Local.MaxBytes", "Local.TTL"} {
		assert.ErrorContains(t, err, field)
	}
	_, err = tier.New(n, "nan", tier.Options[row]{Jitter: math.NaN()})
	require.ErrorContains(t, err, "Jitter")
	_, err = tier.New(n, "chan", tier.Options[chan int]{})
	require.ErrorContains(t, err, "chan int")
	_, err = tier.New(n, "func", tier.Options[struct{ F func() }]{})
	require.ErrorContains(t, err, "F")
	_, err = tier.NewCounter(n, "window", tier.CounterOptions{Window: -1})
	require.ErrorContains(t, err, "Window")
}

func TestCache_invalidKeys(t *testing.T) {
	n := open(t, tier.Config{})
	c := cache(t, n, tier.Options[row]{})
	ctr, err := tier.NewCounter(n, "count", tier.CounterOptions{})
	require.NoError(t, err)
	load := func(context.Context) (row, error) {
		require.Fail(t, "loaded for an invalid key")
		return row{}, nil
	}
	for _, key := range []string{"", strings.Repeat("k", 1025), "a\nb", "a\x00", "\xff", "a\x7fb"} {
		_, ok := c.Get(t.Context(), key)
		assert.False(t, ok)
		_, err := c.Lookup(t.Context(), key)
		assert.ErrorIs(t, err, tier.ErrKey)
		_, err = c.GetOrSet(t.Context(), key, 0, load)
		assert.ErrorIs(t, err, tier.ErrKey)
		assert.ErrorIs(t, c.Set(t.Context(), key, row{}, 0), tier.ErrKey)
		_, err = ctr.Increment(t.Context(), key, 1)
		assert.ErrorIs(t, err, tier.ErrKey)
		_, err = n.DeletePrefix(t.Context(), key)
		assert.ErrorIs(t, err, tier.ErrKey)
		if key != "" {
			_, err = c.DeletePrefix(t.Context(), key)
			assert.ErrorIs(t, err, tier.ErrKey)
		}
		require.NoError(t, c.Set(t.Context(), "good", row{Key: "good"}, 0))
		assert.ErrorIs(t, c.Delete(t.Context(), key, "good"), tier.ErrKey)
		mustMiss(t, c, "good") // the valid one is deleted all the same
	}
	_, err = n.DeletePrefix(t.Context(), "!clear")
	assert.ErrorIs(t, err, tier.ErrKey)
	require.NoError(t, c.Set(t.Context(), "good", row{Key: "good"}, 0))
	_, err = c.DeletePrefix(t.Context(), ":") // tenant + ":" without a tenant
	assert.ErrorIs(t, err, tier.ErrKey)
	mustGet(t, c, "good")
	require.NoError(t, c.Set(t.Context(), strings.Repeat("k", 1024), row{}, 0))
	require.NoError(t, c.Set(t.Context(), "{}*?[ü世 ", row{Key: "{}*?[ü世 "}, 0))
	mustGet(t, c, "{}*?[ü世 ")
}

// A mistake of the caller is an error whether the value is there or not.
func TestCache_badCalls(t *testing.T) {
	c := cache(t, open(t, tier.Config{}), tier.Options[row]{MaxValueBytes: 100})
	require.NoError(t, c.Set(t.Context(), "hit", row{}, 0))
	for _, key := range []string{"1", "hit"} {
		_, err := c.GetOrSet(t.Context(), key, 0, nil)
		require.ErrorContains(t, err, "load is nil", key)
		_, err = c.Fetch(t.Context(), key, nil)
		require.ErrorContains(t, err, "load is nil", key)
		_, err = c.GetOrSetMany(t.Context(), []string{key}, 0, nil)
		require.ErrorContains(t, err, "load is nil", key)
		for _, ttl := range []time.Duration{1, time.Microsecond, math.MaxInt64} {
			_, err = c.GetOrSet(t.Context(), key, ttl, newDatabase().loader(key))
			require.ErrorContains(t, err, "ttl", key)
		}
	}
	require.ErrorContains(t, c.Set(t.Context(), "1", row{}, time.Microsecond), "ttl")
	require.ErrorContains(t, c.Set(t.Context(), "1", row{}, math.MaxInt64), "ttl")
}

// A value over the limit: Set is an error and what was there is gone; a load's
// caller gets the value.
func TestCache_valueOverTheLimit(t *testing.T) {
	t.Run("limit=cache", func(t *testing.T) { overTheLimit(t, tier.Options[row]{MaxValueBytes: 200}) })
	t.Run("limit=codec", func(t *testing.T) {
		c, err := codec.Compressed(codec.Msgpack[row](), codec.Compression{MaxBytes: 200})
		require.NoError(t, err)
		overTheLimit(t, tier.Options[row]{Codec: c})
	})
}

func overTheLimit(t *testing.T, opts tier.Options[row]) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), opts)
		big := row{Key: "1", Version: 2, Pad: strings.Repeat("x", 300)}
		require.NoError(t, c.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
		err := c.Set(t.Context(), "1", big, 0)
		require.ErrorIs(t, err, tier.ErrTooLarge)
		require.ErrorContains(t, err, `"1"`)
		mustMiss(t, c, "1")
		got, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return big, nil })
		require.NoError(t, err)
		require.Equal(t, big, got)
		mustMiss(t, c, "1")
		assert.EqualValues(t, 1, c.Stats().FillsRefused)
		_, err = c.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{Key: "1", Version: 3}, nil })
		require.NoError(t, err)
		require.EqualValues(t, 3, mustGet(t, c, "1"))
	})
}

// A value that turns out not to encode.
func TestCache_valueThatDoesNotEncode(t *testing.T) {
	c, err := tier.New(open(t, tier.Config{}), "any", tier.Options[any]{})
	require.NoError(t, err)
	require.NoError(t, c.Set(t.Context(), "1", "old", 0))
	err = c.Set(t.Context(), "1", make(chan int), 0)
	require.ErrorContains(t, err, `"1"`)
	_, ok := c.Get(t.Context(), "1")
	require.False(t, ok, "the older value survived")
	got, err := c.GetOrSet(t.Context(), "1", 0, func(context.Context) (any, error) { return make(chan int), nil })
	require.NoError(t, err)
	require.NotNil(t, got)
}

// Untrusted: whatever stands under a key is a counted miss, and is replaced.
func TestUntrusted_foreignBytesUnderAKey(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{Local: tier.Local{Disabled: true}})
	rdb := srv.Client(t)
	require.NoError(t, c.Set(t.Context(), "good", row{Key: "good", Version: 1}, 0))
	good, err := rdb.Get(t.Context(), "tandem:row:good").Result()
	require.NoError(t, err)
	flipped := []byte(good)
	flipped[len(flipped)-1] ^= 1
	put := func(v string) func() error {
		return func() error { return rdb.Set(t.Context(), "tandem:row:k", v, 0).Err() }
	}
	for name, plant := range map[string]func() error{
		"garbage":   put("garbage"),
		"empty":     put(""),
		"truncated": put(good[:len(good)-3]),
		"header":    put(good[:58]),
		"flipped":   put(string(flipped)),
		"other key": put(good),
		"oversized": put(strings.Repeat("x", 4<<20)),
		"json":      put(`{"Key":"k"}`),
		"list":      func() error { return rdb.RPush(t.Context(), "tandem:row:k", "a").Err() },
		"hash":      func() error { return rdb.HSet(t.Context(), "tandem:row:k", "a", "b").Err() },
		"set":       func() error { return rdb.SAdd(t.Context(), "tandem:row:k", "a").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, rdb.Del(t.Context(), "tandem:row:k").Err())
			require.NoError(t, plant())
			mustMiss(t, c, "k")
			got, err := c.GetOrSet(t.Context(), "k", 0, func(context.Context) (row, error) { return row{Key: "k", Version: 9}, nil })
			require.NoError(t, err)
			require.EqualValues(t, 9, got.Version)
			require.EqualValues(t, 9, mustGet(t, c, "k"), "not replaced by the fill")

			require.NoError(t, rdb.Del(t.Context(), "tandem:row:k").Err())
			require.NoError(t, plant())
			require.NoError(t, c.Set(t.Context(), "k", row{Key: "k", Version: 10}, 0))
			require.EqualValues(t, 10, mustGet(t, c, "k"), "not replaced by Set")

			require.NoError(t, rdb.Del(t.Context(), "tandem:row:k").Err())
			require.NoError(t, plant())
			require.NoError(t, c.Delete(t.Context(), "k"))
			mustMiss(t, c, "k")
		})
	}
	assert.NotZero(t, c.Stats().DecodeErrors)

	// A record of a newer format is left alone by fills, not by Set.
	newer := []byte(good)
	newer[5]++
	require.NoError(t, put(string(newer))())
	_, err = c.GetOrSet(t.Context(), "k", 0, func(context.Context) (row, error) { return row{Key: "k"}, nil })
	require.NoError(t, err)
	left, err := rdb.Get(t.Context(), "tandem:row:k").Result()
	require.NoError(t, err)
	require.Equal(t, string(newer), left)
	require.NoError(t, c.Set(t.Context(), "k", row{Key: "k", Version: 11}, 0))
	require.EqualValues(t, 11, mustGet(t, c, "k"))
}

// Untrusted: messages of garbage are counted and change nothing.
func TestUntrusted_garbageOnTheChannel(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL()})
	c := cache(t, n, tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0))
	rdb := srv.Client(t)
	for _, msg := range []string{"", "x", strings.Repeat("\xff", 1<<20), "Ti\x01\x01"} {
		require.NoError(t, rdb.Publish(t.Context(), "tandem:!bus:0", msg).Err())
	}
	await(t, "the garbage to be counted", 5*time.Second, func() bool { return n.Stats().Bus.Garbage >= 3 })
	mustGet(t, c, "1")
	await(t, "the node to be healthy", 5*time.Second, func() bool { return n.Health(t.Context()).Healthy })
}

// Untrusted: versions at the end of their range cost a miss, and do not become the
// floor of those that come.
func TestUntrusted_versionsThatNoServerGives(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Strict: true})
	c := cache(t, n, tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0, "tag"))
	gaps := n.Stats().Bus.Gaps
	for i, msg := range []invalidation.Message{
		{Kind: invalidation.KindClear, Cache: "row", Version: math.MaxUint64},
		{Kind: invalidation.KindTags, Keys: []string{"tag"}, Version: math.MaxUint64},
	} {
		msg.Node, msg.Seq = invalidation.NewNodeID(), 1
		b, err := msg.Append(nil)
		require.NoError(t, err)
		srv.Do("publish", "tandem:!bus:0", b)
		await(t, "the gap", 10*time.Second, func() bool { return n.Stats().Bus.Gaps >= gaps+uint64(i)+1 })
	}
	mustGet(t, c, "1")
	require.NoError(t, c.Clear(t.Context()), "it cannot be raised any more")
	mustMiss(t, c, "1")
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0, "tag"))
	require.NoError(t, n.InvalidateTags(t.Context(), "tag"))
	mustMiss(t, c, "1")
	assert.Zero(t, n.Stats().Journal.Owed)
}
