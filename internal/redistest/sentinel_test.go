package redistest

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStartSentinel_promotesAReplica(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t, WithReplicas(2), WithSentinels(3), WithPassword("secret"))
	assert.Len(t, s.Nodes(), 3)
	client := s.Client(t)
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	u, err := url.Parse(s.URL())
	require.NoError(t, err)
	assert.Equal(t, "redis+sentinel", u.Scheme)
	assert.Equal(t, MasterName, u.Query().Get("master_name"))
	assert.Equal(t, addrs(s.Sentinels()), append([]string{u.Host}, u.Query()["addr"]...))

	first := s.Master()
	assert.Same(t, s.Nodes()[0], first)
	second := s.Failover()
	assert.NotSame(t, first, second)
	await(t, "the client to follow", func() error { return client.Set(t.Context(), "k", "w", 0).Err() })
	assert.Equal(t, "w", second.Do("get", "k"))
}

func TestSentinel_KillMaster_isNoticed(t *testing.T) {
	t.Parallel()
	s := StartSentinel(t)
	dead := s.KillMaster()
	next := s.AwaitMaster(dead)
	assert.NotSame(t, dead, next)
	next.Do("set", "k", "v")
}
