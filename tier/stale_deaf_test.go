package tier_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// deaf is a node whose link to the bus goes silent, while Redis answers it.
type deaf struct {
	proxy *redistest.Proxy
	node  *tier.Node
	cache *tier.Cache[row]
	other *tier.Cache[row] // of a node that is well
}

// newDeaf returns one that hears yet, and has a value of key 1 past its TTL in L2.
func newDeaf(t *testing.T, opts tier.Options[row], cfg tier.Config) *deaf {
	t.Helper()
	srv := redistest.Start(t)
	d := &deaf{proxy: redistest.NewProxy(t, srv)}
	opts.StaleFor = time.Hour
	d.other = cache(t, open(t, tier.Config{URL: srv.URL()}), opts)
	cfg.URL, cfg.Heartbeat = d.proxy.URL(), 200*time.Millisecond
	d.node = open(t, cfg)
	d.cache = cache(t, d.node, opts)
	setAged(t, d.other, "1", 50*time.Millisecond)
	await(t, "the end of the TTL", 10*time.Second, func() bool { return !d.cache.Exists(t.Context(), "1") })
	return d
}

// miss has another node delete the value in the course of a load, and returns when
// the node knows that it may have missed that.
func (d *deaf) miss(t *testing.T) {
	t.Helper()
	d.proxy.Freeze(redistest.PubSub, redistest.BothWays)
	assert.NoError(t, d.other.Delete(context.Background(), "1"))
	await(t, "the end of hearing", 10*time.Second, func() bool { return !d.node.Stats().Bus.Hears })
	assert.True(t, d.node.Stats().Available)
}

// looks matches a look at L2 for key 1.
func looks(c redistest.Command) bool { return c.Name() == "getrange" && c[1] == "tandem:row:1" }

// slowLook makes the next look take more than half of a Timeout of 2 s.
func (d *deaf) slowLook() {
	look := d.proxy.Hold(looks)
	go func() {
		<-look.Seen()
		time.AfterFunc(1200*time.Millisecond, look.Release)
	}()
}

// BoundedStaleness: a value that another node has deleted stands in for nothing,
// however the read came by it, although this node has not heard of that: Redis
// answers, and is asked.
func TestBoundedStaleness_fallbackOfADeafNode(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	t.Run("GetOrSet", func(t *testing.T) {
		t.Parallel()
		d := newDeaf(t, tier.Options[row]{}, tier.Config{})
		_, err := d.cache.GetOrSet(ctx, "1", 0, func(context.Context) (row, error) {
			d.miss(t)
			return row{}, errDB
		})
		require.ErrorIs(t, err, errDB)
	})
	t.Run("GetOrSetMany", func(t *testing.T) {
		t.Parallel()
		d := newDeaf(t, tier.Options[row]{}, tier.Config{})
		setAged(t, d.other, "2", 50*time.Millisecond)
		got, err := d.cache.GetOrSetMany(ctx, []string{"1", "2"}, 0, func(context.Context, []string) (map[string]row, error) {
			d.miss(t)
			return nil, errDB
		})
		require.ErrorIs(t, err, errDB)
		require.NotContains(t, got, "1")
		require.Contains(t, got, "2", "it was not deleted")
	})
	t.Run("GetOrSet, slow Redis", func(t *testing.T) {
		t.Parallel()
		d := newDeaf(t, tier.Options[row]{}, tier.Config{Timeout: 2 * time.Second})
		d.slowLook()
		_, err := d.cache.GetOrSet(ctx, "1", 0, func(context.Context) (row, error) {
			d.miss(t)
			d.slowLook()
			return row{}, errDB
		})
		require.ErrorIs(t, err, errDB)
	})
	t.Run("SoftTimeout", func(t *testing.T) {
		t.Parallel()
		d := newDeaf(t, tier.Options[row]{SoftTimeout: 2 * time.Second}, tier.Config{})
		again := make(chan struct{})
		var loads atomic.Int64
		got, err := d.cache.GetOrSet(ctx, "1", 0, func(ctx context.Context) (row, error) {
			if n := loads.Add(1); n > 1 { // begun after the value was found to be deleted
				if n == 2 {
					close(again)
				}
				return row{Key: "1", Version: 2}, nil
			}
			d.miss(t)
			select {
			case <-again:
			case <-ctx.Done():
			}
			return row{}, errDB
		})
		require.NoError(t, err)
		require.EqualValues(t, 2, got.Version)
	})
}

// A batch whose loader fails takes what another node has stored meanwhile.
func TestStaleFor_batchFindsAnotherNodesValue(t *testing.T) {
	srv := redistest.Start(t)
	a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{StaleFor: time.Hour})
	b := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{StaleFor: time.Hour})
	setAged(t, a, "1", 50*time.Millisecond)
	got, err := a.GetOrSetMany(t.Context(), []string{"1"}, 0, func(ctx context.Context, _ []string) (map[string]row, error) {
		assert.NoError(t, b.Set(ctx, "1", row{Key: "1", Version: 2}, 0))
		return nil, errDB
	})
	require.NoError(t, err)
	require.EqualValues(t, 2, got["1"].Version)
}
