package invalidation

import (
	"slices"
	"time"

	"github.com/tandemcache/tandem/internal/mutant"
)

// peer is what a [Tracker] knows of one node.
//
// Before its first beat after a subscription (based false) numbers holds those
// that have arrived, because it is not known yet from where on they count. From
// then on every number up to top has arrived or is excused, but for those in
// numbers, which are missing: with the time at which that becomes a gap, or
// zero while no beat has claimed that they were sent.
type peer struct {
	based   bool
	top     uint64
	topAt   time.Time // when a message raised top
	numbers map[uint64]time.Time

	// lossy is not 0 after a bound was exceeded: numbers up to it are not kept, and
	// each beat is a gap until one says that none of them is open.
	lossy uint64

	beat     uint64        // number of the latest beat
	interval time.Duration // announced by it, 0: none yet
	due      time.Time     // when the silence becomes a gap, the next one
	heard    time.Time     // anything at all

	silent      bool
	silentSince time.Time
	departed    bool
}

// expected returns the interval of the peer, or the assumed one.
func (p *peer) expected(assumed time.Duration) time.Duration {
	if p.interval > 0 {
		return p.interval
	}
	return assumed
}

// wait expects the next beat, counting from now.
func (p *peer) wait(now time.Time, assumed time.Duration) {
	p.silent = false
	p.due = now.Add(2*p.expected(assumed) + Grace)
}

// put keeps a number, and reports false if there is no room.
func (t *Tracker) put(p *peer, seq uint64, due time.Time) bool {
	if _, ok := p.numbers[seq]; !ok {
		if len(p.numbers) >= maxPeerNumbers || t.numbers >= maxNumbers {
			return false
		}
		t.numbers++
	}
	p.numbers[seq] = due
	return true
}

func (t *Tracker) remove(p *peer, seq uint64) {
	if _, ok := p.numbers[seq]; ok {
		delete(p.numbers, seq)
		t.numbers--
	}
}

func (t *Tracker) drop(p *peer) {
	t.numbers -= len(p.numbers)
	p.numbers = make(map[uint64]time.Time)
}

// giveUp stops keeping numbers up to seq. One gap now is not enough: among them
// can be some that are published, and lost, only after it.
func (t *Tracker) giveUp(p *peer, seq uint64) GapReason {
	t.drop(p)
	p.top = max(p.top, seq)
	p.lossy = p.top
	return GapOverflow
}

// arrived takes note of a message.
func (t *Tracker) arrived(p *peer, seq uint64, now time.Time) GapReason {
	if !p.based {
		if !t.put(p, seq, time.Time{}) {
			// The first beat decides: for an older node it does not matter.
			p.lossy = max(p.lossy, seq)
		}
		return GapNone
	}
	if seq <= p.top {
		t.remove(p, seq)
		return GapNone
	}
	p.topAt = now
	if !t.missing(p, seq-1) {
		return t.giveUp(p, seq)
	}
	p.top = seq
	return GapNone
}

// missing keeps the numbers above top, up to seq, as missing.
func (t *Tracker) missing(p *peer, seq uint64) bool {
	if seq <= p.top {
		return true
	}
	if seq-p.top > maxPeerNumbers { // before the loop: the number may be hostile
		return false
	}
	for s := p.top; s < seq; {
		s++
		if !t.put(p, s, time.Time{}) {
			return false
		}
	}
	p.top = seq
	return true
}

