package model

// background is what a node does by itself.
func (w *world) background(s0 *state, i int, out []next) []next {
	n0 := &s0.nodes[i]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("node %d: %s", i, what), state: s})
	}
	if n0.queued > 0 && n0.guard.hand == (message{}) {
		s := *s0
		add("handles a message", w.handle(s, i))
	}
	if n0.cut && !w.deaf(i) && w.contact(s0, i) {
		s := *s0
		n := &s.nodes[i]
		n.cut = false
		n.queue, n.queued = [maxMsgs]message{}, 0 // what the link before had left
		// What the other had sent meanwhile is lost, and counts as seen: the epoch says
		// that something may be missing.
		n.seen = s.nodes[1-i].sent
		n.push(message{kind: subscribed, cache: n.guard.server}) // known when it was made
		add("is subscribed again", s)
	}
	if w.Time > 0 && w.Warm && w.reads(i) && !n0.cut && n0.queued < maxMsgs && n0.heard < s0.clock && !w.pinging(n0) {
		s := *s0
		s.nodes[i].push(message{kind: ping, seq: s.clock})
		add("pings", s)
	}
	if w.gap(s0, i) {
		s := *s0
		n := &s.nodes[i]
		n.seen = s.nodes[1-i].sent
		n.shown.trust++
		add("hears a beat that counts more messages than came", s)
	}
	out = w.guards(s0, i, out)
	return w.pay(s0, i, out)
}

// reads reports whether anybody reads on the node: on another, and where memory is
// empty at first, nothing depends on what it hears.
func (w *world) reads(i int) bool {
	for _, o := range w.Ops {
		if o.Do == Read && o.On == i {
			return true
		}
	}
	return false
}

// deaf reports whether it makes no difference what the node hears.
func (w *world) deaf(i int) bool { return w.Faults.failover > 0 && !w.reads(i) }

// idle reports whether it makes no difference what the node knows.
func (w *world) idle(i int) bool {
	for _, o := range w.Ops {
		if o.On == i {
			return false
		}
	}
	return true
}

func (w *world) pinging(n *node) bool {
	for _, m := range n.queue {
		if m.kind == ping {
			return true
		}
	}
	return false
}

// gap reports whether the next beat of the other will show that messages are
// missing.
func (w *world) gap(s *state, i int) bool {
	n := &s.nodes[i]
	return w.Faults.drop > 0 && !w.off.NoSequence && !n.cut && n.queued == 0 && !s.dead[1-i] && s.nodes[1-i].sent > n.seen
}

// handle takes the first message of a queue.
func (w *world) handle(s state, i int) state {
	n := &s.nodes[i]
	m := n.pop()
	switch m.kind {
	case subscribed:
		if !w.off.NoTrustMove {
			n.shown.trust++
		}
		if m.cache == n.guard.server || w.off.AnyLinkIsNew {
			n.guard.stale = false
		}
		return s
	case ping:
		n.heard = max(n.heard, m.seq)
		return s
	}
	own := int(m.from) == i || w.off.SameID
	if !own {
		if m.seq > n.seen+1 && !w.off.NoSequence {
			n.shown.trust++ // something is missing
		}
		n.seen = max(n.seen, m.seq)
		if m.kind == keys {
			n.move()
		} else {
			w.adopt(n, m.cache)
			n.shown.void++
		}
		if w.Faults.failover > 0 {
			n.guard.hand = m // the promise holds when the guard has seen it
		} else {
			n.promised = max(n.promised, m.version)
		}
	}
	return s
}

