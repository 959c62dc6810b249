package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// tempDatabase is a database of some users that the test ends.
func tempDatabase(t *testing.T, users int) *database {
	t.Helper()
	path, created, err := prepareDatabase(t.Context(), t.TempDir(), users)
	require.NoError(t, err)
	require.True(t, created)
	db, err := openDatabase(path, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// tempService is a service over such a database and a node without Redis.
func tempService(t *testing.T, users int) (*service, http.Handler) {
	t.Helper()
	node, err := tier.Open(t.Context(), tier.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	s, err := newService(node, tempDatabase(t, users))
	require.NoError(t, err)
	return s, s.handler()
}

// ask sends a request and wants a status.
func ask(t *testing.T, h http.Handler, status int, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body)))
	require.Equal(t, status, w.Code, w.Body.String())
	return w
}

func TestService_readsAndUpdates(t *testing.T) {
	for way, path := range map[string]string{"Delete": "/users/8", "Update": "/users/7"} {
		t.Run(way, func(t *testing.T) { readAndUpdate(t, path) })
	}
}

func readAndUpdate(t *testing.T, path string) {
	s, h := tempService(t, 20)
	get := func(from source, version string) user {
		var w *httptest.ResponseRecorder
		require.Eventually(t, func() bool { // what is stored enters L1 a moment later
			w = ask(t, h, http.StatusOK, http.MethodGet, path, "")
			return from != fromL1 || w.Header().Get(headerSource) == string(from)
		}, 10*time.Second, time.Millisecond)
		assert.Equal(t, string(from), w.Header().Get(headerSource))
		assert.Equal(t, version, w.Header().Get(headerVersion))
		assert.NotEqual(t, "0", w.Header().Get(headerCache))
		var u user
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &u))
		return u
	}
	u := get(fromLoad, "1")
	assert.Equal(t, emailOf(u.ID), u.Email)
	assert.Equal(t, u, get(fromL1, "1"))
	w := ask(t, h, http.StatusNoContent, http.MethodPut, path, `{"Plan":"pro","About":"new"}`)
	assert.Equal(t, "2", w.Header().Get(headerVersion))
	after, queries := fromLoad, int64(2)
	if bracketed(u.ID) {
		after, queries = fromL1, 1 // the new row is there already
	}
	u = get(after, "2")
	assert.Equal(t, "new", u.About)

	var stats serviceStats
	require.NoError(t, json.Unmarshal(ask(t, h, http.StatusOK, http.MethodGet, "/stats", "").Body.Bytes(), &stats))
	assert.Equal(t, queries, stats.Queries)
	assert.EqualValues(t, 1, stats.Updates)
	assert.Positive(t, stats.Cache.HitsL1)
	assert.Contains(t, ask(t, h, http.StatusOK, http.MethodGet, "/healthz", "").Body.String(), `"Healthy":true`)
	require.NoError(t, s.node.Close())
	assert.Contains(t, ask(t, h, http.StatusOK, http.MethodGet, "/healthz", "").Body.String(), `"Healthy":false`)
}

func TestService_refusesWhatMakesNoSense(t *testing.T) {
	_, h := tempService(t, 20)
	ask(t, h, http.StatusBadRequest, http.MethodGet, "/users/x", "")
	ask(t, h, http.StatusBadRequest, http.MethodGet, "/users/0", "")
	ask(t, h, http.StatusNotFound, http.MethodGet, "/users/21", "")
	ask(t, h, http.StatusNotFound, http.MethodPut, "/users/21", "{}")
	ask(t, h, http.StatusBadRequest, http.MethodPut, "/users/1", "{")
	ask(t, h, http.StatusBadRequest, http.MethodPut, "/users/1", `{"About":"`+strings.Repeat("x", 70_000)+`"}`)
	ask(t, h, http.StatusMethodNotAllowed, http.MethodDelete, "/users/1", "")
}

// The checker hears of each answer, and failures are counted once.
func TestClient_reports(t *testing.T) {
	_, h := tempService(t, 20)
	server := httptest.NewServer(h)
	defer server.Close()
	collect := new(collector)
	check := newChecker([]int64{0, 1, 1}, limits{})
	c := newClients([]string{strings.TrimPrefix(server.URL, "http://")}, server.Client().Transport, check, collect)[0]
	_, err := c.update(t.Context(), 2, change{About: "new"})
	require.NoError(t, err)
	o, s, err := c.read(t.Context(), 2)
	require.NoError(t, err)
	assert.EqualValues(t, 2, o.version)
	assert.Equal(t, fromLoad, s.source)
	assert.Positive(t, s.query)
	assert.GreaterOrEqual(t, s.http, s.cache)
	_, _, err = c.read(t.Context(), 99)
	require.ErrorContains(t, err, "GET user 99 of process A: 404")
	reads, updates, failures, failed := collect.all()
	assert.Len(t, reads, 1)
	assert.Len(t, updates, 1)
	assert.Len(t, failures, 1)
	assert.Equal(t, 1, failed)
	checked, broken, _ := check.findings()
	assert.Equal(t, 1, checked)
	assert.Zero(t, broken.total())
}

func TestDatabase_isMadeOnce(t *testing.T) {
	dir := t.TempDir()
	unfinished := filepath.Join(dir, "users-50.v1.db.new")
	require.NoError(t, os.WriteFile(unfinished, []byte("left by a run that was killed"), 0o600))
	path, created, err := prepareDatabase(t.Context(), dir, 50)
	require.NoError(t, err)
	assert.True(t, created)
	db, err := openDatabase(path, time.Microsecond)
	require.NoError(t, err)
	defer db.Close()
	versions, err := db.versions(t.Context(), 50)
	require.NoError(t, err)
	require.Len(t, versions, 51)
	for id := 1; id <= 50; id++ {
		assert.EqualValues(t, 1, versions[id])
	}
	u, err := db.update(t.Context(), 50, change{Plan: "pro"})
	require.NoError(t, err)
	assert.EqualValues(t, 2, u.Version)
	assert.Equal(t, emailOf(50), u.Email)

	_, created, err = prepareDatabase(t.Context(), dir, 50)
	require.NoError(t, err)
	assert.False(t, created)
	again, err := db.user(t.Context(), 50)
	require.NoError(t, err)
	assert.Equal(t, u, again)
	_, err = db.user(t.Context(), 51)
	require.ErrorIs(t, err, tier.ErrNotFound)
	_, err = db.versions(t.Context(), 49)
	require.ErrorContains(t, err, "user 50 is none of the 49")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = db.update(gone, 50, change{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestDatabase_rowsHaveRealisticSizes(t *testing.T) {
	db := tempDatabase(t, 500)
	var small, large, sum int
	for id := int64(1); id <= 500; id++ {
		u, err := db.user(t.Context(), id)
		require.NoError(t, err)
		assert.Equal(t, emailOf(id), u.Email)
		size := len(u.About)
		require.Less(t, size, 5_000)
		sum += size
		if size < 700 {
			small++
		}
		if size > 2_000 {
			large++
		}
	}
	assert.Greater(t, small, 100)
	assert.Greater(t, large, 25)
	assert.Greater(t, sum, 500*400)
}
