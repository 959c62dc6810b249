package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"

	"github.com/tandemcache/tandem/bench/peer"
	"github.com/tandemcache/tandem/tier"
)

// ratioEntryBytes is what a value counts in the budget of a Tandem cache here, so
// that a number of entries can be turned into a budget.
const ratioEntryBytes = 1024

// What a complete run is held to, so that it ends within minutes.
const (
	ratioAccesses = 500_000 // of each trace, from its beginning
	ratioRounds   = 3
	// Replays at a time. Two leave no processor to the goroutines in which peers keep
	// their books: oltp at 1 % of its keys then comes to 24.9 (ristretto), 33.9 (Tandem)
	// and 41.8 % (otter), instead of 29.5, 39.3 and 42.7.
	ratioParallel = 1
)

// hitRatios replays traces against caches of growing capacity.
func hitRatios(b *bench) error {
	most := b.scale(ratioAccesses)
	found, err := readTraces(b.traces, most)
	if err != nil {
		return err
	}
	for _, tr := range slices.Concat([]trace{zipfTrace(0.9, most), zipfTrace(1.1, most)}, found) {
		if err := tr.measure(b); err != nil {
			return err
		}
	}
	for _, name := range b.earlierTraces() {
		if err := (&trace{name: name}).measure(b); err != nil {
			return err
		}
	}
	if b.traces == "" {
		fmt.Fprintln(b.out, "\nNo directory of traces was given (-traces): Zipf only.")
	} else if len(found) == 0 {
		return fmt.Errorf("no traces in %s", b.traces)
	}
	return nil
}

func ratioPeers() []string { return []string{"ristretto", "tandem", "otter", "theine", "golang-lru"} }

func ratioParams(name string, capacity int) string {
	return fmt.Sprintf("trace=%s/capacity=%d", name, capacity)
}

// measure makes the table of a trace. One that an earlier run has replayed to the end
// is taken as it was; rounds of two lengths must not be mixed.
func (t *trace) measure(b *bench) error {
	tab := &table{
		name: "HitRatio", title: "Hit ratio: " + t.name, parallel: ratioParallel,
		columns: []string{"%"}, base: "ristretto", better: "more",
	}
	once := *b
	once.rounds = min(b.rounds, ratioRounds)
	capacities, rounds := b.earlierCapacities(t.name)
	if capacities != nil {
		once.rounds = rounds
	} else {
		once.earlier = nil
		for _, share := range []float64{0.01, 0.05, 0.25} {
			if c := int(share * float64(t.distinct())); c >= 64 {
				capacities = append(capacities, c)
			}
		}
	}
	var all []contender
	for _, capacity := range capacities {
		for _, name := range ratioPeers() {
			all = append(all, contender{
				peer: name, params: ratioParams(t.name, capacity),
				round: func() (sample, error) { return t.ratio(name, capacity) },
			})
		}
	}
	if err := tab.measure(&once, all); err != nil {
		return err
	}
	b.measured = once.measured
	accesses, keys := 0.0, ""
	if len(tab.rows) > 0 {
		accesses = tab.rows[0].value("ops")
		if n := tab.rows[0].value("keys"); n > 0 {
			keys = fmt.Sprintf(" to %.0f keys", n)
		}
	}
	tab.about = fmt.Sprintf("The first %.0f accesses%s, by one goroutine, %s; a miss is a Set. %d rounds. Capacity in entries; Tandem's budget is what so many entries take by its own count, and its tables; while puts are queued it may hold more, see NOTES.md.",
		accesses, keys, atATime(ratioParallel), once.rounds)
	tab.done(b)
	return nil
}

func atATime(replays int) string {
	if replays == 1 {
		return "one replay at a time"
	}
	return fmt.Sprintf("%d replays at a time", replays)
}

// trace is a sequence of accesses.
type trace struct {
	name string
	keys []string
	seen int // different keys
}

func (t *trace) distinct() int {
	if t.seen == 0 {
		seen := map[string]struct{}{}
		for _, k := range t.keys {
			seen[k] = struct{}{}
		}
		t.seen = len(seen)
	}
	return t.seen
}

// zipfTrace draws by inverse weights, since math/rand's Zipf wants an exponent
// above 1.
func zipfTrace(exponent float64, n int) trace {
	const keys = 100_000
	rng := rand.New(rand.NewPCG(7, 7))
	weights := make([]float64, keys)
	sum := 0.0
	for i := range weights {
		sum += math.Pow(float64(i+1), -exponent)
		weights[i] = sum
	}
	names := makeKeys(keys)
	t := trace{name: fmt.Sprintf("zipf-%.1f", exponent), keys: make([]string, n)}
	for i := range t.keys {
		at, _ := slices.BinarySearch(weights, rng.Float64()*sum)
		t.keys[i] = names[min(at, keys-1)]
	}
	return t
}

