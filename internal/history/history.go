package history

import (
	"math"
	"time"
)

// Time is nanoseconds since the history began, on the monotonic clock.
type Time int64

// Never is after every moment.
const Never Time = math.MaxInt64

// String returns the time in seconds.
func (t Time) String() string {
	if t == Never {
		return "never"
	}
	return time.Duration(t).Round(10 * time.Microsecond).String()
}

// Kind says what an operation is to the judge.
type Kind uint8

// The kinds of operations.
const (
	Read   Kind = iota + 1 // gives what a tier or a loader has
	Peek                   // gives what a tier has
	Void                   // a change that takes away what is cached
	Store                  // a change that brings its own value
	Soften                 // a change that leaves the old value as a fallback
	Ignore                 // judged for its errors alone
)

// Result is how an operation ended.
type Result uint8

// The results of operations.
const (
	Value  Result = iota + 1 // a read found Op.Version
	Absent                   // a read learned that there is no value
	Miss                     // a read found nothing, and asked no loader
	OK                       // a change was confirmed
	Owed                     // a change was made here, and is owed to Redis
	Left                     // the caller left, or the loader or commit failed: no answer is due
	Lost                     // a change of a node that died before it could be confirmed
	Failed                   // an error that no promise allows
	Wrong                    // a value of another key, or a damaged one
)

// Op is one operation on one key, or on a scope of keys.
type Op struct {
	Call, Return Time
	// Version is what a read returned. Of a change it is the least version that
	// may be read afterwards; 0 stands for what the database held at Call.
	Version int64
	Key     int32 // index in History.Keys; of a wide change -1
	Scope   int32 // index in History.Scopes of a wide change
	Node    int16 // a node that comes back after a crash is another one
	Client  int16
	Name    uint8 // index in History.Names
	Kind    Kind
	Result  Result
	Stale   bool // the cache said itself that Redis does not answer
	Bracket bool // a change that keeps others from filling while it runs
}

// Commit is a version of a key in the database.
type Commit struct {
	At     Time
	Absent bool // the row was deleted
}

// Load is one run of a loader.
type Load struct {
	Call       Time // of the operation whose loader it was
	Begin, End Time
	Key        int32
	Node       int16
	Abandoned  bool // its callers had left when it ended
}

// Sample is what a node said of itself.
type Sample struct {
	Begin, End Time // of the question
	Node       int16
	Owed       int32
	Gaps       uint32
	Failures   uint32 // calls to Redis that failed for want of the server
	Answered   bool   // Redis is not given up
	Serving    bool   // that, and invalidations are heard
	Delta      time.Duration
}

// Order says by what the writers of a key are ordered.
type Order uint8

// The orders of writers.
const (
	// ByDatabase: its changes void, bracket a commit, or come from one client.
	ByDatabase Order = iota
	// BySource: its changes carry the versions of the database.
	BySource
	// ByRedis: plain writes of several clients, the last of which wins.
	ByRedis
)

// Key is a key of the run.
type Key struct {
	Name  string
	Order Order
}

// Effect is what a fault may do, beyond refusing service.
type Effect uint8

// The effects of faults, to be added.
const (
	// Outage: Redis may not answer the nodes concerned.
	Outage Effect = 1 << iota
	// Deaf: messages may be lost or late, which no promise excepts.
	Deaf
	// Wipes: records, leases, tombstones and markers may be gone.
	Wipes
	// Forgets: changes that were confirmed may be undone.
	Forgets
)

// Fault is something that was broken for a while.
type Fault struct {
	Name       string
	Begin, End Time
	Node       int16 // -1: every node
	Effect     Effect
}

// Span is a time in which the process as a whole did not run.
type Span struct{ Begin, End Time }

// Final is what was found when everything was still.
type Final struct {
	Key     int32
	Node    int16 // -1: the second tier, read by a node that has seen nothing
	Result  Result
	Version int64
}

// Totals are the counts of all caches of the run.
type Totals struct{ HitsL1, HitsL2, Misses, Loads, Refused, Collapsed, StaleServed uint64 }

// History is the record of a run.
type History struct {
	Names   []string // of operations
	Keys    []Key
	Scopes  [][]int32 // keys of wide changes
	Ops     []Op
	Commits [][]Commit // by key; version v is element v-1, version 0 is absent
	Loads   []Load
	Samples []Sample // in the order of time
	Faults  []Fault
	Stalls  []Span // in the order of time
	Finals  []Final
	Totals  Totals
	Errors  []string // of operations that Failed or were Wrong, some of them
	Nodes   int      // all that ever ran
	Unasked []int16  // those whose client does not ask a server who it is before it reads

	// The faults end with Healed, and the finals are read after Settled: Never
	// says that something was still owed then.
	Begun, Healed, Settled Time
}

// database returns the version of key that the database held at t.
func (h *History) database(key int32, t Time) int64 {
	commits := h.Commits[key]
	low, high := 0, len(commits)
	for low < high {
		mid := (low + high) / 2
		if commits[mid].At <= t {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return int64(low)
}

// absent reports whether version says that there is no value.
func (h *History) absent(key int32, version int64) bool {
	return version == 0 || h.Commits[key][version-1].Absent
}
