package model

// stale is a stamp's word that will never be shown again.
const stale = 200

// normal returns the state that stands for s and all that behave alike, so that
// they are explored once. Nothing that a later step could look at is lost:
//
//   - Words of stamps are only ever compared with what is shown, which only grows.
//     So a word is the one shown, or stale for good.
//   - A void entry is never served again, unless stamps are not checked.
//   - Memory has no order.
//   - What only some faults make matter is dropped in worlds without them.
func (w *world) normal(s state) state {
	for i := range w.Ops {
		p := &s.ops[i]
		if p.at != done {
			p.stamp = relative(p.stamp, s.nodes[w.Ops[i].On].shown)
		}
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		n.flight.stamp = relative(n.flight.stamp, n.shown)
		if n.flight.leader == 0 {
			n.flight = flight{}
		}
		w.normalMemory(n)
		n.shown = stamp{}
		if w.Faults.drop == 0 {
			n.sent, n.seen = 0, 0
			for j := range n.queue {
				if n.queue[j].kind != ping {
					n.queue[j].seq = 0
				}
			}
		}
	}
	w.normalGuard(&s)
	if w.Time == 0 {
		s.when = [4]uint8{}
		s.written = 0
	}
	return s
}

func relative(s, shown stamp) stamp {
	word := func(a, b uint8) uint8 {
		if a == b {
			return 0
		}
		return stale
	}
	return stamp{word(s.slot, shown.slot), word(s.void, shown.void), word(s.trust, shown.trust)}
}

func (w *world) normalMemory(n *node) {
	var kept [maxMem]entry
	count := 0
	for _, e := range n.memory {
		if !e.used {
			continue
		}
		e.stamp = relative(e.stamp, n.shown)
		if e.stamp != (stamp{}) && !w.off.NoStampCheck {
			continue
		}
		at := count
		for at > 0 && less(e, kept[at-1]) {
			kept[at] = kept[at-1]
			at--
		}
		kept[at] = e
		count++
	}
	n.memory = kept
}

func less(a, b entry) bool {
	if a.version != b.version {
		return a.version < b.version
	}
	x, y := a.stamp, b.stamp
	return x.slot < y.slot || x.slot == y.slot && (x.void < y.void || x.void == y.void && x.trust < y.trust)
}
