package tier_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

func TestOrderedUpdate_storesWhatCommitReturned(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		db := newDatabase()
		db.write("1")
		loaded(t, a, db, "1")
		loaded(t, b, db, "1")
		v, err := a.Update(t.Context(), "1", 0, func(ctx context.Context) (row, error) {
			// While the bracket is open nothing is stored, before the write and after.
			for range 2 {
				for _, c := range []*tier.Cache[row]{a, b} {
					await(t, "the old value to go", 5*time.Second, func() bool {
						_, ok := c.Get(ctx, "1")
						return !ok
					})
				}
				for range 3 {
					mustLoad(t, a, db, "1")
				}
				db.write("1")
			}
			return row{Key: "1", Version: db.version("1")}, nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 3, v.Version)
		item, err := a.Lookup(t.Context(), "1")
		require.NoError(t, err)
		assert.Equal(t, v, item.Value)
		assert.InDelta(t, tier.TTLMedium, item.TTL, float64(tier.TTLMedium)/10)
		await(t, "the new value on the other node", 5*time.Second, func() bool {
			v, err := b.GetOrSet(t.Context(), "1", 0, db.loader("1"))
			require.NoError(t, err)
			return v.Version == 3
		})
	})
}

// Readers on the other node store nothing either while a bracket is open. Nodes
// without Redis have stores of their own: there the end of the bracket empties them.
func TestOrderedUpdate_readersOfAnotherNodeStoreNothing(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, cfg tier.Config) {
		a, b := cache(t, open(t, cfg), tier.Options[row]{}), cache(t, open(t, cfg), tier.Options[row]{})
		db := newDatabase()
		db.write("1")
		_, err := a.Update(t.Context(), "1", 0, func(context.Context) (row, error) {
			for range 3 {
				mustLoad(t, b, db, "1")
			}
			return db.write("1"), nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 2, mustGet(t, b, "1"))
		assert.Equal(t, 3, db.loadsOf("1"))
	})
}

// OrderedUpdate: whoever touches the key while a bracket is open leaves it empty.
func TestOrderedUpdate_disturbedStoresNothing(t *testing.T) {
	t.Parallel()
	other := row{Key: "k:1", Version: -1}
	disturb := map[string]func(ctx context.Context, c *tier.Cache[row]) error{
		"Set":             func(ctx context.Context, c *tier.Cache[row]) error { return c.Set(ctx, "k:1", other, 0) },
		"SetVersioned":    func(ctx context.Context, c *tier.Cache[row]) error { return c.SetVersioned(ctx, "k:1", other, 7, 0) },
		"Delete":          func(ctx context.Context, c *tier.Cache[row]) error { return c.Delete(ctx, "k:1") },
		"DeleteVersioned": func(ctx context.Context, c *tier.Cache[row]) error { return c.DeleteVersioned(ctx, "k:1", 7) },
		"Expire":          func(ctx context.Context, c *tier.Cache[row]) error { return c.Expire(ctx, "k:1") },
		"Clear":           func(ctx context.Context, c *tier.Cache[row]) error { return c.Clear(ctx) },
		"DeletePrefix": func(ctx context.Context, c *tier.Cache[row]) error {
			_, err := c.DeletePrefix(ctx, "k")
			return err
		},
		"Update": func(ctx context.Context, c *tier.Cache[row]) error {
			_, err := c.Update(ctx, "k:1", 0, func(context.Context) (row, error) { return other, nil })
			return err
		},
	}
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		for name, change := range disturb {
			for where, c := range map[string]*tier.Cache[row]{"own": a, "other": b} {
				t.Run(name+" on the "+where+" node", func(t *testing.T) {
					db := newDatabase()
					db.write("k:1")
					v, err := a.Update(t.Context(), "k:1", 0, func(ctx context.Context) (row, error) {
						v := db.write("k:1")
						return v, change(ctx, c)
					})
					require.NoError(t, err)
					require.EqualValues(t, 2, v.Version)
					for _, c := range []*tier.Cache[row]{a, b} {
						await(t, "the key to be empty", 5*time.Second, func() bool {
							_, ok := c.Get(t.Context(), "k:1")
							return !ok
						})
						mustLoad(t, c, db, "k:1")
						require.NoError(t, c.Delete(t.Context(), "k:1"))
					}
				})
			}
		}
	})
}

