package model

import "hash/maphash"

// Result is what an exploration came to.
type Result struct {
	States int
	Whole  bool     // false: it was cut off at the limit of states
	Broken string   // the promise that broke; empty: none
	Trace  []string // the steps that lead there
}

// Explore tries every order of steps of a scenario, under the protocol without
// what is switched off. It stops at the first promise that breaks, or after so many
// states.
func Explore(sc Scenario, off Switches, most int) Result {
	w := &world{Scenario: sc, off: off}
	e := &explorer{w: w, seed: maphash.MakeSeed(), parents: map[uint64]uint64{}}
	return e.run(most)
}

type explorer struct {
	w       *world
	seed    maphash.Seed
	parents map[uint64]uint64 // by fingerprint; the first state is its own
}

func (e *explorer) print(s *state) uint64 { return maphash.Comparable(e.seed, *s) }

func (e *explorer) run(most int) Result {
	first := e.w.normal(e.w.initial())
	e.parents[e.print(&first)] = e.print(&first)
	level := []state{first}
	for len(level) > 0 {
		var after []state
		for i := range level {
			s := &level[i]
			here := e.print(s)
			steps := e.w.steps(s)
			for j := range steps {
				n := &steps[j]
				n.state = e.w.normal(n.state)
				there := e.print(&n.state)
				if n.broken != "" {
					return e.told(here, n.state, true)
				}
				if _, seen := e.parents[there]; seen {
					continue
				}
				e.parents[there] = here
				if e.w.wrong(&n.state) != "" {
					return e.told(there, n.state, false)
				}
				after = append(after, n.state)
			}
			if len(e.parents) >= most {
				return Result{States: len(e.parents)}
			}
		}
		level = after
	}
	return Result{States: len(e.parents), Whole: true}
}

// told walks the way again, this time with words. Breaking says that the last step
// from the state with fingerprint last broke a promise; else that state itself does.
func (e *explorer) told(last uint64, bad state, breaking bool) Result {
	r := Result{States: len(e.parents), Whole: true}
	way := []uint64{last}
	for at := last; e.parents[at] != at; {
		at = e.parents[at]
		way = append(way, at)
	}
	e.w.telling = true
	s := e.w.normal(e.w.initial())
	for i := len(way) - 2; i >= 0; i-- {
		for _, n := range e.w.steps(&s) {
			n.state = e.w.normal(n.state)
			if e.print(&n.state) == way[i] {
				r.Trace = append(r.Trace, n.label)
				s = n.state
				break
			}
		}
	}
	if !breaking {
		r.Broken = e.w.wrong(&s)
		return r
	}
	for _, n := range e.w.steps(&s) {
		if n.broken != "" && e.w.normal(n.state) == bad {
			r.Trace, r.Broken = append(r.Trace, n.label), n.broken
			return r
		}
	}
	r.Broken = "a promise"
	return r
}
