package tier_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// The interleavings that an unguarded cache falls for, forced on real nodes.
// Each of these tests fails when the mechanism that it is about is taken out
// (package mutant; the table is in mutants_test.go).

// pair is two nodes on one server, each behind a proxy of its own.
type pair struct {
	srv    *redistest.Server
	pa, pb *redistest.Proxy
	na, nb *tier.Node
	a, b   *tier.Cache[row]
}

func newPair(t *testing.T, cfg tier.Config) *pair {
	p := &pair{srv: redistest.Start(t)}
	p.pa, p.pb = redistest.NewProxy(t, p.srv), redistest.NewProxy(t, p.srv)
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second // what is held back is to come in time
	}
	cfg.URL = p.pa.URL()
	p.na = open(t, cfg)
	p.a = cache(t, p.na, tier.Options[row]{})
	cfg.URL = p.pb.URL()
	p.nb = open(t, cfg)
	p.b = cache(t, p.nb, tier.Options[row]{})
	// A node has a gap soon after it has subscribed if others changed something
	// before their first beat: it would cover up for the mechanism under test.
	await(t, "the first beats", 10*time.Second, func() bool {
		return p.na.Stats().Bus.Nodes == 2 && p.nb.Stats().Bus.Nodes == 2
	})
	return p
}

// barrier returns when b has handled every message that a sent before.
func (p *pair) barrier(t *testing.T, from, to *tier.Cache[row]) {
	t.Helper()
	require.NoError(t, to.Set(t.Context(), "barrier", row{Key: "barrier", Version: 1}, 0))
	inL1(t, to, "barrier", 1)
	require.NoError(t, from.Delete(t.Context(), "barrier"))
	await(t, "the messages", 10*time.Second, func() bool { return !serves(t, to, "barrier", 1)() })
}

// inL1 waits until a cache serves a key at a version from its local tier.
func inL1(t *testing.T, c *tier.Cache[row], key string, version int64) {
	t.Helper()
	await(t, fmt.Sprintf("%s to be in L1", key), 10*time.Second, func() bool {
		item, err := c.Lookup(t.Context(), key)
		return err == nil && item.Tier == tier.TierL1 && item.Value.Version == version
	})
}

// never polls a condition that must not come true: a put into ristretto takes
// a moment to show.
func never(t *testing.T, what string, bad func() bool) {
	t.Helper()
	const long = 300 * time.Millisecond
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < long; <-tick.C {
		if bad() {
			require.Fail(t, what)
		}
	}
}

// serves reports whether a cache has a key at a version.
func serves(t *testing.T, c *tier.Cache[row], key string, version int64) func() bool {
	return func() bool {
		v, ok := c.Get(t.Context(), key)
		return ok && v.Version == version
	}
}

// behind runs f, whose replies from Redis are held back, and returns when the
// server has run its command, with a function that lets the reply through and
// waits for f.
func behind(t *testing.T, srv *redistest.Server, p *redistest.Proxy, command string, f func()) (finish func()) {
	t.Helper()
	before := srv.Calls(command)
	p.Freeze(redistest.Commands, redistest.ToClient)
	var running sync.WaitGroup
	running.Go(f)
	await(t, command, 4*time.Second, func() bool { return srv.Calls(command) > before })
	return func() {
		p.Thaw(redistest.Commands)
		running.Wait()
	}
}

// PROTOCOL T9: what a read finds while a change is under way is void when the
// change returns.
func TestReadYourWrites_readDuringAChange(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{})
	changes := map[string]func(key string) error{
		"Set":    func(key string) error { return p.a.Set(context.Background(), key, row{Key: key, Version: 2}, 0) },
		"Delete": func(key string) error { return p.a.Delete(context.Background(), key) },
		"Prefix": func(key string) error { _, err := p.a.DeletePrefix(context.Background(), key); return err },
	}
	for name, change := range changes {
		require.NoError(t, p.b.Set(t.Context(), name, row{Key: name, Version: 1}, 0))
		held := p.pa.Hold(scriptOn(name))
		done := make(chan error)
		go func() { done <- change(name) }()
		held.Wait()
		inL1(t, p.a, name, 1)
		held.Release()
		require.NoError(t, <-done)
		never(t, name+" returned, and what was read during it is served", serves(t, p.a, name, 1))
	}
}

