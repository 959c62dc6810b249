package l2

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/breaker"
)

// once is a command that no client sends twice: what it asks may be done by
// the time the reply is lost.
type once struct{ *redis.Cmd }

// NoRetry overrides the command's: go-redis asks it before each retry, also in
// pipelines and on a cluster. A redirection is followed all the same, since
// a server that redirects has done nothing.
func (once) NoRetry() bool { return true }

// Clone keeps the override.
func (c once) Clone() redis.Cmder { return once{c.Cmd.Clone().(*redis.Cmd)} }

// onceString is once for replies that are one string.
type onceString struct{ *redis.StringCmd }

// NoRetry overrides the command's.
func (onceString) NoRetry() bool { return true }

// Clone keeps the override.
func (c onceString) Clone() redis.Cmder { return onceString{c.StringCmd.Clone().(*redis.StringCmd)} }

// newScriptCall returns the command that runs a script on key. Its key's place
// is set, so that a cluster client need not ask the server for it.
func newScriptCall(ctx context.Context, name, script, key string, args []any) once {
	return scriptCall(ctx, name, script, key, append(forScript(len(args)), args...))
}

// scriptHead is how many words of such a command come before the arguments.
const scriptHead = 4

// forScript returns the words of a command up to its n arguments, which are to be
// appended.
func forScript(n int) []any { return make([]any, scriptHead, scriptHead+n) }

// scriptCall is newScriptCall of words that begin as those of forScript, and which
// nobody else needs any more.
func scriptCall(ctx context.Context, name, script, key string, words []any) once {
	words[0], words[1], words[2], words[3] = name, script, 1, key
	c := once{redis.NewCmd(ctx, words...)}
	c.SetFirstKeyPos(3)
	c.SetStepCount(1)
	return c
}

// newRange returns the command that reads the first limit bytes of key. An
// absent key is an empty string, not a nil, which would cost the client 20
// allocations.
func newRange(ctx context.Context, key string, limit int) onceString {
	c := onceString{redis.NewStringCmd(ctx, "getrange", key, 0, limit-1)}
	c.SetFirstKeyPos(1)
	c.SetStepCount(1)
	return c
}

// noScript reports whether the server does not know the script. After
// a restart, a failover or SCRIPT FLUSH it is sent whole once.
func noScript(err error) bool {
	return err != nil && redis.HasErrorPrefix(err, "NOSCRIPT")
}

// call is one call for one key.
type call struct {
	r     *Redis
	shard *shard
	write bool
	pass  breaker.Pass
}

// begin finds who owns key and whether it may be asked. Every nil error must be
// followed by finish.
func (r *Redis) begin(ctx context.Context, key string, write bool) (c call, err error) {
	if err := checkKey(key); err != nil {
		return call{}, err
	}
	if ctx.Err() != nil {
		return call{}, cutShort(ctx)
	}
	if err := r.enter(); err != nil {
		return call{}, err
	}
	s := r.shardFor(key)
	pass, ok := s.breaker.Allow()
	if !ok {
		r.tasks.Done()
		return call{}, s.unavailable()
	}
	return call{r: r, shard: s, write: write, pass: pass}, nil
}

// perform runs f for key under the call's deadline and sorts its error.
//
// f must not touch what its caller owns once ctx is done: a client that does
// not heed deadlines is left behind with f still running.
func perform[T any](ctx context.Context, r *Redis, key string, write bool, f func(ctx context.Context, s *shard) (T, error)) (T, error) {
	if !r.loose {
		return performHere(ctx, r, key, write, f)
	}
	return inTime(ctx, r, key, write, func(ctx context.Context, s *shard) (T, error) {
		return run(ctx, r, func(ctx context.Context) (T, error) { return introduced(ctx, s, f) })
	})
}

// performHere is perform with f in the caller's goroutine, so that neither f nor
// what it refers to need be allocated.
//
// REQUIRES: f heeds the deadline.
func performHere[T any](ctx context.Context, r *Redis, key string, write bool, f func(ctx context.Context, s *shard) (T, error)) (T, error) {
	return inTime(ctx, r, key, write, func(ctx context.Context, s *shard) (T, error) {
		return introduced(ctx, s, f)
	})
}

