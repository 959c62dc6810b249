package invalidation_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

// fakeServer speaks as much RESP as a subscriber needs, and lies on demand.
type fakeServer struct {
	ln   net.Listener
	work sync.WaitGroup

	// answer returns what follows a command, given the right answer. conn counts
	// the connections from 1 on.
	answer func(conn int, command []string, right string) string
}

func startFake(t *testing.T, answer func(conn int, command []string, right string) string) *fakeServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &fakeServer{ln: ln, answer: answer}
	f.work.Go(f.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		f.work.Wait()
	})
	return f
}

func (f *fakeServer) accept() {
	for count := 1; ; count++ {
		conn, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.work.Go(func() {
			defer func() { _ = conn.Close() }()
			f.serve(conn, count)
		})
	}
}

func (f *fakeServer) serve(conn net.Conn, count int) {
	in := bufio.NewReader(conn)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		right := "+OK\r\n"
		switch strings.ToUpper(command[0]) {
		case "HELLO":
			right = "-ERR unknown command\r\n"
		case "SUBSCRIBE":
			right = "*3\r\n" + bulk("subscribe") + bulk(command[1]) + ":1\r\n"
		case "PING":
			right = "*2\r\n" + bulk("pong") + bulk(command[1])
		}
		if _, err := io.WriteString(conn, f.answer(count, command, right)); err != nil {
			return
		}
	}
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func readCommand(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	count, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil {
		return nil, err
	}
	var args []string
	for range count {
		if line, err = in.ReadString('\n'); err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.TrimSpace(line[1:]))
		if err != nil {
			return nil, err
		}
		arg := make([]byte, size+2)
		if _, err := io.ReadFull(in, arg); err != nil {
			return nil, err
		}
		args = append(args, string(arg[:size]))
	}
	return args, nil
}

// onPing makes the third PING of the first connection be answered by answer.
func onPing(answer func(right string) string) func(int, []string, string) string {
	pings := 0
	return func(conn int, command []string, right string) string {
		if conn == 1 && strings.EqualFold(command[0], "PING") {
			if pings++; pings == 3 {
				return answer(right)
			}
		}
		return right
	}
}

// B4: what a server must not do ends the link.
func TestRedis_violationsOfTheServerAreGaps(t *testing.T) {
	event := func(kind, channel string, n int) string {
		return "*3\r\n" + bulk(kind) + bulk(channel) + fmt.Sprintf(":%d\r\n", n)
	}
	for _, tt := range []struct {
		name   string
		answer func(right string) string
		want   invalidation.GapReason
	}{
		{"ends the subscription", func(r string) string { return event("unsubscribe", testChannel, 0) + r }, invalidation.GapUnsubscribed},
		{"moves the slot", func(r string) string { return event("sunsubscribe", testChannel, 0) + r }, invalidation.GapUnsubscribed},
		{"confirms twice", func(r string) string { return event("subscribe", testChannel, 1) + r }, invalidation.GapUnsubscribed},
		{"leaves a PING out", func(string) string { return "" }, invalidation.GapProtocol},
		{"answers twice", func(r string) string { return r + r }, invalidation.GapProtocol},
		{"answers what was not asked", func(string) string { return "*2\r\n" + bulk("pong") + bulk("x") }, invalidation.GapProtocol},
		{"sends an error", func(string) string { return "-ERR something\r\n" }, invalidation.GapLink},
		{"sends another kind", func(string) string { return "*1\r\n" + bulk("hello") }, invalidation.GapLink},
		{"sends what makes go-redis panic", func(string) string { return "*1\r\n:1\r\n" }, invalidation.GapLink},
		{"announces a payload of 512 MiB", func(string) string { return "*3\r\n$536870912\r\n" }, invalidation.GapProtocol},
		{"announces a billion elements", func(string) string { return "*1000000000\r\n" }, invalidation.GapProtocol},
		{"never ends a line", func(string) string { return "+" + strings.Repeat("x", 100<<10) }, invalidation.GapProtocol},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startFake(t, onPing(tt.answer))
			r := newRecorder(t)
			c := client(t, &redis.Options{Addr: f.ln.Addr().String()})
			mustSubscribe(t, newRedis(t, c, quick()), r)
			gap := r.awaitLoss(0)
			assert.Equal(t, tt.want, r.all()[gap].gap)
			back := r.awaitGap(gap, invalidation.GapSubscribed)
			r.awaitHeard(back, r.all()[back].at)
			r.checkProof()
		})
	}
}