// PROTOCOL T2: a reply that was sent before a change, and arrives after the
// message of it, leaves nothing in L1.
func TestNoStaleFill_replyBehindTheMessage(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	p.barrier(t, p.a, p.b)
	received := p.nb.Stats().Bus.Received
	finish := behind(t, p.srv, p.pb, "getrange", func() { p.b.Get(context.Background(), "k") })
	require.NoError(t, p.a.Delete(t.Context(), "k"))
	await(t, "the message", 5*time.Second, func() bool { return p.nb.Stats().Bus.Received > received })
	finish()
	never(t, "the value from before the message is served", serves(t, p.b, "k", 1))
}

// PROTOCOL T17: a Set whose reply arrives after the message of another node's
// change does not fill L1.
func TestNoStaleFill_setBehindAnothersChange(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{})
	require.NoError(t, p.a.Set(t.Context(), "other", row{Key: "other"}, 0)) // the script is known
	p.barrier(t, p.b, p.a)
	received := p.na.Stats().Bus.Received
	finish := behind(t, p.srv, p.pa, "evalsha", func() {
		assert.NoError(t, p.a.Set(context.Background(), "k", row{Key: "k", Version: 1}, 0))
	})
	require.NoError(t, p.b.Delete(t.Context(), "k"))
	await(t, "the message", 5*time.Second, func() bool { return p.na.Stats().Bus.Received > received })
	finish()
	never(t, "the value that another node deleted is served", serves(t, p.a, "k", 1))
}

// PROTOCOL T49: a reply that was under way when messages may have been missed
// is not used: it may come from before them. Redis is asked again.
func TestBoundedStaleness_replyAcrossAGap(t *testing.T) {
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	before, gaps := p.srv.Calls("getrange"), p.nb.Stats().Bus.Gaps
	finish := behind(t, p.srv, p.pb, "getrange", func() {
		v, ok := p.b.Get(context.Background(), "k")
		assert.True(t, ok)
		assert.EqualValues(t, 1, v.Version)
	})
	p.pb.Cut(redistest.PubSub)
	await(t, "the gap", 5*time.Second, func() bool { return p.nb.Stats().Bus.Gaps > gaps })
	finish()
	assert.Greater(t, p.srv.Calls("getrange"), before+1, "the reply from before the gap was used")
}

// PROTOCOL T8: no load is joined that is older than messages may be late.
func TestBoundedStaleness_oldLoadIsNotJoined(t *testing.T) {
	const heartbeat = 100 * time.Millisecond
	srv := redistest.Start(t)
	c := cache(t, open(t, tier.Config{URL: srv.URL(), Heartbeat: heartbeat}), tier.Options[row]{})
	began, end := make(chan struct{}), make(chan struct{})
	var readers sync.WaitGroup
	read := func(load func(context.Context) (row, error)) {
		readers.Go(func() {
			_, err := c.GetOrSet(context.Background(), "k", 0, load)
			assert.NoError(t, err)
		})
	}
	read(func(context.Context) (row, error) {
		close(began)
		<-end
		return row{Key: "k"}, nil
	})
	<-began
	<-time.After(3 * heartbeat)
	before := srv.Calls("evalsha", "eval")
	read(func(context.Context) (row, error) { return row{Key: "k"}, nil })
	await(t, "the second to ask for the lease itself", 5*time.Second, func() bool {
		// The first one's renewals are a second apart, the questions milliseconds.
		return srv.Calls("evalsha", "eval") > before+5
	})
	assert.Zero(t, c.Stats().Collapsed)
	close(end)
	readers.Wait()
}

// PROTOCOL T24: what changed while the subscription was away is not served from
// L1 when it is back.
func TestBoundedStaleness_changeWhileNotSubscribed(t *testing.T) {
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	inL1(t, p.b, "k", 1)
	links := p.nb.Stats().Bus.Links
	p.pb.Refuse()
	p.pb.Cut(redistest.PubSub)
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 2}, 0))
	p.pb.Accept()
	await(t, "the new subscription", 10*time.Second, func() bool {
		st := p.nb.Stats().Bus
		return st.Links > links && st.Hears
	})
	assert.EqualValues(t, 2, mustGet(t, p.b, "k"))
}

