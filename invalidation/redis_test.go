package invalidation_test

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
)

const testChannel = "test:!bus:0"

// quick are options that make faults show soon.
func quick() invalidation.RedisOptions {
	return invalidation.RedisOptions{
		Channel: testChannel, PingEvery: 50 * time.Millisecond, DeadAfter: 500 * time.Millisecond,
		MinBackoff: 10 * time.Millisecond, MaxBackoff: 200 * time.Millisecond,
	}
}

func newRedis(t testing.TB, client redis.UniversalClient, opt invalidation.RedisOptions) *invalidation.Redis {
	t.Helper()
	bus, err := invalidation.NewRedis(client, opt)
	require.NoError(t, err)
	return bus
}

// client returns a client with timeouts that end before the test's patience.
func client(t testing.TB, opt *redis.Options) *redis.Client {
	t.Helper()
	c := redis.NewClient(opt)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestRedis_keepsTheContractOfTheBus(t *testing.T) {
	srv := redistest.Start(t)
	for _, tt := range []struct {
		name     string
		protocol int
	}{{"RESP2", 2}, {"RESP3", 3}} {
		t.Run(tt.name, func(t *testing.T) {
			testBus(t, func(t *testing.T) busUnderTest {
				proxy := redistest.NewProxy(t, srv)
				opt := proxy.Options()
				opt.Protocol = tt.protocol
				return busUnderTest{
					bus:  newRedis(t, client(t, opt), quick()),
					cut:  func() { proxy.Refuse(); proxy.Cut(redistest.PubSub) },
					heal: proxy.Accept,
				}
			})
		})
	}
}

func TestNewRedis_namesEveryFault(t *testing.T) {
	_, err := invalidation.NewRedis(nil, invalidation.RedisOptions{
		PingEvery: time.Second, DeadAfter: time.Second, MinBackoff: time.Hour,
	})
	for _, text := range []string{"client", "Channel", "DeadAfter", "MinBackoff"} {
		require.ErrorContains(t, err, text)
	}
	_, err = invalidation.NewRedis(nil, invalidation.RedisOptions{Channel: "c", PingEvery: -1})
	require.ErrorContains(t, err, "PingEvery")
	_, err = invalidation.NewRedis((*redis.Client)(nil), invalidation.RedisOptions{Channel: "c"})
	require.ErrorContains(t, err, "client")
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}, HeartbeatFrequency: time.Hour})
	defer func() { _ = ring.Close() }()
	_, err = invalidation.NewRedis(ring, invalidation.RedisOptions{Channel: "c"})
	require.ErrorContains(t, err, "Ring")
}

// testLoss breaks the link by fault and requires the gap, and by heal that it
// comes back with another.
func testLoss(t *testing.T, client redis.UniversalClient, fault, heal func()) (lost invalidation.GapReason) {
	t.Helper()
	bus := newRedis(t, client, quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	from := r.len()
	fault()
	gap := r.awaitLoss(from)
	heal()
	back := r.awaitGap(gap, invalidation.GapSubscribed)
	r.awaitHeard(back, r.all()[back].at)
	awaitPublish(t, bus, sample(t, testNode, 1))
	r.awaitMessage(back, 1)
	r.checkProof()
	require.NoError(t, sub.Close())
	return r.all()[gap].gap
}

// awaitPublish publishes as soon as the client has got over the fault.
func awaitPublish(t testing.TB, bus invalidation.Bus, msg []byte) {
	t.Helper()
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return bus.Publish(ctx, msg) == nil
	}, patience, 20*time.Millisecond)
}

func nothing() {}

// B2, B4.
func TestRedis_lossOfTheServerIsAGapAndSoIsItsReturn(t *testing.T) {
	t.Run("killed and restarted", func(t *testing.T) {
		srv := redistest.Start(t)
		assert.Equal(t, invalidation.GapLink, testLoss(t, srv.Client(t), srv.Kill, srv.Restart))
	})
	t.Run("restarted at once", func(t *testing.T) {
		srv := redistest.Start(t)
		assert.Equal(t, invalidation.GapLink, testLoss(t, srv.Client(t), srv.Restart, nothing))
	})
	t.Run("frozen and thawed", func(t *testing.T) {
		srv := redistest.Start(t)
		assert.Equal(t, invalidation.GapSilent, testLoss(t, srv.Client(t), srv.Freeze, srv.Thaw))
	})
	t.Run("subscribers killed", func(t *testing.T) {
		srv := redistest.Start(t)
		kill := func() { srv.Do("CLIENT", "KILL", "TYPE", "pubsub") }
		assert.Equal(t, invalidation.GapLink, testLoss(t, srv.Client(t), kill, nothing))
	})
}

