package l2

import (
	"encoding/binary"
	"time"
)

// slot is a key while one step runs on it: the twin of what the scripts'
// prelude loads, with the same names for the same rules.
type slot struct {
	m     *Memory
	key   string
	now   int64
	cell  *cell
	state State  // StateAbsent, StateRecord (head intact), StateForeign or StateNewer
	head  Record // with StateRecord
	err   error
}

func (s *slot) ours() bool { return s.state == StateRecord }

// holds reports whether token holds the lease or the bracket on s. Time does
// not matter: a lease that is over and that nobody took is still its holder's.
func (s *slot) holds(token Token) bool {
	return s.ours() && s.head.Kind != KindHold && !token.IsZero() && s.head.Token == token
}

func (s *slot) live() bool {
	return s.ours() && s.now < s.head.LeaseEnd && s.head.LeaseEnd <= s.now+LongestLease.Microseconds()
}

// open reports whether a writer's bracket is open on s.
func (s *slot) open() bool {
	return s.live() && (s.head.Kind == KindWriter || s.head.Kind == KindHold && s.head.Writers > 0)
}

// held reports whether a plain hold lives on s.
func (s *slot) held() bool {
	return s.live() && s.head.Kind == KindHold && s.head.Writers == 0
}

// floor is the source version below which nothing may be stored here.
func (s *slot) floor() uint64 {
	if !s.ours() {
		return 0
	}
	return s.head.Source
}

// valued reports whether a record with a value, or of a newer format, stands here.
func (s *slot) valued() bool {
	return s.ours() && s.head.Kind.HasBody() || s.state == StateNewer
}

// span is how long a placeholder stays that is leased until end: as long again
// as the lease, so that a holder who overruns may still fill if nobody else
// came, and with a floor as long as a tombstone.
func (s *slot) span(end int64, floor uint64) int64 {
	d := max(2*(end-s.now), 1)
	if floor != 0 {
		d = max(d, tombstoneLife.Microseconds())
		if s.cell != nil && s.cell.expires != 0 {
			d = max(d, s.cell.expires-s.now)
		}
	}
	return d
}

// place puts a placeholder here.
func (s *slot) place(r Record) {
	r.Version = NewVersion()
	s.put(appendHead(nil, &r), s.span(r.LeaseEnd, r.Source))
}

// put stores data for d microseconds, 0 for ever.
func (s *slot) put(data []byte, d int64) {
	expires := int64(0)
	if d > 0 {
		expires = s.now + d
	}
	s.cell = s.m.putLocked(s.key, data, expires, false)
	s.state = parseHead(data, &s.head)
}

// store puts a copy of rec here, with the floor in its source version if that
// is higher. False: it does not fit, nothing was changed.
func (s *slot) store(rec []byte, ttl time.Duration) bool {
	floor := s.floor()
	size := int64(len(s.key)+len(rec)) + cellOverhead
	if size > s.m.opt.MaxBytes-s.m.numbers {
		return false
	}
	data := append([]byte(nil), rec...)
	if binary.BigEndian.Uint64(data[offSource:]) < floor {
		binary.BigEndian.PutUint64(data[offSource:], floor)
	}
	s.put(data, millis(ttl)*1000)
	return true
}

// setLease writes a lease into the record's own fields and keeps the record at
// least until it is over. A record that never expires stays so.
func (s *slot) setLease(token Token, end int64) {
	copy(s.cell.data[offToken:], token[:])
	binary.BigEndian.PutUint64(s.cell.data[offLease:], uint64(end))
	s.head.Token, s.head.LeaseEnd = token, end
	if t := s.cell.expires; t != 0 {
		s.m.expireLocked(s.cell, max(t, s.now+s.span(end, 0)))
	}
}

// disturb turns an open bracket into a no-store placeholder: whoever opened it
// may no longer store.
func (s *slot) disturb(end int64, floor uint64, hold bool) {
	writers := s.head.Writers
	if s.head.Kind == KindWriter {
		writers = 1
	} else {
		hold = hold || s.head.Soft
	}
	s.place(Record{Kind: KindHold, Soft: hold, Token: s.head.Token, LeaseEnd: end, Writers: writers, Source: floor})
}

// remove takes away what stands here, with every lease on it, and keeps the
// floor. A live hold stays.
//
// REQUIRES: no bracket is open here, or it is the caller's that ends.
func (s *slot) remove() { s.bury(0, s.floor(), 0) }

// bury leaves a hold until then, a tombstone for at least life, or nothing.
func (s *slot) bury(hold int64, floor uint64, life time.Duration) {
	if s.held() {
		hold = max(hold, s.head.LeaseEnd)
	}
	switch {
	case hold > 0:
		s.place(Record{Kind: KindHold, Soft: true, LeaseEnd: hold, Source: floor})
		if floor > 0 {
			s.m.expireLocked(s.cell, max(s.cell.expires, s.now+life.Microseconds()))
		}
	case floor > 0:
		d := max(tombstoneLife, life).Microseconds()
		if s.ours() && s.cell.expires != 0 {
			d = max(d, s.cell.expires-s.now)
		}
		r := Record{Kind: KindTombstone, Version: NewVersion(), Source: floor}
		s.put(appendHead(nil, &r), d)
	default:
		s.m.removeLocked(s.cell)
		s.cell, s.state = nil, StateAbsent
	}
}
