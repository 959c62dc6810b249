package history_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/history"
)

// Keys and names of the histories made by hand.
const (
	byDatabase = int32(iota)
	bySource
	byRedis
	other // by the database too
)

const (
	get = uint8(iota)
	load
	del
	set
)

const (
	ms    = history.Time(time.Millisecond)
	end   = 10_000 * ms
	delta = time.Second
	slack = 100 * time.Millisecond
)

func promises() history.Promises {
	return history.Promises{
		Slack: slack, LocalTTL: 2 * time.Second, Timeout: 200 * time.Millisecond, Lease: 2 * time.Second,
		LongestLoad: 100 * time.Millisecond, Join: time.Second, Bracket: 5 * time.Second, Bars: time.Second, Recovery: 3 * time.Second, Replay: 3 * time.Second,
	}
}

// script is a history of two nodes that is written by hand. In the beginning
// every key has the versions 1 and 2, committed at 100 and 200 ms.
type script struct{ history.History }

func write(events ...func(*script)) *history.History {
	s := &script{history.History{
		Names:  []string{"get", "load", "delete", "set"},
		Keys:   []history.Key{{Name: "k"}, {Name: "s", Order: history.BySource}, {Name: "m", Order: history.ByRedis}, {Name: "o"}},
		Scopes: [][]int32{{byDatabase, other}},
		Nodes:  2, Healed: end, Settled: end + 500*ms,
		Finals: []history.Final{{Key: other, Result: history.Miss}},
	}}
	for range s.Keys {
		s.Commits = append(s.Commits, []history.Commit{{At: 100 * ms}, {At: 200 * ms}})
	}
	for t := history.Time(0); t <= s.Settled; t += 20 * ms {
		for n := range int16(2) {
			s.Samples = append(s.Samples, history.Sample{Begin: t, End: t + ms, Node: n, Answered: true, Serving: true, Delta: delta})
		}
	}
	for _, event := range events {
		event(s)
	}
	return &s.History
}

// op adds an operation that takes 1 ms.
func op(node int16, at history.Time, name uint8, kind history.Kind, key int32, result history.Result, version int64) func(*script) {
	return func(s *script) {
		s.Ops = append(s.Ops, history.Op{
			Call: at, Return: at + ms, Key: key, Node: node, Name: name, Kind: kind, Result: result, Version: version,
		})
	}
}

func read(node int16, at history.Time, key int32, version int64) func(*script) {
	if version == 0 {
		return op(node, at, load, history.Read, key, history.Absent, 0)
	}
	return op(node, at, load, history.Read, key, history.Value, version)
}

func void(node int16, at history.Time, key int32) func(*script) {
	return op(node, at, del, history.Void, key, history.OK, 0)
}

func store(node int16, at history.Time, key int32, version int64) func(*script) {
	return op(node, at, set, history.Store, key, history.OK, version)
}

func expire(node int16, at history.Time, key int32) func(*script) {
	return op(node, at, del, history.Soften, key, history.OK, 0)
}

// wide is a change of both keys of the scope.
func wide(node int16, at history.Time) func(*script) { return void(node, at, -1) }

// as changes the operation that was added last.
func as(event func(*script), change func(*history.Op)) func(*script) {
	return func(s *script) {
		event(s)
		change(&s.Ops[len(s.Ops)-1])
	}
}

func owed(event func(*script)) func(*script) {
	return as(event, func(o *history.Op) { o.Result = history.Owed })
}

func died(event func(*script)) func(*script) {
	return as(event, func(o *history.Op) { o.Result = history.Lost })
}

// debt makes a node owe from a time on, until another.
func debt(node int16, from, to history.Time) func(*script) {
	return sampled(node, from, to, func(x *history.Sample) { x.Owed = 1 })
}

// sampled changes what a node says from a time on, until another.
func sampled(node int16, from, to history.Time, change func(*history.Sample)) func(*script) {
	return func(s *script) {
		for i := range s.Samples {
			if x := &s.Samples[i]; x.Node == node && x.Begin >= from && x.Begin < to {
				change(x)
			}
		}
	}
}

func commit(key int32, at history.Time, absent bool) func(*script) {
	return func(s *script) { s.Commits[key] = append(s.Commits[key], history.Commit{At: at, Absent: absent}) }
}

func fault(node int16, from, to history.Time, effect history.Effect) func(*script) {
	return func(s *script) {
		s.Faults = append(s.Faults, history.Fault{Name: "test", Begin: from, End: to, Node: node, Effect: effect})
	}
}

func loaded(node int16, key int32, from, to history.Time) func(*script) {
	return func(s *script) {
		s.Loads = append(s.Loads, history.Load{Call: from, Begin: from, End: to, Key: key, Node: node})
	}
}

func final(node int16, key int32, result history.Result, version int64) func(*script) {
	return func(s *script) {
		s.Finals = append(s.Finals, history.Final{Node: node, Key: key, Result: result, Version: version})
	}
}

func all(events ...func(*script)) func(*script) {
	return func(s *script) {
		for _, event := range events {
			event(s)
		}
	}
}

