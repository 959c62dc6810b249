package history

import (
	"slices"
)

// readSamples sorts what the nodes said by node, and notes their gaps.
func (j *judge) readSamples() {
	for _, s := range j.h.Samples {
		before := j.samples[s.Node]
		if n := len(before); n > 0 {
			last := &before[n-1]
			if s.Gaps != last.Gaps {
				j.gaps[s.Node].add(last.Begin, s.End)
				j.v.Gaps += int(s.Gaps - last.Gaps)
			}
			if s.Failures != last.Failures || !s.Answered {
				j.undeclared[s.Node].add(last.Begin, s.End)
			}
		}
		j.samples[s.Node] = append(before, s)
		j.deltas[s.Node] = max(j.deltas[s.Node], s.Delta)
	}
	for n := range j.gaps {
		j.gaps[n].merge()
		j.undeclared[n].merge()
	}
}

// since returns the samples of a node that were asked for at t or later.
func (j *judge) since(node int16, t Time) []Sample {
	all := j.samples[node]
	i, _ := slices.BinarySearchFunc(all, t, func(s Sample, t Time) int {
		if s.Begin < t {
			return -1
		}
		return 1
	})
	return all[i:]
}

// readFaults opens the windows of the faults, and sees that they close.
func (j *judge) readFaults() {
	for i := range j.h.Faults {
		f := &j.h.Faults[i]
		j.v.Faults[f.Name]++
		if f.Effect&Wipes != 0 {
			j.wipes.add(f.Begin, f.End)
		}
		if f.Effect&Forgets != 0 {
			j.wipes.add(f.Begin, f.End)
			j.forgets.add(f.Begin, f.End+Time(j.p.Replay))
		}
		for n := range j.h.Nodes {
			if f.Effect&(Outage|Forgets) == 0 || f.Node >= 0 && int(f.Node) != n {
				continue
			}
			j.outages[n].add(f.Begin, j.recovered(f, int16(n)))
		}
	}
	j.wipes.merge()
	j.forgets.merge()
	for n := range j.outages {
		j.outages[n].merge()
	}
}

// recovered returns when a node served again after a fault. While other faults
// follow it need not.
func (j *judge) recovered(f *Fault, node int16) Time {
	all := j.since(node, f.End)
	for _, s := range all {
		if s.Serving {
			return s.End
		}
	}
	if len(all) == 0 {
		return f.End // the node is gone
	}
	return all[len(all)-1].End
}

// settled judges whether the fleet came to rest.
func (j *judge) settled() {
	h := j.h
	if h.Settled == Never {
		for n := range h.Nodes {
			if all := j.samples[n]; len(all) > 0 && all[len(all)-1].End >= h.Healed {
				last := all[len(all)-1]
				if last.Owed > 0 {
					j.v.violate(NothingForgotten, -1, last.End, "node %d still owes %d changes, the faults ended at %v", n, last.Owed, h.Healed)
				}
				if !last.Serving {
					j.v.violate(Windows, -1, last.End, "node %d does not serve again, the faults ended at %v", n, h.Healed)
				}
			}
		}
		return
	}
	limit := j.p.Recovery + j.stalls.overlap(h.Healed, h.Settled)
	if took := h.Settled - h.Healed; took > Time(limit) {
		j.v.violate(Windows, -1, h.Settled, "the fleet came to rest %v after the faults had ended, at most %v", took, limit)
	}
}
