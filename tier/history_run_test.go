package tier_test

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// Sizes of a run.
const (
	slots          = 4
	clientsPerSlot = 3
	clients        = slots * clientsPerSlot

	heartbeat = 300 * time.Millisecond
	timeout   = 200 * time.Millisecond // of Redis
	localTTL  = 3 * time.Second
	// restWithin is how long the fleet may need to come to rest when the last
	// fault has ended.
	restWithin = 10 * time.Second
)

// run is one history: a fleet under load and faults, until it rests.
type run struct {
	t       *testing.T
	seed    uint64
	prefix  string
	top     topology
	begun   time.Time
	kinds   [caches]cacheKind
	first   [caches]int32 // the first key of each cache
	keys    []history.Key
	scopes  [][]int32
	whole   [caches]int32 // the scope that is all of a cache
	byTag   int32         // the first scope that is a tag
	source  *source
	slots   []*slot
	clients []*client
	// strangers are connections past all nodes; of the goroutine of the test.
	strangers map[*redistest.Server]*redis.Client

	mu      sync.Mutex
	born    int16            // guards: mu; instances ever
	loads   []history.Load   // guards: mu
	faults  []history.Fault  // guards: mu
	errors  []string         // guards: mu; the first few
	samples []history.Sample // guards: mu
	gone    []*instance      // guards: mu
	apart   []history.Op     // guards: mu; operations of nobody's log
	stalls  []history.Span   // of the meter, read when it has ended
}

// slot is a place in the fleet, where one node after the other stands.
type slot struct {
	index   int
	links   links
	current atomic.Pointer[instance]
}

// instance is a node and its caches.
type instance struct {
	id     int16
	cfg    tier.Config
	node   *tier.Node
	using  sync.RWMutex // read-held by each operation
	caches [caches]*tier.Cache[fact]
	dead   atomic.Bool // it crashed, or is about to
	cut    atomic.Bool // it crashes, and may reach nobody any more
	doubts []int32     // guards: run.mu; keys of changes that it takes with it
}

func newRun(t *testing.T, seed uint64, prefix string, top topology) *run {
	r := &run{t: t, seed: seed, prefix: prefix, top: top, begun: time.Now(), kinds: cacheKinds(), strangers: make(map[*redistest.Server]*redis.Client)}
	for i, kind := range r.kinds {
		r.first[i] = int32(len(r.keys))
		for _, id := range kind.ids {
			r.keys = append(r.keys, history.Key{Name: kind.name + ":" + id, Order: kind.order})
		}
	}
	r.source = newSource(r.now, r.keys)
	for i := range r.kinds[labeled].ids {
		r.source.commit(r.first[labeled]+int32(i), false)
	}
	// Prefixes of rows, then whole caches, then tags.
	r.byTag = keyGroups + caches
	r.scopes = make([][]int32, r.byTag+tagsOfKey+tagsOfLoader)
	for cache, kind := range r.kinds {
		r.whole[cache] = keyGroups + int32(cache)
		for i := range kind.ids {
			key := r.first[cache] + int32(i)
			r.scopes[r.whole[cache]] = append(r.scopes[r.whole[cache]], key)
			switch cache {
			case rows:
				r.scopes[i%keyGroups] = append(r.scopes[i%keyGroups], key)
			case labeled:
				for _, scope := range []int32{r.byTag + int32(i%tagsOfKey), r.byTag + tagsOfKey + int32(i%tagsOfLoader)} {
					r.scopes[scope] = append(r.scopes[scope], key)
				}
			}
		}
	}
	return r
}

// now is the time of the history.
func (r *run) now() history.Time { return history.Time(time.Since(r.begun)) }

func (r *run) loaded(l history.Load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loads = append(r.loads, l)
}

// doubt notes a change that is lost with its node: one other than an Update, or
// an Update that began when the node was cut off already.
func (r *run) doubt(in *instance, key int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in.doubts = append(in.doubts, key)
}

func (r *run) complain(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errors) < 20 {
		r.errors = append(r.errors, text)
	}
}

