package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// report writes what was measured, and on what.
func (b *bench) report(args string) error {
	var w strings.Builder
	fmt.Fprintf(&w, "# Benchmarks\n\n")
	fmt.Fprintf(&w, "Made by `make bench` (`go run . %s` in `bench/`) on %s.\n\n", args, b.begun.UTC().Format("2006-01-02"))
	fmt.Fprintf(&w, "Machine: %d × %s, %s/%s, %s, Redis %s on the same machine.\n\n",
		runtime.NumCPU(), cpuModel(), runtime.GOOS, runtime.GOARCH, runtime.Version(), b.redis.version())
	fmt.Fprintf(&w, "Figures are medians of %d rounds of %v, in which the peers take turns; ± is half the distance between the quartiles. "+
		"Compare within a table: absolute times drift with the machine. The raw rounds, for benchstat, are in `raw.txt`.\n\n", b.rounds, b.length)
	fmt.Fprintf(&w, "Versions: %s.\n\n", strings.Join(versions(), ", "))
	fmt.Fprintf(&w, "Not in these tables: rueidisaside, whose module could not be resolved; peers without the feature that a table is about.\n")
	for _, t := range b.tables {
		fmt.Fprintf(&w, "\n## %s\n\n%s\n\n", t.title, t.about)
		t.print(&w)
	}
	return os.WriteFile(filepath.Join(b.dir, "REPORT.md"), []byte(w.String()), 0o644)
}

// versions names the peers' modules as they were built.
func versions() []string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	var list []string
	for _, m := range info.Deps {
		for _, name := range []string{
			"dgraph-io/ristretto", "redis/go-redis/v9", "redis/rueidis", "go-redis/cache", "mgtv-tech/jetcache-go",
			"eko/gocache", "viccon/sturdyc", "maypok86/otter", "theine-go", "hashicorp/golang-lru", "msgpack/v5",
		} {
			if strings.Contains(m.Path, name) {
				list = append(list, strings.TrimPrefix(m.Path, "github.com/")+" "+m.Version)
			}
		}
	}
	return list
}
