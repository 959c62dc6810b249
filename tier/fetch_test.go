package tier_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// filling returns a function for Fetch that decides what decide says.
func (d *database) filling(key string, decide func(*tier.Fill[row])) func(context.Context, *tier.Fill[row]) (row, error) {
	return func(_ context.Context, f *tier.Fill[row]) (row, error) {
		decide(f)
		return d.read(key), nil
	}
}

func TestCache_Fetch_keepsWhatItsFunctionDecides(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{TTL: time.Hour, Jitter: -1})
		cases := []struct {
			name   string
			decide func(*tier.Fill[row])
			kept   bool
			ttl    time.Duration
		}{
			{"default", func(f *tier.Fill[row]) { assert.Zero(t, f.TTL); assert.False(t, f.HasStale) }, true, time.Hour},
			{"ttl", func(f *tier.Fill[row]) { f.TTL = time.Minute }, true, time.Minute},
			{"noexpiry", func(f *tier.Fill[row]) { f.TTL = tier.NoExpiry }, true, tier.NoExpiry},
			{"nothing", func(f *tier.Fill[row]) { f.TTL = -time.Second }, false, 0},
			{"nostore", func(f *tier.Fill[row]) { f.NoStore = true }, false, 0},
		}
		for _, test := range cases {
			db := newDatabase()
			for range 2 {
				got, err := c.Fetch(t.Context(), test.name, db.filling(test.name, test.decide))
				require.NoError(t, err, test.name)
				require.Equal(t, test.name, got.Key)
			}
			ttl, kept := c.TTL(t.Context(), test.name)
			assert.Equal(t, test.kept, kept, test.name)
			assert.InDelta(t, test.ttl, ttl, float64(10*time.Second), test.name)
			want := 1
			if !test.kept {
				want = 2
			}
			assert.Equal(t, want, db.loadsOf(test.name), test.name)
		}
	})
}

func TestCache_Fetch_refusesWhatItsFunctionCannotMean(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		c := cache(t, open(t, cfg), tier.Options[row]{})
		cases := map[string]func(*tier.Fill[row]){
			"Fill.TTL":         func(f *tier.Fill[row]) { f.TTL = time.Microsecond },
			"Fill.NotModified": func(f *tier.Fill[row]) { f.NotModified = true },
		}
		for name, decide := range cases {
			db := newDatabase()
			_, err := c.Fetch(t.Context(), "1", db.filling("1", decide))
			require.ErrorContains(t, err, name)
			require.ErrorContains(t, err, `"1"`, "the error names the key")
			mustMiss(t, c, "1")
			// The lease was given back: the next load does not wait for its end.
			begun := time.Now()
			got, err := c.Fetch(t.Context(), "1", db.filling("1", func(*tier.Fill[row]) {}))
			require.NoError(t, err)
			require.Equal(t, "1", got.Key)
			require.Less(t, time.Since(begun), time.Second)
			mustGet(t, c, "1")
			require.NoError(t, c.Delete(t.Context(), "1"))
		}
		_, err := c.Fetch(t.Context(), "1", nil)
		require.ErrorContains(t, err, "nil")
	})
}
