//go:build !race

package l1_test

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/rand"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l1"
)

type user struct {
	ID    int64
	Name  string
	Email string
}

const benchKeys = 1 << 14

// sequence returns keys in the order in which a benchmark asks for them.
func sequence(keys []string, zipf bool) []string {
	r := rand.New(rand.NewSource(1))
	z := rand.NewZipf(r, 1.1, 1, uint64(len(keys)-1))
	order := make([]string, 1<<16)
	for i := range order {
		if zipf {
			order[i] = keys[z.Uint64()]
		} else {
			order[i] = keys[r.Intn(len(keys))]
		}
	}
	return order
}

// contest is a hit in ristretto and in a store: the same values under the same
// string keys, without TTL there; with TTL, lease and hashing here.
type contest struct {
	keys            []string
	bare, store     func(key string) bool
	closeBothCaches func()
}

func newContest(tb testing.TB) *contest {
	keys := make([]string, benchKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("user:%017d", i)
	}
	bare, err := ristretto.NewCache(&ristretto.Config[string, *user]{NumCounters: 10 * benchKeys, MaxCost: 1 << 30, BufferItems: 64})
	require.NoError(tb, err)
	store, err := l1.New[*user](sized(benchKeys * 1024))
	require.NoError(tb, err)
	for i, key := range keys {
		u := &user{ID: int64(i)}
		bare.Set(key, u, 64)
		put(store, key, u, 64)
		if i%100 == 0 {
			bare.Wait()
			store.Wait()
		}
	}
	bare.Wait()
	store.Wait()
	return &contest{
		keys: keys,
		bare: func(key string) bool {
			u, ok := bare.Get(key)
			return ok && u.ID >= 0
		},
		store: func(key string) bool {
			e, state := store.Get(maphash.String(seed, key), key, math.MaxInt64-1)
			return state == l1.Hit && e.Value.ID >= 0
		},
		closeBothCaches: func() { bare.Close(); store.Close() },
	}
}

// TestMeasure_hitCost holds the price of a hit against that of ristretto alone. The two
// are measured in turns, in short batches whose fastest counts, so that
// whatever else the machine does hits both or neither. What lies beyond the
// processor's own caches, as uniformly distributed keys do, and what runs in
// parallel depends on the neighbors all the same: that is only printed.
func TestMeasure_hitCost(t *testing.T) {
	const batches, batch = 60, 1 << 14
	c := newContest(t)
	defer c.closeBothCaches()
	for _, dist := range []string{"zipf", "uniform"} {
		order := sequence(c.keys, dist == "zipf")
		for _, parallel := range []int{1, 2} {
			best := map[string]time.Duration{"ristretto": math.MaxInt64, "l1": math.MaxInt64}
			for range batches {
				best["ristretto"] = min(best["ristretto"], lap(t, order, batch, parallel, c.bare))
				best["l1"] = min(best["l1"], lap(t, order, batch, parallel, c.store))
			}
			ratio := float64(best["l1"]) / float64(best["ristretto"])
			t.Logf("%s, %d goroutines: ristretto %.1f ns, l1 %.1f ns, ratio %.2f", dist, parallel,
				float64(best["ristretto"])/batch, float64(best["l1"])/batch, ratio)
			if dist == "zipf" && parallel == 1 {
				assert.Less(t, ratio, 1.5)
			}
		}
	}
}

// lap returns how long n gets take in each of some goroutines.
func lap(t *testing.T, order []string, n, goroutines int, get func(string) bool) time.Duration {
	var wg sync.WaitGroup
	begin := time.Now()
	for g := range goroutines {
		wg.Go(func() {
			for i := range n {
				if !get(order[(i+g*n)&(len(order)-1)]) {
					t.Error("miss")
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// BenchmarkGet is TestMeasure_hitCost for benchstat.
func BenchmarkGet(b *testing.B) {
	c := newContest(b)
	defer c.closeBothCaches()
	for _, dist := range []string{"uniform", "zipf"} {
		order := sequence(c.keys, dist == "zipf")
		for name, get := range map[string]func(string) bool{"ristretto": c.bare, "l1": c.store} {
			b.Run(fmt.Sprintf("dist=%s/mode=serial/cache=%s", dist, name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if !get(order[i&(len(order)-1)]) {
						b.Fatal("miss")
					}
					i++
				}
			})
			b.Run(fmt.Sprintf("dist=%s/mode=parallel/cache=%s", dist, name), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for i := rand.Int(); pb.Next(); i++ {
						if !get(order[i&(len(order)-1)]) {
							b.Error("miss")
							return
						}
					}
				})
			})
		}
	}
}

func BenchmarkClock(b *testing.B) {
	clock := l1.NewClock()
	for b.Loop() {
		clock.Now()
	}
}
