package main

import (
	"fmt"
	"time"
)

// breaches says which promises the run has seen broken.
func breaches(r *report) []string {
	var found []string
	broke := func(n int, text string) {
		if n > 0 {
			found = append(found, fmt.Sprintf("%s: %d", text, n))
		}
	}
	broke(r.Broken.OwnWrite, "ReadYourWrites broke: reads answered with what the same process had replaced")
	broke(r.Broken.Late, "BoundedStaleness broke: stale reads beyond Δ")
	broke(r.Broken.LateAway, "NothingForgotten broke: stale reads beyond the bound around the outage")
	broke(r.Broken.Wrong, "Untrusted broke: answers that never were true")
	broke(r.Failed, "FailOpen broke: requests that failed")
	broke(r.Unswept, "FailOpen broke: reads at the end that failed")
	broke(r.Diverged, "NothingForgotten broke: users that are old at the end")
	broke(r.Mistaken, "the database is not what was acknowledged: users")
	broke(r.Sum.Node.Journal.Owed, "NothingForgotten broke: invalidations still owed at the end")
	if slow := slowest(r); slow > failOpenLimit {
		found = append(found, fmt.Sprintf("FailOpen broke: a read took %v, allowed are %v", slow, failOpenLimit))
	}
	if r.Leftover != nil {
		found = append(found, fmt.Sprintf("something did not end well: %v", r.Leftover))
	}
	return found
}

// failOpenLimit is the longest that a read may take at its client. FailOpen adds
// redisTimeout to a read and the loader a query; a read that waits for the lease
// of a process that lost Redis waits for its end, 2 s. The rest is room for a
// machine that is busy with other things.
const failOpenLimit = 5 * time.Second

func slowest(r *report) (most time.Duration) {
	for _, p := range r.Phases {
		most = max(most, p.HTTP.Max)
	}
	return most
}

// voids says why the run, had nothing broken, would prove nothing: a cache that
// never held what was updated cannot have served it for too long. Each line is
// something that the promises must have been tried against.
func voids(r *report) []string {
	v := voided{}
	c := leastCounts(r.Config)
	v.least(len(r.Samples), c.reads, "reads of the load")
	v.least(len(r.Updates)+len(r.ProbeUpdates), c.updates, "updates")
	v.least(len(r.ProbeUpdates), c.probes, "probes")
	v.least(r.Obeyed.Count, c.probes/2, "probes whose effect was seen with Redis there")
	v.least(r.Swept, 1, "users read once more at the end")
	v.least(r.Away, 2, "times that Redis did not answer in the outage")
	v.none(r.Answered, "times that Redis answered in the outage")
	v.least(int(r.Sum.Cache.FillsRefused), c.refused, "values that were loaded while their user was updated")
	if r.Checked < r.answered() {
		v.add("only %d of %d reads were judged", r.Checked, r.answered())
	}
	if int(r.Sum.Updates) != r.updates() {
		v.add("%d updates were acknowledged, and the services count %d", r.updates(), r.Sum.Updates)
	}
	v.least(len(r.Services), processes, "services that told their figures")
	for i := range r.Phases {
		v = append(v, r.Phases[i].lacks(r.Services)...)
	}
	return v
}

// lacks says what has not happened in a phase that is the reason for having it,
// as the requests and the counts of the services show.
func (p *phase) lacks(services []serviceStats) voided {
	v := voided{}
	in := " in the phase " + p.Name
	v.least(p.Updates+p.Probes, 1, "updates"+in)
	v.least(p.Sources[fromL1]+p.Sources[fromStale], 1, "reads from memory"+in)
	v.least(p.Sources[fromLoad], 1, "loads"+in)
	if p.Name != phaseOutage {
		v.least(p.Sources[fromL2], 1, "reads from Redis"+in)
		v.least(p.Obeyed, 1, "probes seen by the other process"+in)
	}
	for i := range services {
		s, name := &services[i], "process "+processName(i)
		switch p.Name {
		case phaseBefore:
			v.least(int(s.Cache.HitsL1), 1, "hits in the memory of "+name)
			v.least(int(s.Node.Bus.Sent), 1, "invalidations sent by "+name)
			v.least(int(s.Node.Bus.Received), 1, "invalidations received by "+name)
		case phaseOutage:
			v.least(int(s.Node.Journal.Unconfirmed), 1, "invalidations that the outage kept from Redis in "+name)
		case phaseAfter:
			v.least(int(s.Node.Journal.Paid), 1, "invalidations made up for by "+name)
		}
	}
	if all := sum(services); p.Name == phaseAfter {
		v.least(int(all.Cache.FillsRefused), 1, "values in all that were loaded while their user was updated")
	}
	return v
}

// voided collects reasons.
type voided []string

func (v *voided) add(format string, args ...any) {
	*v = append(*v, "void: "+fmt.Sprintf(format, args...))
}

func (v *voided) least(got, least int, what string) {
	if got < least {
		v.add("%d %s, at least %d are needed", got, what, least)
	}
}

func (v *voided) none(got int, what string) {
	if got > 0 {
		v.add("%d %s", got, what)
	}
}

// leastCounts are the fewest events of each kind that make a run worth judging:
// far below what the flags ask for, since a machine may be slow.
func leastCounts(c config) (least struct{ reads, updates, probes, refused int }) {
	const slower = 20
	expected := c.Duration.Seconds() * float64(c.Rate)
	if c.Rate == 0 {
		expected = c.Duration.Seconds() * 1000
	}
	least.reads = max(int(expected/slower), 10)
	least.updates = max(int(expected*updateShare/slower), 2)
	least.refused = max(int(c.Duration/duelPause/slower/10), 1) // a tenth of the duels' updates, at the very least
	least.probes = max(int(c.Duration/probeEvery/slower), 2)
	return least
}
