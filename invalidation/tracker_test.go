package invalidation_test

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

// track is a tracker that subscribed at time 0, with steps for scenarios. Times
// are since then.
type track struct {
	t       *testing.T
	tracker *invalidation.Tracker
	zero    time.Time
	beats   map[byte]uint64
}

func newTrack(t *testing.T, own *invalidation.Origin) *track {
	k := &track{t: t, tracker: invalidation.NewTracker(own), zero: time.Now(), beats: map[byte]uint64{}}
	k.tracker.Reset(k.zero)
	return k
}

func nodeID(n byte) invalidation.NodeID { return invalidation.NodeID{15: n} }

// message observes a message of node n.
func (k *track) message(at time.Duration, n byte, seq uint64) invalidation.GapReason {
	return k.observe(at, invalidation.Message{
		Kind: invalidation.KindKeys, Node: nodeID(n), Seq: seq, Cache: "c", Keys: []string{"k"},
	})
}

// beat observes the next beat of node n, which was born so long ago and has said
// nothing new for quiet.
func (k *track) beat(at time.Duration, n byte, seq uint64, b invalidation.Beat) invalidation.GapReason {
	k.beats[n]++
	b.Number, b.Interval = k.beats[n], time.Second
	return k.observe(at, invalidation.Message{Kind: invalidation.KindBeat, Node: nodeID(n), Seq: seq, Beat: b})
}

func (k *track) bye(at time.Duration, n byte, seq uint64, b invalidation.Beat) invalidation.GapReason {
	k.beats[n]++
	b.Number = k.beats[n]
	return k.observe(at, invalidation.Message{Kind: invalidation.KindBye, Node: nodeID(n), Seq: seq, Beat: b})
}

func (k *track) observe(at time.Duration, m invalidation.Message) invalidation.GapReason {
	return k.tracker.Observe(m, k.zero.Add(at))
}

func (k *track) tick(at time.Duration) invalidation.GapReason {
	return k.tracker.Tick(k.zero.Add(at))
}

// quiet ticks through a span and requires that nothing happens.
func (k *track) quiet(from, to time.Duration) {
	k.t.Helper()
	for at := from; at <= to; at += 50 * time.Millisecond {
		require.Equal(k.t, none, k.tick(at), "at %v", at)
	}
}

// newborn is the beat of a node that begins now.
var newborn = invalidation.Beat{}

// ages is the beat of a node that is older than any subscription here.
var ages = invalidation.Beat{Age: time.Hour, Quiet: time.Hour}

const (
	none = invalidation.GapNone
	ms   = time.Millisecond
)

// S2: what does arrive, in whatever order, is no gap.
func TestTracker_takesDuplicatesAndReorderingForWhatTheyAre(t *testing.T) {
	k := newTrack(t, nil)
	require.Equal(t, none, k.beat(10*ms, 1, 0, newborn))
	for _, seq := range []uint64{2, 1, 1, 5, 3, 2, 5} {
		require.Equal(t, none, k.message(500*ms, 1, seq))
	}
	require.Equal(t, none, k.beat(1010*ms, 1, 6, invalidation.Beat{Age: time.Second}))
	k.quiet(1010*ms, 1200*ms)
	require.Equal(t, none, k.message(1200*ms, 1, 4))
	require.Equal(t, none, k.message(1259*ms, 1, 6))
	k.quiet(1260*ms, 2*time.Second)
	assert.Zero(t, k.tracker.Stats().Numbers)
}

// S2: a hole is a gap once, after the grace.
func TestTracker_missesWhatABeatClaims(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(10*ms, 1, 0, newborn)
	require.Equal(t, none, k.message(500*ms, 1, 2))
	k.quiet(500*ms, 1000*ms)
	require.Equal(t, none, k.beat(1010*ms, 1, 2, invalidation.Beat{Age: time.Second}))
	k.quiet(1010*ms, 1259*ms)
	require.Equal(t, invalidation.GapMissing, k.tick(1260*ms))
	k.quiet(1261*ms, 3*time.Second)
}

// S1, S2: a number that is open is not missed yet; one that was, is.
func TestTracker_missesAnOpenNumberOnceItIsConfirmed(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(10*ms, 1, 0, newborn)
	k.beat(1010*ms, 1, 1, invalidation.Beat{Age: time.Second, Open: []uint64{1}})
	k.quiet(1010*ms, 2000*ms)
	k.beat(2010*ms, 1, 1, invalidation.Beat{Age: 2 * time.Second})
	k.quiet(2010*ms, 2250*ms)
	require.Equal(t, invalidation.GapMissing, k.tick(2260*ms))
}

