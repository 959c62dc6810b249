package main

import (
	"time"
)

// measured is everything that one run of the demo has observed. What the table
// and the verdict say follows from it alone.
type measured struct {
	Config        config
	Redis         string        // what it is
	Created       time.Duration // how long making the database took; 0: it was there
	DatabaseBytes int64
	Limits        limits
	Begun, Ended  time.Time
	Outage        outage
	Away          int // times that Redis was asked during the outage and did not answer
	Answered      int // times that it did

	Samples []sample // reads of the load
	Probed  []sample // reads of the prober
	Dueled  []sample // reads of the duels
	Updates []timed  // updates of the load that were acknowledged
	Probes  []probe  // updates of the prober whose effect was seen

	ProbeUpdates []timed // updates of the prober that were acknowledged
	DuelUpdates  []timed // updates of the duels that were acknowledged
	Failed       int     // requests without an answer, or with an error
	Failures     []string
	Services     []serviceStats

	Checked int // reads that the checker judged
	Broken  counts
	Faults  []string

	Swept    int // users read once more at the end, through every process
	Unswept  int // of those reads, failed
	Diverged int // of those reads, answered with another version than the last
	Mistaken int // users whose version in the database is not the last one acknowledged

	Leftover error // why something that the demo had started did not end well
}

// report is what a run has shown.
type report struct {
	measured
	Phases  []phase
	Tiers   []tierLatency
	Query   latency // of the database, for a read
	Delete  latency // of an update with Delete after the commit, at its client
	Update  latency // of an update in the bracket of Update
	Obeyed  latency // from an update's answer to the first new value of the other process, Redis being there
	Lag     lag
	Sum     serviceStats // counts of all services
	Verdict []string     // what broke, or why the run proves nothing; empty: all promises held
}

// updates is how many were acknowledged.
func (m *measured) updates() int { return len(m.Updates) + len(m.ProbeUpdates) + len(m.DuelUpdates) }

// answered is how many reads were answered before the sweep.
func (m *measured) answered() int { return len(m.Samples) + len(m.Probed) + len(m.Dueled) }

// phase is a part of the run.
type phase struct {
	Name    string
	Length  time.Duration
	Reads   int
	Sources map[source]int
	Updates int     // of the load
	Probes  int     // updates of the prober
	Obeyed  int     // of them, seen by the other process
	HTTP    latency // of reads, at their client
	Put     latency // of updates, at their client
}

// rate is n a second of the phase.
func (p *phase) rate(n int) float64 {
	if p.Length <= 0 {
		return 0
	}
	return float64(n) / p.Length.Seconds()
}

// share is the part of the reads that came from any of the sources.
func (p *phase) share(from ...source) float64 {
	if p.Reads == 0 {
		return 0
	}
	n := 0
	for _, s := range from {
		n += p.Sources[s]
	}
	return float64(n) / float64(p.Reads)
}

// tierLatency is how long the service took for reads with one answer.
type tierLatency struct {
	Source source
	latency
}

// lag is the longest time for which a process still served what an
// acknowledged update had replaced.
type lag struct {
	Usual time.Duration // by updates with Redis there
	Away  time.Duration // by updates that the outage affected
	Old   int           // reads answered with an old value at all
}

// latency summarizes durations.
type latency struct {
	Count         int
	P50, P99, Max time.Duration
}

// latencyOf sorts d.
func latencyOf(d []time.Duration) latency {
	return latency{Count: len(d), P50: quantile(d, 0.50), P99: quantile(d, 0.99), Max: quantile(d, 1)}
}

