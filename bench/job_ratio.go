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

// hitRatios replays traces against caches of growing capacity.
func hitRatios(b *bench) error {
	traces := []trace{zipfTrace(0.9, b.scale(1_000_000)), zipfTrace(1.1, b.scale(1_000_000))}
	found, err := readTraces(b.traces, b.scale(2_000_000))
	if err != nil {
		return err
	}
	traces = append(traces, found...)
	for _, tr := range traces {
		t := &table{
			name: "HitRatio", title: "Hit ratio: " + tr.name,
			about:   fmt.Sprintf("%d accesses to %d keys by one goroutine; a miss is a Set. Capacity in entries; Tandem's budget is what so many entries take by its own count.", len(tr.keys), tr.distinct()),
			columns: []string{"%"}, base: "ristretto", better: "more",
		}
		var all []contender
		for _, share := range []float64{0.001, 0.01, 0.05, 0.1, 0.25} {
			capacity := int(share * float64(tr.distinct()))
			if capacity < 64 {
				continue
			}
			for _, name := range []string{"ristretto", "tandem", "otter", "theine", "golang-lru"} {
				all = append(all, contender{
					peer: name, params: fmt.Sprintf("trace=%s/capacity=%d", tr.name, capacity),
					round: func() (sample, error) { return tr.ratio(name, capacity) },
				})
			}
		}
		once := *b
		once.rounds = min(b.rounds, 3)
		err := t.run(&once, all)
		b.tables = once.tables
		if err != nil {
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

// trace is a sequence of accesses.
type trace struct {
	name string
	keys []string
}

func (t *trace) distinct() int {
	seen := map[string]struct{}{}
	for _, k := range t.keys {
		seen[k] = struct{}{}
	}
	return len(seen)
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
	return ratioSample(hits, len(t.keys)), nil
}

// tandemRatio counts hits of the memory alone; behind it stands the in-process
// store of a node without Redis, which is given all keys beforehand.
func (t *trace) tandemRatio(capacity int) (s sample, err error) {
	env := peer.Env{Name: "ratio"}
	c, err := peer.OpenTandem(env, tier.Options[int]{
		TTL: peer.TTL, Cost: func(int) int64 { return ratioEntryBytes },
		Local: tier.Local{MaxBytes: int64(capacity) * tandemEntry()},
	})
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
	stats := c.(interface{ Stats() tier.Stats }).Stats()
	return ratioSample(int(stats.HitsL1), len(t.keys)), nil
}

// tandemEntry is what one entry takes of a budget: measured, since the overhead is
// Tandem's own affair.
func tandemEntry() int64 {
	c, err := peer.OpenTandem(peer.Env{Name: "probe"}, tier.Options[int]{
		TTL: peer.TTL, Cost: func(int) int64 { return ratioEntryBytes }, Local: tier.Local{MaxBytes: 64 << 20},
	})
	if err != nil {
		return ratioEntryBytes
	}
	defer func() { _ = c.Close() }()
	for _, key := range makeKeys(100) {
		_ = c.Set(context.Background(), key, 1)
	}
	s := c.(interface{ Stats() tier.Stats }).Stats()
	if s.Entries == 0 {
		return ratioEntryBytes
	}
	return s.Bytes / s.Entries
}

func ratioSample(hits, of int) sample {
	return sample{"ops": float64(of), "%": 100 * float64(hits) / float64(of)}
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
		all = append(all, trace{name, keys})
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