// S1: a number that is excused once is never missed, listed again or not.
func TestTracker_doesNotMissTheExcused(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(10*ms, 1, 0, newborn)
	k.message(500*ms, 1, 3)
	k.beat(1010*ms, 1, 3, invalidation.Beat{Age: time.Second, Excused: []uint64{1, 2}})
	k.beat(2010*ms, 1, 3, invalidation.Beat{Age: 2 * time.Second})
	k.quiet(1010*ms, 4000*ms)
}

// A beat that was overtaken by a later one says nothing new.
func TestTracker_ignoresOlderBeats(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(10*ms, 1, 0, newborn)
	k.beats[1]++ // the second beat comes after the third
	k.beat(1010*ms, 1, 1, invalidation.Beat{Age: time.Second})
	k.beats[1] -= 2
	k.beat(1020*ms, 1, 1, invalidation.Beat{Age: time.Second, Open: []uint64{1}})
	require.Equal(t, invalidation.GapMissing, k.tick(1260*ms))
}

// S4: a rolling deploy makes no gap on the nodes that stay.
func TestTracker_newcomersCauseNoGap(t *testing.T) {
	k := newTrack(t, nil)
	for n := byte(1); n < 50; n++ {
		at := time.Duration(n) * 20 * ms
		require.Equal(t, none, k.beat(at, n, 0, newborn))
		require.Equal(t, none, k.message(at+time.Millisecond, n, 1))
		require.Equal(t, none, k.bye(at+10*ms, n, 1, newborn))
	}
	k.quiet(time.Second, time.Minute)
	assert.Zero(t, k.tracker.Stats())
}

// S4: a newcomer accounts for everything since its beginning.
func TestTracker_missesTheFirstMessagesOfANewcomer(t *testing.T) {
	k := newTrack(t, nil)
	require.Equal(t, none, k.message(500*ms, 1, 3))
	require.Equal(t, none, k.message(501*ms, 1, 2))
	require.Equal(t, none, k.beat(510*ms, 1, 3, invalidation.Beat{Age: 100 * ms}))
	k.quiet(510*ms, 750*ms)
	require.Equal(t, invalidation.GapMissing, k.tick(760*ms))
}

// S4: older nodes share one gap, and none if they have been silent.
func TestTracker_olderNodesShareOneGap(t *testing.T) {
	k := newTrack(t, nil)
	busy := invalidation.Beat{Age: time.Hour}
	for n := byte(1); n < 20; n++ {
		require.Equal(t, none, k.beat(time.Duration(n)*50*ms, n, 1000, busy))
	}
	k.quiet(0, 1249*ms)
	require.Equal(t, invalidation.GapBaseline, k.tick(1250*ms))
	k.quiet(1251*ms, 2*time.Second)

	k = newTrack(t, nil)
	require.Equal(t, none, k.beat(100*ms, 1, 1000, ages))
	k.quiet(0, 2*time.Second)
}

// S4: an older node that comes late, as after a partition, has its gap at once.
func TestTracker_aLateOlderNodeIsAGap(t *testing.T) {
	k := newTrack(t, nil)
	require.Equal(t, invalidation.GapBaseline, k.beat(time.Minute, 1, 1000, invalidation.Beat{Age: time.Hour}))
	// More of them within settleTime share the next one.
	require.Equal(t, none, k.beat(time.Minute+ms, 2, 1000, invalidation.Beat{Age: time.Hour}))
	require.Equal(t, none, k.tick(time.Minute+1249*ms))
	require.Equal(t, invalidation.GapBaseline, k.tick(time.Minute+1250*ms))
}

// S4, S1: what an older node had open at its first beat is missed when it is lost.
func TestTracker_missesWhatWasOpenAtTheBaseline(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(10*ms, 1, 1000, invalidation.Beat{Age: time.Hour, Quiet: time.Hour, Open: []uint64{900}})
	require.Equal(t, invalidation.GapBaseline, k.tick(1250*ms), "an open one may come at any time")
	k.beat(1260*ms, 1, 1000, invalidation.Beat{Age: time.Hour})
	require.Equal(t, invalidation.GapMissing, k.tick(1510*ms))
}

// What came before the first beat of an older node has come, open or later.
func TestTracker_countsWhatCameBeforeTheBaseline(t *testing.T) {
	k := newTrack(t, nil)
	k.message(10*ms, 1, 900)
	k.message(10*ms, 1, 1002)
	k.beat(20*ms, 1, 1000, invalidation.Beat{Age: time.Hour, Open: []uint64{900}})
	require.Equal(t, invalidation.GapBaseline, k.tick(1250*ms))
	k.message(1260*ms, 1, 1001)
	k.beat(1270*ms, 1, 1002, invalidation.Beat{Age: time.Hour})
	k.quiet(1270*ms, 3*time.Second)
	assert.Zero(t, k.tracker.Stats().Numbers)
}

