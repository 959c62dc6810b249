package layout

import (
	"fmt"
	"slices"
	"strings"
)

// scope says in which files of a package an edge is forbidden.
type scope uint8

const (
	library scope = iota // not in tests
	always               // in tests, too
)

// edge is a forbidden import. Patterns are import paths, those of ours without
// the module's path; "x/..." is x and all below, "ours" all of ours, "*" all.
type edge struct {
	from   string
	except []string // of from
	to     string
	allow  []string // of to
	scope  scope
	reason string
}

// Import paths of others that a rule names.
const (
	goRedis   = "github.com/redis/go-redis/..."
	ristretto = "github.com/dgraph-io/ristretto/..."
	testify   = "github.com/stretchr/testify/..."
	goleak    = "go.uber.org/goleak/..."
)

// forbidden are the edges that the root module must not have.
func forbidden() []edge {
	return []edge{
		{
			from: "keys/...", to: "ours", allow: []string{"keys/..."}, scope: library,
			reason: "keys is a grammar of names: it serves programs that have no cache",
		},
		{
			from: "codec/...", to: "ours", allow: []string{"codec/..."}, scope: library,
			reason: "codec turns values into bytes and knows nothing of where they go",
		},
		{
			// keys is there so that one function alone says what a key is.
			from: "tier", to: "ours", scope: library,
			allow:  []string{"codec/...", "invalidation", "internal/...", "keys"},
			reason: "tier is built of codec, invalidation and internal, and of keys' check of a key",
		},
		{
			from: "*", except: []string{"tier/..."}, to: "tier/...", scope: always,
			reason: "tier is the top: what it is built of cannot need it, and what uses it are other modules",
		},
		{
			from: "invalidation", to: "ours", allow: []string{"internal/..."}, scope: library,
			reason: "the bus carries names, not values: it needs neither codecs nor key catalogs",
		},
		{
			from: "internal/...", except: []string{"internal/redistest", "internal/layout"}, to: "ours", scope: library,
			allow:  []string{"internal/..."},
			reason: "internal packages are the parts that tier puts together: what several need is internal itself",
		},
		{
			from: "*", except: []string{"internal/l1", "tier"}, to: ristretto, scope: always,
			reason: "what ristretto holds proves nothing: only internal/l1 may read it, behind the fence",
		},
		{
			from: "tier", to: ristretto, scope: library,
			reason: "what ristretto holds proves nothing; only tests may have one, to measure a hit against",
		},
		{
			from: "*", to: goRedis, scope: always,
			except: []string{"internal/l2", "internal/connect", "invalidation", "tier", "internal/redistest"},
			reason: "Redis is reached in three places (data, connecting, messages); tier only names the client's type in Config",
		},
		{
			from: "*", except: []string{"internal/redistest"}, to: "testing", scope: library,
			reason: "programs that use the library would get the flags of testing",
		},
		{
			from: "*", to: testify, scope: library, except: []string{"internal/redistest"},
			reason: "assertions are for tests: users do not link them",
		},
		{
			from: "*", to: goleak, scope: library,
			reason: "leak checks are for tests: users do not link them",
		},
		{
			from: "*", to: "internal/redistest", scope: library,
			reason: "redistest starts processes: only tests may",
		},
		{
			from: "*", to: "internal/layout", scope: always,
			reason: "layout judges the house and is no part of it",
		},
		{
			from: switches, to: "ours", scope: library,
			reason: "every mechanism asks it: it can need none of them",
		},
		{
			from: "*", to: "log", scope: library,
			reason: "a library logs to the slog.Logger that it was given, not to the process' output",
		},
	}
}

// maxDepth is the longest chain of imports inside the module, in steps. A step
// to switches does not count: in the build that is used there is nothing there.
const (
	maxDepth = 2
	switches = "internal/mutant"
)

// matches reports whether an import path is of a pattern.
func matches(pattern, importPath string) bool {
	switch pattern {
	case "*":
		return true
	case "ours":
		return ours(importPath)
	}
	path := inside(importPath)
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == root || strings.HasPrefix(path, root+"/")
	}
	return path == pattern
}

func matchesAny(patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, importPath) })
}

// checkEdges names every import that rules forbid.
func checkEdges(pkgs []pkg, rules []edge) []string {
	var wrong []string
	for _, p := range pkgs {
		for _, rule := range rules {
			if !matches(rule.from, p.ImportPath) || matchesAny(rule.except, p.ImportPath) {
				continue
			}
			imports := p.Imports
			if rule.scope == always {
				imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
			}
			slices.Sort(imports)
			for _, to := range slices.Compact(imports) {
				// The tests of a package in a package of their own import it.
				if to != p.ImportPath && matches(rule.to, to) && !matchesAny(rule.allow, to) {
					wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", p.name(), inside(to), rule.reason))
				}
			}
		}
	}
	return wrong
}

// checkDepth names the longest chain of imports of each package that is longer
// than limit, tests left out.
func checkDepth(pkgs []pkg, limit int) []string {
	byPath := make(map[string]*pkg, len(pkgs))
	for i := range pkgs {
		byPath[pkgs[i].ImportPath] = &pkgs[i]
	}
	var longest func(path string) []string
	longest = func(path string) []string {
		var below []string
		if p := byPath[path]; p != nil { // Go itself refuses cycles
			for _, to := range p.Imports {
				if !ours(to) || inside(to) == switches {
					continue
				}
				if chain := longest(to); len(chain) > len(below) {
					below = chain
				}
			}
		}
		return append([]string{inside(path)}, below...)
	}
	var wrong []string
	for _, p := range pkgs {
		if chain := longest(p.ImportPath); len(chain)-1 > limit {
			wrong = append(wrong, fmt.Sprintf("%s: %d steps of imports, at most %d: %s",
				p.name(), len(chain)-1, limit, strings.Join(chain, " -> ")))
		}
	}
	return wrong
}
