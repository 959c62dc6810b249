package flight

import (
	"context"
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// Options describes a Group. The zero value is usable.
type Options struct {
	// Timeout is how long a load may take from when it calls Limit. 0: no limit.
	Timeout time.Duration
	// MaxAge is the age from which on a flight is not joined. 0: no limit.
	MaxAge time.Duration
	// Slots bounds the loads that nobody waits for: those begun by Background,
	// and those left behind by DoWithin. Nil: no bound.
	Slots *Slots
	// OnPanic is told of a panic that no caller raises again, because the caller
	// whose function it was has left. It is called on the load's goroutine and
	// must not panic. May be nil.
	OnPanic func(key string, p *PanicError)
}

// Group collapses loads by key. All methods may be called concurrently.
type Group[T any] struct {
	options Options
	seed    maphash.Seed
	shards  [shards]shard[T]

	loads, collapsed, panics atomic.Uint64
	running                  atomic.Int64
}

// shards spreads the mutex; loads cost far more than it does.
const shards = 32

// shard is a part of a group: the flights of some keys.
type shard[T any] struct {
	mu      sync.Mutex // guards what follows and flights; never held while anything blocks
	single  singleflight.Group
	open    map[string]*flight[T]   // the flight of a key that may still be joined
	running map[*flight[T]]struct{} // those whose function has not returned
	closed  bool
}

// Stats counts what a group did.
type Stats struct {
	Running   int64  // functions that have not returned, those given up included
	Loads     uint64 // functions begun; a nested one of its own key is not counted
	Collapsed uint64 // callers that joined
	Panics    uint64
}

// New returns a group. It needs no closing while no load runs.
func New[T any](o Options) *Group[T] {
	g := &Group[T]{options: o, seed: maphash.MakeSeed()}
	for i := range g.shards {
		g.shards[i].open = make(map[string]*flight[T])
		g.shards[i].running = make(map[*flight[T]]struct{})
	}
	return g
}

// Do returns the result of fn for key: of the fn of a flight that may be joined,
// then joined is true, else of the one given.
//
// valid belongs to fn: a later caller joins only while it returns true, and so
// it tells whether the stamp that the caller took before Do is still current. It
// is called under a lock, must not block or call the group, and may be nil.
//
// The context of fn carries the values of ctx, but not its end. If ctx ends
// before the result is there, Do returns the cause at once. Other errors are
// those of fn, [TimeoutError], [PanicError] and [ErrGoexit] for joiners, and
// [ErrClosed]. If the fn given panics, Do panics with the same value; if it
// calls runtime.Goexit, so does Do.
func (g *Group[T]) Do(ctx context.Context, key string, valid func() bool, fn func(context.Context) (T, error)) (v T, joined bool, err error) {
	return g.do(ctx, nil, key, valid, fn)
}

// DoWithin is Do for a caller that has something else to answer with: when the
// result is not there after limit it returns [ErrSlow], and the flight goes on
// as one begun by Background does. If no slot is free for it, the caller leaves
// as if its ctx had ended.
func (g *Group[T]) DoWithin(ctx context.Context, limit time.Duration, key string, valid func() bool, fn func(context.Context) (T, error)) (v T, joined bool, err error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	return g.do(ctx, timer.C, key, valid, fn)
}

func (g *Group[T]) do(ctx context.Context, slow <-chan time.Time, key string, valid func() bool, fn func(context.Context) (T, error)) (v T, joined bool, err error) {
	if ctx.Err() != nil {
		return v, false, context.Cause(ctx)
	}
	if inside(ctx, g, key) {
		v, err = fn(ctx)
		return v, false, err
	}
	p, err := g.Start(ctx, key, valid, fn)
	if err != nil {
		return v, false, err
	}
	v, err = p.wait(ctx, slow)
	return v, p.joined, err
}

// Pending is a place in a flight.
type Pending[T any] struct {
	flight  *flight[T]
	results <-chan singleflight.Result
	joined  bool
}

// Start is Do for callers who wait later: it begins a flight of key, or joins one
// that may be joined. The error is [ErrClosed], else Wait must follow, once, even
// if nobody wants the result any more.
//
// Whoever starts a flight from inside a load of the same key (see Inside) waits
// for itself.
func (g *Group[T]) Start(ctx context.Context, key string, valid func() bool, fn func(context.Context) (T, error)) (*Pending[T], error) {
	f, results, joined, err := g.board(ctx, key, valid, fn)
	if err != nil {
		return nil, err
	}
	return &Pending[T]{f, results, joined}, nil
}

// Joined reports whether the flight was begun by somebody else.
func (p *Pending[T]) Joined() bool { return p.joined }

// End ends the flight with err, if it has not ended: the context of its function
// ends, and everyone who waits gets err.
func (p *Pending[T]) End(err error) { p.flight.cancel(err) }

// Wait returns the result of the flight, as Do does.
func (p *Pending[T]) Wait(ctx context.Context) (T, error) { return p.wait(ctx, nil) }

// WaitUntil is Wait for a caller that has something else to answer with, as
// DoWithin is Do: until slow is closed.
func (p *Pending[T]) WaitUntil(ctx context.Context, slow <-chan time.Time) (T, error) {
	return p.wait(ctx, slow)
}

func (p *Pending[T]) wait(ctx context.Context, slow <-chan time.Time) (v T, err error) {
	f, results, joined := p.flight, p.results, p.joined
	var out *outcome[T]
	select {
	case r := <-results:
		out = r.Val.(*outcome[T])
	case <-slow:
		if f.leave(!joined, true) {
			return v, ErrSlow
		}
		out = (<-results).Val.(*outcome[T])
	case <-ctx.Done():
		if f.leave(!joined, false) {
			return v, context.Cause(ctx)
		}
		// Decided already, so it counts: the delivery is on its way.
		out = (<-results).Val.(*outcome[T])
	}
	switch {
	case out.panic != nil && !joined:
		panic(out.panic.Value)
	case out.panic != nil:
		return v, out.panic
	case out.goexit && !joined:
		runtime.Goexit()
	case out.goexit:
		return v, ErrGoexit
	}
	return out.value, out.err
}

// Background makes sure that a flight for key is under way and goes on although
// nobody waits for it: it begins one, or takes part in one that may be joined.
// True: it began one with fn. A panic of that fn goes to OnPanic and, as an
// error, to those who join. False also if no slot is free, if the group is
// closed, or if ctx is that of a load of this key.
func (g *Group[T]) Background(ctx context.Context, key string, valid func() bool, fn func(context.Context) (T, error)) bool {
	if inside(ctx, g, key) {
		return false
	}
	s := g.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if f := s.open[key]; f != nil && f.joinable() {
		f.lastLocked()
		return false
	}
	if !g.options.Slots.take() {
		return false
	}
	f := g.beginLocked(ctx, s, key, valid, fn)
	f.lasting, f.leaderLeft = true, true
	s.single.DoChan(key, f.run)
	return true
}

// board joins the flight of key or begins one.
//
// A flight in open has not been withdrawn, which run does before it returns to
// singleflight. So while the lock is held, singleflight still knows the call,
// and DoChan joins this very flight. Were DoChan called after the lock, this
// could happen:
//
//	joiner:  finds the flight, unlocks
//	flight:  is withdrawn, delivers, is forgotten by singleflight
//	joiner:  DoChan begins a second call of the first one's run
//
// A new flight forgets the key first, since a call whose run has returned stays
// known to singleflight for a moment, and one that is unjoinable for as long as
// it runs.
func (g *Group[T]) board(ctx context.Context, key string, valid func() bool, fn func(context.Context) (T, error)) (f *flight[T], results <-chan singleflight.Result, joined bool, err error) {
	s := g.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, false, ErrClosed
	}
	f = s.open[key]
	if joined = f != nil && f.joinable(); joined {
		g.collapsed.Add(1)
	} else {
		f = g.beginLocked(ctx, s, key, valid, fn)
	}
	f.waiters++
	return f, s.single.DoChan(key, f.run), joined, nil
}

