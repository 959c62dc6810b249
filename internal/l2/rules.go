package l2

import (
	"fmt"
	"time"
)

const (
	// LongestLease bounds leases, brackets and holds. What claims to end later
	// than this from now counts as over: the clock of the server has gone back,
	// and nobody who holds it could still be waited for (DESIGN 5.7, 14).
	LongestLease = 10 * time.Minute

	// tombstoneLife is how long a source version is remembered at least once
	// its value is gone: longer than any write that could arrive late.
	tombstoneLife = time.Hour

	// maxWriters ends the count of open writers. Once there it is not lowered,
	// since it is not known by how many it falls short; the placeholder then
	// stands until its end.
	maxWriters = 255
)

// checkKey refuses what no caller means as a key.
func checkKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: key is empty", ErrArgument)
	}
	return nil
}

// checkLease holds for the duration of leases, brackets and holds.
func checkLease(field string, d time.Duration) error {
	if d < time.Millisecond || d > LongestLease {
		return fmt.Errorf("%w: %s %v is not between 1ms and %v", ErrArgument, field, d, LongestLease)
	}
	return nil
}

// checkHeld holds for leases that are asked for.
func checkHeld(token Token, d time.Duration) error {
	if token.IsZero() {
		return fmt.Errorf("%w: token is zero", ErrArgument)
	}
	return checkLease("d", d)
}

// checkRecord refuses what Read would not take back as a value. It looks at the
// head alone; the body is its maker's.
func checkRecord(rec []byte, ttl time.Duration, versioned bool) error {
	var r Record
	if parseHead(rec, &r) != StateRecord || !r.Kind.HasBody() {
		return fmt.Errorf("%w: rec is not a record with a value", ErrArgument)
	}
	if versioned && r.Source == 0 {
		return fmt.Errorf("%w: rec has no source version", ErrArgument)
	}
	return checkSpan("ttl", ttl)
}

// checkSpan holds for times to live, where 0 is none.
func checkSpan(field string, d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%w: %s %v is negative", ErrArgument, field, d)
	}
	return nil
}

func (o *DeleteOptions) check() error {
	if o.Hold != 0 {
		if err := checkLease("Hold", o.Hold); err != nil {
			return err
		}
	}
	return checkSpan("Tombstone", o.Tombstone)
}

// checkMessage holds for messages that get a version in their last 8 bytes.
func checkMessage(msg []byte) error {
	if n := len(msg); n > 0 && n < 8 {
		return fmt.Errorf("%w: msg of %d bytes has no room for a version", ErrArgument, n)
	}
	return nil
}

// millis rounds d up to whole milliseconds, the unit of TTLs in Redis: a TTL
// that rounds to 0 would be an error there.
func millis(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
