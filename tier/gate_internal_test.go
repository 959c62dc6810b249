package tier

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A call inside another does not wait for a gate that waits for the outer one.
func TestGate_nested(t *testing.T) {
	g := newGate()
	require.True(t, g.enter())
	shut := make(chan struct{})
	go func() {
		g.shut()
		g.wait()
		close(shut)
	}()
	require.Eventually(t, func() bool { // it has begun to wait
		if g.enter() {
			g.leave()
			return false
		}
		return true
	}, 10*time.Second, time.Millisecond)
	select {
	case <-shut:
		require.Fail(t, "it did not wait")
	default:
	}
	g.leave()
	<-shut
	assert.False(t, g.enter())
}

func TestGate_waitsForAll(t *testing.T) {
	for range 200 {
		g := newGate()
		var inside sync.Map
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for g.enter() {
					inside.Store(i, true)
					inside.Delete(i)
					g.leave()
				}
			})
		}
		g.shut()
		g.wait()
		inside.Range(func(any, any) bool {
			assert.Fail(t, "somebody is inside")
			return false
		})
		wg.Wait()
	}
}
