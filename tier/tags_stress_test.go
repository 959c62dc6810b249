package tier_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

const tagRounds = 4_000

// NoStaleFill and ReadYourWrites, thousands of rounds on two nodes: loads, reads
// of L2 and Sets that run into an invalidation of their tag leave nothing older
// behind it, in L2 or in an L1.
func TestNoStaleFill_tagsStress(t *testing.T) {
	for name, cfg := range map[string]func() tier.Config{
		"local": func() tier.Config { return tier.Config{Bus: invalidation.NewLocal()} },
		"redis": func() tier.Config { return tier.Config{URL: redistest.Start(t).URL()} },
	} {
		t.Run("bus="+name, func(t *testing.T) {
			f := newFleet(t, cfg())
			const workers = 8
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					db := newDatabase()
					for i := w; i < tagRounds; i += workers {
						tagRound(t, f, db, w, i)
					}
				})
			}
			wg.Wait()
			require.NotZero(t, f.a.Stats().FillsRefused+f.b.Stats().FillsRefused, "void: no fill met an invalidation")
			require.NotZero(t, f.b.Stats().HitsL1, "void: nothing came from L1")
			t.Logf("a %+v", f.a.Stats())
			t.Logf("b %+v", f.b.Stats())
		})
	}
}

func tagRound(t *testing.T, f fleet, db *database, w, i int) {
	ctx := context.Background()
	// Some tags are new to everybody, some known for long, and they stand alone
	// or behind another.
	key, tag := fmt.Sprintf("%d:%d", w, i%40), fmt.Sprintf("%d:%d", w, i%7)
	if i%3 == 0 {
		tag = fmt.Sprint("new:", i)
	}
	pad := []string{tag, "w" + fmt.Sprint(w) + "," + tag}[i%2]
	read := func() row {
		v := db.read(key)
		v.Pad = pad
		return v
	}
	slow := func(context.Context) (row, error) {
		v := read()
		runtime.Gosched() // the invalidation gets its chance between read and fill
		return v, nil
	}
	db.write(key)
	for _, n := range []*tier.Node{f.na, f.nb} { // what earlier rounds have left
		assert.NoError(t, n.InvalidateTags(ctx, tag))
	}
	assert.NoError(t, f.a.Delete(ctx, key))

	var readers sync.WaitGroup
	for _, c := range []*tier.Cache[row]{f.a, f.b, f.a, f.b} {
		readers.Go(func() {
			for range 3 {
				_, err := c.GetOrSet(ctx, key, 0, slow)
				assert.NoError(t, err)
			}
		})
	}
	if i%4 == 0 {
		old := read()
		readers.Go(func() { assert.NoError(t, f.a.Set(ctx, key, old, 0)) })
		readers.Wait() // a Set is as new as its call: it must be over
	}
	runtime.Gosched()
	want := db.write(key)
	assert.NoError(t, f.na.InvalidateTags(ctx, tag))
	v, ok := f.a.Get(ctx, key)
	assert.True(t, !ok || v.Version >= want.Version, "Get right after InvalidateTags (key %s, round %d): %+v", key, i, v)
	v, err := f.a.GetOrSet(ctx, key, 0, slow)
	assert.NoError(t, err)
	assert.GreaterOrEqual(t, v.Version, want.Version, "GetOrSet right after InvalidateTags (key %s, round %d)", key, i)
	readers.Wait()
	obeys(t, f.a, f.b, db, key, want, i)
}
