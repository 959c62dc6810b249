package model

import "fmt"

// Switches turns mechanisms off, one at a time. The zero value is the protocol.
type Switches struct {
	NoStampCheck      bool // memory is believed whatever its stamp
	StampAfterRead    bool // the stamp is taken when the value is kept
	NoEndMove         bool // a write moves the stamp only when it begins
	NoConfirm         bool // Set keeps its value whoever moved the stamp meanwhile
	NoLease           bool // a fill needs no token
	DeleteSparesLease bool // a delete removes values and leaves leases
	JoinAnyFlight     bool // a flight is joined whatever happened since it began
	JoinOldFlight     bool // a flight of any age is joined
	NoTrustMove       bool // a new subscription does not move the trust epoch
	NoTrustCheck      bool // a reply is used although the trust epoch moved
	NoDebt            bool // a change that failed is forgotten
	NoDebtBar         bool // an owed key is read as any other
	PayNewer          bool // a payment settles a debt that was incurred after it
	ReplaySets        bool // a debt replays the set
	NoDeadline        bool // a late set runs, and a replay does not wait for it
	PublishFirst      bool // the message is sent before the change
	PublishApart      bool // the message is a second command, which may fail
	BeginSilent       bool // a bracket is not published when it opens
	KeepUnderBracket  bool // a reader keeps in memory what it loaded under a bracket
	NoBracketKept     bool // a Delete or Set removes an open bracket
	EndKeepsOthers    bool // an end leaves another writer's bracket as it is
	NoReplay          bool // after a failover nothing is sent again
	OwnOnlyBar        bool // after a failover received keys are read as before
	RingLate          bool // a key enters the ring when its command has returned
	NoGreet           bool // who answers on a new connection is not asked first
	RestartTrusts     bool // another server does not move the trust epoch
	TrustFirst        bool // the trust epoch moves before anything is owed or barred
	DoneWhenSent      bool // an invalidation counts as done when it is sent
	MarkWhenBack      bool // a mark counts as sent when its reply is there
	BlindMark         bool // a mark is left on a server whose own last one was not read
	NoClearOnLoss     bool // more was lost than is remembered, and nothing is cleared
	ClearingSuffices  bool // a cache that another node is about to clear counts as cleared
	NotedEarly        bool // a node says that all is issued again while it owes
	BarsLapse         bool // a bar that is too old ends, and nobody deletes
	OldLinkLifts      bool // a message of the server of before lifts bars
	OldLinkTrusts     bool // a message of the server of before bars, and the epoch stays
	AnyLinkIsNew      bool // a subscription that is confirmed after a restart is taken for one to the new server
	NoL1Lease         bool // memory is served although nothing is heard
	NoSequence        bool // lost messages are not noticed by their number
	SameID            bool // the nodes have one id
	LastClearWins     bool // the version of a Clear that arrives last is taken
}

// action is what an operation does.
type action uint8

// The actions.
const (
	Read action = iota + 1
	Delete
	Set // whose version is given by Redis' order: last writer wins
	Update
	Clear
)

func (a action) String() string {
	return [...]string{"", "Read", "Delete", "Set", "Update", "Clear"}[a]
}

// Operation is an action on a node.
type Operation struct {
	Do action
	On int
}

// Scenario is a bounded world.
type Scenario struct {
	Name   string
	Ops    []Operation
	Faults faults
	Warm   bool  // version 0 is in Redis and in every memory
	Time   uint8 // how far the clock goes; 0: time stands still
	Marks  uint8 // that each node may leave on the server
	// Foreign says that the client is the application's: who answers on a new
	// connection is not asked, and another server is noticed at the next look.
	Foreign bool
	// AtRest judges only what is left when nothing moves any more. A Set that timed
	// out may run late, and its value surface until it is replayed: the documentation
	// names it.
	AtRest bool
	Big    bool // more than 150,000 states
}

// limit is how old a proof of hearing may be, on the model's clock.
const limit = 2

// world is a scenario under a protocol.
type world struct {
	Scenario
	off Switches
	// told collects what steps are called: only when a trace is told.
	telling bool
}

// next is a state that a step leads to.
type next struct {
	label  string
	state  state
	broken string // which promise, if one
}

func (w *world) label(format string, args ...any) string {
	if !w.telling {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func (w *world) initial() state {
	var s state
	s.record.version, s.replica.record.version = none, none
	s.budget = w.Faults
	for i := range s.nodes {
		if w.Warm && !w.deaf(i) {
			s.nodes[i].put(entry{used: true})
		}
	}
	if w.Warm {
		s.record = record{kind: value}
		s.replica = s.data
	}
	for i := range s.ops {
		s.ops[i] = op{at: done, value: none}
		if i < len(w.Ops) {
			s.ops[i].at = 0
		}
	}
	return s
}

// steps returns all that can happen next.
func (w *world) steps(s *state) []next {
	var out []next
	for i := range w.Ops {
		if s.ops[i].at == done || s.dead[w.Ops[i].On] {
			continue
		}
		switch w.Ops[i].Do {
		case Read:
			out = w.read(s, i, out)
		case Delete, Set:
			out = w.write(s, i, out)
		case Update:
			out = w.update(s, i, out)
		case Clear:
			out = w.clear(s, i, out)
		}
	}
	for i := range s.nodes {
		if !s.dead[i] {
			out = w.background(s, i, out)
		}
	}
	return w.outside(s, out)
}

// settled reports whether nothing but faults and time can happen.
func (w *world) settled(s *state) bool {
	for i := range w.Ops {
		if s.ops[i].at != done && !s.dead[w.Ops[i].On] {
			return false
		}
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		if !s.dead[i] && (n.queued > 0 || n.cut && !w.deaf(i) || n.owed || n.paying || !n.guard.atRest() || n.guard.server != s.server || w.gap(s, i)) {
			return false
		}
	}
	return !s.late.set
}

// wrong checks what must hold in every state: a read could hit memory now, and what
// nothing moves any more could stay.
func (w *world) wrong(s *state) string {
	for i := range s.nodes {
		n := &s.nodes[i]
		if w.AtRest || s.dead[i] {
			continue
		}
		promise := int8(max(n.promised, w.bound(s)))
		for _, e := range n.memory {
			if e.used && w.servable(s, n, e) && e.version < promise {
				return fmt.Sprintf("a read on node %d would now hit v%d, promised was v%d", i, e.version, promise)
			}
		}
	}
	if w.settled(s) {
		return w.atRest(s)
	}
	return ""
}

// atRest checks what must hold when nothing moves any more.
func (w *world) atRest(s *state) string {
	want := int8(s.database)
	// An orphaned bracket or lease is nothing, and ends.
	if r := &s.record; r.kind == value && r.cache == s.cache && r.version != want {
		return fmt.Sprintf("at rest Redis has v%d, the database v%d", r.version, want)
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		if s.dead[i] {
			continue
		}
		for _, e := range n.memory {
			if e.used && w.servable(s, n, e) && e.version != want {
				return fmt.Sprintf("at rest node %d would serve v%d from memory, the database has v%d", i, e.version, want)
			}
		}
	}
	return ""
}

// servable reports whether an entry may be served as fresh.
func (w *world) servable(s *state, n *node, e entry) bool {
	if !w.off.NoStampCheck && e.stamp != n.shown {
		return false
	}
	return w.hears(s, n)
}

// hears reports whether the node can prove that it hears.
func (w *world) hears(s *state, n *node) bool {
	return w.Time == 0 || w.off.NoL1Lease || s.clock < n.heard+limit
}
