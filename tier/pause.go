package tier

import (
	"math"
	"sync/atomic"
	"time"
)

// pauses remembers records with which something is not to be tried again for
// a short time. It takes no lock and does not grow.
//
// A slot holds 24 bits of the record's version, which is random, over the time
// at which the pause ends. Records that share a slot take each other's place,
// which costs a try too many; records that share the bits as well, one pair in
// 16 million, hold each other up for a pause.
type pauses [4096]atomic.Uint64

// pauseTime is how long something rests at most.
const pauseTime = time.Second

// pauseBits are those of the time, milliseconds on the node's clock.
const pauseBits = 40

func (p *pauses) slot(record uint64) (s *atomic.Uint64, tag uint64) {
	return &p[record%uint64(len(p))], record >> pauseBits << pauseBits
}

// on reports whether record rests at now.
func (p *pauses) on(record uint64, now int64) bool {
	s, tag := p.slot(record)
	return resting(s.Load(), tag, now)
}

func resting(word, tag uint64, now int64) bool {
	return word^tag < 1<<pauseBits && int64(word^tag) > now/int64(time.Millisecond)
}

// begin lets record rest until d after now.
func (p *pauses) begin(record uint64, now int64, d time.Duration) {
	s, tag := p.slot(record)
	s.Store(tag | end(now, d))
}

// claim is begin unless record rests already. Of several that claim at once one
// is told true.
func (p *pauses) claim(record uint64, now int64, d time.Duration) bool {
	s, tag := p.slot(record)
	word := s.Load()
	return !resting(word, tag, now) && s.CompareAndSwap(word, tag|end(now, d))
}

// end is the time of a pause's end, rounded up.
func end(now int64, d time.Duration) uint64 {
	const unit = int64(time.Millisecond)
	return uint64((now+int64(d)+unit-1)/unit) & (math.MaxUint64 >> (64 - pauseBits))
}

// pauseOf is how long a value that was stored with ttl rests: half to all of
// a second, or of its ttl if that is shorter.
func pauseOf(ttl time.Duration) time.Duration {
	if ttl <= 0 {
		ttl = pauseTime
	}
	return jitter(min(ttl, pauseTime))
}
