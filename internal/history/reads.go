package history

import (
	"fmt"
	"slices"
	"time"
)

// read judges what a read returned.
func (j *judge) read(key int32, op *Op) {
	var version int64
	switch op.Result {
	case Value:
		version = op.Version
		if !j.valid(key, op) {
			return
		}
	case Absent:
		version = j.lastAbsent(key, op.Return)
	default:
		return
	}
	if j.h.Keys[key].Order == ByRedis {
		return
	}
	if due := j.own[op.Node].at(op.Call); version < due.floor {
		if j.resurrected(key, version, due) {
			j.v.AfterWipe++
			return
		}
		if slices.Contains(j.h.Unasked, op.Node) && j.forgets.touch(op.Call, op.Return) {
			j.v.InFailover++
			return
		}
		j.v.violate(ReadYourWrites, key, op.Return, "%s, below %d of %s\n%s",
			j.describe(op), due.floor, j.describe(&j.h.Ops[due.op]), j.explain(key, op))
		return
	}
	j.staleness(key, op, version)
}

// valid reports whether the value is one that the database ever had by then.
func (j *judge) valid(key int32, op *Op) bool {
	commits := j.h.Commits[key]
	switch v := op.Version; {
	case v < 1 || v > int64(len(commits)):
		j.v.violate(Validity, key, op.Return, "%s, a version that never was", j.describe(op))
	case commits[v-1].At > op.Return:
		j.v.violate(Validity, key, op.Return, "%s, committed only at %v", j.describe(op), commits[v-1].At)
	case commits[v-1].Absent:
		j.v.violate(Validity, key, op.Return, "%s, the version that deleted it", j.describe(op))
	default:
		return true
	}
	return false
}

// lastAbsent is the newest version at t that says there is no value: what is
// absent does not tell which one it was, so the best one counts.
func (j *judge) lastAbsent(key int32, t Time) int64 {
	for v := j.h.database(key, t); v > 0; v-- {
		if j.h.absent(key, v) {
			return v
		}
	}
	return 0
}

// staleness judges a read by the changes of all nodes.
func (j *judge) staleness(key int32, op *Op, version int64) {
	since := j.fleet.above(version)
	if since >= op.Call {
		return
	}
	stale := time.Duration(op.Call - since)
	bound := j.deltas[op.Node]
	outage := j.outages[op.Node].touch(op.Call, op.Return)
	if stale <= bound+j.p.Slack {
		if !outage {
			j.v.Stalest = max(j.v.Stalest, stale)
		}
		return
	}
	bound += j.p.Slack + j.stalls.overlap(since, op.Call)
	due := j.fleet.at(op.Call - Time(bound))
	if version >= due.floor { // the process stood still
		j.v.Stalest = max(j.v.Stalest, stale)
		return
	}
	switch {
	case j.forgets.touch(op.Call, op.Return):
		j.v.InFailover++
		return
	case j.owed.touch(op.Call, op.Return):
		j.v.BehindOwedStore++
		return
	case j.resurrected(key, version, due):
		j.v.AfterWipe++
		return
	case outage || j.undeclared[op.Node].touch(op.Call, op.Return):
		j.v.StalestInOutage = max(j.v.StalestInOutage, stale)
		bound += j.p.LocalTTL
		if due = j.fleet.at(op.Call - Time(bound)); version >= due.floor {
			if !outage {
				j.v.Undeclared++
			}
			j.v.InOutage++
			return
		}
	}
	j.v.violate(BoundedStaleness, key, op.Return, "%s, %v after %d was due, at most %v: %s\n%s",
		j.describe(op), stale, due.floor, bound, j.describe(&j.h.Ops[due.op]), j.explain(key, op))
}

// resurrected reports whether version may have come back although due says
// that it was over: a late store that carries a version is told from a timely
// one by what the record under the key says, and that was wiped.
func (j *judge) resurrected(key int32, version int64, due step) bool {
	if j.h.Keys[key].Order != BySource || due.op < 0 {
		return false
	}
	over := j.h.Ops[due.op].Return
	for _, i := range j.ops[key] {
		op := &j.h.Ops[i]
		if op.Kind != Store || op.Version != version {
			continue
		}
		for _, w := range j.wipes {
			if over <= w.End && op.Return >= w.Begin {
				return true
			}
		}
	}
	return false
}

// describe is an operation in words.
func (j *judge) describe(op *Op) string {
	name := j.h.Names[op.Name]
	on := "a scope"
	if op.Key >= 0 {
		on = j.h.Keys[op.Key].Name
	}
	s := fmt.Sprintf("%s(%s) by node %d, client %d, from %v to %v", name, on, op.Node, op.Client, op.Call, op.Return)
	switch op.Result {
	case Value:
		s += fmt.Sprintf(" returned %d", op.Version)
	case Absent:
		s += " said absent"
	case Miss:
		s += " missed"
	case Owed:
		s += " was owed"
	case Left:
		s += " was left"
	case Lost:
		s += " was lost with its node"
	}
	if op.Stale {
		s += ", marked stale"
	}
	return s
}