// OrderedUpdate: two Updates, in every order of their beginnings, commits and
// ends, leave the cache equal to the database or empty.
func TestOrderedUpdate_twoInEveryOrder(t *testing.T) {
	t.Parallel()
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		for i, order := range interleavings("aaa", "bbb") {
			key := fmt.Sprint("key", i)
			db := newDatabase()
			twoUpdates(t, a, b, db, key, order)
			if order == "aaabbb" {
				require.EqualValues(t, 2, mustGet(t, b, key), "one after the other, and the second did not store")
			}
			for _, c := range []*tier.Cache[row]{a, b} {
				await(t, "the cache to agree with the database", 5*time.Second, func() bool {
					v, ok := c.Get(t.Context(), key)
					return !ok || v.Version == 2
				})
				v, err := c.GetOrSet(t.Context(), key, 0, db.loader(key))
				require.NoError(t, err)
				require.EqualValues(t, 2, v.Version, order)
			}
		}
	})
}

// interleavings returns all merges of x and y.
func interleavings(x, y string) []string {
	if x == "" || y == "" {
		return []string{x + y}
	}
	var all []string
	for _, s := range interleavings(x[1:], y) {
		all = append(all, x[:1]+s)
	}
	for _, s := range interleavings(x, y[1:]) {
		all = append(all, y[:1]+s)
	}
	return all
}

// twoUpdates runs two Updates of key step by step: each letter of order lets the
// cache of that name begin, then commit, then end.
func twoUpdates(t *testing.T, a, b *tier.Cache[row], db *database, key, order string) {
	type updater struct {
		steps chan struct{} // lets it go on
		there chan struct{} // it has made a step
	}
	updaters := make(map[rune]updater)
	for name, c := range map[rune]*tier.Cache[row]{'a': a, 'b': b} {
		u := updater{make(chan struct{}), make(chan struct{})}
		updaters[name] = u
		go func() {
			<-u.steps
			v, err := c.Update(context.Background(), key, 0, func(context.Context) (row, error) {
				u.there <- struct{}{}
				<-u.steps
				v := db.write(key)
				u.there <- struct{}{}
				<-u.steps
				return v, nil
			})
			assert.NoError(t, err)
			assert.NotZero(t, v.Version)
			u.there <- struct{}{}
		}()
	}
	for _, name := range order {
		updaters[name].steps <- struct{}{}
		<-updaters[name].there
	}
}

// OrderedUpdate: what commit left in the database is not known, so the key goes.
func TestOrderedUpdate_failedCommitDeletes(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	eachPair(t, func(t *testing.T, a, b *tier.Cache[row]) {
		for name, fail := range map[string]struct {
			commit func(cancel context.CancelFunc) (row, error)
			check  func(t *testing.T, err error, panicked any, returned bool)
		}{
			"error": {
				func(context.CancelFunc) (row, error) { return row{}, boom },
				func(t *testing.T, err error, _ any, _ bool) { assert.Equal(t, boom, err, "as it is") },
			},
			"panic": {
				func(context.CancelFunc) (row, error) { panic(boom) },
				func(t *testing.T, _ error, panicked any, _ bool) { assert.Equal(t, boom, panicked) },
			},
			"Goexit": {
				func(context.CancelFunc) (row, error) { runtime.Goexit(); return row{}, nil },
				func(t *testing.T, _ error, panicked any, returned bool) {
					assert.Nil(t, panicked)
					assert.False(t, returned, "Goexit ends the caller, too")
				},
			},
			"canceled": {
				func(cancel context.CancelFunc) (row, error) { cancel(); return row{}, context.Canceled },
				func(t *testing.T, err error, _ any, _ bool) { assert.ErrorIs(t, err, context.Canceled) },
			},
		} {
			t.Run(name, func(t *testing.T) {
				db := newDatabase()
				db.write("1")
				loaded(t, a, db, "1")
				loaded(t, b, db, "1")
				ctx, cancel := context.WithCancel(t.Context())
				var err error
				var panicked any
				returned := false
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { panicked = recover() }()
					_, err = a.Update(ctx, "1", 0, func(context.Context) (row, error) {
						db.write("1")
						return fail.commit(cancel)
					})
					returned = true
				}()
				<-done
				cancel()
				fail.check(t, err, panicked, returned)
				mustLoad(t, a, db, "1")
				await(t, "the other node to obey", 5*time.Second, func() bool {
					v, err := b.GetOrSet(t.Context(), "1", 0, db.loader("1"))
					require.NoError(t, err)
					return v.Version == 2
				})
				mustGet(t, a, "1") // and fills are allowed again
				require.NoError(t, a.Delete(t.Context(), "1"))
			})
		}
	})
}

