package tier

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/flight"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
)

// batchLoad is the load of the keys that a batch owns. Each key has a flight of
// its own, whose function waits for this load; the load ends when nobody waits
// in any of them.
type batchLoad[T any] struct {
	*batchCall[T]

	parent context.Context //nolint:containedctx // of the caller, until begin
	items  []*owned[T]
	live   atomic.Int64 // flights that still want something, and one until begin
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the load is over

	failed   error              // of the loader; the load's goroutine alone touches it
	panicked *flight.PanicError // written before a slot is filled with it
	goexit   bool               // likewise
	gone     atomic.Bool        // the caller has left before the load was over
}

// owned is a key of a batchLoad.
type owned[T any] struct {
	*item[T]

	load    *batchLoad[T]
	pending *flight.Pending[*l1.Entry[T]] // its flight; nil if nested
	slot    chan landing[T]               // one slot
	settled bool                          // slot was filled; the load's goroutine alone touches it
	token   l2.Token
	nested  bool // asked for by a load of the key itself, which holds the lease and stores
	tries   int  // times that the key had changed when its lease was asked for
}

type landing[T any] struct {
	entry *l1.Entry[T]
	err   error
}

func newBatchLoad[T any](ctx context.Context, b *batchCall[T]) *batchLoad[T] {
	l := &batchLoad[T]{batchCall: b, parent: ctx, done: make(chan struct{})}
	l.live.Store(1)
	return l
}

// own adds a key. It is known to the load before its flight begins: the flight may
// be over before begin.
func (l *batchLoad[T]) own(it *item[T]) *owned[T] {
	o := &owned[T]{item: it, load: l, slot: make(chan landing[T], 1)}
	l.items = append(l.items, o)
	l.live.Add(1)
	return o
}

// disown takes the last key away: somebody else loads it.
func (l *batchLoad[T]) disown() {
	l.items = l.items[:len(l.items)-1]
	l.live.Add(-1)
}

// fly is the function of a key's flight.
func (o *owned[T]) fly(ctx context.Context) (*l1.Entry[T], error) {
	select {
	case got := <-o.slot:
		o.load.leave(nil)
		return got.entry, got.err
	case <-ctx.Done():
		o.load.leave(context.Cause(ctx))
		return nil, context.Cause(ctx)
	}
}

// leave is the end of one flight. The last one to end without a result cancels
// the load, and waits for it, so that whoever closes the cache does.
func (l *batchLoad[T]) leave(cause error) {
	if l.live.Add(-1) == 0 && cause != nil {
		l.cancel(cause)
		<-l.done
	}
}

// begin starts the load, which owes every flight a result from then on.
func (l *batchLoad[T]) begin() {
	keys := make(map[string]struct{}, len(l.items))
	for _, o := range l.items {
		keys[o.key] = struct{}{}
	}
	ctx := l.c.flights.Enclose(context.WithoutCancel(l.parent), keys, l.late)
	l.parent = nil
	ctx, l.cancel = context.WithCancelCause(ctx)
	if l.live.Add(-1) == 0 {
		l.cancel(nil)
		close(l.done)
		return
	}
	go l.run(ctx)
}

// late ends the load and the flights of its keys, when the loader has not
// returned in time.
func (l *batchLoad[T]) late(err error) {
	l.cancel(err)
	for _, o := range l.items {
		if o.pending != nil {
			o.pending.End(err)
		}
	}
}

// raise raises in the caller what the load raised. err is the result of a key of
// the load, rest are the places that are not waited for then.
func (l *batchLoad[T]) raise(err error, rest []place[T]) {
	var p *flight.PanicError
	switch {
	case errors.As(err, &p) && p == l.panicked:
		leave(rest)
		panic(p.Value)
	case errors.Is(err, flight.ErrGoexit) && l.goexit:
		leave(rest)
		runtime.Goexit()
	}
}

