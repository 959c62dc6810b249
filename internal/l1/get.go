package l1

import (
	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/mutant"
)

// Get returns what the store holds for key, whose hash is h, and what it may be
// used for. The entry is nil if and only if the state is None.
//
// lease is the end of the caller's permission to serve from memory, in the time
// of the store's clock: an entry that is read past it is demoted. math.MaxInt64
// stands for no limit.
//
// The lease and the entry's times are compared with the real time at which the
// call began, so none is exceeded by any call that begins later, whatever
// happened to the process in between. (A coarse clock that a goroutine advances
// would spare a third of the hit. But after the process was suspended, hits
// would be served by the time of before until that goroutine has run.)
//
// A hit allocates nothing, takes no lock of this package and writes no cache
// line that other running goroutines write.
func (s *Store[T]) Get(h uint64, key string, lease int64) (*Entry[T], State) {
	counts := s.guard.stripe()
	if s.cache == nil {
		counts.miss()
		return nil, None
	}
	// Before all else: a read of the clock waits for the loads before it.
	now := s.clock.Now()
	l := s.fence.Line(h)
	e := s.front.find(l, h, key)
	fronted := e != nil
	if !fronted {
		if e = s.lookUp(counts, h, key); e == nil {
			counts.miss()
			return nil, None
		}
	}
	state := s.judge(l, e, h, key, now, lease)
	if state.Fresh() {
		if n := counts.hits.Add(1); fronted && (oneOf(sampleBits, n) || counts.spend()) {
			s.tell(counts, h)
		}
		return e, state
	}
	counts.miss()
	if fronted {
		s.tell(counts, h)
	}
	if state == None {
		return nil, None
	}
	return e, state
}

// Peek is Get for a caller that has been counted already: it does not change Stats.
func (s *Store[T]) Peek(h uint64, key string, lease int64) (*Entry[T], State) {
	if s.cache == nil {
		return nil, None
	}
	now := s.clock.Now()
	l := s.fence.Line(h)
	e := s.front.find(l, h, key)
	if e == nil {
		if e = s.lookUp(s.guard.stripe(), h, key); e == nil {
			return nil, None
		}
	}
	if state := s.judge(l, e, h, key, now, lease); state != None {
		return e, state
	}
	return nil, None
}

// judge says what e may be used for.
func (s *Store[T]) judge(l *fence.Line, e *Entry[T], h uint64, key string, now, lease int64) State {
	trust := s.fence.Check(l, h, key, e.slot, &e.checked)
	if mutant.On(mutant.NoStampCheck) {
		trust = fence.Current
	}
	if trust == fence.Void || e.tags != nil && !tagsHold(*e.tags) {
		return None
	}
	if trust == fence.Current && now < e.refreshAt && now < lease {
		return Hit
	}
	return e.at(now, trust == fence.Demoted || now >= lease)
}

func tagsHold(tags []Tag) bool {
	if mutant.On(mutant.NoTagTie) {
		return true
	}
	for i := range tags {
		if tags[i].Cell.Load() != tags[i].Version {
			return false
		}
	}
	return true
}

// at says what an entry that is not void may be used for.
func (e *Entry[T]) at(now int64, demoted bool) State {
	switch t := e.Times(); {
	case now >= t.UsableUntil:
		return None
	case now >= t.FreshUntil && demoted:
		return StaleDemoted
	case now >= t.FreshUntil:
		return Stale
	case demoted:
		return Demoted
	case now >= t.RefreshAt:
		return Due
	}
	return Hit
}

// lookUp finds the entry of key in ristretto, which takes note of the access.
func (s *Store[T]) lookUp(counts *stripe, h uint64, key string) *Entry[T] {
	if !s.guard.enter(counts) {
		return nil
	}
	defer counts.leave()
	// A miss does not count as an access until the value is there, see hand.
	if _, ok := s.cache.GetTTL(h); !ok {
		return nil
	}
	e, _ := s.cache.Get(h)
	if e == nil || !e.has(key) {
		return nil
	}
	s.advance(h, e, oneOf(displaceBits, counts.entered.Load()))
	return e
}

// advance moves an entry that was found in ristretto to the front table, where
// nothing is or, if displace is set, over another key's. What must not happen:
//
//	reader: finds e in ristretto
//	other:  takes e out of ristretto, then out of the table, where it is not
//	reader: places e, which nobody would remove again
//
// So the reader looks once more after it has placed e. If ristretto has it then,
// whoever takes it out of there comes to the table later and finds it. Nor may it
// hide a newer entry, which has been put meanwhile and waits in the window.
func (s *Store[T]) advance(h uint64, e *Entry[T], displace bool) {
	displaced, done := s.front.promote(h, e, displace)
	if !done {
		return
	}
	s.displaced(displaced)
	if now, _ := s.cache.Get(h); now != e || s.front.other(h, e) {
		s.front.remove(e)
	}
}

// tell lets ristretto take note of an access that it did not see.
func (s *Store[T]) tell(counts *stripe, h uint64) {
	if s.guard.enter(counts) {
		s.cache.Get(h)
		counts.leave()
	}
}

// Ristretto admits and evicts by how often a key was asked for lately. It hears
// of every value that is put, of so many hits as the misses pay for (spend), and of one in
// 2^sampleBits of the other hits that the front table serves, because to tell it
// costs as much as the rest of the hit. That is enough: an entry that it lets go of
// for want of news is missed, heard of, and comes back ahead of others.
// TestMeasure_hitRatio holds it to that.
const (
	sampleBits = 5
	// displaceBits is how often an entry that is found in ristretto displaces
	// another one from the front table: rarely, because two hot keys would write
	// the same line in turns; but what is asked for most gets there.
	displaceBits = 3
)

// oneOf picks one of 2^bits numbers. Multiples of the golden ratio spread them
// evenly over any period in which keys may be asked for, where every eighth hit
// could always be the same key's.
func oneOf(bits int, n uint64) bool { return n*0x9e3779b97f4a7c15>>(64-bits) == 0 }
