package tier_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// guarded is some nodes that share a server, with a cache each.
type guarded struct {
	t      *testing.T
	db     *database
	nodes  []*tier.Node
	caches []*tier.Cache[row]
}

func openGuarded(t *testing.T, size int, cfg tier.Config) *guarded {
	f := &guarded{t: t, db: newDatabase()}
	for range size {
		n := open(t, cfg)
		f.nodes = append(f.nodes, n)
		f.caches = append(f.caches, cache(t, n, tier.Options[row]{Tags: tagTagged}))
	}
	return f
}

// tagTagged tags the value of one key.
func tagTagged(key string, _ row) []string {
	if key == "tagged" {
		return []string{"team"}
	}
	return nil
}

// awaitMarks waits until each node has left a mark on srv from now on.
func (f *guarded) awaitMarks(srv *redistest.Server) {
	f.t.Helper()
	marks := func() map[any]any {
		all := make(map[any]any)
		list, _ := srv.Do("zrange", "tandem:!fleet", 0, -1, "withscores").([]any)
		for _, pair := range list {
			if p, ok := pair.([]any); ok && !strings.Contains(fmt.Sprint(p[0]), ":") {
				all[p[0]] = p[1]
			}
		}
		return all
	}
	before := marks()
	await(f.t, "marks of all nodes", 10*time.Second, func() bool {
		now := marks()
		moved := 0
		for node, mark := range now {
			if before[node] != mark {
				moved++
			}
		}
		return moved == len(f.nodes)
	})
}

// seed stores the first version of keys and lets every node hold it.
func (f *guarded) seed(keys ...string) {
	f.t.Helper()
	for _, key := range keys {
		f.db.write(key)
		for _, c := range f.caches {
			v, err := c.GetOrSet(f.t.Context(), key, 0, f.db.loader(key))
			require.NoError(f.t, err)
			require.EqualValues(f.t, 1, v.Version)
		}
	}
}

// mustNotServeOld reads keys on every node until none is loaded any more, and
// fails at any version below want. It returns how long that took.
func (f *guarded) mustNotServeOld(want int64, limit time.Duration, keys ...string) time.Duration {
	f.t.Helper()
	begun := time.Now()
	for _, key := range keys {
		await(f.t, key+" to be cached again on every node", limit, func() bool {
			settled := true
			for i, c := range f.caches {
				before := f.db.loadsOf(key)
				v, err := c.GetOrSet(f.t.Context(), key, 0, f.db.loader(key))
				require.NoError(f.t, err)
				require.GreaterOrEqual(f.t, v.Version, want, "node %d served what had been invalidated (%s)", i, key)
				settled = settled && f.db.loadsOf(key) == before
			}
			return settled
		})
	}
	return time.Since(begun)
}

// NothingForgotten, row "Redis comes back from an old file": what it had
// acknowledged and lost is issued again, and nobody who knew of it is served
// what came back.
func TestNothingForgotten_restartFromAnOldFile(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	f := openGuarded(t, 3, tier.Config{URL: srv.URL()})
	keys := []string{"deleted", "p:1", "p:2", "set", "tagged"}
	f.seed(keys...)
	f.awaitMarks(srv)
	old := srv.Snapshot()

	for _, key := range keys {
		f.db.write(key)
	}
	require.NoError(t, f.caches[0].Delete(t.Context(), "deleted"))
	_, err := f.caches[0].DeletePrefix(t.Context(), "p")
	require.NoError(t, err)
	require.NoError(t, f.caches[1].Set(t.Context(), "set", row{Key: "set", Version: 2}, 0))
	require.NoError(t, f.nodes[2].InvalidateTags(t.Context(), "team"))
	f.awaitHeard(keys...)
	spare := redistest.Start(t)
	spare.RestartFrom(old)
	require.NotNil(t, spare.Do("get", "tandem:row:deleted"), "void: the old value does not come back")
	srv.RestartFrom(old)
	took := f.mustNotServeOld(2, 20*time.Second, keys...)
	t.Logf("measured: restart from an old file: coherent and cached again %v after Redis answered (Δ %v)", took.Round(time.Millisecond), f.nodes[0].Stats().MaxStaleness)
	for _, n := range f.nodes {
		assert.Zero(t, n.Stats().Journal.Owed)
	}
}

// awaitHeard waits until no node serves the first version of keys.
func (f *guarded) awaitHeard(keys ...string) {
	f.t.Helper()
	for _, key := range keys {
		for _, c := range f.caches {
			await(f.t, "the change of "+key+" to arrive", 5*time.Second, func() bool {
				v, ok := c.Get(f.t.Context(), key)
				return !ok || v.Version > 1
			})
		}
	}
}

// NothingForgotten, where more was lost than a node remembers: the caches are
// cleared, once for all nodes.
func TestNothingForgotten_moreIsLostThanIsRemembered(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	logged, logger := newDiary()
	f := openGuarded(t, 8, tier.Config{URL: srv.URL(), MaxPending: 3, Logger: logger})
	keys := []string{"1", "2", "3", "4", "5", "6", "7"}
	f.seed(keys...)
	f.awaitMarks(srv)
	old := srv.Snapshot()
	for _, key := range keys {
		f.db.write(key)
		require.NoError(t, f.caches[0].Delete(t.Context(), key))
	}
	f.awaitHeard(keys...)
	srv.RestartFrom(old)
	f.mustNotServeOld(2, 20*time.Second, keys...)
	assert.Equal(t, 1, logged.entries(loggedClear), "the fleet clears once")
}

