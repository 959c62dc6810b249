//go:build cgo && linux

package tier_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// The clock of Redis jumps, an hour and a day ahead and back again: what is changed
// right after it is obeyed everywhere as ever, what was loaded across it and a
// change is not stored, and values are cached again.
func TestTime_redisClockJumps(t *testing.T) {
	t.Parallel()
	clock := redistest.NewClock(t)
	srv := redistest.Start(t, redistest.WithClock(clock))
	cfg := tier.Config{URL: srv.URL(), Strict: true, Timeout: 2 * time.Second}
	na, nb := open(t, cfg), open(t, cfg)
	opts := tier.Options[row]{Tags: func(key string, _ row) []string { return []string{"tag:" + key} }}
	a, b := cache(t, na, opts), cache(t, nb, opts)
	db := newDatabase()
	changes := map[string]func(key string) error{
		"Update": func(k string) error { _, err := a.Update(context.Background(), k, 0, db.commit(k)); return err },
		"Set":    func(k string) error { return a.Set(context.Background(), k, db.write(k), 0) },
		"Delete": func(k string) error { db.write(k); return a.Delete(context.Background(), k) },
		"Prefix": func(k string) error { db.write(k); _, err := a.DeletePrefix(context.Background(), k); return err },
		"Tags":   func(k string) error { db.write(k); return na.InvalidateTags(context.Background(), "tag:"+k) },
		"Clear":  func(k string) error { db.write(k); return a.Clear(context.Background()) },
	}
	for name, change := range changes {
		for i, offset := range []time.Duration{time.Hour, 0, -time.Hour, 24 * time.Hour, 0} {
			key := fmt.Sprint(name, i)
			db.write(key)
			loaded(t, a, db, key)
			loaded(t, b, db, key)
			slow := key + ":slow"
			began, end, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
			db.write(slow)
			go func() {
				defer close(done)
				_, err := b.GetOrSet(context.Background(), slow, 0, func(context.Context) (row, error) {
					v := db.read(slow)
					close(began)
					<-end
					return v, nil
				})
				assert.NoError(t, err)
			}()
			<-began

			clock.Set(offset)
			require.NoError(t, change(key), "%s at %v", name, offset)
			require.NoError(t, change(slow), "%s at %v", name, offset)
			acked := time.Now()
			close(end)
			<-done
			for _, k := range []string{key, slow} {
				v, err := a.GetOrSet(t.Context(), k, 0, db.loader(k))
				require.NoError(t, err)
				require.Equal(t, db.version(k), v.Version, "ReadYourWrites: %s at %v", name, offset)
				await(t, "the other node", 10*time.Second, func() bool {
					v, err := b.GetOrSet(t.Context(), k, 0, db.loader(k))
					require.NoError(t, err)
					return v.Version == db.version(k)
				})
				assert.Less(t, time.Since(acked), nb.Stats().MaxStaleness+slack, "%s at %v", name, offset)
				loaded(t, a, db, k)
				loaded(t, b, db, k)
			}
		}
	}
	assert.Zero(t, na.Stats().Journal.Unconfirmed+nb.Stats().Journal.Unconfirmed)
}
