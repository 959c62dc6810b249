package invalidation_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

var (
	seed      = flag.Uint64("seed", 0, "seed of the random schedules, 0: many")
	schedules = flag.Int("schedules", 60, "number of random schedules")
)

// modelBound is how long after it was confirmed the loss of a message may go
// unnoticed.
var modelBound = invalidation.Unnoticed(time.Second)

// schedule is a fleet of origins and one receiver on a bus that loses, delays and
// reorders. It knows what was lost and when, which the tracker has to find out.
type schedule struct {
	t       *testing.T
	random  *rand.Rand
	faults  bool
	losses  int // of a thousand messages
	tracker *invalidation.Tracker
	nodes   []*modelNode
	wire    []arrival
	off     bool      // the receiver has no subscription
	dead    time.Time // when its bus notices, B4
	gaps    []time.Time
	reasons []invalidation.GapReason
	lost    []loss
}

type modelNode struct {
	origin   *invalidation.Origin
	nextBeat time.Time
	ops      []operation
	heard    bool      // a beat of it has arrived
	known    time.Time // when the first one of all did
	leaving  bool      // it begins nothing new
	gone     bool
}

// operation is one invalidation under way.
type operation struct {
	seq       uint64
	publish   time.Time // zero: never, or done
	resolve   time.Time
	confirmed bool
}

type arrival struct {
	at   time.Time
	from *modelNode
	m    invalidation.Message
}

// loss is a message that was published and will not arrive.
type loss struct {
	node      *modelNode
	seq       uint64
	published time.Time
	confirmed time.Time // zero: not, the origin owes it still
}

func (s *schedule) chance(percent int) bool { return s.random.IntN(100) < percent }

func (s *schedule) within(d time.Duration) time.Duration {
	return time.Duration(s.random.Int64N(int64(d)))
}

func (s *schedule) join() {
	o := invalidation.NewOrigin(invalidation.NewNodeID())
	n := &modelNode{origin: o}
	s.nodes = append(s.nodes, n)
	s.beat(n)
}

func (s *schedule) beat(n *modelNode) {
	n.nextBeat = time.Now().Add(time.Second)
	s.send(n, n.origin.Beat(time.Second))
}

// send publishes, and reports false if the message will not arrive.
func (s *schedule) send(n *modelNode, m invalidation.Message) bool {
	if s.off || s.random.IntN(1000) < s.losses {
		return false
	}
	s.wire = append(s.wire, arrival{at: time.Now().Add(s.within(200 * time.Millisecond)), from: n, m: m})
	return true
}

func (s *schedule) step(n *modelNode) {
	now := time.Now()
	if !n.leaving && s.chance(10) {
		op := operation{seq: n.origin.Next(), confirmed: true}
		op.publish = now.Add(s.within(300 * time.Millisecond))
		op.resolve = op.publish.Add(s.within(1500 * time.Millisecond))
		switch {
		case s.chance(10): // perhaps published: the origin never knew
			op.confirmed = false
		case s.chance(10): // never published
			op.publish, op.confirmed = time.Time{}, false
		}
		n.ops = append(n.ops, op)
	}
	for i := range n.ops {
		op := &n.ops[i]
		if !op.publish.IsZero() && !now.Before(op.publish) {
			op.publish = time.Time{}
			m := invalidation.Message{
				Kind: invalidation.KindClear, Node: n.origin.ID(), Seq: op.seq, Cache: "c",
			}
			if !s.send(n, m) {
				s.lost = append(s.lost, loss{node: n, seq: op.seq, published: now})
			}
		}
	}
	n.ops = slices.DeleteFunc(n.ops, func(op operation) bool {
		if now.Before(op.resolve) || !op.publish.IsZero() {
			return false
		}
		if op.confirmed {
			n.origin.Confirmed(op.seq)
			s.confirm(n, op.seq)
		} else {
			n.origin.Lost(op.seq)
		}
		return true
	})
	if !now.Before(n.nextBeat) {
		s.beat(n)
	}
}

func (s *schedule) confirm(n *modelNode, seq uint64) {
	for i := range s.lost {
		if s.lost[i].node == n && s.lost[i].seq == seq {
			s.lost[i].confirmed = time.Now()
		}
	}
}

// leave ends a node: it finishes what is under way and says goodbye, or crashes.
func (s *schedule) leave(n *modelNode) {
	switch {
	case s.faults && s.chance(30):
		n.gone = true
	case len(n.ops) == 0:
		n.gone = true
		s.send(n, n.origin.Bye())
	default:
		n.leaving = true
	}
}

