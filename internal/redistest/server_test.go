package redistest

import (
	"context"
	"crypto/tls"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestStart_answersAtOnceAndIsEmpty(t *testing.T) {
	s := Start(t)
	c := s.Client(t)
	require.NoError(t, c.Ping(t.Context()).Err())
	n, err := c.DBSize(t.Context()).Result()
	require.NoError(t, err)
	assert.Zero(t, n)
	opts, err := redis.ParseURL(s.URL())
	require.NoError(t, err)
	assert.Equal(t, s.Addr(), opts.Addr)
}

func TestStart_manyAtOnce(t *testing.T) {
	servers := make(map[string]bool)
	for range 5 {
		servers[Start(t).Addr()] = true
	}
	assert.Len(t, servers, 5)
}

func TestServer_Restart_comesBackEmptyOnTheSamePort(t *testing.T) {
	s := Start(t)
	addr, pid := s.Addr(), s.Pid()
	s.Do("set", "k", "v")
	s.Restart()
	assert.Equal(t, addr, s.Addr())
	assert.NotEqual(t, pid, s.Pid())
	assert.Nil(t, s.Do("get", "k"))
}

func TestServer_StopAndKill_endTheProcess(t *testing.T) {
	for name, end := range map[string]func(*Server){"stop": (*Server).Stop, "kill": (*Server).Kill} {
		t.Run(name, func(t *testing.T) {
			s := Start(t)
			proc := s.running()
			end(s)
			assert.True(t, proc.exited())
			_, err := s.do("ping")
			require.Error(t, err)
			end(s) // again: nothing to do
			s.Restart()
			assert.Equal(t, "PONG", s.Do("ping"))
		})
	}
}

func TestServer_Stop_whileFrozen(t *testing.T) {
	s := Start(t)
	s.Freeze()
	s.Stop()
	assert.True(t, s.proc.exited())
}

func TestWithPersistence_survivesKill(t *testing.T) {
	s := Start(t, WithPersistence())
	s.Do("set", "k", "v")
	s.Kill()
	s.Restart()
	assert.Equal(t, "v", s.Do("get", "k"))
}

func TestServer_Snapshot_isWhatRestartFromBringsBack(t *testing.T) {
	s := Start(t)
	s.Do("set", "k", "old")
	snap := s.Snapshot()
	s.Do("set", "k", "new")
	s.RestartFrom(snap)
	assert.Equal(t, "old", s.Do("get", "k"))
	s.Restart()
	assert.Nil(t, s.Do("get", "k"), "a plain restart after a snapshot is empty")
}

func TestWithPassword_isDemanded(t *testing.T) {
	s := Start(t, WithPassword("se cret"))
	require.NoError(t, s.Client(t).Ping(t.Context()).Err())
	opts, err := redis.ParseURL(s.URL())
	require.NoError(t, err)
	assert.Equal(t, "se cret", opts.Password)
	opts.Password = ""
	err = closed(t, redis.NewClient(opts)).Ping(t.Context()).Err()
	assert.True(t, redis.IsAuthError(err), "%v", err)
}

func TestWithUser_hasItsRightsOnly(t *testing.T) {
	s := Start(t, WithUser("app", "on", ">pw", "~app:*", "+@all"))
	opts := s.Options()
	opts.Username, opts.Password = "app", "pw"
	c := closed(t, redis.NewClient(opts))
	require.NoError(t, c.Set(t.Context(), "app:k", "v", 0).Err())
	err := c.Set(t.Context(), "other", "v", 0).Err()
	assert.True(t, redis.IsPermissionError(err), "%v", err)
}

func TestWithUnixSocket_isWhatTheClientUses(t *testing.T) {
	s := Start(t, WithUnixSocket())
	opts, err := redis.ParseURL(s.URL())
	require.NoError(t, err)
	assert.Equal(t, "unix", opts.Network)
	assert.Equal(t, s.Socket(), opts.Addr)
	require.NoError(t, closed(t, redis.NewClient(opts)).Ping(t.Context()).Err())
	require.NoError(t, s.Client(t).Ping(t.Context()).Err())
}

func TestWithTLS_isTrustedOnlyByItsOwnConfig(t *testing.T) {
	s := Start(t, WithTLS())
	require.NoError(t, s.Client(t).Ping(t.Context()).Err())
	_, err := tls.Dial("tcp", s.Addr(), &tls.Config{ServerName: "127.0.0.1"})
	var unknown *tls.CertificateVerificationError
	require.ErrorAs(t, err, &unknown)
}

func TestWithConfig_wins(t *testing.T) {
	s := Start(t, WithConfig("databases", "3"))
	assert.Equal(t, "3", fmt.Sprint(configGet(s, "databases")))
}

func configGet(s *Server, name string) any {
	switch reply := s.Do("config", "get", name).(type) {
	case map[any]any:
		return reply[name]
	case []any:
		return reply[1]
	default:
		return reply
	}
}

func TestServer_Freeze_silencesUntilThaw(t *testing.T) {
	s := Start(t)
	opts := s.Options()
	opts.ContextTimeoutEnabled = true
	opts.MaxRetries = -1
	c := closed(t, redis.NewClient(opts))
	require.NoError(t, c.Ping(t.Context()).Err())
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, c.Ping(ctx).Err())
	s.Thaw()
	require.NoError(t, c.Ping(t.Context()).Err())
}

func TestServer_ReadOnly_refusesWritesAndServesReads(t *testing.T) {
	s := Start(t)
	s.Do("set", "k", "v")
	s.ReadOnly(true)
	_, err := s.do("set", "k", "w")
	require.True(t, redis.IsReadOnlyError(err), "%v", err)
	assert.Equal(t, "v", s.Do("get", "k"))
	s.ReadOnly(false)
	s.Do("set", "k", "w")
	assert.Equal(t, "w", s.Do("get", "k"))
}

func TestServer_MaxMemory_refusesWrites(t *testing.T) {
	s := Start(t)
	s.MaxMemory(1, "noeviction")
	_, err := s.do("set", "k", "v")
	require.True(t, redis.IsOOMError(err), "%v", err)
	s.MaxMemory(0, "noeviction")
	s.Do("set", "k", "v")
}

func TestServer_Calls_countsRoundTrips(t *testing.T) {
	s := Start(t)
	s.ResetStats()
	c := s.Client(t)
	for range 3 {
		require.NoError(t, c.Set(t.Context(), "k", "v", 0).Err())
	}
	require.NoError(t, c.Get(t.Context(), "k").Err())
	assert.EqualValues(t, 3, s.Calls("set"))
	assert.EqualValues(t, 4, s.Calls("set", "get"))
	assert.EqualValues(t, 4, s.Calls())
	assert.Positive(t, s.Calls("config"), "a name stands for its subcommands")
	assert.EqualValues(t, 1, s.CommandStats()["get"])
	s.ResetStats()
	assert.Zero(t, s.Calls())
}

func TestServer_FlushAll(t *testing.T) {
	s := Start(t)
	s.Do("set", "k", "v")
	s.FlushAll()
	assert.Nil(t, s.Do("get", "k"))
}
