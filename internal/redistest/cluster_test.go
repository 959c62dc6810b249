package redistest

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStartCluster_servesEverySlot(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, WithPassword("secret"))
	client := c.Client(t)
	owners := make(map[*Server]bool)
	for i := range 50 {
		key := fmt.Sprint("k", i)
		require.NoError(t, client.Set(t.Context(), key, i, 0).Err())
		owners[c.Owner(key)] = true
	}
	assert.Len(t, owners, 3)
	u, err := url.Parse(c.URL())
	require.NoError(t, err)
	assert.Equal(t, "redis+cluster", u.Scheme)
	assert.Equal(t, c.Addrs(), append([]string{u.Host}, u.Query()["addr"]...))
	assert.Len(t, c.Nodes(), 3)

	t.Run("MoveSlot takes the keys along", func(t *testing.T) {
		require.NoError(t, client.Set(t.Context(), "moved", "v", 0).Err())
		from := c.Owner("moved")
		to := c.Nodes()[0]
		if to == from {
			to = c.Nodes()[1]
		}
		c.MoveSlot(c.Slot("moved"), to)
		assert.Same(t, to, c.Owner("moved"))
		assert.Equal(t, "v", client.Get(t.Context(), "moved").Val())
		assert.Equal(t, "v", to.Do("get", "moved"))
	})
	t.Run("a node that was killed comes back", func(t *testing.T) {
		dead := c.KillMaster("k")
		assert.False(t, dead.up())
		dead.Restart()
		c.AwaitOK()
		require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	})
}

func TestStartCluster_replicasTakeOver(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, WithReplicas(1))
	client := c.Client(t)
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	first := c.Owner("k")
	second := c.Failover("k")
	assert.NotSame(t, first, second)
	assert.Equal(t, "v", client.Get(t.Context(), "k").Val())
	await(t, "the old master to follow", first.synced)
	dead := c.KillMaster("k")
	assert.Same(t, second, dead)
	third := c.AwaitTakeover("k", dead)
	assert.Same(t, first, third)
	assert.Equal(t, "v", third.Do("get", "k"))
}
