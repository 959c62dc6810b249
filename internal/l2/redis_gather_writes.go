package l2

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/tandemcache/tandem/internal/deadline"
)

// gatherBytes bounds a change that is gathered. A larger one goes its own way, so
// that nobody waits for it, and a pipeline stays below 4 MiB.
const gatherBytes = 16 << 10

// gatheredWrite is a change that waits for its pipeline.
type gatheredWrite struct {
	order  order
	since  time.Time
	answer answered
	done   chan struct{} // closed when answer is there
}

// joins reports whether a change of key, with so many bytes, is to be gathered
// with others that are made at the same time. If not, and s is not nil, it counts
// as one that goes its own way, and s.writes.back must follow.
//
// Only a change that nobody can call off and that has all of Timeout is gathered.
// So it need not watch its own context: its pipeline ends in time for the oldest
// of those in it, and none leaves without knowing what came of its own. Whatever
// else is promised of a change holds in a pipeline as it does alone: it is sent
// once, its script carries the pipeline's end as its deadline, and it fails by
// itself.
func (r *Redis) joins(ctx context.Context, key string, size int) (s *shard, join bool) {
	if r.loose || size > gatherBytes || checkKey(key) != nil || !r.patient(ctx) {
		return nil, false
	}
	s = r.shardFor(key)
	return s, !s.writes.alone()
}

// patient reports whether ctx lasts for a call's Timeout whatever its caller does.
func (r *Redis) patient(ctx context.Context) bool {
	if ctx.Done() != nil && !deadline.Shared(ctx) {
		return false
	}
	end, limited := ctx.Deadline()
	return !limited || time.Until(end) >= r.opt.Timeout
}

// gatherWrite carries out o with others.
func (s *shard) gatherWrite(o order) answered {
	r := s.r
	if err := r.enter(); err != nil {
		return answered{err: err}
	}
	defer r.tasks.Done()
	w := &gatheredWrite{order: o, since: time.Now(), done: make(chan struct{})}
	if s.writes.await(w) {
		r.tasks.Go(s.sendWrites) // w holds one of tasks: Close waits for both
	}
	<-w.done
	return w.answer
}

// sendWrites sends pipelines until nobody waits.
func (s *shard) sendWrites() {
	batch := make([]*gatheredWrite, 0, gatherMost)
	for {
		runtime.Gosched() // see gather
		batch = s.writes.take(batch[:0])
		if len(batch) == 0 {
			return
		}
		orders, places := make([]order, len(batch)), make([]int, len(batch))
		for i, w := range batch {
			orders[i], places[i] = w.order, i
		}
		answers := make([]answered, len(batch))
		if left := s.r.opt.Timeout - time.Since(batch[0].since); left > 0 {
			s.carryOut(context.WithoutCancel(s.r.ctx), left, orders, places, answers)
		} else {
			failAll(answers, fmt.Errorf("%w: %s: not sent in time, behind others", ErrUnavailable, s.addr))
		}
		for i, w := range batch {
			w.answer = answers[i]
			close(w.done)
		}
	}
}
