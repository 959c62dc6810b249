package tier

import (
	"sync"

	"github.com/tandemcache/tandem/internal/mutant"
)

// versionCell remembers a number in Redis that only grows: a cache's version
// for Clear.
//
// Learning it races the message that changes it: an answer read before a Clear
// may arrive after the message of it. The larger number wins, whichever came
// last. A number read while the trust epoch moved serves that one read only:
// its message may be among the missed.
type versionCell struct {
	mu      sync.Mutex
	known   uint64 // 0: not known; guarded by mu
	highest uint64 // the largest ever seen, a floor for Redis; guarded by mu
	forgets uint64 // counts forget; guarded by mu
}

// get returns the remembered version, 0 if none is.
func (c *versionCell) get() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known
}

// begin returns what a later learn needs to know that nothing was forgotten in
// between, and the floor to ask with.
func (c *versionCell) begin() (ticket, floor uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forgets, c.highest
}

// learn takes a version read from Redis, and returns the one to use now.
func (c *versionCell) learn(ticket, version uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !mutant.On(mutant.ClearLastWins) {
		version = max(version, c.highest)
	}
	c.highest = version
	if ticket == c.forgets {
		c.known = version
	}
	return version
}

// raise takes a version from a message or from an own Clear, and reports
// whether it is news: what was stored before is then void.
func (c *versionCell) raise(version uint64) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if version == c.highest && version == c.known {
		return false
	}
	if version < c.highest && !mutant.On(mutant.ClearLastWins) {
		c.known = 0 // a number that went back: read it again
		return true
	}
	c.highest, c.known = version, version
	return true
}

// forget makes the next read ask Redis. The floor stays.
func (c *versionCell) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = 0
	c.forgets++
}
