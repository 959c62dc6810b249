package flight

import (
	"context"
	"runtime/debug"
	"time"
)

// outcome is how a load ended.
type outcome[T any] struct {
	value  T
	err    error
	panic  *PanicError // not nil: it panicked
	goexit bool
}

// flight is one load and those who wait for it.
type flight[T any] struct {
	group *Group[T]
	shard *shard[T]
	key   string
	valid func() bool
	fn    func(context.Context) (T, error)

	started time.Time
	ctx     context.Context
	cancel  context.CancelCauseFunc
	landed  chan outcome[T] // the load's own result, buffered: nobody may be left to take it
	ended   chan struct{}   // closed when fn has returned, be it late

	// Guarded by shard.mu.
	waiters    int
	leaderLeft bool // nobody will raise a panic
	lasting    bool // goes on when nobody waits; holds a slot until fn has returned
	decided    bool // what run returns is settled: whoever still waits will get it, soon
	returned   bool // fn has
}

// run is the function that singleflight executes. It must neither panic nor
// Goexit: singleflight would end the process, or never deliver. So the load has
// a goroutine of its own, which also lets run return at the time limit while a
// load that ignores its context goes on.
func (f *flight[T]) run() (any, error) { //nolint:unparam // the signature is singleflight's
	go f.load()
	var out outcome[T]
	landed := false
	select {
	case out = <-f.landed:
		landed = true
	case <-f.ctx.Done():
	}
	f.shard.mu.Lock()
	if !landed {
		select {
		case out = <-f.landed: // both are ready: what was loaded counts
		default:
			out.err = context.Cause(f.ctx)
		}
	}
	f.decided = true
	f.shard.withdraw(f)
	f.shard.mu.Unlock()
	f.cancel(nil)
	return &out, nil
}

// load runs fn and reports how it ended, whatever that is.
func (f *flight[T]) load() {
	var out outcome[T]
	returned := false
	defer func() {
		if !returned && out.panic == nil {
			out.goexit = true
		}
		f.land(out)
	}()
	func() {
		defer func() {
			// recover returns nil for a Goexit, which goes on after this.
			if v := recover(); v != nil {
				out.panic = &PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		out.value, out.err = f.fn(f.ctx)
		returned = true
	}()
}

// land delivers the outcome. A panic that no caller will raise, because the one
// whose function it was has left or was given another answer, goes to the hook.
//
// All under the lock, as run decides under it and waiters leave under it. So a
// panic reaches either the leader or the hook, never both, never neither:
//
//	land, then leave:   leave sees decided and waits for the delivery
//	leave, then land:   land sees leaderLeft
//	land, then run:     run takes the outcome, its context over or not
//	run, then land:     land sees decided
func (f *flight[T]) land(out outcome[T]) {
	f.shard.mu.Lock()
	orphaned := f.leaderLeft || f.decided
	f.decided = true
	f.landed <- out // buffered, and sent once: does not block
	f.returned = true
	lasting := f.lasting
	delete(f.shard.running, f)
	f.shard.mu.Unlock()
	if lasting {
		f.group.options.Slots.give()
	}
	f.group.running.Add(-1)
	if out.panic != nil {
		f.group.panics.Add(1)
		if orphaned && f.group.options.OnPanic != nil {
			f.group.options.OnPanic(f.key, out.panic)
		}
	}
	close(f.ended)
}

// frame marks a context as that of a load, so that a load which asks for a key
// that it is itself a part of can be told from one that may wait.
type frame struct {
	group  any
	key    string
	keys   map[string]struct{} // instead of key: those of a load of many
	end    func(error)         // ends what waits for the load
	parent *frame
}

type frameKey struct{}

func inside(ctx context.Context, group any, key string) bool {
	for f := nearest(ctx, group); f != nil; f = f.parent {
		if f.group != group {
			continue
		}
		if _, among := f.keys[key]; among || f.keys == nil && f.key == key {
			return true
		}
	}
	return false
}

// nearest returns the innermost frame of group, nil if there is none.
func nearest(ctx context.Context, group any) *frame {
	f, _ := ctx.Value(frameKey{}).(*frame)
	for f != nil && f.group != group {
		f = f.parent
	}
	return f
}

func enclose(ctx context.Context, f frame) context.Context {
	f.parent, _ = ctx.Value(frameKey{}).(*frame)
	return context.WithValue(ctx, frameKey{}, &f)
}

// Inside reports whether ctx is that of a load of key.
func (g *Group[T]) Inside(ctx context.Context, key string) bool { return inside(ctx, g, key) }

// Enclose returns ctx as the context of one load of all of keys, which it keeps.
// end is called when the load exceeds the time limit, see Limit.
func (g *Group[T]) Enclose(ctx context.Context, keys map[string]struct{}, end func(error)) context.Context {
	return enclose(ctx, frame{group: g, keys: keys, end: end})
}

// Limit begins the group's time limit for what a load does with the returned
// context, until it calls done, as it must. ctx is the load's. What exceeds the
// limit sees the returned context end, and whoever waits for the load gets
// [TimeoutError], whether or not the load heeds it.
func (g *Group[T]) Limit(ctx context.Context) (limited context.Context, done func()) {
	f := nearest(ctx, g)
	if g.options.Timeout <= 0 || f == nil {
		return ctx, func() {}
	}
	late := &TimeoutError{Limit: g.options.Timeout}
	limited, cancel := context.WithTimeoutCause(ctx, late.Limit, late)
	stop := context.AfterFunc(limited, func() { f.end(context.Cause(limited)) })
	return limited, func() {
		stop()
		cancel()
	}
}
