package model

import "fmt"

// Points of a read. Between two of them anything else may happen.
const (
	readBegin = iota
	readDebt
	readL2
	readReply
	readFlight
	readLease
	readLoad
	readFill
	readKeep
	readBlind
	readUnkept // load under another's lease or bracket
	readReturn
	readJoined
)

func (w *world) read(s0 *state, i int, out []next) []next {
	o := w.Ops[i]
	s := *s0
	p, n := &s.ops[i], &s.nodes[o.On]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("op%d %v on %d: %s", i, o.Do, o.On, what), state: s})
	}
	switch p.at {
	case readBegin:
		return w.beginRead(s0, i, out)
	case readDebt:
		p.at = readL2
		if (n.owed || n.guard.barred || n.guard.clears != 0) && !w.off.NoDebtBar {
			p.at = readBlind
		}
		add("looks at debts", s)
	case readL2:
		if !w.contact(&s, o.On) {
			return out
		}
		p.value = none
		p.cache = n.cache
		if !w.hears(&s, n) || w.Faults.failover > 0 {
			p.cache = max(n.cache, s.cache) // read along
		}
		if s.record.kind == value && s.record.cache == p.cache {
			p.value = s.record.version
		}
		p.at = readReply
		add(w.label("reads L2: v%d", p.value), s)
	case readReply:
		return w.readReply(s0, i, out)
	case readFlight:
		return w.readFlight(s0, i, out)
	case readLease:
		return w.readLease(s0, i, out)
	case readLoad, readBlind, readUnkept:
		p.value = int8(s.database)
		switch {
		case p.at == readLoad:
			p.at = readFill
		case p.at == readUnkept && w.off.KeepUnderBracket:
			p.at = readKeep
		default:
			p.at = readReturn
		}
		add(w.label("loads v%d", p.value), s)
	case readFill:
		return w.readFill(s0, i, out)
	case readKeep:
		st := p.stamp
		if w.off.StampAfterRead {
			st = n.shown
		}
		if st == n.shown {
			n.put(entry{used: true, version: p.value, stamp: st})
		}
		p.at = readReturn
		add("keeps what it has if its stamp is current", s)
	case readReturn:
		broken := w.finish(&s, i)
		add(w.label("returns v%d", s.ops[i].value), s)
		out[len(out)-1].broken = broken
	}
	return out
}

// beginRead looks at memory, which returns what it likes.
func (w *world) beginRead(s0 *state, i int, out []next) []next {
	on := w.Ops[i].On
	n := &s0.nodes[on]
	promise := max(n.promised, w.bound(s0))
	for _, e := range n.memory {
		if !e.used || !w.servable(s0, n, e) {
			continue
		}
		s := *s0
		s.ops[i].promise, s.ops[i].value = promise, e.version
		broken := w.finish(&s, i)
		out = append(out, next{label: w.label("op%d Read on %d: hits v%d in memory", i, on, e.version), state: s, broken: broken})
	}
	s := *s0
	p := &s.ops[i]
	p.promise = promise
	p.stamp = n.shown
	p.at = readDebt
	return append(out, next{label: w.label("op%d Read on %d: begins, takes the stamp", i, on), state: s})
}

// bound is the version that is written for longer than staleness may last.
func (w *world) bound(s *state) uint8 {
	var v uint8
	if w.Time == 0 {
		return 0
	}
	for i := 1; i < len(s.when); i++ {
		if s.when[i] != 0 && s.when[i]-1+limit < s.clock {
			v = uint8(i)
		}
	}
	return v
}

// finish ends a read, and those that had joined it.
func (w *world) finish(s *state, i int) (broken string) {
	p := &s.ops[i]
	broken = w.judge(s, i)
	for j := range w.Ops {
		q := &s.ops[j]
		if q.at == readJoined && q.joined == uint8(i)+1 && w.Ops[j].Do == Read {
			q.value = p.value
			if b := w.judge(s, j); broken == "" {
				broken = b
			}
			*q = op{at: done, value: q.value}
		}
	}
	n := &s.nodes[w.Ops[i].On]
	if n.flight.leader == uint8(i)+1 {
		n.flight = flight{}
	}
	*p = op{at: done, value: p.value}
	return broken
}

