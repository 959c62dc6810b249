package tier_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/tier"
)

// client calls one operation after the other, on the node that stands in its
// slot. What it does depends on the seed and its number alone.
type client struct {
	run    *run
	slot   *slot
	number int16
	seed   uint64
	pcg    *rand.PCG
	rng    *rand.Rand
	ops    []history.Op
}

func newClient(r *run, s *slot, id int) *client {
	c := &client{run: r, slot: s, number: int16(id), seed: mix(r.seed ^ mix(uint64(id)+1)), pcg: rand.NewPCG(0, 0)}
	c.rng = rand.New(c.pcg)
	return c
}

// mix spreads the bits of x, as splitmix64 does.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// loop runs until ctx ends. Each operation has random numbers of its own, so
// that how many one draws, or how it ends, does not change the next.
func (c *client) loop(ctx context.Context) {
	for n := uint64(0); ctx.Err() == nil; n++ {
		c.pcg.Seed(mix(c.seed+n), n)
		c.step()
		if n%64 == 63 {
			pause(ctx, time.Millisecond)
		}
	}
}

func (c *client) step() {
	in := c.slot.current.Load()
	if in == nil {
		pause(context.Background(), time.Millisecond) // its node is down
		return
	}
	op := pick(c.rng, operations, func(o operation) int { return o.weight })
	in.using.RLock()
	defer in.using.RUnlock()
	op.run(c, in)
}

// pick chooses by weight.
func pick[E any](rng *rand.Rand, all []E, weight func(E) int) E {
	sum := 0
	for _, e := range all {
		sum += weight(e)
	}
	x := rng.IntN(sum)
	for _, e := range all {
		if x -= weight(e); x < 0 {
			return e
		}
	}
	panic("unreachable: x is below the sum of the weights")
}

// pause waits; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// record notes an operation that has just returned.
func (c *client) record(in *instance, call history.Time, op history.Op, err error) {
	op.Call, op.Return = call, c.run.now()
	op.Node, op.Client = in.id, c.number
	if in.dead.Load() && op.Kind >= history.Void && op.Result != history.OK {
		op.Result = history.Lost // with its node, whatever it said
		if op.Name != opUpdate && op.Key >= 0 {
			c.run.doubt(in, op.Key)
		}
	}
	if op.Result == history.Failed || op.Result == history.Wrong {
		if in.dead.Load() {
			return // what a closed node says is its right
		}
		c.run.complain(fmt.Sprintf("%s of node %d at %v: %v", names[op.Name], in.id, op.Return, err))
	}
	c.ops = append(c.ops, op)
}

var (
	errLoader = errors.New("the loader fails, as the run wants it")
	errLeft   = errors.New("the caller leaves, as the run wants it")
)

// answered turns what a read returned into a result.
func (c *client) answered(ctx context.Context, key int32, v fact, err error) (history.Result, int64) {
	switch {
	case err == nil && v.whole(c.run.keys[key].Name):
		return history.Value, v.Version
	case err == nil:
		return history.Wrong, 0
	case errors.Is(err, tier.ErrNotFound):
		return history.Absent, 0
	case errors.Is(err, errLoader), ctx.Err() != nil && errors.Is(err, context.Cause(ctx)):
		return history.Left, 0
	}
	return history.Failed, 0
}

// changed turns what a change returned into a result. The nodes of a run are
// strict: what Redis did not confirm is told.
func changed(err error) history.Result {
	switch {
	case err == nil:
		return history.OK
	case errors.Is(err, tier.ErrUnavailable):
		return history.Owed
	}
	return history.Failed
}

// loader returns the loader of one operation. All that is random about it is
// drawn now.
func (c *client) loader(in *instance, key int32, call history.Time) func(context.Context) (fact, error) {
	before, after := c.delay(), c.delay()
	fate := c.rng.IntN(200)
	return func(ctx context.Context) (v fact, err error) {
		begin := c.run.now()
		defer func() {
			c.run.loaded(history.Load{
				Call: call, Begin: begin, End: c.run.now(), Key: key, Node: in.id, Abandoned: ctx.Err() != nil,
			})
		}()
		pause(ctx, before)
		v, err = c.run.source.load(key)
		pause(ctx, after)
		switch {
		case ctx.Err() != nil:
			return fact{}, context.Cause(ctx)
		case fate == 0:
			panic(errLoader)
		case fate == 1:
			return fact{}, errLoader
		}
		return v, err
	}
}

// delay is how long a database takes: mostly not at all, at times until the
// reader is out of date.
func (c *client) delay() time.Duration {
	u := c.rng.Float64()
	switch x := c.rng.IntN(100); {
	case x < 60:
		return 0
	case x < 90:
		return time.Duration(u * float64(2*time.Millisecond))
	case x < 98:
		return time.Duration(u * float64(20*time.Millisecond))
	}
	return time.Duration(u * float64(longestDelay))
}

const longestDelay = 100 * time.Millisecond

// caller returns the context of a read: a few leave while they wait.
func (c *client) caller() (context.Context, context.CancelFunc) {
	if c.rng.IntN(50) != 0 {
		return context.Background(), func() {}
	}
	d := time.Duration(c.rng.Float64() * float64(5*time.Millisecond))
	return context.WithTimeoutCause(context.Background(), d, errLeft)
}
