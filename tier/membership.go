package tier

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

// member is the node's side of the bus: it handles what is heard, keeps count
// of what is sent, and decides until when the local tier may be trusted.
//
// L1 is leased. Its entries are fresh only before heardUntil, which moves on
// two proofs: a PING on the subscription that came back behind all messages
// before it (on one server a PING never overtakes a PUBLISH, so this bounds
// staleness whatever is cut, frozen or stuck), and the node's own beat, which
// takes the path of real invalidations from the publisher to the handler.
type member struct {
	node *Node

	// heardUntil is read by every hit and written a few times a second.
	heardUntil atomic.Int64
	_          [56]byte

	beatNow   chan struct{} // one slot: asks for a beat out of turn
	relink    chan struct{} // one slot: Redis is back, and the subscription should be
	heardOnce chan struct{} // closed at the first proof
	once      sync.Once

	origin  *invalidation.Origin
	tracker *invalidation.Tracker

	mu      sync.Mutex
	pong    int64      // until when the last PING trusts; guarded by mu
	echo    int64      // until when the last own beat trusts; guarded by mu
	tracked int64      // until when the last proof of tracking trusts; guarded by mu
	beats   [8]ownBeat // the last own beats, by number; guarded by mu

	barriers barriers

	sent, received, gaps atomic.Uint64
	gapReason            atomic.Pointer[string]
}

// ownBeat is a beat under way to ourselves.
type ownBeat struct {
	number   uint64
	sent     int64         // on the node's clock
	age      time.Duration // as it told
	interval time.Duration
}

func newMember(n *Node) *member {
	m := &member{
		node: n, heardOnce: make(chan struct{}), beatNow: make(chan struct{}, 1),
		relink: make(chan struct{}, 1), origin: invalidation.NewOrigin(n.id),
	}
	m.barriers.wake = func() { signal(m.beatNow) }
	m.tracker = invalidation.NewTracker(m.origin)
	if !n.cfg.Tracking {
		m.tracked = math.MaxInt64
	}
	if !n.remote() {
		// The in-process bus delivers before a change returns: nothing to prove.
		m.heardUntil.Store(math.MaxInt64)
	}
	return m
}

// maxSilence is how long a proof of hearing is good for.
func (m *member) maxSilence() time.Duration { return 2 * m.node.cfg.Heartbeat }

// interval is the time between two own beats; it grows with the fleet.
func (m *member) interval() time.Duration {
	return invalidation.Interval(m.node.cfg.Heartbeat, m.tracker.Origins())
}

// maxStaleness is Δ of BoundedStaleness. With one server a proof of hearing is at
// most maxSilence old. Across servers, and for a message that one server loses
// alone, it is the numbers that tell.
func (m *member) maxStaleness() time.Duration {
	return max(m.maxSilence(), invalidation.Unnoticed(m.interval()))
}

// Heard implements invalidation.Handler.
func (m *member) Heard(sent time.Time) {
	m.mu.Lock()
	m.pong = max(m.pong, m.node.clock.Now()-int64(time.Since(sent))+int64(m.maxSilence()))
	m.trustLocked()
	m.mu.Unlock()
}

// trustLocked moves the end of the local tier's lease.
func (m *member) trustLocked() {
	if !m.node.remote() {
		return
	}
	until := min(m.pong, m.echo)
	if !mutant.On(mutant.UntrackedTrust) {
		until = min(until, m.tracked)
	}
	if mutant.On(mutant.NoL1Lease) {
		until = math.MaxInt64
	}
	m.heardUntil.Store(until)
	if until > m.node.clock.Now() {
		m.once.Do(func() { close(m.heardOnce) })
	}
}

// hears reports whether the node can prove now that it hears invalidations.
func (m *member) hears() bool { return m.node.clock.Now() < m.heardUntil.Load() }

// Gap implements invalidation.Handler.
func (m *member) Gap(reason invalidation.GapReason) {
	m.mu.Lock()
	m.pong, m.echo = 0, 0 // what was proved was proved of another link
	m.trustLocked()
	m.mu.Unlock()
	m.barriers.lost(0) // what was under way went to that one
	if reason == invalidation.GapSubscribed {
		m.node.guard.subscribed()
		m.tracker.Reset(time.Now())
		signal(m.beatNow) // its echo is the second proof
	}
	m.gap(reason.String())
}

