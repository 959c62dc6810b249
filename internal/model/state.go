package model

// Sizes of the world. Small ones suffice: every interleaving that PROTOCOL names
// needs two nodes and at most four operations.
const (
	nodes   = 2
	maxOps  = 4
	maxMem  = 3 // entries that L1 may bring back
	maxMsgs = 4
)

// none is the version of no value.
const none = int8(-1)

// kind is what stands under the key, as in package l2.
type kind uint8

const (
	absent kind = iota
	value
	reader // placeholder: a reader loads
	writer // placeholder: one writer's bracket, undisturbed
	hold   // placeholder: brackets that overlap or were disturbed; nothing is stored
)

// record is what stands under the key.
type record struct {
	kind    kind
	version int8  // of the value
	token   uint8 // operation that holds the lease, plus one
	over    bool  // the lease's time is over
	writers uint8
	cache   uint8 // version of the cache (Clear)
}

// stamp is what the fence shows.
type stamp struct{ slot, void, trust uint8 }

// entry is a value in memory.
type entry struct {
	used    bool
	version int8
	stamp   stamp
}

// message is on its way to a node.
type message struct {
	kind    msgKind
	from    uint8
	version uint8 // of the database, for the promise
	seq     uint8
	cache   uint8
}

type msgKind uint8

const (
	noMessage msgKind = iota
	keys
	cleared
	subscribed
	ping // that the node sent to itself, and when
)

// flight is a load that others may join.
type flight struct {
	leader uint8 // operation plus one; 0: none
	stamp  stamp
	since  uint8
}

type node struct {
	shown  stamp
	memory [maxMem]entry
	queue  [maxMsgs]message
	queued uint8
	cut    bool  // the subscription is down
	heard  uint8 // the last time at which a ping came back
	flight flight

	owed       bool
	owedUntil  bool // a set that may still run must be over first
	paying     bool // the replay is confirmed, the stamp not yet moved
	guard      guard
	cache      uint8 // known version of the cache
	sent, seen uint8 // sequence numbers: own, and the other's
	promised   uint8 // version below which no read may return
}

// op is an operation under way.
type op struct {
	at      uint8 // 0: not begun, done: over
	stamp   stamp
	value   int8
	version uint8
	promise uint8
	token   bool // it was given the lease, or its bracket is sole
	failed  bool // Redis did not confirm
	cache   uint8
	looks   uint8
	joined  uint8 // of whose flight, plus one
	ring    uint8 // what has become of its item in the ring, while it is under way
}

const done = 255

// late is a command that its caller gave up, still in a socket.
type late struct {
	set     bool
	version uint8
	from    uint8
}

// state is everything. It must stay comparable.
type state struct {
	database uint8
	data          // in Redis
	replica  data // what the replica has of it
	server   uint8
	notes    notes
	written  uint8 // highest version whose invalidation Redis executed
	when     [4]uint8
	clock    uint8
	late     late
	dead     [nodes]bool
	budget   faults
	nodes    [nodes]node
	ops      [maxOps]op
}

// data is what Redis holds, and a failover may lose.
type data struct {
	record record
	cache  uint8        // version of the cache
	marks  [nodes]uint8 // the last that each node has left
}

// faults is what may still go wrong.
type faults struct {
	cut, fail, lost, late, expire, failover, crash, drop, forget uint8
}

// publish sends a message to all who are subscribed. False: a queue of the model is
// full, and the step must wait.
func (s *state) publish(from int, m message, w *world) bool {
	for i := range s.nodes {
		if !s.nodes[i].cut && !w.deaf(i) && s.nodes[i].queued == maxMsgs {
			return false
		}
	}
	s.nodes[from].sent++
	m.from, m.seq = uint8(from), s.nodes[from].sent
	for i := range s.nodes {
		n := &s.nodes[i]
		if n.cut || w.deaf(i) || i == from && !w.off.SameID {
			continue // an own message is ignored but for its number
		}
		n.push(m)
	}
	return true
}

func (n *node) push(m message) {
	n.queue[n.queued] = m
	n.queued++
}

func (n *node) pop() message {
	m := n.queue[0]
	copy(n.queue[:], n.queue[1:])
	n.queue[maxMsgs-1] = message{}
	n.queued--
	return m
}

// put hands an entry to memory.
func (n *node) put(e entry) {
	for i := range n.memory {
		if n.memory[i] == e {
			return
		}
	}
	for i := range n.memory {
		if !n.memory[i].used {
			n.memory[i] = e
			return
		}
	}
	copy(n.memory[:], n.memory[1:])
	n.memory[maxMem-1] = e
}

// move moves the slot of the key, which also makes the flight unjoinable.
func (n *node) move() { n.shown.slot++ }

// executed notes that Redis has executed an invalidation.
func (s *state) executed(version uint8) {
	s.written = max(s.written, version)
	if version < uint8(len(s.when)) && s.when[version] == 0 {
		s.when[version] = s.clock + 1
	}
}
