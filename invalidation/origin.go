package invalidation

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// listedBeats is in how many beats a lost number is excused. A receiver that
// hears none of so many in a row has noticed the silence (two intervals) and
// has its gap. One that still misses the number afterwards gets a gap that was
// not needed, and nothing worse.
const listedBeats = 4

// agesKept is of how many beats their origin knows what they told. One that comes
// back behind so many others is taken for an impostor's. So an origin must not send
// faster than it hears: the beats that a node sends out of turn wait for each other,
// and in turn it sends as many only in a time for which no link is silent.
const agesKept = 16

// Origin numbers the messages of one node and accounts for them in its beats.
// All methods may be called concurrently.
//
// Every number from [Origin.Next] is to be resolved once, by [Origin.Confirmed]
// or [Origin.Lost]. What is not resolved stays open in every beat.
type Origin struct {
	id    NodeID
	began time.Time

	mu      sync.Mutex // guards what follows
	last    uint64     // number given out last
	beats   uint64     // beats made so far
	every   time.Duration
	ages    [agesKept]time.Duration // told by the last beats, by number
	changed time.Time               // last Next, Confirmed or Lost
	open    []uint64                // ascending, at most MaxListed
	lost    []lostNumber

	// Numbers that were open when open was full. They cannot be listed, so beats
	// say Overflow until they are resolved, and then in listedBeats more.
	unlisted   int
	unlistedTo uint64 // the highest of them
	overflow   int    // beats that still have to say so
}

// lostNumber is a number to excuse. They ascend in Origin.lost.
type lostNumber struct {
	seq   uint64
	beats int // it was listed in
}

// NewOrigin returns an origin that has given out nothing yet.
func NewOrigin(id NodeID) *Origin {
	now := time.Now()
	return &Origin{id: id, began: now, changed: now}
}

// ID returns the id of the node.
func (o *Origin) ID() NodeID { return o.id }

// Last returns the number given out last, 0 before the first.
func (o *Origin) Last() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last
}

// Next gives out the next number, beginning with 1. It is open from now on: no
// receiver misses it.
func (o *Origin) Next() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changed = time.Now()
	o.last++
	if len(o.open) == MaxListed {
		o.unlistedTo = o.open[0]
		o.unlisted++
		o.open = slices.Delete(o.open, 0, 1)
	}
	o.open = append(o.open, o.last)
	return o.last
}

// Confirmed says that the message with this number was published. From the next
// beat on receivers miss it if it has not arrived.
func (o *Origin) Confirmed(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resolve(seq)
}

// Lost says that the message with this number was not published, or perhaps not.
// Receivers that do not have it are told not to wait for it, so what it said must
// be sent again, under a new number, unless it needed no saying (a message that
// was to be published only if something changed). A number that was confirmed
// cannot be lost any more.
func (o *Origin) Lost(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.resolve(seq) {
		return
	}
	if len(o.lost) == MaxListed {
		// The lowest is the one that has been listed most often. Where it was
		// not heard it is missed, which is a gap.
		o.lost = slices.Delete(o.lost, 0, 1)
	}
	i, _ := slices.BinarySearchFunc(o.lost, seq, func(l lostNumber, seq uint64) int {
		return cmp.Compare(l.seq, seq)
	})
	o.lost = slices.Insert(o.lost, i, lostNumber{seq: seq})
}

// resolve closes a number and reports whether it was listed as open.
func (o *Origin) resolve(seq uint64) bool {
	o.changed = time.Now()
	if i, ok := slices.BinarySearch(o.open, seq); ok {
		o.open = slices.Delete(o.open, i, i+1)
		return true
	}
	if seq <= o.unlistedTo && o.unlisted > 0 {
		o.unlisted--
	}
	return false
}

// Beat returns the next beat. interval announces when the one after it follows;
// it is limited to between a millisecond and [MaxInterval].
func (o *Origin) Beat(interval time.Duration) Message {
	return o.beat(KindBeat, min(max(interval, time.Millisecond), MaxInterval))
}

// Bye returns the last beat: nothing may follow it, so what is open then is
// claimed as sent. Receivers stop expecting beats, and still miss what has not
// arrived.
func (o *Origin) Bye() Message { return o.beat(KindBye, 0) }

func (o *Origin) beat(kind Kind, interval time.Duration) Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.beats++
	o.every = interval
	o.ages[o.beats%agesKept] = now.Sub(o.began)
	if o.unlisted > 0 {
		o.overflow = listedBeats
	}
	m := Message{Kind: kind, Node: o.id, Seq: o.last, Beat: Beat{
		Number:   o.beats,
		Interval: interval,
		Age:      now.Sub(o.began),
		Quiet:    now.Sub(o.changed),
		Overflow: o.overflow > 0,
		Open:     slices.Clone(o.open),
	}}
	if o.overflow > 0 {
		o.overflow--
	}
	for i := range o.lost {
		m.Beat.Excused = append(m.Beat.Excused, o.lost[i].seq)
		o.lost[i].beats++
	}
	o.lost = slices.DeleteFunc(o.lost, func(l lostNumber) bool { return l.beats >= listedBeats })
	return m
}

// progress returns the number of beats made and the announced interval.
func (o *Origin) progress() (beats uint64, every time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.beats, o.every
}

// gave reports whether a message with the id of the origin is its own. A copy of
// the process, made while it ran, goes on with the same id and the same numbers,
// but no two of them beat at the same nanosecond of their lives.
func (o *Origin) gave(m *Message) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := &m.Beat
	if m.Seq > o.last || b.Number > o.beats {
		return false
	}
	return b.Number == 0 || o.beats-b.Number < agesKept && o.ages[b.Number%agesKept] == b.Age
}

// Interval returns how far apart the beats of each of so many nodes are to be,
// for a wish of base (0 and less: one second).
//
// Up to 100 nodes it is at most one second (or base, if that is more), because
// the bound of staleness rests on it. Below that it is lengthened to keep the
// beats of the fleet under 50 a second; where the two contradict, from 51 to 100
// nodes, the bound wins and there are up to 100 beats a second. Beyond 100 nodes
// there are 50 a second. It never exceeds [MaxInterval].
func Interval(base time.Duration, nodes int) time.Duration {
	const share = time.Second / 50 // of each node in the interval
	if base <= 0 {
		base = time.Second
	}
	fair := time.Duration(min(max(nodes, 1), int(MaxInterval/share))) * share
	if nodes <= 100 {
		fair = min(fair, time.Second)
	}
	return min(max(base, fair), MaxInterval)
}
