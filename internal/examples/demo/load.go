package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// load is the traffic: workers that read users drawn by Zipf's law from either
// process, and update some.
type load struct {
	clients []*client
	users   int
	workers int
	rate    int // requests a second of all workers, 0 for as many as go
	seed    uint64

	writing userLocks
}

// updateShare of the requests are updates.
const updateShare = 0.01

// run sends requests until ctx ends, and returns when the last is answered:
// those under way are not cut off, so that each has a result.
func (l *load) run(ctx context.Context) {
	var workers sync.WaitGroup
	for w := range l.workers {
		workers.Go(func() { l.work(ctx, w) })
	}
	workers.Wait()
}

// work sends one request after the other. What worker w sends follows from the
// seed; when it is sent, and what is answered, does not.
func (l *load) work(ctx context.Context, w int) {
	rng := rand.New(rand.NewPCG(l.seed, uint64(w)))
	ids := newZipf(rng, l.users)
	pace := newPace(l.rate, l.workers, w)
	requests := context.WithoutCancel(ctx)
	for pace.wait(ctx) {
		id, c := ids.draw(), l.clients[rng.IntN(len(l.clients))]
		// What fails is counted by the client, and the load goes on: one error
		// must not hide what else goes wrong.
		if rng.Float64() < updateShare {
			_ = l.update(requests, c, id, inventChange(rng), nil)
		} else {
			_, _, _ = c.read(requests, id)
		}
	}
}

// update changes a user. Updates of one user come one after the other, so that
// versions are acknowledged in their order; then, if it is not nil, is called
// before the next one begins.
func (l *load) update(ctx context.Context, c *client, id int64, ch change, then func(version int64) error) error {
	defer l.writing.lock(id)()
	version, err := c.update(ctx, id, ch)
	if err == nil && then != nil {
		err = then(version)
	}
	return err
}

func inventChange(rng *rand.Rand) change {
	return change{Plan: inventPlan(rng), About: inventAbout(rng)}
}

// userLocks is a lock for each user.
type userLocks struct{ locks sync.Map }

// lock waits for the lock of a user and returns what unlocks it.
func (u *userLocks) lock(id int64) (unlock func()) {
	l, _ := u.locks.LoadOrStore(id, new(sync.Mutex))
	mu := l.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// pace spaces the requests of one worker.
type pace struct {
	interval time.Duration
	next     time.Time
	timer    *time.Timer
}

// newPace gives each of the workers its share of the rate, and its own offset.
func newPace(rate, workers, w int) *pace {
	p := &pace{next: time.Now(), timer: time.NewTimer(0)}
	if rate > 0 {
		p.interval = time.Second * time.Duration(workers) / time.Duration(rate)
		p.next = p.next.Add(p.interval * time.Duration(w) / time.Duration(workers))
	}
	return p
}

// wait returns true when the next request is due, false when ctx ends. A worker
// that is late does not catch up: a slow second would be followed by a burst,
// which no fleet of clients sends.
func (p *pace) wait(ctx context.Context) bool {
	now := time.Now()
	if p.next.After(now) {
		p.timer.Reset(p.next.Sub(now))
		select {
		case <-p.timer.C:
		case <-ctx.Done():
			p.timer.Stop()
			return false
		}
	} else {
		p.next = now
	}
	p.next = p.next.Add(p.interval)
	return ctx.Err() == nil
}
