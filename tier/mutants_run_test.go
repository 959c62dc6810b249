//go:build mutants

package tier_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each mutant is found by the test that the table names, and that test passes
// when nothing is missing.
func TestMutants_areFoundByTheirTests(t *testing.T) {
	bins := buildTests(t)
	only := os.Getenv("TANDEM_MUTANTS") // one of them, or all
	for pkg, tests := range testsByPackage() {
		out, err := runTests(t, bins[pkg], pkg, "", "^("+strings.Join(tests, "|")+")$", 5*time.Minute)
		require.NoError(t, err, "without any mutant, in %s:\n%s", pkg, out)
	}
	for _, f := range finders {
		if only != "" && only != string(f.mutant) {
			continue
		}
		t.Run(string(f.mutant), func(t *testing.T) {
			begun := time.Now()
			out, err := runTests(t, bins[f.pkg], f.pkg, string(f.mutant), "^"+f.test+"$", 2*time.Minute)
			assert.Error(t, err, "%s does not notice", f.test)
			assert.Contains(t, out, "--- FAIL: "+f.test, "it failed for another reason:\n%s", out)
			t.Logf("found by %s in %v", f.test, time.Since(begun).Round(time.Millisecond))
		})
	}
}

// The mutants that the checker of histories can find are found by it, by a
// promise that is broken.
func TestMutants_areFoundByHistories(t *testing.T) {
	limit := 5 * time.Minute
	if text := os.Getenv("TANDEM_SOAK"); text != "" {
		var err error
		limit, err = time.ParseDuration(text)
		require.NoError(t, err, "TANDEM_SOAK")
	}
	bin := buildTests(t)["tier"]
	only := os.Getenv("TANDEM_MUTANTS")
	for _, f := range finders {
		if f.soak == "" || only != "" && only != string(f.mutant) {
			continue
		}
		t.Run(string(f.mutant), func(t *testing.T) {
			begun := time.Now()
			out, err := runTests(t, bin, "tier", string(f.mutant), "^TestSoak_"+f.soak+"$", limit+time.Minute, "TANDEM_SOAK="+limit.String(), "TANDEM_SEED=1")
			assert.Error(t, err, "no history of %v shows it", limit)
			var lines []string
			for line := range strings.Lines(out) {
				if text, ok := strings.CutPrefix(strings.TrimSpace(line), "VIOLATION of "); ok && !slices.Contains(lines, text) {
					lines = append(lines, text)
				}
			}
			require.NotEmpty(t, lines, "it failed for another reason:\n%s", out)
			t.Logf("found within %v: %.300s", time.Since(begun).Round(time.Second), lines[0])
		})
	}
}

func testsByPackage() map[string][]string {
	tests := make(map[string][]string)
	for _, f := range finders {
		if !slices.Contains(tests[f.pkg], f.test) {
			tests[f.pkg] = append(tests[f.pkg], f.test)
		}
	}
	return tests
}

// buildTests compiles the tests of the packages in the table.
func buildTests(t *testing.T) map[string]string {
	dir := t.TempDir()
	bins := make(map[string]string)
	for pkg := range testsByPackage() {
		bin := filepath.Join(dir, strings.ReplaceAll(pkg, "/", "-"))
		out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "mutants", "-o", bin, "../"+pkg).CombinedOutput()
		require.NoError(t, err, "%s", out)
		bins[pkg] = bin
	}
	return bins
}

func runTests(t *testing.T, bin, pkg, id, pattern string, limit time.Duration, env ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "-test.run", pattern, "-test.timeout", limit.String(), "-test.v", "-test.failfast")
	cmd.Dir = filepath.Join("..", pkg)
	cmd.Env = append(append(os.Environ(), "TANDEM_MUTANT="+id), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
