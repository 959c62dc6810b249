package tier_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

const stressRounds = 10_000

// ReadYourWrites, ten thousand rounds: after a change returned, a read on the
// same node never sees less. Each round has a key of its own at first, so that
// ristretto queues its sets, and readers that put older values under way.
func TestReadYourWrites_stress(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		const workers = 8
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				db := newDatabase()
				for i := w; i < stressRounds; i += workers {
					readYourWritesRound(t, c, db, fmt.Sprint(i%(stressRounds/4)/workers*workers+w), i)
				}
			})
		}
		wg.Wait()
		stats := c.Stats()
		require.NotZero(t, stats.HitsL1, "void: nothing came from L1")
		t.Logf("%+v", stats)
	})
}

// readYourWritesRound lets readers run into a change from before and during
// it, and checks reads that begin after it.
func readYourWritesRound(t *testing.T, c *tier.Cache[row], db *database, key string, i int) {
	ctx := context.Background()
	db.write(key)
	slow := func(context.Context) (row, error) {
		v := db.read(key)
		runtime.Gosched() // the change gets its chance between read and fill
		return v, nil
	}
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for range 3 {
				_, err := c.GetOrSet(ctx, key, 0, slow)
				assert.NoError(t, err)
			}
		})
	}
	runtime.Gosched()
	want := db.write(key)
	switch i % 8 {
	case 0, 1, 2:
		assert.NoError(t, c.Set(ctx, key, want, 0))
	case 3:
		_, err := c.DeletePrefix(ctx, key)
		assert.NoError(t, err)
	default:
		assert.NoError(t, c.Delete(ctx, key))
	}
	check := func(when string) {
		if v, ok := c.Get(ctx, key); ok {
			assert.GreaterOrEqual(t, v.Version, want.Version, "Get %s a change returned an older value (key %s, round %d)", when, key, i)
		}
		v, err := c.GetOrSet(ctx, key, 0, slow)
		assert.NoError(t, err)
		assert.GreaterOrEqual(t, v.Version, want.Version, "GetOrSet %s a change returned an older value (key %s, round %d)", when, key, i)
	}
	check("right after")
	readers.Wait()
	check("when all readers had returned after")
}

// NoStaleFill, ten thousand rounds on two nodes: a load that began before
// another node's change leaves nothing behind, in L2 or in an L1.
func TestNoStaleFill_stress(t *testing.T) {
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
	nb := open(t, tier.Config{URL: srv.URL()})
	b := cache(t, nb, tier.Options[row]{})
	const workers = 8
	var wg sync.WaitGroup
	var last atomic.Int64
	for w := range workers {
		wg.Go(func() {
			db := newDatabase()
			for i := w; i < stressRounds; i += workers {
				noStaleFillRound(t, a, b, db, fmt.Sprintf("%d:%d", w, i), i)
				last.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, stressRounds, last.Load())
	require.NotZero(t, a.Stats().FillsRefused+b.Stats().FillsRefused, "void: no fill met a change")
	require.NotZero(t, b.Stats().HitsL1, "void: nothing came from L1")
	t.Logf("a %+v", a.Stats())
	t.Logf("b %+v", b.Stats())
}

func noStaleFillRound(t *testing.T, a, b *tier.Cache[row], db *database, key string, i int) {
	ctx := context.Background()
	change := func() row {
		want := db.write(key)
		if i%4 == 0 {
			assert.NoError(t, a.Set(ctx, key, want, 0))
		} else {
			assert.NoError(t, a.Delete(ctx, key))
		}
		return want
	}

	// A loader on b that read before the change and ends after it.
	db.write(key)
	read, release := make(chan struct{}), make(chan struct{})
	var loader sync.WaitGroup
	loader.Go(func() {
		_, err := b.GetOrSet(ctx, key, 0, func(context.Context) (row, error) {
			v := db.read(key)
			close(read)
			<-release
			return v, nil
		})
		assert.NoError(t, err)
	})
	<-read
	want := change()
	close(release)
	loader.Wait()
	obeys(t, a, b, db, key, want, i)

	// Readers on both nodes that run into a change: their reads of L2 and their
	// loads begin before, during and after it.
	var readers sync.WaitGroup
	for _, c := range []*tier.Cache[row]{a, b, a, b} {
		readers.Go(func() {
			for range 3 {
				_, err := c.GetOrSet(ctx, key, 0, func(context.Context) (row, error) {
					v := db.read(key)
					runtime.Gosched()
					return v, nil
				})
				assert.NoError(t, err)
			}
		})
	}
	runtime.Gosched()
	want = change()
	readers.Wait()
	obeys(t, a, b, db, key, want, i)
}

// obeys checks that nothing older than want is left anywhere.
func obeys(t *testing.T, a, b *tier.Cache[row], db *database, key string, want row, i int) {
	ctx := context.Background()
	// The node of the change: what stands in L2 is what any node reads from now on.
	v, err := a.GetOrSet(ctx, key, 0, db.loader(key))
	assert.NoError(t, err)
	assert.GreaterOrEqual(t, v.Version, want.Version, "a stale value on the node of the change (key %s, round %d)", key, i)
	// The other node obeys as soon as the message arrives, well within Δ.
	deadline := time.Now().Add(3 * time.Second)
	for {
		v, ok := b.Get(ctx, key)
		if !ok || v.Version >= want.Version {
			break
		}
		if time.Now().After(deadline) {
			assert.Fail(t, "a stale fill in L1", "key %s, round %d: %d < %d", key, i, v.Version, want.Version)
			return
		}
		runtime.Gosched()
	}
	v, err = b.GetOrSet(ctx, key, 0, db.loader(key))
	assert.NoError(t, err)
	assert.GreaterOrEqual(t, v.Version, want.Version, "a stale value on the other node (key %s, round %d)", key, i)
}