// inTime is what the performs have in common.
func inTime[T any](ctx context.Context, r *Redis, key string, write bool, f func(ctx context.Context, s *shard) (T, error)) (T, error) {
	c, err := r.begin(ctx, key, write)
	if err != nil {
		var zero T
		return zero, err
	}
	defer r.tasks.Done()
	start := time.Now()
	limited, cancel := r.ends.With(ctx, start, r.opt.Timeout)
	defer cancel()
	v, err := f(limited, c.shard)
	return v, c.finish(ctx, start, err)
}

// introduced runs f on a server that has been met.
func introduced[T any](ctx context.Context, s *shard, f func(ctx context.Context, s *shard) (T, error)) (T, error) {
	if err := s.introduce(ctx); err != nil {
		var none T
		return none, err
	}
	return f(ctx, s)
}

// run calls f, in a goroutine of its own if the client may overrun ctx.
func run[T any](ctx context.Context, r *Redis, f func(ctx context.Context) (T, error)) (T, error) {
	if !r.loose {
		return f(ctx)
	}
	type result struct {
		v   T
		err error
	}
	results := make(chan result, 1)
	r.tasks.Go(func() {
		v, err := f(ctx)
		results <- result{v, err}
	})
	select {
	case res := <-results:
		return res.v, res.err
	case <-ctx.Done():
		var zero T
		return zero, ctx.Err()
	}
}

// finish reports the outcome to the breaker and returns what the method
// returns. parent is the caller's context.
//
// That a caller went away says nothing of the server. That its deadline passed
// does, if the server had half of our own timeout to answer: a caller that
// always gives a little less than that must not keep the breaker from opening.
func (c call) finish(parent context.Context, start time.Time, err error) error {
	if err == nil {
		c.pass.Report(breaker.Success)
		return nil
	}
	if cause := callersEnd(parent, err); cause != nil {
		if errors.Is(cause, context.Canceled) || time.Since(start) < c.r.opt.Timeout/2 {
			c.pass.Report(breaker.Neutral)
			return fmt.Errorf("%w: %w", ErrUnavailable, cause)
		}
		err = fmt.Errorf("%w: %w", cause, err)
	}
	cl := classify(err)
	c.shard.failed(cl, err)
	c.pass.Report(cl.outcome())
	return cl.wrap(err, c.write)
}

// callersEnd returns context.Canceled or context.DeadlineExceeded if err is due
// to the end of the caller's context, else nil.
//
// The connection's deadline, which is the context's, may strike a little before
// the context's own timer.
func callersEnd(parent context.Context, err error) error {
	if isAnswer(err) {
		return nil
	}
	if parent.Err() != nil {
		return parent.Err()
	}
	const early = 5 * time.Millisecond
	if end, ok := parent.Deadline(); ok && time.Until(end) < early {
		return context.DeadlineExceeded
	}
	return nil
}

func isAnswer(err error) bool {
	var answer redis.Error
	return errors.As(err, &answer)
}

// eval runs a script on key, as write unless readonly.
func (r *Redis) eval(ctx context.Context, sc *script, key string, write bool, args ...any) (any, error) {
	return r.evalWords(ctx, sc, key, write, append(forScript(len(args)), args...))
}

// evalWords is eval of words that begin as those of forScript.
func (r *Redis) evalWords(ctx context.Context, sc *script, key string, write bool, words []any) (any, error) {
	if r.loose {
		words = r.own(words)
		return perform(ctx, r, key, write, func(ctx context.Context, s *shard) (any, error) {
			return s.eval(ctx, sc, key, words)
		})
	}
	return performHere(ctx, r, key, write, func(ctx context.Context, s *shard) (any, error) {
		return s.eval(ctx, sc, key, words)
	})
}

// own copies what a call that is left behind might still read.
func (r *Redis) own(args []any) []any {
	if !r.loose {
		return args
	}
	for i, a := range args {
		if b, ok := a.([]byte); ok {
			args[i] = append([]byte(nil), b...)
		}
	}
	return args
}

// eval runs a script by its digest, or whole if the server does not know it.
// words begin as those of forScript.
func (s *shard) eval(ctx context.Context, sc *script, key string, words []any) (any, error) {
	cmd := scriptCall(ctx, "evalsha", sc.sha, key, words)
	err := s.r.client.Process(ctx, cmd)
	if noScript(err) {
		cmd = scriptCall(ctx, "eval", sc.src, key, slices.Clone(words)) // an error may still refer to the first
		err = s.r.client.Process(ctx, cmd)
	}
	if err != nil {
		return nil, err
	}
	return cmd.Val(), nil
}
