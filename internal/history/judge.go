package history

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Judge looks for broken promises. It reads h and changes nothing in it.
func Judge(h *History, p *Promises) *Verdict {
	j := &judge{
		h: h, p: p,
		v:    &Verdict{Broken: make(map[Rule]int), Faults: make(map[string]int), Totals: h.Totals, Loads: len(h.Loads)},
		gaps: make([]spans, h.Nodes), outages: make([]spans, h.Nodes), undeclared: make([]spans, h.Nodes),
		samples: make([][]Sample, h.Nodes), deltas: make([]time.Duration, h.Nodes),
	}
	j.stalls = append(j.stalls, h.Stalls...)
	j.stalls.merge()
	j.readSamples()
	j.readFaults()
	j.gather()
	for key := range h.Keys {
		j.key(int32(key))
	}
	j.overlaps()
	j.finals()
	j.settled()
	j.void()
	return j.v
}

// judge is one judgment.
type judge struct {
	h *History
	p *Promises
	v *Verdict

	stalls     spans
	samples    [][]Sample      // by node
	deltas     []time.Duration // by node: the largest Δ it stated
	gaps       []spans         // by node
	outages    []spans         // by node: declared, until it had recovered
	undeclared []spans         // by node: those that nobody made
	forgets    spans           // of the fleet
	wipes      spans

	ops   [][]int32 // by key, wide ones included
	loads [][]int32 // by key

	// Of the key at hand.
	own    []floors // by node
	fleet  floors
	owed   reach // stores that Redis did not confirm, until it did
	change reach // all changes, until every node must have heard
	made   reach // all changes, until Redis had made them and nothing was left of them
}

// gather sorts operations and loads by key.
func (j *judge) gather() {
	j.ops = make([][]int32, len(j.h.Keys))
	for i := range j.h.Ops {
		op := &j.h.Ops[i]
		j.operation(op)
		if op.Key >= 0 {
			j.ops[op.Key] = append(j.ops[op.Key], int32(i))
			continue
		}
		for _, key := range j.h.Scopes[op.Scope] {
			j.ops[key] = append(j.ops[key], int32(i))
		}
	}
	for _, list := range j.ops {
		slices.SortFunc(list, func(a, b int32) int { return cmp.Compare(j.h.Ops[a].Call, j.h.Ops[b].Call) })
	}
	j.loads = make([][]int32, len(j.h.Keys))
	for i := range j.h.Loads {
		key := j.h.Loads[i].Key
		j.loads[key] = append(j.loads[key], int32(i))
	}
}

// operation judges what does not depend on other operations: FailOpen.
func (j *judge) operation(op *Op) {
	switch op.Kind {
	case Read, Peek:
		j.v.Reads++
	case Void, Store, Soften:
		j.v.Changes++
		if op.Result == Owed {
			j.v.Owed++
		}
	}
	switch op.Result {
	case Failed:
		j.v.violate(FailOpen, op.Key, op.Return, "%s returned an error that no promise allows", j.describe(op))
	case Wrong:
		j.v.violate(Validity, op.Key, op.Return, "%s returned a value of another key, or a damaged one", j.describe(op))
	}
	limit := time.Duration(math.MaxInt64)
	switch {
	case op.Result == Lost:
	case op.Kind == Peek:
		limit = j.p.Timeout
	case op.Kind == Read:
		// The loads of others are waited for: one under way, one that a change
		// made necessary, and a lease whose holder is gone.
		limit = 2*j.p.Timeout + j.p.Lease + 4*j.p.LongestLoad
	}
	if took := time.Duration(op.Return - op.Call); took > limit {
		if limit += j.p.Slack + j.stalls.overlap(op.Call, op.Return); took > limit {
			j.v.violate(FailOpen, op.Key, op.Return, "%s took %v, at most %v", j.describe(op), took, limit)
		}
	}
}

// key judges the reads of one key.
func (j *judge) key(key int32) {
	j.floors(key)
	for _, i := range j.ops[key] {
		op := &j.h.Ops[i]
		if op.Kind == Read || op.Kind == Peek {
			j.read(key, op)
		}
	}
}

// floors collects what the changes of a key demand of its reads.
func (j *judge) floors(key int32) {
	j.own = make([]floors, j.h.Nodes)
	j.fleet = nil
	var owed, all, made []Span
	left := Never // until when what was left of a bracket stands, if any is left
	for _, i := range j.ops[key] {
		op := &j.h.Ops[i]
		if op.Kind != Void && op.Kind != Store && op.Kind != Soften {
			continue
		}
		confirmed := j.confirmed(op)
		heard := Never
		if op.Result == Lost {
			heard = j.replaced(key, op)
		} else if confirmed != Never {
			heard = confirmed + Time(j.longestDelta()+j.p.Slack)
		}
		all = append(all, Span{op.Call, heard})
		over := min(confirmed, heard)
		if op.Bracket && over != Never && (op.Result != OK || left != Never && op.Call < left) {
			// Brackets that begin before what was left of one is over keep it there.
			over += Time(j.p.Bracket)
			if left == Never || left < over {
				left = over
			}
		}
		made = append(made, Span{op.Call, over})
		if op.Kind == Store && op.Result != OK {
			owed = append(owed, Span{op.Call, heard})
		}
		if j.h.Keys[key].Order == ByRedis || op.Result == Failed || op.Kind == Soften {
			continue
		}
		floor := op.Version
		if floor == 0 {
			floor = j.h.database(key, op.Call)
		}
		if op.Result != Lost {
			j.own[op.Node] = append(j.own[op.Node], step{op.Return, floor, i})
		}
		if confirmed != Never {
			j.fleet = append(j.fleet, step{confirmed, floor, i})
		}
	}
	for n := range j.own {
		j.own[n].sort()
	}
	j.fleet.sort()
	j.owed, j.change, j.made = newReach(owed), newReach(all), newReach(made)
}

// confirmed returns when Redis had confirmed a change, as far as the run knows.
func (j *judge) confirmed(op *Op) Time {
	switch op.Result {
	case OK:
		return op.Return
	case Owed, Left:
		for _, s := range j.since(op.Node, op.Return) {
			if s.Owed == 0 {
				return s.End
			}
		}
	}
	return Never
}

// replaced returns when every node must have heard of a change that made up for
// one that was lost with its node.
func (j *judge) replaced(key int32, lost *Op) Time {
	first := Never
	for _, i := range j.ops[key] {
		op := &j.h.Ops[i]
		if (op.Kind == Void || op.Kind == Store) && op.Call >= lost.Return {
			first = min(first, j.confirmed(op))
		}
	}
	if first == Never {
		return Never
	}
	return first + Time(j.longestDelta()+j.p.Slack)
}

func (j *judge) longestDelta() time.Duration {
	longest := time.Duration(0)
	for _, d := range j.deltas {
		longest = max(longest, d)
	}
	return longest
}
