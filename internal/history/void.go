package history

import (
	"fmt"
	"time"
)

// void finds out whether the run proves anything.
func (j *judge) void() {
	h, p := j.h, j.p
	empty := func(format string, args ...any) { j.v.Void = append(j.v.Void, fmt.Sprintf(format, args...)) }

	if span := time.Duration(h.Healed - h.Begun); span > 0 {
		j.v.Rate = float64(len(h.Ops)) / span.Seconds()
	}
	if j.v.Rate < p.MinRate {
		empty("%.0f operations a second, at least %.0f", j.v.Rate, p.MinRate)
	}
	t := h.Totals
	reads := float64(max(t.HitsL1+t.HitsL2+t.Misses, 1))
	if share := float64(t.HitsL1) / reads; share < p.MinL1 {
		empty("%.3f of the reads were hits in L1, at least %.3f", share, p.MinL1)
	}
	if share := float64(t.HitsL2) / reads; share < p.MinL2 {
		empty("%.3f of the reads were hits in L2, at least %.3f", share, p.MinL2)
	}
	if t.Refused < p.MinRefused {
		empty("%d fills were refused, at least %d", t.Refused, p.MinRefused)
	}
	if len(h.Faults) < p.MinFaults {
		empty("%d faults, at least %d", len(h.Faults), p.MinFaults)
	}
	if noticed := j.v.Owed + int(t.StaleServed) + j.v.Gaps; noticed < p.MinFaultsNoticed {
		empty("the faults were noticed %d times (owed, served stale, gaps), at least %d", noticed, p.MinFaultsNoticed)
	}
	if limit := j.v.Reads / 100; j.v.Undeclared > limit {
		empty("%d reads were excepted in outages that nobody made, at most %d: the machine is too slow", j.v.Undeclared, limit)
	}
	if len(h.Finals) == 0 && h.Settled != Never {
		empty("nothing was read in the end")
	}
}
