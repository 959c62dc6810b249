package tier_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/keys"
	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// original is the system that Tandem replaces, as these tests need it: its
// Redis, its prefix, and a node that was opened from its environment.
type original struct {
	srv   *redistest.Server
	rdb   *redis.Client
	node  *tier.Node
	users *tier.Cache[User]
}

// The system that this began with, row by row, on a real Redis and under its
// prefix. Each row of the table is a subtest of that name. The rows "user
// credits, session storage, invalidate after update" and "mock of the service"
// have programs of their own as well, in internal/examples.
func TestOriginalSystem(t *testing.T) {
	o := &original{srv: redistest.Start(t)}
	o.rdb = o.srv.Client(t)
	t.Setenv("REDIS_URL", o.srv.URL())
	t.Setenv("CACHE_PREFIX", ghl.Namespace)
	for _, row := range []struct {
		name string
		show func(*original, *testing.T)
	}{
		{"REDIS_URL from the environment", (*original).environment}, // first: it opens the node
		{"get, set with TTL, delete, deletePattern, getOrSet", (*original).basics},
		{"TTLs SHORT, MEDIUM, LONG, DAY", (*original).ttls},
		{"exists, ttl (-1 none, -2 absent), increment, decrement", (*original).existence},
		{"cacheKeys.* under ghl:", (*original).catalog},
		{"healthCheck, getStats", (*original).health},
		{"rate limiting by INCR and then SET", (*original).rateLimit},
		{"user credits, session storage, invalidate after update", (*original).patterns},
		{"mock of the service in tests", (*original).mock},
		{"redis-cli reference", (*original).redisCLI},
		{"never throws: Redis down means no-ops and the application goes on", (*original).outage}, // last: it stops Redis
	} {
		t.Run(row.name, func(t *testing.T) { row.show(o, t) })
	}
	require.NoError(t, o.node.Close())
}

func (o *original) environment(t *testing.T) {
	t.Run("what is wrong with it", func(t *testing.T) {
		t.Setenv("REDIS_URL", "http://localhost:6379")
		_, err := tier.ConfigFromEnv()
		require.ErrorContains(t, err, "REDIS_URL")
		require.ErrorContains(t, err, "scheme is none of redis, rediss, unix")
	})
	cfg, err := tier.ConfigFromEnv()
	require.NoError(t, err)
	o.node, err = tier.Open(t.Context(), cfg)
	require.NoError(t, err)
	o.users, err = tier.New(o.node, ghl.User().Name(), tier.Options[User]{Jitter: -1})
	require.NoError(t, err)
}

func (o *original) basics(t *testing.T) {
	ctx := t.Context()
	_, ok := o.users.Get(ctx, "123") // get<User>
	assert.False(t, ok)
	require.NoError(t, o.users.Set(ctx, "123", User{"123", "Ada"}, tier.TTLShort))
	u, ok := o.users.Get(ctx, "123")
	assert.True(t, ok)
	assert.Equal(t, "Ada", u.Name)
	assert.EqualValues(t, 1, o.rdb.Exists(ctx, "ghl:user:123").Val())
	assert.InDelta(t, time.Minute, o.rdb.PTTL(ctx, "ghl:user:123").Val(), float64(30*time.Second))
	require.NoError(t, o.users.Delete(ctx, "123"))
	assert.Zero(t, o.rdb.Exists(ctx, "ghl:user:123").Val())

	load := func(context.Context) (User, error) { return User{"123", "Eve"}, nil }
	u, err := o.users.GetOrSet(ctx, "123", tier.TTLLong, load)
	require.NoError(t, err)
	assert.Equal(t, "Eve", u.Name)
	require.NoError(t, o.users.Set(ctx, "1234", User{"1234", "Bo"}, 0))
	count, err := o.users.DeletePrefix(ctx, "123")
	require.NoError(t, err)
	assert.Equal(t, 1, count, "whole segments: 1234 is another user")
	count, err = o.node.DeletePrefix(ctx, "user:") // deletePattern('user:')
	require.NoError(t, err)
	assert.Equal(t, 1, count)
	assert.False(t, o.users.Exists(ctx, "1234"))
}