// run does the work, and gives every key a result whatever becomes of it.
func (l *batchLoad[T]) run(ctx context.Context) {
	returned := false
	defer func() {
		err := context.Cause(ctx)
		switch v := recover(); {
		case v != nil:
			l.panicked = &flight.PanicError{Value: v, Stack: debug.Stack()}
			err = l.panicked
			if l.gone.Load() {
				l.c.node.log.Warn("tier: loader panicked after its caller had left", "cache", l.c.name, "panic", v, "stack", string(l.panicked.Stack))
			}
		case !returned:
			l.goexit, err = true, flight.ErrGoexit
		}
		for _, o := range l.items {
			o.settle(nil, err)
		}
		close(l.done)
	}()
	l.work(ctx)
	returned = true
}

func (o *owned[T]) settle(e *l1.Entry[T], err error) {
	if o.settled {
		return
	}
	o.settled = true
	if e == nil && err == nil {
		err = errors.New("tier: batch load ended without a result")
	}
	o.slot <- landing[T]{e, err}
}

// work loads the keys: those that it gets a lease for, and those that are not
// stored, before it waits for those that another loads, see patience.
func (l *batchLoad[T]) work(ctx context.Context) {
	c := l.c
	pause, patience := pollFirst, c.patience()
	for rest := l.items; len(rest) > 0 && ctx.Err() == nil; {
		leased, free, busy := l.lease(ctx, rest)
		if patience.over() {
			free, busy = append(free, busy...), nil
		}
		if len(leased)+len(free) > 0 {
			l.loadOnce(ctx, leased, free)
		}
		if len(busy) == 0 || !sleep(ctx, jitter(pause)) {
			return
		}
		pause = min(pause*3/2, pollMost)
		items := make([]*item[T], len(busy))
		for i, o := range busy {
			o.old = nil
			items[i] = o.item
		}
		c.lookMany(ctx, items, c.budget())
		rest = rest[:0:0]
		for _, o := range busy {
			if o.r.outcome == hit {
				o.settle(o.r.entry, nil)
				continue
			}
			rest = append(rest, o)
		}
	}
}

// lease asks for the leases of keys. leased have one, free are to be loaded
// without being stored, busy are to be looked at again.
func (l *batchLoad[T]) lease(ctx context.Context, keys []*owned[T]) (leased, free, busy []*owned[T]) {
	c := l.c
	var asked []*owned[T]
	var requests []l2.LeaseRequest
	for _, o := range keys {
		if o.r.outcome != missed || o.nested || o.tries >= changedLimit {
			free = append(free, o)
			continue
		}
		o.token = l2.NewToken()
		asked = append(asked, o)
		requests = append(requests, l2.LeaseRequest{Held: l2.Held{Key: c.redisKey(o.key), Token: o.token}, Seen: o.r.seen})
	}
	if len(asked) == 0 {
		return nil, free, nil
	}
	limited, cancel := context.WithTimeout(ctx, c.node.cfg.Timeout)
	defer cancel()
	for i, res := range l.ask(limited, requests) {
		o := asked[i]
		switch {
		case res.Err != nil:
			free = append(free, o)
		case res.Kind == l2.Granted:
			leased = append(leased, o)
		case res.Kind == l2.GrantBusy:
			busy = append(busy, o)
		case res.Kind == l2.GrantChanged:
			o.tries++
			busy = append(busy, o)
		default: // a writer's bracket, a hold, or a newer format
			free = append(free, o)
		}
	}
	return leased, free, busy
}

// ask asks Redis for leases. Those that it may have given, though its answer was
// lost, are given back.
func (l *batchLoad[T]) ask(ctx context.Context, requests []l2.LeaseRequest) []l2.LeaseResult {
	results := l.c.node.store.LeaseMany(ctx, requests, leaseTime)
	var lost []l2.Held
	for i, res := range results {
		if res.Err != nil && mayHold(res.Err) {
			lost = append(lost, requests[i].Held)
		}
	}
	if len(lost) > 0 {
		go l.giveBack(context.WithoutCancel(ctx), lost)
	}
	return results
}

// renew keeps the leases alive until the returned function is called, which waits
// for the renewal under way. Those under which nothing could be stored any more,
// because a Clear voided them, are given back.
func (l *batchLoad[T]) renew(ctx context.Context, leased []*owned[T]) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	voided := l.c.voided.wait()
	go func() {
		defer close(done)
		ticker := time.NewTicker(leaseTime / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-voided:
				voided = nil
			case <-ticker.C:
			}
			leased = l.renewOnce(ctx, leased)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
