package history_test

import (
	"github.com/tandemcache/tandem/internal/history"
)

type brokenCase struct {
	name    string
	rule    history.Rule
	happens func(*script)
}

// broken are histories with one broken promise each.
func broken() []brokenCase {
	left := func(node int16, at history.Time, result history.Result) func(*script) {
		return op(node, at, load, history.Read, byDatabase, result, 0)
	}
	return []brokenCase{
		{"own node reads what was before its delete", history.ReadYourWrites,
			all(void(0, 1000*ms, byDatabase), read(0, 1001*ms, byDatabase, 1))},
		{"own node reads what was before its set", history.ReadYourWrites,
			all(store(0, 1000*ms, byDatabase, 2), read(0, 1001*ms, byDatabase, 1))},
		{"own node reads what was before a wide change", history.ReadYourWrites,
			all(wide(0, 1000*ms), read(0, 1001*ms, other, 1))},
		{"own node reads what was before a change that is owed", history.ReadYourWrites,
			all(owed(void(0, 1000*ms, byDatabase)), debt(0, 1000*ms, 2000*ms), read(0, 1001*ms, byDatabase, 1))},
		{"own node reads what was before, during an outage", history.ReadYourWrites,
			all(fault(0, 900*ms, 3000*ms, history.Outage), owed(void(0, 1000*ms, byDatabase)), debt(0, 1000*ms, 3000*ms), read(0, 2000*ms, byDatabase, 1))},
		{"own node says absent what was created before the change", history.ReadYourWrites,
			all(void(0, 1000*ms, byDatabase), read(0, 1001*ms, byDatabase, 0))},
		{"own node reads below a version of the source", history.ReadYourWrites,
			all(store(0, 1000*ms, bySource, 2), read(0, 1001*ms, bySource, 1))},
		{"own node reads what was before, after a failover", history.ReadYourWrites,
			all(void(0, 1000*ms, byDatabase), fault(-1, 1100*ms, 1200*ms, history.Forgets), read(0, 1300*ms, byDatabase, 1))},

		{"another node serves what was before, past the bound", history.BoundedStaleness,
			all(void(0, 1000*ms, byDatabase), read(1, 2110*ms, byDatabase, 1))},
		{"the same with Get", history.BoundedStaleness,
			all(void(0, 1000*ms, byDatabase), op(1, 2110*ms, get, history.Peek, byDatabase, history.Value, 1))},
		{"lost messages are no excuse", history.BoundedStaleness,
			all(fault(1, 900*ms, 5000*ms, history.Deaf), void(0, 1000*ms, byDatabase), read(1, 2110*ms, byDatabase, 1))},
		{"a change that was owed and is paid counts", history.BoundedStaleness,
			all(owed(void(0, 1000*ms, byDatabase)), debt(0, 1000*ms, 1500*ms), read(1, 2700*ms, byDatabase, 1))},
		{"a node that does not hear reads Redis", history.BoundedStaleness,
			all(sampled(1, 900*ms, 5000*ms, func(x *history.Sample) { x.Serving = false }), void(0, 1000*ms, byDatabase), read(1, 2110*ms, byDatabase, 1))},
		{"an outage lasts only until the node serves", history.BoundedStaleness,
			all(fault(1, 900*ms, 1100*ms, history.Outage), void(0, 1000*ms, byDatabase), read(1, 2200*ms, byDatabase, 1))},
		{"an outage excuses no more than the local ttl", history.BoundedStaleness,
			all(fault(1, 900*ms, 5000*ms, history.Outage), void(0, 1000*ms, byDatabase), read(1, 4200*ms, byDatabase, 1))},
		{"an outage of one node does not excuse another", history.BoundedStaleness,
			all(fault(0, 900*ms, 5000*ms, history.Outage), void(0, 1000*ms, byDatabase), read(1, 2200*ms, byDatabase, 1))},
		{"a store that died with its node excuses only until it was made up for", history.BoundedStaleness,
			all(store(0, 1000*ms, byDatabase, 2), died(store(0, 1100*ms, byDatabase, 1)), void(0, 1500*ms, byDatabase), read(1, 4000*ms, byDatabase, 1))},
		{"a failover excuses only for a while", history.BoundedStaleness,
			all(void(0, 1000*ms, byDatabase), fault(-1, 1100*ms, 1200*ms, history.Forgets), read(1, 4300*ms, byDatabase, 1))},
		{"a wipe does not bring back an old version of the source by itself", history.BoundedStaleness,
			all(store(1, 500*ms, bySource, 1), store(0, 1000*ms, bySource, 2), fault(-1, 1100*ms, 1200*ms, history.Wipes), read(1, 3000*ms, bySource, 1))},

		{"a version that never was", history.Validity, read(0, 1000*ms, byDatabase, 3)},
		{"a version from the future", history.Validity, all(commit(byDatabase, 2000*ms, false), read(0, 1000*ms, byDatabase, 3))},
		{"a version from the future of a key without order", history.Validity, all(commit(byRedis, 2000*ms, false), read(0, 1000*ms, byRedis, 3))},
		{"a deleted row with a value", history.Validity, all(commit(byDatabase, 500*ms, true), read(0, 1000*ms, byDatabase, 3))},
		{"a value of another key", history.Validity, left(0, 1000*ms, history.Wrong)},
		{"a damaged value in the end", history.Validity, final(0, byDatabase, history.Wrong, 0)},

		{"an old value in a node in the end", history.NoStaleFill, final(1, byDatabase, history.Value, 1)},
		{"an old value in Redis in the end", history.NoStaleFill, final(-1, byDatabase, history.Value, 1)},
		{"an old version of the source in the end", history.NoStaleFill, final(-1, bySource, history.Value, 1)},
		{"an absence in the end that is over", history.NoStaleFill, final(0, byDatabase, history.Absent, 0)},
		{"a value in the end that was deleted", history.NoStaleFill,
			all(commit(byDatabase, 300*ms, true), final(0, byDatabase, history.Value, 3))},
		{"a node differs from Redis in the end", history.NoStaleFill,
			all(final(-1, byRedis, history.Value, 1), final(0, byRedis, history.Value, 2))},

		{"owed in the end", history.NothingForgotten,
			all(func(s *script) { s.Settled = history.Never }, debt(0, 9000*ms, 20_000*ms))},
		{"never serves again", history.Windows,
			all(func(s *script) { s.Settled = history.Never }, sampled(0, 9000*ms, 20_000*ms, func(x *history.Sample) { x.Serving = false }))},
		{"rests late", history.Windows, func(s *script) { s.Settled = s.Healed + 3100*ms }},

		{"a read fails", history.FailOpen, left(0, 1000*ms, history.Failed)},
		{"a change fails", history.FailOpen, op(0, 1000*ms, del, history.Void, byDatabase, history.Failed, 0)},
		{"Get waits longer than the timeout", history.FailOpen,
			as(op(0, 1000*ms, get, history.Peek, byDatabase, history.Miss, 0), func(o *history.Op) { o.Return = o.Call + 310*ms })},
		{"a read waits longer than loads and leases explain", history.FailOpen,
			as(read(0, 1000*ms, byDatabase, 2), func(o *history.Op) { o.Return = o.Call + 3000*ms })},
		{"also one that was left in the end", history.FailOpen,
			as(left(0, 1000*ms, history.Left), func(o *history.Op) { o.Return = o.Call + 3000*ms })},

		{"loads of many keys overlap on a node", history.OneLoad, overlapping(byDatabase, bySource, byRedis)},
		{"loads overlap with those of another node", history.OneLoad,
			all(void(0, 900*ms, byDatabase), manyLoads)}, // the message may be late, but the lease is not
		{"loads overlap after a change that was owed", history.OneLoad,
			all(owed(void(0, 500*ms, byDatabase)), manyLoads)},
		{"a read of what a failover brought back, on the node of the change", history.ReadYourWrites,
			all(void(0, 1000*ms, byDatabase), fault(-1, 1100*ms, 1200*ms, history.Forgets), read(0, 1300*ms, byDatabase, 1))},
		{"a read of what no failover brought back", history.ReadYourWrites,
			all(void(0, 1000*ms, byDatabase), func(s *script) { s.Unasked = []int16{0} }, read(0, 1300*ms, byDatabase, 1))},
		{"loads overlap long after a failover", history.OneLoad,
			all(fault(-1, 100*ms, 200*ms, history.Forgets), manyLoadsAt(8000*ms))},
		{"loads overlap after a bracket that left nothing", history.OneLoad,
			all(bracket(void(0, 5000*ms, byDatabase)), manyLoadsAt(8000*ms))},
		{"loads overlap when what was left of a bracket is over", history.OneLoad, all(
			bracket(owed(void(0, 500*ms, byDatabase))), bracket(void(0, 6000*ms, byDatabase)), manyLoadsAt(8000*ms))},
	}
}