func (m *member) gap(reason string) {
	m.gaps.Add(1)
	m.gapReason.Store(&reason)
	if mutant.On(mutant.NoGapEpoch) {
		return
	}
	m.node.eachSpace(space.distrust)
}

// Message implements invalidation.Handler.
func (m *member) Message(msg invalidation.Message) {
	own := msg.Node == m.node.id
	if !own && msg.Kind < invalidation.KindBeat {
		m.received.Add(1)
		m.heardOf(&msg)
	}
	if !m.node.remote() {
		return // the in-process bus loses nothing, and its nodes do not beat
	}
	if own && msg.Kind == invalidation.KindBeat {
		m.echoed(&msg.Beat)
	}
	m.missing(m.tracker.Observe(msg, time.Now()))
}

// farVersion is above every version that a server gives: they are its time in
// microseconds, or the next number. One that was believed would be the floor of
// all later ones, and there is none above the highest of all.
const farVersion = 1 << 62

// far reports whether msg has the version of a cache or a tag that no server
// gives. It is taken for one that was lost.
func far(msg *invalidation.Message) bool {
	return (msg.Kind == invalidation.KindClear || msg.Kind == invalidation.KindTags) && msg.Version >= farVersion
}

// heardOf does what another node's message asks for, and remembers it.
func (m *member) heardOf(msg *invalidation.Message) {
	if far(msg) {
		m.gap("a version that no server gives")
		return
	}
	m.node.apply(*msg)
	if m.node.remote() {
		m.node.guard.received(msg)
	}
}

// missing acts on what the tracker found.
func (m *member) missing(reason invalidation.GapReason) {
	if reason == invalidation.GapNone {
		return
	}
	m.gap(reason.String())
	if reason == invalidation.GapDeaf {
		// The link answers PINGs and carries nothing: a server that was demoted
		// or left the cluster. Another link may lead to the right one.
		m.node.sub.Renew()
	}
}

// echoed takes an own beat that came back, if this process did send it, which its
// age proves: a message may cause misses, never trust.
func (m *member) echoed(beat *invalidation.Beat) {
	m.barriers.heard(beat.Number, beat.Age)
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.beats[beat.Number%uint64(len(m.beats))]
	if b.number != beat.Number || b.number == 0 || b.age != beat.Age {
		return
	}
	m.echo = max(m.echo, b.sent+int64(max(m.maxSilence(), 2*b.interval)+invalidation.Grace))
	m.trustLocked()
}

// apply does what another node's message asks for.
func (n *Node) apply(msg invalidation.Message) {
	if msg.Kind == invalidation.KindTags {
		n.applyTags(msg)
		return
	}
	s := n.space(msg.Cache)
	if s == nil {
		return
	}
	switch msg.Kind {
	case invalidation.KindKeys:
		for _, key := range msg.Keys {
			s.invalidate(key)
		}
	case invalidation.KindPrefix:
		for _, prefix := range msg.Keys {
			s.invalidatePrefix(prefix)
		}
	case invalidation.KindClear:
		if n.remote() {
			s.clear(msg.Version)
		}
	}
	if !n.remote() {
		n.applyOwnStore(s, msg)
	}
}

// applyOwnStore makes the same change in this node's in-process records:
// without Redis each node has its own, and a lease in them must be voided by
// another node's invalidation too.
func (n *Node) applyOwnStore(s space, msg invalidation.Message) {
	switch msg.Kind {
	case invalidation.KindKeys:
		for _, key := range msg.Keys {
			opt := l2.DeleteOptions{Version: msg.Version, Tombstone: s.tombstone()}
			_, _ = n.store.Delete(n.ctx, s.redisKey(key), opt, nil)
			s.invalidate(key)
		}
	case invalidation.KindPrefix:
		for _, prefix := range msg.Keys {
			_, _ = n.removePrefix(n.ctx, msg.Cache, prefix, nil)
			s.invalidatePrefix(prefix)
		}
	case invalidation.KindClear:
		// The sender's number is one of its own records.
		s.invalidatePrefix("")
		_, floor := s.version().begin()
		if version, err := n.store.Raise(n.ctx, n.markerKey(msg.Cache), floor, nil); err == nil {
			s.clear(version)
		}
	}
}