func (s *schedule) gap(reason invalidation.GapReason) {
	if reason != invalidation.GapNone {
		s.gaps = append(s.gaps, time.Now())
		s.reasons = append(s.reasons, reason)
	}
}

// receive hands over what has arrived, in the order of arrival.
func (s *schedule) receive() {
	now := time.Now()
	slices.SortStableFunc(s.wire, func(a, b arrival) int { return a.at.Compare(b.at) })
	for len(s.wire) > 0 && !now.Before(s.wire[0].at) {
		a := s.wire[0]
		s.wire = s.wire[1:]
		if a.m.Kind == invalidation.KindBeat {
			a.from.heard = true
			if a.from.known.IsZero() {
				a.from.known = now
			}
		}
		s.gap(s.tracker.Observe(a.m, now))
	}
	s.gap(s.tracker.Tick(now))
}

// cut takes the subscription away: what is under way is lost with it.
func (s *schedule) cut() {
	s.off, s.dead = true, time.Now().Add(2*time.Second)
	s.wire = nil
}

func (s *schedule) resubscribe() {
	s.off = false
	for _, n := range s.nodes {
		n.heard = false
	}
	s.gap(invalidation.GapSubscribed)
	s.tracker.Reset(time.Now())
}

func (s *schedule) run() {
	s.tracker.Reset(time.Now())
	s.join()
	for range 3000 { // half a minute
		time.Sleep(10 * time.Millisecond)
		if s.random.IntN(300) == 0 {
			s.join()
		}
		for _, n := range s.nodes {
			if n.gone {
				continue
			}
			s.step(n)
			if n.leaving && len(n.ops) == 0 || s.random.IntN(1500) == 0 {
				s.leave(n)
			}
		}
		switch {
		case s.off && s.chance(2):
			s.resubscribe()
		case s.faults && !s.off && s.random.IntN(1000) == 0:
			s.cut()
		}
		if s.off && !time.Now().Before(s.dead) {
			s.gap(invalidation.GapSilent)
			s.dead = time.Now().Add(time.Hour)
		}
		s.receive()
	}
	if s.off {
		s.resubscribe()
	}
	for range 600 { // let everything be found out
		time.Sleep(10 * time.Millisecond)
		for _, n := range s.nodes {
			if !n.gone && !time.Now().Before(n.nextBeat) {
				s.send(n, n.origin.Beat(time.Second))
				n.nextBeat = time.Now().Add(time.Second)
			}
		}
		s.receive()
	}
}

// check requires a gap after every loss.
func (s *schedule) check() {
	for _, l := range s.lost {
		if l.confirmed.IsZero() || !l.node.heard {
			continue // still owed; or a node of which no beat ever came
		}
		if l.node.known.Sub(l.confirmed) > 2*time.Second {
			continue // a newcomer whose first beats were lost, all of them
		}
		found := slices.ContainsFunc(s.gaps, func(at time.Time) bool {
			return !at.Before(l.published) && at.Sub(l.confirmed) <= modelBound
		})
		require.True(s.t, found, "message %d of %v, lost %v and confirmed %v later, was not missed; gaps: %v %v",
			l.seq, l.node.origin.ID(), l.published, l.confirmed.Sub(l.published), s.gaps, s.reasons)
	}
}

func runSchedule(t *testing.T, seed uint64, faults bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &schedule{
			t: t, random: rand.New(rand.NewPCG(seed, 1)), faults: faults,
			tracker: invalidation.NewTracker(nil),
		}
		if faults {
			// With few of them each has to be found by itself, with many they fall together.
			s.losses = []int{1, 5, 40}[seed%3]
		}
		defer func() {
			if t.Failed() {
				t.Logf("repeat with -seed=%d", seed)
			}
		}()
		s.run()
		if faults {
			s.check()
			return
		}
		require.Empty(t, s.reasons, "nothing was lost")
		require.Empty(t, s.lost)
	})
}

func seeds() []uint64 {
	if *seed != 0 {
		return []uint64{*seed}
	}
	var all []uint64
	for n := range *schedules {
		all = append(all, uint64(n+1))
	}
	return all
}

// S2 to S4: no loss goes unnoticed for longer than the bound.
func TestTracker_noLossIsSilent(t *testing.T) {
	for _, n := range seeds() {
		runSchedule(t, n, true)
	}
}

// S4: a fleet that comes and goes orderly on a bus that delays and reorders
// makes no gap at all.
func TestTracker_noGapWithoutLoss(t *testing.T) {
	for _, n := range seeds() {
		runSchedule(t, n, false)
	}
}