// manyLoads overlap with those of another node.
func manyLoads(s *script) { manyLoadsAt(1000 * ms)(s) }

func manyLoadsAt(from history.Time) func(*script) {
	return func(s *script) {
		for i := range history.Time(6) {
			loaded(0, byDatabase, from+i*200*ms, from+100*ms+i*200*ms)(s)
			loaded(1, byDatabase, from+50*ms+i*200*ms, from+150*ms+i*200*ms)(s)
		}
	}
}

// bracket makes the change of an Update of it.
func bracket(change func(*script)) func(*script) {
	return as(change, func(o *history.Op) { o.Bracket = true })
}

type keptCase struct {
	name    string
	happens func(*script)
}

// kept are histories beside the broken ones.
func kept() []keptCase {
	explained := overlapping(byDatabase, bySource, other)
	return []keptCase{
		{"nothing at all", func(*script) {}},
		{"a read that began before the delete returned", all(void(0, 1000*ms, byDatabase), read(0, 1000*ms, byDatabase, 1))},
		{"a read of what is new", all(void(0, 1000*ms, byDatabase), read(0, 1001*ms, byDatabase, 2))},
		{"a delete before the commit", all(void(0, 150*ms, byDatabase), read(0, 1001*ms, byDatabase, 1))},
		{"a change that the database has not seen", all(commit(byDatabase, 1000*ms+1, false), void(0, 1000*ms, byDatabase), read(0, 1001*ms, byDatabase, 2))},
		{"another node within the bound", all(void(0, 1000*ms, byDatabase), read(1, 2090*ms, byDatabase, 1))},
		{"a change still owed binds no other node", all(owed(void(0, 1000*ms, byDatabase)), debt(0, 1000*ms, 9000*ms), read(1, 8000*ms, byDatabase, 1))},
		{"an outage", all(fault(1, 900*ms, 5000*ms, history.Outage), void(0, 1000*ms, byDatabase), read(1, 4000*ms, byDatabase, 1))},
		{"an outage until the node serves", all(fault(1, 900*ms, 1100*ms, history.Outage),
			sampled(1, 1000*ms, 2500*ms, func(x *history.Sample) { x.Serving = false }),
			void(0, 1000*ms, byDatabase), read(1, 2400*ms, byDatabase, 1))},
		{"a failover", all(void(0, 1000*ms, byDatabase), fault(-1, 1100*ms, 1200*ms, history.Forgets), read(1, 4100*ms, byDatabase, 1))},
		{"a failover that the node's client does not ask about", all(void(0, 1000*ms, byDatabase), fault(-1, 1100*ms, 1200*ms, history.Forgets),
			func(s *script) { s.Unasked = []int16{0} }, read(0, 1300*ms, byDatabase, 1))},
		{"behind a store that died with its node", all(store(0, 1000*ms, byDatabase, 2), died(store(0, 1100*ms, byDatabase, 1)), void(0, 1500*ms, byDatabase), read(1, 2500*ms, byDatabase, 1))},
		{"a change that died with its node binds nobody", all(died(void(0, 1000*ms, byDatabase)), read(1, 5000*ms, byDatabase, 1))},
		{"behind a store that is owed", all(store(0, 1000*ms, byDatabase, 2), owed(store(0, 900*ms, byDatabase, 1)), debt(0, 900*ms, 4000*ms), read(1, 3000*ms, byDatabase, 1))},
		{"a late store of a version after a wipe", all(store(0, 1000*ms, bySource, 2), fault(-1, 1100*ms, 1200*ms, history.Wipes),
			store(1, 1300*ms, bySource, 1), read(1, 3000*ms, bySource, 1), final(-1, bySource, history.Value, 1))},
		{"a standstill of the process", all(void(0, 1000*ms, byDatabase), read(1, 2500*ms, byDatabase, 1),
			func(s *script) { s.Stalls = append(s.Stalls, history.Span{Begin: 1500 * ms, End: 2000 * ms}) })},
		{"an absence that was", all(commit(byDatabase, 300*ms, true), commit(byDatabase, 400*ms, false), read(0, 1000*ms, byDatabase, 0))},
		{"a key that never was", func(s *script) { s.Commits[other] = nil; read(0, 1000*ms, other, 0)(s) }},
		{"keys ordered by Redis", all(store(0, 1000*ms, byRedis, 2), read(0, 1001*ms, byRedis, 1))},
		{"latest in the end", all(final(0, byDatabase, history.Value, 2), final(-1, byDatabase, history.Value, 2), final(1, byDatabase, history.Miss, 0))},
		{"absent in the end", all(commit(byDatabase, 300*ms, true), final(0, byDatabase, history.Absent, 0))},
		{"all as Redis in the end", all(final(-1, byRedis, history.Value, 1), final(0, byRedis, history.Value, 1), final(1, byRedis, history.Miss, 0))},
		{"a caller that left", op(0, 1000*ms, load, history.Read, byDatabase, history.Left, 0)},
		{"Get within the timeout", as(op(0, 1000*ms, get, history.Peek, byDatabase, history.Miss, 0), func(o *history.Op) { o.Return = o.Call + 290*ms })},
		{"loads one after the other", all(loaded(0, byDatabase, 1000*ms, 1100*ms), loaded(0, byDatabase, 1100*ms, 1200*ms))},
		{"loads of two keys that overlap, as with a collision", overlapping(byDatabase, bySource)},
		{"loads around a change", all(explained, void(0, 1020*ms, byDatabase), void(1, 1020*ms, bySource), wide(1, 1020*ms))},
		{"loads around an Expire", all(explained, expire(0, 1020*ms, byDatabase), expire(1, 1020*ms, bySource), expire(0, 1020*ms, other))},
		{"the old value after an Expire", all(expire(0, 1000*ms, byDatabase), read(0, 1001*ms, byDatabase, 1))},
		{"loads around a message that arrived late", all(explained, void(1, 200*ms, byDatabase), void(1, 200*ms, bySource), void(1, 200*ms, other))},
		{"loads around a gap", all(explained, sampled(0, 1040*ms, end*2, func(x *history.Sample) { x.Gaps = 1 }))},
		{"a load beside an old one", all(loaded(0, byDatabase, 1000*ms, 3000*ms), loaded(0, bySource, 1000*ms, 3000*ms), loaded(0, other, 1000*ms, 3000*ms),
			loaded(0, byDatabase, 2000*ms, 2100*ms), loaded(0, bySource, 2000*ms, 2100*ms), loaded(0, other, 2000*ms, 2100*ms))},
		{"loads of two nodes under what is left of a bracket", all(
			bracket(owed(void(0, 500*ms, byDatabase))), manyLoads)},
		{"loads of two nodes after a failover", all(fault(-1, 100*ms, 200*ms, history.Forgets), manyLoads)},
		{"also when other brackets have kept it there", all(
			bracket(owed(void(0, 500*ms, byDatabase))), bracket(void(0, 5000*ms, byDatabase)), manyLoadsAt(8000*ms))},
		{"a few loads overlap in the fleet", all(loaded(0, byDatabase, 1000*ms, 1100*ms), loaded(1, byDatabase, 1050*ms, 1150*ms))},
	}
}
