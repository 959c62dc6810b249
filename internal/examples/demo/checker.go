package main

import (
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// checker knows, for every user, when each update was acknowledged and by which
// process, and judges each read by that. All times are those of the load
// generator: an update counts from when its response had arrived, a read from
// when it was about to be sent. The service began the read later and completed
// the update earlier, so whatever is found here has happened.
//
// All methods may be called concurrently.
type checker struct {
	limits limits

	mu     sync.Mutex
	base   []int64 // version of each user before the first update, by id
	users  map[int64]*history
	outage outage
	faults []string // the first few, in words
	broken counts
	reads  int
}

// limits are what the promises allow.
type limits struct {
	Delta    time.Duration // BoundedStaleness: another process may be that late
	LocalTTL time.Duration // and that late while it can ask nobody
	Replay   time.Duration // NothingForgotten: from Redis' return to the replay
}

// outage is when Redis was away. A zero time has not come yet.
type outage struct {
	Down time.Time // just before it was stopped
	Back time.Time // when it had answered again
}

// affects reports whether an update acknowledged at that time may not have
// reached the other process: Redis was away, or its last messages died with it,
// or the services had not noticed yet that it was back.
func (o outage) affects(at time.Time, l limits) bool {
	if o.Down.IsZero() || at.Before(o.Down.Add(-l.Delta)) {
		return false
	}
	return o.Back.IsZero() || at.Before(o.Back.Add(l.Replay))
}

// history is what is known of one user.
type history struct {
	acks    []ack
	pending int    // updates sent and not answered
	writing uint64 // what the pending update writes
}

// ack is an acknowledged update.
type ack struct {
	version int64
	process int
	at      time.Time
	about   uint64 // fingerprint of what it wrote
}

// counts are the ways in which a read can break a promise.
type counts struct {
	OwnWrite int // ReadYourWrites
	Late     int // BoundedStaleness with Redis there
	LateAway int // and its weaker form around the outage
	Wrong    int // not what was written: another user, another version's text, a version of the future
}

func (c counts) total() int { return c.OwnWrite + c.Late + c.LateAway + c.Wrong }

// observation is a read as its client saw it.
type observation struct {
	id      int64
	process int
	sent    time.Time
	version int64
	user    user
}

// verdict is what the checker says of a read.
type verdict struct {
	// Lag is how long ago, when the read was sent, its value had been replaced;
	// 0 if it was current.
	Lag time.Duration
	// Excused: the update fell into the outage, so that the weaker bound applies.
	Excused bool
	// Broken names the promise, or is empty.
	Broken string
}

func newChecker(base []int64, l limits) *checker {
	return &checker{limits: l, base: base, users: make(map[int64]*history)}
}

// redisDown and redisBack tell the checker of the outage.
func (c *checker) redisDown(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outage = outage{Down: at}
}

func (c *checker) redisBack(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outage.Back = at
}

// redisAway reports whether Redis is known to have been away at that time.
func (c *checker) redisAway(at time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.outage
	return !o.Down.IsZero() && at.After(o.Down) && (o.Back.IsZero() || at.Before(o.Back))
}

// settled is from when on nothing that was updated may be old any more, given
// that the last update was acknowledged at that time.
func (c *checker) settled(last time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if replayed := c.outage.Back.Add(c.limits.Replay); replayed.After(last) {
		last = replayed
	}
	return last.Add(c.limits.Delta)
}

// begin says that an update of a user is about to be sent. The caller sends the
// next one of that user only after it has called acknowledge.
func (c *checker) begin(id int64, ch change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.history(id)
	h.pending++
	h.writing = fingerprint(ch.About)
}

// acknowledge says that the update was answered at that time with a version.
func (c *checker) acknowledge(id int64, process int, version int64, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.history(id)
	h.pending--
	if want := c.newest(id, h) + 1; version != want {
		c.broken.Wrong++
		c.note("user %d: an update was answered with version %d, not %d", id, version, want)
	}
	h.acks = append(h.acks, ack{version: version, process: process, at: at, about: h.writing})
}

func (c *checker) history(id int64) *history {
	h := c.users[id]
	if h == nil {
		h = &history{}
		c.users[id] = h
	}
	return h
}

// newest is the last acknowledged version.
func (c *checker) newest(id int64, h *history) int64 {
	if n := len(h.acks); n > 0 {
		return h.acks[n-1].version
	}
	return c.base[id]
}

// check judges a read. It is called once for each, when its answer has come.
func (c *checker) check(o observation) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if wrong := c.wrong(o); wrong != "" {
		c.broken.Wrong++
		c.note("user %d: process %s answered %s", o.id, processName(o.process), wrong)
		return verdict{Broken: wrong}
	}
	h := c.users[o.id]
	if h == nil {
		return verdict{}
	}
	var v verdict
	for _, a := range h.acks {
		if a.version <= o.version || !a.at.Before(o.sent) {
			continue
		}
		v.Lag = max(v.Lag, o.sent.Sub(a.at))
		if c.outage.affects(a.at, c.limits) {
			v.Excused = true
		}
		if v.Broken == "" {
			v.Broken = c.judge(o, a)
		}
	}
	return v
}

