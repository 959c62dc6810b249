package tier

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/journal"
)

// The wait for a store's deadline ends when the time that it can take is over: it
// must not depend on the clock of a server that was not the one asked.
func TestNode_replay_waitsForTheDeadlineNoLongerThanItCanTake(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	defer n.Close()
	d := journal.Debt{Scope: journal.Key, NotBefore: 1 << 60, Version: 7, Last: time.Now()}
	assert.EqualValues(t, 1<<60, n.replay(&d, nil).NotBefore)
	d.Last = time.Now().Add(-2*n.cfg.Timeout - replayGrace - time.Second)
	opt := n.replay(&d, nil)
	assert.Zero(t, opt.NotBefore)
	assert.EqualValues(t, 7, opt.Version)
}
