package invalidation_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
)

// C4: whatever breaks the link is a gap, and so is its return.
func TestTracking_lossAndReturnAreGaps(t *testing.T) {
	for _, tt := range []struct {
		name        string
		fault, heal func(srv *redistest.Server, p *redistest.Proxy)
		want        invalidation.GapReason
	}{
		{"killed by an administrator", func(s *redistest.Server, _ *redistest.Proxy) { s.Do("CLIENT", "KILL", "TYPE", "pubsub") }, noFault, invalidation.GapLink},
		{"killed and restarted", func(s *redistest.Server, _ *redistest.Proxy) { s.Kill() }, func(s *redistest.Server, _ *redistest.Proxy) { s.Restart() }, invalidation.GapLink},
		{"restarted at once", func(s *redistest.Server, _ *redistest.Proxy) { s.Restart() }, noFault, invalidation.GapLink},
		{"frozen and thawed", func(s *redistest.Server, _ *redistest.Proxy) { s.Freeze() }, func(s *redistest.Server, _ *redistest.Proxy) { s.Thaw() }, invalidation.GapSilent},
		{"half open", func(_ *redistest.Server, p *redistest.Proxy) { p.HalfOpen(redistest.PubSub) }, noFault, invalidation.GapSilent},
		{"nothing arrives", func(_ *redistest.Server, p *redistest.Proxy) { p.Freeze(redistest.PubSub, redistest.ToClient) }, thawed, invalidation.GapSilent},
		{"nothing gets through", func(_ *redistest.Server, p *redistest.Proxy) { p.Freeze(redistest.PubSub, redistest.ToServer) }, thawed, invalidation.GapSilent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := redistest.Start(t)
			p := redistest.NewProxy(t, srv)
			r := newChangeRecorder(t)
			l := mustListen(t, p.Client(t), r)
			from := r.len()
			tt.fault(srv, p)
			gap := r.awaitLoss(from)
			assert.Equal(t, tt.want, r.all()[gap].gap)
			tt.heal(srv, p)
			back := r.awaitGap(gap, invalidation.GapSubscribed)
			r.awaitHeard(back, r.all()[back].at)
			srv.Do("SET", "p:key", "1")
			r.awaitChange(back, "p:key")
			r.checkProof()
			assert.NotEmpty(t, l.Stats().LastError)
			require.NoError(t, l.Close())
		})
	}
}

func noFault(*redistest.Server, *redistest.Proxy)    {}
func thawed(_ *redistest.Server, p *redistest.Proxy) { p.Thaw(redistest.All) }

// A server that cannot track says so, once for each reason, and is tried again.
func TestTracking_aServerWithoutItIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(t *testing.T) *redis.Options
		want  string
	}{
		{"older than RESP3", func(t *testing.T) *redis.Options {
			return redistest.Start(t, redistest.WithConfig("rename-command", "HELLO", "")).Options()
		}, "HELLO"},
		{"speaks RESP2 only", func(t *testing.T) *redis.Options {
			f := startFake(t, func(_ int, command []string, right string) string {
				if !strings.EqualFold(command[0], "HELLO") {
					return right
				}
				return "*14\r\n" + bulk("server") + bulk("redis") + bulk("version") + bulk("7.0.0") + bulk("proto") + ":2\r\n" +
					bulk("id") + ":1\r\n" + bulk("mode") + bulk("standalone") + bulk("role") + bulk("master") + bulk("modules") + "*0\r\n"
			})
			return &redis.Options{Addr: f.ln.Addr().String()}
		}, "RESP2"},
		{"forbids it", func(t *testing.T) *redis.Options {
			opt := redistest.Start(t, redistest.WithUser("app", "on", ">secret", "+@all", "-client|tracking", "allkeys", "allchannels")).Options()
			opt.Username, opt.Password = "app", "secret"
			return opt
		}, "CLIENT TRACKING"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newChangeRecorder(t)
			l := listen(t, client(t, tt.start(t)), attentive(), r)
			refused := func(e event) bool { return e.refused != nil }
			first := r.await(0, "the refusal", refused)
			require.ErrorIs(t, r.all()[first].refused, invalidation.ErrNoTracking)
			require.ErrorContains(t, r.all()[first].refused, tt.want)
			r.await(first+1, "another try", refused)
			assert.Contains(t, l.Stats().LastError, tt.want)
			assert.Zero(t, l.Stats().Confirmed)
			for _, e := range r.all() {
				assert.NotNil(t, e.refused, "%+v", e)
			}
		})
	}
}

