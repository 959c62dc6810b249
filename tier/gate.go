package tier

import (
	"math"
	"sync/atomic"
)

// gate counts calls under way, so that Close can wait for them. Entering never
// waits: a call may enter inside another, also while Close waits for the outer
// one (a codec or a loader of the user's may well call the cache). The zero value
// is open.
type gate struct {
	// state is the number of calls inside, and shut once it is set.
	state atomic.Int64
	left  chan struct{} // one slot: the last call may have left a shut gate
}

const shut = math.MinInt64 // so that the number below it is the sum less shut

func newGate() *gate { return &gate{left: make(chan struct{}, 1)} }

// enter reports whether the gate is open; then leave must follow.
func (g *gate) enter() bool {
	if g.state.Add(1) < 0 {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.state.Add(-1) == shut {
		signal(g.left)
	}
}

// wait shuts the gate and waits until nobody is inside. It is called once.
func (g *gate) wait() {
	for n := g.state.Add(shut); n != shut; n = g.state.Load() {
		<-g.left
	}
}
