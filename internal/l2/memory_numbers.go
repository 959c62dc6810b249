package l2

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// Marker implements Store.
func (m *Memory) Marker(ctx context.Context, key string, floor uint64, msg []byte) (uint64, error) {
	return m.marker(ctx, key, floor, msg, false)
}

// Raise implements Store.
func (m *Memory) Raise(ctx context.Context, key string, floor uint64, msg []byte) (uint64, error) {
	return m.marker(ctx, key, floor, msg, true)
}

func (m *Memory) marker(ctx context.Context, key string, floor uint64, msg []byte, raise bool) (uint64, error) {
	if err := checkMessage(msg); err != nil {
		return 0, err
	}
	var version uint64
	err := m.do(ctx, key, func(s *slot) {
		current := s.marker()
		if current != 0 && !raise {
			version = current
			return
		}
		next, ok := s.nextVersion(current, floor)
		if !ok {
			return
		}
		if !s.number(strconv.AppendUint(nil, next, 10), 0) {
			s.err = errFull
			return
		}
		version = next
		s.tell(msg, version)
	})
	if err != nil {
		return 0, err
	}
	return version, nil
}

// marker returns the version that stands here, 0 if there is none that is one.
func (s *slot) marker() uint64 {
	if s.cell == nil {
		return 0
	}
	return parseMarker(string(s.cell.data))
}

// parseMarker reads a marker: decimal digits, at most 20, within 64 bits.
// Anything else is 0, a missing marker: it invalidates and starts anew.
func parseMarker(text string) uint64 {
	if len(text) > 20 {
		return 0
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0
		}
	}
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return v
}

// number stores the digits of a counter or marker. False: it does not fit.
func (s *slot) number(digits []byte, expires int64) bool {
	size := int64(len(s.key)+len(digits)) + cellOverhead
	if s.cell == nil && s.m.numbers+size > s.m.opt.MaxBytes {
		return false
	}
	s.cell = s.m.putLocked(s.key, digits, expires, true)
	return true
}

// Add implements Store.
func (m *Memory) Add(ctx context.Context, key string, delta int64, window time.Duration) (int64, error) {
	if err := checkSpan("window", window); err != nil {
		return 0, err
	}
	var sum int64
	err := m.do(ctx, key, func(s *slot) {
		n, _, err := s.count()
		sum = n + delta
		if err == nil && (delta > 0) != (sum > n) && delta != 0 {
			err = notInteger(key)
		}
		if err == nil {
			err = s.setCount(sum, window)
		}
		s.err = err
	})
	if err != nil {
		return 0, err
	}
	return sum, nil
}

// Take implements Store.
func (m *Memory) Take(ctx context.Context, key string, limit int64, window time.Duration) (taken bool, count int64, left time.Duration, err error) {
	if err := checkSpan("window", window); err != nil {
		return false, 0, 0, err
	}
	err = m.do(ctx, key, func(s *slot) {
		count, _, s.err = s.count()
		if s.err == nil && count < limit {
			if s.err = s.setCount(count+1, window); s.err == nil {
				taken, count = true, count+1
			}
		}
		left = s.left()
	})
	return taken, count, left, err
}

// Count implements Store.
func (m *Memory) Count(ctx context.Context, key string) (count int64, left time.Duration, found bool, err error) {
	err = m.do(ctx, key, func(s *slot) {
		count, found, s.err = s.count()
		left = s.left()
	})
	return count, left, found, err
}

func (s *slot) count() (n int64, found bool, err error) {
	if s.cell == nil {
		return 0, false, nil
	}
	n, err = parseCount(s.key, string(s.cell.data))
	return n, err == nil, err
}

// parseCount takes what Redis' INCRBY takes: the canonical decimal form.
func parseCount(key, text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != text {
		return 0, notInteger(key)
	}
	return n, nil
}

func notInteger(key string) error {
	return fmt.Errorf("counter %q: %w", key, ErrNotInteger)
}

// setCount keeps a window that runs and begins one that does not.
func (s *slot) setCount(n int64, window time.Duration) error {
	expires := int64(0)
	switch {
	case s.cell != nil && s.cell.expires != 0:
		expires = s.cell.expires
	case window > 0:
		expires = s.now + millis(window)*1000
	}
	if !s.number(strconv.AppendInt(nil, n, 10), expires) {
		return errFull
	}
	return nil
}

// left is the remaining time, negative when it does not end.
func (s *slot) left() time.Duration {
	if s.cell == nil || s.cell.expires == 0 {
		return -1
	}
	return time.Duration(s.cell.expires-s.now) * time.Microsecond
}
