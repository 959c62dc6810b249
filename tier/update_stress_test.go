package tier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// OrderedUpdate, thousands of rounds on two nodes: in each, Updates, deletions
// after a commit and reads of one key run into each other on both. What is left is
// the database's version or nothing, in L2 at once, in each L1 when the messages
// are there; and no read on a node that begins after its Update sees less.
func TestOrderedUpdate_stress(t *testing.T) {
	rounds := 2000
	eachRedis(t, func(t *testing.T, cfg tier.Config) {
		defer func() { rounds = 500 }() // fewer on the cluster, which comes second
		const workers = 4
		a, b := cache(t, open(t, cfg), tier.Options[row]{}), cache(t, open(t, cfg), tier.Options[row]{})
		bare := cache(t, open(t, cfg), tier.Options[row]{Local: tier.Local{Disabled: true}})
		var alone, left atomic.Int64
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				db := newDatabase()
				for i := w; i < rounds && !t.Failed(); i += workers {
					key := fmt.Sprintf("%d:%d", w, i%7)
					orderedUpdateRound(t, []*tier.Cache[row]{a, b}, db, key)
					if agrees(t, a, b, bare, db, key) {
						left.Add(1)
					}
					// One alone does store.
					v, err := a.Update(context.Background(), key, 0, db.commit(key))
					assert.NoError(t, err)
					if got, ok := bare.Get(context.Background(), key); ok && got.Version == v.Version {
						alone.Add(1)
					}
				}
			})
		}
		wg.Wait()
		assert.Greater(t, alone.Load(), int64(rounds*9/10), "void: Updates that nobody disturbs do not store")
		assert.NotZero(t, left.Load(), "void: nothing was left in any round")
		require.NotZero(t, b.Stats().HitsL1, "void: nothing came from L1")
		require.NotZero(t, a.Stats().FillsRefused+b.Stats().FillsRefused, "void: no fill met a change")
	})
}

// orderedUpdateRound lets four callers on two nodes do a few things each to key.
func orderedUpdateRound(t *testing.T, caches []*tier.Cache[row], db *database, key string) {
	ctx := context.Background()
	read := func(context.Context) (row, error) {
		v := db.read(key)
		runtime.Gosched()
		return v, nil
	}
	var round sync.WaitGroup
	for i := range 4 {
		c := caches[i%2]
		round.Go(func() {
			for range 3 {
				least := int64(0)
				switch rand.IntN(6) {
				case 0, 1:
					v, err := c.Update(ctx, key, 0, func(context.Context) (row, error) {
						runtime.Gosched()
						v := db.write(key)
						runtime.Gosched()
						return v, nil
					})
					assert.NoError(t, err)
					least = v.Version
				case 2:
					least = db.write(key).Version
					assert.NoError(t, c.Delete(ctx, key))
				}
				v, err := c.GetOrSet(ctx, key, 0, read)
				assert.NoError(t, err)
				assert.GreaterOrEqual(t, v.Version, least, "a read after a change returned what was before it (%s)", key)
			}
		})
	}
	round.Wait()
}

// agrees checks what a round has left, and reports whether that was a value.
func agrees(t *testing.T, a, b, bare *tier.Cache[row], db *database, key string) bool {
	want := db.version(key)
	v, ok := bare.Get(context.Background(), key)
	if ok {
		assert.Equal(t, want, v.Version, "L2 is older than the database (%s)", key)
	}
	deadline := time.Now().Add(5 * time.Second) // generous against Δ
	for _, c := range []*tier.Cache[row]{a, b} {
		for {
			v, ok := c.Get(context.Background(), key)
			if !ok || v.Version == want {
				break
			}
			if time.Now().After(deadline) {
				assert.Fail(t, "an L1 is older than the database", "key %s: %d < %d", key, v.Version, want)
				break
			}
			runtime.Gosched()
		}
	}
	return ok
}
