package tier_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// people stands for a database.
type people map[string]User

func (p people) LoadUser(_ context.Context, id string) (User, error) {
	u, ok := p[id]
	if !ok {
		return u, tier.ErrNotFound
	}
	return u, nil
}

func (p people) SaveUser(_ context.Context, u User) error {
	p[u.ID] = u
	return nil
}

// quickStart is the README's. TestReadme_quickStart holds the two together.
func quickStart(ctx context.Context, db people) error {
	cfg, err := tier.ConfigFromEnv() // REDIS_URL, CACHE_PREFIX; unset: a cache in memory
	if err != nil {
		return err
	}
	node, err := tier.Open(ctx, cfg)
	if err != nil {
		return err // the Config is wrong; a Redis that is down is no error
	}
	defer node.Close()
	users, err := tier.New(node, "user", tier.Options[User]{TTL: tier.TTLMedium})
	if err != nil {
		return err
	}

	u, err := users.GetOrSet(ctx, "123", 0, func(ctx context.Context) (User, error) {
		return db.LoadUser(ctx, "123") // tier.ErrNotFound is remembered as well
	})
	if err != nil {
		return err
	}
	u.Name = "Grace"
	_, err = users.Update(ctx, u.ID, 0, func(ctx context.Context) (User, error) {
		return u, db.SaveUser(ctx, u) // on every node the cache is this, or empty
	})
	return err
}

// The README's first lines of code.
func Example_quickStart() {
	db := people{"123": {ID: "123", Name: "Ada"}}
	fmt.Println(quickStart(context.Background(), db), db["123"].Name)
	// Output: <nil> Grace
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	return string(text)
}

func TestReadme_quickStartIsCompiled(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	require.Len(t, blocks, 1, "each block of Go in the README must stand in a test as well")
	source, err := os.ReadFile("readme_test.go")
	require.NoError(t, err)
	_, body, found := strings.Cut(string(source), "\nfunc quickStart(ctx context.Context, db people) error {\n")
	require.True(t, found)
	body, _, found = strings.Cut(body, "\n}\n")
	require.True(t, found)
	want := regexp.MustCompile(`(?m)^\t`).ReplaceAllString(body, "")
	assert.Equal(t, want, strings.TrimSuffix(blocks[0][1], "\n"))
	assert.LessOrEqual(t, strings.Count(want, "\n"), 25)
}

func TestReadme_namesOnlyWhatIsThere(t *testing.T) {
	text := readme(t)
	links := regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(text, -1)
	require.NotEmpty(t, links)
	for _, link := range links {
		_, err := os.Stat(filepath.Join("..", link[1]))
		require.NoError(t, err, link[0])
	}
	makefile, err := os.ReadFile("../Makefile")
	require.NoError(t, err)
	targets := regexp.MustCompile("(?:`|    )make ([a-z-]+)").FindAllStringSubmatch(text, -1)
	require.NotEmpty(t, targets)
	for _, target := range targets {
		assert.Contains(t, string(makefile), "\n"+target[1]+":", target[0])
	}
}

// The permissions that the README asks an operator to give are enough, for
// everything, on a server that enforces them.
func TestReadme_permissionsAreEnough(t *testing.T) {
	rules := regexp.MustCompile("- ACL: `([^`]+)`").FindStringSubmatch(readme(t))
	require.NotNil(t, rules)
	srv := redistest.Start(t)
	ctx := t.Context()
	args := []any{"ACL", "SETUSER", "app", "on", ">secret"}
	for _, rule := range strings.Fields(rules[1]) {
		args = append(args, rule)
	}
	require.NoError(t, srv.Client(t).Do(ctx, args...).Err())
	url := strings.Replace(srv.URL(), "redis://", "redis://app:secret@", 1)
	n := open(t, tier.Config{URL: url, Prefix: "app", Strict: true})
	h := n.Health(ctx)
	require.True(t, h.Healthy, "%+v", h)

	c := cache(t, n, tier.Options[row]{})
	db := newDatabase()
	_, err := c.GetOrSet(ctx, "1", 0, db.loader("1"))
	require.NoError(t, err)
	require.NoError(t, c.Set(ctx, "2", db.write("2"), 0, "tag"))
	require.NoError(t, n.InvalidateTags(ctx, "tag"))
	mustMiss(t, c, "2")
	_, err = c.Update(ctx, "3", 0, func(context.Context) (row, error) { return db.write("3"), nil })
	require.NoError(t, err)
	require.NoError(t, c.SetVersioned(ctx, "4", db.write("4"), 7, 0))
	require.NoError(t, c.DeleteVersioned(ctx, "4", 8))
	require.NoError(t, c.Expire(ctx, "2"))
	require.NoError(t, c.Delete(ctx, "1", "2"))
	count, err := c.DeletePrefix(ctx, "3")
	require.NoError(t, err)
	assert.Equal(t, 1, count)
	require.NoError(t, c.Clear(ctx))
	rate, err := tier.NewCounter(n, "rate", tier.CounterOptions{Window: tier.TTLShort})
	require.NoError(t, err)
	_, err = rate.Allow(ctx, "1", 1)
	require.NoError(t, err)
	require.NoError(t, rate.Reset(ctx, "1"))
	log := srv.Client(t).Do(ctx, "ACL", "LOG").Val()
	assert.Empty(t, log, "nothing was refused")
}
