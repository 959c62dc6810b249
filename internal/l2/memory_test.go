package l2

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func mustSet(t *testing.T, m *Memory, key, payload string, ttl time.Duration) {
	t.Helper()
	_, err := m.Set(t.Context(), key, record(key, payload), ttl, nil)
	require.NoError(t, err)
}

func has(t *testing.T, m *Memory, key string) bool {
	t.Helper()
	rep, err := m.Read(t.Context(), key, limit)
	require.NoError(t, err)
	return rep.State != StateAbsent
}

func TestMemory_expiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		mustSet(t, m, "minute", "v", time.Minute)
		mustSet(t, m, "hour", "v", time.Hour)
		mustSet(t, m, "never", "v", 0)
		_, err := m.Add(t.Context(), "c", 1, time.Minute)
		require.NoError(t, err)
		time.Sleep(time.Minute - time.Microsecond)
		assert.True(t, has(t, m, "minute"))
		time.Sleep(time.Microsecond)
		assert.False(t, has(t, m, "minute"))
		_, _, found, err := m.Count(t.Context(), "c")
		require.NoError(t, err)
		assert.False(t, found)
		assert.Len(t, m.cells, 2, "freed, not only hidden")
		time.Sleep(time.Hour)
		assert.False(t, has(t, m, "hour"))
		assert.True(t, has(t, m, "never"))
	})
}

// A lease that lapses is taken over; one that is renewed is not.
func TestMemory_leasesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, ctx := NewMemory(MemoryOptions{}), t.Context()
		a, b := NewToken(), NewToken()
		g, err := m.Lease(ctx, "k", Seen{}, a, 2*time.Second)
		require.NoError(t, err)
		require.Equal(t, Granted, g.Kind)
		for range 5 {
			time.Sleep(time.Second)
			ok, err := m.Renew(ctx, "k", a, 2*time.Second, false)
			require.NoError(t, err)
			require.True(t, ok)
		}
		g, err = m.Lease(ctx, "k", Seen{}, b, 2*time.Second)
		require.NoError(t, err)
		require.Equal(t, Grant{Kind: GrantBusy, Wait: 2 * time.Second, Time: m.Now("k")}, g)
		time.Sleep(g.Wait)
		g, err = m.Lease(ctx, "k", Seen{}, b, 2*time.Second)
		require.NoError(t, err)
		require.Equal(t, Granted, g.Kind)
		time.Sleep(time.Minute)
		assert.False(t, has(t, m, "k"), "an orphaned lease leaves nothing behind")
	})
}

func TestMemory_evictsTheLeastRecentlyUsed(t *testing.T) {
	const room = 10 * (cellOverhead + 500)
	m := NewMemory(MemoryOptions{MaxBytes: room})
	_, err := m.Raise(t.Context(), "marker", 0, nil)
	require.NoError(t, err)
	mustSet(t, m, "hot", string(make([]byte, 300)), 0)
	for i := range 1000 {
		mustSet(t, m, strconv.Itoa(i), string(make([]byte, 300)), time.Hour)
		require.True(t, has(t, m, "hot"), i)
		require.LessOrEqual(t, m.bytes, int64(room))
	}
	assert.False(t, has(t, m, "0"))
	assert.True(t, has(t, m, "999"))
	assert.True(t, has(t, m, "marker"), "numbers are not evicted")
	assert.Len(t, m.expiry, len(m.cells)-2)

	_, err = m.Set(t.Context(), "hot", record("hot", string(make([]byte, room))), 0, nil)
	require.ErrorIs(t, err, ErrRefused, "more than there is room for")
	assert.True(t, has(t, m, "hot"), "and nothing was changed")

	for i := 0; err == nil || i == 0; i++ {
		require.Less(t, i, 1000)
		_, err = m.Add(t.Context(), fmt.Sprint("c", i), 1, 0)
	}
	assert.ErrorIs(t, err, ErrRefused, "counters are refused before they are lost")
}

