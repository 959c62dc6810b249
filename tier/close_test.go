package tier_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// Close, and whatever is called then, ends although a batch is storing what its
// loader added, which takes several steps that Close waits for.
func TestNode_Close_whileABatchStores(t *testing.T) {
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), Timeout: 2 * time.Second})
	c := cache(t, n, tier.Options[row]{})
	leases := proxy.Hold(func(cmd redistest.Command) bool { return slices.Contains(cmd, "tandem:row:extra") })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = c.GetOrSetMany(context.Background(), []string{"a"}, 0, func(context.Context, []string) (map[string]row, error) {
			return map[string]row{"a": {Key: "a"}, "extra": {Key: "extra"}}, nil
		})
	}()
	await(t, "the batch to ask for the lease of what was added", 10*time.Second, func() bool { return over(leases.Seen()) })
	closed := make(chan error, 1)
	go func() { closed <- n.Close() }()
	await(t, "Close to begin", 10*time.Second, func() bool { return !n.Stats().Available })
	leases.Release()
	for what, ended := range map[string]func() bool{
		"the batch": func() bool { return over(done) },
		"Close":     func() bool { return len(closed) == 1 },
	} {
		await(t, what, 15*time.Second, ended)
	}
	_, ok := c.Get(t.Context(), "other")
	assert.False(t, ok)
}

// over reports whether c is closed.
func over(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Close does not wait for the end of a scan, which may take as long as the key
// space is large.
func TestNode_Close_endsAScan(t *testing.T) {
	srv := redistest.Start(t)
	srv.Do("eval", "for i=1,100000 do redis.call('set', 'other:'..i, 1) end", 0)
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), Strict: true})
	c := cache(t, n, tier.Options[row]{})
	proxy.Delay(redistest.Commands, 50*time.Millisecond)
	scans := func() int {
		m := regexp.MustCompile(`cmdstat_scan:calls=(\d+)`).FindStringSubmatch(fmt.Sprint(srv.Do("info", "commandstats")))
		if m == nil {
			return 0
		}
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		return n
	}
	deleted := make(chan error, 1)
	go func() {
		_, err := c.DeletePrefix(context.Background(), "x")
		deleted <- err
	}()
	await(t, "the scan", 10*time.Second, func() bool { return scans() > 0 })
	require.NoError(t, n.Close())
	require.ErrorIs(t, <-deleted, tier.ErrUnavailable)
	assert.Less(t, scans(), 100, "it went on: there are two hundred")
}