// B3: a server that cannot save refuses the PINGs, in turn, and goes on to deliver.
// So an error proves as much as an answer, but only of a PING.
func TestRedis_refusedPingsAreAnswers(t *testing.T) {
	t.Parallel()
	const refusal = "-MISCONF Redis is configured to save RDB snapshots\r\n"
	text := string(sample(t, testNode, 1))
	f := startFake(t, func(conn int, command []string, right string) string {
		switch {
		case strings.EqualFold(command[0], "PING"):
			return "*3\r\n" + bulk("message") + bulk(testChannel) + bulk(text) + refusal
		case conn == 1 && strings.EqualFold(command[0], "SUBSCRIBE"):
			return refusal
		}
		return right
	})
	r := newRecorder(t)
	sub, err := newRedis(t, client(t, &redis.Options{Addr: f.ln.Addr().String()}), quick()).Subscribe(r)
	require.NoError(t, err)
	defer func() { assert.NoError(t, sub.Close()) }()
	stands := r.awaitGap(0, invalidation.GapSubscribed)
	assert.EqualValues(t, 2, sub.Stats().Links, "what was not asked is not answered")
	from := r.awaitHeard(stands, time.Now())
	r.awaitHeard(from, time.Now())
	r.checkProof()
	first := slices.IndexFunc(r.all(), func(e event) bool { return e.message != nil })
	assert.Less(t, first, from, "what was delivered before is told before")
	assert.EqualValues(t, 2, sub.Stats().Links)
	assert.EqualValues(t, 1, sub.Stats().Gaps)
}

// What belongs to another channel, or has another shape, is not ours.
func TestRedis_ignoresWhatIsNotOnItsChannel(t *testing.T) {
	text := string(sample(t, testNode, 1))
	f := startFake(t, onPing(func(right string) string {
		list := "*3\r\n" + bulk("message") + bulk(testChannel) + "*1\r\n" + bulk("x")
		return "*3\r\n" + bulk("message") + bulk("other") + bulk(text) + list + right
	}))
	r := newRecorder(t)
	sub := mustSubscribe(t, newRedis(t, client(t, &redis.Options{Addr: f.ln.Addr().String()}), quick()), r)
	require.Eventually(t, func() bool { return sub.Stats().Garbage == 2 }, patience, time.Millisecond)
	r.awaitHeard(0, time.Now())
	assert.Empty(t, r.seqs(testNode))
	assert.EqualValues(t, 1, sub.Stats().Links)
}

// A server that takes the connection and the SUBSCRIBE and says nothing.
func TestRedis_anUnconfirmedSubscriptionIsGivenUp(t *testing.T) {
	f := startFake(t, func(conn int, command []string, right string) string {
		if conn < 3 && strings.EqualFold(command[0], "SUBSCRIBE") {
			return ""
		}
		return right
	})
	r := newRecorder(t)
	begin := time.Now()
	sub := mustSubscribe(t, newRedis(t, client(t, &redis.Options{Addr: f.ln.Addr().String()}), quick()), r)
	assert.Equal(t, invalidation.GapSubscribed, r.all()[0].gap, "nothing was lost before")
	assert.EqualValues(t, 3, sub.Stats().Links)
	assert.Less(t, time.Since(begin), 3*time.Second)
}

// A dialer that ignores its context does not delay anything but Close, and that
// is bounded.
func TestRedis_aDialerThatHangsIsAbandoned(t *testing.T) {
	var dials atomic.Int64
	release := make(chan struct{})
	hanging := client(t, &redis.Options{
		Addr: "127.0.0.1:1",
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			dials.Add(1)
			<-release
			return nil, io.EOF
		},
	})
	sub, err := newRedis(t, hanging, quick()).Subscribe(newRecorder(t))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return sub.Stats().Links >= 7 }, patience, time.Millisecond)
	assert.EqualValues(t, 4, dials.Load(), "that many may hang")
	begin := time.Now()
	require.ErrorIs(t, sub.Close(), invalidation.ErrBusy)
	assert.Less(t, time.Since(begin), 3*time.Second)
	close(release) // goleak sees to it that they end
}
