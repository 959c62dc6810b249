package invalidation_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
)

// keysOfMasters returns a key that each of the masters owns.
func keysOfMasters(c *redistest.Cluster) map[*redistest.Server]string {
	keys := make(map[*redistest.Server]string)
	for i := 0; len(keys) < 3; i++ {
		key := "p:" + strconv.Itoa(i)
		keys[c.Owner(key)] = key
	}
	return keys
}

func anything(*redis.ClusterOptions) {}

func TestTracking_onACluster(t *testing.T) {
	c := redistest.StartCluster(t)
	keys := keysOfMasters(c)
	t.Run("hears every master", func(t *testing.T) {
		r := newChangeRecorder(t)
		l := mustListen(t, clusterClient(t, c, anything), r)
		assert.Equal(t, []int{3, 3}, []int{l.Stats().Servers, l.Stats().Confirmed})
		assert.EqualValues(t, 3, l.Stats().Gaps)
		from := r.len()
		for node, key := range keys {
			node.Do("SET", key, "1")
			r.awaitChange(from, key)
		}
		for range 3 { // the flush of one is a flush
			from = r.len()
			c.Nodes()[0].Do("FLUSHALL")
			r.await(from, "the flush", func(e event) bool { return e.flushed })
		}
	})
	t.Run("hears keys on the move", func(t *testing.T) {
		r := newChangeRecorder(t)
		l := mustListen(t, clusterClient(t, c, anything), r)
		gaps := l.Stats().Gaps
		from := c.Nodes()[0]
		key := keys[from]
		from.Do("SET", key, "1")
		at := r.awaitChange(0, key)
		to := c.Nodes()[1]
		c.MoveSlot(c.Slot(key), to)
		at = r.awaitChange(at+1, key) // gone there, or come here
		r.awaitProof(at)
		at = r.len()
		to.Do("SET", key, "2")
		r.awaitChange(at, key)
		assert.Equal(t, gaps, l.Stats().Gaps)
		c.MoveSlot(c.Slot(key), from)
	})
	// C3: what one master has not answered proves nothing of the others.
	t.Run("proves nothing while a master is silent", func(t *testing.T) {
		r := newChangeRecorder(t)
		mustListen(t, clusterClient(t, c, anything), r)
		silent, well := c.Nodes()[0], c.Nodes()[1]
		silent.Freeze()
		frozen := time.Now()
		at := r.awaitLoss(0)
		for range 5 {
			from := r.len()
			well.Do("SET", keys[well], "1")
			r.awaitChange(from, keys[well])
		}
		for _, e := range r.all() {
			require.False(t, e.heard.After(frozen), "proof although a master is silent")
		}
		silent.Thaw()
		back := r.awaitGap(at, invalidation.GapSubscribed)
		r.awaitHeard(back, r.all()[back].at)
	})
	// C3: there may be masters that are not known.
	t.Run("proves nothing while the masters are not known", func(t *testing.T) {
		var blind blindness
		r := newChangeRecorder(t)
		l := mustListen(t, clusterClient(t, c, anything, &blind), r)
		blind.Store(true)
		require.Eventually(t, func() bool { return l.Stats().LastError == errBlind.Error() }, patience, time.Millisecond)
		since := time.Now()
		well := c.Nodes()[0]
		for time.Since(since) < 10*attentive().PingEvery {
			from := r.len()
			well.Do("SET", keys[well], "1")
			r.awaitChange(from, keys[well])
		}
		for _, e := range r.all() {
			require.False(t, e.heard.After(since), "proof although the masters are not known")
		}
		blind.Store(false)
		r.awaitProof(0)
	})
}

// blindness is a hook that lets a client not see its cluster while it is true.
type blindness struct{ atomic.Bool }

var errBlind = errors.New("blind")

func (*blindness) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*blindness) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (b *blindness) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if b.Load() && cmd.FullName() == "cluster info" {
			cmd.SetErr(errBlind)
			return errBlind
		}
		return next(ctx, cmd)
	}
}

// C3, C4: the masters change, and the links with them.
func TestTracking_followsTheMastersOfACluster(t *testing.T) {
	c := redistest.StartCluster(t, redistest.WithReplicas(1))
	r := newChangeRecorder(t)
	// After as many failures as its pool is large, the client would try the dead
	// in a goroutine that outlives it by a second.
	l := mustListen(t, clusterClient(t, c, func(o *redis.ClusterOptions) { o.PoolSize = 1000 }), r)
	for _, tt := range []struct {
		name string
		take func(key string) *redistest.Server
	}{
		{"in good order", c.Failover},
		{"after a death", func(key string) *redistest.Server { return c.AwaitTakeover(key, c.KillMaster(key)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const key = "p:key"
			from := r.len()
			master := tt.take(key)
			// The old one, if it is alive, is left some looks later.
			back := max(r.awaitGap(from, invalidation.GapSubscribed), r.awaitLoss(from))
			require.Eventually(t, func() bool {
				s := l.Stats()
				return s.Servers == 3 && s.Confirmed == 3
			}, patience, time.Millisecond, "%+v", l.Stats())
			heard := r.awaitProof(back)
			master.Do("SET", key, tt.name)
			r.awaitChange(heard, key)
			r.awaitProof(heard)
		})
	}
}

// Nobody but its owner can know that a master that answers was replaced.
func TestListener_Renew_followsAFailover(t *testing.T) {
	s := redistest.StartSentinel(t)
	r := newChangeRecorder(t)
	l := mustListen(t, s.Client(t), r)
	from := r.len()
	master := s.Failover()
	const key = "p:key"
	l.Renew()
	renewed := time.Now()
	require.Eventually(t, func() bool {
		if l.Stats().Confirmed == 1 && time.Since(renewed) > time.Second {
			l.Renew() // go-redis followed later than the sentinels led
			renewed = time.Now()
		}
		master.Do("SET", key, "1")
		return r.changes(key) > 0
	}, patience, 50*time.Millisecond)
	gap := r.awaitLoss(from)
	back := r.awaitGap(gap, invalidation.GapSubscribed)
	r.awaitHeard(back, r.all()[back].at)
	r.checkProof()
}