func (o *original) ttls(t *testing.T) {
	for ttl, seconds := range map[time.Duration]int{
		tier.TTLShort: 60, tier.TTLMedium: 300, tier.TTLLong: 3600, tier.TTLDay: 86400,
	} {
		assert.Equal(t, time.Duration(seconds)*time.Second, ttl)
		require.NoError(t, o.users.Set(t.Context(), "ttl", User{}, ttl))
		got, ok := o.users.TTL(t.Context(), "ttl")
		assert.True(t, ok)
		assert.InDelta(t, ttl, got, float64(30*time.Second))
		assert.InDelta(t, ttl, o.rdb.PTTL(t.Context(), "ghl:user:ttl").Val(), float64(30*time.Second))
	}
}

func (o *original) existence(t *testing.T) {
	ctx := t.Context()
	assert.False(t, o.users.Exists(ctx, "7"))
	_, ok := o.users.TTL(ctx, "7")
	assert.False(t, ok, "the original's -2")
	require.NoError(t, o.users.Set(ctx, "7", User{}, tier.NoExpiry))
	assert.True(t, o.users.Exists(ctx, "7"))
	ttl, ok := o.users.TTL(ctx, "7")
	assert.True(t, ok)
	assert.Equal(t, tier.NoExpiry, ttl, "the original's -1")
	assert.EqualValues(t, -1, o.rdb.PTTL(ctx, "ghl:user:7").Val(), "in Redis, too")

	c, err := tier.NewCounter(o.node, "count", tier.CounterOptions{})
	require.NoError(t, err)
	v, err := c.Increment(ctx, "7", 10)
	require.NoError(t, err)
	assert.EqualValues(t, 10, v)
	v, err = c.Decrement(ctx, "7", 3)
	require.NoError(t, err)
	assert.EqualValues(t, 7, v)
}

// catalog stores something under each key of the catalog, and finds it in Redis
// under the name that the original gave it.
func (o *original) catalog(t *testing.T) {
	ctx := t.Context()
	for _, k := range []struct {
		kind    keys.Kind
		id, key string
	}{
		{ghl.User().Kind, ghl.User().ID("9"), "ghl:user:9"},
		{ghl.Workflow().Kind, ghl.Workflow().ID("9"), "ghl:workflow:9"},
		{ghl.WorkflowDefinition().Kind, ghl.WorkflowDefinition().ID("9"), "ghl:workflow:definition:9"},
		{ghl.Session().Kind, ghl.Session().ID("9"), "ghl:session:9"},
		{ghl.Leads().Kind, ghl.Leads().ID("9"), "ghl:leads:9"},
	} {
		cache, err := tier.New(o.node, k.kind.Name(), tier.Options[User]{Jitter: -1})
		require.NoError(t, err)
		require.NoError(t, cache.Set(ctx, k.id, User{}, 0))
		assert.EqualValues(t, 1, o.rdb.Exists(ctx, k.key).Val(), k.key)
	}
	for _, k := range []struct {
		kind    keys.Kind
		id, key string
	}{
		{ghl.UserCredits().Kind, ghl.UserCredits().ID("9"), "ghl:credits:9"},
		{ghl.RateLimit().Kind, ghl.RateLimit().ID("9", "search"), "ghl:rate:9:search"},
	} {
		c, err := tier.NewCounter(o.node, k.kind.Name(), tier.CounterOptions{Window: time.Minute})
		require.NoError(t, err)
		_, err = c.Increment(ctx, k.id, 5)
		require.NoError(t, err)
		assert.Equal(t, "5", o.rdb.Get(ctx, k.key).Val(), k.key)
	}
}

func (o *original) health(t *testing.T) {
	h := o.node.Health(t.Context())
	assert.True(t, h.Healthy)
	assert.Positive(t, h.Latency)
	s := o.node.Stats()
	assert.True(t, s.Available)
	assert.Zero(t, s.ReconnectAttempts)
}