// open puts a node into a slot.
func (r *run) open(s *slot, cfg tier.Config) {
	r.t.Helper()
	r.mu.Lock()
	in := &instance{id: r.born, cfg: cfg}
	r.born++
	r.mu.Unlock()
	cfg.Prefix, cfg.Heartbeat, cfg.Timeout, cfg.Strict = r.prefix, heartbeat, timeout, true
	node, err := tier.Open(context.Background(), cfg)
	require.NoError(r.t, err)
	in.node = node
	for i, kind := range r.kinds {
		in.caches[i], err = tier.New(node, kind.name, kind.opts)
		require.NoError(r.t, err)
	}
	s.current.Store(in)
}

// do runs the whole history, and returns it.
func (r *run) do(d time.Duration) *history.History {
	background, cancelBackground := context.WithCancel(context.Background())
	var watchers sync.WaitGroup
	watchers.Go(func() { r.meter(background) })
	for i := range slots {
		s := &slot{index: i}
		r.slots = append(r.slots, s)
		cfg := r.top.connect(r.t, s)
		r.open(s, cfg)
	}
	watchers.Go(func() { r.sample(background) })
	defer func() {
		cancelBackground()
		watchers.Wait()
		r.close()
	}()

	load, cancel := context.WithCancel(context.Background())
	defer cancel()
	var working sync.WaitGroup
	for i := range clients {
		c := newClient(r, r.slots[i%slots], i)
		r.clients = append(r.clients, c)
		working.Go(func() { c.loop(load) })
	}
	begun := r.now()
	r.breakThings(d)
	cancel()
	working.Wait()
	h := &history.History{
		Names: names, Keys: r.keys, Scopes: r.scopes, Begun: begun, Healed: r.now(),
	}
	h.Settled = r.rest()
	r.lastSets()
	// A message that was lost just now is noticed by then.
	pause(context.Background(), r.delta()+500*time.Millisecond)
	if h.Settled != history.Never {
		h.Finals = r.finals()
	}
	cancelBackground()
	watchers.Wait()
	r.fill(h)
	return h
}

// fill hands over what was recorded.
func (r *run) fill(h *history.History) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clients {
		h.Ops = append(h.Ops, c.ops...)
	}
	h.Ops = append(h.Ops, r.apart...)
	h.Commits, h.Loads, h.Faults, h.Samples, h.Stalls = r.source.commits(), r.loads, r.faults, r.samples, r.stalls
	slices.SortFunc(h.Samples, func(a, b history.Sample) int { return cmp.Compare(a.Begin, b.Begin) })
	h.Errors, h.Nodes = r.errors, int(r.born)
	for _, s := range r.slots {
		r.gone = append(r.gone, s.current.Load())
	}
	for _, in := range r.gone {
		if in.cfg.Redis != nil {
			h.Unasked = append(h.Unasked, in.id)
		}
		for _, c := range in.caches {
			st := c.Stats()
			h.Totals.HitsL1 += st.HitsL1
			h.Totals.HitsL2 += st.HitsL2
			h.Totals.Misses += st.Misses
			h.Totals.Loads += st.Loads
			h.Totals.Refused += st.FillsRefused
			h.Totals.Collapsed += st.Collapsed
			h.Totals.StaleServed += st.StaleServed
		}
	}
}

func (r *run) close() {
	for _, s := range r.slots {
		if in := s.current.Load(); in != nil {
			require.NoError(r.t, in.node.Close())
		}
	}
}

// meter notes when the process as a whole stood still.
func (r *run) meter(ctx context.Context) {
	const every, late = 5 * time.Millisecond, 50 * time.Millisecond
	last := r.now()
	for pause(ctx, every) {
		now := r.now()
		if now-last > history.Time(late) {
			r.stalls = append(r.stalls, history.Span{Begin: last, End: now})
		}
		last = now
	}
}

