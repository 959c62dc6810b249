package model

// background is what a node does by itself.
func (w *world) background(s0 *state, i int, out []next) []next {
	n0 := &s0.nodes[i]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("node %d: %s", i, what), state: s})
	}
	if n0.queued > 0 {
		s := *s0
		add("handles a message", w.handle(s, i))
	}
	if n0.cut && n0.queued < maxMsgs {
		s := *s0
		n := &s.nodes[i]
		n.cut = false
		// What the other had sent meanwhile is lost, and counts as seen: the epoch says
		// that something may be missing.
		n.seen = s.nodes[1-i].sent
		n.push(message{kind: subscribed})
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
	if n0.server != s0.server {
		s := *s0
		w.meet(&s, &s.nodes[i])
		add("looks at the server: it is another", s)
	}
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
			n.received = true
			n.barred = false // its origin has sent it again
		} else {
			w.adopt(n, m.cache)
			n.shown.void++
		}
		n.promised = max(n.promised, m.version)
	}
	return s
}

// pay replays what is owed, and ends a bar whose origin stays silent.
func (w *world) pay(s0 *state, i int, out []next) []next {
	n0 := &s0.nodes[i]
	add := func(what string, s state) {
		out = append(out, next{label: w.label("node %d: %s", i, what), state: s})
	}
	if n0.owed && !n0.paying && (!n0.owedUntil || !s0.late.set || w.off.NoDeadline) {
		s := *s0
		w.meet(&s, &s.nodes[i])
		if s.publish(i, message{kind: keys, version: n0.promised}, w) {
			if w.off.ReplaySets {
				w.set(&s.record, int8(n0.promised), s.cache)
			} else {
				w.remove(&s.record)
			}
			s.executed(n0.promised)
			s.nodes[i].paying = true
			add("replays what it owes", s)
		}
	}
	if n0.paying {
		s := *s0
		n := &s.nodes[i]
		n.move()
		n.owed, n.paying, n.owedUntil = false, false, false
		add("moves the stamp, owes nothing more", s)
	}
	if n0.barred {
		// Its origin is dead, or has nothing to say: this node deletes the key itself.
		origin := 1 - i
		if s0.dead[origin] || s0.nodes[origin].server == s0.server && !s0.nodes[origin].owed && s0.nodes[i].queued == 0 {
			s := *s0
			if s.publish(i, message{kind: keys, version: n0.promised}, w) {
				w.remove(&s.record)
				n := &s.nodes[i]
				n.move()
				n.barred = false
				add("deletes a barred key itself", s)
			}
		}
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
	if s0.replica != s0.record {
		s := *s0
		s.replica = s.record
		out = append(out, next{label: "the replica catches up", state: s})
	}
	s := *s0
	s.budget.failover--
	s.record = s.replica
	s.server++
	s.replica = record{version: none}
	for i := range s.nodes { // connections to the old server end
		s.nodes[i].cut = true
		s.nodes[i].queue, s.nodes[i].queued = [maxMsgs]message{}, 0
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
