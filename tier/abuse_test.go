package tier_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// heap returns what the process holds once garbage is gone.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// forgeries are messages of one who knows the format and means no good.
func forgeries(rng *rand.Rand, seen []invalidation.NodeID) []byte {
	id := invalidation.NewNodeID()
	if rng.IntN(2) == 0 {
		id = seen[rng.IntN(len(seen))]
	}
	beat := invalidation.Beat{
		Number: rng.Uint64(), Interval: time.Duration(rng.Int64N(int64(time.Hour))),
		Age: time.Duration(rng.Int64N(int64(time.Hour))), Quiet: time.Duration(rng.Int64N(int64(time.Hour))),
		Overflow: rng.IntN(4) == 0,
	}
	for range rng.IntN(50) {
		beat.Open = append(beat.Open, uint64(len(beat.Open)+1)<<rng.IntN(3))
	}
	m := invalidation.Message{Node: id, Seq: rng.Uint64() >> rng.IntN(64)}
	switch rng.IntN(6) {
	case 0:
		m.Kind, m.Beat = invalidation.KindBeat, beat
	case 1:
		m.Kind, m.Beat = invalidation.KindBye, beat
	case 2:
		m.Kind, m.Cache, m.Keys = invalidation.KindKeys, "row", []string{"x", fmt.Sprint(rng.IntN(1000))}
	case 3:
		m.Kind, m.Cache, m.Keys = invalidation.KindPrefix, "row", []string{fmt.Sprint("p", rng.IntN(1000))}
	case 4:
		m.Kind, m.Cache = invalidation.KindClear, "row"
	case 5:
		text := make([]byte, rng.IntN(300))
		for i := range text {
			text[i] = byte(rng.IntN(256))
		}
		return text
	}
	b, err := m.Append(nil)
	if err != nil {
		return []byte("Td")
	}
	return b
}

// Who can publish on the channel forges beats with huge numbers, ids of others and
// ids by the thousand, and floods it. The worst of it are misses: changes are obeyed
// as ever, memory is bounded, and when it is over L1 serves again.
func TestUntrusted_hostilePublisher(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{Heartbeat: 200 * time.Millisecond})
	var mu sync.Mutex
	seen := []invalidation.NodeID{invalidation.NewNodeID()}
	p.pb.DropMessages(1, func(m redistest.Message) bool { // looks, and drops nothing
		if msg, err := invalidation.Parse([]byte(m.Payload)); err == nil && msg.Kind == invalidation.KindBeat {
			mu.Lock()
			defer mu.Unlock()
			if len(seen) < 4 {
				seen = append(seen, msg.Node)
			}
		}
		return false
	})
	db := newDatabase()
	db.write("k")
	loaded(t, p.a, db, "k")
	loaded(t, p.b, db, "k")
	await(t, "the ids", 10*time.Second, func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 4 })
	before := heap()
	rng := rand.New(rand.NewPCG(1, 2))
	client := p.srv.Client(t)
	sent := 0
	for range 20 {
		pipe := client.Pipeline()
		for range 500 {
			mu.Lock()
			pipe.Publish(t.Context(), "tandem:!bus:0", forgeries(rng, seen))
			mu.Unlock()
			sent++
		}
		_, err := pipe.Exec(t.Context())
		require.NoError(t, err)
		db.write("k")
		require.NoError(t, p.a.Delete(t.Context(), "k"))
		acked := time.Now()
		await(t, "the change", 10*time.Second, func() bool {
			v, err := p.a.GetOrSet(t.Context(), "k", 0, db.loader("k"))
			require.NoError(t, err)
			require.Equal(t, db.version("k"), v.Version, "ReadYourWrites")
			v, err = p.b.GetOrSet(t.Context(), "k", 0, db.loader("k"))
			require.NoError(t, err)
			return v.Version == db.version("k")
		})
		require.Less(t, time.Since(acked), 3*time.Second+slack)
	}
	grown := heap() - before
	t.Logf("%d messages, %d gaps, %d taken for garbage, heap grown by %d KiB", sent, p.nb.Stats().Bus.Gaps, p.nb.Stats().Bus.Garbage, grown>>10)
	assert.Less(t, grown, int64(64<<20))
	await(t, "L1 to serve again", time.Minute, func() bool {
		item, err := p.b.Lookup(t.Context(), "k")
		return err == nil && item.Tier == tier.TierL1
	})
}