func (t *trace) ratio(name string, capacity int) (s sample, err error) {
	if name == "tandem" {
		return t.tandemRatio(capacity)
	}
	var c peer.Cache[int]
	for _, p := range peer.Memory[int]() {
		if p.Name == name {
			c, err = p.Open(peer.Env{Entries: capacity})
		}
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx := context.Background()
	hits := 0
	for i, key := range t.keys {
		if _, ok, _ := c.Get(ctx, key); ok {
			hits++
		} else if err := c.Set(ctx, key, i); err != nil {
			return nil, err
		}
	}
	return t.sample(hits), nil
}

// tandemRatio counts hits of the memory alone; behind it stands the in-process
// store of a node without Redis, which is given all keys beforehand.
func (t *trace) tandemRatio(capacity int) (s sample, err error) {
	env := peer.Env{Name: "ratio"}
	want := int64(capacity) * tandemEntry()
	c, err := openRatio(env, want)
	// Its tables are in its budget, and not in that of any other peer.
	for more := want; err == nil && c.(stater).Stats().BytesLimit < want; {
		more += want - c.(stater).Stats().BytesLimit
		err = c.Close()
		if err == nil {
			c, err = openRatio(env, more)
		}
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	loader := c.(peer.Loader[int])
	ctx := context.Background()
	for i, key := range t.keys {
		if _, err := loader.Load(ctx, key, func(context.Context) (int, error) { return i, nil }); err != nil {
			return nil, err
		}
	}
	stats := c.(stater).Stats()
	return t.sample(int(stats.HitsL1)), nil
}

type stater interface{ Stats() tier.Stats }

func openRatio(env peer.Env, maxBytes int64) (peer.Cache[int], error) {
	return peer.OpenTandem(env, tier.Options[int]{
		TTL: peer.TTL, Cost: func(int) int64 { return ratioEntryBytes }, Local: tier.Local{MaxBytes: maxBytes},
	})
}

// tandemEntry is what one entry takes of a budget: measured, since the overhead is
// Tandem's own affair.
func tandemEntry() int64 {
	c, err := openRatio(peer.Env{Name: "probe"}, 64<<20)
	if err != nil {
		return ratioEntryBytes
	}
	defer func() { _ = c.Close() }()
	for _, key := range makeKeys(100) {
		_ = c.Set(context.Background(), key, 1)
	}
	s := c.(stater).Stats()
	if s.Entries == 0 {
		return ratioEntryBytes
	}
	return s.Bytes / s.Entries
}

func (t *trace) sample(hits int) sample {
	n := float64(len(t.keys))
	return sample{"ops": n, "%": 100 * float64(hits) / n, "keys": float64(t.seen)}
}

// readTraces reads what it knows from a directory: text of ARC (first block, number
// of blocks, ignored, sequence number a line) and big-endian 64-bit keys.
func readTraces(dir string, most int) (all []trace, err error) {
	if dir == "" {
		return nil, nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		var open func(io.Reader) (io.Reader, error)
		switch filepath.Ext(file) {
		case ".gz":
			open = func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
		case ".xz":
			open = func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }
		default:
			continue
		}
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		keys, err := readTrace(file, open, strings.HasPrefix(name, "oltp") || name == "p3", most)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, trace{name: name, keys: keys})
	}
	return all, nil
}

func readTrace(file string, open func(io.Reader) (io.Reader, error), text bool, most int) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	r, err := open(bufio.NewReader(f))
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(r)
	names := map[int64]string{}
	var keys []string
	add := func(n int64) {
		name, ok := names[n]
		if !ok {
			name = fmt.Sprintf("k%d", n)
			names[n] = name
		}
		keys = append(keys, name)
	}
	for len(keys) < most {
		if text {
			var first, count, ignored, number int64
			if _, err := fmt.Fscanln(in, &first, &count, &ignored, &number); err != nil {
				return keys, notEOF(err)
			}
			for i := range count {
				add(first + i)
			}
			continue
		}
		var n int64
		if err := binary.Read(in, binary.BigEndian, &n); err != nil {
			return keys, notEOF(err)
		}
		add(n)
	}
	return keys, nil
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
