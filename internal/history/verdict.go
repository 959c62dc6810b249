package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Rule names a promise.
type Rule string

// The rules of the judge.
const (
	ReadYourWrites   Rule = "ReadYourWrites"
	BoundedStaleness Rule = "BoundedStaleness"
	Validity         Rule = "Validity"
	NoStaleFill      Rule = "NoStaleFill"
	NothingForgotten Rule = "NothingForgotten"
	FailOpen         Rule = "FailOpen"
	OneLoad          Rule = "OneLoad"
	Windows          Rule = "Windows" // an excepted time lasted too long
)

// Violation is a moment at which a promise was broken.
type Violation struct {
	Rule Rule
	Key  int32 // -1: none in particular
	At   Time
	Text string
}

// Verdict is what the judge found.
type Verdict struct {
	Violations []Violation // the first few of each rule
	Broken     map[Rule]int
	Void       []string // why the run proves nothing; empty: it does

	Reads, Changes, Owed int // judged
	Loads, Overlaps      int // overlapping loads in the fleet that no change explains
	Finals               int
	Gaps                 int
	Faults               map[string]int

	Strays []string // the first few of the Overlaps

	// The excepted reads, by reason, and how stale any read was at most.
	InOutage, InFailover, BehindOwedStore int
	AfterWipe                             int // an old version of the source, stored late
	Undeclared                            int // of those in outages: nobody made the outage
	Stalest, StalestInOutage              time.Duration
	Rate                                  float64
	Totals                                Totals
}

// kept is how many violations of a rule are kept with their text.
const kept = 5

func (v *Verdict) violate(rule Rule, key int32, at Time, format string, args ...any) {
	v.Broken[rule]++
	if v.Broken[rule] <= kept {
		v.Violations = append(v.Violations, Violation{rule, key, at, fmt.Sprintf(format, args...)})
	}
}

// Good reports whether the run proves that the promises held.
func (v *Verdict) Good() bool { return len(v.Broken) == 0 && len(v.Void) == 0 }

// String is a summary, and what was broken.
func (v *Verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d reads and %d changes (%d owed) judged, %.0f a second; %d loads, %d finals\n",
		v.Reads, v.Changes, v.Owed, v.Rate, v.Loads, v.Finals)
	t := v.Totals
	fmt.Fprintf(&b, "L1 %d, L2 %d, missed %d, loaded %d, collapsed %d, refused %d, served stale %d\n",
		t.HitsL1, t.HitsL2, t.Misses, t.Loads, t.Collapsed, t.Refused, t.StaleServed)
	fmt.Fprintf(&b, "stalest %v (in an outage %v); excepted: %d in outages, %d in failovers, %d behind owed stores, %d after wipes, %d overlapping loads; gaps %d\n",
		v.Stalest, v.StalestInOutage, v.InOutage, v.InFailover, v.BehindOwedStore, v.AfterWipe, v.Overlaps, v.Gaps)
	names := make([]string, 0, len(v.Faults))
	for name, n := range v.Faults {
		names = append(names, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(names)
	fmt.Fprintf(&b, "faults: %s", strings.Join(names, ", "))
	if v.Broken[OneLoad] > 0 {
		for _, stray := range v.Strays {
			fmt.Fprintf(&b, "\noverlap: %s", stray)
		}
	}
	for _, reason := range v.Void {
		fmt.Fprintf(&b, "\nVOID: %s", reason)
	}
	for rule, n := range v.Broken {
		fmt.Fprintf(&b, "\n%s broken %d times", rule, n)
	}
	for _, x := range v.Violations {
		fmt.Fprintf(&b, "\nVIOLATION of %s at %v: %s", x.Rule, x.At, x.Text)
	}
	return b.String()
}