// Ten thousand messages a second and more go through one node, which goes on
// hearing.
func TestOverload_messages(t *testing.T) {
	p := newPair(t, tier.Config{})
	origin := invalidation.NewOrigin(invalidation.NewNodeID())
	client := p.srv.Client(t)
	publish := func(pipe redis.Pipeliner, m invalidation.Message) {
		b, err := m.Append(nil)
		require.NoError(t, err)
		pipe.Publish(t.Context(), "tandem:!bus:0", b)
	}
	const messages = 20_000
	st := p.nb.Stats().Bus
	pipe := client.Pipeline()
	publish(pipe, origin.Beat(time.Second))
	begun := time.Now()
	for i := range messages {
		seq := origin.Next()
		publish(pipe, invalidation.Message{
			Kind: invalidation.KindKeys, Node: origin.ID(), Seq: seq, Cache: "row", Keys: []string{fmt.Sprint("key", i)},
		})
		origin.Confirmed(seq)
		if i%500 == 499 {
			publish(pipe, origin.Beat(time.Second))
			_, err := pipe.Exec(t.Context())
			require.NoError(t, err)
		}
	}
	await(t, "the messages", 30*time.Second, func() bool { return p.nb.Stats().Bus.Received >= st.Received+messages })
	took := time.Since(begun)
	publish(pipe, origin.Bye())
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	t.Logf("%d messages in %v: %.0f a second, through two nodes", messages, took.Round(time.Millisecond), messages/took.Seconds())
	now := p.nb.Stats().Bus
	assert.Equal(t, st.Gaps, now.Gaps, "%s", now.LastGap)
	assert.True(t, now.Hears)
}

// Batches of ten thousand keys, written, read, deleted and loaded.
func TestOverload_batches(t *testing.T) {
	t.Parallel()
	cfg := tier.Config{URL: redistest.Start(t).URL(), Timeout: 20 * time.Second, Strict: true}
	a, b := cache(t, open(t, cfg), tier.Options[row]{}), cache(t, open(t, cfg), tier.Options[row]{})
	const many = 10_000
	values := make(map[string]row)
	var keys []string
	for i := range many {
		keys = append(keys, fmt.Sprint("key", i))
		values[keys[i]] = row{Key: keys[i], Version: 1}
	}
	require.NoError(t, a.SetMany(t.Context(), values, 0))
	assert.Len(t, b.GetMany(t.Context(), keys), many)
	require.NoError(t, a.Delete(t.Context(), keys...))
	await(t, "the deletions", 20*time.Second, func() bool { return len(b.GetMany(t.Context(), keys)) == 0 })
	loads := 0
	got, err := b.GetOrSetMany(t.Context(), keys, 0, func(_ context.Context, missing []string) (map[string]row, error) {
		loads += len(missing)
		rows := make(map[string]row)
		for _, k := range missing {
			rows[k] = row{Key: k, Version: 2}
		}
		return rows, nil
	})
	require.NoError(t, err)
	assert.Len(t, got, many)
	assert.Equal(t, many, loads)
	assert.Len(t, a.GetMany(t.Context(), keys), many)
}

// However many different keys go through a cache, what it keeps of them is bounded:
// values by Local.MaxBytes, stamps by the table, debts by MaxPending. TANDEM_SOAK
// makes it 10^7 keys.
func TestSoak_distinctKeys(t *testing.T) {
	keys := 30_000
	if os.Getenv("TANDEM_SOAK") != "" {
		keys = 10_000_000
	}
	n := open(t, tier.Config{URL: "redis://127.0.0.1:1", MaxPending: 1000}) // nobody is there: all is owed
	c := cache(t, n, tier.Options[row]{Local: tier.Local{MaxBytes: 1 << 20}})
	half := int64(math.MaxInt64)
	for i := range keys {
		key := fmt.Sprint("key", i)
		_, err := c.GetOrSet(t.Context(), key, 0, func(context.Context) (row, error) { return row{Key: key}, nil })
		require.NoError(t, err)
		if i%10 == 0 {
			require.NoError(t, c.Delete(t.Context(), key))
		}
		if i == keys/2 {
			half = heap()
		}
	}
	end := heap()
	t.Logf("%d keys: heap %d KiB half way, %d KiB at the end; %d owed", keys, half>>10, end>>10, n.Stats().Journal.Owed)
	assert.Less(t, end-half, int64(8<<20))
	assert.LessOrEqual(t, n.Stats().Journal.Owed, 1000)
}