// diary counts what nodes log.
type diary struct {
	slog.Handler
	mu     sync.Mutex
	counts map[string]int // guards: mu
}

func newDiary() (*diary, *slog.Logger) {
	d := &diary{Handler: slog.DiscardHandler, counts: make(map[string]int)}
	return d, slog.New(d)
}

func (d *diary) Handle(_ context.Context, r slog.Record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[r.Message]++
	return nil
}

func (d *diary) Enabled(context.Context, slog.Level) bool { return true }

// entries returns how often text was logged.
func (d *diary) entries(text string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[text]
}

// What the guard logs.
const (
	loggedRestart = "tier: redis may have lost invalidations, they are issued again"
	loggedClear   = "tier: cache cleared, redis lost more than is remembered"
)

// NothingForgotten: who has received an invalidation of a node that is gone
// bars the key, and after a while deletes it in its place.
func TestNothingForgotten_theOriginIsGone(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	f := openGuarded(t, 2, tier.Config{URL: srv.URL()})
	f.seed("1")
	f.awaitMarks(srv)
	old := srv.Snapshot()
	f.db.write("1")
	require.NoError(t, f.caches[0].Delete(t.Context(), "1"))
	f.awaitHeard("1")
	require.NoError(t, f.nodes[0].Close())
	f.nodes, f.caches = f.nodes[1:], f.caches[1:]
	srv.RestartFrom(old)
	took := f.mustNotServeOld(2, 20*time.Second, "1")
	assert.Greater(t, took, 5*time.Second, "void: nothing was barred")
	t.Logf("measured: the origin died with the server: cached again after %v", took.Round(time.Millisecond))
}

// NothingForgotten, row "a replica that lagged is promoted": behind the address
// of the primary, as with a virtual IP, while connections to the old one stay
// open for a while.
func TestNothingForgotten_laggingReplicaBehindTheSameAddress(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	proxy := redistest.NewProxy(t, primary)
	f := openGuarded(t, 2, tier.Config{URL: proxy.URL()})
	f.seed("1")
	f.awaitMarks(primary)
	replica := redistest.Start(t)
	replica.RestartFrom(primary.Snapshot())
	f.db.write("1")
	require.NoError(t, f.caches[0].Delete(t.Context(), "1"))
	f.awaitHeard("1")
	require.NotNil(t, replica.Do("get", "tandem:row:1"), "void: the old value does not come back")
	primary.Kill()
	proxy.PointTo(replica)
	proxy.Cut(redistest.All)
	took := f.mustNotServeOld(2, 20*time.Second, "1")
	assert.Less(t, took, 8*time.Second, "the origin has issued it again, and nobody was told")
	t.Logf("measured: a lagging replica behind the same address: coherent and cached again after %v", took.Round(time.Millisecond))
}

// A restart that loses nothing re-issues little and clears nothing: what is
// proved by marks stays.
func TestGuard_keepsWhatIsProved(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t, redistest.WithPersistence())
	logged, logger := newDiary()
	// On a busy machine a short Timeout would make loads and debts of its own.
	f := openGuarded(t, 2, tier.Config{URL: srv.URL(), Logger: logger, Timeout: 2 * time.Second})
	f.seed("kept", "deleted")
	f.db.write("deleted")
	require.NoError(t, f.caches[0].Delete(t.Context(), "deleted"))
	f.awaitMarks(srv)
	f.awaitMarks(srv)
	f.awaitMarks(srv)
	f.awaitMarks(srv)
	srv.Restart()
	f.mustNotServeOld(1, 10*time.Second, "kept")
	assert.Equal(t, 1, f.db.loadsOf("kept"), "what was proved to be there was loaded again")
	assert.Zero(t, logged.entries(loggedClear))
	for _, n := range f.nodes {
		assert.Zero(t, n.Stats().Journal.Paid, "something was issued again")
	}
}

// A server that was emptied is noticed: what it held is no longer fresh here.
func TestGuard_noticesAFlush(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	f := openGuarded(t, 1, tier.Config{URL: srv.URL()})
	f.seed("1")
	f.awaitMarks(srv)
	gaps := f.nodes[0].Stats().Bus.Gaps
	srv.FlushAll()
	await(t, "the flush to be noticed", 5*time.Second, func() bool { return f.nodes[0].Stats().Bus.Gaps > gaps })
	await(t, "the value to be gone", time.Second, func() bool { _, ok := f.caches[0].Get(t.Context(), "1"); return !ok })
}

// lagging is a fleet on a primary behind a proxy, and a replica that lacks what
// was invalidated since.
type lagging struct {
	*guarded
	primary, replica *redistest.Server
	proxy            *redistest.Proxy
}

