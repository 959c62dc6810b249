//go:build cgo && linux

package redistest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWithClock_jumps(t *testing.T) {
	clock := NewClock(t)
	s := Start(t, WithClock(clock))
	c := s.Client(t)
	for _, offset := range []time.Duration{0, time.Hour, -time.Hour} {
		clock.Set(offset)
		require.Eventually(t, func() bool { // the server looks at its clock between commands
			now, err := c.Time(t.Context()).Result()
			return err == nil && (time.Until(now)-offset).Abs() < time.Second
		}, deadline, tick)
	}
	require.NoError(t, c.Set(t.Context(), "k", "v", time.Minute).Err())
	clock.Set(0)
	assert.Eventually(t, func() bool { return c.Exists(t.Context(), "k").Val() == 0 }, deadline, tick)
}
