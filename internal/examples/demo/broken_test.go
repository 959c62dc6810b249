package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/tier"
)

// The subcommands that start services with one fault each.
const (
	careless   = "careless"   // forgets to invalidate, mixes users up, counts wrong, refuses reads in the outage
	deaf       = "deaf"       // keeps users in a map that hears of its own updates only
	indebted   = "indebted"   // owes another key than the one that it could not invalidate, from then on
	mortal     = "mortal"     // dies after some requests
	unpromised = "unpromised" // states a Δ that excuses everything
)

// dispatchBroken is dispatch with the subcommands of these tests.
func dispatchBroken(args []string) int {
	faults := map[string]func(s *service, good http.Handler) http.Handler{
		deaf: remember, indebted: disown, mortal: die, unpromised: excuse,
		careless: func(s *service, good http.Handler) http.Handler { return forget(s, confuse(s, refuse(s, good))) },
	}
	if len(args) == 0 || faults[args[0]] == nil {
		return dispatch(args)
	}
	err := serve(args[1:], os.Stdin, os.Stdout, os.Stderr, func(node *tier.Node, db *database) (http.Handler, error) {
		s, err := newService(node, db)
		if err != nil {
			return nil, err
		}
		return faults[args[0]](s, s.handler()), nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitBroken
	}
	return exitHeld
}

// on answers requests of one method for users by f, the others as before.
func on(method string, good http.Handler, f http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method && strings.HasPrefix(r.URL.Path, "/users/") {
			f(w, r)
			return
		}
		good.ServeHTTP(w, r)
	})
}

func idIn(r *http.Request) int64 {
	id, _ := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/users/"), 10, 64)
	return id
}

// commit updates the database and nothing else.
func (s *service) commit(w http.ResponseWriter, r *http.Request) {
	var ch change
	err := json.NewDecoder(r.Body).Decode(&ch)
	var u user
	if err == nil {
		u, err = s.db.update(r.Context(), idIn(r), ch)
	}
	if err != nil {
		fail(w, err)
		return
	}
	s.updates.Add(1)
	w.Header().Set(headerVersion, strconv.FormatInt(u.Version, 10))
}

// tell answers with a user as getUser does.
func tell(w http.ResponseWriter, u user, from source) {
	w.Header().Set(headerVersion, strconv.FormatInt(u.Version, 10))
	w.Header().Set(headerSource, string(from))
	w.Header().Set(headerCache, "1000")
	w.Header().Set(headerQuery, "0")
	reply(w, u)
}

// forget updates without a word to the cache, and counts two of each.
func forget(s *service, good http.Handler) http.Handler {
	return on(http.MethodPut, good, func(w http.ResponseWriter, r *http.Request) {
		s.updates.Add(1)
		s.commit(w, r)
	})
}

func remember(s *service, good http.Handler) http.Handler {
	var mine sync.Map
	good = on(http.MethodPut, good, func(w http.ResponseWriter, r *http.Request) {
		s.putUser(w, withID(r))
		mine.Delete(idIn(r))
	})
	return on(http.MethodGet, good, func(w http.ResponseWriter, r *http.Request) {
		id := idIn(r)
		if u, ok := mine.Load(id); ok {
			tell(w, u.(user), fromL1)
			return
		}
		before := s.updates.Load()
		a, err := s.read(r.Context(), id)
		if err != nil {
			fail(w, err)
			return
		}
		if s.updates.Load() == before { // as ReadYourWrites would have it
			mine.Store(id, a.user)
		}
		tell(w, a.user, a.source)
	})
}

// withID gives r what the router would have.
func withID(r *http.Request) *http.Request {
	r.SetPathValue("id", strings.TrimPrefix(r.URL.Path, "/users/"))
	return r
}

func disown(s *service, good http.Handler) http.Handler {
	var mine sync.Map // what this process itself reads around the cache
	good = on(http.MethodPut, good, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := mine.Load(idIn(r)); !ok && s.node.Health(r.Context()).L2.Healthy {
			s.putUser(w, withID(r))
			return
		}
		if err := s.users.Delete(r.Context(), "another"); err != nil {
			fail(w, err)
			return
		}
		mine.Store(idIn(r), true)
		s.commit(w, r)
	})
	return on(http.MethodGet, good, func(w http.ResponseWriter, r *http.Request) {
		if _, ok := mine.Load(idIn(r)); !ok {
			s.getUser(w, withID(r))
			return
		}
		u, err := s.db.user(r.Context(), idIn(r))
		if err != nil {
			fail(w, err)
			return
		}
		tell(w, u, fromLoad)
	})
}

func refuse(s *service, good http.Handler) http.Handler {
	return on(http.MethodGet, good, func(w http.ResponseWriter, r *http.Request) {
		if !s.node.Health(r.Context()).L2.Healthy {
			http.Error(w, "no Redis", http.StatusServiceUnavailable)
			return
		}
		s.getUser(w, withID(r))
	})
}

// each calls f for every n-th request of a method.
func each(n int64, method string, good http.Handler, f http.HandlerFunc) http.Handler {
	var count atomic.Int64
	return on(method, good, func(w http.ResponseWriter, r *http.Request) {
		if count.Add(1)%n == 0 {
			f(w, r)
			return
		}
		good.ServeHTTP(w, r)
	})
}

func confuse(s *service, good http.Handler) http.Handler {
	return each(100, http.MethodGet, good, func(w http.ResponseWriter, r *http.Request) {
		u, err := s.db.user(r.Context(), idIn(r)%2+1)
		if err == nil && u.ID == idIn(r) {
			u, err = s.db.user(r.Context(), u.ID%2+1)
		}
		if err != nil {
			fail(w, err)
			return
		}
		tell(w, u, fromL1)
	})
}

func die(_ *service, good http.Handler) http.Handler {
	return each(100, http.MethodGet, good, func(http.ResponseWriter, *http.Request) { os.Exit(3) })
}

// excuse changes what GET /stats answers.
func excuse(_ *service, good http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats" {
			good.ServeHTTP(w, r)
			return
		}
		honest := httptest.NewRecorder()
		good.ServeHTTP(honest, r)
		var stats serviceStats
		if err := json.Unmarshal(honest.Body.Bytes(), &stats); err != nil {
			fail(w, err)
			return
		}
		stats.Node.MaxStaleness = time.Hour
		reply(w, stats)
	})
}
