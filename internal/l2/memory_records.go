package l2

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"
)

// The methods below follow the scripts of the same names line by line. What
// each does and why is said there (scripts.go), once.

// Read implements Store. The reply is a copy.
func (m *Memory) Read(ctx context.Context, key string, limit int) (Reply, error) {
	var rep Reply
	err := m.do(ctx, key, func(s *slot) { rep = s.read(limit) })
	return rep, err
}

func (s *slot) read(limit int) Reply {
	if s.cell == nil {
		return Reply{}
	}
	return limited(bytes.Clone(s.cell.data), s.key, limit)
}

// Lease implements Store.
func (m *Memory) Lease(ctx context.Context, key string, seen Seen, token Token, d time.Duration) (Grant, error) {
	if err := checkLease("d", d); err != nil {
		return Grant{}, err
	}
	if token.IsZero() {
		return Grant{}, fmt.Errorf("%w: token is zero", ErrArgument)
	}
	var g Grant
	err := m.do(ctx, key, func(s *slot) {
		g.Kind = s.lease(seen, token, s.now+d.Microseconds())
		g.Time = s.now
		if g.Kind == GrantBusy || g.Kind == GrantBarred {
			g.Wait = time.Duration(s.head.LeaseEnd-s.now) * time.Microsecond
		}
	})
	return g, err
}

func (s *slot) lease(seen Seen, token Token, end int64) GrantKind {
	version := seen.version()
	same := s.ours() && version != 0 && version == s.head.Version
	placeholder := Record{Kind: KindReader, Token: token, LeaseEnd: end}
	switch {
	case s.state == StateNewer:
		return GrantRefused
	case s.state == StateAbsent && version != 0, s.state == StateForeign && !seen.replaceable():
		return GrantChanged
	case !s.ours():
		s.place(placeholder)
		return Granted
	case s.head.Kind == KindReader || s.head.Kind == KindWriter || s.head.Kind == KindHold:
		mine := s.head.Kind == KindReader && s.holds(token)
		switch {
		case s.live() && !mine && s.head.Kind == KindReader:
			return GrantBusy
		case s.live() && !mine:
			return GrantBarred
		case version != 0 && !same:
			return GrantChanged
		}
		placeholder.Source = s.head.Source
		s.place(placeholder)
		return Granted
	case !same && (version != 0 || s.head.Kind != KindTombstone):
		return GrantChanged
	case s.live() && !s.holds(token):
		return GrantBusy
	}
	s.setLease(token, end)
	return Granted
}

// Renew implements Store.
func (m *Memory) Renew(ctx context.Context, key string, token Token, d time.Duration, writer bool) (bool, error) {
	if err := checkLease("d", d); err != nil {
		return false, err
	}
	var ok bool
	err := m.do(ctx, key, func(s *slot) {
		ok = s.renew(token, s.now+d.Microseconds(), writer)
	})
	return ok, err
}

func (s *slot) renew(token Token, end int64, writer bool) bool {
	switch {
	case s.holds(token):
		s.setLease(token, end)
	case writer && s.ours() && s.head.Kind == KindHold && s.head.Writers > 0:
		if s.live() {
			end = max(end, s.head.LeaseEnd+1)
		}
		s.setLease(s.head.Token, end)
	default:
		return false
	}
	return true
}

// Release implements Store.
func (m *Memory) Release(ctx context.Context, key string, token Token) error {
	return m.do(ctx, key, func(s *slot) {
		switch {
		case !s.holds(token):
		case s.head.Kind == KindReader:
			s.remove()
		case s.head.Kind != KindWriter:
			s.setLease(Token{}, 0)
		}
	})
}

// Fill implements Store.
func (m *Memory) Fill(ctx context.Context, key string, token Token, rec []byte, ttl time.Duration, msg []byte) (bool, error) {
	if err := checkRecord(rec, ttl, false); err != nil {
		return false, err
	}
	var ok bool
	err := m.do(ctx, key, func(s *slot) {
		if !s.holds(token) || s.head.Kind == KindWriter {
			return
		}
		if source := binary.BigEndian.Uint64(rec[offSource:]); source != 0 && source < s.floor() {
			return
		}
		if !s.store(rec, ttl) {
			s.err = errFull
			return
		}
		ok = true
		s.m.publishLocked(msg)
	})
	return ok, err
}

var errFull = fmt.Errorf("%w: more than MaxBytes", ErrRefused)

// Set implements Store.
func (m *Memory) Set(ctx context.Context, key string, rec []byte, ttl time.Duration, msg []byte) (SetResult, error) {
	return m.set(ctx, key, rec, ttl, msg, false)
}

// SetVersioned implements Store.
func (m *Memory) SetVersioned(ctx context.Context, key string, rec []byte, ttl time.Duration, msg []byte) (SetResult, error) {
	return m.set(ctx, key, rec, ttl, msg, true)
}