// PROTOCOL T26: a node that cannot prove that it hears asks Redis, however long
// that lasts and whatever it reads meanwhile.
func TestBoundedStaleness_silentLink(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	inL1(t, p.b, "k", 1)
	p.pb.Freeze(redistest.PubSub, redistest.ToClient)
	for version := int64(2); version < 6; version++ {
		require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: version}, 0))
		await(t, "another node's change", p.nb.Stats().MaxStaleness+slack, serves(t, p.b, "k", version))
		never(t, "L1 serves", func() bool {
			item, err := p.b.Lookup(t.Context(), "k")
			return err != nil || item.Tier != tier.TierL2
		})
	}
}

// PROTOCOL T30: a message that is lost without a trace is missed by its number.
func TestBoundedStaleness_lostMessage(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	for round := range 3 {
		key := fmt.Sprint("k", round)
		require.NoError(t, p.a.Set(t.Context(), key, row{Key: key, Version: 1}, 0))
		inL1(t, p.b, key, 1)
		drop := p.pb.DropMessages(1, func(m redistest.Message) bool {
			msg, err := invalidation.Parse([]byte(m.Payload))
			return err == nil && msg.Kind == invalidation.KindKeys
		})
		require.NoError(t, p.a.Set(t.Context(), key, row{Key: key, Version: 2}, 0))
		await(t, "the change whose message was lost", p.nb.Stats().MaxStaleness+slack, serves(t, p.b, key, 2))
		assert.Equal(t, 1, drop.Dropped())
	}
}

// A node that cannot be heard at all is missed by its beats.
func TestBoundedStaleness_nodeThatIsNotHeard(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	inL1(t, p.b, "k", 1)
	// Whose messages they are is learned from the change.
	var mu sync.Mutex
	var node invalidation.NodeID
	known := false
	p.pb.DropMessages(1_000_000, func(m redistest.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		msg, err := invalidation.Parse([]byte(m.Payload))
		if err == nil && msg.Kind == invalidation.KindKeys {
			node, known = msg.Node, true
		}
		return err == nil && known && msg.Node == node
	})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 2}, 0))
	await(t, "the change of a node that is not heard", p.nb.Stats().MaxStaleness+slack, serves(t, p.b, "k", 2))
}

// PROTOCOL T23: the message does not leave before the change is made.
func TestBoundedStaleness_messageAndChangeAreOne(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	p.barrier(t, p.a, p.b)
	held := p.pa.Hold(scriptOn("k"))
	done := make(chan error)
	go func() { done <- p.a.Delete(context.Background(), "k") }()
	held.Wait()
	p.barrier(t, p.a, p.b) // a message that was sent before would be heard now
	inL1(t, p.b, "k", 1)
	held.Release()
	require.NoError(t, <-done)
	await(t, "the change", p.nb.Stats().MaxStaleness+slack, func() bool { return !serves(t, p.b, "k", 1)() })
}

// PROTOCOL T14: a prefix deletion takes the permission from a load under way
// below the prefix, although nothing stands there yet.
func TestNoStaleFill_prefixOfALoadUnderWay(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{})
	db := newDatabase()
	db.write("p:1")
	read, release := make(chan struct{}), make(chan struct{})
	var loading sync.WaitGroup
	loading.Go(func() {
		_, err := p.b.GetOrSet(context.Background(), "p:1", 0, func(context.Context) (row, error) {
			v := db.read("p:1")
			close(read)
			<-release
			return v, nil
		})
		assert.NoError(t, err)
	})
	<-read
	db.write("p:1")
	_, err := p.a.DeletePrefix(t.Context(), "p")
	require.NoError(t, err)
	close(release)
	loading.Wait()
	never(t, "the load stored what it read before", serves(t, p.a, "p:1", 1))
}