func (t *Tracker) observeBeat(p *peer, m *Message, now time.Time) GapReason {
	b := &m.Beat
	if b.Number <= p.beat {
		return GapNone // an older one that was overtaken, or a copy
	}
	p.beat = b.Number
	p.departed = m.Kind == KindBye
	if b.Interval > 0 {
		p.interval = b.Interval
	}
	p.wait(now, t.assumed)

	reason := GapNone
	switch {
	case !p.based:
		reason = t.base(p, m, now)
	case m.Seq < p.top && now.Sub(p.topAt) > 2*p.expected(t.assumed)+Grace:
		// A message can overtake a beat, but not two. That number was never this
		// node's, and if it stood all real ones would pass for seen.
		t.drop(p)
		p.top, p.lossy = m.Seq, m.Seq
		reason = GapImpostor
	}
	if !t.missing(p, m.Seq) {
		reason = t.giveUp(p, m.Seq)
	}
	t.claim(p, m, now)
	switch {
	case b.Overflow:
		reason = GapOverflow
	case p.lossy > 0:
		if reason == GapNone {
			reason = GapOverflow
		}
		// All that is not open was published before this beat, and so before
		// the gap that it causes.
		if p.departed || m.Seq >= p.lossy && (len(b.Open) == 0 || b.Open[0] > p.lossy) {
			p.lossy = 0
		}
	}
	return reason
}

// base decides at a first beat from where on the numbers of a node count.
func (t *Tracker) base(p *peer, m *Message, now time.Time) GapReason {
	b := &m.Beat
	p.based, p.topAt = true, now
	arrived, top := p.numbers, m.Seq
	for seq := range arrived {
		top = max(top, seq)
	}
	t.drop(p)
	// Age counts up to the sending, so a node that began after the subscription
	// is always taken for one, and an older one only if its beat was under way. Either
	// mistake costs a gap and hides nothing.
	if !now.Add(-b.Age).Before(t.since) {
		p.top = 0
		if p.lossy > 0 || !t.missing(p, top) {
			return t.giveUp(p, max(top, p.lossy))
		}
		for seq := range arrived {
			t.remove(p, seq)
		}
		return GapNone
	}
	// An older one: what it sent before the subscription is not ours to miss,
	// and from what it sent since then that cannot be told.
	p.top, p.lossy = m.Seq, 0
	for _, seq := range b.Open {
		if !t.put(p, seq, time.Time{}) {
			return t.giveUp(p, top)
		}
	}
	if !t.missing(p, top) {
		return t.giveUp(p, top)
	}
	for seq := range arrived {
		t.remove(p, seq)
	}
	if len(b.Open) == 0 && !b.Overflow && now.Add(-b.Quiet).Before(t.since) {
		return GapNone // it has sent nothing since
	}
	return t.baseline(now)
}

// baseline owes the gap for older nodes. One serves for all of them that beat
// while all can have done so.
func (t *Tracker) baseline(now time.Time) GapReason {
	if mutant.On(mutant.NoBaseline) {
		return GapNone
	}
	last := t.baselineLast
	if last.Before(t.since) {
		last = t.since
	}
	if due := last.Add(t.settle()); now.Before(due) {
		t.baselineDue = due
		return GapNone
	}
	t.baselineDue, t.baselineLast = time.Time{}, now
	return GapBaseline
}

// settle is how long the nodes older than a subscription have for their first
// beat before the one gap common to them. With short intervals a constant would
// exceed what these promise.
func (t *Tracker) settle() time.Duration {
	longest := time.Duration(0)
	for _, p := range t.peers {
		longest = max(longest, p.interval)
	}
	if longest == 0 {
		return settleTime
	}
	return min(longest+Grace, settleTime)
}

// claim applies what a beat says about the numbers that are missing.
func (t *Tracker) claim(p *peer, m *Message, now time.Time) {
	for _, seq := range m.Beat.Excused {
		t.remove(p, seq)
	}
	for seq, due := range p.numbers {
		if seq > m.Seq {
			continue // sent after the beat, which was overtaken
		}
		_, open := slices.BinarySearch(m.Beat.Open, seq)
		switch {
		case open && !p.departed:
			p.numbers[seq] = time.Time{}
		case due.IsZero():
			p.numbers[seq] = now.Add(Grace)
		}
	}
}

// overdue reports whether numbers of a peer are missing for too long, and
// forgets them: they were sent before the gap that follows.
func (t *Tracker) overdue(p *peer, now time.Time) bool {
	found := false
	for seq, due := range p.numbers {
		if p.based && !due.IsZero() && !now.Before(due) {
			t.remove(p, seq)
			found = true
		}
	}
	return found
}
