package invalidation

import (
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/mutant"
)

// Times of a [Tracker].
const (
	// Grace is how long a message may be late: the bus of a cluster does not
	// keep the order of messages from different masters. It is also what a
	// silence may exceed two intervals by before it counts.
	Grace = 250 * time.Millisecond
	// SilenceRemembered is how long a node that fell silent is remembered. So
	// long its silence is a gap again and again, because a node that the bus
	// cannot reach looks like a dead one. It is the default of Redis'
	// cluster-node-timeout, after which the cluster itself gives such a node up.
	SilenceRemembered = 15 * time.Second

	// byeRemembered is for messages that arrive after their origin's goodbye:
	// without a tombstone they would be those of an unknown node that never beats.
	byeRemembered = 10 * time.Second
	// settleTime is the most that the nodes older than a subscription have for their
	// first beat before the one gap common to them: a default interval and grace.
	settleTime = time.Second + Grace
	// overflowEvery limits gaps about nodes that there is no room for.
	overflowEvery = time.Second
)

// Unnoticed returns how long a loss can go unnoticed after its message was
// confirmed, where beats are so far apart.
//
// The next beat claims the message. It may be lost as well, which leaves two
// intervals, or three beats in a row, which is a silence after two. The rest is what
// beats may be late in leaving (a third of Grace each) and in arriving (Grace), the
// grace for the message itself, and what Tick may come late: a third of Grace, as
// often as it is to be called.
func Unnoticed(interval time.Duration) time.Duration { return 2*interval + 3*Grace }

// Bounds of a [Tracker]. What they do not hold is a gap.
const (
	maxPeers       = 4096    // nodes known, far more than a fleet has
	maxPeerNumbers = 8192    // numbers kept for one node
	maxNumbers     = 1 << 18 // numbers kept for all of them, about 10 MiB
)

// Tracker finds out from the numbers of the messages that arrive which ones
// did not. It is a state machine without goroutines and clocks: it sees time
// only as its argument. All methods may be called concurrently.
//
// The owner calls Reset when a subscription is confirmed ([GapSubscribed]),
// Observe for every message, those of its own node included, and Tick several
// times within [Grace]. What Observe and Tick return, other than [GapNone], is a
// gap like those of the bus. If it is not certain that the owner acts on it at
// once, the promises S2 to S5 are delayed by as much.
type Tracker struct {
	own *Origin // nil: none

	mu      sync.Mutex // guards what follows
	since   time.Time  // when the subscription was confirmed
	peers   map[NodeID]*peer
	numbers int           // kept for all peers
	assumed time.Duration // interval of a node that has announced none
	gaps    uint64

	baselineDue  time.Time // zero: none is owed
	baselineLast time.Time
	overflowDue  time.Time // zero: none is owed
	overflowLast time.Time
}

// TrackerStats describes a [Tracker].
type TrackerStats struct {
	Origins  int    // nodes that beat, this one included
	Silent   int    // nodes that fell silent and are not forgotten
	Departed int    // nodes that said goodbye lately
	Numbers  int    // numbers waited for, or kept until a first beat
	Gaps     uint64 // returned by Observe and Tick
}

// NewTracker returns a tracker for the node of own. Without one (nil) it knows no
// own messages.
func NewTracker(own *Origin) *Tracker {
	return &Tracker{own: own, peers: make(map[NodeID]*peer), assumed: time.Second}
}

// Reset begins anew: a subscription was confirmed at now, and what came before
// it is covered by that gap. Nodes known before are still expected to beat.
func (t *Tracker) Reset(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = now
	t.baselineDue, t.baselineLast, t.overflowDue = time.Time{}, time.Time{}, time.Time{}
	for _, p := range t.peers {
		t.drop(p)
		p.based, p.lossy = false, 0
		if !p.departed {
			p.wait(now, t.assumed)
		}
	}
}

// Observe takes a message into account that arrived at now.
func (t *Tracker) Observe(m Message, now time.Time) GapReason {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count(t.observe(&m, now))
}

// Tick looks at what should have arrived by now.
func (t *Tracker) Tick(now time.Time) GapReason {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count(t.tick(now))
}

// Origins returns how many nodes beat, this one included once it has heard
// itself. It is what [Interval] wants to know.
func (t *Tracker) Origins() int { return t.Stats().Origins }

