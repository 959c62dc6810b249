package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// contender is one row of a table: a peer at one job.
type contender struct {
	peer   string
	params string // "value=user/dist=zipf", as benchstat writes it
	// open, if not nil, prepares for the rounds, before the first of any contender;
	// it is called for each job of a peer, and not if no round is to be run.
	open  func() error
	round func() (sample, error)
	// sliced, if not nil, makes a round be cut into slices, each a call of round.
	sliced *sliced
}

// table is a job and what the contenders came to.
type table struct {
	name    string   // of the benchmark: "L1Hit"
	title   string   // for people
	about   string   // what is measured, and how
	columns []string // units to show, the first is the one that ratios are of
	base    string   // the peer that others are compared with
	better  string   // "less" or "more" of the first column
	// parallel is how many rounds run at a time, 1 if it is 0: more only where time
	// is not what is measured.
	parallel int
	rows     []row
}

type row struct {
	contender
	samples []sample
	earlier int // samples of an earlier run
}

// value is the median of one unit.
func (r *row) value(unit string) float64 { return median(r.all(unit)) }

func (r *row) all(unit string) []float64 {
	var v []float64
	for _, s := range r.samples {
		if x, ok := s[unit]; ok {
			v = append(v, x)
		}
	}
	return v
}

// run measures the contenders and prints what they came to.
func (t *table) run(b *bench, contenders []contender) error {
	if err := t.measure(b, contenders); err != nil {
		return err
	}
	t.done(b)
	return nil
}

// measure adds contenders to the table. It runs each in rounds, unless an earlier
// run has them.
func (t *table) measure(b *bench, contenders []contender) error {
	rows := make([]*row, len(contenders))
	for i, c := range contenders {
		rows[i] = &row{contender: c}
		r := rows[i]
		if strings.ContainsAny(t.fullName(r), " \t\n") {
			return fmt.Errorf("%q is no name that benchstat reads", t.fullName(r))
		}
		r.samples = b.known(t.fullName(r))
		r.earlier = len(r.samples)
		if c.open != nil && r.earlier < r.rounds(b) {
			if err := c.open(); err != nil {
				return fmt.Errorf("%s: %s: %w", t.name, c.peer, err)
			}
		}
	}
	turns := make(chan *row)
	errs := make([]error, max(t.parallel, 1))
	var mu sync.Mutex // guards rows and what is written
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for r := range turns {
				if errs[w] == nil {
					errs[w] = t.turn(b, r, &mu)
				}
			}
		})
	}
	for _, r := range rows {
		for _, s := range r.samples {
			t.raw(b.raw, r, s)
		}
	}
	for _, group := range groups(rows) {
		for round := range group[0].rounds(b) {
			for i := range group {
				if r := group[(i+round)%len(group)]; round >= r.earlier {
					turns <- r
				}
			}
		}
	}
	close(turns)
	wg.Wait()
	for _, r := range rows {
		t.pool(b, r)
		t.rows = append(t.rows, *r)
	}
	return errors.Join(errs...)
}

// rounds is how many there are, or slices.
func (r *row) rounds(b *bench) int {
	if r.sliced != nil {
		return b.rounds * r.sliced.perRound()
	}
	return b.rounds
}

// groups returns which rows take turns with each other, in an order that rotates:
// with slices those of one job, so that they are close in time, else all.
func groups(rows []*row) [][]*row {
	all := [][]*row{nil} // the first are those of rounds
	at := map[string]int{}
	for _, r := range rows {
		if r.sliced == nil {
			all[0] = append(all[0], r)
			continue
		}
		i, ok := at[r.params]
		if !ok {
			i, all = len(all), append(all, nil)
			at[r.params] = i
		}
		all[i] = append(all[i], r)
	}
	if len(all[0]) == 0 {
		return all[1:]
	}
	return all
}

// pool adds a sample of what is of all slices.
func (t *table) pool(b *bench, r *row) {
	if r.sliced == nil || len(r.sliced.times) == 0 {
		return
	}
	s := percentiles(r.sliced.times)
	s["ops"] = float64(len(r.sliced.times))
	r.samples = append(r.samples, s)
	t.raw(b.raw, r, s)
}

