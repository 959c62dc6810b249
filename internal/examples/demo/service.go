package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// The headers that tell the load generator what a user of the service has no
// need to know.
const (
	headerVersion = "X-Version"    // of the row
	headerSource  = "X-Source"     // one of the sources below
	headerCache   = "X-Cache-Nano" // the time that the read took in the service
	headerQuery   = "X-Query-Nano" // and the database's part in it, if it loaded
)

// A source says what answered a read.
type source string

const (
	fromL1     source = "L1"     // the memory of the process
	fromL2     source = "L2"     // Redis
	fromStale  source = "stale"  // the memory of the process, while Redis did not answer
	fromLoad   source = "load"   // the database, by this read
	fromShared source = "shared" // the database, by another read that this one waited for
)

// sources lists them in the order of the table.
func sources() []source { return []source{fromL1, fromL2, fromStale, fromLoad, fromShared} }

// How the services cache users.
const (
	userTTL = tier.TTLShort
	// localTTL bounds what a process serves from memory while it can ask nobody.
	// It is longer than Δ, so that no value ends in time by itself.
	localTTL = 5 * time.Second
	// localBytes is less than all users take, so that L2 has work to do.
	localBytes = 16 << 20
	// redisTimeout is the longest that Redis may hold up a read (FailOpen).
	redisTimeout = 200 * time.Millisecond
)

// service answers HTTP requests for users, from the cache over the database.
type service struct {
	db    *database
	node  *tier.Node
	users *tier.Cache[user]

	maxBody int64
	queries atomic.Int64
	updates atomic.Int64
}

func newService(node *tier.Node, db *database) (*service, error) {
	users, err := tier.New(node, ghl.User().Name(), tier.Options[user]{
		TTL:   userTTL,
		Local: tier.Local{MaxBytes: localBytes, TTL: localTTL},
	})
	if err != nil {
		return nil, err
	}
	return &service{db: db, node: node, users: users, maxBody: 64 << 10}, nil
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{id}", s.getUser)
	mux.HandleFunc("PUT /users/{id}", s.putUser)
	mux.HandleFunc("GET /stats", s.getStats)
	mux.HandleFunc("GET /healthz", s.getHealth)
	return mux
}

// answer is a user and how it was found.
type answer struct {
	user   user
	source source
	took   time.Duration
	query  time.Duration // of the database, if source is fromLoad
}

// read returns the user of id.
//
// GetOrSet alone is what a service needs. This one asks Lookup first, because
// it says which tier answered; a miss costs one round trip to Redis more for
// it. What Lookup cannot verify, since Redis does not answer, GetOrSet decides
// about.
func (s *service) read(ctx context.Context, id int64) (answer, error) {
	key := userKey(id)
	begun := time.Now()
	item, err := s.users.Lookup(ctx, key)
	if err == nil && !item.Stale {
		a := answer{user: item.Value, source: fromL1, took: time.Since(begun)}
		if item.Tier == tier.TierL2 {
			a.source = fromL2
		}
		return a, nil
	}
	// Atomic, because a load goes on when its caller has left.
	var query atomic.Int64
	u, err := s.users.GetOrSet(ctx, key, 0, func(ctx context.Context) (user, error) {
		s.queries.Add(1)
		asked := time.Now()
		u, err := s.db.user(ctx, id)
		query.Store(int64(time.Since(asked)))
		return u, err
	})
	a := answer{user: u, source: fromShared, took: time.Since(begun), query: time.Duration(query.Load())}
	switch {
	case a.query > 0:
		a.source = fromLoad
	case item.Stale:
		a.source = fromStale
	}
	return a, err
}

func (s *service) getUser(w http.ResponseWriter, r *http.Request) {
	id, ok := userID(w, r)
	if !ok {
		return
	}
	a, err := s.read(r.Context(), id)
	if err != nil {
		fail(w, err)
		return
	}
	h := w.Header()
	h.Set(headerVersion, strconv.FormatInt(a.user.Version, 10))
	h.Set(headerSource, string(a.source))
	h.Set(headerCache, strconv.FormatInt(int64(a.took), 10))
	h.Set(headerQuery, strconv.FormatInt(int64(a.query), 10))
	reply(w, a.user)
}

func (s *service) putUser(w http.ResponseWriter, r *http.Request) {
	id, ok := userID(w, r)
	if !ok {
		return
	}
	var ch change
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, s.maxBody)).Decode(&ch); err != nil {
		http.Error(w, "body: "+err.Error(), http.StatusBadRequest)
		return
	}
	// Once the row is written the cache must hear of it, so a client that goes
	// away does not end what it began.
	u, err := s.update(context.WithoutCancel(r.Context()), id, ch)
	if err != nil {
		fail(w, err)
		return
	}
	s.updates.Add(1)
	w.Header().Set(headerVersion, strconv.FormatInt(u.Version, 10))
	w.WriteHeader(http.StatusNoContent)
}

// bracketed reports which way the updates of a user go: a service would decide
// for one, the demo shows both.
func bracketed(id int64) bool { return id%2 == 1 }

// update changes a user in the database and in the cache.
//
// One way is to write the database and then delete what is cached, so that the
// next read loads. A process that dies between the two leaves the old value for
// its TTL. The other way is Update, which leaves nothing old then, and stores
// the new row. To Set the new row after the commit would be wrong: two updates
// may reach Redis in another order than the database.
func (s *service) update(ctx context.Context, id int64, ch change) (user, error) {
	if bracketed(id) {
		return s.users.Update(ctx, userKey(id), 0, func(ctx context.Context) (user, error) {
			return s.db.update(ctx, id, ch)
		})
	}
	u, err := s.db.update(ctx, id, ch)
	if err == nil {
		err = s.users.Delete(ctx, userKey(id))
	}
	return u, err
}

// serviceStats is what GET /stats answers.
type serviceStats struct {
	Cache   tier.Stats
	Node    tier.NodeStats
	Queries int64 // of the database, for reads
	Updates int64
}

func (s *service) getStats(w http.ResponseWriter, _ *http.Request) {
	reply(w, serviceStats{
		Cache: s.users.Stats(), Node: s.node.Stats(),
		Queries: s.queries.Load(), Updates: s.updates.Load(),
	})
}

// getHealth answers 200 whatever the state of Redis: the service serves
// without it. The body says how the node is.
func (s *service) getHealth(w http.ResponseWriter, r *http.Request) {
	reply(w, s.node.Health(r.Context()))
}

// userKey is the key of a user in the cache, and in Redis behind "ghl:user:".
func userKey(id int64) string { return ghl.User().ID(strconv.FormatInt(id, 10)) }

// userID reads the id from the path, or answers 400.
func userID(w http.ResponseWriter, r *http.Request) (int64, bool) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		http.Error(w, fmt.Sprintf("id: %.40q is not a positive number", r.PathValue("id")), http.StatusBadRequest)
		return 0, false
	}
	return id, true
}

func reply(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client is gone; nobody is left to tell
}

func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, tier.ErrNotFound) {
		status = http.StatusNotFound
	}
	http.Error(w, err.Error(), status)
}
