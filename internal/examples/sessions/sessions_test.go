package sessions_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/examples/sessions"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/keys/ghl"
	"github.com/tandemcache/tandem/tier"
)

func open(t *testing.T, cfg tier.Config) *sessions.Sessions {
	t.Helper()
	cfg.Strict = true
	node, err := tier.Open(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, node.Close()) })
	s, err := sessions.Open(node)
	require.NoError(t, err)
	return s
}

func TestSessions_endAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, tier.Config{})
		token, err := s.Start(t.Context(), "123", "admin")
		require.NoError(t, err)
		time.Sleep(22 * time.Hour) // a day less its jitter
		found, err := s.Find(t.Context(), token)
		require.NoError(t, err)
		assert.Equal(t, []string{"admin"}, found.Roles)
		time.Sleep(2 * time.Hour)
		_, err = s.Find(t.Context(), token)
		require.ErrorIs(t, err, sessions.ErrNone)
	})
}

func TestSessions_endInEveryProcess(t *testing.T) {
	srv := redistest.Start(t)
	cfg := tier.Config{URL: srv.URL(), Prefix: ghl.Namespace}
	a, b := open(t, cfg), open(t, cfg)
	phone, err := a.Start(t.Context(), "123")
	require.NoError(t, err)
	desk, err := b.Start(t.Context(), "123")
	require.NoError(t, err)
	other, err := a.Start(t.Context(), "1234")
	require.NoError(t, err)
	for _, token := range []string{phone, desk, other} {
		_, err := b.Find(t.Context(), token)
		require.NoError(t, err)
	}
	found := srv.Client(t).Keys(t.Context(), "ghl:session:123:*").Val()
	require.Len(t, found, 2)
	secret, _, _ := strings.Cut(phone, ".")
	assert.NotContains(t, strings.Join(found, " "), secret)

	require.NoError(t, a.End(t.Context(), phone))
	ended := func(token string) func() bool {
		return func() bool { _, err := b.Find(t.Context(), token); return err != nil }
	}
	require.Eventually(t, ended(phone), 5*time.Second, time.Millisecond)
	n, err := a.EndAll(t.Context(), "123")
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	require.Eventually(t, ended(desk), 5*time.Second, time.Millisecond)
	_, err = b.Find(t.Context(), other)
	require.NoError(t, err, "1234 is another user than 123")
}

func TestSessions_anOutageSignsNobodyOut(t *testing.T) {
	srv := redistest.Start(t)
	a, b := open(t, tier.Config{URL: srv.URL()}), open(t, tier.Config{URL: srv.URL()})
	token, err := a.Start(t.Context(), "123")
	require.NoError(t, err)
	srv.Stop()
	_, err = a.Find(t.Context(), token)
	require.NoError(t, err, "this process knows the session")
	_, err = b.Find(t.Context(), token)
	require.ErrorIs(t, err, tier.ErrUnavailable)
	require.NotErrorIs(t, err, sessions.ErrNone)
	require.ErrorIs(t, a.End(t.Context(), token), tier.ErrUnavailable, "not ended everywhere")
	_, err = a.Find(t.Context(), token)
	require.Error(t, err, "but here")
	_, err = a.Start(t.Context(), "123")
	require.ErrorIs(t, err, tier.ErrUnavailable)
}

func TestSessions_strangeTokensFindNothing(t *testing.T) {
	s := open(t, tier.Config{})
	token, err := s.Start(t.Context(), "1:2")
	require.NoError(t, err)
	_, err = s.Find(t.Context(), token)
	require.NoError(t, err)
	for _, strange := range []string{"", "x", ".", token + "3", "x" + token, "*.1", "guess.1:2", "guess.%1"} {
		_, err := s.Find(t.Context(), strange)
		require.ErrorIs(t, err, sessions.ErrNone, "%q", strange)
	}
	require.ErrorIs(t, s.End(t.Context(), "x"), sessions.ErrNone)
	n, err := s.EndAll(t.Context(), "1")
	require.NoError(t, err)
	assert.Zero(t, n, "1:2 is another user than 1")
}

// Session storage: sign in, be found, sign out everywhere.
func Example() {
	ctx := context.Background()
	node, err := tier.Open(ctx, tier.Config{Prefix: ghl.Namespace, Strict: true}) // URL: "redis://localhost:6379"
	if err != nil {
		panic(err)
	}
	defer node.Close()
	store, err := sessions.Open(node)
	if err != nil {
		panic(err)
	}
	token, err := store.Start(ctx, "123", "admin")
	if err != nil {
		panic(err)
	}
	session, err := store.Find(ctx, token)
	fmt.Println(session.User, session.Roles, err)
	fmt.Println(store.EndAll(ctx, "123"))
	_, err = store.Find(ctx, token)
	fmt.Println(err)
	// Output:
	// 123 [admin] <nil>
	// 1 <nil>
	// sessions: none
}
