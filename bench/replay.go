package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// readRaw reads the rounds of an earlier run, by the name of the benchmark.
func readRaw(file string) (map[string][]sample, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	rounds := make(map[string][]sample)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		name, ok := strings.CutPrefix(line, "Benchmark")
		if !ok || len(fields) < 2 {
			continue
		}
		name, _, _ = strings.Cut(name, " ")
		s := sample{}
		for i := 1; i < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %q: %w", file, strings.TrimSpace(line), err)
			}
			unit := "ops" // the number of calls has none
			switch {
			case i == 1:
				i--
			case i+1 < len(fields):
				unit = fields[i+1]
			}
			s[unit] = v
		}
		rounds[name] = append(rounds[name], s)
	}
	return rounds, nil
}

// known returns the rounds that an earlier run has of a benchmark.
func (b *bench) known(name string) []sample { return slices.Clone(b.earlier[name]) }

// hitRatioOf splits the name of a benchmark of hit ratios.
func hitRatioOf(benchmark string) (trace string, capacity int, ok bool) {
	rest, ok := strings.CutPrefix(benchmark, "HitRatio/trace=")
	if !ok {
		return "", 0, false
	}
	trace, rest, _ = strings.Cut(rest, "/capacity=")
	number, _, _ := strings.Cut(rest, "/")
	capacity, err := strconv.Atoi(number)
	return trace, capacity, err == nil
}

// earlierTraces names the traces of the earlier run that this one has not replayed.
func (b *bench) earlierTraces() []string {
	names := map[string]bool{}
	for benchmark := range b.earlier {
		if trace, _, ok := hitRatioOf(benchmark); ok {
			names[trace] = true
		}
	}
	for _, t := range b.tables {
		delete(names, strings.TrimPrefix(t.title, "Hit ratio: "))
	}
	return slices.Sorted(maps.Keys(names))
}

// earlierCapacities returns at which capacities, and in how many rounds, the earlier
// run replayed a trace: nil if it was cut off in it.
func (b *bench) earlierCapacities(trace string) (capacities []int, rounds int) {
	for benchmark, samples := range b.earlier {
		if of, capacity, ok := hitRatioOf(benchmark); ok && of == trace {
			capacities = append(capacities, capacity)
			rounds = max(rounds, len(samples))
		}
	}
	slices.Sort(capacities)
	capacities = slices.Compact(capacities)
	for _, capacity := range capacities {
		for _, name := range ratioPeers() {
			if len(b.earlier["HitRatio/"+ratioParams(trace, capacity)+"/peer="+name]) != rounds {
				return nil, 0
			}
		}
	}
	return capacities, rounds
}

// origin says where figures are from: it stands in raw.txt, in lines that benchstat
// passes over, so that a report made of them does not claim to be newer.
type origin struct {
	Date, Command, Machine, Rounds, Versions string
}

const originMark = "# origin: "

func (o origin) write(w io.Writer) error {
	text, err := json.Marshal(o)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s%s\n", originMark, text)
	}
	return err
}

// readOrigin returns nil if the file has none.
func readOrigin(file string) (*origin, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if line, ok := strings.CutPrefix(line, originMark); ok {
			o := new(origin)
			return o, json.Unmarshal([]byte(line), o)
		}
	}
	return nil, nil
}