// Stats describes the tracker now.
func (t *Tracker) Stats() TrackerStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := TrackerStats{Numbers: t.numbers, Gaps: t.gaps}
	for _, p := range t.peers {
		switch {
		case p.departed:
			s.Departed++
		case p.silent:
			s.Silent++
		case p.beat > 0:
			s.Origins++
		}
	}
	return s
}

func (t *Tracker) count(r GapReason) GapReason {
	if r != GapNone {
		t.gaps++
	}
	return r
}

func (t *Tracker) observe(m *Message, now time.Time) GapReason {
	if t.own != nil && m.Node == t.own.ID() && !mutant.On(mutant.SharedID) {
		// What carries our id and is not ours is another's: a copy of this process,
		// or a forgery. It says nothing about our own messages, and what it changed
		// before it beat may have passed for ours.
		if !t.own.gave(m) {
			return GapImpostor
		}
	}
	p := t.peers[m.Node]
	if p == nil {
		if p = t.admit(m.Node, now); p == nil {
			return t.crowded(now)
		}
	}
	p.heard = now
	if m.Kind == KindBeat || m.Kind == KindBye {
		return t.observeBeat(p, m, now)
	}
	return t.arrived(p, m.Seq, now)
}

// admit makes a peer, or returns nil if there is no room.
func (t *Tracker) admit(id NodeID, now time.Time) *peer {
	if len(t.peers) >= maxPeers {
		return nil
	}
	p := &peer{numbers: make(map[uint64]time.Time)}
	p.wait(now, t.assumed)
	t.peers[id] = p
	return p
}

// crowded makes gaps of the messages of nodes that are not tracked, since their
// loss would not be noticed, but not more often than overflowEvery.
func (t *Tracker) crowded(now time.Time) GapReason {
	due := t.overflowLast.Add(overflowEvery)
	if now.Before(due) {
		t.overflowDue = due
		return GapNone
	}
	t.overflowDue, t.overflowLast = time.Time{}, now
	return GapOverflow
}

func (t *Tracker) tick(now time.Time) GapReason {
	reason := GapNone
	if !t.baselineDue.IsZero() && !now.Before(t.baselineDue) {
		t.baselineDue, t.baselineLast = time.Time{}, now
		reason = GapBaseline
	}
	if !t.overflowDue.IsZero() && !now.Before(t.overflowDue) {
		t.overflowDue, t.overflowLast = time.Time{}, now
		reason = GapOverflow
	}
	t.expectOwn(now)
	// The intervals of all nodes follow the size of the fleet.
	t.assumed = time.Second
	for _, p := range t.peers {
		t.assumed = max(t.assumed, p.interval)
	}
	for id, p := range t.peers {
		if t.overdue(p, now) && !mutant.On(mutant.NoSequences) {
			reason = GapMissing
		}
		if r := t.listen(id, p, now); r != GapNone {
			reason = r
		}
	}
	return reason
}

// expectOwn makes this node known as soon as it has beaten, so that it notices
// when it hears none of its beats at all.
func (t *Tracker) expectOwn(now time.Time) {
	if t.own == nil || t.since.IsZero() || t.peers[t.own.ID()] != nil {
		return
	}
	if beats, every := t.own.progress(); beats > 0 {
		if p := t.admit(t.own.ID(), now); p != nil {
			p.interval = every
			p.wait(now, t.assumed)
		}
	}
}

// listen looks at the silence of a peer and forgets it in the end.
func (t *Tracker) listen(id NodeID, p *peer, now time.Time) GapReason {
	own := t.own != nil && id == t.own.ID()
	if p.departed {
		if now.Sub(p.heard) > byeRemembered && len(p.numbers) == 0 {
			t.forget(id, p)
		}
		return GapNone
	}
	if !now.After(p.due) {
		return GapNone
	}
	if !p.silent {
		p.silent, p.silentSince = true, now
	} else if now.Sub(p.silentSince) > SilenceRemembered {
		t.forget(id, p)
	}
	p.due = now.Add(2 * p.expected(t.assumed))
	if mutant.On(mutant.NoSilence) {
		return GapNone
	}
	if own {
		return GapDeaf
	}
	return GapOrigin
}

func (t *Tracker) forget(id NodeID, p *peer) {
	t.drop(p)
	delete(t.peers, id)
}
