package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// duel lets readers of both processes run into updates of one user all the
// time. Of the load's updates hardly one meets a read that is just loading the
// same user, and that is where caches put old values back: the load has seen the
// row as it was before, and stores it after the invalidation (NoStaleFill).
type duel struct {
	load    *load
	clients []*client // not those of the load: this is no traffic
}

const (
	duelReaders = 2                    // of each process
	duelPause   = 4 * time.Millisecond // on average, between two requests
	duelUpdates = 40                   // of one user
)

// run duels until ctx ends. Errors are counted by the client, and stale answers
// by the checker.
func (d *duel) run(ctx context.Context) {
	const stream = 2 << 32 // of random numbers: no worker has these
	var id atomic.Int64
	id.Store(1)
	requests := context.WithoutCancel(ctx)
	var running sync.WaitGroup
	for i := range duelReaders * len(d.clients) {
		running.Go(func() {
			rng := rand.New(rand.NewPCG(d.load.seed, stream+uint64(i)))
			for d.pause(ctx, rng) {
				_, _, _ = d.clients[i%len(d.clients)].read(requests, id.Load())
			}
		})
	}
	rng := rand.New(rand.NewPCG(d.load.seed, stream-1))
	ids := newZipf(rng, d.load.users)
	for turn := 0; d.pause(ctx, rng); turn++ {
		if turn%duelUpdates == 0 {
			id.Store(ids.draw())
		}
		writer := d.clients[rng.IntN(len(d.clients))]
		_ = d.load.update(requests, writer, id.Load(), inventChange(rng), nil)
	}
	running.Wait()
}

// pause waits for a random time, so that reads meet updates at every moment of
// theirs, and returns false when ctx ends.
func (d *duel) pause(ctx context.Context, rng *rand.Rand) bool {
	return pause(ctx, time.Duration(rng.ExpFloat64()*float64(duelPause))) == nil
}
