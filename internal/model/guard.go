package model

// guard is what a node keeps for the case that a server forgets what it had
// acknowledged. Times are counted in marks: how many the node had given out.
type guard struct {
	server uint8 // that the node knows
	midway bool  // it has met another: what is owed and barred is, the epoch has not moved

	given      uint8 // marks given out
	visit      uint8 // the mark that is on its way to the server, 0: none
	visitKnows uint8 // the server for which it is meant

	own, heard ring  // keys
	clear      ring  // own Clears
	paid       uint8 // what has become of a payment's item in the ring

	hand   message // whose stamps have moved, and that the guard has not seen yet
	stale  bool    // what is heard may come from the server of before
	noting bool    // that all is issued again is yet to be noted
	barred bool
	clears uint8 // why the clearing of the cache is owed
	raised bool  // it has been cleared, which is yet to be noted
	raises bool  // this node is the one that clears
}

// ring remembers when the last invalidation was done, and the last of those that it
// has dropped. Each is the number of marks given out by then, plus one. There is
// one key, so what was done before adds nothing.
type ring struct{ done, lost uint8 }

// What has become of an item that is under way.
const (
	inRing  = 1
	dropped = 2
)

// Why the cache is to be cleared.
const (
	byLoss   = 1 // a restart alone: one node does it for all
	byItself = 2 // an own Clear may be lost
)

// notes are what nodes leave word of on the server that took over.
type notes struct {
	issued            [nodes]bool
	clearing, cleared bool
}

func (g *guard) now() uint8 { return g.given + 1 }

func (g *guard) atRest() bool {
	return !g.midway && !g.barred && g.clears == 0 && !g.raised && g.hand == message{}
}

// contact reports whether a reply of the server may be used: the node must have met
// it before.
func (w *world) contact(s *state, node int) bool {
	g := &s.nodes[node].guard
	return g.server == s.server && !g.midway || w.off.NoGreet || w.Foreign
}

// enter remembers an own invalidation before it is sent.
func (w *world) enter(n *node, p *op) {
	if w.off.DoneWhenSent {
		n.guard.own.done = n.guard.now()
		return
	}
	if !w.off.RingLate {
		p.ring = inRing
	}
}

// leave says how it ended. What Redis did not confirm is owed by the caller.
func (w *world) leave(n *node, p *op, confirmed bool) {
	n.guard.own.settle(p.ring, confirmed && !w.off.DoneWhenSent, w.off.RingLate, n.guard.now())
	p.ring = 0
	n.guard.barred = n.guard.barred && !confirmed
}

func (w *world) leaveClear(n *node, p *op) {
	n.guard.clear.settle(p.ring, true, w.off.RingLate, n.guard.now())
	p.ring = 0
	n.guard.barred = false
}

func (r *ring) settle(item uint8, confirmed, late bool, now uint8) {
	switch {
	case !confirmed:
	case item == dropped:
		r.lost = max(r.lost, now)
	case item == inRing || late:
		r.done = max(r.done, now)
	}
}

// payment is the end of one.
func (g *guard) payment() {
	g.own.settle(g.paid, true, false, g.now())
	g.paid = 0
	g.barred = false
}

// since tells what a server may lack that shows the mark intact.
func (r *ring) since(intact uint8) (any, complete bool) {
	return r.done > intact, r.lost <= intact
}

// guards is what the guard of a node does by itself.
func (w *world) guards(s0 *state, i int, out []next) []next {
	if w.Faults.failover == 0 {
		return out
	}
	g0 := &s0.nodes[i].guard
	step := func(what string, f func(s *state, n *node, g *guard)) {
		s := *s0
		n := &s.nodes[i]
		f(&s, n, &n.guard)
		out = append(out, next{label: w.label("node %d: %s", i, what), state: s})
	}
	if g0.hand != (message{}) {
		step("its guard sees the message", w.received)
	}
	switch {
	case g0.server != s0.server && !g0.midway:
		step("meets another server: owes and bars what it may lack", func(s *state, n *node, _ *guard) { w.meet(s, i, n) })
	case g0.midway:
		step("moves its trust epoch, and renews its subscription", func(s *state, n *node, _ *guard) { w.met(s, i, n) })
	}
	w.visits(s0, i, step)
	if w.contact(s0, i) {
		w.follows(s0, i, step)
	}
	w.forgets(s0, i, step)
	return out
}

