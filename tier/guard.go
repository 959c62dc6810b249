package tier

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

const (
	// guardTick is how often the guard looks what has become of a restart while
	// something is barred or yet to be noted.
	guardTick = 100 * time.Millisecond
	// clearingFor is how long the node that clears a cache for all has for it.
	clearingFor = 2 * time.Second
)

// guard keeps invalidations from being lost with a server: by a failover to a
// replica that lagged, or by a restart from an old file.
//
// It remembers the last invalidations, own and received, in two rings. When a
// server turns out to be another one, or has restarted, the rings are asked for
// what is later than the moment up to which its history is proved
// ([l2.Restart]):
//
//   - the own ones become debts, which are replayed;
//   - received ones are barred: what they cover is served from neither tier, and
//     loads store nothing, until the origin has issued them again. Where that
//     does not come, because the origin is gone, this node deletes in its place.
//
// If a ring does not reach back that far, all caches are cleared, once for the
// whole fleet.
//
// Own and received ones are treated alike, because a reader that has seen the
// effect of an invalidation must not see it undone, whoever made it. Debts and
// bars come first, then the epoch of trust moves: a read that took its stamp
// before keeps nothing, and one that takes it later is told that the key is owed.
// So a hit in the local tier has to look at neither.
type guard struct {
	node       *Node
	own, heard *ring
	bars       *bars
	woken      chan struct{} // one slot: there are bars, or something to note

	// stale says that what is heard may have been published before the last
	// restart: no link that was begun since has been confirmed.
	stale atomic.Bool
	// tagged says that this node has invalidated a tag.
	tagged atomic.Bool

	mu     sync.Mutex // guards what follows
	sub    invalidation.Subscription
	links  uint64 // begun when the last restart was told; those may lead to the server of before
	last   l2.Restart
	noting []l2.Restart    // to be noted once nothing is owed
	losses map[string]loss // by cache
}

// loss is a restart because of which alone a cache is owed to be cleared.
type loss struct {
	restart l2.Restart
	since   time.Time
}

var errClearing = errors.New("another node clears the cache")

func newGuard(n *Node) *guard {
	return &guard{
		node: n, own: newRing(n.cfg.MaxPending), heard: newRing(n.cfg.MaxPending),
		bars: newBars(n.cfg.MaxPending), woken: make(chan struct{}, 1), losses: make(map[string]loss),
	}
}

// owes reports whether an invalidation of key is owed to Redis, by this node or
// by another: what Redis holds is then not to be used, and nothing to be stored.
func (n *Node) owes(cache, key string) bool {
	return n.debts.Owes(cache, key) || n.guard.bars.owes(cache, key)
}

// watch tells the guard which subscription to renew.
func (g *guard) watch(sub invalidation.Subscription) {
	g.mu.Lock()
	g.sub = sub
	missed := g.stale.Load() // a restart that was told before there was a link to renew
	if missed {
		g.links = sub.Stats().Links
	}
	g.mu.Unlock()
	if missed {
		sub.Renew()
	}
}

// restarted is called when a server may have lost what it had acknowledged,
// before any reply of it is used.
func (g *guard) restarted(r l2.Restart) {
	n := g.node
	g.mu.Lock()
	g.stale.Store(true)
	g.last = r
	sub := g.sub
	if sub != nil {
		g.links = sub.Stats().Links
	}
	g.mu.Unlock()
	n.tracking.renew()

	own, ownReaches := g.own.since(r.Intact)
	heard, heardReaches := g.heard.since(r.Intact)
	reaches := r.Joined || ownReaches && heardReaches
	if !reaches && !mutant.On(mutant.NoClearOnLoss) {
		g.oweClears(r)
	}
	now := time.Now()
	for i := range own {
		if !mutant.On(mutant.NoReissue) {
			debtsOf(n, &own[i], r, n.record)
		}
	}
	for i := range heard {
		if !mutant.On(mutant.NoBars) {
			debtsOf(n, &heard[i], r, func(d journal.Debt) { g.bars.add(heard[i].origin, r, d, now) })
		}
	}
	n.log.Warn("tier: redis may have lost invalidations, they are issued again",
		"addr", r.Addr, "own", len(own), "received", len(heard), "reaches", reaches)

	if !mutant.On(mutant.RestartTrusts) {
		n.member.gap("another redis server")
	}
	g.mu.Lock()
	g.noting = append(g.noting, r)
	g.mu.Unlock()
	n.payer.wake()
	signal(g.woken)
	if sub != nil {
		// The link may stand to the server of before, or be about to, and go on
		// answering.
		sub.Renew()
	}
}

// debtsOf calls f with the debts that an invalidation comes to, as far as the
// server of r has to do with it.
func debtsOf(n *Node, item *ringItem, r l2.Restart, f func(journal.Debt)) {
	if item.kind == invalidation.KindClear {
		if r.Owns(n.markerKey(item.cache)) {
			f(journal.Debt{Scope: journal.Clear, Cache: item.cache})
		}
		return
	}
	for i, name := range item.names {
		switch item.kind {
		case invalidation.KindKeys:
			if !r.Owns(n.redisKey(item.cache, name)) {
				continue
			}
		case invalidation.KindTags:
			if !r.Owns(n.bookKey(bookOf(name))) {
				continue
			}
		}
		f(item.debt(i))
	}
}