// pay replays what is owed.
func (w *world) pay(s0 *state, i int, out []next) []next {
	n0 := &s0.nodes[i]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("node %d: %s", i, what), state: s})
	}
	if n0.owed && !n0.paying && (!n0.owedUntil || !s0.late.set || w.off.NoDeadline) {
		s := *s0
		if w.contact(&s, i) && s.publish(i, message{kind: keys, version: n0.promised}, w) {
			if w.off.ReplaySets {
				w.set(&s.record, int8(n0.promised), s.cache)
			} else {
				w.remove(&s.record)
			}
			s.executed(n0.promised)
			s.nodes[i].paying = true
			s.nodes[i].guard.paid = inRing
			add("replays what it owes", s)
		}
	}
	if n0.paying {
		s := *s0
		n := &s.nodes[i]
		n.move()
		n.guard.payment()
		n.owed, n.paying, n.owedUntil = false, false, false
		add("moves the stamp, owes nothing more", s)
	}
	return out
}

// outside is what the world does: faults, and time.
func (w *world) outside(s0 *state, out []next) []next {
	add := func(what string, s state) { out = append(out, next{label: what, state: s}) }
	b := s0.budget
	if b.cut > 0 {
		for i := range s0.nodes {
			if !s0.nodes[i].cut {
				s := *s0
				s.budget.cut--
				n := &s.nodes[i]
				n.cut = true
				n.queue, n.queued = [maxMsgs]message{}, 0
				if w.Time == 0 && !w.off.NoTrustMove {
					n.shown.trust++ // the loss is noticed; with time it may not be
				}
				add(w.label("FAULT: node %d loses its subscription", i), s)
			}
		}
	}
	if b.drop > 0 {
		for i := range s0.nodes {
			if m := s0.nodes[i].queue[0]; m.kind == keys || m.kind == cleared {
				s := *s0
				s.budget.drop--
				s.nodes[i].pop()
				add(w.label("FAULT: a message to node %d is lost", i), s)
			}
		}
	}
	if b.expire > 0 && s0.record.live() {
		s := *s0
		s.budget.expire--
		s.record.over = true
		add("FAULT: the lease is over", s)
	}
	if (s0.dead[0] || s0.dead[1]) && s0.record.open() {
		s := *s0
		s.record.over = true
		add("the bracket that a dead process left is over", s)
	}
	if s0.late.set {
		s := *s0
		s.late = late{}
		if !w.off.NoDeadline {
			add("a late Set is refused by its deadline", s)
		}
		if w.off.NoDeadline || s0.nodes[s0.late.from].owed {
			// Before its deadline it may still run; then the replay waits for it.
			a := s
			if a.publish(int(s0.late.from), message{kind: keys, version: s0.late.version}, w) {
				w.set(&a.record, int8(s0.late.version), a.cache)
				a.executed(s0.late.version)
				add("a late Set runs", a)
			}
		}
	}
	if b.failover > 0 {
		out = w.replicas(s0, out)
	}
	if w.Time > 0 && s0.clock < w.Time {
		s := *s0
		s.clock++
		add("time passes", s)
	}
	return w.crashes(s0, out)
}

// replicas lets the replica follow, or take over without what it lacks.
func (w *world) replicas(s0 *state, out []next) []next {
	if s0.replica != s0.data {
		s := *s0
		s.replica = s.data
		out = append(out, next{label: "the replica catches up", state: s})
	}
	s := *s0
	s.budget.failover--
	s.data = s.replica
	s.server++
	for i := range s.nodes {
		// Nobody publishes to the links to the old server any more; what it had sent
		// over them may still be read.
		s.nodes[i].cut = true
		if w.idle(i) {
			s.nodes[i].guard.server = s.server
		}
	}
	return append(out, next{label: "FAULT: the replica takes over", state: s})
}

func (w *world) crashes(s0 *state, out []next) []next {
	if s0.budget.crash == 0 {
		return out
	}
	for i, o := range w.Ops {
		if o.Do != Update || s0.ops[i].at == 0 || s0.ops[i].at == done || s0.dead[o.On] {
			continue
		}
		s := *s0
		s.budget.crash--
		s.dead[o.On] = true
		s.nodes[o.On] = node{}
		s.nodes[o.On].cut = true // nobody's queue
		out = append(out, next{label: w.label("FAULT: the process of op%d dies", i), state: s})
	}
	return out
}