func (m *Memory) set(ctx context.Context, key string, rec []byte, ttl time.Duration, msg []byte, versioned bool) (SetResult, error) {
	if err := checkRecord(rec, ttl, versioned); err != nil {
		return SetResult{}, err
	}
	source := uint64(0)
	if versioned {
		source = binary.BigEndian.Uint64(rec[offSource:])
	}
	var res SetResult
	err := m.do(ctx, key, func(s *slot) {
		// Nothing of ours is ever late here: the step is done when we return.
		res.Deadline = s.now
		switch {
		case s.open():
			s.disturb(s.head.LeaseEnd, max(s.floor(), source), false)
			res.Barred = true
		case versioned && s.floor() > source:
			s.remove()
			res.Older = true
		case !s.store(rec, ttl):
			s.err = errFull
			return
		default:
			res.Stored = true
		}
		m.publishLocked(msg)
	})
	return res, err
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string, opt DeleteOptions, msg []byte) (DeleteResult, error) {
	if err := opt.check(); err != nil {
		return DeleteResult{}, err
	}
	var res DeleteResult
	err := m.do(ctx, key, func(s *slot) {
		if opt.NotBefore > 0 && s.now <= opt.NotBefore {
			res.Early = time.Duration(opt.NotBefore-s.now+1) * time.Microsecond
			return
		}
		res.Removed = s.delete(opt)
		m.publishLocked(msg)
	})
	return res, err
}

func (s *slot) delete(opt DeleteOptions) (removed bool) {
	hold := int64(0)
	if opt.Hold > 0 {
		hold = s.now + opt.Hold.Microseconds()
	}
	floor := max(s.floor(), opt.Version)
	switch {
	case s.open():
		if hold > 0 {
			s.disturb(max(hold, s.head.LeaseEnd+1), floor, true)
		} else {
			s.disturb(s.head.LeaseEnd, floor, false)
		}
		return false
	case opt.Version != 0 && s.floor() > opt.Version:
		return false
	}
	removed = s.valued()
	s.bury(hold, floor, opt.Tombstone)
	return removed
}

// Expire implements Store.
func (m *Memory) Expire(ctx context.Context, key string, msg []byte) error {
	return m.do(ctx, key, func(s *slot) {
		switch {
		case s.open():
			s.disturb(s.head.LeaseEnd, s.floor(), false)
		case s.ours() && s.head.Kind.HasBody():
			s.cell.data[offSoft] = 1
			binary.BigEndian.PutUint64(s.cell.data[offVersion:], NewVersion())
			s.clearLease()
		default:
			s.remove()
		}
		m.publishLocked(msg)
	})
}

func (s *slot) clearLease() {
	clear(s.cell.data[offToken : offToken+16])
	clear(s.cell.data[offLease : offLease+8])
}

// Begin implements Store.
func (m *Memory) Begin(ctx context.Context, key string, token Token, d time.Duration, msg []byte) (b Bracket, err error) {
	if err := checkHeld(token, d); err != nil {
		return b, err
	}
	err = m.do(ctx, key, func(s *slot) {
		b = s.begin(token, s.now+d.Microseconds())
		m.publishLocked(msg)
	})
	return b, err
}

func (s *slot) begin(token Token, end int64) Bracket {
	if s.holds(token) && s.head.Kind == KindWriter {
		s.setLease(token, end)
		return Bracket{Sole: true}
	}
	if !s.open() && !s.held() {
		s.place(Record{Kind: KindWriter, Token: token, LeaseEnd: end, Writers: 1, Source: s.floor()})
		return Bracket{Sole: true}
	}
	found := s.head.LeaseEnd
	end = max(end, found+1)
	hold := s.head.Kind == KindHold && s.head.Soft
	writers := min(s.head.Writers, maxWriters-1) + 1
	s.place(Record{
		Kind: KindHold, Soft: hold, Token: s.head.Token.plus(token), LeaseEnd: end,
		Writers: writers, Source: s.head.Source,
	})
	return Bracket{till: end, found: found}
}

// End implements Store.
func (m *Memory) End(ctx context.Context, key string, token Token, b Bracket, rec []byte, ttl time.Duration, msg []byte) (stored bool, err error) {
	if len(rec) > 0 {
		if err := checkRecord(rec, ttl, false); err != nil {
			return false, err
		}
	}
	err = m.do(ctx, key, func(s *slot) {
		stored = s.end(token, b, rec, ttl)
		m.publishLocked(msg)
	})
	return stored, err
}

func (s *slot) end(token Token, b Bracket, rec []byte, ttl time.Duration) (stored bool) {
	h := &s.head
	open := s.open()
	if open && h.Kind == KindHold && h.LeaseEnd == b.till {
		h.LeaseEnd = min(h.LeaseEnd, b.found)
	}
	switch {
	case s.holds(token) && h.Kind == KindWriter:
		if len(rec) > 0 && s.store(rec, ttl) {
			return true
		}
		s.remove()
	case open && h.Kind == KindWriter:
		s.disturb(h.LeaseEnd, h.Source, false)
	case open && h.Writers > 1:
		writers, left := h.Writers, h.Token
		if writers < maxWriters {
			writers, left = writers-1, left.minus(token)
		}
		s.place(Record{Kind: KindHold, Soft: h.Soft, Token: left, LeaseEnd: h.LeaseEnd, Writers: writers, Source: h.Source})
	case open && h.Token != token:
		// Not counted here: the placeholder stands until its end.
	case open && h.Soft:
		s.place(Record{Kind: KindHold, Soft: true, LeaseEnd: h.LeaseEnd, Source: h.Source})
	default:
		s.remove()
	}
	return false
}