// tickEvery is how often the tracker looks at what should have arrived, and by how
// much a beat can be late in leaving. [invalidation.Unnoticed] counts with it.
const tickEvery = invalidation.Grace / 3

// beat publishes the node's beats until the node is closed, and looks after
// the tracker's deadlines.
func (m *member) beat() {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	next := time.Now()
	for {
		if now := time.Now(); !now.Before(next) {
			m.sendBeat()
			next = now.Add(m.interval())
		}
		select {
		case <-m.node.ctx.Done():
			return
		case <-m.beatNow:
			next = time.Now()
		case <-m.relink:
			// Each read costs a round trip until the node hears again: it does not
			// sit out the pause that grew while Redis was away.
			if !m.node.sub.Stats().Confirmed {
				m.node.sub.Renew()
			}
		case <-ticker.C:
			m.barriers.lost(m.maxSilence())
			m.missing(m.tracker.Tick(time.Now()))
		}
	}
}

// sendBeat is called by one goroutine: a beat is published before the next is
// numbered, so that none overtakes another.
func (m *member) sendBeat() {
	interval := m.interval()
	msg := m.origin.Beat(interval)
	b := ownBeat{number: msg.Beat.Number, sent: m.node.clock.Now(), age: msg.Beat.Age, interval: interval}
	m.mu.Lock()
	m.beats[b.number%uint64(len(m.beats))] = b
	m.mu.Unlock()
	m.barriers.sending(b.number, b.age)
	if !m.publish(msg) {
		m.barriers.failed(b.number)
	}
}

// barrier waits until this node has handled every message that was published
// before the call, and reports whether that is certain. It is where one server
// carries all messages: an own beat comes back behind them.
func (m *member) barrier(ctx context.Context) bool {
	switch {
	case !m.node.remote():
		return true // delivered before a change returns
	case m.node.clustered:
		return false
	}
	return m.barriers.wait(ctx)
}

// goodbye tells the others not to wait for this node's beats.
func (m *member) goodbye() { m.publish(m.origin.Bye()) }

// publish sends what changes no key, and reports whether that is certain. A missed
// beat is noticed by whoever needs it.
func (m *member) publish(msg invalidation.Message) bool {
	b, err := msg.Append(nil)
	if err != nil {
		m.node.log.Warn("tier: message does not encode", "kind", msg.Kind, "error", err)
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.node.ctx), m.node.cfg.Timeout)
	defer cancel()
	return m.node.bus.Publish(ctx, b) == nil
}

// notice is an invalidation to be published by a change in Redis.
type notice struct {
	bytes   []byte
	seq     uint64
	attempt attempt
}

// compose gives msg its origin and sequence number, and has the guard remember
// it. Every notice must be followed by settle: the others wait for numbers that
// never come.
func (m *member) compose(msg invalidation.Message) (notice, error) {
	nt, err := m.number(msg)
	if err == nil && m.node.remote() {
		nt.attempt = m.node.guard.begin(&msg)
	}
	return nt, err
}

// number is compose for a message that tells of nothing that could be lost.
func (m *member) number(msg invalidation.Message) (notice, error) {
	msg.Node = m.node.id
	msg.Seq = m.origin.Next()
	b, err := msg.Append(nil)
	if err != nil {
		m.origin.Lost(msg.Seq)
		return notice{}, err
	}
	return notice{bytes: b, seq: msg.Seq}, nil
}

// settle says whether the change that carried nt was confirmed.
func (m *member) settle(nt notice, confirmed bool) {
	if m.node.remote() {
		m.node.guard.end(&nt.attempt, confirmed)
	}
	if confirmed {
		m.sent.Add(1)
		m.origin.Confirmed(nt.seq)
		return
	}
	m.origin.Lost(nt.seq)
}
