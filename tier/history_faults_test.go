package tier_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/internal/redistest"
)

// fault is a way to break something. begin breaks it and returns what mends it,
// nil if that is not needed. Both are called on the goroutine of the test.
type fault struct {
	name   string
	weight int
	effect history.Effect
	most   time.Duration // the longest it lasts
	at     place
	begin  func(r *run, s *slot, rng *rand.Rand) (end func())
}

// place is where a fault strikes.
type place uint8

const (
	onLink   place = iota // between one node and its servers, if it has links
	onNode                // one node
	onServer              // one at a time, and every node is concerned
)

// forgetful is the weight of faults after which Redis may lack what it had
// confirmed.
const forgetful = 2

// links are the proxies between a node and its servers; none: it has none.
type links []*redistest.Proxy

func (l links) each(f func(*redistest.Proxy)) {
	for _, p := range l {
		f(p)
	}
}

// open is a fault that has not been mended.
type openFault struct {
	fault
	slot   *slot
	record history.Fault
	until  history.Time
	end    func()
}

// breakThings begins and ends faults for d, and mends what is left. What it
// does and when it means to follows from the seed.
func (r *run) breakThings(d time.Duration) {
	rng := rand.New(rand.NewPCG(r.seed, mix(r.seed)))
	faults := slices.Concat(linkFaults, nodeFaults, r.top.faults())
	end := r.now() + history.Time(d)
	calm := history.Time(200+rng.IntN(1500)) * history.Time(time.Millisecond)
	next := r.now() + history.Time(time.Second) // some calm to begin with
	var open []*openFault
	// A failover takes long to be over. That is no time for other faults, and is
	// added: a run that is to break many things would break one.
	timed := func(do func()) {
		before := r.now()
		do()
		if took := r.now() - before; took > history.Time(time.Second) {
			next, end = next+took, end+took
		}
	}
	for r.now() < end {
		until := min(next, end)
		for _, f := range open {
			until = min(until, f.until)
		}
		pause(context.Background(), time.Duration(until-r.now()))
		open = slices.DeleteFunc(open, func(f *openFault) bool {
			if f.until > r.now() {
				return false
			}
			timed(func() { r.mend(f) })
			return true
		})
		if r.now() < next {
			continue
		}
		f := pick(rng, faults, func(f fault) int { return f.weight })
		s := r.slots[rng.IntN(slots)]
		lasts := history.Time(rng.Float64() * float64(f.most))
		own := rand.New(rand.NewPCG(rng.Uint64(), 1))
		next += history.Time(float64(calm) * 2 * rng.Float64())
		if f.at == onLink && len(s.links) == 0 {
			continue
		}
		open = slices.DeleteFunc(open, func(o *openFault) bool {
			over := f.at == onServer && o.at == onServer || f.at == onNode && o.slot == s
			if over {
				timed(func() { r.mend(o) })
			}
			return over
		})
		timed(func() { open = append(open, r.begin(f, s, lasts, own)) })
	}
	slices.SortFunc(open, func(a, b *openFault) int { return cmp.Compare(a.until, b.until) })
	for _, f := range open {
		r.mend(f)
	}
	r.top.mend()
}

func (r *run) begin(f fault, s *slot, lasts history.Time, rng *rand.Rand) *openFault {
	o := &openFault{fault: f, slot: s, record: history.Fault{Name: f.name, Begin: r.now(), Node: -1, Effect: f.effect}}
	if f.at != onServer {
		o.record.Node = s.current.Load().id
	}
	o.end = f.begin(r, s, rng)
	o.until = r.now() + lasts
	return o
}

func (r *run) mend(o *openFault) {
	if o.end != nil {
		o.end()
	}
	o.record.End = r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, o.record)
}

// linkFaults break the links of one node.
var linkFaults = []fault{
	{"cut commands", 2, history.Outage, 0, onLink, cut(redistest.Commands)},
	{"cut messages", 3, history.Deaf, 0, onLink, cut(redistest.PubSub)},
	{"partition", 3, history.Outage, 3 * time.Second, onLink, func(_ *run, s *slot, _ *rand.Rand) func() {
		s.links.each(func(p *redistest.Proxy) { p.Refuse(); p.Cut(redistest.All) })
		return func() { s.links.each((*redistest.Proxy).Accept) }
	}},
	{"freeze commands", 3, history.Outage, 2 * time.Second, onLink, freeze(redistest.Commands)},
	{"freeze messages", 4, history.Deaf, 3 * time.Second, onLink, freeze(redistest.PubSub)},
	{"freeze all", 2, history.Outage, 2 * time.Second, onLink, freeze(redistest.All)},
	{"half-open commands", 2, history.Outage, 0, onLink, halfOpen(redistest.Commands)},
	{"half-open messages", 3, history.Deaf, 0, onLink, halfOpen(redistest.PubSub)},
	{"slow commands", 2, history.Outage, time.Second, onLink, delay(redistest.Commands, 150*time.Millisecond)},
	{"slow messages", 3, history.Deaf, 2 * time.Second, onLink, delay(redistest.PubSub, 500*time.Millisecond)},
	{"lost replies", 4, history.Outage, time.Second, onLink, rule((*redistest.Proxy).DropReply, 5)},
	{"cut replies", 3, history.Outage, time.Second, onLink, rule((*redistest.Proxy).CutReply, 10)},
	{"held commands", 8, history.Outage, 2 * time.Second, onLink, rule((*redistest.Proxy).Hold, 8)},
	{"dropped messages", 8, history.Deaf, time.Second, onLink, func(_ *run, s *slot, rng *rand.Rand) func() {
		n, one := 1+rng.IntN(20), rng.IntN(2)
		var drops []*redistest.MessageDrop
		s.links.each(func(p *redistest.Proxy) {
			skip := one
			drops = append(drops, p.DropMessages(n, func(redistest.Message) bool {
				skip++
				return skip%2 == 0 || one == 0
			}))
		})
		return func() {
			for _, d := range drops {
				d.Stop()
			}
		}
	}},
}

