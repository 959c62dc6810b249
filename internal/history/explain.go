package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// lazy is a text that is made when it is printed: of many violations few are.
type lazy func() string

// String makes the text.
func (l lazy) String() string { return l() }

// explain tells what happened to a key around an operation; without one, at
// the end.
func (j *judge) explain(key int32, around *Op) lazy {
	return func() string { return j.story(key, around) }
}

func (j *judge) story(key int32, around *Op) string {
	const before, lines = Time(6 * time.Second), 60
	from, to := j.h.Healed-before, Never
	if around != nil {
		from, to = around.Call-before, around.Return
	}
	type line struct {
		at   Time
		text string
	}
	var story []line
	tell := func(at Time, format string, args ...any) {
		story = append(story, line{at, fmt.Sprintf(format, args...)})
	}
	for v, c := range j.h.Commits[key] {
		if c.At >= from && c.At <= to {
			tell(c.At, "the database commits %d (deleted: %v)", v+1, c.Absent)
		}
	}
	for _, i := range j.ops[key] {
		op := &j.h.Ops[i]
		change := op.Kind == Void || op.Kind == Store || op.Kind == Soften
		if (change || around != nil && op.Node == around.Node && op.Return >= from+before*3/4) && op.Return >= from && op.Call <= to {
			tell(op.Call, "%s", j.describe(op))
		}
	}
	for _, i := range j.loads[key] {
		if l := &j.h.Loads[i]; l.End >= from && l.Begin <= to {
			tell(l.Begin, "node %d loads until %v", l.Node, l.End)
		}
	}
	for _, f := range j.h.Faults {
		if f.End >= from && f.Begin <= to {
			tell(f.Begin, "fault %s of node %d until %v", f.Name, f.Node, f.End)
		}
	}
	slices.SortStableFunc(story, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	if len(story) > lines {
		story = story[len(story)-lines:]
	}
	var b strings.Builder
	for _, l := range story {
		fmt.Fprintf(&b, "\t%-14v %s\n", l.at, l.text)
	}
	return b.String()
}
