package tier

import (
	"sync"
	"sync/atomic"

	"github.com/tandemcache/tandem/internal/mutant"
)

// versionCell remembers a version in Redis, a number that only grows: a cache's
// for Clear, or a tag's. Raising it there voids what was stored before.
//
// Learning a version races the message that changes it: an answer read before
// the change may arrive after the message of it. So whoever will read it takes a
// ticket first, messages reach the cell meanwhile, and the larger number wins,
// whichever came last. A number read while a trust epoch moved serves that one
// read only: its message may be among the missed.
type versionCell struct {
	// forgets is shared by all cells of a node: what was learned before it moved
	// is not known any more.
	forgets *atomic.Uint64
	// moves grows whenever what depends on the version is void. An entry in L1
	// remembers what it showed, and a hit compares. The version itself would not
	// do for that: it may go back, and then two changes could show the same.
	moves atomic.Uint64

	mu      sync.Mutex
	known   uint64 // 0: not known; guarded by mu
	learned uint64 // what forgets showed then; guarded by mu
	highest uint64 // the largest ever seen, a floor for Redis; guarded by mu
}

// get returns the remembered version, 0 if none is.
func (c *versionCell) get() uint64 {
	version, _ := c.show()
	return version
}

// show is get, with moves as of the same moment.
func (c *versionCell) show() (version, moves uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.knownLocked(), c.moves.Load()
}

func (c *versionCell) knownLocked() uint64 {
	if c.learned != c.forgets.Load() {
		return 0
	}
	return c.known
}

// begin returns what a later learn needs to know that nothing was forgotten in
// between, and the floor to ask with.
func (c *versionCell) begin() (ticket, floor uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forgets.Load(), c.highest
}

// learn takes a version read from Redis, and returns the one to use now, and
// whether it is higher than one that was known: what was stored before is then
// void.
func (c *versionCell) learn(ticket, version uint64) (use uint64, news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = c.highest != 0 && version > c.highest
	use, _ = c.learnLocked(ticket, version)
	return use, news
}

// learnAt takes a version read from Redis, and returns the one to use now, with
// moves as of the same moment.
func (c *versionCell) learnAt(ticket, version uint64) (use, moves uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.learnLocked(ticket, version)
}

func (c *versionCell) learnLocked(ticket, version uint64) (use, moves uint64) {
	if version > c.highest || mutant.On(mutant.ClearLastWins) {
		c.highest = version
		c.moves.Add(1)
	}
	if ticket == c.forgets.Load() {
		c.known, c.learned = c.highest, ticket
	}
	return c.highest, c.moves.Load()
}

// raise takes a version from a message or from an own change: what was stored
// before is void.
func (c *versionCell) raise(version uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.highest && version == c.knownLocked() {
		return
	}
	c.moves.Add(1)
	if version < c.highest && !mutant.On(mutant.ClearLastWins) {
		c.known = 0 // a number that went back: read it again
		return
	}
	c.highest, c.known, c.learned = version, version, c.forgets.Load()
}

// forget makes the next read of every cell of the node ask Redis. Floors stay.
func (c *versionCell) forget() { c.forgets.Add(1) }
