package ratelimit_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/examples/ratelimit"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// byHeader is how these tests tell users apart.
func byHeader(r *http.Request) string { return r.Header.Get("X-User") }

// limited is a handler behind a limit on a node of its own.
func limited(t *testing.T, cfg tier.Config, limit int64) http.Handler {
	t.Helper()
	node, err := tier.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	l, err := ratelimit.New(node, limit, time.Minute)
	require.NoError(t, err)
	return l.Limit("search", byHeader, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	}))
}

func call(ctx context.Context, h http.Handler, user string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/search", http.NoBody)
	r.Header.Set("X-User", user)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestLimiter_isExactOverProcesses(t *testing.T) {
	srv := redistest.Start(t)
	cfg := tier.Config{URL: srv.URL(), Prefix: ghl.Namespace}
	processes := []http.Handler{limited(t, cfg, 25), limited(t, cfg, 25)}
	var passed, refused atomic.Int64
	var running sync.WaitGroup
	for i := range 20 {
		running.Go(func() {
			for range 5 {
				switch call(t.Context(), processes[i%2], "123").Code {
				case http.StatusOK:
					passed.Add(1)
				case http.StatusTooManyRequests:
					refused.Add(1)
				}
			}
		})
	}
	running.Wait()
	assert.EqualValues(t, 25, passed.Load())
	assert.EqualValues(t, 75, refused.Load())
	assert.Equal(t, http.StatusOK, call(t.Context(), processes[0], "124").Code, "another user has a limit of their own")
	rdb := srv.Client(t)
	assert.Equal(t, "25", rdb.Get(t.Context(), "ghl:rate:123:search").Val())
	assert.InDelta(t, time.Minute, rdb.PTTL(t.Context(), "ghl:rate:123:search").Val(), float64(30*time.Second))
}

func TestLimiter_windowEndsAndIsNeverExtended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := limited(t, tier.Config{}, 2)
		assert.Equal(t, http.StatusOK, call(t.Context(), h, "1").Code)
		time.Sleep(40 * time.Second)
		assert.Equal(t, http.StatusOK, call(t.Context(), h, "1").Code)
		w := call(t.Context(), h, "1")
		assert.Equal(t, http.StatusTooManyRequests, w.Code)
		assert.Equal(t, "20", w.Header().Get("Retry-After"))
		time.Sleep(20 * time.Second)
		assert.Equal(t, "1", call(t.Context(), h, "1").Header().Get("X-RateLimit-Remaining"))
	})
}

func TestLimiter_passesWhenRedisIsDown(t *testing.T) {
	srv := redistest.Start(t)
	h := limited(t, tier.Config{URL: srv.URL()}, 1)
	srv.Stop()
	for range 3 {
		assert.Equal(t, http.StatusOK, call(t.Context(), h, "1").Code)
	}
	assert.Equal(t, http.StatusInternalServerError, call(t.Context(), h, strings.Repeat("x", 2_000)).Code, "a mistake of the program is none of Redis'")
}

// Rate limiting: two calls a minute, the third is told when to come again.
func Example() {
	ctx := context.Background()
	node, err := tier.Open(ctx, tier.Config{Prefix: ghl.Namespace}) // URL: "redis://localhost:6379"
	if err != nil {
		panic(err)
	}
	defer node.Close()
	limiter, err := ratelimit.New(node, 2, time.Minute)
	if err != nil {
		panic(err)
	}
	search := limiter.Limit("search", byHeader, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "found")
	}))
	for range 3 {
		w := call(ctx, search, "123")
		fmt.Printf("%d, %s left, retry after %q\n", w.Code, w.Header().Get("X-RateLimit-Remaining"), w.Header().Get("Retry-After"))
	}
	// Output:
	// 200, 1 left, retry after ""
	// 200, 0 left, retry after ""
	// 429, 0 left, retry after "60"
}
