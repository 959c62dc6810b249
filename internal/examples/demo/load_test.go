package main

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestZipf_ranksMeetEveryUserOnce(t *testing.T) {
	for _, users := range []int{10, 11, 300, 1_000, 100_000} {
		z := newZipf(rand.New(rand.NewPCG(1, 1)), users)
		seen := make(map[int64]bool, users)
		for rank := range users {
			id := z.user(uint64(rank))
			require.True(t, id >= 1 && id <= int64(users))
			seen[id] = true
		}
		require.Len(t, seen, users)
	}
}

func TestZipf_fewAreDrawnOften(t *testing.T) {
	z := newZipf(rand.New(rand.NewPCG(1, 1)), 1_000)
	count := make(map[int64]int)
	for range 100_000 {
		count[z.draw()]++
	}
	assert.InDelta(t, 2, float64(count[z.user(0)])/float64(count[z.user(1)]), 0.4)
	assert.Greater(t, count[z.user(0)], 10*count[z.user(20)])
	assert.Greater(t, len(count), 800, "and the others seldom")
}

func TestPace_spacesTheRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers, rate = 4, 100
		begun := time.Now()
		p := newPace(rate, workers, 1)
		for range 25 {
			require.True(t, p.wait(t.Context()))
		}
		assert.Equal(t, 970*time.Millisecond, time.Since(begun), "24 intervals of 40 ms, from an offset of 10 ms")
		time.Sleep(time.Second)
		begun = time.Now()
		for range 3 {
			require.True(t, p.wait(t.Context()))
		}
		assert.Equal(t, 80*time.Millisecond, time.Since(begun), "what was missed is not made up for")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.False(t, p.wait(ctx))
	})
}

func TestUserLocks_letOneIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var locks userLocks
		unlock := locks.lock(1)
		locks.lock(2)() // another user's is free
		entered := make(chan struct{})
		go func() {
			defer locks.lock(1)()
			close(entered)
		}()
		select {
		case <-entered:
			t.Fatal("two at a time")
		default:
		}
		unlock()
		<-entered
	})
}

func TestChild_saysWhyItEnded(t *testing.T) {
	_, _, err := startChild(t.Context(), t.TempDir(), "service-A", "service", "-nonsense")
	require.ErrorContains(t, err, "service-A: ended before it was ready: exit status 1")
	require.ErrorContains(t, err, "-nonsense")
	_, _, err = startChild(t.Context(), t.TempDir(), "x", "dance")
	require.ErrorContains(t, err, `no subcommand "dance"`)
}

func TestGuard_killsWhenTheParentLetsGo(t *testing.T) {
	redis, err := newRedis(redisReal, t.TempDir())
	require.NoError(t, err)
	require.NoError(t, redis.Start(t.Context()))
	require.NoError(t, redis.Ping())
	require.NoError(t, redis.Stop())
	require.Error(t, redis.Ping())
	require.NoError(t, redis.Start(t.Context()), "at the same address")
	require.NoError(t, redis.Ping())
	require.NoError(t, redis.Stop())
	require.NoError(t, redis.Stop(), "twice is once")
}

func TestGuard_saysThatItsProgramEnded(t *testing.T) {
	c, _, err := startChild(t.Context(), t.TempDir(), "redis", "guard", "redis-server", "--port", "nonsense")
	require.NoError(t, err)
	<-c.ended
	require.ErrorContains(t, c.stop(), "guard: redis-server ended by itself: exit status 1")
}