// rateLimit is exact although many count at once, and its window is set with
// the first call and by no other.
func (o *original) rateLimit(t *testing.T) {
	ctx := t.Context()
	c, err := tier.NewCounter(o.node, ghl.RateLimit().Name(), tier.CounterOptions{Window: time.Minute})
	require.NoError(t, err)
	id := ghl.RateLimit().ID("123", "leads")
	const callers, limit = 50, 20
	var allowed atomic.Int64
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			d, err := c.Allow(ctx, id, limit)
			assert.NoError(t, err)
			if d.Allowed {
				allowed.Add(1)
			}
		})
	}
	running.Wait()
	assert.EqualValues(t, limit, allowed.Load())
	require.NoError(t, o.rdb.PExpire(ctx, "ghl:rate:123:leads", 30*time.Second).Err())
	d, err := c.Allow(ctx, id, limit)
	require.NoError(t, err)
	assert.False(t, d.Allowed)
	assert.LessOrEqual(t, d.RetryAfter, 30*time.Second, "the window is not extended")
	assert.Positive(t, d.RetryAfter)
}

func (o *original) patterns(t *testing.T) {
	ctx := t.Context()
	t.Run("user credits", func(t *testing.T) {
		c, err := tier.NewCounter(o.node, ghl.UserCredits().Name(), tier.CounterOptions{Window: time.Minute})
		require.NoError(t, err)
		_, err = c.Increment(ctx, "123", 100)
		require.NoError(t, err)
		left, err := c.Decrement(ctx, "123", 30)
		require.NoError(t, err)
		assert.EqualValues(t, 70, left)
		assert.Equal(t, "70", o.rdb.Get(ctx, "ghl:credits:123").Val())
	})
	t.Run("session storage", func(t *testing.T) {
		sessions, err := tier.New(o.node, ghl.Session().Name(), tier.Options[User]{Jitter: -1})
		require.NoError(t, err)
		require.NoError(t, sessions.Set(ctx, ghl.Session().ID("s1"), User{ID: "123"}, tier.TTLDay))
		s, ok := sessions.Get(ctx, ghl.Session().ID("s1"))
		assert.True(t, ok)
		assert.Equal(t, "123", s.ID)
		require.NoError(t, sessions.Delete(ctx, ghl.Session().ID("s1")))
		assert.False(t, sessions.Exists(ctx, ghl.Session().ID("s1")))
	})
	t.Run("invalidate after update, in another process", func(t *testing.T) {
		other := open(t, tier.Config{URL: o.srv.URL(), Prefix: ghl.Namespace})
		theirs, err := tier.New(other, ghl.User().Name(), tier.Options[User]{Jitter: -1})
		require.NoError(t, err)
		var name atomic.Value
		name.Store("Ada")
		load := func(context.Context) (User, error) { return User{"5", name.Load().(string)}, nil }
		for _, c := range []*tier.Cache[User]{o.users, theirs} {
			u, err := c.GetOrSet(ctx, "5", 0, load)
			require.NoError(t, err)
			assert.Equal(t, "Ada", u.Name)
		}
		name.Store("Grace") // the database has committed
		require.NoError(t, o.users.Delete(ctx, "5"))
		u, err := o.users.GetOrSet(ctx, "5", 0, load)
		require.NoError(t, err)
		assert.Equal(t, "Grace", u.Name, "at once in this process")
		await(t, "the other process to obey", 10*time.Second, func() bool {
			u, err := theirs.GetOrSet(ctx, "5", 0, load)
			return err == nil && u.Name == "Grace"
		})
	})
}

// mock is a node with the zero Config: what used REDIS_URL in production runs
// without a server in tests.
func (o *original) mock(t *testing.T) {
	n := open(t, tier.Config{})
	users, err := tier.New(n, ghl.User().Name(), tier.Options[User]{})
	require.NoError(t, err)
	require.NoError(t, users.Set(t.Context(), "123", User{"123", "Mock"}, 0))
	u, ok := users.Get(t.Context(), "123")
	assert.True(t, ok)
	assert.Equal(t, "Mock", u.Name)
	assert.True(t, n.Health(t.Context()).Healthy)
	assert.Zero(t, o.rdb.Exists(t.Context(), "ghl:user:123").Val(), "nothing of it is in Redis")
}