// What was forbidden and no longer is.
func TestTracking_beginsWhenItIsAllowed(t *testing.T) {
	srv := redistest.Start(t, redistest.WithUser("app", "on", ">secret", "+@all", "-client|tracking", "allkeys", "allchannels"))
	opt := srv.Options()
	opt.Username, opt.Password = "app", "secret"
	r := newChangeRecorder(t)
	listen(t, client(t, opt), attentive(), r)
	r.await(0, "the refusal", func(e event) bool { return e.refused != nil })
	srv.Do("ACL", "SETUSER", "app", "+client|tracking")
	r.awaitHeard(0, time.Time{})
	srv.Do("SET", "p:key", "1")
	r.awaitChange(0, "p:key")
}

// A server that is away, or that is busy, refuses nothing.
func TestTracking_aServerThatIsAwayIsNotRefused(t *testing.T) {
	r := newChangeRecorder(t)
	l := listen(t, client(t, &redis.Options{Addr: "127.0.0.1:1"}), attentive(), r)
	require.Eventually(t, func() bool { return l.Stats().Links >= 3 }, patience, time.Millisecond)
	assert.Contains(t, l.Stats().LastError, "refused")
	replica := redistest.StartSentinel(t).Nodes()[1]
	l = listen(t, replica.Client(t), attentive(), r)
	require.Eventually(t, func() bool { return l.Stats().Links >= 3 }, patience, time.Millisecond)
	assert.Contains(t, l.Stats().LastError, "replica")
	assert.Empty(t, r.all())
}

// C1, C4: the application's own steps at the start of a connection are kept.
func TestTracking_keepsTheStepsOfTheApplication(t *testing.T) {
	srv := redistest.Start(t)
	opt := srv.Options()
	opt.OnConnect = func(ctx context.Context, conn *redis.Conn) error { return conn.ClientSetName(ctx, "app").Err() }
	mustListen(t, client(t, opt), newChangeRecorder(t))
	list, _ := srv.Do("CLIENT", "LIST", "TYPE", "pubsub").(string)
	assert.Contains(t, list, "name=app ")
	assert.Contains(t, list, "flags=PtB ")
}

// C1, C4.
func TestTracking_survivesAPanicOverAChange(t *testing.T) {
	srv := redistest.Start(t)
	r := newChangeRecorder(t)
	r.on = func(e event) {
		if tells(e, "p:bad") || e.flushed {
			panic("of the handler")
		}
	}
	l := mustListen(t, srv.Client(t), r)
	for i, command := range [][]any{{"SET", "p:bad", "1"}, {"FLUSHALL"}} {
		from := r.len()
		srv.Do(command...)
		gap := r.awaitGap(from, invalidation.GapPanic)
		srv.Do("SET", "p:good", "1")
		r.awaitChange(gap, "p:good")
		r.awaitProof(gap)
		assert.EqualValues(t, i+1, l.Stats().Panics)
	}
	assert.EqualValues(t, 1, l.Stats().Links)
}

// Memory is bounded: what is too much at once costs a link and a gap.
func TestTracking_tooMuchAtOnceIsAGap(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script string
	}{
		{"keys", "for i = 1, 70000 do redis.call('SET', 'p:' .. i, '') end"},
		{"bytes", "for i = 1, 50 do redis.call('SET', 'p:' .. string.rep('x', 200000) .. i, '') end"},
		{"one key", "redis.call('SET', 'p:' .. string.rep('x', 2000000), '')"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := redistest.Start(t)
			r := newChangeRecorder(t)
			patient := attentive() // the script is a silence, too
			patient.DeadAfter = patience
			listen(t, srv.Client(t), patient, r)
			from := r.awaitHeard(0, time.Time{})
			srv.Do("EVAL", tt.script, 0)
			gap := r.awaitLoss(from)
			assert.Equal(t, invalidation.GapProtocol, r.all()[gap].gap)
			back := r.awaitGap(gap, invalidation.GapSubscribed)
			r.awaitHeard(back, r.all()[back].at)
		})
	}
}

