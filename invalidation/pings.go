package invalidation

import (
	"crypto/rand"
	"strconv"
	"sync"
	"time"
)

// maxPings is how many PINGs may be under way. Behind a handler that is stuck
// no more are sent.
const maxPings = 64

// pings remembers when the PINGs of one link were sent. Answers come in the
// order of sending: one that is missing shows in the next one.
type pings struct {
	mu      sync.Mutex // guards what follows
	prefix  string     // random for each link
	waiting []ping
	count   uint64
}

type ping struct {
	payload string
	sent    time.Time
}

// run sends PINGs until the link ends.
func (p *pings) run(l *link, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if payload, ok := p.next(); ok {
			if err := l.pubsub.Ping(l.ctx, payload); err != nil {
				l.cut(GapLink, err)
			}
		}
		select {
		case <-ticker.C:
		case <-l.ctx.Done():
			return
		}
	}
}

// next notes a PING as sent, before it is: its time must not be later than
// anything that the answer proves.
func (p *pings) next() (payload string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) >= maxPings {
		return "", false
	}
	if p.prefix == "" {
		p.prefix = rand.Text() + ":"
	}
	p.count++
	payload = p.prefix + strconv.FormatUint(p.count, 10)
	p.waiting = append(p.waiting, ping{payload, time.Now()})
	return payload, true
}

// answered returns when the PING with this payload was sent. False: it is not
// the one whose turn it is.
func (p *pings) answered(payload string) (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 || p.waiting[0].payload != payload {
		return time.Time{}, false
	}
	return p.popLocked(), true
}

// refused returns when the PING was sent that an error answers, which says no
// more than that it is a PING. False: none is without an answer.
func (p *pings) refused() (time.Time, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return time.Time{}, false
	}
	return p.popLocked(), true
}

func (p *pings) popLocked() time.Time {
	sent := p.waiting[0].sent
	p.waiting = p.waiting[1:]
	return sent
}

// overdue reports whether a PING has been without an answer for so long.
func (p *pings) overdue(limit time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting) > 0 && time.Since(p.waiting[0].sent) > limit
}
