// Package ratelimit limits how often a user may call an HTTP endpoint, counted
// over all processes that share a Redis.
//
// It stands for the pattern of INCR and then EXPIRE, which two clients can break
// between its steps: a window that never ends, or one that is lost. Here one
// script counts and sets the window, once.
package ratelimit

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// Limiter allows each user so many calls of an endpoint in a window. All methods
// may be called concurrently.
type Limiter struct {
	counter *tier.Counter
	limit   int64
}

// New returns a limiter of limit calls a window, whose counts are kept on node.
func New(node *tier.Node, limit int64, window time.Duration) (*Limiter, error) {
	c, err := tier.NewCounter(node, ghl.RateLimit().Name(), tier.CounterOptions{Window: window})
	if err != nil {
		return nil, fmt.Errorf("ratelimit: %w", err)
	}
	return &Limiter{c, limit}, nil
}

// Limit returns a handler that passes requests on to next while their user has
// calls of the endpoint left, and answers 429 with Retry-After when not. user
// says whose request it is.
//
// Without an answer of Redis requests pass (tier.Counter.Allow says yes): a
// limit protects a service, and must not be what takes it down.
func (l *Limiter) Limit(endpoint string, user func(*http.Request) string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := l.counter.Allow(r.Context(), ghl.RateLimit().ID(user(r), endpoint), l.limit)
		if err != nil && !d.Allowed {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("X-RateLimit-Remaining", strconv.FormatInt(d.Remaining, 10))
		if !d.Allowed {
			w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.RetryAfter.Seconds()))))
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}
