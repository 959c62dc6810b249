package l1

import "time"

// Clock reads monotonic time: nanoseconds since the clock was made. Changes of
// the wall clock do not touch it. Its owner makes it where it is used, so that
// it follows the time of a testing/synctest bubble.
//
// The zero Clock is not usable; see [NewClock].
type Clock struct{ base time.Time }

// NewClock returns a clock that begins at zero now.
func NewClock() Clock { return Clock{base: time.Now()} }

// Now returns the nanoseconds since the clock was made.
func (c Clock) Now() int64 { return int64(time.Since(c.base)) }

// IsZero reports whether c is the zero Clock.
func (c Clock) IsZero() bool { return c.base.IsZero() }
