package model

// Points of a change.
const (
	writeCommit = iota
	writeBegin
	writeSend
	writeApart // a PUBLISH of its own
	writeEnd
)

// write is Delete, or Set.
func (w *world) write(s0 *state, i int, out []next) []next {
	o := w.Ops[i]
	s := *s0
	p, n := &s.ops[i], &s.nodes[o.On]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("op%d %v on %d: %s", i, o.Do, o.On, what), state: s})
	}
	switch p.at {
	case writeCommit:
		if o.Do == Delete {
			s.database++
			p.version = s.database
		}
		p.at = writeBegin
		if w.off.PublishFirst {
			if !s.publish(o.On, message{kind: keys}, w) {
				return out
			}
		}
		add(w.label("the database has v%d", s.database), s)
	case writeBegin:
		w.enter(n, p)
		n.move()
		p.stamp = n.shown
		p.at = writeSend
		add("begins: moves the stamp", s)
	case writeSend:
		return w.send(s0, i, out)
	case writeApart:
		a := s
		if a.publish(o.On, message{kind: keys, version: p.version}, w) {
			a.ops[i].at = writeEnd
			add("PUBLISH", a)
		}
		if s.budget.fail > 0 {
			s.budget.fail--
			p.at = writeEnd
			add("PUBLISH fails", s)
		}
	case writeEnd:
		return w.endWrite(s0, i, out)
	}
	return out
}

// send runs the script, with all that may happen to it.
func (w *world) send(s0 *state, i int, out []next) []next {
	o := w.Ops[i]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("op%d %v on %d: %s", i, o.Do, o.On, what), state: s})
	}
	if !w.contact(s0, o.On) {
		return out
	}
	s := *s0
	p := &s.ops[i]
	if o.Do == Set { // Redis' order is the truth's
		s.database++
		p.version = s.database
	}
	before := s
	apart := w.off.PublishFirst || w.off.PublishApart
	if apart || s.publish(o.On, message{kind: keys, version: p.version}, w) {
		p.token = w.execute(&s, o.Do, int8(p.version))
		s.executed(p.version)
		p.at = writeEnd
		if w.off.PublishApart {
			p.at = writeApart
		}
		add("Redis has done it", s)
		if s.budget.lost > 0 {
			a := s
			a.budget.lost--
			a.ops[i].failed, a.ops[i].at = true, writeEnd
			add("Redis has done it, the reply is lost", a)
		}
	}
	if before.budget.fail > 0 {
		a := before
		a.budget.fail--
		a.ops[i].failed, a.ops[i].at = true, writeEnd
		add("Redis cannot be asked", a)
	}
	if before.budget.late > 0 && o.Do == Set && !before.late.set {
		a := before
		a.budget.late--
		a.late = late{set: true, version: p.version, from: uint8(o.On)}
		a.ops[i].failed, a.ops[i].at = true, writeEnd
		add("times out, and may still run", a)
	}
	return out
}

// execute changes the record; true: a value was stored.
func (w *world) execute(s *state, do action, version int8) bool {
	if do == Set {
		return w.set(&s.record, version, s.cache)
	}
	w.remove(&s.record)
	return false
}

// endWrite is what the node does when Redis has answered, or has not.
func (w *world) endWrite(s0 *state, i int, out []next) []next {
	o := w.Ops[i]
	s := *s0
	p, n := &s.ops[i], &s.nodes[o.On]
	w.leave(n, p, !p.failed)
	switch {
	case p.failed:
		if !w.off.NoDebt {
			w.owe(n) // before the stamp moves
			n.owedUntil = n.owedUntil || s.late.set
		}
		n.move()
	case p.token && (n.shown == p.stamp || w.off.NoConfirm):
		n.move()
		n.put(entry{used: true, version: int8(p.version), stamp: n.shown})
	case !w.off.NoEndMove:
		n.move()
	}
	n.promised = max(n.promised, p.version)
	*p = op{at: done, value: none}
	return append(out, next{label: w.label("op%d %v on %d: returns", i, o.Do, o.On), state: s})
}

// Points of an Update.
const (
	updateBegin = iota
	updateOpen
	updateCommit
	updateClose
	updateEnd
)

