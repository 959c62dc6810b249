package credits_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/examples/credits"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

func open(t *testing.T, cfg tier.Config) *credits.Balances {
	t.Helper()
	node, err := tier.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	b, err := credits.Open(node)
	require.NoError(t, err)
	return b
}

func TestBalances_twoProcessesNeverSpendMoreThanThereIs(t *testing.T) {
	srv := redistest.Start(t)
	cfg := tier.Config{URL: srv.URL(), Prefix: ghl.Namespace}
	processes := []*credits.Balances{open(t, cfg), open(t, cfg)}
	const granted, spenders = 50, 40
	_, err := processes[0].Grant(t.Context(), "123", granted)
	require.NoError(t, err)
	var spent atomic.Int64
	var running sync.WaitGroup
	for i := range spenders {
		running.Go(func() {
			for range 3 {
				left, err := processes[i%2].Spend(t.Context(), "123", 1)
				if errors.Is(err, credits.ErrInsufficient) {
					continue
				}
				assert.NoError(t, err)
				assert.GreaterOrEqual(t, left, int64(0))
				spent.Add(1)
			}
		})
	}
	running.Wait()
	assert.EqualValues(t, granted, spent.Load(), "there was enough demand for all of it")
	assert.Equal(t, "0", srv.Client(t).Get(t.Context(), "ghl:credits:123").Val(), "a plain number for redis-cli")
}

func TestBalances_refuseNonsenseAndOutages(t *testing.T) {
	srv := redistest.Start(t)
	b := open(t, tier.Config{URL: srv.URL()})
	_, err := b.Grant(t.Context(), "123", -1)
	require.ErrorContains(t, err, "negative")
	_, err = b.Spend(t.Context(), "123", -1)
	require.ErrorContains(t, err, "negative")
	_, err = b.Of(t.Context(), strings.Repeat("x", 2_000))
	require.ErrorIs(t, err, tier.ErrKey)
	srv.Stop()
	_, err = b.Spend(t.Context(), "123", 1)
	require.ErrorIs(t, err, tier.ErrUnavailable)
	require.NotErrorIs(t, err, credits.ErrInsufficient)
}

// User credits: granted, spent, never overdrawn.
func Example() {
	ctx := context.Background()
	node, err := tier.Open(ctx, tier.Config{Prefix: ghl.Namespace}) // URL: "redis://localhost:6379"
	if err != nil {
		panic(err)
	}
	defer node.Close()
	balances, err := credits.Open(node)
	if err != nil {
		panic(err)
	}
	fmt.Println(balances.Grant(ctx, "123", 10))
	fmt.Println(balances.Spend(ctx, "123", 7))
	fmt.Println(balances.Spend(ctx, "123", 7))
	fmt.Println(balances.Of(ctx, "123"))
	// Output:
	// 10 <nil>
	// 3 <nil>
	// 3 credits: insufficient
	// 3 <nil>
}
