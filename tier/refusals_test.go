package tier_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// refusal is a server that answers with errors.
type refusal struct {
	reads bool // it refuses writes alone
	opts  []redistest.Option
	begin func(t *testing.T, s *redistest.Server) (end func())
}

// setting refuses while a directive of the configuration has a value.
func setting(directive, on, off string) func(*testing.T, *redistest.Server) func() {
	return func(_ *testing.T, s *redistest.Server) func() {
		s.Do("config", "set", directive, on)
		return func() { s.Do("config", "set", directive, off) }
	}
}

// access refuses what the user of the node is not allowed any more.
func access(off, on []any) func(*testing.T, *redistest.Server) func() {
	return func(_ *testing.T, s *redistest.Server) func() {
		s.Do(append([]any{"acl"}, off...)...)
		return func() { s.Do(append([]any{"acl"}, on...)...) }
	}
}

func refusals() map[string]refusal {
	user := []redistest.Option{redistest.WithUser("app", "on", ">secret", "~*", "&*", "+@all")}
	return map[string]refusal{
		"NOREPLICAS":            {true, nil, setting("min-replicas-to-write", "1", "0")},
		"MISCONF":               {true, []redistest.Option{redistest.WithConfig("enable-protected-configs", "yes")}, cannotSave},
		"NOPERM of the channel": {true, user, access([]any{"setuser", "app", "resetchannels"}, []any{"setuser", "app", "allchannels"})},
		"NOPERM":                {false, user, access([]any{"setuser", "app", "-@all"}, []any{"setuser", "app", "+@all"})},
		"WRONGPASS":             {false, user, access([]any{"deluser", "app"}, []any{"setuser", "app", "on", ">secret", "~*", "&*", "+@all"})},
		"BUSY":                  {false, nil, busy},
		"LOADING": {false, []redistest.Option{
			redistest.WithPersistence(), redistest.WithConfig("key-load-delay", "1000"),
			redistest.WithConfig("loading-process-events-interval-bytes", "1024"),
		}, loading},
		"too many clients": {false, nil, crowded},
	}
}

func cannotSave(t *testing.T, s *redistest.Server) func() {
	dir := filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.Mkdir(dir, 0o700))
	s.Do("config", "set", "save", "3600 1")
	s.Do("config", "set", "dir", dir)
	require.NoError(t, os.Remove(dir))
	s.Do("bgsave")
	await(t, "the save to fail", 10*time.Second, func() bool { return s.Info("persistence")["rdb_last_bgsave_status"] == "err" })
	return func() { s.Do("config", "set", "stop-writes-on-bgsave-error", "no") }
}

func busy(t *testing.T, s *redistest.Server) func() {
	s.Do("config", "set", "lua-time-limit", "50")
	client := s.Client(t)
	ended := make(chan error, 1)
	go func() { ended <- client.Do(t.Context(), "eval", "while true do end", "0").Err() }()
	await(t, "the script to be noticed", 10*time.Second, func() bool {
		return redis.HasErrorPrefix(s.Client(t).Ping(t.Context()).Err(), "BUSY")
	})
	return func() {
		s.Do("script", "kill")
		require.Error(t, <-ended)
	}
}

func loading(_ *testing.T, s *redistest.Server) func() {
	s.Do("eval", "for i = 1, 1500 do redis.call('set', 'filler' .. i, i) end", "0")
	s.Stop()
	back := make(chan struct{})
	go func() {
		defer close(back)
		s.Restart()
	}()
	return func() { <-back }
}

func crowded(t *testing.T, s *redistest.Server) func() {
	conn := s.Client(t).Conn()
	do := func(args ...any) { require.NoError(t, conn.Do(t.Context(), args...).Err()) }
	do("config", "set", "maxclients", "1")
	do("client", "kill", "type", "normal", "skipme", "yes")
	return func() { do("config", "set", "maxclients", "1000") }
}