// overlapping are loads of several keys on one node, each beside another.
func overlapping(keys ...int32) func(*script) {
	return func(s *script) {
		for _, key := range keys {
			loaded(0, key, 1000*ms, 1100*ms)(s)
			loaded(0, key, 1050*ms, 1150*ms)(s)
		}
	}
}

// Each promise that is broken is found, and by the rule of that name alone.
func TestJudge_findsWhatIsBroken(t *testing.T) {
	for _, tc := range broken() {
		t.Run(tc.name, func(t *testing.T) {
			p := promises()
			v := history.Judge(write(tc.happens), &p)
			require.NotZero(t, v.Broken[tc.rule], "%s", v)
			assert.Len(t, v.Broken, 1, "%s", v)
			assert.False(t, v.Good())
			assert.Contains(t, v.String(), "VIOLATION of "+string(tc.rule))
		})
	}
}

// What is next to a broken promise and keeps it is none.
func TestJudge_acceptsWhatIsKept(t *testing.T) {
	for _, tc := range kept() {
		t.Run(tc.name, func(t *testing.T) {
			p := promises()
			v := history.Judge(write(tc.happens), &p)
			assert.True(t, v.Good(), "%s", v)
		})
	}
}

// The order in which clients hand in their operations does not matter.
func TestJudge_dependsOnNoOrderOfOperations(t *testing.T) {
	p := promises()
	for _, tc := range broken() {
		h := write(tc.happens)
		want := history.Judge(h, &p).Broken
		for seed := range uint64(5) {
			rng := rand.New(rand.NewPCG(seed, 1))
			rng.Shuffle(len(h.Ops), func(i, j int) { h.Ops[i], h.Ops[j] = h.Ops[j], h.Ops[i] })
			rng.Shuffle(len(h.Loads), func(i, j int) { h.Loads[i], h.Loads[j] = h.Loads[j], h.Loads[i] })
			assert.Equal(t, want, history.Judge(h, &p).Broken, tc.name)
		}
	}
}

func TestJudge_voidRuns(t *testing.T) {
	full := func(h *history.History) {
		h.Totals = history.Totals{HitsL1: 50, HitsL2: 50, Refused: 3, StaleServed: 3}
	}
	for name, tc := range map[string]struct {
		lacks func(*history.History)
		say   string
	}{
		"slow":      {func(h *history.History) { h.Ops = nil }, "operations a second"},
		"no L1":     {func(h *history.History) { h.Totals.HitsL1 = 1 }, "hits in L1"},
		"no L2":     {func(h *history.History) { h.Totals.HitsL2 = 1 }, "hits in L2"},
		"no race":   {func(h *history.History) { h.Totals.Refused = 0 }, "refused"},
		"no fault":  {func(h *history.History) { h.Faults = nil }, "faults, at least"},
		"unnoticed": {func(h *history.History) { h.Totals.StaleServed = 0 }, "noticed"},
		"no finals": {func(h *history.History) { h.Finals = nil }, "nothing was read"},
	} {
		t.Run(name, func(t *testing.T) {
			p := promises()
			p.MinRate, p.MinL1, p.MinL2, p.MinRefused, p.MinFaults, p.MinFaultsNoticed = 0.1, 0.2, 0.2, 3, 1, 3
			h := write(read(0, 1000*ms, byDatabase, 2), fault(0, 100*ms, 110*ms, history.Deaf))
			full(h)
			require.True(t, history.Judge(h, &p).Good(), "%s", history.Judge(h, &p))
			tc.lacks(h)
			v := history.Judge(h, &p)
			assert.False(t, v.Good())
			assert.Empty(t, v.Broken)
			require.Len(t, v.Void, 1)
			assert.Contains(t, v.Void[0], tc.say)
			assert.Contains(t, v.String(), "VOID")
		})
	}
}

// A machine so slow that Redis seems to be away most of the time voids a run.
func TestJudge_outagesThatNobodyMadeVoid(t *testing.T) {
	p := promises()
	events := []func(*script){
		void(0, 1000*ms, byDatabase),
		sampled(1, 2000*ms, 4000*ms, func(x *history.Sample) { x.Answered = false }),
	}
	for i := range history.Time(10) {
		events = append(events, read(1, 3000*ms+i*ms, byDatabase, 1))
	}
	v := history.Judge(write(events...), &p)
	assert.Empty(t, v.Broken)
	require.Len(t, v.Void, 1)
	assert.Contains(t, v.Void[0], "too slow")
}

// A violation tells the story of its key.
func TestJudge_tellsWhatHappened(t *testing.T) {
	p := promises()
	v := history.Judge(write(
		fault(1, 800*ms, 900*ms, history.Deaf),
		void(0, 1000*ms, byDatabase), loaded(1, byDatabase, 1500*ms, 1600*ms), read(1, 3000*ms, byDatabase, 1),
	), &p)
	text := v.String()
	for _, want := range []string{"delete(k) by node 0", "node 1 loads until 1.6s", "fault test of node 1", "load(k) by node 1, client 0, from 3s to 3.001s returned 1"} {
		assert.Contains(t, text, want)
	}
	assert.Equal(t, 1, strings.Count(text, "VIOLATION"))
}