// sample asks the nodes how they are, again and again.
func (r *run) sample(ctx context.Context) {
	for pause(ctx, 20*time.Millisecond) {
		for _, s := range r.slots {
			in := s.current.Load()
			if in == nil {
				continue
			}
			r.note(r.ask(in))
		}
	}
}

func (r *run) note(x history.Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.samples = append(r.samples, x)
}

func (r *run) ask(in *instance) history.Sample {
	x := history.Sample{Begin: r.now(), Node: in.id}
	st := in.node.Stats()
	x.End = r.now()
	x.Owed, x.Gaps = int32(st.Journal.Owed), uint32(st.Bus.Gaps)
	x.Answered, x.Serving, x.Delta = st.Available, st.Available && st.Bus.Hears, st.MaxStaleness
	for _, shard := range st.Shards {
		x.Failures += uint32(shard.Failures)
	}
	return x
}

// rest waits until every node serves and owes nothing.
func (r *run) rest() history.Time {
	deadline := r.now() + history.Time(restWithin+5*time.Second)
	for r.now() < deadline {
		calm := true
		for _, s := range r.slots {
			x := r.ask(s.current.Load())
			calm = calm && x.Serving && x.Owed == 0
		}
		if calm {
			return r.now()
		}
		pause(context.Background(), 10*time.Millisecond)
	}
	// The last word of each, for the judge.
	for _, s := range r.slots {
		r.note(r.ask(s.current.Load()))
	}
	return history.Never
}

// lastSets lets all clients set the keys of last at once, so that what stands in
// the tiers afterwards comes from writes that ran into each other and met no fault.
func (r *run) lastSets() {
	var working sync.WaitGroup
	for _, c := range r.clients {
		working.Go(func() {
			c.pcg.Seed(c.seed, 0)
			for range 20 {
				c.setLast(c.slot.current.Load())
			}
		})
	}
	working.Wait()
}

// delta is the largest Δ that a node states.
func (r *run) delta() time.Duration {
	longest := time.Duration(0)
	for _, s := range r.slots {
		longest = max(longest, s.current.Load().node.Stats().MaxStaleness)
	}
	return longest
}

// finals reads every key on every node, and in Redis through a new one.
func (r *run) finals() []history.Final {
	fresh := &slot{}
	r.open(fresh, r.top.direct())
	in := fresh.current.Load()
	defer func() { require.NoError(r.t, in.node.Close()) }()
	var all []history.Final
	look := func(in *instance, node int16) {
		for cache := range r.kinds {
			for i, id := range r.kinds[cache].ids {
				key := r.first[cache] + int32(i)
				f := history.Final{Key: key, Node: node, Result: history.Miss}
				if v, ok := in.caches[cache].Get(context.Background(), id); ok {
					f.Result, f.Version = history.Value, v.Version
					if !v.whole(r.keys[key].Name) {
						f.Result = history.Wrong
					}
				}
				all = append(all, f)
			}
		}
	}
	// The nodes of the fleet first: the new one must not be what tells them.
	for _, s := range r.slots {
		look(s.current.Load(), s.current.Load().id)
	}
	look(in, -1)
	return all
}

// promises are those of the run's configuration.
func (r *run) promises() *history.Promises {
	return &history.Promises{
		Slack: 300 * time.Millisecond, LocalTTL: localTTL, Timeout: timeout,
		Lease: 2 * time.Second, LongestLoad: 2*longestDelay + 50*time.Millisecond, Join: 2 * heartbeat, Bracket: 5 * time.Second, Bars: 10 * time.Second,
		Recovery: restWithin, Replay: 3 * time.Second, FleetOverlap: 0.01,
		MinRate: 500, MinL1: 0.1, MinL2: 0.02, MinRefused: 10, MinFaults: 3, MinFaultsNoticed: 3,
	}
}

// replay is the command that runs the same operations and faults again.
func (r *run) replay(d time.Duration) string {
	return fmt.Sprintf("TANDEM_SEED=%d TANDEM_SOAK=%v go test -race -count=1 -run '%s' ./tier", r.seed, d, r.t.Name())
}
