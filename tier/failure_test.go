package tier_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// Row "Redis restarted empty": what L1 held is not fresh any more, L2 misses, and
// readers of all nodes share one load.
func TestFailure_restartedEmpty(t *testing.T) {
	srv := redistest.Start(t)
	nodes := []*tier.Node{open(t, tier.Config{URL: srv.URL()}), open(t, tier.Config{URL: srv.URL()})}
	var caches []*tier.Cache[row]
	db := newDatabase()
	db.write("k")
	for _, n := range nodes {
		c := cache(t, n, tier.Options[row]{})
		_, err := c.GetOrSet(t.Context(), "k", 0, db.loader("k"))
		require.NoError(t, err)
		caches = append(caches, c)
	}
	require.Equal(t, 1, db.loadsOf("k"))
	srv.Kill()
	srv.Restart()
	await(t, "the nodes to be whole again", 20*time.Second, func() bool {
		return nodes[0].Health(t.Context()).Healthy && nodes[1].Health(t.Context()).Healthy &&
			nodes[0].Stats().Available && nodes[1].Stats().Available
	})
	// Not gone: demoted. A read asks L2, which has nothing.
	_, ok := caches[0].Get(t.Context(), "k")
	require.False(t, ok)
	before := db.loadsOf("k")
	const readers = 20
	var running sync.WaitGroup
	for i := range readers {
		running.Go(func() {
			v, err := caches[i%2].GetOrSet(t.Context(), "k", 0, db.loader("k"))
			assert.NoError(t, err)
			assert.EqualValues(t, 1, v.Version)
		})
	}
	running.Wait()
	require.Equal(t, before+1, db.loadsOf("k"))
	require.NoError(t, caches[0].Set(t.Context(), "k", db.write("k"), 0), "changes are fine")
	require.EqualValues(t, 2, mustGet(t, caches[0], "k"))
}

// The package comment cites a test for each promise and each row of the table of
// failures. None of them may be a name that nobody runs.
func TestDoc_citesTests(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	doc := strings.ReplaceAll(string(text), "\n//\t", "\n")
	_, table, found := strings.Cut(doc, "# Failure")
	require.True(t, found)
	table, proof, found := strings.Cut(table, "# Proof")
	require.True(t, found)
	proof, _, found = strings.Cut(proof, "\n// #")
	require.True(t, found)

	tests := make(map[string]bool)
	for _, pattern := range []string{"*_test.go", "../invalidation/*_test.go", "../internal/*/*_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, file := range files {
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(source, -1) {
				tests[string(m[1])] = true
			}
		}
	}
	cited := regexp.MustCompile(`Test\w+`).FindAllString(proof, -1)
	require.NotEmpty(t, cited)
	for _, name := range cited {
		assert.True(t, tests[name], "%s is no test", name)
	}

	// What must be cited: the promises, and the first words of each row.
	subjects := regexp.MustCompile(`(?m)^//   - (\w+)\. `).FindAllStringSubmatch(doc, -1)
	require.Len(t, subjects, 8)
	notRows := []string{ // the head, and second lines
		"what happens", "panics or is canceled", "runs", "file, or a replica that lagged", "is promoted",
		"or refused",
	}
	for _, row := range regexp.MustCompile(`(?m)^(\w.{0,30}?) {2,}|^(\w.{0,30}) `).FindAllStringSubmatch(table, -1) {
		if what := strings.TrimSpace(row[1] + row[2]); !slices.Contains(notRows, what) {
			subjects = append(subjects, []string{"", what})
		}
	}
	require.Len(t, subjects, 8+19)
	for _, s := range subjects {
		assert.Regexp(t, `(?m)^`+regexp.QuoteMeta(s[1])+`.*Test`, proof, "no test is cited for %q", s[1])
	}
}
