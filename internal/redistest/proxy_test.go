package redistest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// brief is how long a test waits for what must not come.
const brief = 60 * time.Millisecond

// proxied returns a server, a proxy and a client through it that never retries
// and has one connection, which is open.
func proxied(t *testing.T) (*Server, *Proxy, *redis.Client) {
	t.Helper()
	s := Start(t)
	p := NewProxy(t, s)
	c := impatient(t, p)
	require.NoError(t, c.Ping(t.Context()).Err())
	s.ResetStats()
	return s, p, c
}

func impatient(t *testing.T, p *Proxy) *redis.Client {
	t.Helper()
	o := p.Options()
	o.MaxRetries, o.DialerRetries, o.PoolSize, o.PipelinePoolSize = -1, 1, 1, -1
	o.ContextTimeoutEnabled = true
	return closed(t, redis.NewClient(o))
}

func briefly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), brief)
	t.Cleanup(cancel)
	return ctx
}

// listen subscribes through the proxy and returns the payloads that arrive.
func listen(t *testing.T, p *Proxy, channel string) <-chan string {
	t.Helper()
	sub := impatient(t, p).Subscribe(t.Context(), channel)
	_, err := sub.Receive(t.Context())
	require.NoError(t, err)
	got := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			m, err := sub.Receive(context.Background())
			if errors.Is(err, redis.ErrClosed) {
				return
			}
			if m, ok := m.(*redis.Message); ok {
				got <- m.Payload
			}
		}
	}()
	t.Cleanup(func() {
		_ = sub.Close()
		<-done
	})
	return got
}

func receive(t *testing.T, from <-chan string) string {
	t.Helper()
	select {
	case m := <-from:
		return m
	case <-time.After(deadline):
		require.Fail(t, "no message")
		return ""
	}
}

func silent(t *testing.T, from <-chan string) {
	t.Helper()
	select {
	case m := <-from:
		require.Fail(t, "message", m)
	case <-time.After(brief):
	}
}

func TestProxy_passesEverything(t *testing.T) {
	for _, protocol := range []int{2, 3} {
		t.Run(strconv.Itoa(protocol), func(t *testing.T) {
			s := Start(t, WithPassword("secret"))
			p := NewProxy(t, s)
			o, err := redis.ParseURL(p.URL())
			require.NoError(t, err)
			o.Protocol = protocol
			c := closed(t, redis.NewClient(o))
			big := bytes.Repeat([]byte("\r\n$1"), 1<<18)
			require.NoError(t, c.Set(t.Context(), "big", big, 0).Err())
			got, err := c.Get(t.Context(), "big").Bytes()
			require.NoError(t, err)
			assert.True(t, bytes.Equal(big, got))
			cmds, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
				for i := range 1000 {
					pipe.HSet(t.Context(), "h", i, i)
				}
				pipe.HGetAll(t.Context(), "h")
				return nil
			})
			require.NoError(t, err)
			assert.Len(t, cmds[1000].(*redis.MapStringStringCmd).Val(), 1000)
			require.ErrorIs(t, c.Get(t.Context(), "none").Err(), redis.Nil)
		})
	}
}

func TestProxy_Cut_endsOpenConnections(t *testing.T) {
	_, p, c := proxied(t)
	require.Equal(t, 1, p.Connections(Commands))
	p.Cut(PubSub)
	require.NoError(t, c.Ping(t.Context()).Err())
	p.Cut(Commands)
	await(t, "end of the link", func() error {
		if p.Connections(All) > 0 {
			return errors.New("open")
		}
		return nil
	})
	require.NoError(t, impatient(t, p).Ping(t.Context()).Err(), "a new connection is taken")
}

func TestProxy_Refuse_refusesNewConnectionsOnly(t *testing.T) {
	_, p, c := proxied(t)
	p.Refuse()
	_, err := net.Dial("tcp", p.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, c.Ping(t.Context()).Err())
	p.Accept()
	require.NoError(t, impatient(t, p).Ping(t.Context()).Err())
}

func TestProxy_Freeze_eachWay(t *testing.T) {
	for name, tc := range map[string]struct {
		dir Direction
		ran int64
	}{
		"to the server": {ToServer, 0},
		"to the client": {ToClient, 1},
		"both ways":     {BothWays, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, p, c := proxied(t)
			p.Freeze(Commands, tc.dir)
			require.Error(t, c.Incr(briefly(t), "n").Err())
			assert.Equal(t, tc.ran, s.Calls("incr"))
			p.Thaw(Commands)
			require.NoError(t, impatient(t, p).Ping(t.Context()).Err())
			await(t, "what was held back", func() error {
				if s.Calls("incr") != 1 {
					return errors.New("not run")
				}
				return nil
			})
		})
	}
}

func TestProxy_Delay_isLatency(t *testing.T) {
	_, p, c := proxied(t)
	p.Delay(Commands, brief)
	start := time.Now()
	_, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for range 100 {
			pipe.Incr(t.Context(), "n")
		}
		return nil
	})
	require.NoError(t, err)
	took := time.Since(start)
	assert.GreaterOrEqual(t, took, brief)
	assert.Less(t, took, 50*brief, "each reply waited for the one before")
}

func TestProxy_HalfOpen_leavesTheClientInSilence(t *testing.T) {
	s, p, c := proxied(t)
	p.HalfOpen(Commands)
	err := c.Incr(briefly(t), "n").Err()
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	assert.True(t, timeout.Timeout(), "%v", err)
	assert.Zero(t, s.Calls("incr"))
}