func newLagging(t *testing.T, nodes int, cfg tier.Config, keys ...string) lagging {
	l := lagging{primary: redistest.Start(t), replica: redistest.Start(t)}
	l.proxy = redistest.NewProxy(t, l.primary)
	cfg.URL = l.proxy.URL()
	l.guarded = openGuarded(t, nodes, cfg)
	l.seed(keys...)
	l.awaitMarks(l.primary)
	l.replica.RestartFrom(l.primary.Snapshot())
	return l
}

// promote kills the primary and puts the replica in its place.
func (l lagging) promote() {
	l.proxy.PointTo(l.replica)
	l.primary.Kill()
}

// An invalidation whose reply is on its way when its server is lost: it is
// remembered from before it was sent.
func TestNothingForgotten_lostBetweenTheCommandAndItsReply(t *testing.T) {
	t.Parallel()
	logged, logger := newDiary()
	l := newLagging(t, 1, tier.Config{Timeout: 20 * time.Second, Logger: logger}, "1")
	c := l.caches[0]
	require.NoError(t, c.Delete(t.Context(), "another"), "the script is known from now on")
	l.db.write("1")
	held := l.proxy.HoldReply(func(cmd redistest.Command) bool {
		return strings.HasPrefix(cmd.Name(), "eval") && len(cmd) > 3 && cmd[3] == "tandem:row:1"
	})
	deleted := make(chan error, 1)
	go func() { deleted <- c.Delete(context.Background(), "1") }()
	held.Wait()
	require.Nil(t, l.primary.Do("get", "tandem:row:1"), "void: it has not run")
	l.promote()
	await(t, "the promotion to be noticed", 10*time.Second, func() bool { return logged.entries(loggedRestart) > 0 })
	held.Release()
	require.NoError(t, <-deleted)
	l.mustNotServeOld(2, 20*time.Second, "1")
}

// The first read that reaches the promoted replica, on a connection that it
// opens itself: it took its stamp before anybody knew of the promotion.
func TestNothingForgotten_firstContact(t *testing.T) {
	t.Parallel()
	for range 3 {
		l := newLagging(t, 2, tier.Config{}, "1")
		l.db.write("1")
		require.NoError(t, l.caches[0].Delete(t.Context(), "1"))
		l.awaitHeard("1")
		l.proxy.PointTo(l.replica)
		l.proxy.Cut(redistest.Commands)
		for i, c := range l.caches {
			for range 50 {
				if v, ok := c.Get(t.Context(), "1"); ok {
					require.EqualValues(t, 2, v.Version, "node %d served what had been invalidated", i)
				}
			}
		}
		l.mustNotServeOld(2, 20*time.Second, "1")
	}
}

// A node that finds itself on another server leaves the one that it is
// subscribed to, before it misses its own beats there.
func TestGuard_leavesTheServerOfBefore(t *testing.T) {
	t.Parallel()
	l := newLagging(t, 1, tier.Config{}, "1")
	at, next := l.primary, l.replica
	fastest := time.Hour
	for range 5 {
		await(t, "the node to hear", 10*time.Second, func() bool { return l.nodes[0].Stats().Bus.Hears })
		links := l.nodes[0].Stats().Bus.Links
		l.proxy.PointTo(next)
		l.proxy.Cut(redistest.Commands)
		_, _ = l.caches[0].Get(t.Context(), "2")
		fastest = min(fastest, timed(func() {
			await(t, "another subscription", 10*time.Second, func() bool { return l.nodes[0].Stats().Bus.Links > links })
		}))
		at, next = next, at
	}
	assert.Less(t, fastest, 1200*time.Millisecond, "it waited for its beats")
}

// A mark that reaches a server before that was met proves nothing of it, also
// when the reply is lost.
func TestNothingForgotten_markOnAServerThatWasNotMet(t *testing.T) {
	t.Parallel()
	logged, logger := newDiary()
	l := lagging{primary: redistest.Start(t), replica: redistest.Start(t)}
	l.proxy = redistest.NewProxy(t, l.primary)
	// A client that is handed over asks nobody who is there: the next look does.
	l.guarded = openGuarded(t, 1, tier.Config{Redis: l.proxy.Client(t), Logger: logger})
	l.seed("1")
	l.awaitMarks(l.primary)
	l.replica.RestartFrom(l.primary.Snapshot())
	l.db.write("1")
	require.NoError(t, l.caches[0].Delete(t.Context(), "1"))
	l.awaitMarks(l.primary)
	// Nothing of the old server's connections may be taken for the mark.
	l.proxy.Refuse()
	l.promote()
	await(t, "the connections to end", 5*time.Second, func() bool {
		l.proxy.Cut(redistest.All)
		return l.proxy.Connections(redistest.All) == 0
	})
	lost := l.proxy.CutReply(func(cmd redistest.Command) bool {
		return cmd.Name() == "eval" && len(cmd) > 3 && cmd[3] == "tandem:!fleet"
	})
	l.proxy.Accept()
	lost.Wait()
	await(t, "the promotion to be noticed", 10*time.Second, func() bool { return logged.entries(loggedRestart) > 0 })
	l.mustNotServeOld(2, 20*time.Second, "1")
}
