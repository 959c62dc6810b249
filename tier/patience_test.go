package tier_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// OneLoad: a lease that stays longer than one is ready to wait is no error. What
// was waited is not taken from the loader's time, and the load is not stored.
func TestOneLoad_leaseOutlastsThePatience(t *testing.T) {
	t.Parallel()
	eachRead(t, func(t *testing.T, read reader) {
		const limit = time.Second // half a lease
		srv := redistest.Start(t)
		a := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{})
		b := cache(t, open(t, tier.Config{URL: srv.URL()}), tier.Options[row]{LoadTimeout: limit})
		loading, release := make(chan struct{}), make(chan struct{})
		defer close(release)
		go func() {
			_, _ = read(a, func(context.Context) (row, error) {
				close(loading)
				<-release
				return row{}, nil
			})
		}()
		<-loading
		left := time.Duration(0)
		took := timed(func() {
			v, err := read(b, func(ctx context.Context) (row, error) {
				deadline, _ := ctx.Deadline()
				left = time.Until(deadline)
				return row{Key: "1", Version: 5}, nil
			})
			require.NoError(t, err)
			assert.EqualValues(t, 5, v.Version)
		})
		assert.GreaterOrEqual(t, took, limit, "the other's load was not waited for")
		assert.Greater(t, left, limit/2, "waiting was taken from the loader's time")
		mustMiss(t, b, "1")
	})
}

// OneLoad: a loader that hangs on one node until its limit is no error on another.
func TestOneLoad_loaderHangsElsewhere(t *testing.T) {
	t.Parallel()
	eachRead(t, func(t *testing.T, read reader) {
		srv := redistest.Start(t)
		opts := tier.Options[row]{LoadTimeout: 500 * time.Millisecond}
		a := cache(t, open(t, tier.Config{URL: srv.URL()}), opts)
		b := cache(t, open(t, tier.Config{URL: srv.URL()}), opts)
		for range 2 {
			loading, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				_, err := read(a, func(ctx context.Context) (row, error) {
					close(loading)
					<-ctx.Done()
					return row{}, ctx.Err()
				})
				ended <- err
			}()
			<-loading
			v, err := read(b, func(context.Context) (row, error) { return row{Key: "1", Version: 5}, nil })
			require.NoError(t, err)
			assert.EqualValues(t, 5, v.Version)
			err = <-ended
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "limit of 500ms")
			require.NoError(t, a.Delete(t.Context(), "1"))
		}
	})
}

// FailOpen: a slow Redis adds no more than Timeout to a read: what looks, leases
// and stores shares it. The loads are not stored, and their leases are given back.
func TestFailOpen_slowRedisHasTheTimeoutOnce(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	srv := redistest.Start(t)
	proxy := redistest.NewProxy(t, srv)
	n := open(t, tier.Config{URL: proxy.URL(), Timeout: timeout})
	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	loaded(t, c, db, "warm")
	for name, load := range map[string]func(context.Context) (row, error){
		"value": db.loader("value"),
		"error": func(context.Context) (row, error) { return row{}, errDB },
	} {
		proxy.Delay(redistest.Commands, timeout*9/20) // there and back
		took := timed(func() {
			if _, err := c.GetOrSet(t.Context(), name, 0, load); err != nil {
				require.ErrorIs(t, err, errDB)
			}
		})
		proxy.Delay(redistest.Commands, 0)
		assert.Less(t, took, timeout*3/2)
	}
}

// A lease of which the answer was lost, with its connection, is given back: it was
// given, and everybody would wait for its end.
func TestOneLoad_answerToALeaseIsLost(t *testing.T) {
	t.Parallel()
	eachRead(t, func(t *testing.T, read reader) {
		srv := redistest.Start(t)
		proxy := redistest.NewProxy(t, srv)
		c := cache(t, open(t, tier.Config{URL: proxy.URL(), Prefix: "test"}), tier.Options[row]{})
		db := newDatabase()
		db.write("1")
		_, err := c.GetOrSetMany(t.Context(), []string{"a", "b"}, 0, func(context.Context, []string) (map[string]row, error) {
			return nil, nil //nolint:nilnil // there is nothing
		})
		require.NoError(t, err) // the server knows the script now
		lost := proxy.CutReply(func(cmd redistest.Command) bool {
			return strings.HasPrefix(cmd.Name(), "eval") && slices.Contains(cmd, "test:row:1")
		})
		givenBack := proxy.Hold(func(cmd redistest.Command) bool {
			return over(lost.Seen()) && strings.HasPrefix(cmd.Name(), "eval") && slices.Contains(cmd, "test:row:1")
		})
		got, err := read(c, db.loader("1"))
		require.NoError(t, err)
		assert.EqualValues(t, 1, got.Version)
		givenBack.Wait()
		assert.EqualValues(t, 1, srv.Do("exists", "test:row:1"), "void: the lease was not given")
		givenBack.Release()
		await(t, "the lease to go", 10*time.Second, func() bool { return srv.Do("exists", "test:row:1") == int64(0) })
	})
}
