package l2

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/breaker"
)

// watch looks at the server every beat, and more often while it is away or when
// a call failed. It alone closes the breaker.
func (s *shard) watch() {
	ctx := s.ctx
	if ctx == nil {
		ctx = s.r.ctx
	}
	for ctx.Err() == nil {
		s.tellDown()
		_ = s.look(ctx) // the breaker knows
		s.tellDown()
		if !s.pause(ctx) {
			return
		}
	}
}

// pause waits for the next look: not so long while the server is away, and
// never so short that failing calls turn into a storm of questions.
func (s *shard) pause(ctx context.Context) bool {
	wait := s.r.opt.BeatEvery
	if s.breaker.Open() {
		wait = s.r.opt.ProbeEvery
	}
	wait -= time.Duration(rand.Int64N(int64(wait)/4 + 1))
	least := min(wait, s.r.opt.ProbeEvery/10)
	if !sleep(ctx, nil, least) {
		return false
	}
	return sleep(ctx, s.kick, wait-least)
}

// sleep waits for d or for wake; false: ctx is done.
func sleep(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// tellDown calls Down once for each time the breaker has opened.
func (s *shard) tellDown() {
	n := s.breaker.Opened()
	if n == s.told {
		return
	}
	s.told = n
	s.mu.Lock()
	err := s.last
	s.mu.Unlock()
	s.r.log.Warn("l2: redis is not available", slog.String("addr", s.addr), slog.Any("error", err))
	if f := s.r.opt.Events.Down; f != nil {
		f(err)
	}
}

// look asks whether the server serves, what time it has and who it is, and
// leaves a mark there. The error says why it could not be asked.
//
// Looks come one after the other; one that waits for its turn ends with ctx.
func (s *shard) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.r.opt.Timeout)
	defer cancel()
	select {
	case s.looking <- struct{}{}:
		defer func() { <-s.looking }()
	case <-ctx.Done():
		return cutShort(ctx)
	}
	pass, closed := s.breaker.Allow()
	err := s.visit(ctx)
	if err != nil {
		if s.r.ctx.Err() != nil {
			err = nil // Close cut it short
		}
		cl := classify(err)
		if closed {
			pass.Report(cl.outcome())
		}
		s.mu.Lock()
		if err != nil {
			s.last = err
		}
		if !closed {
			s.probes++
		}
		s.mu.Unlock()
		return err
	}
	if closed {
		pass.Report(breaker.Success)
	}
	s.reopen()
	return nil
}

// reopen lets calls through again.
func (s *shard) reopen() {
	back := s.breaker.Close()
	if back {
		s.mu.Lock()
		s.since, s.probes = time.Now(), s.probes+1
		s.mu.Unlock()
		s.r.log.Info("l2: redis is available again", slog.String("addr", s.addr))
	}
	s.r.up(back)
}

// now is the server's clock, at most. It asks for the time if it has never been
// told.
func (s *shard) now(ctx context.Context) (int64, error) {
	if err := s.askTime(ctx); err != nil {
		return 0, err
	}
	_, hi, _ := s.clock.bounds()
	return hi, nil
}

// askTime asks the server for its time if it has never been told.
func (s *shard) askTime(ctx context.Context) error {
	if s.clock.known.Load() {
		return nil
	}
	node := s.node.Load()
	if node == nil {
		return errNoMaster
	}
	a := s.clock.local()
	t, err := node.Time(ctx).Result()
	if err != nil {
		return err
	}
	s.clock.observe(a, t.UnixMicro(), s.clock.local())
	return nil
}

// watchCluster keeps the list of masters. The client's own map of slots decides
// where calls go; this decides which servers are watched.
func (r *Redis) watchCluster() {
	for r.ctx.Err() == nil {
		r.seed.tellDown()
		if err := r.discover(r.ctx); err != nil {
			r.seed.failed(classify(err), err)
			if pass, ok := r.seed.breaker.Allow(); ok {
				pass.Report(breaker.Failure)
			}
		} else {
			r.seed.reopen()
		}
		r.seed.tellDown()
		if !r.seed.pause(r.ctx) {
			return
		}
	}
}

// discover asks the cluster for its masters and drops those that are gone.
func (r *Redis) discover(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(r.opt.Timeout, time.Second))
	defer cancel()
	masters, err := run(ctx, r, func(ctx context.Context) ([]*redis.Client, error) {
		var mu sync.Mutex
		var list []*redis.Client
		err := r.cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			list = append(list, c)
			return nil
		})
		return list, err
	})
	if err == nil && len(masters) == 0 {
		err = errNoMaster
	}
	if err != nil {
		return err
	}
	known := make(map[string]bool, len(masters))
	for _, node := range masters {
		known[r.adopt(node).addr] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.discovered = true
	for addr, s := range r.shards {
		if !known[addr] {
			s.stop()
			delete(r.shards, addr)
		}
	}
	return nil
}

// Ping implements Store. It asks also those servers whose breaker is open.
func (r *Redis) Ping(ctx context.Context) (time.Duration, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.tasks.Done()
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	r.mu.RLock()
	discovered := r.discovered
	r.mu.RUnlock()
	if r.cluster != nil && !discovered {
		if err := r.discover(ctx); err != nil {
			return 0, classUnavailable.wrap(err, false)
		}
	}
	list := r.all()
	times := make([]time.Duration, len(list))
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, s := range list {
		wg.Go(func() { times[i], errs[i] = s.ping(ctx) })
	}
	wg.Wait()
	longest := time.Duration(0)
	for _, d := range times {
		longest = max(longest, d)
	}
	return longest, errors.Join(errs...)
}

func (s *shard) ping(ctx context.Context) (time.Duration, error) {
	node := s.node.Load()
	if node == nil {
		return 0, classUnavailable.wrap(errNoMaster, false)
	}
	start := time.Now()
	if err := pinged(node.Ping(ctx)); err != nil {
		return 0, classUnavailable.wrap(err, false)
	}
	if s.breaker.Open() {
		s.wake()
	}
	return time.Since(start), nil
}