// B4: silence on the network, which no error ever shows.
func TestRedis_aBlackHoleIsAGap(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault func(p *redistest.Proxy)
		heal  func(p *redistest.Proxy)
	}{
		{"half open", func(p *redistest.Proxy) { p.HalfOpen(redistest.PubSub) }, func(*redistest.Proxy) {}},
		{"nothing arrives", func(p *redistest.Proxy) { p.Freeze(redistest.PubSub, redistest.ToClient) }, thaw},
		{"nothing gets through", func(p *redistest.Proxy) { p.Freeze(redistest.PubSub, redistest.ToServer) }, thaw},
		{"new links are silent too", func(p *redistest.Proxy) { p.Freeze(redistest.All, redistest.BothWays) }, thaw},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := redistest.NewProxy(t, redistest.Start(t))
			lost := testLoss(t, p.Client(t), func() { tt.fault(p) }, func() { tt.heal(p) })
			assert.Equal(t, invalidation.GapSilent, lost)
		})
	}
}

func thaw(p *redistest.Proxy) { p.Thaw(redistest.All) }

// B3: what is not answered is not heard, although messages arrive.
func TestRedis_messagesAloneAreNoProof(t *testing.T) {
	p := redistest.NewProxy(t, redistest.Start(t))
	bus := newRedis(t, p.Client(t), quick())
	r := newRecorder(t)
	mustSubscribe(t, bus, r)
	p.Freeze(redistest.PubSub, redistest.ToServer)
	frozen := time.Now()
	var seq uint64
	require.Eventually(t, func() bool { // messages keep the watchdog quiet
		seq++
		mustPublish(t, bus, sample(t, testNode, seq))
		_, last := lossIn(r.all())
		return last == invalidation.GapSilent
	}, patience, 50*time.Millisecond)
	for _, e := range r.all() {
		require.False(t, e.heard.After(frozen.Add(100*time.Millisecond)), "proof of a PING that cannot have arrived")
	}
	assert.Greater(t, seq, uint64(10))
}

// lossIn returns the last gap that is no confirmation, and its index.
func lossIn(events []event) (int, invalidation.GapReason) {
	for i, e := range slices.Backward(events) {
		if e.gap != invalidation.GapNone && e.gap != invalidation.GapSubscribed {
			return i, e.gap
		}
	}
	return -1, invalidation.GapNone
}

