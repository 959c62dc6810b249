package layout

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lib is a package of ours that imports, outside of its tests, what is given.
func lib(name string, imports ...string) pkg {
	return pkg{ImportPath: module + "/" + name, Imports: imports}
}

// own is the import path of a package of ours.
func own(name string) string { return module + "/" + name }

func TestForbidden_eachEdgeIsNamed(t *testing.T) {
	redis, rist := "github.com/redis/go-redis/v9", "github.com/dgraph-io/ristretto/v2/z"
	for name, tc := range map[string]struct {
		p    pkg
		want string
	}{
		"keys to codec":         {lib("keys", own("codec")), "keys imports codec: "},
		"keys/ghl to tier":      {lib("keys/ghl", own("internal/l1")), "keys/ghl imports internal/l1: "},
		"codec to invalidation": {lib("codec", own("invalidation")), "codec imports invalidation: "},
		"tier to a catalog":     {lib("tier", own("keys/ghl")), "tier imports keys/ghl: "},
		"internal to tier":      {lib("internal/l2", own("tier")), "internal/l2 imports tier: "},
		"test to tier":          {pkg{ImportPath: own("internal/l2"), XTestImports: []string{own("tier")}}, "internal/l2 imports tier: "},
		"bus to codec":          {lib("invalidation", own("codec")), "invalidation imports codec: "},
		"internal to codec":     {lib("internal/fence", own("codec")), "internal/fence imports codec: "},
		"ristretto":             {lib("tier", rist), "tier imports " + rist},
		"ristretto in a test":   {pkg{ImportPath: own("invalidation"), TestImports: []string{rist}}, "invalidation imports " + rist},
		"redis":                 {lib("internal/journal", redis), "internal/journal imports " + redis},
		"redis in a test":       {pkg{ImportPath: own("codec"), XTestImports: []string{redis}}, "codec imports " + redis},
		"testing":               {lib("codec", "testing"), "codec imports testing: "},
		"testify":               {lib("codec", "github.com/stretchr/testify/require"), "codec imports github.com/stretchr/testify/require: "},
		"goleak":                {lib("codec", "go.uber.org/goleak"), "codec imports go.uber.org/goleak: "},
		"redistest":             {lib("tier", own("internal/redistest")), "tier imports internal/redistest: "},
		"layout":                {lib("tier", own("internal/layout")), "tier imports internal/layout: "},
		"switches":              {lib(switches, own("internal/l2")), "internal/mutant imports internal/l2: "},
		"log":                   {lib("tier", "log"), "tier imports log: "},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := checkEdges([]pkg{tc.p}, forbidden())
			require.NotEmpty(t, wrong)
			assert.True(t, strings.HasPrefix(wrong[0], tc.want), "%q", wrong)
		})
	}
}

func TestForbidden_allowsTheDesign(t *testing.T) {
	redis := "github.com/redis/go-redis/v9"
	assert.Empty(t, checkEdges([]pkg{
		lib("tier", own("codec"), own("invalidation"), own("keys"), own("internal/l2"), redis, "log/slog"),
		lib("keys/ghl", own("keys")),
		lib("internal/l1", "github.com/dgraph-io/ristretto/v2", own("internal/fence")),
		lib("internal/l2", redis), lib("internal/connect", redis), lib("invalidation", redis),
		lib("internal/redistest", redis, "testing", "github.com/stretchr/testify/require"),
		lib("tierlike", "testing/fstest"),
		{
			ImportPath:   own("tier"),
			TestImports:  []string{"testing", own("internal/redistest")},
			XTestImports: []string{own("tier"), own("keys/ghl"), "go.uber.org/goleak", "github.com/dgraph-io/ristretto/v2"},
		},
	}, forbidden()))
}

func TestForbidden_everyEdgeHasAReason(t *testing.T) {
	for _, rule := range forbidden() {
		assert.NotEmpty(t, rule.reason, "%v", rule)
	}
}

func TestCheckDepth_namesTheChain(t *testing.T) {
	pkgs := []pkg{
		lib("a", own("b"), "fmt"), lib("b", own("c")), lib("c", own(switches)), lib("d", own("a")), lib(switches),
	}
	wrong := checkDepth(pkgs, 2)
	require.Len(t, wrong, 1)
	assert.Contains(t, wrong[0], "d -> a -> b -> c")
	assert.Empty(t, checkDepth(pkgs, 3))
}

func TestCheckRoot_namesStrangers(t *testing.T) {
	wrong, err := checkRoot(fstest.MapFS{"go.mod": {}, "notes.txt": {}, "util/x.go": {}}, rootEntries())
	require.NoError(t, err)
	require.Len(t, wrong, 2)
	assert.Contains(t, wrong[0], "notes.txt")
	assert.Contains(t, wrong[1], "util")
}