// C4: a handler so slow that Redis cuts the link, which it does because the link
// is a subscriber's.
func TestTracking_aSlowHandlerEndsInAGap(t *testing.T) {
	srv := redistest.Start(t, redistest.WithConfig("client-output-buffer-limit", "pubsub", "1mb", "1mb", "1"))
	r := newChangeRecorder(t)
	stuck, release := make(chan struct{}), make(chan struct{})
	r.on = func(e event) {
		if tells(e, "p:first") {
			close(stuck)
			<-release
		}
	}
	mustListen(t, srv.Client(t), r)
	srv.Do("SET", "p:first", "1")
	<-stuck
	name := strings.Repeat("x", 100_000)
	count := 0
	require.Eventually(t, func() bool {
		count++
		srv.Do("SET", "p:"+name+strconv.Itoa(count), "1")
		return subscribers(srv) == 0
	}, patience, time.Millisecond)
	close(release)
	gap := r.awaitLoss(0)
	r.awaitGap(gap, invalidation.GapSubscribed)
	r.checkProof()
}

// A server that announces what no server does is cut off.
func TestTracking_aServerThatLiesIsAGap(t *testing.T) {
	announce := func(rest string) string { return ">2\r\n" + bulk("invalidate") + rest }
	for _, tt := range []struct{ name, answer string }{
		{"a number for keys", announce(":1\r\n")},
		{"numbers among the keys", announce("*2\r\n" + bulk("p:a") + ":1\r\n")},
		{"no keys", ">1\r\n" + bulk("invalidate")},
		{"half a frame", ">2\r\n" + bulk("invalidate") + "*100\r\n+"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t, tracking(onPing(func(right string) string { return tt.answer + right })))
			r := newChangeRecorder(t)
			mustListen(t, client(t, &redis.Options{Addr: f.ln.Addr().String()}), r)
			gap := r.awaitLoss(0)
			back := r.awaitGap(gap, invalidation.GapSubscribed)
			r.awaitHeard(back, r.all()[back].at)
			for _, e := range r.all() {
				assert.Nil(t, e.changed)
			}
			r.checkProof()
		})
	}
}

// tracking makes a fake server one that tracks and speaks RESP3.
func tracking(answer func(conn int, command []string, right string) string) func(int, []string, string) string {
	return func(conn int, command []string, right string) string {
		switch strings.ToUpper(command[0]) {
		case "HELLO":
			right = "%2\r\n" + bulk("proto") + ":3\r\n" + bulk("role") + bulk("master")
		case "SUBSCRIBE":
			right = ">" + right[1:]
		case "PING":
			right = bulk(command[1])
		}
		return answer(conn, command, right)
	}
}

// The end is in time on any network.
func TestListener_Close_isBounded(t *testing.T) {
	srv := redistest.Start(t)
	p := redistest.NewProxy(t, srv)
	r := newChangeRecorder(t)
	l := mustListen(t, p.Client(t), r)
	p.Freeze(redistest.All, redistest.BothWays)
	begin := time.Now()
	require.NoError(t, l.Close(), "of a link that stands")
	assert.Less(t, time.Since(begin), time.Second)
	l.Renew()

	release := make(chan struct{})
	opt := srv.Options()
	opt.Dialer = func(context.Context, string, string) (net.Conn, error) {
		<-release
		return nil, net.ErrClosed
	}
	count := r.len()
	l = listen(t, client(t, opt), attentive(), r)
	require.Eventually(t, func() bool { return l.Stats().Links >= 6 }, patience, time.Millisecond)
	begin = time.Now()
	require.ErrorIs(t, l.Close(), invalidation.ErrBusy, "of dials that hang")
	assert.Less(t, time.Since(begin), 3*time.Second)
	close(release)
	assert.Equal(t, count, r.len())
	thaw(p)
}
