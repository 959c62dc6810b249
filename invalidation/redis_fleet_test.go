package invalidation_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
)

// switchedDialer dials unless it is off.
type switchedDialer struct{ off atomic.Bool }

func (d *switchedDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if d.off.Load() {
		return nil, errors.New("switched off")
	}
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}

func clusterClient(t *testing.T, c *redistest.Cluster, change func(o *redis.ClusterOptions), hooks ...redis.Hook) *redis.ClusterClient {
	t.Helper()
	opt := c.Options()
	change(opt)
	client := redis.NewClusterClient(opt)
	for _, hook := range hooks {
		client.AddHook(hook)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func killSubscribers(c *redistest.Cluster) {
	for _, node := range c.Nodes() {
		node.Do("CLIENT", "KILL", "TYPE", "pubsub")
	}
}

func TestRedis_onACluster(t *testing.T) {
	c := redistest.StartCluster(t)
	t.Run("contract", func(t *testing.T) {
		testBus(t, func(t *testing.T) busUnderTest {
			d := &switchedDialer{}
			client := clusterClient(t, c, func(o *redis.ClusterOptions) { o.Dialer = d.dial })
			return busUnderTest{
				bus:  newRedis(t, client, quick()),
				cut:  func() { d.off.Store(true); killSubscribers(c) },
				heal: func() { d.off.Store(false) },

				scattered: true,
			}
		})
	})
	t.Run("spreads over the masters", func(t *testing.T) {
		bus := newRedis(t, clusterClient(t, c, func(*redis.ClusterOptions) {}), quick())
		addrs := map[string]bool{}
		for range 30 {
			addrs[mustSubscribe(t, bus, newRecorder(t)).Stats().Addr] = true
		}
		assert.Len(t, addrs, 3)
	})
	t.Run("loses its master", func(t *testing.T) {
		bus := newRedis(t, clusterClient(t, c, func(*redis.ClusterOptions) {}), quick())
		r := newRecorder(t)
		sub := mustSubscribe(t, bus, r)
		lost := sub.Stats().Addr
		for _, node := range c.Nodes() {
			if node.Addr() == lost {
				node.Kill()
				defer node.Restart()
			}
		}
		gap := r.awaitLoss(0)
		back := r.awaitGap(gap, invalidation.GapSubscribed)
		r.awaitHeard(back, r.all()[back].at)
		assert.NotEqual(t, lost, sub.Stats().Addr)
		r.checkProof()
	})
}

// A frozen node does not hold up Close, although the client waits for it.
func TestRedis_Close_isBoundedOnAFrozenCluster(t *testing.T) {
	c := redistest.StartCluster(t)
	client := clusterClient(t, c, func(o *redis.ClusterOptions) {
		o.ReadTimeout, o.MaxRedirects = time.Second, -1
	})
	for _, node := range c.Nodes() {
		node.Freeze()
		defer node.Thaw()
	}
	r := newRecorder(t)
	sub, err := newRedis(t, client, quick()).Subscribe(r)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return sub.Stats().Links >= 2 }, patience, time.Millisecond)
	begin := time.Now()
	require.NoError(t, sub.Close())
	assert.Less(t, time.Since(begin), time.Second)
	assert.Empty(t, r.all())
}

// After an orderly failover the old master goes on answering PINGs. Only the
// owner of the subscription can know, and Renew goes to the new master.
func TestRedis_Renew_followsAFailover(t *testing.T) {
	s := redistest.StartSentinel(t)
	bus := newRedis(t, s.Client(t), quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	old := s.Master()
	assert.Equal(t, old.Addr(), sub.Stats().Addr)
	s.Failover()
	master := s.AwaitMaster(old)
	from := r.len()
	sub.Renew()
	require.Eventually(t, func() bool {
		stats := sub.Stats()
		if stats.Confirmed && stats.Addr != master.Addr() {
			sub.Renew()
		}
		return stats.Confirmed && stats.Addr == master.Addr()
	}, patience, 50*time.Millisecond)
	gap := r.awaitLoss(from)
	back := r.awaitGap(gap, invalidation.GapSubscribed)
	r.awaitHeard(back, r.all()[back].at)
	awaitPublish(t, bus, sample(t, testNode, 1))
	r.awaitMessage(back, 1)
	r.checkProof()
}

func TestRedis_followsTheSentinelsWhenTheMasterDies(t *testing.T) {
	s := redistest.StartSentinel(t)
	bus := newRedis(t, s.Client(t), quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	old := s.KillMaster()
	gap := r.awaitLoss(0)
	master := s.AwaitMaster(old)
	back := r.awaitGap(gap, invalidation.GapSubscribed)
	r.awaitHeard(back, r.all()[back].at)
	assert.Equal(t, master.Addr(), sub.Stats().Addr)
	r.checkProof()
}

// TLS has its own ways to wait: a dialer that ignores its context, a goodbye.
func TestRedis_overTLS(t *testing.T) {
	srv := redistest.Start(t, redistest.WithTLS(), redistest.WithPassword("secret"))
	bus := newRedis(t, srv.Client(t), quick())
	r := newRecorder(t)
	sub := mustSubscribe(t, bus, r)
	mustPublish(t, bus, sample(t, testNode, 1))
	r.awaitMessage(0, 1)
	srv.Freeze()
	defer srv.Thaw()
	gap := r.awaitLoss(0)
	assert.Equal(t, invalidation.GapSilent, r.all()[gap].gap)
	begin := time.Now()
	_ = sub.Close() // the handshake may outlast it, see ErrBusy
	assert.Less(t, time.Since(begin), 3*time.Second)
}
