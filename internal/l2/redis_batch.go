package l2

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/breaker"
)

// order is one command of a batch: a script on key, or without one the read of
// its first bytes.
type order struct {
	key    string
	script *script
	args   []any
	bytes  int  // to read, without a script
	write  bool // an error leaves the outcome unknown
	// deadline makes the last of args the end of the call in the clock of the
	// key's server.
	deadline bool
	err      error // makes no sense: not to be sent
}

// answered is what came of an order.
type answered struct {
	text     onceString // of a read
	value    any        // of a script
	deadline int64      // that was sent
	err      error      // sorted, as Store's methods return it
}

// batch carries out orders: those of one server in one pipeline, all servers at
// once. Each order succeeds or fails by itself; a server that does not answer,
// or whose breaker is open, takes no other's orders along.
//
// The caller bounds the number of orders: a pipeline is not split.
func (r *Redis) batch(ctx context.Context, orders []order) []answered {
	answers := make([]answered, len(orders))
	if ctx.Err() != nil {
		return failAll(answers, cutShort(ctx))
	}
	if err := r.enter(); err != nil {
		return failAll(answers, err)
	}
	defer r.tasks.Done()
	var shards []*shard
	parts := make(map[*shard][]int)
	for i := range orders {
		if err := errors.Join(orders[i].err, checkKey(orders[i].key)); err != nil {
			answers[i].err = err
			continue
		}
		s := r.shardFor(orders[i].key)
		if parts[s] == nil {
			shards = append(shards, s)
		}
		parts[s] = append(parts[s], i)
	}
	var others sync.WaitGroup
	for i, s := range shards {
		if i == len(shards)-1 {
			s.carryOut(ctx, r.opt.Timeout, orders, parts[s], answers)
			break
		}
		others.Go(func() { s.carryOut(ctx, r.opt.Timeout, orders, parts[s], answers) })
	}
	others.Wait()
	return answers
}

func failAll(answers []answered, err error) []answered {
	for i := range answers {
		answers[i].err = err
	}
	return answers
}

// carryOut sends the orders at the given places, all of them for s, and has their
// replies within limit. It writes to no other place of answers.
func (s *shard) carryOut(ctx context.Context, limit time.Duration, orders []order, places []int, answers []answered) {
	r := s.r
	pass, ok := s.breaker.Allow()
	if !ok {
		for _, i := range places {
			answers[i].err = s.unavailable()
		}
		return
	}
	limited, cancel := r.ends.With(ctx, time.Now(), limit)
	defer cancel()
	mine := make([]order, len(places)) // not the caller's: a call may be left behind
	for j, i := range places {
		mine[j] = orders[i]
		mine[j].args = r.own(mine[j].args)
	}
	start := time.Now()
	got, err := run(limited, r, func(ctx context.Context) ([]answered, error) { return s.pipeline(ctx, mine), nil })
	if err != nil {
		got = failAll(make([]answered, len(places)), err)
		if r.loose {
			s.lastDeadline(mine, got)
		}
	}
	s.sort(ctx, start, pass, mine, got)
	for j, i := range places {
		answers[i] = got[j]
	}
}

// lastDeadline sets what a call that was left behind may still send: no script
// of it stores later than this.
func (s *shard) lastDeadline(orders []order, answers []answered) {
	_, hi, _ := s.clock.bounds()
	for i := range orders {
		if orders[i].deadline {
			answers[i].deadline = hi + s.r.opt.Timeout.Microseconds()
		}
	}
}

// sort turns the errors of a pipeline into those that Store returns, and tells
// the breaker once for all of them: of the first that speaks against the server,
// or that it answered.
func (s *shard) sort(parent context.Context, start time.Time, pass breaker.Pass, orders []order, answers []answered) {
	told := false
	for i := range answers {
		err := answers[i].err
		if err == nil {
			continue
		}
		cl := classify(err)
		if !told && cl.outcome() != breaker.Success {
			told = true
			answers[i].err = call{r: s.r, shard: s, write: orders[i].write, pass: pass}.finish(parent, start, err)
			continue
		}
		if cl == classRefused {
			s.failed(cl, err)
		}
		answers[i].err = cl.wrap(err, orders[i].write)
	}
	if !told {
		pass.Report(breaker.Success)
	}
}

// pipeline sends orders in one round trip, and once more those whose script the
// server did not know: after a restart, a failover or SCRIPT FLUSH go-redis has
// no way back inside a pipeline. The first use of each script carries it whole,
// which makes it known to the others behind it; should that fail, all carry it.
func (s *shard) pipeline(ctx context.Context, orders []order) []answered {
	answers := make([]answered, len(orders))
	if err := s.introduce(ctx); err != nil {
		return failAll(answers, err)
	}
	places := make([]int, 0, len(orders))
	for i := range orders {
		if orders[i].deadline {
			end, err := s.deadline(ctx)
			if err != nil {
				answers[i].err = err
				continue
			}
			answers[i].deadline = end
			orders[i].args[len(orders[i].args)-1] = end
		}
		places = append(places, i)
	}
	const known, firstWhole, allWhole = 0, 1, 2
	for how := known; how <= allWhole && len(places) > 0; how++ {
		whole := make(map[*script]bool)
		cmds := make([]redis.Cmder, len(places))
		for j, i := range places {
			o := &orders[i]
			switch {
			case o.script == nil:
				cmds[j] = newRange(ctx, o.key, o.bytes)
			case how == known || how == firstWhole && whole[o.script]:
				cmds[j] = newScriptCall(ctx, "evalsha", o.script.sha, o.key, o.args)
			default:
				whole[o.script] = true
				cmds[j] = newScriptCall(ctx, "eval", o.script.src, o.key, o.args)
			}
		}
		sent := s.clock.local()
		pipe := s.r.client.Pipeline()
		_ = pipe.BatchProcess(ctx, cmds...)
		_, failed := pipe.Exec(ctx) // each command has its own error, as a rule
		var unknown []int
		for j, i := range places {
			if answers[i].take(cmds[j], failed); noScript(answers[i].err) {
				unknown = append(unknown, i)
			}
			if now, late := answers[i].value.(int64); late && now < 0 && orders[i].deadline {
				s.clock.observe(sent, -now, s.clock.local())
			}
		}
		places = unknown
	}
	return answers
}

// take reads the reply to a command. failed is the error of its pipeline.
func (a *answered) take(cmd redis.Cmder, failed error) {
	a.err = cmd.Err()
	switch c := cmd.(type) {
	case once:
		a.value = c.Val()
		if a.err == nil && a.value == nil {
			a.err = errors.Join(fmt.Errorf("%w: no reply", ErrUnavailable), failed)
		}
	case onceString:
		a.text = c
	}
}