func TestCheckGoMod_namesEachFault(t *testing.T) {
	m := goMod{Toolchain: "go1.99"}
	m.Replace = make([]struct{ Old, New struct{ Path string } }, 1)
	m.Replace[0].Old.Path = "example.com/x"
	m.Tool = []struct{ Path string }{{Path: "example.com/tool"}}
	wrong := checkGoMod(&m)
	require.Len(t, wrong, 3)
	assert.Contains(t, wrong[0], "example.com/x")
	assert.Contains(t, wrong[1], "example.com/tool")
	assert.Contains(t, wrong[2], "toolchain")
	assert.Empty(t, checkGoMod(&goMod{}))
}

func TestCheckLength_namesLongFilesAndIdleExcuses(t *testing.T) {
	long := &fstest.MapFile{Data: []byte(strings.Repeat("\n", 11))}
	tree := fstest.MapFS{
		"a/long.go": long, "a/long_test.go": long, "a/excused.go": long, ".cache/x.go": long,
		"a/testdata/x.go": long, "a/short.go": {Data: []byte("\n")}, "a/long.txt": long,
	}
	wrong, err := checkLength(tree, 10, map[string]string{"a/excused.go": "why", "a/short.go": "idle"})
	require.NoError(t, err)
	require.Len(t, wrong, 2)
	assert.Contains(t, wrong[0], "a/long.go: 11 lines")
	assert.Contains(t, wrong[1], "a/short.go: is excused")
	wrong, err = checkLength(fstest.MapFS{"a/long.go": long}, 10, map[string]string{"a/long.go": ""})
	require.NoError(t, err)
	assert.Len(t, wrong, 1, "an excuse without a reason is none")
}

func TestCheckClocks_namesWhatReadsTheWallClock(t *testing.T) {
	tree := fstest.MapFS{
		"tier/a.go":               {Data: []byte("package tier\nimport \"time\"\nvar a = time.Now().UnixMilli()\n")},
		"tier/a_test.go":          {Data: []byte("package tier\nimport \"time\"\nvar b = time.Now().Unix()\n")},
		"tier/excused.go":         {Data: []byte("package tier\nimport \"time\"\nvar c = time.Now().Unix()\n")},
		"tier/monotonic.go":       {Data: []byte("package tier\nimport \"time\"\nvar d = time.Since(time.Now())\n")},
		"internal/redistest/a.go": {Data: []byte("package redistest\nimport \"time\"\nvar e = time.Now().Unix()\n")},
	}
	wrong, err := checkClocks(tree, wallCalls(), map[string]string{"tier/excused.go": "a reason"})
	require.NoError(t, err)
	assert.Equal(t, []string{"tier/a.go:3:9: UnixMilli reads the wall clock"}, wrong)
}

func TestCheckEntries_namesWhatHasNoKeyBehindIt(t *testing.T) {
	tree := fstest.MapFS{
		"tier/a.go":        {Data: []byte("package tier\nvar a = &l1.Entry[int]{}\nvar b *l1.Entry[int]\n")},
		"tier/b_test.go":   {Data: []byte("package tier\nvar c []*l1.Entry[int]\nvar d = new(l1.Entry[int])\n")},
		"internal/l1/a.go": {Data: []byte("package l1_test\nvar e l1.Entry[int]\n")},
	}
	wrong, err := checkEntries(tree)
	require.NoError(t, err)
	const fault = "an l1.Entry is made by l1.NewEntry and used as a pointer"
	assert.Equal(t, []string{"tier/a.go:2: " + fault, "tier/b_test.go:3: " + fault}, wrong)
}

func TestCheckComments_wantsExactlyOne(t *testing.T) {
	file := func(src string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(src)} }
	tree := fstest.MapFS{
		"good/doc.go": file("// Package good is.\npackage good\n"), "good/x.go": file("package good\n"),
		"none/x.go": file("package none\n"), "none/x_test.go": file("// Package none is.\npackage none\n"),
		"two/a.go": file("// Package two is.\npackage two\n"), "two/b.go": file("// Package two is.\npackage two\n"),
		"other/a.go": file("// This is.\npackage other\n"), "cmd/a.go": file("// Command cmd does.\npackage main\n"),
		"loose/a.go": file("// Package loose is.\n\npackage loose\n"), "bad/a.go": file("pack"),
	}
	wrong, err := checkComments(tree)
	require.NoError(t, err)
	var named []string
	for _, w := range wrong {
		name, _, _ := strings.Cut(w, ":")
		named = append(named, name)
	}
	assert.Equal(t, []string{"bad/a.go", "loose", "none", "other", "two"}, named)
}

func TestListPackages_failsOutsideOfAModule(t *testing.T) {
	_, err := listPackages(t.TempDir())
	require.Error(t, err)
}