// analyze says what a run has shown.
func analyze(m *measured) *report {
	r := &report{measured: *m, Phases: phasesOf(m), Sum: sum(m.Services)}
	took := make(map[source][]time.Duration)
	var queries, updates, deletes, obeyed []time.Duration
	for i := range m.Samples {
		s := &m.Samples[i]
		took[s.source] = append(took[s.source], s.cache)
		if s.source == fromLoad {
			queries = append(queries, s.query)
		}
		r.Lag.add(s)
	}
	for _, beside := range [][]sample{m.Probed, m.Dueled} {
		for i := range beside {
			r.Lag.add(&beside[i])
		}
	}
	for _, s := range sources() {
		r.Tiers = append(r.Tiers, tierLatency{s, latencyOf(took[s])})
	}
	for _, u := range m.Updates {
		if bracketed(u.id) {
			updates = append(updates, u.took)
		} else {
			deletes = append(deletes, u.took)
		}
	}
	for _, p := range m.Probes {
		if p.at.Add(p.current).Before(m.Outage.Down) || p.at.After(m.Outage.Back.Add(m.Limits.Replay)) {
			obeyed = append(obeyed, p.current)
		}
	}
	r.Query, r.Obeyed = latencyOf(queries), latencyOf(obeyed)
	r.Delete, r.Update = latencyOf(deletes), latencyOf(updates)
	r.Verdict = append(breaches(r), voids(r)...)
	return r
}

func (l *lag) add(s *sample) {
	switch v := s.verdict; {
	case v.Lag == 0:
		return
	case v.Excused:
		l.Away = max(l.Away, v.Lag)
	default:
		l.Usual = max(l.Usual, v.Lag)
	}
	l.Old++
}

// The names of the phases.
const (
	phaseBefore = "before"
	phaseOutage = "outage"
	phaseAfter  = "after"
)

// phasesOf splits the load by when a request was sent: before the outage, in it,
// and after it.
func phasesOf(m *measured) []phase {
	return []phase{
		phaseOf(m, phaseBefore, m.Begun, m.Outage.Down),
		phaseOf(m, phaseOutage, m.Outage.Down, m.Outage.Back),
		phaseOf(m, phaseAfter, m.Outage.Back, m.Ended),
	}
}

// phaseOf is the part of the run that was begun in [from, to). What was sent
// last is answered later than to.
func phaseOf(m *measured, name string, from, to time.Time) phase {
	p := phase{Name: name, Length: to.Sub(from), Sources: make(map[source]int)}
	in := func(t time.Time) bool { return !t.Before(from) && t.Before(to) }
	var gets, puts []time.Duration
	for i := range m.Samples {
		if s := &m.Samples[i]; in(s.sent) {
			p.Reads++
			p.Sources[s.source]++
			gets = append(gets, s.http)
		}
	}
	for _, u := range m.Updates {
		if in(u.sent) {
			p.Updates++
			puts = append(puts, u.took)
		}
	}
	for _, u := range m.ProbeUpdates {
		if in(u.sent) {
			p.Probes++
		}
	}
	for _, probe := range m.Probes {
		if in(probe.at) {
			p.Obeyed++
		}
	}
	p.HTTP, p.Put = latencyOf(gets), latencyOf(puts)
	return p
}

// sum adds up the counts of the services that the table shows.
func sum(services []serviceStats) (all serviceStats) {
	for i := range services {
		s := &services[i]
		all.Queries += s.Queries
		all.Updates += s.Updates
		all.Cache.Collapsed += s.Cache.Collapsed
		all.Cache.FillsRefused += s.Cache.FillsRefused
		all.Cache.Evictions += s.Cache.Evictions
		all.Cache.Entries += s.Cache.Entries
		all.Cache.Bytes += s.Cache.Bytes
		all.Node.Bus.Sent += s.Node.Bus.Sent
		all.Node.Bus.Received += s.Node.Bus.Received
		all.Node.Bus.Gaps += s.Node.Bus.Gaps
		all.Node.Journal.Unconfirmed += s.Node.Journal.Unconfirmed
		all.Node.Journal.Paid += s.Node.Journal.Paid
		all.Node.Journal.Owed += s.Node.Journal.Owed
		all.Node.ReconnectAttempts += s.Node.ReconnectAttempts
	}
	return all
}