// A commit that succeeded counts, also when its caller has gone.
func TestUpdate_succeedsAlthoughItsCallerHasGone(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		db := newDatabase()
		ctx, cancel := context.WithCancel(t.Context())
		v, err := c.Update(ctx, "1", 0, func(context.Context) (row, error) {
			cancel()
			return db.write("1"), nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 1, v.Version)
		assert.EqualValues(t, 1, mustGet(t, c, "1"))

		_, err = c.Update(ctx, "1", 0, func(context.Context) (row, error) {
			assert.Fail(t, "commit ran for a caller that had gone before")
			return row{}, nil
		})
		require.ErrorIs(t, err, context.Canceled)
		assert.EqualValues(t, 1, mustGet(t, c, "1"), "nothing was done")
	})
}

func TestUpdate_remembersThatThereIsNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := cache(t, n, tier.Options[row]{})
		db := newDatabase()
		db.write("1")
		loaded(t, c, db, "1")
		gone := fmt.Errorf("row 1: %w", tier.ErrNotFound)
		v, err := c.Update(t.Context(), "1", 0, func(context.Context) (row, error) { return row{Version: 9}, gone })
		require.Equal(t, gone, err)
		assert.Zero(t, v)
		before := db.loadsOf("1")
		_, err = c.GetOrSet(t.Context(), "1", 0, db.loader("1"))
		require.ErrorIs(t, err, tier.ErrNotFound)
		assert.Equal(t, before, db.loadsOf("1"), "the absence was not remembered")

		off, err := tier.New(n, "off", tier.Options[row]{NegativeTTL: -1})
		require.NoError(t, err)
		_, err = off.Update(t.Context(), "1", 0, func(context.Context) (row, error) { return row{}, gone })
		require.ErrorIs(t, err, tier.ErrNotFound)
		mustLoad(t, off, db, "1")
	})
}

// Where nothing can or may be stored, the key is deleted, and the value is
// returned: the database has changed.
func TestUpdate_deletesWhatItDoesNotStore(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		db := newDatabase()
		db.write("1")
		small, err := tier.New(n, "small", tier.Options[row]{MaxValueBytes: 100})
		require.NoError(t, err)
		faulty, err := tier.New(n, "faulty", tier.Options[row]{Codec: faultyCodec{}})
		require.NoError(t, err)
		for name, tc := range map[string]struct {
			c    *tier.Cache[row]
			ttl  time.Duration
			v    row
			want error
		}{
			"negative ttl": {cache(t, n, tier.Options[row]{}), -5, row{Key: "1", Version: 2}, nil},
			"too large":    {small, 0, row{Key: "1", Version: 2, Pad: strings.Repeat("x", 200)}, tier.ErrTooLarge},
			"codec":        {faulty, 0, row{Key: "1", Version: 2, Pad: "bad"}, errFaulty},
		} {
			t.Run(name, func(t *testing.T) {
				require.NoError(t, tc.c.Set(t.Context(), "1", row{Key: "1", Version: 1}, 0))
				mustGet(t, tc.c, "1")
				v, err := tc.c.Update(t.Context(), "1", tc.ttl, func(context.Context) (row, error) { return tc.v, nil })
				require.ErrorIs(t, err, tc.want)
				assert.Equal(t, tc.v, v)
				mustMiss(t, tc.c, "1")
			})
		}
		c := cache(t, n, tier.Options[row]{})
		_, err = c.Update(t.Context(), "2", tier.NoExpiry, db.commit("2"))
		require.NoError(t, err)
		ttl, ok := c.TTL(t.Context(), "2")
		require.True(t, ok)
		assert.Equal(t, tier.NoExpiry, ttl)
	})
}

