package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// replayWithin is how long after Redis' return what is owed is made up for at
// the latest: within a second the replay begins (NothingForgotten), and it may
// take another on a machine that is busy with the return of everybody else.
const replayWithin = 2 * time.Second

// spareTime is how much longer than it should the load lasts at most.
const spareTime = 10 * time.Second

// processes is how many services share the Redis.
const processes = 2

// run is the demo: it sets everything up, lets the load run with an outage in
// its middle, reads everything once more, and ends all that it has started. The
// error says why there is no report.
func run(ctx context.Context, cfg config, stdout io.Writer) (_ *report, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	space, err := openWorkspace(ctx, cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, space.Close()) }()

	s := &scenario{cfg: cfg, out: stdout, cancel: cancel, spare: spareTime}
	if err := s.prepare(ctx, space); err != nil {
		return nil, err
	}
	// Also when something below panics.
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, space); err != nil {
		return nil, err
	}
	s.announce()
	if err := s.play(ctx); err != nil {
		return nil, err
	}
	result, err := s.finish(ctx)
	if err != nil {
		return nil, err
	}
	result.Leftover = s.stop()
	return analyze(result), nil
}

// scenario is what one run of the demo consists of.
type scenario struct {
	cfg    config
	out    io.Writer
	cancel context.CancelCauseFunc

	path      string // of the database
	created   time.Duration
	base      []int64
	redis     redisServer
	services  []*child
	transport http.Transport
	clients   []*client
	load      *load
	prober    *prober
	duel      *duel
	check     *checker
	traffic   *collector
	probing   *collector
	dueling   *collector
	outage    outage
	away      int           // times that Redis did not answer in the outage
	answered  int           // times that it did
	spare     time.Duration // that is left of spareTime
	begun     time.Time
	ended     time.Time
}

// prepare makes the database, and looks at it before anybody writes to it.
func (s *scenario) prepare(ctx context.Context, space *workspace) error {
	begun := time.Now()
	say(s.out, "database: %s users in SQLite, %s\n", number(s.cfg.Users), space.dir)
	path, created, err := prepareDatabase(ctx, space.dir, s.cfg.Users)
	if err != nil {
		return err
	}
	if created {
		s.created = time.Since(begun)
		say(s.out, "database: created in %.1f s, kept for the next run\n", s.created.Seconds())
	}
	s.path = path
	db, err := openDatabase(path, 0)
	if err != nil {
		return err
	}
	s.base, err = db.versions(ctx, s.cfg.Users)
	if s.redis == nil && err == nil {
		s.redis, err = newRedis(s.cfg.Redis, space.run)
	}
	return errors.Join(err, db.Close())
}

// start brings up Redis and the services, and waits until they hear each other.
func (s *scenario) start(ctx context.Context, space *workspace) error {
	if err := s.redis.Start(ctx); err != nil {
		return err
	}
	addrs := make([]string, processes)
	for i := range addrs {
		c, line, err := startChild(ctx, space.run, "service-"+processName(i), s.cfg.service,
			"-db", s.path, "-redis", s.redis.URL(), "-latency", s.cfg.Latency.String(), "-heartbeat", s.cfg.Heartbeat.String())
		if err != nil {
			return err
		}
		s.services = append(s.services, c)
		addr, ok := strings.CutPrefix(line, announcement)
		if !ok {
			return fmt.Errorf("%s: unexpected first line %q", c.name, line)
		}
		addrs[i] = addr
		go s.watch(ctx, c)
	}
	s.traffic, s.probing, s.dueling = new(collector), new(collector), new(collector)
	s.transport.MaxIdleConnsPerHost = s.cfg.Workers + 8 // those beside the load
	s.clients = newClients(addrs, &s.transport, nil, s.traffic)
	delta, err := s.awaitFleet(ctx)
	if err != nil {
		return err
	}
	if promised := promisedDelta(s.cfg.Heartbeat); delta <= 0 || delta > promised {
		return fmt.Errorf("BoundedStaleness: the services state a Δ of %v, promised are at most %v", delta, promised)
	}
	s.check = newChecker(s.base, limits{Delta: delta, LocalTTL: localTTL, Replay: replayWithin})
	s.clients = newClients(addrs, &s.transport, s.check, s.traffic)
	s.load = &load{clients: s.clients, users: s.cfg.Users, workers: s.cfg.Workers, rate: s.cfg.Rate, seed: s.cfg.Seed}
	s.prober = &prober{load: s.load, clients: newClients(addrs, &s.transport, s.check, s.probing)}
	s.duel = &duel{load: s.load, clients: newClients(addrs, &s.transport, s.check, s.dueling)}
	return nil
}

