package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// runLength is what a complete run takes on two processors.
const runLength = "20 minutes"

// report writes what was measured, and on what.
func (b *bench) report(o origin) error {
	var w strings.Builder
	fmt.Fprintf(&w, "# Benchmarks\n\n")
	fmt.Fprintf(&w, "Made by `%s` on %s.", o.Command, o.Date)
	if strings.Contains(o.Command, "-from") {
		fmt.Fprintf(&w, " Tables that an earlier run had were taken as they were: each is of one run, but not all are of the same; NOTES.md says which are.")
	}
	fmt.Fprintf(&w, "\n\nMachine: %s.\n\n", o.Machine)
	fmt.Fprintf(&w, "Figures are medians of %s, in which the peers take turns, where a table does not say otherwise; "+
		"± is half the distance between the quartiles. What one goroutine does with Redis is measured in %d slices of %v, hits in memory in %d of %v: medians of all of them, percentiles of all together; how many times the base is the median over slices of the same turn. "+
		"Garbage is collected before a round, unless there is next to none, before a slice of hits once there is much, and not before other slices. "+
		"Compare within a table: absolute times drift with the machine. The raw rounds, for benchstat, are in `raw.txt`.\n\n",
		o.Rounds, b.rounds*slicesPerRound, b.length/slicesPerRound, b.rounds*hitSlices, b.length/hitSlices)
	fmt.Fprintf(&w, "Limited, so that a run ends within %s: the values of a kind are resident in all peers at once, not those of all kinds; "+
		"of a trace the first %d accesses are replayed, at three capacities, in %d rounds; memory is measured once.\n\n",
		runLength, ratioAccesses, ratioRounds)
	fmt.Fprintf(&w, "Versions: %s.\n\n", o.Versions)
	fmt.Fprintf(&w, "Not in these tables: peers without the feature that a table is about. rueidisaside is in those of loads alone: in memory it has what rueidis' client-side caching has.\n")
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
