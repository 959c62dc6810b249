package model

// Scenarios are the bounded worlds in which the promises must hold. Letters group
// them: A no faults, B the subscription, C failed, lost and late commands and
// crashes, D failover, E time, F Clear, G messages that a cluster loses.
func Scenarios() []Scenario {
	r0, r1 := Operation{Read, 0}, Operation{Read, 1}
	d0, d1 := Operation{Delete, 0}, Operation{Delete, 1}
	s0, s1 := Operation{Set, 0}, Operation{Set, 1}
	u0, u1 := Operation{Update, 0}, Operation{Update, 1}
	c0, c1 := Operation{Clear, 0}, Operation{Clear, 1}
	ops := func(list ...Operation) []Operation { return list }
	return []Scenario{
		{Name: "A1 reads there, delete here", Ops: ops(d0, r1, r1)},
		{Name: "A2 reads and delete on one node", Ops: ops(d0, r0, r0)},
		{Name: "A3 warm, reads on both", Ops: ops(d0, r0, r1), Warm: true},
		{Name: "A4 two deletes", Ops: ops(d0, d1, r0, r1), Warm: true, Big: true},
		{Name: "A5 set here, delete there", Ops: ops(s0, d1, r0, r1), Big: true},
		{Name: "A6 two sets", Ops: ops(s0, s1, r0, r1), Big: true},
		{Name: "A7 two updates", Ops: ops(u0, u1, r0, r1), Warm: true, Big: true},
		{Name: "A8 update and delete", Ops: ops(u0, d1, r0, r1), Warm: true, Big: true},
		{Name: "A9 leases that end early", Ops: ops(d0, r1, r1, r0), Faults: faults{expire: 1}, Big: true},
		{Name: "A10 brackets that end early", Ops: ops(u0, u1, r1), Faults: faults{expire: 1}},
		{Name: "B1 subscription lost", Ops: ops(d0, r1, r1), Faults: faults{cut: 1}, Warm: true},
		{Name: "B2 subscription lost, two changes", Ops: ops(d0, d1, r1), Faults: faults{cut: 1}},
		{Name: "C1 delete fails or its reply is lost", Ops: ops(d0, r0, r1), Faults: faults{fail: 1, lost: 1}, Warm: true},
		{Name: "C2 delete fails, delete there", Ops: ops(d0, d1, r0, r1), Faults: faults{fail: 1}, Warm: true, Big: true},
		{Name: "C3 set fails, delete there", Ops: ops(s0, d1, r1), Faults: faults{fail: 1, lost: 1}, AtRest: true},
		{Name: "C4 set is late, delete there", Ops: ops(s0, d1, r1), Faults: faults{late: 1}, AtRest: true},
		{Name: "C5 set is late, delete here", Ops: ops(s0, d0, r1), Faults: faults{late: 1}, Warm: true, AtRest: true},
		{Name: "C6 update fails", Ops: ops(u0, r0, r1), Faults: faults{fail: 2, lost: 1}, Warm: true, Big: true},
		{Name: "C7 updater dies", Ops: ops(u0, r1, r1), Faults: faults{crash: 1}, Warm: true},
		{Name: "C8 updater dies, delete there", Ops: ops(u0, d1, r1), Faults: faults{crash: 1}, Warm: true},
		{Name: "D1 failover loses a delete", Ops: ops(d0, r0), Faults: faults{failover: 1}, Marks: 1, Warm: true},
		{Name: "D2 failover, read there", Ops: ops(d0, r1), Faults: faults{failover: 1}, Marks: 1, Warm: true},
		{Name: "D3 failover in an update", Ops: ops(u0, r1), Faults: faults{failover: 1}, Warm: true, Big: true},
		{Name: "D4 failover loses more than is remembered", Ops: ops(d0, r0), Faults: faults{failover: 1, forget: 1}, Marks: 1, Warm: true, Big: true},
		{Name: "D5 failover, both have forgotten", Ops: ops(d0, r1), Faults: faults{failover: 1, forget: 2}, Warm: true, Big: true},
		{Name: "D6 failover, subscription lost before", Ops: ops(d0, r1), Faults: faults{failover: 1, cut: 1}, Warm: true, Big: true},
		{Name: "D7 failover loses a clear", Ops: ops(c0, r1), Faults: faults{failover: 1}, Marks: 1, Warm: true, Big: true},
		{Name: "D8 failover unseen by connections", Ops: ops(d0), Faults: faults{failover: 1, lost: 1}, Marks: 1, Foreign: true, Warm: true, AtRest: true},
		{Name: "E1 silent loss", Ops: ops(d0, r1), Faults: faults{cut: 1}, Warm: true, Time: 3},
		{Name: "E2 silent loss, flights", Ops: ops(d0, r1, r1), Faults: faults{cut: 1}, Time: 3, Big: true},
		{Name: "F1 clear", Ops: ops(c0, r0, r1), Warm: true},
		{Name: "F2 two clears", Ops: ops(c0, c1, r0, r1), Big: true},
		{Name: "G1 a cluster loses a message", Ops: ops(d0, r1, r1), Faults: faults{drop: 1}, Warm: true, AtRest: true},
		{Name: "G2 a cluster loses a message, two changes", Ops: ops(d0, d1, r1), Faults: faults{drop: 1}, Warm: true, AtRest: true},
	}
}