func (w *world) judge(s *state, i int) string {
	p := &s.ops[i]
	if p.value >= int8(p.promise) || w.AtRest {
		return ""
	}
	return fmt.Sprintf("op%d on node %d returned v%d, promised was v%d", i, w.Ops[i].On, p.value, p.promise)
}

func (w *world) readReply(s0 *state, i int, out []next) []next {
	s := *s0
	p, n := &s.ops[i], &s.nodes[w.Ops[i].On]
	add := func(what string) {
		out = append(out, next{label: w.label("op%d Read: %s", i, what), state: s})
	}
	if (p.stamp.trust != n.shown.trust || p.stamp.void != n.shown.void) && !w.off.NoTrustCheck {
		p.looks++
		p.stamp = n.shown
		p.at = readDebt
		if p.looks > 1 {
			p.at = readBlind
		}
		add("an epoch moved: looks again")
		return out
	}
	if p.value != none {
		p.at = readKeep
		add("L2 had it")
		return out
	}
	p.at = readFlight
	add("L2 had nothing")
	return out
}

func (w *world) readFlight(s0 *state, i int, out []next) []next {
	s := *s0
	p, n := &s.ops[i], &s.nodes[w.Ops[i].On]
	f := &n.flight
	join := f.leader != 0 && (w.off.JoinAnyFlight || f.stamp == n.shown) &&
		(w.Time == 0 || w.off.JoinOldFlight || s.clock < f.since+limit)
	what := "leads a flight"
	if join {
		p.at, p.joined = readJoined, f.leader
		what = w.label("joins the flight of op%d", f.leader-1)
	} else {
		*f = flight{leader: uint8(i) + 1, stamp: p.stamp, since: s.clock}
		p.at = readLease
		if w.off.NoLease {
			p.at = readLoad
		}
	}
	return append(out, next{label: w.label("op%d Read: %s", i, what), state: s})
}

func (w *world) readLease(s0 *state, i int, out []next) []next {
	s := *s0
	p, n := &s.ops[i], &s.nodes[w.Ops[i].On]
	if !w.contact(&s, w.Ops[i].On) {
		return out
	}
	answer := w.lease(&s.record, i, p.cache)
	switch answer {
	case leaseGranted:
		p.at = readLoad
	case leaseBarred:
		p.at = readUnkept
	default:
		// Busy: it waits and looks again, in the end loads without storing.
		p.looks++
		p.stamp = n.shown
		p.at = readDebt
		if p.looks > 1 {
			p.at = readBlind
		}
	}
	what := [...]string{"gets the lease", "finds the lease taken", "finds a bracket", "finds a change"}[answer]
	return append(out, next{label: w.label("op%d Read: %s", i, what), state: s})
}

func (w *world) readFill(s0 *state, i int, out []next) []next {
	add := func(what string, at uint8, change func(s *state)) {
		s := *s0
		change(&s)
		s.ops[i].at = at
		out = append(out, next{label: w.label("op%d Read: %s", i, what), state: s})
	}
	p := &s0.ops[i]
	if n := &s0.nodes[w.Ops[i].On]; n.owed || n.guard.barred || n.guard.clears != 0 {
		add("owes the key: does not fill", readReturn, func(*state) {})
		return out
	}
	if !w.contact(s0, w.Ops[i].On) {
		return out
	}
	filled := false
	fill := func(s *state) {
		filled = w.fill(&s.record, i, p.value, p.cache)
	}
	probe := *s0
	fill(&probe)
	if filled {
		add("fills L2", readKeep, fill)
	} else {
		add("is refused the fill", readReturn, func(*state) {})
	}
	if s0.budget.lost > 0 {
		add("fills, the reply is lost", readReturn, func(s *state) { s.budget.lost--; fill(s) })
	}
	return out
}