var errFaulty = errors.New("faulty")

// faultyCodec encodes rows unless Pad is "bad" (an error) or "panic".
type faultyCodec struct{}

func (faultyCodec) Name() string { return "faulty" }

func (faultyCodec) Append(dst []byte, v row) ([]byte, error) {
	switch v.Pad {
	case "bad":
		return nil, errFaulty
	case "panic":
		panic(errFaulty)
	}
	return fmt.Appendf(dst, "%s %d", v.Key, v.Version), nil
}

func (faultyCodec) Decode(src []byte, v *row) error {
	_, err := fmt.Sscanf(string(src), "%s %d", &v.Key, &v.Version)
	return err
}

// A codec that panics is no commit that failed, but leaves no bracket open.
func TestUpdate_endsTheBracketWhenTheCodecPanics(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c, err := tier.New(open(t, cfg), "faulty", tier.Options[row]{Codec: faultyCodec{}})
		require.NoError(t, err)
		require.Panics(t, func() {
			_, _ = c.Update(t.Context(), "1", 0, func(context.Context) (row, error) { return row{Pad: "panic"}, nil })
		})
		db := newDatabase()
		mustLoad(t, c, db, "1")
		mustGet(t, c, "1")
	})
}

func TestUpdate_nested(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		db := newDatabase()
		v, err := c.Update(t.Context(), "1", 0, func(ctx context.Context) (row, error) {
			inner, err := c.Update(ctx, "1", 0, db.commit("1"))
			require.NoError(t, err)
			require.EqualValues(t, 1, inner.Version)
			_, err = c.Update(ctx, "other", 0, db.commit("other"))
			require.NoError(t, err)
			return db.write("1"), nil
		})
		require.NoError(t, err)
		assert.EqualValues(t, 2, v.Version)
		mustLoad(t, c, db, "1")
		assert.EqualValues(t, 1, mustGet(t, c, "other"))
	})
}

// Update joins no load, and a load that began before it ended is joined by
// nobody who comes after.
func TestUpdate_joinsNoLoad(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		db := newDatabase()
		db.write("1")
		release := make(chan struct{})
		var loads sync.WaitGroup
		load := func() {
			read := make(chan struct{})
			loads.Go(func() {
				_, err := c.GetOrSet(context.Background(), "1", 0, func(context.Context) (row, error) {
					v := db.read("1")
					close(read)
					<-release
					return v, nil
				})
				assert.NoError(t, err)
			})
			<-read
		}
		load()
		_, err := c.Update(t.Context(), "1", -5, func(context.Context) (row, error) {
			load()
			return db.write("1"), nil
		})
		require.NoError(t, err)
		mustLoad(t, c, db, "1")
		close(release)
		loads.Wait()
		assert.EqualValues(t, 2, mustGet(t, c, "1"), "a load from before left its value")
	})
}

// With Options.Hold, a bracket that stores nothing holds the key like a Delete.
func TestUpdate_holds(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c, err := tier.New(open(t, cfg), "held", tier.Options[row]{Hold: time.Minute})
		require.NoError(t, err)
		db := newDatabase()
		_, err = c.Update(t.Context(), "1", 0, db.commit("1"))
		require.NoError(t, err)
		assert.EqualValues(t, 1, mustGet(t, c, "1"), "what was stored needs no hold")
		_, err = c.Update(t.Context(), "1", -5, db.commit("1"))
		require.NoError(t, err)
		for range 2 {
			mustLoad(t, c, db, "1")
		}
	})
}

