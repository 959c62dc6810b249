package tier_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/tier"
)

// tagged opens a cache whose values carry the tags that of returns.
func tagged(t testing.TB, n *tier.Node, name string, of func(string, row) []string) *tier.Cache[row] {
	t.Helper()
	c, err := tier.New(n, name, tier.Options[row]{Tags: of})
	require.NoError(t, err)
	return c
}

func byPad(_ string, v row) []string {
	if v.Pad == "" {
		return nil
	}
	return strings.Split(v.Pad, ",")
}

func mustLookup(t testing.TB, c *tier.Cache[row], key string) tier.Item[row] {
	t.Helper()
	item, err := c.Lookup(t.Context(), key)
	require.NoError(t, err)
	return item
}

func TestNode_InvalidateTags_voidsWhatCarriesOneOfThem(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		users := cache(t, n, tier.Options[row]{})
		teams := tagged(t, n, "team", byPad)
		ctx := t.Context()
		// What is loaded while the node begins to hear is not stored.
		await(t, "the node to hear", soon, func() bool { return cfg.URL == "" || n.Stats().Bus.Hears })
		require.NoError(t, users.Set(ctx, "1", row{Key: "1"}, 0, "red", "blue", "red"))
		require.NoError(t, users.Set(ctx, "2", row{Key: "2"}, 0, "blue"))
		require.NoError(t, users.Set(ctx, "3", row{Key: "3"}, 0))
		require.NoError(t, teams.Set(ctx, "4", row{Key: "4", Pad: "red"}, 0, "green"))
		_, err := teams.GetOrSet(ctx, "5", 0, func(context.Context) (row, error) { return row{Key: "5", Pad: "green"}, nil })
		require.NoError(t, err)
		_, err = users.Fetch(ctx, "6", func(_ context.Context, f *tier.Fill[row]) (row, error) {
			f.Tags = []string{"green", "red"}
			return row{Key: "6"}, nil
		})
		require.NoError(t, err)
		all := func() (left string) {
			for _, key := range []string{"1", "2", "3", "6"} {
				if _, ok := users.Get(ctx, key); ok {
					left += key
				}
			}
			for _, key := range []string{"4", "5"} {
				if _, ok := teams.Get(ctx, key); ok {
					left += key
				}
			}
			return left
		}
		require.Equal(t, "123645", all())
		assert.Equal(t, []string{"red", "blue"}, mustLookup(t, users, "1").Tags)
		assert.Empty(t, mustLookup(t, users, "3").Tags)
		assert.Equal(t, []string{"green", "red"}, mustLookup(t, teams, "4").Tags)
		assert.Equal(t, []string{"green", "red"}, mustLookup(t, users, "6").Tags)

		require.NoError(t, n.InvalidateTags(ctx, "red"))
		assert.Equal(t, "235", all())
		require.NoError(t, n.InvalidateTags(ctx, "nobody's"))
		require.NoError(t, n.InvalidateTags(ctx))
		assert.Equal(t, "235", all())
		require.NoError(t, users.Set(ctx, "1", row{Key: "1"}, 0, "red"), "the tag goes on")
		assert.Equal(t, "1235", all())
		require.NoError(t, n.InvalidateTags(ctx, "green", "blue"))
		assert.Equal(t, "13", all())
	})
}

// What a loader names, a tag that is new to Redis included, is stored at once.
func TestGetOrSet_keepsTaggedValues(t *testing.T) {
	eachStore(t, func(t *testing.T, cfg tier.Config) {
		n := open(t, cfg)
		c := tagged(t, n, "t", byPad)
		ctx := t.Context()
		loads := 0
		get := func(key, pad string) int {
			_, err := c.GetOrSet(ctx, key, 0, func(context.Context) (row, error) {
				loads++
				return row{Key: key, Pad: pad}, nil
			})
			require.NoError(t, err)
			return loads
		}
		// What is loaded as the books are made may be older than they, as far as the
		// node can tell.
		await(t, "the first value to be kept", 10*time.Second, func() bool {
			before := get("first", "first")
			return get("first", "first") == before
		})
		refused := c.Stats().FillsRefused
		for i := range 50 {
			tag := fmt.Sprintf("tag%d,all", i)
			key := fmt.Sprint(i)
			loads = 0
			require.Equal(t, 1, get(key, tag), key)
			require.Equal(t, 1, get(key, tag), key)
			require.NoError(t, n.InvalidateTags(ctx, fmt.Sprint("tag", i)))
			require.Equal(t, 2, get(key, tag), key)
			require.Equal(t, 2, get(key, tag), key)
		}
		assert.Equal(t, refused, c.Stats().FillsRefused)
	})
}

func TestCache_Set_refusesWrongTags(t *testing.T) {
	n := open(t, tier.Config{})
	c := cache(t, n, tier.Options[row]{})
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprint("tag", i)
	}
	for name, tags := range map[string][]string{
		`""`: {"ok", ""}, `"a\x00"`: {"a\x00"}, `"\xff"`: {"\xff"}, `"tag64"`: many, strings.Repeat("x", 60): {strings.Repeat("x", 1025)},
	} {
		err := c.Set(t.Context(), "1", row{}, 0, tags...)
		require.ErrorIs(t, err, tier.ErrKey, name)
		assert.ErrorContains(t, err, name, "the error names the tag")
		assert.ErrorContains(t, err, `"1"`)
		_, err = c.Fetch(t.Context(), "2", func(_ context.Context, f *tier.Fill[row]) (row, error) {
			f.Tags = tags
			return row{}, nil
		})
		require.ErrorIs(t, err, tier.ErrKey, name)
		mustMiss(t, c, "1")
		mustMiss(t, c, "2")
	}
	require.NoError(t, c.Set(t.Context(), "1", row{Key: "1"}, 0, append(many[:64], many[:64]...)...), "64, each twice")
	require.NoError(t, c.Set(t.Context(), "2", row{Key: "2"}, 0, "good"))
	err := n.InvalidateTags(t.Context(), "", "good", "\n")
	require.ErrorIs(t, err, tier.ErrKey)
	mustMiss(t, c, "2")
	require.NoError(t, n.InvalidateTags(t.Context(), many...), "any number")
	mustMiss(t, c, "1")

	bad := tagged(t, n, "bad", func(string, row) []string { return []string{""} })
	require.ErrorIs(t, bad.Set(t.Context(), "1", row{}, 0), tier.ErrKey)
	_, err = bad.GetOrSet(t.Context(), "1", 0, func(context.Context) (row, error) { return row{}, nil })
	require.NoError(t, err, "the value is there, though nothing keeps it")
	mustMiss(t, bad, "1")
	assert.EqualValues(t, 1, bad.Stats().FillsRefused)

	require.NoError(t, n.Close())
	assert.ErrorIs(t, n.InvalidateTags(context.Background(), "a"), tier.ErrClosed)
}
