package invalidation

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
)

// slowTargets says when a server is looked for, and finds it when it is told to.
type slowTargets struct {
	targets
	asked, answer chan struct{}
}

func (s slowTargets) next(ctx context.Context) (redis.Options, error) {
	for _, c := range []chan struct{}{s.asked, s.answer} {
		select {
		case <-c:
		case <-ctx.Done():
			return redis.Options{}, ctx.Err()
		}
	}
	return s.targets.next(ctx)
}

type deaf struct{}

func (deaf) Message(Message) {}
func (deaf) Gap(GapReason)   {}
func (deaf) Heard(time.Time) {}

// A link that counts as begun is renewed also while its server is looked for, which
// takes I/O in a cluster: its owner, who has seen the count, waits for a later one.
func TestRedis_renewedWhileTheServerIsLookedFor(t *testing.T) {
	t.Parallel()
	const patience = 20 * time.Second
	srv := redistest.Start(t)
	bus, err := NewRedis(srv.Client(t), RedisOptions{
		Channel: "test", DeadAfter: patience, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
	})
	require.NoError(t, err)
	slow := slowTargets{bus.targets, make(chan struct{}), make(chan struct{})}
	bus.targets = slow
	sub, err := bus.Subscribe(deaf{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, sub.Close()) }()

	send := func(c chan struct{}, what string) {
		t.Helper()
		select {
		case c <- struct{}{}:
		case <-time.After(patience):
			require.FailNow(t, "not in time", what)
		}
	}
	send(slow.asked, "the search for a server")
	require.EqualValues(t, 1, sub.Stats().Links)
	sub.Renew()
	send(slow.answer, "the answer")
	send(slow.asked, "the search for a server again")
	assert.EqualValues(t, 2, sub.Stats().Links)
	assert.Equal(t, errRenew.Error(), sub.Stats().LastError)
	send(slow.answer, "the answer again")
	require.Eventually(t, func() bool { return sub.Stats().Confirmed }, patience, time.Millisecond)
	assert.EqualValues(t, 2, sub.Stats().Links, "a renewal counts once")
}