// S3: silence is a gap, and again, until the node is forgotten.
func TestTracker_silenceIsAGapUntilForgotten(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(0, 1, 0, newborn)
	k.quiet(0, 2250*ms)
	require.Equal(t, invalidation.GapOrigin, k.tick(2251*ms))
	assert.Equal(t, 1, k.tracker.Stats().Silent)
	assert.Zero(t, k.tracker.Origins())
	k.quiet(2252*ms, 4251*ms)
	require.Equal(t, invalidation.GapOrigin, k.tick(4252*ms))

	gaps := 0
	for at := 4300 * ms; at < time.Minute; at += 50 * ms {
		if k.tick(at) == invalidation.GapOrigin {
			gaps++
			require.Less(t, at, 2251*ms+invalidation.SilenceRemembered+3*time.Second)
		}
	}
	assert.Equal(t, 7, gaps)
	assert.Zero(t, k.tracker.Stats().Silent)
}

// S3: a message is no sign of life: only a beat says what should have come.
func TestTracker_messagesDoNotReplaceBeats(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(0, 1, 0, newborn)
	k.message(2000*ms, 1, 1)
	require.Equal(t, invalidation.GapOrigin, k.tick(2251*ms))

	k = newTrack(t, nil)
	k.message(0, 2, 1) // a node that never beats
	k.quiet(0, 2250*ms)
	require.Equal(t, invalidation.GapOrigin, k.tick(2251*ms))
}

// S3: one lost beat is no gap, and what it would have said the next one says.
func TestTracker_oneLostBeatIsNoGap(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(0, 1, 0, newborn)
	k.beats[1]++
	k.quiet(0, 2100*ms)
	require.Equal(t, none, k.beat(2100*ms, 1, 0, invalidation.Beat{Age: 2 * time.Second}))
	k.quiet(2100*ms, 4*time.Second)
}

// A goodbye ends the waiting for beats, not for messages.
func TestTracker_aGoodbyeStillClaims(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(0, 1, 0, newborn)
	k.bye(500*ms, 1, 2, invalidation.Beat{Age: 500 * ms, Excused: []uint64{1}, Open: []uint64{2}})
	require.Equal(t, invalidation.GapMissing, k.tick(750*ms), "what was open stays unresolved for ever")
	k.quiet(751*ms, time.Minute)
	assert.Zero(t, k.tracker.Stats().Departed)
}

// A message that was overtaken by the goodbye is not that of an unknown node.
func TestTracker_messagesAfterTheGoodbyeCauseNoGap(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(0, 1, 0, newborn)
	k.bye(500*ms, 1, 1, invalidation.Beat{Age: 500 * ms})
	require.Equal(t, none, k.message(600*ms, 1, 1))
	k.quiet(600*ms, time.Minute)
}

// A subscription that is confirmed anew forgets numbers and remembers nodes.
func TestTracker_Reset_stillExpectsTheNodesItKnew(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(0, 1, 0, newborn)
	k.message(100*ms, 1, 2)
	k.beat(1000*ms, 1, 2, invalidation.Beat{Age: time.Second})
	k.tracker.Reset(k.zero.Add(1100 * ms))
	k.quiet(1100*ms, 1100*ms+2250*ms)
	require.Equal(t, invalidation.GapOrigin, k.tick(1100*ms+2251*ms))
}

func TestTracker_tellsAnImpostor(t *testing.T) {
	own := invalidation.NewOrigin(nodeID(9))
	k := newTrack(t, own)
	own.Next()
	require.Equal(t, none, k.message(10*ms, 9, 1))
	require.Equal(t, invalidation.GapImpostor, k.message(20*ms, 9, 2))
	require.Equal(t, invalidation.GapImpostor, k.beat(30*ms, 9, 1, newborn), "no beat was made yet")
	own.Next()
	require.Equal(t, none, k.message(40*ms, 9, 2))
}

// A copy of the process, made while it ran, numbers its messages as this one does:
// they pass for our own, and change what this node holds. Its next beat tells.
func TestTracker_tellsACopyOfItsOwnNode(t *testing.T) {
	own := invalidation.NewOrigin(nodeID(9))
	k := newTrack(t, own)
	for range 3 {
		own.Next()
	}
	mine := own.Beat(time.Second)
	require.Equal(t, none, k.observe(10*ms, mine))
	require.Equal(t, none, k.message(20*ms, 9, 2))
	copied := mine
	copied.Beat.Age++
	require.Equal(t, invalidation.GapImpostor, k.observe(30*ms, copied))
	copied.Kind, copied.Beat.Interval = invalidation.KindBye, 0
	require.Equal(t, invalidation.GapImpostor, k.observe(40*ms, copied), "its goodbye is not ours")
	for i := range 20 {
		require.Equal(t, none, k.observe(time.Duration(50+i)*ms, own.Beat(time.Second)))
	}
	require.Equal(t, invalidation.GapImpostor, k.observe(100*ms, mine), "one so old is nobody's")
}