func TestProxy_DropReply_afterTheCommandRan(t *testing.T) {
	s, p, c := proxied(t)
	rule := p.DropReply(Named("incr"))
	require.ErrorIs(t, c.Get(t.Context(), "other").Err(), redis.Nil)
	require.Error(t, c.Incr(briefly(t), "n").Err())
	rule.Wait()
	assert.EqualValues(t, 1, s.Calls("incr"))
	require.NoError(t, impatient(t, p).Incr(t.Context(), "n").Err(), "one reply only")
}

func TestProxy_DropReply_letsNoLaterReplyTakeItsPlace(t *testing.T) {
	_, p, c := proxied(t)
	p.DropReply(Named("incr"))
	pipe := c.Pipeline()
	n := pipe.Incr(t.Context(), "n")
	pipe.Incr(t.Context(), "n")
	_, err := pipe.Exec(briefly(t))
	require.Error(t, err)
	assert.Zero(t, n.Val(), "the first took the reply of the second")
}

func TestProxy_CutReply_closesInstead(t *testing.T) {
	s, p, c := proxied(t)
	rule := p.CutReply(Named("incr"))
	require.ErrorIs(t, c.Incr(t.Context(), "n").Err(), io.EOF)
	rule.Wait()
	assert.EqualValues(t, 1, s.Calls("incr"))
}

func TestProxy_Hold_untilRelease(t *testing.T) {
	s, p, c := proxied(t)
	rule := p.Hold(func(c Command) bool { return c.Name() == "set" && c[1] == "k" })
	result := make(chan error, 1)
	go func() { result <- c.Set(context.Background(), "k", "v", 0).Err() }()
	rule.Wait()
	assert.Zero(t, s.Calls("set"))
	require.NoError(t, impatient(t, p).Set(t.Context(), "k", "between", 0).Err(), "one command only")
	rule.Release()
	rule.Release()
	require.NoError(t, <-result)
	assert.Equal(t, "v", s.Do("get", "k"))
}

func TestProxy_Hold_outlivesItsCaller(t *testing.T) {
	s, p, c := proxied(t)
	rule := p.Hold(Named("set"))
	require.Error(t, c.Set(briefly(t), "k", "late", 0).Err())
	assert.Nil(t, s.Do("get", "k"))
	rule.Release()
	await(t, "the late command", func() error {
		if s.Do("get", "k") == nil {
			return errors.New("not run")
		}
		return nil
	})
}

func TestProxy_HoldReply_afterTheCommandRan(t *testing.T) {
	s, p, c := proxied(t)
	rule := p.HoldReply(Named("set"))
	done := make(chan error, 1)
	go func() { done <- c.Set(context.Background(), "k", "v", 0).Err() }()
	rule.Wait()
	assert.Equal(t, "v", s.Do("get", "k"))
	select {
	case err := <-done:
		require.Fail(t, "the reply was not held", "%v", err)
	case <-time.After(brief):
	}
	rule.Release()
	require.NoError(t, <-done)
	require.NoError(t, c.Ping(t.Context()).Err(), "the connection works on")
}

func TestProxy_PointTo_newConnectionsOnly(t *testing.T) {
	one, p, c := proxied(t)
	two := Start(t)
	one.Do("set", "who", "one")
	two.Do("set", "who", "two")
	p.PointTo(two)
	assert.Equal(t, "one", c.Get(t.Context(), "who").Val())
	assert.Equal(t, "two", impatient(t, p).Get(t.Context(), "who").Val())
	p.Cut(All)
	require.Eventually(t, func() bool { return c.Get(t.Context(), "who").Val() == "two" }, deadline, tick)
}

func TestRule_Release_takesBackWhatHasNotMatched(t *testing.T) {
	_, p, c := proxied(t)
	p.Hold(Named("set")).Release()
	require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
}

func TestProxy_classes_areApart(t *testing.T) {
	s, p, c := proxied(t)
	got := listen(t, p, "ch")
	p.Freeze(PubSub, BothWays)
	require.NoError(t, c.Publish(t.Context(), "ch", "held").Err())
	silent(t, got)
	p.Thaw(PubSub)
	assert.Equal(t, "held", receive(t, got))

	p.Freeze(Commands, BothWays)
	s.Do("publish", "ch", "passes")
	assert.Equal(t, "passes", receive(t, got))
	more := listen(t, p, "ch") // subscribes while commands are frozen
	s.Do("publish", "ch", "again")
	assert.Equal(t, "again", receive(t, more))
	require.Error(t, c.Ping(briefly(t)).Err())
}

func TestProxy_DropMessages_dropsSingleOnes(t *testing.T) {
	s, p, _ := proxied(t)
	got := listen(t, p, "ch")
	lost := p.DropMessages(1, func(m Message) bool { return m.Channel == "ch" && m.Payload == "lost" })
	for _, payload := range []string{"first", "lost", "lost", "last"} {
		s.Do("publish", "ch", payload)
	}
	assert.Equal(t, "first", receive(t, got))
	assert.Equal(t, "lost", receive(t, got), "the second one")
	assert.Equal(t, "last", receive(t, got))
	assert.Equal(t, 1, lost.Dropped())
	all := p.DropMessages(100, func(Message) bool { return true })
	s.Do("publish", "ch", "gone")
	silent(t, got)
	all.Stop()
	s.Do("publish", "ch", "back")
	assert.Equal(t, "back", receive(t, got))
}

func TestProxy_serverGone_endsTheConnection(t *testing.T) {
	s, p, c := proxied(t)
	s.Kill()
	require.Error(t, c.Ping(t.Context()).Err())
	s.Restart()
	require.NoError(t, impatient(t, p).Ping(t.Context()).Err())
}
