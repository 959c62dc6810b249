package connect_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/connect"
)

// closing closes a client when t ends.
func closing[C interface{ Close() error }](t *testing.T, c C) C {
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestInspect_describesAClient(t *testing.T) {
	for _, c := range []struct {
		name   string
		client redis.UniversalClient
		want   connect.Info
	}{
		{
			"client", closing(t, redis.NewClient(&redis.Options{Addr: "a:1", DB: 3})),
			connect.Info{Kind: connect.Standalone, Addrs: []string{"a:1"}, DB: 3},
		},
		{
			"with context timeouts", closing(t, redis.NewClient(&redis.Options{Addr: "a:1", ContextTimeoutEnabled: true})),
			connect.Info{Kind: connect.Standalone, Addrs: []string{"a:1"}, ContextTimeoutEnabled: true},
		},
		{
			"of sentinels", closing(t, redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: []string{"a:1"}, DB: 2})),
			connect.Info{Kind: connect.Sentinel, DB: 2},
		},
		{
			"cluster", closing(t, redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"a:1", "b:2"}, ContextTimeoutEnabled: true})),
			connect.Info{Kind: connect.Cluster, Addrs: []string{"a:1", "b:2"}, ContextTimeoutEnabled: true},
		},
		{
			"universal", closing(t, redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"a:1"}})),
			connect.Info{Kind: connect.Standalone, Addrs: []string{"a:1"}},
		},
	} {
		got, err := connect.Inspect(c.client)
		require.NoError(t, err, c.name)
		assert.Equal(t, c.want, got, c.name)
	}
}

// stranger is a client of a type that nobody here knows.
type stranger struct{ redis.UniversalClient }

func TestInspect_refusesWhatACacheCannotStandOn(t *testing.T) {
	client := closing(t, redis.NewClient(&redis.Options{Addr: "a:1"}))
	pipeliner, err := client.AutoPipeline()
	require.NoError(t, err)
	closing(t, pipeliner)
	cluster := func(o redis.ClusterOptions) redis.UniversalClient {
		o.Addrs = []string{"a:1"}
		return closing(t, redis.NewClusterClient(&o))
	}
	caching := closing(t, redis.NewClient(&redis.Options{Addr: "a:1", Protocol: 3, ClientSideCacheConfig: &redis.ClientSideCacheConfig{}}))

	for _, c := range []struct {
		name   string
		client redis.UniversalClient
		want   []string // what the error says: the fault, and the way out
	}{
		{"nil", nil, []string{"nil"}},
		{"nil client", (*redis.Client)(nil), []string{"*redis.Client is nil"}},
		{"nil cluster", (*redis.ClusterClient)(nil), []string{"*redis.ClusterClient is nil"}},
		{"ring", closing(t, redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "a:1"}})), []string{"another shard", "use a *redis.ClusterClient"}},
		{"pipeliner", pipeliner, []string{"reorders", "hand over the client"}},
		{"stranger", stranger{client}, []string{"connect_test.stranger", "use a *redis.Client"}},
		{"caching", caching, []string{"its own side", "without Options.ClientSideCache"}},
		{"read only", cluster(redis.ClusterOptions{ReadOnly: true}), []string{"ClusterOptions.ReadOnly", "without it"}},
		{"by latency", cluster(redis.ClusterOptions{RouteByLatency: true}), []string{"ClusterOptions.RouteByLatency"}},
		{
			"several", cluster(redis.ClusterOptions{RouteByLatency: true, RouteRandomly: true, ReadOnly: true}),
			[]string{"ClusterOptions.RouteByLatency", "ClusterOptions.RouteRandomly"},
		},
		{"failover cluster", closing(t, redis.NewFailoverClusterClient(&redis.FailoverOptions{
			MasterName: "m", SentinelAddrs: []string{"a:1"}, RouteRandomly: true,
		})), []string{"RouteRandomly"}},
	} {
		_, err := connect.Inspect(c.client)
		require.Error(t, err, c.name)
		for _, want := range c.want {
			assert.ErrorContains(t, err, want, c.name)
		}
	}
}