// Mutant is the protocol without one mechanism.
type Mutant struct {
	Name string
	In   string // the scenario that finds it, by the first word of its name
	Off  Switches
}

// Mutants lists every switch.
func Mutants() []Mutant {
	return []Mutant{
		{"no stamp check", "A1", Switches{NoStampCheck: true}},
		{"stamp taken after the read", "A1", Switches{StampAfterRead: true}},
		{"no move at the end of a write", "A2", Switches{NoEndMove: true}},
		{"set keeps its value unconfirmed", "A5", Switches{NoConfirm: true}},
		{"no lease", "A1", Switches{NoLease: true}},
		{"delete spares leases", "A1", Switches{DeleteSparesLease: true}},
		{"any flight is joined", "A1", Switches{JoinAnyFlight: true}},
		{"old flights are joined", "E2", Switches{JoinOldFlight: true}},
		{"no epoch at a new subscription", "B1", Switches{NoTrustMove: true}},
		{"no epoch check after the reply", "D1", Switches{NoTrustCheck: true}},
		{"no debts", "C1", Switches{NoDebt: true}},
		{"owed keys are read", "C1", Switches{NoDebtBar: true}},
		{"a payment settles newer debts", "C6", Switches{PayNewer: true}},
		{"debts replay sets", "C2", Switches{ReplaySets: true}},
		{"no deadline", "C4", Switches{NoDeadline: true}},
		{"publish first", "A1", Switches{PublishFirst: true}},
		{"publish apart", "C1", Switches{PublishApart: true}},
		{"bracket opens silently", "C7", Switches{BeginSilent: true}},
		{"loads under a bracket are kept", "C7", Switches{KeepUnderBracket: true}},
		{"brackets are removed", "C8", Switches{NoBracketKept: true}},
		{"an end spares other brackets", "A10", Switches{EndKeepsOthers: true}},
		{"no replay after a failover", "D1", Switches{NoReplay: true}},
		{"received keys are not barred", "D2", Switches{OwnOnlyBar: true}},
		{"the ring is entered late", "D1", Switches{RingLate: true}},
		{"nobody asks who answers", "D1", Switches{NoGreet: true}},
		{"no epoch at another server", "D1", Switches{RestartTrusts: true}},
		{"the epoch before the debts", "D1", Switches{TrustFirst: true}},
		{"done when it is sent", "D1", Switches{DoneWhenSent: true}},
		{"a mark sent when it is back", "D1", Switches{MarkWhenBack: true}},
		{"a mark on any server", "D8", Switches{BlindMark: true}},
		{"no clearing after a loss", "D4", Switches{NoClearOnLoss: true}},
		{"about to be cleared is cleared", "D5", Switches{ClearingSuffices: true}},
		{"noted before it is issued again", "D2", Switches{NotedEarly: true}},
		{"bars lapse", "D2", Switches{BarsLapse: true}},
		{"the old link lifts bars", "D2", Switches{OldLinkLifts: true}},
		{"the old link moves no epoch", "D2", Switches{OldLinkTrusts: true}},
		{"any link is the new one", "D6", Switches{AnyLinkIsNew: true}},
		{"no lease on memory", "E1", Switches{NoL1Lease: true}},
		{"no sequence numbers", "G1", Switches{NoSequence: true}},
		{"one id for two nodes", "A1", Switches{SameID: true}},
		{"the last Clear wins", "F2", Switches{LastClearWins: true}},
	}
}