// The bookkeeping stays equal to what is stored, whatever happens.
func TestMemory_accounts(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	now := int64(1)
	m, ctx := NewMemory(MemoryOptions{MaxBytes: 6000, Now: func() int64 { return now }}), t.Context()
	for range 5000 {
		now += rnd.Int64N(1e6)
		key, token := strconv.Itoa(rnd.IntN(12)), NewToken()
		switch rnd.IntN(8) {
		case 0, 1:
			_, _ = m.Set(ctx, key, record(key, string(make([]byte, rnd.IntN(800)))), time.Duration(rnd.Int64N(1e10)), nil)
		case 2:
			_, _ = m.Lease(ctx, key, Seen{}, token, time.Second)
			_, _ = m.Fill(ctx, key, token, record(key, "x"), time.Second, nil)
		case 3:
			_, _ = m.Delete(ctx, key, DeleteOptions{Version: uint64(rnd.IntN(2))}, nil)
		case 4:
			_, _ = m.Begin(ctx, key, token, time.Second, nil)
			_, _ = m.End(ctx, key, token, Bracket{}, nil, 0, nil)
		case 5:
			_, _ = m.Add(ctx, "c"+key, 1, time.Second)
		case 6:
			_, _ = m.Raise(ctx, "m", 0, nil)
		case 7:
			_ = m.Expire(ctx, key, nil)
		}
		var bytes, numbers int64
		records, expiring := 0, 0
		for _, c := range m.cells {
			bytes += c.size()
			if c.used == nil {
				numbers += c.size()
			} else {
				records++
			}
			if c.expires != 0 {
				expiring++
			}
		}
		require.Equal(t, bytes, m.bytes)
		require.Equal(t, numbers, m.numbers)
		require.Equal(t, records, m.recent.Len())
		require.Len(t, m.expiry, expiring)
		require.LessOrEqual(t, m.bytes, int64(6000))
	}
}

// Messages come in the order of the changes, and a change returns when its own
// has been published, whoever was at it.
func TestMemory_publishesInOrder(t *testing.T) {
	var mu sync.Mutex
	var got []string // guarded by mu
	m := NewMemory(MemoryOptions{Publish: func(msg []byte) {
		runtime.Gosched() // others come to change something meanwhile
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(msg))
	}})
	msg := make([]byte, 8)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				version, err := m.Raise(t.Context(), "m", 0, msg)
				assert.NoError(t, err)
				mu.Lock()
				last := uint64(0)
				if len(got) > 0 {
					last = tail(got[len(got)-1])
				}
				mu.Unlock()
				assert.GreaterOrEqual(t, last, version, "a change returned before its message was published")
			}
		})
	}
	wg.Wait()
	require.Len(t, got, 800)
	for i := 1; i < len(got); i++ {
		require.Greater(t, tail(got[i]), tail(got[i-1]))
	}
}

// A handler of messages holds the bus while it changes this store. What another
// goroutine has changed and not published yet it leaves to that one: to publish
// it, it would wait for itself.
func TestMemory_leavesTheMessagesOfOthers(t *testing.T) {
	var got []string
	m := NewMemory(MemoryOptions{Publish: func(msg []byte) { got = append(got, string(msg)) }})
	m.mu.Lock()
	m.publishLocked([]byte("of another")) // which comes to publish it after this
	m.mu.Unlock()

	_, err := m.Delete(t.Context(), "k", DeleteOptions{}, nil)
	require.NoError(t, err)
	_, err = m.DeletePrefix(t.Context(), "k", nil)
	require.NoError(t, err)
	raised := m.RaiseTags(t.Context(), []TagRaise{{Book: "book", Tag: "tag"}})
	require.NoError(t, raised[0].Err)
	_, err = m.Read(t.Context(), "k", limit)
	require.NoError(t, err)
	require.Empty(t, got)

	_, err = m.Delete(t.Context(), "k", DeleteOptions{}, []byte("own"))
	require.NoError(t, err)
	assert.Equal(t, []string{"of another", "own"}, got)
}

func TestMemory_keepsNothingOfTheCallers(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	rec := record("k", "value")
	_, err := m.Set(t.Context(), "k", rec, 0, nil)
	require.NoError(t, err)
	clear(rec)
	rep, err := m.Read(t.Context(), "k", limit)
	require.NoError(t, err)
	require.Equal(t, "value", string(rep.Record.Payload))
	clear(rep.Record.Payload)
	rep, err = m.Read(t.Context(), "k", limit)
	require.NoError(t, err)
	assert.Equal(t, "value", string(rep.Record.Payload))
}

func TestMemory_Close(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	mustSet(t, m, "k", "v", 0)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err := m.Read(t.Context(), "k", limit)
	assert.ErrorIs(t, err, ErrClosed)
	_, err = m.DeletePrefix(t.Context(), "k", nil)
	assert.ErrorIs(t, err, ErrClosed)
	_, err = m.Ping(t.Context())
	assert.ErrorIs(t, err, ErrClosed)
	assert.False(t, m.Available("k"))
}

func TestMemory_respectsContext(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := m.Read(ctx, "k", limit)
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, ErrUnavailable)
}
