package history

import (
	"cmp"
	"fmt"
	"slices"
)

// strayKeys is on how many keys of a node overlapping loads are taken for
// collisions: keys whose stamps share a slot are invalidated together, which is
// documented and rare. A join that is broken shows on all keys.
const strayKeys = 2

// overlaps judges OneLoad.
func (j *judge) overlaps() {
	stray := make([][]Violation, j.h.Nodes)
	total := 0
	for key := range j.h.Keys {
		list := j.loads[key]
		slices.SortFunc(list, func(a, b int32) int { return cmp.Compare(j.h.Loads[a].Begin, j.h.Loads[b].Begin) })
		j.floors(int32(key))
		seen := make(map[int16]bool)
		latest := make(map[int16]int32) // by node, the load that ends last
		for _, i := range list {
			load := &j.h.Loads[i]
			for node, k := range latest {
				before := &j.h.Loads[k]
				if before.End <= load.Begin || before.Abandoned || load.Abandoned || j.explained(before, load) {
					continue
				}
				if node != load.Node {
					if total++; total <= kept {
						j.v.Strays = append(j.v.Strays, j.describeOverlap(before, load)+"\n"+j.story(load.Key, &Op{Call: load.Call, Return: load.End, Node: load.Node}))
					}
					continue
				}
				if !seen[node] {
					seen[node] = true
					stray[node] = append(stray[node], Violation{Key: int32(key), At: load.Begin, Text: j.describeOverlap(before, load)})
				}
			}
			if k, ok := latest[load.Node]; !ok || j.h.Loads[k].End < load.End {
				latest[load.Node] = i
			}
		}
	}
	for _, list := range stray {
		if len(list) > strayKeys {
			for _, x := range list {
				j.v.violate(OneLoad, x.Key, x.At, "%s", x.Text)
			}
		}
	}
	j.v.Overlaps = total
	if limit := int(j.p.FleetOverlap*float64(len(j.h.Loads))) + 5; total > limit {
		j.v.violate(OneLoad, -1, j.h.Healed, "%d loads overlapped with one of another node, and nothing explains it; at most %d of %d", total, limit, len(j.h.Loads))
	}
}

// explained reports whether two loads of a key may have run beside each other:
// the key changed, messages may have been missed, the first was too old to be
// joined; and on two nodes, the lease may have been gone.
func (j *judge) explained(a, b *Load) bool {
	from, to := a.Call, b.Begin
	if j.gaps[a.Node].touch(from, to) || j.gaps[b.Node].touch(from, to) {
		return true
	}
	reach := Time(j.longestDelta() + j.p.Slack)
	if j.wipes.touch(from-reach, to) {
		return true
	}
	if a.Node == b.Node {
		return j.change.touch(from, to) || b.Call-a.Call >= Time(j.p.Join)
	}
	// A lease goes with the change itself, not with the message of it.
	if j.made.touch(from, to) {
		return true
	}
	if j.forgets.touch(from-Time(j.p.Bars), b.End) {
		return true
	}
	for _, n := range [...]int16{a.Node, b.Node} {
		if j.outages[n].touch(from, b.End) || j.undeclared[n].touch(from, b.End) {
			return true
		}
	}
	return j.stalls.touch(from, b.End)
}

func (j *judge) describeOverlap(a, b *Load) string {
	return fmt.Sprintf("%s was loaded by node %d from %v to %v, for a call at %v, and by node %d from %v to %v, for one at %v",
		j.h.Keys[a.Key].Name, a.Node, a.Begin, a.End, a.Call, b.Node, b.Begin, b.End, b.Call)
}