// turn runs a round.
func (t *table) turn(b *bench, r *row, mu *sync.Mutex) error {
	s, err := r.round()
	if err != nil {
		return fmt.Errorf("%s: %s: %w", t.fullName(r), r.peer, err)
	}
	mu.Lock()
	defer mu.Unlock()
	r.samples = append(r.samples, s)
	b.measured++
	b.progress("%s %d/%d: %s %s", t.name, len(r.samples), r.rounds(b), r.peer, r.params)
	t.raw(b.raw, r, s)
	return nil
}

// done prints the table.
func (t *table) done(b *bench) {
	b.tables = append(b.tables, t)
	b.progress("")
	fmt.Fprintf(b.out, "\n%s\n\n", t.title)
	t.print(b.out)
}

func (t *table) fullName(r *row) string {
	name := t.name
	if r.params != "" {
		name += "/" + r.params
	}
	return name + "/peer=" + r.peer
}

// raw writes a line that benchstat reads.
func (t *table) raw(w io.Writer, r *row, s sample) {
	fmt.Fprintf(w, "Benchmark%s %d", t.fullName(r), max(int64(s["ops"]), 1))
	for _, unit := range sortedKeys(s) {
		if unit != "ops" {
			fmt.Fprintf(w, " %.4g %s", s[unit], unit)
		}
	}
	fmt.Fprintln(w)
}

// print writes the table as Markdown.
func (t *table) print(w io.Writer) {
	head := []string{"peer", "job"}
	head = append(head, t.columns...)
	head = append(head, "±", "against "+t.base)
	rows := [][]string{head}
	for i := range t.rows {
		r := &t.rows[i]
		line := []string{r.peer, strings.ReplaceAll(r.params, "/", " ")}
		for _, unit := range t.columns {
			line = append(line, format(r.value(unit), unit))
		}
		line = append(line, fmt.Sprintf("%.0f %%", 100*spread(r.all(t.columns[0]))), t.ratio(r))
		rows = append(rows, line)
	}
	writeTable(w, rows)
}

// ratio says how r does against the base at the same job.
func (t *table) ratio(r *row) string {
	base := t.find(t.base, r.params)
	if base == nil || base.value(t.columns[0]) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", r.times(base, t.columns[0]))
}

// times returns how many times the base's value r's is. Slices are compared each with
// that of the same turn, which had the same machine.
func (r *row) times(base *row, unit string) float64 {
	mine, theirs := r.all(unit), base.all(unit)
	if r.sliced == nil || len(mine) != len(theirs) {
		return median(mine) / median(theirs)
	}
	for i := range mine {
		mine[i] /= theirs[i]
	}
	return median(mine)
}

func (t *table) find(peer, params string) *row {
	for i := range t.rows {
		if t.rows[i].peer == peer && t.rows[i].params == params {
			return &t.rows[i]
		}
	}
	return nil
}

// writeTable aligns cells.
func writeTable(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, cell := range r {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	for n, r := range rows {
		for i, cell := range r {
			pad := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if i > 1 {
				cell, pad = pad+cell, ""
			}
			fmt.Fprintf(w, "| %s%s ", cell, pad)
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for i, width := range widths {
				line := strings.Repeat("-", width)
				if i > 1 {
					line = line[1:] + ":"
				}
				fmt.Fprintf(w, "| %s ", line)
			}
			fmt.Fprintln(w, "|")
		}
	}
}

// format writes a value as people read it.
func format(v float64, unit string) string {
	switch {
	case strings.Contains(unit, "ns"):
		d := time.Duration(v)
		switch {
		case v < 1000:
			return fmt.Sprintf("%.3g ns", v)
		case d < time.Millisecond:
			return fmt.Sprintf("%.3g µs", v/1e3)
		}
		return fmt.Sprintf("%.4g ms", v/1e6)
	case unit == "%":
		return fmt.Sprintf("%.2f %%", v)
	case v >= 10_000:
		return fmt.Sprintf("%.0f k", v/1000)
	case v == float64(int64(v)):
		return fmt.Sprintf("%d", int64(v))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