// meet is the first half of meeting another server, before any reply of it is used:
// what it may lack is owed, if it is this node's, or barred.
func (w *world) meet(s *state, i int, n *node) {
	g := &n.guard
	g.server, g.midway, g.stale = s.server, true, true
	if w.off.TrustFirst {
		n.shown.trust++
		return
	}
	w.remember(s, i, n)
}

// remember asks the rings for what is later than the mark that the server shows.
func (w *world) remember(s *state, i int, n *node) {
	g := &n.guard
	intact := s.marks[i]
	own, ownAll := g.own.since(intact)
	cleared, clearedAll := g.clear.since(intact)
	heard, heardAll := g.heard.since(intact)
	own, ownAll = own || g.paid == inRing, ownAll && g.paid != dropped
	for j := range w.Ops {
		p := &s.ops[j]
		if w.Ops[j].On != i || p.at == done {
			continue
		}
		if w.Ops[j].Do == Clear {
			cleared, clearedAll = cleared || p.ring == inRing, clearedAll && p.ring != dropped
		} else {
			own, ownAll = own || p.ring == inRing, ownAll && p.ring != dropped
		}
	}
	if all := ownAll && clearedAll && heardAll; !all && !w.off.NoClearOnLoss {
		g.clears = max(g.clears, byLoss)
	}
	if cleared && !w.off.NoReplay {
		g.clears = byItself
	}
	if own && !w.off.NoReplay {
		w.owe(n)
	}
	g.barred = g.barred || heard && !w.off.OwnOnlyBar
}

// met is the second half.
func (w *world) met(s *state, i int, n *node) {
	g := &n.guard
	if w.off.TrustFirst {
		w.remember(s, i, n)
	} else if !w.off.RestartTrusts {
		n.shown.trust++
	}
	g.midway, g.noting = false, true
	n.cut = true
	n.queue, n.queued = [maxMsgs]message{}, 0
}

// received is what the guard does about a message whose stamps have moved.
func (w *world) received(_ *state, n *node, g *guard) {
	m := g.hand
	g.hand = message{}
	if m.kind == keys {
		g.heard.done = g.now()
	}
	switch {
	case m.kind == cleared:
		g.barred = false
	case g.stale && !w.off.OldLinkLifts:
		g.barred = true
		if !w.off.OldLinkTrusts {
			n.shown.trust++
		}
	default:
		g.barred = false
	}
	n.promised = max(n.promised, m.version)
}

// visits lets the node look at the server: a script shows who it is and the node's
// mark, and leaves the next one if the server is the one that the node knows.
func (w *world) visits(s0 *state, i int, step guardStep) {
	g0 := &s0.nodes[i].guard
	back := func(g *guard) {
		if w.off.MarkWhenBack {
			g.given++
		}
		g.visit = 0
	}
	mark := func(s *state) {
		if v := &s.nodes[i].guard; v.visitKnows == s.server || w.off.BlindMark {
			s.marks[i] = v.visit
		}
	}
	switch {
	case g0.visit == 0:
		if g0.given < w.Marks && !w.idle(i) && s0.budget.failover > 0 && !g0.midway && g0.server == s0.server {
			step("sends a mark", func(_ *state, _ *node, g *guard) {
				g.visit, g.visitKnows = g.given+1, g.server
				if !w.off.MarkWhenBack {
					g.given++
				}
			})
		}
		return
	case s0.marks[i] == g0.visit:
		step("hears that its mark is written", func(_ *state, _ *node, g *guard) { back(g) })
		return
	case !w.contact(s0, i):
		return
	}
	if w.off.MarkWhenBack {
		step("its mark is written", func(s *state, _ *node, _ *guard) { mark(s) })
	} else if g0.server == s0.server {
		step("its mark is written", func(s *state, _ *node, g *guard) { mark(s); back(g) })
	}
	if s0.budget.lost > 0 {
		step("its mark is written, the reply is lost", func(s *state, _ *node, g *guard) {
			s.budget.lost--
			mark(s)
			g.visit = 0
		})
	}
}