// PROTOCOL T62: a version of the cache that was read before a Clear, and arrives
// after the message of it, does not take its place.
func TestReadYourWrites_versionFromBeforeAClear(t *testing.T) {
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	gaps := p.nb.Stats().Bus.Gaps
	p.pb.Cut(redistest.PubSub)
	await(t, "the new subscription", 10*time.Second, func() bool {
		st := p.nb.Stats().Bus
		return st.Gaps > gaps+1 && st.Hears
	})
	// The version was forgotten over the gap: this read asks for it too.
	received := p.nb.Stats().Bus.Received
	finish := behind(t, p.srv, p.pb, "getrange", func() { p.b.Get(context.Background(), "k") })
	require.NoError(t, p.a.Clear(t.Context()))
	await(t, "the message", 5*time.Second, func() bool { return p.nb.Stats().Bus.Received > received })
	finish()
	never(t, "a value from before the Clear is served", serves(t, p.b, "k", 1))
}

// BoundedStaleness: a node that learns of a Clear from a record, before the
// message of it comes, obeys it at once. The message is no news to it then.
func TestBoundedStaleness_clearLearnedBeforeItsMessage(t *testing.T) {
	t.Parallel()
	reads := map[string]func(c *tier.Cache[row]){
		"Get":     func(c *tier.Cache[row]) { c.Get(context.Background(), "new") },
		"GetMany": func(c *tier.Cache[row]) { c.GetMany(context.Background(), []string{"new", "newer"}) },
	}
	for name, read := range reads {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, tier.Config{Heartbeat: 5 * time.Second})
			require.NoError(t, p.a.Set(t.Context(), "old", row{Key: "old", Version: 1}, 0))
			inL1(t, p.b, "old", 1)
			received := p.nb.Stats().Bus.Received
			p.pb.Freeze(redistest.PubSub, redistest.ToClient)
			require.NoError(t, p.a.Clear(t.Context()))
			require.NoError(t, p.a.Set(t.Context(), "new", row{Key: "new", Version: 2}, 0))
			read(p.b)
			require.Equal(t, received, p.nb.Stats().Bus.Received, "void: the message came first")
			assert.False(t, serves(t, p.b, "old", 1)(), "served although the node knows of the Clear")
			p.pb.Thaw(redistest.PubSub)
			await(t, "the message", 5*time.Second, func() bool { return p.nb.Stats().Bus.Received > received })
			never(t, "a value from before the Clear is served", serves(t, p.b, "old", 1))
		})
	}
}

// zombies are connections that fail a write with a certain text in it at once,
// and send it when they are told to: as a socket does whose program gave up.
type zombies struct {
	text string
	sent chan func() // one: sends what was written, and waits for the reply
}

type zombie struct {
	net.Conn
	of   *zombies
	mu   sync.Mutex
	held bool // guards: mu; the connection lives on for what was written
}

func (z *zombies) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &zombie{Conn: conn, of: z}, nil
}

func (c *zombie) Write(b []byte) (int, error) {
	if !strings.Contains(string(b), c.of.text) {
		return c.Conn.Write(b)
	}
	c.mu.Lock()
	c.held = true
	c.mu.Unlock()
	late := strings.Clone(string(b))
	select {
	case c.of.sent <- func() {
		defer c.Conn.Close()
		_ = c.Conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = c.Conn.Write([]byte(late))
		_, _ = c.Conn.Read(make([]byte, 1))
	}:
	default: // a second one is of no interest
		_ = c.Conn.Close()
	}
	return 0, errors.New("the connection is gone, as the test wants it")
}

func (c *zombie) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held {
		return nil
	}
	return c.Conn.Close()
}

// haunted returns a cache whose next Set of a value with the given text fails,
// with what sends it after all.
func haunted(t *testing.T, srv *redistest.Server, timeout time.Duration) (n *tier.Node, c *tier.Cache[row], z *zombies) {
	z = &zombies{text: "BOO!", sent: make(chan func(), 1)}
	o := srv.Options()
	o.Dialer, o.ContextTimeoutEnabled, o.MaxRetries = z.dial, true, -1
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	n = open(t, tier.Config{Redis: client, Timeout: timeout, Strict: true})
	c = cache(t, n, tier.Options[row]{})
	// From here on Redis knows the scripts.
	require.NoError(t, c.Set(t.Context(), "k", row{Key: "k"}, 0))
	require.NoError(t, c.Delete(t.Context(), "k"))
	return n, c, z
}