// FailOpen, NothingForgotten: whatever a server answers instead of what it was
// asked, reads load and changes are owed, and made as soon as it takes them.
func TestFailOpen_everyRefusal(t *testing.T) {
	t.Parallel()
	for name, refused := range refusals() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := redistest.Start(t, refused.opts...)
			cfg := tier.Config{URL: "redis://" + srv.Addr()}
			if srv.Do("acl", "getuser", "app") != nil {
				cfg.URL = "redis://app:secret@" + srv.Addr()
			}
			n := open(t, cfg)
			c, far := cache(t, n, tier.Options[row]{}), cache(t, open(t, cfg), tier.Options[row]{})
			db := newDatabase()
			for _, k := range []string{"set", "delete", "update", "expire", "pre:1", "tag", "strict", "other"} {
				db.write(k)
				require.NoError(t, c.Set(t.Context(), k, db.read(k), 0, "of:"+k))
				require.EqualValues(t, 1, mustGet(t, far, k))
			}
			end := refused.begin(t, srv)
			changesAreOwed(t, n, c, db)
			if refused.reads {
				startsAndReads(t, cfg.URL)
			}
			end()
			await(t, "the journal to be paid", 5*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
			for _, k := range []string{"set", "delete", "update", "expire", "pre:1", "tag"} {
				await(t, "the other node to obey about "+k, 5*time.Second, func() bool {
					got, err := far.GetOrSet(t.Context(), k, 0, db.loader(k))
					require.NoError(t, err)
					return got.Version == 2
				})
				await(t, k+" to be cached again", 5*time.Second, func() bool {
					before := db.loadsOf(k)
					_, err := c.GetOrSet(t.Context(), k, 0, db.loader(k))
					require.NoError(t, err)
					return db.loadsOf(k) == before
				})
			}
		})
	}
}

// changesAreOwed makes every kind of change, and reads.
func changesAreOwed(t *testing.T, n *tier.Node, c *tier.Cache[row], db *database) {
	const timeout = 200 * time.Millisecond
	quick := func(what string, calls int, f func() error) {
		took := timed(func() { require.NoError(t, f(), what) })
		assert.Less(t, took, time.Duration(calls)*timeout+slack, what)
	}
	for _, k := range []string{"set", "delete", "expire", "pre:1", "tag"} {
		db.write(k)
	}
	quick("set", 2, func() error { return c.Set(t.Context(), "set", row{Key: "set", Version: 2}, 0) })
	quick("delete", 2, func() error { return c.Delete(t.Context(), "delete") })
	quick("update", 4, func() error { _, err := c.Update(t.Context(), "update", 0, db.commit("update")); return err })
	quick("expire", 2, func() error { return c.Expire(t.Context(), "expire") })
	quick("prefix", 2, func() error { _, err := c.DeletePrefix(t.Context(), "pre"); return err })
	quick("tag", 2, func() error { return n.InvalidateTags(t.Context(), "of:tag") })
	assert.Equal(t, 6, n.Stats().Journal.Owed)
	for _, k := range []string{"set", "delete", "update", "expire", "pre:1", "tag", "new"} {
		for range 3 {
			quick("read of "+k, 1, func() error {
				got, err := c.GetOrSet(t.Context(), k, 0, db.loader(k))
				assert.Equal(t, db.version(k), got.Version, k)
				return err
			})
		}
	}
}

// startsAndReads wants a node that starts now, with a client of its own, to serve
// what is in Redis.
func startsAndReads(t *testing.T, url string) {
	opt, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(opt)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	n := open(t, tier.Config{Redis: client, Strict: true})
	c := cache(t, n, tier.Options[row]{})
	assert.EqualValues(t, 1, mustGet(t, c, "other"))
	require.ErrorIs(t, c.Delete(t.Context(), "strict"), tier.ErrUnavailable)
}

// FailOpen, BoundedStaleness: a server that cannot save refuses even PING, but it
// delivers and reads. So the nodes prove that they hear, and memory is served.
func TestFailOpen_cannotSave(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithConfig("enable-protected-configs", "yes"))
	n := open(t, tier.Config{URL: srv.URL(), Tracking: true})
	c := cache(t, n, tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
	fromMemory := func() bool {
		item, err := c.Lookup(t.Context(), "1")
		return err == nil && item.Tier == tier.TierL1
	}
	await(t, "memory to be served", 10*time.Second, fromMemory)
	hears := func() bool { s := n.Stats(); return s.Bus.Hears && s.Tracking.Hears }
	await(t, "the node to hear", 10*time.Second, hears)
	before := n.Stats()
	end := cannotSave(t, srv)
	await(t, "PINGs to be refused", 20*time.Second, func() bool {
		count, _ := strings.CutPrefix(srv.Info("errorstats")["errorstat_MISCONF"], "count=")
		refused, _ := strconv.Atoi(count)
		return refused >= 10
	})

	now := n.Stats()
	assert.Equal(t, before.Bus.Links, now.Bus.Links)
	assert.Equal(t, before.Tracking.Links, now.Tracking.Links)
	assert.Equal(t, before.Bus.Gaps, now.Bus.Gaps)
	assert.True(t, hears())
	assert.True(t, fromMemory())
	assert.True(t, now.Available)
	assert.True(t, n.Health(t.Context()).Healthy)
	require.NoError(t, c.Delete(t.Context(), "1"), "owed")
	mustMiss(t, c, "1")
	end()
	await(t, "the journal to be paid", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
}
