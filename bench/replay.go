package main

import (
	"fmt"
	"os"
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

// known takes a round of an earlier run, if there is one left.
func (b *bench) known(name string) (sample, bool) {
	left := b.earlier[name]
	if len(left) == 0 {
		return nil, false
	}
	b.earlier[name] = left[1:]
	return left[0], true
}