// oweClears owes the clearing of every cache that this node knows of, and of all
// tags if it has ever invalidated one: values in other caches may carry it.
func (g *guard) oweClears(r l2.Restart) {
	if g.tagged.Load() {
		g.node.record(journal.Debt{Scope: journal.Tag, Name: everyTag})
		g.node.tags.moveAll()
	}
	names := make(map[string]bool)
	g.own.caches(names)
	g.heard.caches(names)
	g.node.mu.Lock()
	for name := range g.node.spaces {
		names[name] = true
	}
	g.node.mu.Unlock()
	for name := range names {
		g.mu.Lock()
		g.losses[name] = loss{r, time.Now()}
		g.mu.Unlock()
		g.node.record(journal.Debt{Scope: journal.Clear, Cache: name})
	}
}

// forget says that a cache is cleared, or owed to be for another reason than
// a restart as well.
func (g *guard) forget(cache string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.losses, cache)
}

// clear pays the debt to clear a cache. If it was incurred by a restart alone,
// one node does it for all: whoever clears voids what came back for everybody.
func (g *guard) clear(ctx context.Context, cache string, s space) error {
	g.mu.Lock()
	lost, ok := g.losses[cache]
	g.mu.Unlock()
	if !ok {
		return g.node.raiseCache(ctx, cache, s)
	}
	done, err := lost.restart.Noted(ctx, "cleared:"+cache)
	if err != nil {
		return err
	}
	if done[0] {
		g.forget(cache)
		if s != nil {
			s.version().forget()
		}
		return nil
	}
	first, err := lost.restart.Note(ctx, "clearing:"+cache)
	if err != nil {
		return err
	}
	if !first && time.Since(lost.since) < clearingFor {
		return errClearing // asked again by the payer
	}
	if err := g.node.raiseCache(ctx, cache, s); err != nil {
		return err
	}
	g.node.log.Warn("tier: cache cleared, redis lost more than is remembered", "cache", cache)
	// If the note fails, another node clears once more.
	_, _ = lost.restart.Note(ctx, "cleared:"+cache)
	g.forget(cache)
	return nil
}

// received takes note of a message from another node. Its stamps have moved.
//
// Clears are not among what can be lost here: a cache's version that went back
// shows by itself.
func (g *guard) received(msg *invalidation.Message) {
	now := time.Now()
	item := itemOf(msg, now)
	if msg.Kind == invalidation.KindClear {
		g.bars.lift(&item)
		return
	}
	g.heard.enter(item, now)
	if !g.stale.Load() {
		g.bars.lift(&item)
		return
	}
	// It may come from the server of before, and be lost with it. The epoch moves
	// again: a read since the stamps of the message may have kept what is lost.
	g.mu.Lock()
	r := g.last
	g.mu.Unlock()
	debtsOf(g.node, &item, r, func(d journal.Debt) { g.bars.add(msg.Node, r, d, now) })
	g.node.eachSpace(space.distrust)
	signal(g.woken)
}

// subscribed is called when a subscription is confirmed. What is heard over
// a link that was begun after the last restart was published after it.
func (g *guard) subscribed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sub == nil || g.sub.Stats().Links > g.links {
		g.stale.Store(false)
	}
}

// attempt is an own invalidation under way.
type attempt struct {
	item   ringItem
	number uint64 // in the ring
}

// begin remembers an own invalidation that is about to be sent.
func (g *guard) begin(msg *invalidation.Message) attempt {
	a := attempt{item: itemOf(msg, time.Time{})}
	if msg.Kind == invalidation.KindTags {
		g.tagged.Store(true)
	}
	if !mutant.On(mutant.LateRing) {
		a.number = g.own.enter(a.item, time.Now())
	}
	return a
}

// end takes note of how an own invalidation ended. One that Redis did not
// confirm is owed by its caller.
//
// A confirmed one lifts bars although a restart may have come between: then it
// was under way, and is a debt of this node.
func (g *guard) end(a *attempt, confirmed bool) {
	now := time.Now()
	if mutant.On(mutant.LateRing) {
		a.number = g.own.enter(a.item, now)
	}
	g.own.settle(a.number, confirmed, now)
	if confirmed {
		g.bars.lift(&a.item)
	}
}

// run follows up on restarts until the node is closed.
func (g *guard) run() {
	var tick <-chan time.Time
	for {
		select {
		case <-g.node.ctx.Done():
			return
		case <-g.woken:
		case <-tick:
		}
		tick = nil
		if g.followUp() {
			tick = time.After(guardTick)
		}
	}
}

// followUp notes what this node has issued again, ends bars, and reports whether
// there is more to do.
func (g *guard) followUp() bool {
	ctx := g.node.ctx
	g.mu.Lock()
	noting := g.noting
	g.noting = nil
	g.mu.Unlock()
	for _, r := range noting {
		// Nothing owed is asked first: what is owed later is none of this restart.
		if g.node.debts.Len() == 0 {
			if _, err := r.Note(ctx, reissued(g.node.id)); err == nil {
				continue
			}
		}
		g.mu.Lock()
		g.noting = append(g.noting, r)
		g.mu.Unlock()
	}
	if len(g.bars.list()) > 0 {
		g.bars.settle(ctx)
		g.bars.expire(time.Now(), g.node.record)
		g.node.payer.wake()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.noting) > 0 || len(g.bars.list()) > 0
}
