package tier

import (
	"context"
	"sync"
	"time"
)

// barriers proves that messages have arrived: an own beat that comes back is behind
// all that were published before it was sent. Those who ask share beats.
//
// Whoever asks is served by a beat that is sent later. While one that serves others
// is under way none is sent out of turn, until that has come back or is given up.
// So few beats are under way, however many ask, as agesKept in package invalidation
// demands.
type barriers struct {
	wake func() // has a beat sent soon; it must not block

	mu    sync.Mutex
	asked *barrierRound // waits for a beat to be sent, or nil; guarded by mu
	sent  *barrierRound // its beat is under way, or nil; guarded by mu
}

// barrierRound is those whom one beat serves.
type barrierRound struct {
	number uint64
	age    time.Duration // as the beat told
	since  time.Time
	proved bool          // set before done is closed
	done   chan struct{} // closed when the beat has come back or was given up
}

// wait reports whether a beat came back that was sent after the call.
func (b *barriers) wait(ctx context.Context) bool {
	b.mu.Lock()
	r := b.asked
	if r == nil {
		r = &barrierRound{done: make(chan struct{})}
		b.asked = r
		if b.sent == nil {
			b.wake()
		}
	}
	b.mu.Unlock()
	select {
	case <-r.done:
		return r.proved
	case <-ctx.Done():
		return false
	}
}

// sending is to be called before a beat is sent: it serves those who have asked,
// unless one for others is under way.
func (b *barriers) sending(number uint64, age time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent != nil || b.asked == nil {
		return
	}
	b.sent, b.asked = b.asked, nil
	b.sent.number, b.sent.age, b.sent.since = number, age, time.Now()
}

// heard takes a beat that came back.
func (b *barriers) heard(number uint64, age time.Duration) {
	b.end(true, func(r *barrierRound) bool { return r.number == number && r.age == age })
}

// failed takes a beat that was not sent, or perhaps not.
func (b *barriers) failed(number uint64) {
	b.end(false, func(r *barrierRound) bool { return r.number == number })
}

// lost gives up the beat under way if it is older than that.
func (b *barriers) lost(older time.Duration) {
	b.end(false, func(r *barrierRound) bool { return time.Since(r.since) >= older })
}

// end ends the round whose beat is under way, if it is the one meant.
func (b *barriers) end(proved bool, meant func(*barrierRound) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent == nil || !meant(b.sent) {
		return
	}
	b.sent.proved = proved
	close(b.sent.done)
	b.sent = nil
	if b.asked != nil {
		b.wake()
	}
}