func (w *world) update(s0 *state, i int, out []next) []next {
	o := w.Ops[i]
	s := *s0
	p, n := &s.ops[i], &s.nodes[o.On]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("op%d Update on %d: %s", i, o.On, what), state: s})
	}
	switch p.at {
	case updateBegin:
		w.enter(n, p)
		n.move()
		p.stamp = n.shown
		p.at = updateOpen
		add("begins: moves the stamp", s)
	case updateOpen:
		a := s
		if w.contact(&s, o.On) && (w.off.BeginSilent || a.publish(o.On, message{kind: keys}, w)) {
			w.begin(&a.record, i)
			w.leave(&a.nodes[o.On], &a.ops[i], true)
			a.ops[i].at = updateCommit
			add("opens its bracket", a)
		}
		if s.budget.fail > 0 {
			s.budget.fail--
			w.leave(n, p, false)
			w.owe(n)
			n.move()
			p.at, p.failed = updateCommit, true
			add("Redis cannot be asked: owed", s)
		}
	case updateCommit:
		s.database++
		p.version = s.database
		w.enter(n, p) // the end's message
		p.at = updateClose
		add(w.label("the database has v%d", s.database), s)
	case updateClose:
		return w.closeUpdate(s0, i, out)
	case updateEnd:
		w.leave(n, p, !p.failed)
		switch {
		case p.failed:
			w.owe(n)
			n.move()
		case p.token && n.shown == p.stamp:
			n.move()
			n.put(entry{used: true, version: int8(p.version), stamp: n.shown})
		default:
			n.move()
		}
		n.promised = max(n.promised, p.version)
		*p = op{at: done, value: none}
		add("returns", s)
	}
	return out
}

func (w *world) closeUpdate(s0 *state, i int, out []next) []next {
	o := w.Ops[i]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("op%d Update on %d: %s", i, o.On, what), state: s})
	}
	s := *s0
	p := &s.ops[i]
	if w.contact(&s, o.On) && s.publish(o.On, message{kind: keys, version: p.version}, w) {
		p.token = w.end(&s.record, i, int8(p.version), s.cache) && !p.failed
		s.executed(p.version)
		p.at = updateEnd
		add("closes its bracket", s)
		if s.budget.lost > 0 {
			a := s
			a.budget.lost--
			a.ops[i].failed = true
			add("closes its bracket, the reply is lost", a)
		}
	}
	if s0.budget.fail > 0 {
		a := *s0
		a.budget.fail--
		a.ops[i].failed, a.ops[i].at = true, updateEnd
		add("cannot close its bracket", a)
	}
	return out
}

// Points of a Clear.
const (
	clearCommit = iota
	clearBegin
	clearRaise
	clearEnd
)

func (w *world) clear(s0 *state, i int, out []next) []next {
	o := w.Ops[i]
	s := *s0
	p, n := &s.ops[i], &s.nodes[o.On]
	what := ""
	switch p.at {
	case clearCommit:
		s.database++
		p.version = s.database
		p.at = clearBegin
		what = "the database has a new version"
	case clearBegin:
		w.enter(n, p)
		n.shown.void++
		p.at = clearRaise
		what = "moves the void epoch"
	case clearRaise:
		if !w.contact(&s, o.On) || !w.raise(&s, o.On, p.version) {
			return out
		}
		p.cache = s.cache
		s.executed(p.version)
		p.at = clearEnd
		what = "raises the cache's version"
	case clearEnd:
		w.leaveClear(n, p)
		w.adopt(n, p.cache)
		n.shown.void++
		n.promised = max(n.promised, p.version)
		*p = op{at: done, value: none}
		what = "returns"
	}
	return append(out, next{label: w.label("op%d Clear on %d: %s", i, o.On, what), state: s})
}

// raise raises the cache's version in Redis, above any that the node knows.
func (w *world) raise(s *state, on int, version uint8) bool {
	raised := max(s.cache, s.nodes[on].cache) + 1
	if !s.publish(on, message{kind: cleared, version: version, cache: raised}, w) {
		return false
	}
	s.cache = raised
	return true
}

// adopt takes a version of the cache that the node is told.
func (w *world) adopt(n *node, version uint8) {
	if w.off.LastClearWins || version > n.cache {
		n.cache = version
	}
}

// owe notes a debt. A payment under way no longer settles it.
func (w *world) owe(n *node) {
	n.owed = n.owed || !w.off.NoDebt
	n.paying = n.paying && w.off.PayNewer
}