// nodeFaults end a node and put another one in its place.
var nodeFaults = []fault{
	{"node restarts", 2, 0, 0, onNode, func(r *run, s *slot, _ *rand.Rand) func() {
		in := r.vacate(s)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		// It may have to leave debts behind if something else is broken.
		_ = in.node.Shutdown(ctx)
		r.succeed(s, in, false)
		return nil
	}},
	{"node crashes", 2, history.Outage, 0, onNode, func(r *run, s *slot, _ *rand.Rand) func() {
		in := s.current.Load()
		clean := r.well(in)
		in.cut.Store(true)
		s.links.each(func(p *redistest.Proxy) { p.Refuse(); p.Cut(redistest.All) })
		r.vacate(s)
		require.NoError(r.t, in.node.Close())
		s.links.each((*redistest.Proxy).Accept)
		r.succeed(s, in, clean)
		return nil
	}},
}

// vacate takes the node of a slot away from its clients.
func (r *run) vacate(s *slot) *instance {
	in := s.current.Load()
	in.dead.Store(true)
	s.current.Store(nil)
	return in
}

// succeed puts a new node in the place of one that has ended. What the old one
// was told and could not do is lost with it, as the documentation says, and it
// is for the application to know: here it deletes on another node. What only
// Update changes needs none of that, if the old one was well until it crashed.
func (r *run) succeed(s *slot, old *instance, clean bool) {
	r.note(r.ask(old))
	old.using.Lock() // nobody is at it any more
	defer old.using.Unlock()
	r.mu.Lock()
	r.gone = append(r.gone, old)
	r.mu.Unlock()
	r.open(s, old.cfg)
	in := r.slots[(s.index+1)%slots].current.Load()
	do := func(op history.Op, change func() error) {
		op.Call, op.Node, op.Client, op.Kind = r.now(), in.id, -1, history.Void
		op.Result = changed(change())
		op.Return = r.now()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.apart = append(r.apart, op)
	}
	for cache, kind := range r.kinds {
		c := in.caches[cache]
		switch {
		case cache == numbered:
			// A Clear would make the versions unknown.
			for i, id := range kind.ids {
				key := r.first[cache] + int32(i)
				if version := r.source.version(key); version > 0 {
					do(history.Op{Key: key, Name: opDeleteVersioned, Version: version}, func() error {
						return c.DeleteVersioned(context.Background(), id, uint64(version))
					})
				}
			}
		case cache == ledger && clean:
			r.mu.Lock()
			doubts := old.doubts
			r.mu.Unlock()
			for _, key := range doubts {
				if !slices.Contains(r.scopes[r.whole[cache]], key) {
					continue // of a cache that is cleared
				}
				id := kind.ids[key-r.first[cache]]
				do(history.Op{Key: key, Name: opDelete}, func() error { return c.Delete(context.Background(), id) })
			}
		default:
			do(history.Op{Key: -1, Scope: r.whole[cache], Name: opClear}, func() error { return c.Clear(context.Background()) })
		}
	}
}

// well reports whether a node serves, owes nothing, and has reached Redis with
// every call for a while.
func (r *run) well(in *instance) bool {
	now := r.ask(in)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.samples) - 1; i >= 0; i-- {
		x := r.samples[i]
		if x.Node != in.id || x.Begin > now.Begin-history.Time(2*time.Second) {
			continue
		}
		return now.Serving && now.Owed == 0 && now.Failures == x.Failures && now.Gaps == x.Gaps
	}
	return false
}

func cut(class redistest.Class) func(*run, *slot, *rand.Rand) func() {
	return func(_ *run, s *slot, _ *rand.Rand) func() {
		s.links.each(func(p *redistest.Proxy) { p.Cut(class) })
		return nil
	}
}

func halfOpen(class redistest.Class) func(*run, *slot, *rand.Rand) func() {
	return func(_ *run, s *slot, _ *rand.Rand) func() {
		s.links.each(func(p *redistest.Proxy) { p.HalfOpen(class) })
		return nil
	}
}

// freeze stops one direction, or both.
func freeze(class redistest.Class) func(*run, *slot, *rand.Rand) func() {
	return func(_ *run, s *slot, rng *rand.Rand) func() {
		dir := []redistest.Direction{redistest.ToServer, redistest.ToClient, redistest.BothWays}[rng.IntN(3)]
		s.links.each(func(p *redistest.Proxy) { p.Freeze(class, dir) })
		return func() { s.links.each(func(p *redistest.Proxy) { p.Thaw(class) }) }
	}
}

func delay(class redistest.Class, most time.Duration) func(*run, *slot, *rand.Rand) func() {
	return func(_ *run, s *slot, rng *rand.Rand) func() {
		d := time.Duration(rng.Float64() * float64(most))
		s.links.each(func(p *redistest.Proxy) { p.Delay(class, d) })
		return func() { s.links.each(func(p *redistest.Proxy) { p.Delay(class, 0) }) }
	}
}

// rule does something to the next scripts, up to a number of them.
func rule(add func(*redistest.Proxy, func(redistest.Command) bool) *redistest.Rule, most int) func(*run, *slot, *rand.Rand) func() {
	return func(_ *run, s *slot, rng *rand.Rand) func() {
		var rules []*redistest.Rule
		for range 1 + rng.IntN(most) {
			s.links.each(func(p *redistest.Proxy) { rules = append(rules, add(p, redistest.Named("evalsha", "eval"))) })
		}
		return func() {
			for _, r := range rules {
				r.Release()
			}
		}
	}
}