// S5: a number that no beat ever comes to was not the node's own. It must not
// make all real ones pass for seen.
func TestTracker_recoversFromAForgedNumber(t *testing.T) {
	for _, forged := range []uint64{100, 1 << 20, math.MaxUint64} {
		k := newTrack(t, nil)
		k.beat(0, 1, 0, newborn)
		k.message(100*ms, 1, forged)
		at, gaps := time.Second, 0
		for ; at <= 5*time.Second; at += time.Second {
			if k.beat(at, 1, 0, invalidation.Beat{Age: at}) != none {
				gaps++
			}
			require.Equal(t, none, k.tick(at))
		}
		assert.Positive(t, gaps)
		require.Equal(t, none, k.beat(at, 1, 0, invalidation.Beat{Age: at}), "and then it is over")
		k.beat(at+time.Second, 1, 1, invalidation.Beat{Age: at})
		require.Equal(t, invalidation.GapMissing, k.tick(at+time.Second+invalidation.Grace))
	}
}

// S5: a hole too large to keep is a gap, until nothing in it is open.
func TestTracker_aHugeHoleIsAGapUntilNothingInItIsOpen(t *testing.T) {
	k := newTrack(t, nil)
	k.beat(0, 1, 0, newborn)
	require.Equal(t, invalidation.GapOverflow, k.message(100*ms, 1, 100_000))
	require.Equal(t, invalidation.GapOverflow, k.beat(1000*ms, 1, 100_001, invalidation.Beat{Open: []uint64{5}}))
	require.Equal(t, invalidation.GapOverflow, k.beat(2000*ms, 1, 100_001, invalidation.Beat{Open: []uint64{5}}))
	require.Equal(t, invalidation.GapOverflow, k.beat(2500*ms, 1, 100_001, invalidation.Beat{}))
	require.Equal(t, none, k.beat(2600*ms, 1, 100_001, invalidation.Beat{}))
}

// S5: an origin that cannot list all that is open says so.
func TestTracker_anIncompleteBeatIsAGap(t *testing.T) {
	k := newTrack(t, nil)
	require.Equal(t, invalidation.GapOverflow, k.beat(0, 1, 0, invalidation.Beat{Overflow: true}))
}

// S5: nodes without number, as a hostile publisher invents them.
func TestTracker_isBoundedAgainstInventedNodes(t *testing.T) {
	k := newTrack(t, nil)
	gaps := 0
	m := invalidation.Message{Kind: invalidation.KindClear, Seq: 1, Cache: "c"}
	for i := range uint64(100_000) {
		binary.BigEndian.PutUint64(m.Node[:], i)
		if k.observe(time.Millisecond, m) != none {
			gaps++
		}
	}
	assert.Equal(t, 1, gaps, "limited to one a second")
	require.Equal(t, none, k.tick(900*ms))
	require.Equal(t, invalidation.GapOverflow, k.tick(1001*ms), "and one for those since")
	k.quiet(1002*ms, 2200*ms)
	assert.LessOrEqual(t, k.tracker.Stats().Numbers, 4096)

	for at := 2 * time.Second; at < 30*time.Second; at += 250 * ms {
		k.tick(at)
	}
	assert.Zero(t, k.tracker.Stats().Numbers, "forgotten in the end")
}

func TestTracker_isBoundedAgainstInventedNumbers(t *testing.T) {
	k := newTrack(t, nil)
	for n := range byte(100) {
		for seq := uint64(2); seq < 40_000; seq += 2 {
			k.message(time.Millisecond, n, seq)
		}
	}
	assert.LessOrEqual(t, k.tracker.Stats().Numbers, 1<<18)
	assert.NotEqual(t, none, k.beat(2*ms, 1, 40_000, newborn), "and the loss is not silent")
}

func TestTracker_missesItsOwnBeats(t *testing.T) {
	own := invalidation.NewOrigin(nodeID(9))
	k := newTrack(t, own)
	k.quiet(0, 10*time.Second) // not beating yet
	own.Beat(time.Second)
	k.quiet(10*time.Second, 12250*ms)
	require.Equal(t, invalidation.GapDeaf, k.tick(12300*ms))
	deaf := 0
	for at := 13 * time.Second; at < 60*time.Second; at += 50 * ms {
		if k.tick(at) == invalidation.GapDeaf {
			deaf++
		}
	}
	assert.Greater(t, deaf, 20, "it never gets used to it")
}
