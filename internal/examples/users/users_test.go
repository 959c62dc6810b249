package users_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/examples/users"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

// table is a database of one table that counts its queries.
type table struct {
	mu      sync.Mutex
	rows    map[string]users.User
	queries int
}

func newTable(rows ...users.User) *table {
	t := &table{rows: make(map[string]users.User)}
	for _, u := range rows {
		t.rows[u.ID] = u
	}
	return t
}

func (t *table) Find(_ context.Context, id string) (users.User, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queries++
	u, ok := t.rows[id]
	if !ok {
		return u, tier.ErrNotFound
	}
	return u, nil
}

func (t *table) Save(_ context.Context, u users.User) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[u.ID] = u
	return nil
}

// newService is the service on a node without Redis: the mock of the cache.
func newService(t *testing.T, db users.Database) *users.Service {
	t.Helper()
	node, err := tier.Open(t.Context(), tier.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	s, err := users.New(node, db)
	require.NoError(t, err)
	return s
}

func TestService_asksTheDatabaseOnce(t *testing.T) {
	db := newTable(users.User{ID: "123", Name: "Ada"})
	s := newService(t, db)
	for range 10 {
		u, err := s.User(t.Context(), "123")
		require.NoError(t, err)
		assert.Equal(t, "Ada", u.Name)
	}
	assert.Equal(t, 1, db.queries)
	for range 10 {
		_, err := s.User(t.Context(), "404")
		require.ErrorIs(t, err, tier.ErrNotFound)
	}
	assert.Equal(t, 2, db.queries, "absence is remembered, too")
}

func TestService_seesItsOwnUpdate(t *testing.T) {
	s := newService(t, newTable(users.User{ID: "123", Name: "Ada"}))
	_, err := s.User(t.Context(), "123")
	require.NoError(t, err)
	require.NoError(t, s.Rename(t.Context(), "123", "Grace"))
	u, err := s.User(t.Context(), "123")
	require.NoError(t, err)
	assert.Equal(t, "Grace", u.Name)
	require.NoError(t, s.SetPlan(t.Context(), "123", "pro"))
	u, err = s.User(t.Context(), "123")
	require.NoError(t, err)
	assert.Equal(t, users.User{ID: "123", Name: "Grace", Plan: "pro"}, u)
	require.ErrorIs(t, s.Rename(t.Context(), "404", "Nobody"), tier.ErrNotFound)
	require.ErrorIs(t, s.SetPlan(t.Context(), "404", "pro"), tier.ErrNotFound)
}

func TestService_cachesWhatAnUpdateLeaves(t *testing.T) {
	db := newTable(users.User{ID: "123", Name: "Ada"})
	s := newService(t, db)
	require.NoError(t, s.SetPlan(t.Context(), "123", "pro"))
	queries := db.queries
	u, err := s.User(t.Context(), "123")
	require.NoError(t, err)
	assert.Equal(t, "pro", u.Plan)
	assert.Equal(t, queries, db.queries)
}

// In a bubble a TTL passes in no time: the mock needs no clock of its own.
func TestService_asksAgainAfterTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := newTable(users.User{ID: "123", Name: "Ada"})
		s := newService(t, db)
		_, err := s.User(t.Context(), "123")
		require.NoError(t, err)
		time.Sleep(tier.TTLMedium)
		_, err = s.User(t.Context(), "123")
		require.NoError(t, err)
		assert.Equal(t, 2, db.queries)
	})
}

// greet is some other part of the application, which is tested with the mock.
func greet(s *users.Service) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch u, err := s.User(r.Context(), r.PathValue("id")); {
		case errors.Is(err, tier.ErrNotFound):
			http.Error(w, "who?", http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			fmt.Fprintf(w, "Hello %s", u.Name)
		}
	}
}

func TestGreet(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("GET /hello/{id}", greet(newService(t, newTable(users.User{ID: "123", Name: "Ada"}))))
	for path, want := range map[string]string{"/hello/123": "Hello Ada", "/hello/404": "who?\n"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		assert.Equal(t, want, w.Body.String())
	}
}

// The same service on a real Redis: the key is the one of the catalog.
func TestService_overRedis(t *testing.T) {
	srv := redistest.Start(t)
	node, err := tier.Open(t.Context(), tier.Config{URL: srv.URL(), Prefix: ghl.Namespace})
	require.NoError(t, err)
	defer func() { require.NoError(t, node.Close()) }()
	s, err := users.New(node, newTable(users.User{ID: "123", Name: "Ada"}))
	require.NoError(t, err)
	_, err = s.User(t.Context(), "123")
	require.NoError(t, err)
	rdb := srv.Client(t)
	assert.EqualValues(t, 1, rdb.Exists(t.Context(), ghl.User().Key("123")).Val())
	require.NoError(t, s.Rename(t.Context(), "123", "Grace"))
	assert.Zero(t, rdb.Exists(t.Context(), "ghl:user:123").Val())
}

// Invalidate after update: two processes, here two nodes that share a bus. An
// update through one is seen by the other.
func Example_invalidateAfterUpdate() {
	ctx := context.Background()
	db := newTable(users.User{ID: "123", Name: "Ada"})
	bus := invalidation.NewLocal() // stands for Redis
	var service [2]*users.Service
	for i := range service {
		node, err := tier.Open(ctx, tier.Config{Bus: bus})
		if err != nil {
			panic(err)
		}
		defer node.Close()
		if service[i], err = users.New(node, db); err != nil {
			panic(err)
		}
	}
	u, err := service[1].User(ctx, "123")
	fmt.Println(u.Name, err)
	fmt.Println(service[0].Rename(ctx, "123", "Grace"))
	u, err = service[1].User(ctx, "123")
	fmt.Println(u.Name, err)
	// Output:
	// Ada <nil>
	// <nil>
	// Grace <nil>
}
