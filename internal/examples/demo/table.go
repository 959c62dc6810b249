package main

import (
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
)

// print writes the table and the verdict.
func (r *report) print(w io.Writer) {
	r.printPhases(w)
	r.printTiers(w)
	r.printCoherence(w)
	r.printVerdict(w)
}

// say writes text for a person. If nobody can read it, nobody can be told.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// row writes a label and right-aligned cells.
func row(w io.Writer, label string, cells ...string) {
	say(w, "  %-44s", label)
	for _, c := range cells {
		say(w, " %12s", c)
	}
	say(w, "\n")
}

// printPhases shows what the outage cost.
func (r *report) printPhases(w io.Writer) {
	each := func(label string, cell func(p *phase) string) {
		cells := make([]string, len(r.Phases))
		for i := range r.Phases {
			cells[i] = cell(&r.Phases[i])
		}
		row(w, label, cells...)
	}
	say(w, "\nREADS, and what the outage cost\n")
	each("", func(p *phase) string { return p.Name })
	each("length", func(p *phase) string { return short(p.Length) })
	each("reads a second", func(p *phase) string { return number(int(p.rate(p.Reads))) })
	for _, s := range sources() {
		each("  "+sourceNames()[s], func(p *phase) string { return percent(p.share(s)) })
	}
	each("hit ratio", func(p *phase) string { return percent(p.share(fromL1, fromL2, fromStale)) })
	each("loads from the database a second", func(p *phase) string { return number(int(p.rate(p.Sources[fromLoad]))) })
	each("read at its client, p50", func(p *phase) string { return short(p.HTTP.P50) })
	each("                    p99", func(p *phase) string { return short(p.HTTP.P99) })
	each("                    longest", func(p *phase) string { return short(p.HTTP.Max) })
	each("updates a second", func(p *phase) string { return number(int(p.rate(p.Updates))) })
	each("update at its client, p50", func(p *phase) string { return short(p.Put.P50) })
	each("                      p99", func(p *phase) string { return short(p.Put.P99) })
}

// sourceNames are the words of the table.
func sourceNames() map[source]string {
	return map[source]string{
		fromL1:     "from memory (L1)",
		fromL2:     "from Redis (L2)",
		fromStale:  "from memory, as Redis did not answer",
		fromLoad:   "loaded from the database",
		fromShared: "waited for the load of another",
	}
}

// printTiers shows how long each tier took.
func (r *report) printTiers(w io.Writer) {
	say(w, "\nTIERS, as the service measures them\n")
	row(w, "", "reads", "p50", "p99", "longest")
	line := func(label string, l latency) {
		row(w, label, number(l.Count), short(l.P50), short(l.P99), short(l.Max))
	}
	for _, t := range r.Tiers {
		line(sourceNames()[t.Source], t.latency)
	}
	line(fmt.Sprintf("the database alone (%v of it artificial)", r.Config.Latency), r.Query)
	line("update, then Delete (at its client)", r.Delete)
	line("update in the bracket of Update", r.Update)
}

// printCoherence shows what the promises came to.
func (r *report) printCoherence(w io.Writer) {
	say(w, "\nCOHERENCE, over %s\n", r.Redis)
	row(w, "updates acknowledged: load, probes, duels", number(len(r.Updates)), number(len(r.ProbeUpdates)), number(len(r.DuelUpdates)))
	row(w, "invalidations sent / received", number(int(r.Sum.Node.Bus.Sent)), number(int(r.Sum.Node.Bus.Received)))
	row(w, "invalidations owed over the outage / made up for",
		number(int(r.Sum.Node.Journal.Unconfirmed)), number(int(r.Sum.Node.Journal.Paid)))
	row(w, "loads collapsed", number(int(r.Sum.Cache.Collapsed)))
	row(w, "loads that an update overtook: not stored", number(int(r.Sum.Cache.FillsRefused)))
	row(w, "the other process obeyed after, p50 / p99", short(r.Obeyed.P50), short(r.Obeyed.P99))
	row(w, "longest time an old value was still served", short(r.Lag.Usual), "Δ "+short(r.Limits.Delta))
	row(w, "  of updates that the outage concerned", short(r.Lag.Away),
		"limit "+short(r.Config.Outage+r.Limits.Replay+r.Limits.Delta))
	row(w, "reads judged, of them old", number(r.Checked), number(r.Lag.Old))
	row(w, "stale reads beyond Δ", number(r.Broken.Late+r.Broken.LateAway))
	row(w, "reads of what the same process had replaced", number(r.Broken.OwnWrite))
	row(w, "answers that never were true", number(r.Broken.Wrong))
	row(w, "errors", number(r.Failed+r.Unswept))
	row(w, "updated users read at the end, of them old", number(r.Swept), number(r.Diverged))
}

func (r *report) printVerdict(w io.Writer) {
	if len(r.Verdict) == 0 {
		say(w, "\nEvery promise held.\n")
		return
	}
	say(w, "\nFAILED\n")
	for _, list := range [][]string{r.Verdict, r.Faults, r.Failures} {
		for _, line := range list {
			say(w, "  %s\n", line)
		}
	}
}

func number(n int) string { return humanize.Comma(int64(n)) }

func percent(share float64) string {
	if share == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", share*100)
}

// short writes a duration with three digits that count.
func short(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return digits(float64(d)/float64(time.Microsecond)) + " µs"
	case d < time.Second:
		return digits(float64(d)/float64(time.Millisecond)) + " ms"
	}
	return digits(d.Seconds()) + " s"
}

func digits(f float64) string {
	switch {
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}