func TestUpdate_badInput(t *testing.T) {
	c := cache(t, open(t, tier.Config{}), tier.Options[row]{})
	ran := func(context.Context) (row, error) {
		assert.Fail(t, "commit ran")
		return row{}, nil
	}
	_, err := c.Update(t.Context(), "", 0, ran)
	require.ErrorIs(t, err, tier.ErrKey)
	_, err = c.Update(t.Context(), "1", time.Microsecond, ran)
	require.ErrorContains(t, err, "ttl")
	_, err = c.Update(t.Context(), "1", 0, nil)
	require.ErrorContains(t, err, "commit is nil")
}

// The bracket lasts as long as commit, and its context as long as LoadTimeout.
func TestUpdate_longCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := tier.Open(t.Context(), tier.Config{})
		require.NoError(t, err)
		defer n.Close()
		c, err := tier.New(n, "row", tier.Options[row]{LoadTimeout: time.Minute})
		require.NoError(t, err)
		db := newDatabase()
		begun := time.Now()
		v, err := c.Update(t.Context(), "1", 0, func(ctx context.Context) (row, error) {
			for range 30 {
				<-time.After(time.Second)
				mustLoad(t, c, db, "1")
			}
			<-ctx.Done()
			assert.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			assert.Equal(t, time.Minute, time.Since(begun))
			// It does not obey at once: readers must not store what it replaces.
			<-time.After(20 * time.Second)
			mustLoad(t, c, db, "1")
			return db.write("1"), nil
		})
		require.NoError(t, err)
		assert.Equal(t, v.Version, mustGet(t, c, "1"), "commit succeeded, and nobody came between")
	})
}

// Close ends commits and waits for their brackets; later calls are refused.
func TestUpdate_close(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := invalidation.NewLocal()
		n, err := tier.Open(t.Context(), tier.Config{Bus: bus})
		require.NoError(t, err)
		other, err := tier.Open(t.Context(), tier.Config{Bus: bus})
		require.NoError(t, err)
		defer other.Close()
		c, far := cache(t, n, tier.Options[row]{}), cache(t, other, tier.Options[row]{})
		db := newDatabase()
		db.write("1")
		open := make(chan struct{})
		done := make(chan error)
		go func() {
			_, err := c.Update(context.Background(), "1", 0, func(ctx context.Context) (row, error) {
				close(open)
				<-ctx.Done()
				db.write("1")
				return row{}, ctx.Err()
			})
			done <- err
		}()
		<-open
		loaded(t, far, db, "1")
		require.NoError(t, n.Close())
		require.ErrorIs(t, <-done, tier.ErrClosed)
		mustLoad(t, far, db, "1")
		_, err = c.Update(t.Context(), "1", 0, db.commit("1"))
		require.ErrorIs(t, err, tier.ErrClosed)
		assert.EqualValues(t, 2, db.version("1"), "commit ran on a closed node")
	})
}

// A commit that ignores its context does not keep Close: its end is refused.
func TestUpdate_closeDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, err := tier.Open(t.Context(), tier.Config{})
		require.NoError(t, err)
		c := cache(t, n, tier.Options[row]{})
		db := newDatabase()
		open := make(chan struct{})
		done := make(chan error)
		go func() {
			v, err := c.Update(context.Background(), "1", 0, func(context.Context) (row, error) {
				close(open)
				<-time.After(time.Hour)
				return db.write("1"), nil
			})
			assert.EqualValues(t, 1, v.Version, "the database has changed")
			done <- err
		}()
		<-open
		begun := time.Now()
		require.NoError(t, n.Close())
		assert.LessOrEqual(t, time.Since(begun), 2*time.Second)
		require.ErrorIs(t, <-done, tier.ErrClosed)
	})
}