// PROTOCOL T36: a Set whose caller was told that it is owed, and that reaches
// Redis only after its replay, stores nothing.
func TestNothingForgotten_setThatRunsAfterItsReplay(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n, c, z := haunted(t, srv, 200*time.Millisecond)
	require.ErrorIs(t, c.Set(t.Context(), "k", row{Key: "k", Version: 1, Pad: "BOO!"}, 0), tier.ErrUnavailable)
	await(t, "the replay", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	(<-z.sent)()
	other := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	mustMiss(t, other, "k")
}

// The same, but it reaches Redis while it may still store: its replay comes
// only after that.
func TestNothingForgotten_replayAwaitsTheDeadline(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	n, c, z := haunted(t, srv, time.Second)
	require.ErrorIs(t, c.Set(t.Context(), "k", row{Key: "k", Version: 1, Pad: "BOO!"}, 0), tier.ErrUnavailable)
	// Long enough for a replay that does not wait.
	early := time.After(400 * time.Millisecond)
	await(t, "a replay", 10*time.Second, func() bool {
		select {
		case <-early:
			return true
		default:
			return n.Stats().Journal.Owed == 0
		}
	})
	(<-z.sent)()
	await(t, "the replay", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	other := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	mustMiss(t, other, "k")
}

// PROTOCOL T55: what Redis refuses to store leaves the old value there, which is
// deleted at once: that much a full server does.
func TestNothingForgotten_refusedSetDeletesAtOnce(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Strict: true})
	c, other := cache(t, n, tier.Options[row]{}), cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	require.NoError(t, c.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	srv.MaxMemory(1, "noeviction")
	require.NoError(t, c.Set(t.Context(), "k", row{Key: "k", Version: 2}, 0), "Redis did confirm the deletion")
	assert.Zero(t, n.Stats().Journal.Owed)
	mustMiss(t, other, "k")
}

// PROTOCOL T40: while a change is owed, its own node does not serve what still
// stands in Redis.
func TestNothingForgotten_owedKeyIsNotReadFromRedis(t *testing.T) {
	srv := redistest.Start(t)
	n := open(t, tier.Config{URL: srv.URL(), Strict: true})
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	db.write("k")
	require.NoError(t, c.Set(t.Context(), "k", db.read("k"), 0))
	srv.ReadOnly(true)
	db.write("k")
	require.ErrorIs(t, c.Delete(t.Context(), "k"), tier.ErrUnavailable)
	mustMiss(t, c, "k")
	v, err := c.GetOrSet(t.Context(), "k", 0, db.loader("k"))
	require.NoError(t, err)
	assert.EqualValues(t, 2, v.Version)
	srv.ReadOnly(false)
	await(t, "the replay", 10*time.Second, func() bool { return n.Stats().Journal.Owed == 0 })
	mustMiss(t, c, "k")
}

// A caller whose context has ended learns nothing of Redis: what may have been
// missed is not served in the place of an answer.
func TestBoundedStaleness_callerThatLeaves(t *testing.T) {
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	inL1(t, p.b, "k", 1)
	p.pb.Freeze(redistest.PubSub, redistest.ToClient)
	await(t, "the other node to be deaf", 5*time.Second, func() bool { return !p.nb.Stats().Bus.Hears })
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 2}, 0))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.b.GetOrSet(gone, "k", 0, func(context.Context) (row, error) { return row{}, nil })
	require.ErrorIs(t, err, context.Canceled)
	v, ok := p.b.Get(gone, "k")
	assert.False(t, ok, "served %+v", v)
	_, err = p.b.Lookup(gone, "k")
	require.ErrorIs(t, err, tier.ErrUnavailable)
	assert.Empty(t, p.b.GetMany(gone, []string{"k"}))
	_, err = p.b.GetOrSetMany(gone, []string{"k"}, 0, func(context.Context, []string) (map[string]row, error) { return nil, nil })
	require.ErrorIs(t, err, context.Canceled)
	assert.EqualValues(t, 2, mustGet(t, p.b, "k"))
}
