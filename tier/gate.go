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
	// state is the number of calls inside, less a number beyond all once it is shut.
	state atomic.Int64
	left  chan struct{} // one slot: the last call may have left a shut gate
}

// shut is the state of a gate that is shut, with nobody inside.
const shut = math.MinInt64

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

// closed reports whether the gate is shut.
func (g *gate) closed() bool { return g.state.Load() < 0 }

// shut lets nobody in any more. It is called once, before wait.
func (g *gate) shut() { g.state.Add(shut) }

// wait waits until nobody is inside.
func (g *gate) wait() {
	for g.state.Load() != shut {
		<-g.left
	}
}
