package l2

import (
	"context"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/breaker"
)

const (
	// gatherLone is how many reads of one server go their own way at once. A read
	// that meets fewer is not worth gathering, and is not slowed down by it.
	gatherLone = 2
	// gatherPipes is how many pipelines of one server are under way at once, but
	// a further one begins only when gatherFull reads wait: near a server one is
	// best, since its length makes up for it; far from one, several hide the way.
	gatherPipes = 4
	gatherFull  = 64
	// gatherMost bounds a pipeline: past it a longer one saves little, and all
	// wait for its last reply.
	gatherMost = 256
)

// gather collects calls of one server that are made while others are under way,
// and sends them together. W is how a call waits.
//
// Before it takes what waits, a sender lets those run that can: those whose replies
// it has just handed out, who may ask for more, and those who are about to. Else it
// would find nobody, and the next would go out by ones and twos. Where nobody can
// run that costs nothing.
//
// There is no timer: what comes in while the pipelines are busy is the next
// pipeline, so its length follows the load by itself, and a lone call goes out at
// once. go-redis has such a thing (AutoPipeline), experimental as of v9.23.0. It
// is not used, because it leaves a command's own deadline to a context of each,
// whose timer costs more than the command's share of a pipeline.
type gather[W any] struct {
	mu      sync.Mutex // guards what follows
	lone    int        // calls under way on their own
	pipes   int        // pipelines under way
	waiting []W
}

// gathered is a read that waits for its pipeline.
type gathered struct {
	cmd   onceString
	asked asked
	first *gathered // of the same pipeline, that asks the same; nil: none
	since time.Time
	done  chan struct{} // one slot: the reply is in cmd
}

// asked is what a read wants. Those of one pipeline that want the same are sent
// once: when Redis is back, or a popular value has gone, everybody asks for it.
type asked struct {
	key   string
	bytes int
}

// alone reports whether a call may go its own way; then back must follow.
func (g *gather[W]) alone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lone >= gatherLone || g.pipes > 0 {
		return false
	}
	g.lone++
	return true
}

func (g *gather[W]) back() {
	g.mu.Lock()
	g.lone--
	g.mu.Unlock()
}

// await makes w part of the next pipeline, and reports whether the caller must
// see to it that one begins.
func (g *gather[W]) await(w W) (begin bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, w)
	if g.pipes == 0 || g.pipes < gatherPipes && len(g.waiting) >= gatherFull {
		g.pipes++
		return true
	}
	return false
}

// take moves the oldest of those who wait to batch. If nobody waits the pipeline
// of the caller is over.
func (g *gather[W]) take(batch []W) []W {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := min(len(g.waiting), gatherMost)
	if n == 0 {
		g.pipes--
		return batch
	}
	batch = append(batch, g.waiting[:n]...)
	rest := copy(g.waiting, g.waiting[n:])
	clear(g.waiting[rest:])
	g.waiting = g.waiting[:rest]
	return batch
}

// readGathered is a read that is sent together with others.
func (r *Redis) readGathered(ctx context.Context, s *shard, key string, limit int) (Reply, error) {
	w, err := r.join(ctx, s, asked{key, limit + maxMeta + 1})
	if err != nil {
		return Reply{}, err
	}
	cmd, err := r.leave(ctx, w)
	if err != nil {
		return Reply{}, err
	}
	rep, err := replyOf(cmd, cmd.Err(), key, limit)
	if err != nil {
		err = classify(err).wrap(err, false)
	}
	return rep, err
}

// join makes a read part of the next pipeline of s. Every nil error must be
// followed by leave.
//
// The read has no timer of its own: its pipeline ends in time for the oldest of
// those in it. What the server did is reported to the breaker once for all of
// them.
func (r *Redis) join(ctx context.Context, s *shard, what asked) (*gathered, error) {
	if ctx.Err() != nil {
		return nil, cutShort(ctx)
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	if s.breaker.Open() {
		r.tasks.Done()
		return nil, s.unavailable()
	}
	w, _ := r.gathered.Get().(*gathered)
	if w == nil {
		w = &gathered{done: make(chan struct{}, 1)}
	}
	w.cmd, w.asked, w.since = newRange(ctx, what.key, what.bytes), what, time.Now()
	if s.gather.await(w) {
		r.tasks.Go(s.sendGathered) // w's read holds one of tasks: Close waits for both
	}
	return w, nil
}

// leave waits for the reply, which has the error of the server, or for the end
// of ctx, which is the error returned.
func (r *Redis) leave(ctx context.Context, w *gathered) (onceString, error) {
	defer r.tasks.Done()
	select {
	case <-w.done:
	case <-ctx.Done():
		return onceString{}, cutShort(ctx) // w is the pipeline's
	}
	cmd := w.cmd
	w.cmd, w.asked = onceString{}, asked{}
	r.gathered.Put(w)
	return cmd, nil
}

// sendGathered sends pipelines until nobody waits.
//
// A reply that several wait for was asked for after all of them had begun, so
// that it is to each what a reply of its own would be.
func (s *shard) sendGathered() {
	batch := make([]*gathered, 0, gatherMost)
	cmds := make([]redis.Cmder, 0, gatherMost)
	first, _ := s.r.firsts.Get().(map[asked]*gathered)
	if first == nil {
		first = make(map[asked]*gathered, gatherMost)
	}
	for {
		runtime.Gosched() // see gather
		batch = s.gather.take(batch[:0])
		if len(batch) == 0 {
			s.r.firsts.Put(first)
			return
		}
		cmds = cmds[:0]
		for _, w := range batch {
			if w.first = first[w.asked]; w.first == nil {
				first[w.asked] = w
				cmds = append(cmds, w.cmd)
			}
		}
		clear(first)
		s.sendPipeline(cmds, batch[0].since.Add(s.r.opt.Timeout))
		for _, w := range batch {
			if w.first != nil {
				// A copy, since a codec may use the memory of what it decodes; made
				// before anyone has it.
				w.cmd.SetVal(strings.Clone(w.first.cmd.Val()))
				w.cmd.SetErr(w.first.cmd.Err())
				w.first = nil
			}
		}
		for _, w := range batch {
			w.done <- struct{}{}
		}
	}
}

// sendPipeline runs cmds in one round trip, each with its own result. Those who
// wait leave by contexts of their own, so its context is nobody's.
func (s *shard) sendPipeline(cmds []redis.Cmder, deadline time.Time) {
	ctx, cancel := context.WithDeadline(context.WithoutCancel(s.r.ctx), deadline)
	defer cancel()
	err := s.introduce(ctx)
	if ctx.Err() != nil { // it waited for too long behind others
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
	} else {
		pipe := s.r.client.Pipeline()
		_ = pipe.BatchProcess(ctx, cmds...)
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
	s.report(cmds)
}

// report tells the breaker of a pipeline: of each read that failed, or once that
// the server answered.
func (s *shard) report(cmds []redis.Cmder) {
	failed := false
	for _, cmd := range cmds {
		cl := classify(cmd.Err())
		if cl == classOK || cl == classUsage {
			continue
		}
		failed = true
		s.failed(cl, cmd.Err())
		if pass, ok := s.breaker.Allow(); ok {
			pass.Report(cl.outcome())
		}
	}
	if failed {
		return
	}
	if pass, ok := s.breaker.Allow(); ok {
		pass.Report(breaker.Success)
	}
}
