package tier_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// crash cuts the first node off and ends it, so that nobody hears of its end.
func (p *pair) crash(t *testing.T) {
	p.pa.Refuse()
	p.pa.Cut(redistest.All)
	assert.NoError(t, p.na.Close())
}

// PROTOCOL C11, section 3.2: whatever others write beside an Update, a process
// that dies between its commit and its end leaves the key empty.
func TestOrderedUpdate_crashBesideOthers(t *testing.T) {
	const k = "k"
	for name, beside := range map[string]func(p *pair, v row) error{
		"Update": func(p *pair, v row) error {
			_, err := p.b.Update(context.Background(), k, 0, func(context.Context) (row, error) { return v, nil })
			return err
		},
		"Set": func(p *pair, v row) error { return p.b.Set(context.Background(), k, v, 0) },
		"Delete": func(p *pair, v row) error {
			if err := p.b.Delete(context.Background(), k); err != nil {
				return err
			}
			_, err := p.b.GetOrSet(context.Background(), k, 0, func(context.Context) (row, error) { return v, nil })
			return err
		},
		"read": func(p *pair, v row) error {
			_, err := p.b.GetOrSet(context.Background(), k, 0, func(context.Context) (row, error) { return v, nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // a node that is cut off takes seconds to close
			p := newPair(t, tier.Config{Timeout: time.Second})
			db := newDatabase()
			_, err := p.a.Update(t.Context(), k, 0, func(context.Context) (row, error) {
				assert.NoError(t, beside(p, db.write(k)))
				v := db.write(k)
				p.crash(t)
				return v, nil
			})
			require.Error(t, err, "its node is closed")
			never(t, "what is older than the commit is served", serves(t, p.b, k, 1))
			mustMiss(t, cache(t, open(t, tier.Config{URL: p.srv.URL()}), tier.Options[row]{}), k)
		})
	}
}

// PROTOCOL C11: the other nodes drop what they have when a bracket begins, not
// when it ends: its process may die in between.
func TestOrderedUpdate_isHeardWhenItBegins(t *testing.T) {
	t.Parallel()
	p := newPair(t, tier.Config{})
	require.NoError(t, p.a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	inL1(t, p.b, "k", 1)
	_, err := p.a.Update(t.Context(), "k", 0, func(context.Context) (row, error) {
		gaps := p.nb.Stats().Bus.Gaps
		await(t, "the other node to drop the value", 10*time.Second, func() bool { return !serves(t, p.b, "k", 1)() })
		assert.Equal(t, gaps, p.nb.Stats().Bus.Gaps, "it was a gap that told it")
		return row{Key: "k", Version: 2}, nil
	})
	require.NoError(t, err)
}

// PROTOCOL T82: a value that was deleted while a load ran does not stand in for
// its result, although nobody can be asked any more.
func TestStaleFor_deletedDuringTheLoadAndThenAlone(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	na, nb := open(t, tier.Config{URL: srv.URL()}), open(t, tier.Config{URL: srv.URL()})
	opts := tier.Options[row]{TTL: 50 * time.Millisecond, StaleFor: time.Minute}
	a, b := cache(t, na, opts), cache(t, nb, opts)
	require.NoError(t, a.Set(t.Context(), "k", row{Key: "k", Version: 1}, 0))
	failed := errors.New("the database is down")
	load := func(context.Context) (row, error) { return row{}, failed }
	await(t, "the value to be a fallback", 5*time.Second, func() bool {
		_, ok := b.Get(t.Context(), "k")
		v, err := b.GetOrSet(t.Context(), "k", 0, load)
		return !ok && err == nil && v.Version == 1
	})
	<-time.After(1200 * time.Millisecond) // the loader rests after a failure
	received := nb.Stats().Bus.Received
	_, err := b.GetOrSet(t.Context(), "k", 0, func(context.Context) (row, error) {
		assert.NoError(t, a.Delete(context.Background(), "k"))
		await(t, "the message", 5*time.Second, func() bool { return nb.Stats().Bus.Received > received })
		srv.Freeze()
		return row{}, failed
	})
	srv.Thaw()
	require.ErrorIs(t, err, failed)
}
