package flight

import "sync/atomic"

// Slots bounds the loads that go on although nobody waits for them, over any
// number of groups. All methods may be called concurrently. A nil *Slots is no
// bound.
type Slots struct {
	free    atomic.Int64
	skipped atomic.Uint64
}

// NewSlots returns n free slots.
func NewSlots(n int) *Slots {
	s := &Slots{}
	s.free.Store(int64(n))
	return s
}

// Free returns how many slots are free.
func (s *Slots) Free() int { return int(max(s.free.Load(), 0)) }

// Skipped counts the loads that did not begin, or did not go on, for want of
// a slot.
func (s *Slots) Skipped() uint64 { return s.skipped.Load() }

func (s *Slots) take() bool {
	if s == nil {
		return true
	}
	if s.free.Add(-1) >= 0 {
		return true
	}
	s.free.Add(1)
	s.skipped.Add(1)
	return false
}

func (s *Slots) give() {
	if s != nil {
		s.free.Add(1)
	}
}
