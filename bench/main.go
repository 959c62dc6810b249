package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// bench is one run.
type bench struct {
	smoke  bool
	rounds int
	length time.Duration // of a round of one contender
	traces string        // directory
	dir    string        // where results go
	readme string        // that shows them

	earlier  map[string][]sample // rounds that are not measured again
	origin   *origin             // of those, nil if it is not known
	measured int                 // rounds that were

	out    io.Writer
	raw    *os.File
	redis  *server
	tables []*table
	begun  time.Time
}

// job is a group of tables.
type job struct {
	name string
	run  func(*bench) error
}

func jobs() []job {
	return []job{
		{"l1", l1Hits}, {"l2", l2Hits}, {"miss", misses}, {"stampede", stampedes}, {"write", writes},
		{"obey", obedience}, {"mixed", mixed}, {"memory", memory}, {"hitratio", hitRatios}, {"codec", codecs},
		{"features", features}, {"hitparts", hitParts},
	}
}

func main() {
	if childMain() {
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	b := &bench{out: os.Stdout, begun: time.Now()}
	flag.BoolVar(&b.smoke, "smoke", false, "run everything once, briefly; the figures mean nothing and are not kept")
	flag.IntVar(&b.rounds, "rounds", 5, "rounds of each contender; figures are their medians")
	flag.DurationVar(&b.length, "time", 300*time.Millisecond, "length of a round")
	flag.StringVar(&b.traces, "traces", "", "directory of access traces, for hit ratios")
	flag.StringVar(&b.dir, "out", "results", "where the report goes")
	flag.StringVar(&b.readme, "readme", "../README.md", "where a complete run puts its main table and plot; empty: nowhere")
	from := flag.String("from", "", "raw.txt of an earlier run on this machine: its rounds are taken as they are, and only what it lacks is measured")
	only := flag.String("only", "", "run only jobs whose name matches")
	flag.Parse()
	pick, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if b.rounds < 1 || b.length < time.Millisecond {
		return errors.New("-rounds must be at least 1, -time at least 1ms")
	}
	if b.smoke {
		b.rounds, b.length = 1, 5*time.Millisecond
		if b.dir, err = os.MkdirTemp("", "tandem-bench-smoke"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(b.dir) }()
	}
	if *from != "" {
		if b.earlier, err = readRaw(*from); err != nil {
			return fmt.Errorf("-from: %w", err)
		}
		if b.origin, err = readOrigin(*from); err != nil {
			return fmt.Errorf("-from: %w", err)
		}
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	if b.raw, err = os.Create(filepath.Join(b.dir, "raw.txt")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.raw.Close()) }()
	if b.redis, err = startRedis(); err != nil {
		return err
	}
	defer b.redis.stop()
	fmt.Fprintf(b.raw, "goos: %s\ngoarch: %s\npkg: github.com/tandemcache/tandem/bench\ncpu: %s\n", runtime.GOOS, runtime.GOARCH, cpuModel())
	ran := 0
	for _, j := range jobs() {
		if !pick.MatchString(j.name) {
			continue
		}
		ran++
		begun := time.Now()
		if err := j.run(b); err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		fmt.Fprintf(b.out, "\n%s took %.0f s\n", j.name, time.Since(begun).Seconds())
	}
	if ran == 0 {
		return fmt.Errorf("-only %q matches no job", *only)
	}
	if b.smoke {
		fmt.Fprintf(b.out, "\nsmoke: %d tables in %.0f s\n", len(b.tables), time.Since(b.begun).Seconds())
		return nil
	}
	o := b.from(os.Args[1:])
	if err := errors.Join(o.write(b.raw), b.report(o), b.plots()); err != nil || ran < len(jobs()) || b.readme == "" {
		return err
	}
	return b.show(o)
}

// from says where the figures are from: the earlier run, if nothing was measured.
func (b *bench) from(args []string) origin {
	if b.measured == 0 && b.origin != nil {
		return *b.origin
	}
	return origin{
		Date:    b.begun.UTC().Format("2006-01-02"),
		Command: strings.TrimSpace("make bench " + withoutPaths(args)),
		Machine: fmt.Sprintf("%d × %s, %s/%s, %s, Redis %s on the same machine",
			runtime.NumCPU(), cpuModel(), runtime.GOOS, runtime.GOARCH, runtime.Version(), b.redis.version()),
		Rounds:   fmt.Sprintf("%d rounds of %v", b.rounds, b.length),
		Versions: strings.Join(versions(), ", "),
	}
}

// withoutPaths joins arguments as the variable BENCH of make takes them. Of paths
// only the last element matters to others.
func withoutPaths(args []string) string {
	if len(args) == 0 {
		return ""
	}
	short := make([]string, len(args))
	for i, a := range args {
		flag, value, ok := strings.Cut(a, "=")
		if !ok {
			flag, value = "", a
		} else {
			flag += "="
		}
		if strings.ContainsRune(value, filepath.Separator) {
			value = filepath.Base(value)
		}
		short[i] = flag + value
	}
	return fmt.Sprintf("BENCH=%q", strings.Join(short, " "))
}

// show puts the main results into the README.
func (b *bench) show(o origin) error {
	readme, err := filepath.Abs(b.readme)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(b.dir)
	if err != nil {
		return err
	}
	results, err := filepath.Rel(filepath.Dir(readme), dir)
	if err != nil {
		return err
	}
	return writeReadme(b.readme, b.summary(o, filepath.ToSlash(results)))
}

// scale makes counts small for a smoke run.
func (b *bench) scale(n int) int {
	if b.smoke {
		return max(n/100, 10)
	}
	return n
}

// progress replaces the line at the bottom of a terminal.
func (b *bench) progress(text string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\033[K"+text, args...)
	}
}

func sortedKeys(s sample) []string { return slices.Sorted(maps.Keys(s)) }

// cpuModel names the processor.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return runtime.GOARCH
}