// judge says which promise a read broke that was sent after a and returned what
// a had replaced.
func (c *checker) judge(o observation, a ack) string {
	lag := o.sent.Sub(a.at)
	switch {
	case o.process == a.process:
		c.broken.OwnWrite++
		c.note("ReadYourWrites: user %d: process %s answered version %d, %v after it had acknowledged %d",
			o.id, processName(o.process), o.version, lag, a.version)
		return "ReadYourWrites"
	case !o.sent.After(c.deadline(a.at, o.sent)):
		return ""
	case c.outage.affects(a.at, c.limits):
		c.broken.LateAway++
		c.note("NothingForgotten: user %d: process %s answered version %d, %v after %d was acknowledged during the outage",
			o.id, processName(o.process), o.version, lag, a.version)
		return "NothingForgotten"
	default:
		c.broken.Late++
		c.note("BoundedStaleness: user %d: process %s answered version %d, %v after %d was acknowledged",
			o.id, processName(o.process), o.version, lag, a.version)
		return "BoundedStaleness"
	}
}

// deadline is until when another process may serve what an update replaced, as
// seen by a read sent at that time.
func (c *checker) deadline(acked, sent time.Time) time.Time {
	if !c.outage.affects(acked, c.limits) {
		return acked.Add(c.limits.Delta)
	}
	if c.outage.Back.IsZero() || sent.Before(c.outage.Back) {
		return acked.Add(max(c.limits.LocalTTL, c.limits.Delta))
	}
	replayed := c.outage.Back.Add(c.limits.Replay)
	if acked.After(replayed) {
		replayed = acked
	}
	return replayed.Add(c.limits.Delta)
}

// wrong says what is not right about an answer at all, however old it may be.
func (c *checker) wrong(o observation) string {
	switch {
	case o.user.ID != o.id || o.user.Email != emailOf(o.id):
		return fmt.Sprintf("with the user %d, %q", o.user.ID, o.user.Email)
	case o.user.Version != o.version:
		return fmt.Sprintf("version %d in its header and %d in its body", o.version, o.user.Version)
	case o.version < c.base[o.id]:
		return fmt.Sprintf("version %d, which is older than the beginning", o.version)
	}
	h := c.users[o.id]
	if h == nil {
		h = &history{}
	}
	if newest := c.newest(o.id, h) + int64(h.pending); o.version > newest {
		return fmt.Sprintf("version %d of %d", o.version, newest)
	}
	for _, a := range h.acks {
		if a.version == o.version && a.about != fingerprint(o.user.About) {
			return fmt.Sprintf("version %d with the text of another", o.version)
		}
	}
	return ""
}

// note keeps a fault in words. REQUIRES: c.mu.
func (c *checker) note(format string, args ...any) {
	const most = 10
	if len(c.faults) < most {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

// findings returns what was found so far.
func (c *checker) findings() (reads int, broken counts, faults []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads, c.broken, append([]string(nil), c.faults...)
}

// updated returns the newest version of each user that was updated.
func (c *checker) updated() map[int64]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	newest := make(map[int64]int64, len(c.users))
	for id, h := range c.users {
		newest[id] = c.newest(id, h)
	}
	return newest
}

func fingerprint(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never an error
	return h.Sum64()
}

// processName is A or B.
func processName(process int) string { return string(rune('A' + process)) }
