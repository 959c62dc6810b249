package tier_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// loseLink cuts a master off from its replica, for good: what it acknowledges
// from now on, a promoted replica lacks. Clients do not notice.
func loseLink(t *testing.T, master *redistest.Server, nodes []*redistest.Server, keys ...string) (replica *redistest.Server) {
	t.Helper()
	for _, node := range nodes {
		if strings.HasSuffix(master.Addr(), ":"+node.Info("replication")["master_port"]) {
			replica = node
		}
	}
	require.NotNil(t, replica, "there is no replica of %s", master.Addr())
	await(t, "the replica to have it all", 10*time.Second, func() bool {
		return replica.Info("replication")["slave_repl_offset"] == master.Info("replication")["master_repl_offset"]
	})
	master.Do("acl", "setuser", "default", "-psync", "-sync")
	master.Do("client", "kill", "type", "replica")
	await(t, "the link to be down", 10*time.Second, func() bool {
		return replica.Info("replication")["master_link_status"] == "down"
	})
	for _, key := range keys {
		require.NotZero(t, master.Do("exists", key), "void: %s is not there", key)
	}
	return replica
}

// NothingForgotten: a sentinel promotes a replica that lacks an acknowledged
// Delete, while the old master is alive and its connections stand.
func TestNothingForgotten_sentinelPromotesALaggingReplica(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t)
	f := openGuarded(t, 2, tier.Config{URL: s.URL()})
	f.seed("1", "2")
	old := s.Master()
	f.awaitMarks(old)
	replica := loseLink(t, old, s.Nodes(), "tandem:row:1")
	for i, key := range []string{"1", "2"} { // one change of each node
		f.db.write(key)
		require.NoError(t, f.caches[i].Delete(t.Context(), key))
	}
	f.awaitHeard("1", "2")
	require.Same(t, replica, s.Failover())
	// The client goes on at the old master until it is told.
	await(t, "every node to have met the new master", 20*time.Second, func() bool {
		f.mustNotServeOld(2, 20*time.Second, "1", "2")
		return replica.Do("exists", "tandem:!fleet") != int64(0) && reissuedAll(f, replica)
	})
	assert.Equal(t, "PONG", old.Do("ping"), "void: the old master is gone")
	f.mustNotServeOld(2, 20*time.Second, "1", "2")
}

// reissuedAll reports whether every node has noted on srv that what it had
// changed last is in effect there.
func reissuedAll(f *guarded, srv *redistest.Server) bool {
	members, _ := srv.Do("zrange", "tandem:!fleet", 0, -1).([]any)
	notes := 0
	for _, m := range members {
		if text, _ := m.(string); strings.HasPrefix(text, "reissued:") {
			notes++
		}
	}
	return notes >= len(f.nodes)
}

// NothingForgotten: a master of a cluster is killed, and its replica, which lacks
// an acknowledged Delete, takes its slots over.
func TestNothingForgotten_clusterReplacesAMaster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.WithReplicas(1))
	logged, logger := newDiary()
	f := openGuarded(t, 2, tier.Config{URL: c.URL(), Logger: logger})
	f.seed("1")
	old := c.Owner("tandem:row:1")
	await(t, "marks on the master", 10*time.Second, func() bool {
		keys, _ := old.Do("keys", "tandem:!fleet*").([]any)
		marks := int64(0)
		for _, key := range keys {
			n, _ := old.Do("zcard", key).(int64)
			marks += n
		}
		return marks >= 2
	})
	replica := loseLink(t, old, c.Nodes(), "tandem:row:1")
	f.db.write("1")
	require.NoError(t, f.caches[0].Delete(t.Context(), "1"))
	f.awaitHeard("1")
	c.KillMaster("tandem:row:1")
	took := f.mustNotServeOld(2, 40*time.Second, "1") // L1, loads, and then the replica
	require.Same(t, replica, c.AwaitTakeover("tandem:row:1", old))
	await(t, "the takeover to be noticed", 20*time.Second, func() bool {
		f.mustNotServeOld(2, 20*time.Second, "1")
		return logged.entries(loggedRestart) >= len(f.nodes)
	})
	f.mustNotServeOld(2, 20*time.Second, "1")
	assert.Zero(t, logged.entries(loggedClear), "a mark was there, and the rings reached back to it")
	t.Logf("measured: a master of a cluster killed: first whole again after %v", took.Round(time.Millisecond))
}