func (g *Group[T]) shardOf(key string) *shard[T] {
	return &g.shards[maphash.String(g.seed, key)%shards]
}

// beginLocked makes the flight of key that is joined from now on. The caller
// must pass its run to singleflight before it unlocks s.
func (g *Group[T]) beginLocked(ctx context.Context, s *shard[T], key string, valid func() bool, fn func(context.Context) (T, error)) *flight[T] {
	f := &flight[T]{
		group: g, shard: s, key: key, valid: valid, fn: fn,
		started: time.Now(),
		landed:  make(chan outcome[T], 1),
		ended:   make(chan struct{}),
	}
	f.ctx, f.cancel = g.detach(ctx, key)
	s.open[key] = f
	s.running[f] = struct{}{}
	g.loads.Add(1)
	g.running.Add(1)
	s.single.Forget(key)
	return f
}

// detach returns the context of a load: the caller's values, its own end.
func (g *Group[T]) detach(ctx context.Context, key string) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	return enclose(ctx, frame{group: g, key: key, end: cancel}), cancel
}

// joinable reports whether a caller of now may have f's result. The shard's
// lock is held.
func (f *flight[T]) joinable() bool {
	maxAge := f.group.options.MaxAge
	if maxAge > 0 && time.Since(f.started) >= maxAge {
		return false
	}
	return f.valid == nil || f.valid()
}

// leave takes a waiter away whose context has ended or, with last, who will not
// wait longer for a flight that should go on. False: the flight is decided and
// the waiter must take the result. The last one to leave a flight that does not
// go on by itself cancels the load.
func (f *flight[T]) leave(leader, last bool) bool {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.decided {
		return false
	}
	f.leaderLeft = f.leaderLeft || leader
	f.waiters--
	if last {
		f.lastLocked()
	}
	if f.waiters == 0 && !f.lasting {
		// Nobody may join a load that is being canceled.
		f.shard.withdraw(f)
		f.cancel(errAbandoned)
	}
	return true
}

// lastLocked lets f go on when nobody waits for it, if there is a slot.
func (f *flight[T]) lastLocked() {
	if !f.lasting && !f.returned {
		f.lasting = f.group.options.Slots.take()
	}
}

// withdraw makes f unjoinable, if it is not already. s.mu is held.
func (s *shard[T]) withdraw(f *flight[T]) {
	if s.open[f.key] == f {
		delete(s.open, f.key)
	}
}

// Close cancels every load and waits for their functions to return, until ctx
// ends: then it returns the cause, and the functions that ignored their context
// are left to themselves, their results dropped. Callers that wait get ErrClosed
// at once, and so does every later call of Do.
func (g *Group[T]) Close(ctx context.Context) error {
	var left []*flight[T]
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		s.closed = true
		for f := range s.running {
			f.cancel(ErrClosed)
			left = append(left, f)
		}
		s.mu.Unlock()
	}
	for _, f := range left {
		select {
		case <-f.ended:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Stats returns the group's counters.
func (g *Group[T]) Stats() Stats {
	return Stats{
		Running:   g.running.Load(),
		Loads:     g.loads.Load(),
		Collapsed: g.collapsed.Load(),
		Panics:    g.panics.Load(),
	}
}