// B4: at most one gap a second, and none is forgotten.
func TestRedis_newerMessagesAreLimitedGaps(t *testing.T) {
	srv := redistest.Start(t)
	bus := newRedis(t, srv.Client(t), quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	newer := sample(t, testNode, 1)
	newer[2]++
	for range 50 {
		mustPublish(t, bus, newer)
	}
	first := r.awaitGap(0, invalidation.GapNewer)
	second := r.awaitGap(first+1, invalidation.GapNewer)
	events := r.all()
	assert.GreaterOrEqual(t, events[second].at.Sub(events[first].at), time.Second-time.Millisecond)
	assert.EqualValues(t, 50, sub.Stats().Newer)
	assert.EqualValues(t, 3, sub.Stats().Gaps, "with that of the confirmation")
}

// A message larger than any of ours costs a link, not memory.
func TestRedis_oversizedMessagesAreAGap(t *testing.T) {
	srv := redistest.Start(t)
	bus := newRedis(t, srv.Client(t), quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	from := r.len()
	require.NoError(t, srv.Client(t).Publish(t.Context(), testChannel, make([]byte, invalidation.MaxMessageBytes+1)).Err())
	gap := r.awaitLoss(from)
	assert.Equal(t, invalidation.GapProtocol, r.all()[gap].gap)
	r.awaitGap(gap, invalidation.GapSubscribed)
	assert.Zero(t, sub.Stats().Garbage)

	mustPublish(t, bus, make([]byte, invalidation.MaxMessageBytes)) // the largest passes, here as garbage
	mustPublish(t, bus, sample(t, testNode, 1))
	r.awaitMessage(gap, 1)
	assert.EqualValues(t, 1, sub.Stats().Garbage)
}

// B4: a handler so slow that Redis cuts the link.
func TestRedis_aSlowHandlerEndsInAGap(t *testing.T) {
	srv := redistest.Start(t, redistest.WithConfig("client-output-buffer-limit", "pubsub", "1mb", "1mb", "1"))
	bus := newRedis(t, srv.Client(t), quick())
	r := newRecorder(t)
	stuck, release := make(chan struct{}), make(chan struct{})
	r.on = func(e event) {
		if e.message != nil && e.message.Seq == 1 {
			close(stuck)
			<-release
		}
	}
	mustSubscribe(t, bus, r)
	mustPublish(t, bus, sample(t, testNode, 1))
	<-stuck
	big := make([]byte, 500_000)
	require.Eventually(t, func() bool {
		mustPublish(t, bus, big)
		return subscribers(srv) == 0
	}, patience, time.Millisecond)
	close(release)
	gap := r.awaitLoss(0)
	r.awaitGap(gap, invalidation.GapSubscribed)
	r.checkProof()
}

// subscribers returns how many connections of srv are subscribed.
func subscribers(srv *redistest.Server) int {
	list, _ := srv.Do("CLIENT", "LIST", "TYPE", "pubsub").(string)
	return strings.Count(list, "\n")
}

// Against a port where nobody listens there is a backoff, and one line of log.
func TestRedis_aDeadPortIsTriedWithBackoff(t *testing.T) {
	var mu sync.Mutex
	dials := 0
	opt := &redis.Options{Addr: "127.0.0.1:1", Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		dials++
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}
	log := &logRecorder{}
	o := quick()
	o.Logger = slog.New(log)
	o.MinBackoff, o.MaxBackoff = 20*time.Millisecond, 100*time.Millisecond
	begin := time.Now()
	sub, err := newRedis(t, client(t, opt), o).Subscribe(newRecorder(t))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return sub.Stats().Links >= 10 }, patience, time.Millisecond)
	took := time.Since(begin)
	require.NoError(t, sub.Close())
	// Without jitter: 20+30+45+67.5+5*100 ms; jitter takes off a half at most.
	assert.Greater(t, took, 300*time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	assert.LessOrEqual(t, uint64(dials), sub.Stats().Links, "one dial a link")
	assert.Len(t, log.lines(), 1)
	assert.Contains(t, sub.Stats().LastError, "refused")
	assert.False(t, sub.Stats().Confirmed)
}

// An owner that knows that the server is back need not wait for the pause to end.
func TestRedis_Renew_endsAPause(t *testing.T) {
	srv := redistest.Start(t)
	srv.Stop()
	o := quick()
	o.MinBackoff, o.MaxBackoff = 30*time.Second, time.Hour
	r := newRecorder(t)
	sub, err := newRedis(t, srv.Client(t), o).Subscribe(r)
	require.NoError(t, err)
	defer func() { assert.NoError(t, sub.Close()) }()
	require.Eventually(t, func() bool { return sub.Stats().BackoffFor > 0 }, patience, time.Millisecond)
	srv.Restart()
	sub.Renew()
	r.awaitGap(0, invalidation.GapSubscribed)
}

// NOPERM is told once and then there is silence: the link is rebuilt until the
// permission is there.
func TestRedis_aRefusedSubscriptionIsTriedAgain(t *testing.T) {
	srv := redistest.Start(t, redistest.WithUser("app", "on", ">secret", "+@all", "resetchannels"))
	opt := srv.Options()
	opt.Username, opt.Password = "app", "secret"
	r := newRecorder(t)
	sub, err := newRedis(t, client(t, opt), quick()).Subscribe(r)
	require.NoError(t, err)
	defer func() { assert.NoError(t, sub.Close()) }()
	require.Eventually(t, func() bool { return sub.Stats().Links >= 3 }, patience, time.Millisecond)
	assert.Contains(t, sub.Stats().LastError, "NOPERM")
	assert.Empty(t, r.all())
	srv.Do("ACL", "SETUSER", "app", "allchannels")
	r.awaitHeard(0, time.Time{})
}

// A client that is handed over stays as it is, whatever it is like.
func TestRedis_leavesTheClientAlone(t *testing.T) {
	srv := redistest.Start(t)
	opt := srv.Options()
	opt.ReadTimeout, opt.PoolSize, opt.MinIdleConns = -1, 1, 1
	c := client(t, opt)
	before := *c.Options()
	bus := newRedis(t, c, quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	assert.Equal(t, srv.Addr(), sub.Stats().Addr)
	require.NoError(t, sub.Close())
	require.NoError(t, c.Ping(t.Context()).Err(), "not closed")
	after := c.Options()
	assert.Equal(t, before.ReadTimeout, after.ReadTimeout)
	assert.Equal(t, before.PoolSize, after.PoolSize)
	assert.Equal(t, before.MinIdleConns, after.MinIdleConns)
	assert.Equal(t, before.MaxRetries, after.MaxRetries)
	require.Eventually(t, func() bool { return subscribers(srv) == 0 }, patience, time.Millisecond)
}

// Publish ends with its context although the client would wait for seconds, and
// closed subscriptions too.
func TestRedis_endsInTimeOnABlackHole(t *testing.T) {
	srv := redistest.Start(t)
	p := redistest.NewProxy(t, srv)
	opt := p.Options()
	opt.MaxRetries = -1
	opt.ReadTimeout = 1500 * time.Millisecond
	bus := newRedis(t, client(t, opt), quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	p.Freeze(redistest.All, redistest.BothWays)

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	require.ErrorIs(t, bus.Publish(ctx, sample(t, testNode, 1)), context.DeadlineExceeded)
	assert.Less(t, time.Since(begin), time.Second)

	begin = time.Now()
	require.NoError(t, sub.Close(), "of a link that stood")
	assert.Less(t, time.Since(begin), time.Second)

	count := r.len()
	sub, err := bus.Subscribe(r)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return sub.Stats().Links == 2 }, patience, time.Millisecond)
	begin = time.Now()
	require.NoError(t, sub.Close(), "of a link that is being made")
	assert.Less(t, time.Since(begin), time.Second)
	assert.Equal(t, count, r.len())
	thaw(p)
}

// logRecorder is a slog.Handler that keeps what is logged from Warn on.
type logRecorder struct {
	mu  sync.Mutex
	all []string
}

func (l *logRecorder) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}
func (l *logRecorder) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *logRecorder) WithGroup(string) slog.Handler      { return l }
func (l *logRecorder) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r.Message)
	return nil
}

func (l *logRecorder) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}