// promisedDelta is what Δ may be at most: 3 s with the default heartbeat of 1 s.
func promisedDelta(heartbeat time.Duration) time.Duration { return 2*heartbeat + time.Second }

// watch breaks the demo off when a service ends by itself.
func (s *scenario) watch(ctx context.Context, c *child) {
	select {
	case <-ctx.Done():
	case <-c.ended:
		if ctx.Err() == nil {
			s.cancel(fmt.Errorf("%s ended by itself: %w", c.name, c.failure()))
		}
	}
}

// awaitFleet waits until each service is healthy and has heard of the others,
// and returns the largest Δ of them.
func (s *scenario) awaitFleet(ctx context.Context) (delta time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("the services do not hear each other"))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, c := range s.clients {
		for {
			healthy, err := c.health(ctx)
			if err != nil {
				return 0, err
			}
			stats, err := c.stats(ctx)
			if err != nil {
				return 0, err
			}
			delta = max(delta, stats.Node.MaxStaleness)
			if healthy && stats.Node.Bus.Hears && stats.Node.Bus.Nodes >= processes-1 {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}
	}
	return delta, nil
}

func (s *scenario) announce() {
	say(s.out, "redis:    %s, %s, keeps its data over the outage\n", s.redis, s.redis.URL())
	for _, c := range s.clients {
		say(s.out, "service:  process %s, %s\n", processName(c.process), c.base)
	}
	rate := fmt.Sprintf("%d requests a second", s.cfg.Rate)
	if s.cfg.Rate == 0 {
		rate = "as many requests as go"
	}
	say(s.out, "load:     %v, %s, %g %% updates, Zipf exponent %g, seed %d\n\n",
		s.cfg.Duration, rate, updateShare*100, exponent, s.cfg.Seed)
}

// play runs the load, and takes Redis away half-way.
func (s *scenario) play(ctx context.Context) (err error) {
	traffic, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	s.begun = time.Now()
	running.Go(func() { s.load.run(traffic) })
	running.Go(func() { s.prober.run(traffic) })
	running.Go(func() { s.duel.run(traffic) })
	running.Go(func() { newProgress(s).run(traffic) })
	defer running.Wait() // after stop
	defer stop()

	if err := s.last(ctx, s.cfg.Duration/2, phaseBefore, s.begun); err != nil {
		return err
	}
	s.outage.Down = time.Now()
	s.check.redisDown(s.outage.Down)
	if err := s.redis.Stop(); err != nil {
		return err
	}
	if err := s.missRedis(ctx); err != nil {
		return err
	}
	if err := s.redis.Start(ctx); err != nil {
		return err
	}
	s.outage.Back = time.Now()
	s.check.redisBack(s.outage.Back)
	if err := s.last(ctx, s.cfg.Duration/2-s.cfg.Outage, phaseAfter, s.outage.Back); err != nil {
		return err
	}
	stop()
	running.Wait()
	s.ended = time.Now()
	return context.Cause(ctx)
}

// last lets a phase last for d, and longer until it has shown what it is for: a
// machine may be slow. It gives up when there is no spare time left, or when a
// promise broke, and then the verdict says why.
func (s *scenario) last(ctx context.Context, d time.Duration, name string, from time.Time) error {
	if err := pause(ctx, d); err != nil {
		return err
	}
	late := time.Now()
	defer func() { s.spare -= time.Since(late) }()
	for time.Since(late) < s.spare {
		services, err := s.stats(ctx)
		if err != nil {
			return err
		}
		p := phaseOf(s.measured(), name, from, time.Now())
		if _, broken, _ := s.check.findings(); len(p.lacks(services)) == 0 || broken.total() > 0 {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// missRedis lets the outage last, and makes sure that it is one.
func (s *scenario) missRedis(ctx context.Context) error {
	const looks = 10
	for range looks {
		s.lookForRedis()
		if err := pause(ctx, s.cfg.Outage/looks); err != nil {
			return err
		}
	}
	err := s.last(ctx, 0, phaseOutage, s.outage.Down)
	s.lookForRedis()
	return err
}

func (s *scenario) lookForRedis() {
	if s.redis.Ping() == nil {
		s.answered++
	} else {
		s.away++
	}
}

// stop ends what runs, in the order in which nobody misses anything. It may be
// called twice.
func (s *scenario) stop() error {
	s.cancel(errors.New("the demo is over"))
	// A server that shuts down takes a connection that never carried a request
	// for one that is about to, and waits for it.
	s.transport.CloseIdleConnections()
	var errs []error
	for _, c := range s.services {
		errs = append(errs, c.stop())
	}
	s.services = nil
	if s.redis != nil {
		errs = append(errs, s.redis.Stop())
	}
	return errors.Join(errs...)
}

// pause waits, and returns early with the reason when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