// redisCLI does what the section "With redis-cli" of the README shows.
func (o *original) redisCLI(t *testing.T) {
	ctx := t.Context()
	c, err := tier.New(o.node, ghl.Leads().Name(), tier.Options[User]{Jitter: -1})
	require.NoError(t, err)
	set := func() { require.NoError(t, c.Set(ctx, "123", User{"123", "Ada"}, tier.TTLShort)) }
	set()
	assert.Contains(t, o.rdb.Get(ctx, "ghl:leads:123").Val(), "Ada", "GET shows the value, as msgpack")
	assert.InDelta(t, time.Minute, o.rdb.TTL(ctx, "ghl:leads:123").Val(), float64(30*time.Second))
	assert.EqualValues(t, -2, o.rdb.TTL(ctx, "ghl:leads:absent").Val())
	assert.Positive(t, o.rdb.MemoryUsage(ctx, "ghl:leads:123").Val())
	assert.Contains(t, o.rdb.Info(ctx, "memory").Val(), "used_memory_human")
	assert.NotEmpty(t, o.rdb.PubSubNumSub(ctx, "ghl:!bus:0").Val())

	// A foreign DEL publishes nothing: L2 obeys at once, memory when it asks
	// again.
	brief, err := tier.New(o.node, "brief", tier.Options[User]{Local: tier.Local{TTL: 50 * time.Millisecond}})
	require.NoError(t, err)
	require.NoError(t, brief.Set(ctx, "123", User{}, 0))
	require.NoError(t, o.rdb.Del(ctx, "ghl:brief:123").Err())
	await(t, "Local.TTL to end", 10*time.Second, func() bool { return !brief.Exists(ctx, "123") })
	require.NoError(t, o.rdb.Del(ctx, "ghl:leads:123").Err())
	other := open(t, tier.Config{URL: o.srv.URL(), Prefix: ghl.Namespace})
	theirs, err := tier.New(other, ghl.Leads().Name(), tier.Options[User]{Jitter: -1})
	require.NoError(t, err)
	assert.False(t, theirs.Exists(ctx, "123"), "a process that had no copy sees it at once")

	set()
	all := o.rdb.Keys(ctx, "ghl:*").Val() // clear the application's keys
	assert.Contains(t, all, "ghl:leads:123")
	require.NoError(t, o.rdb.Unlink(ctx, all...).Err())
	for _, key := range o.rdb.Keys(ctx, "*").Val() {
		assert.True(t, strings.HasPrefix(key, "ghl:!"), "%q is neither under the prefix nor Tandem's own", key)
	}
	set()
	assert.EqualValues(t, 1, o.rdb.Exists(ctx, "ghl:leads:123").Val(), "and the application goes on")
}

func (o *original) outage(t *testing.T) {
	ctx := t.Context()
	require.NoError(t, o.users.Set(ctx, "known", User{"known", "Ada"}, 0))
	o.srv.Stop()
	require.NoError(t, o.users.Set(ctx, "1", User{}, 0))
	require.NoError(t, o.users.Delete(ctx, "1"))
	_, ok := o.users.Get(ctx, "1")
	assert.False(t, ok)
	_, err := o.users.GetOrSet(ctx, "1", 0, func(context.Context) (User, error) { return User{}, nil })
	require.NoError(t, err)
	_, ok = o.users.Get(ctx, "known")
	assert.True(t, ok, "better than the original: memory goes on serving")
	_, err = o.users.DeletePrefix(ctx, "2")
	require.NoError(t, err)
	assert.False(t, o.node.Health(ctx).Healthy)
	await(t, "the breaker to open", 10*time.Second, func() bool { return !o.node.Stats().Available })
	o.srv.Restart()
	await(t, "Redis to be back", 10*time.Second, func() bool { return o.node.Health(ctx).Healthy })
}
