package history

import "time"

// Promises are the numbers behind the promises, from the configuration of the
// run.
type Promises struct {
	// Slack is what scheduling may add to a bound, besides measured stalls.
	Slack time.Duration
	// LocalTTL bounds what is served while Redis does not answer.
	LocalTTL time.Duration
	// Timeout is what Redis may add to a read.
	Timeout time.Duration
	// Lease is how long a load elsewhere may be waited for after its holder died,
	// and LongestLoad how long a loader of the run takes at most.
	Lease, LongestLoad time.Duration
	// Bracket is how long what was left of a bracket keeps others from filling.
	Bracket time.Duration
	// Join is the age past which a flight is not joined.
	Join time.Duration
	// Recovery bounds the time from the end of a fault until the nodes concerned
	// serve again, and from the end of the last one until nothing is owed.
	Recovery time.Duration
	// Bars is how long after a failover what was invalidated before it may be kept
	// from being stored.
	Bars time.Duration
	// Replay is how long after a fault that [Forgets] changes may be undone.
	Replay time.Duration
	// FleetOverlap is the share of loads that may overlap in the fleet, outside of
	// changes and faults.
	FleetOverlap float64

	// What a run must at least have done, else it is void.
	MinRate          float64 // operations a second
	MinL1, MinL2     float64 // shares of the reads
	MinRefused       uint64  // fills that met a change
	MinFaults        int
	MinFaultsNoticed int // of operations: owed, or served while Redis did not answer; and gaps
}
