package main

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
)

// Between these lines of a Markdown file stands what the last complete run came to.
const (
	readmeBegin = "<!-- bench: begin, written by make bench -->"
	readmeEnd   = "<!-- bench: end -->"
)

// headline is a line of the main table: one job, Tandem first, then those that it
// is measured against.
type headline struct {
	what   string
	table  string // name
	params string
	unit   string
	peers  []string
}

func headlines() []headline {
	memory := []string{"ristretto", "otter", "theine", "golang-lru", "sturdyc", "rueidis-csc", "go-redis-cache", "jetcache-go"}
	return []headline{
		{"L1 hit, 10-field struct, Zipf", "L1Hit", "value=user/dist=zipf/cpus=1", "ns/op", memory},
		{"the same, 2 CPUs", "L1Hit", "value=user/dist=zipf/cpus=2", "ns/op", memory[:5]},
		{"the same, 1,000 keys, 1 CPU", "L1Hit", "value=user/keys=1000/dist=zipf/cpus=1", "ns/op", memory},
		{"L2 hits a second, 1 goroutine", "L2Hit", "goroutines=1", "ops/s", []string{"go-redis", "rueidis", "go-redis-cache", "jetcache-go"}},
		{"L2 hits a second, 256 goroutines", "L2Hit", "goroutines=256", "ops/s", []string{"go-redis", "go-redis-autopipeline", "rueidis", "go-redis-cache"}},
		{"Set, 1 goroutine", "Write", "op=set/goroutines=1", "ns/op", []string{"go-redis", "rueidis-csc", "go-redis-cache"}},
		{"Set, 64 goroutines", "Write", "op=set/goroutines=64", "ns/op", []string{"go-redis", "rueidis-csc", "go-redis-cache"}},
		{"Delete, 1 goroutine", "Write", "op=delete/goroutines=1", "ns/op", []string{"go-redis", "rueidis-csc", "go-redis-cache"}},
		{"Delete, 64 goroutines", "Write", "op=delete/goroutines=64", "ns/op", []string{"go-redis", "rueidis-csc", "go-redis-cache"}},
		{"another process obeys, p99, 1,000 changes/s", "Obey", "rate=1000", "p99-ns", []string{"pubsub"}},
		{"loads, 1,000 ask in 4 processes", "Stampede", "processes=4", "loads", []string{"go-redis-cache", "jetcache-go", "rueidisaside"}},
		{"bytes of memory an entry of 100 bytes", "Memory", "size=100", "B/entry", memory},
	}
}

// summary is what the README shows: where the figures are from, the main table and
// a plot.
func (b *bench) summary(o origin, results string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "Measured on %s on %s, by `%s`; medians of %s in which all take turns; in brackets how many times Tandem's figure, of slices that of the same turn. "+
		"More tables, spreads and versions: [REPORT.md](%s/REPORT.md); what was tried, and what is missed: [NOTES.md](%s/NOTES.md).\n\n",
		o.Date, o.Machine, o.Command, o.Rounds, results, path.Dir(results))
	rows := [][]string{{"what", "Tandem", "others"}}
	for _, h := range headlines() {
		if row := b.headlineRow(h); row != nil {
			rows = append(rows, row)
		}
	}
	writeTable(&w, rows)
	fmt.Fprintf(&w, "\n![L2 hits a second over goroutines](%s/l2-throughput.svg)\n\n", results)
	fmt.Fprintf(&w, "Versions: %s.\n", o.Versions)
	return w.String()
}

// headlineRow is nil if the job was not run.
func (b *bench) headlineRow(h headline) []string {
	for _, t := range b.tables {
		if t.name != h.table {
			continue
		}
		ours := t.find("tandem", h.params)
		if ours == nil || ours.value(h.unit) == 0 {
			return nil
		}
		var others []string
		for _, name := range h.peers {
			if r := t.find(name, h.params); r != nil {
				others = append(others, fmt.Sprintf("%s %s (%.2g×)", name, format(r.value(h.unit), h.unit), r.times(ours, h.unit)))
			}
		}
		return []string{h.what, format(ours.value(h.unit), h.unit), strings.Join(others, ", ")}
	}
	return nil
}

// writeReadme puts text between the marks of the file.
func writeReadme(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), readmeBegin)
	if !ok {
		return fmt.Errorf("%s has no %q", file, readmeBegin)
	}
	_, after, ok := strings.Cut(rest, readmeEnd)
	if !ok {
		return errors.New(file + ": a block that does not end")
	}
	return os.WriteFile(file, []byte(before+readmeBegin+"\n\n"+text+"\n"+readmeEnd+after), 0o644)
}
