package history

import (
	"cmp"
	"slices"
	"time"
)

// spans are disjoint and in the order of time, once merged.
type spans []Span

func (s *spans) add(begin, end Time) { *s = append(*s, Span{begin, end}) }

// merge sorts the spans and joins those that touch.
func (s *spans) merge() {
	slices.SortFunc(*s, func(a, b Span) int { return cmp.Compare(a.Begin, b.Begin) })
	out := (*s)[:0]
	for _, x := range *s {
		if n := len(out); n > 0 && x.Begin <= out[n-1].End {
			out[n-1].End = max(out[n-1].End, x.End)
			continue
		}
		out = append(out, x)
	}
	*s = out
}

// touch reports whether one of the merged spans meets [begin, end].
func (s spans) touch(begin, end Time) bool {
	i, _ := slices.BinarySearchFunc(s, begin, func(x Span, t Time) int {
		if x.End < t {
			return -1
		}
		return 1
	})
	return i < len(s) && s[i].Begin <= end
}

// overlap returns how much of [begin, end] the merged spans cover.
func (s spans) overlap(begin, end Time) time.Duration {
	var sum Time
	for _, x := range s {
		if x.Begin >= end {
			break
		}
		sum += max(0, min(x.End, end)-max(x.Begin, begin))
	}
	return time.Duration(sum)
}

// step says that from a time on nothing below floor may be read, and which
// operation made it so.
type step struct {
	at    Time
	floor int64
	op    int32
}

// floors are steps that rise, once sorted.
type floors []step

// sort drops the steps that add nothing.
func (f *floors) sort() {
	slices.SortFunc(*f, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	out := (*f)[:0]
	for _, s := range *f {
		if n := len(out); n > 0 && s.floor <= out[n-1].floor {
			continue
		}
		out = append(out, s)
	}
	*f = out
}

// at returns the floor at a time.
func (f floors) at(t Time) step {
	i, _ := slices.BinarySearchFunc(f, t, func(s step, t Time) int {
		if s.at <= t {
			return -1
		}
		return 1
	})
	if i == 0 {
		return step{op: -1}
	}
	return f[i-1]
}

// above returns when something above version became due.
func (f floors) above(version int64) Time {
	i, _ := slices.BinarySearchFunc(f, version, func(s step, v int64) int {
		if s.floor <= v {
			return -1
		}
		return 1
	})
	if i == len(f) {
		return Never
	}
	return f[i].at
}

// reach answers whether any of many spans, that may overlap, meets another.
type reach struct {
	begins []Time
	ends   []Time // the largest end of those up to here
}

func newReach(all []Span) reach {
	slices.SortFunc(all, func(a, b Span) int { return cmp.Compare(a.Begin, b.Begin) })
	var r reach
	last := Time(-1)
	for _, s := range all {
		last = max(last, s.End)
		r.begins, r.ends = append(r.begins, s.Begin), append(r.ends, last)
	}
	return r
}

func (r reach) touch(begin, end Time) bool {
	i, found := slices.BinarySearch(r.begins, end)
	for found && i < len(r.begins) && r.begins[i] == end {
		i++
	}
	return i > 0 && r.ends[i-1] >= begin
}