type guardStep func(what string, f func(s *state, n *node, g *guard))

// follows is what a node does after a restart until all is issued again.
func (w *world) follows(s0 *state, i int, step guardStep) {
	n0, origin := &s0.nodes[i], 1-i
	g0 := &n0.guard
	if g0.noting && (!n0.owed && !n0.paying && g0.clears == 0 || w.off.NotedEarly) {
		step("notes that it has issued all again", func(s *state, _ *node, g *guard) {
			s.notes.issued[i] = true
			g.noting = false
		})
	}
	if g0.barred {
		if s0.notes.issued[origin] {
			step("ends the bar: its origin has issued all again", func(_ *state, _ *node, g *guard) { g.barred = false })
		} else {
			step("takes over what is barred for too long", func(_ *state, n *node, g *guard) {
				g.barred = false
				if !w.off.BarsLapse {
					w.owe(n)
				}
			})
		}
	}
	switch {
	case g0.raised:
		step("notes that the cache is cleared", func(s *state, _ *node, g *guard) { s.notes.cleared, g.raised = true, false })
	case g0.clears == byItself || g0.raises:
		step("clears the cache", func(s *state, n *node, g *guard) {
			if w.raise(s, i, n.promised) {
				s.executed(n.promised)
				w.adopt(n, s.cache)
				n.shown.void++
				g.raised = g.raises && g.clears == byLoss
				g.clears, g.raises = 0, false
			}
		})
	case g0.clears == byLoss && (s0.notes.cleared || w.off.ClearingSuffices && s0.notes.clearing):
		step("sees that the cache is cleared", func(_ *state, _ *node, g *guard) { g.clears = 0 })
	case g0.clears == byLoss:
		// It is the first, or has waited for the first for long enough.
		step("sets about clearing the cache", func(s *state, _ *node, g *guard) { s.notes.clearing, g.raises = true, true })
	}
}

// forgets lets rings drop what there is no room for.
func (w *world) forgets(s0 *state, i int, step guardStep) {
	if s0.budget.forget == 0 {
		return
	}
	step("FAULT: its ring of own invalidations is full", func(s *state, n *node, g *guard) {
		s.budget.forget--
		drop := func(item *uint8) {
			if *item == inRing {
				*item = dropped
			}
		}
		for j := range w.Ops {
			if w.Ops[j].On == i {
				drop(&s.ops[j].ring)
			}
		}
		drop(&g.paid)
		g.own.drop()
		g.clear.drop()
	})
	step("FAULT: its ring of received invalidations is full", func(s *state, _ *node, g *guard) {
		s.budget.forget--
		g.heard.drop()
	})
}

func (r *ring) drop() { r.lost, r.done = max(r.lost, r.done), 0 }

// normalGuard drops what no later failover can make matter.
func (w *world) normalGuard(s *state) {
	if s.budget.failover > 0 {
		return
	}
	s.replica = data{}
	for i := range s.nodes {
		if g := &s.nodes[i].guard; g.server != s.server || g.midway {
			return
		}
	}
	s.marks, s.budget.forget = [nodes]uint8{}, 0
	for i := range s.nodes {
		g := &s.nodes[i].guard
		g.given, g.visit, g.visitKnows = 0, 0, 0
		g.own, g.heard, g.clear, g.paid = ring{}, ring{}, ring{}, 0
	}
	for i := range s.ops {
		s.ops[i].ring = 0
	}
}
