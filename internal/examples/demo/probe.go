package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// prober measures how soon after an update through one process the other stops
// serving the old value from memory. The load alone would rarely ask at the
// right moment.
type prober struct {
	load    *load
	clients []*client // not those of the load: probes are no traffic

	mu    sync.Mutex
	found []probe // guarded by mu
}

// probeEvery is the time between two probes.
const probeEvery = 50 * time.Millisecond

// probe is one measurement.
type probe struct {
	at      time.Time     // when the update was acknowledged
	lag     time.Duration // from then until the last read that was answered with the old value was sent; 0: there was none
	current time.Duration // from then until the first answer with the new value
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context) {
	const stream = 1 << 32 // of random numbers: no worker has this one
	rng := rand.New(rand.NewPCG(p.load.seed, stream))
	ids := newZipf(rng, p.load.users)
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		writer := p.clients[turn%len(p.clients)]
		reader := p.clients[(turn+1)%len(p.clients)]
		p.once(ctx, writer, reader, ids.draw(), inventChange(rng))
	}
}

// patience is how long a probe reads without a pause.
const patience = 50 * time.Millisecond

// once makes sure that the reader's process holds a user in memory, updates it
// through the writer, and reads through both. Errors are counted by the client.
func (p *prober) once(ctx context.Context, writer, reader *client, id int64, ch change) {
	requests := context.WithoutCancel(ctx)
	if !warm(requests, reader, id) {
		return
	}
	_ = p.load.update(requests, writer, id, ch, func(version int64) error {
		acked := time.Now()
		// The checker sees to it that this one is not old: ReadYourWrites.
		if _, _, err := writer.read(requests, id); err != nil {
			return err
		}
		result := probe{at: acked}
		pause := newPace(0, 1, 0)
		for pause.wait(ctx) {
			o, s, err := reader.read(requests, id)
			if err != nil {
				return err
			}
			if o.version >= version {
				result.current = s.sent.Add(s.http).Sub(acked)
				p.keep(result)
				return nil
			}
			result.lag = s.sent.Sub(acked)
			if result.lag > patience {
				pause.interval = patience / 10 // the message is not on its way
			}
			if result.lag > 4*patience && reader.check.redisAway(s.sent) {
				return nil // it will not come; the load goes on asking
			}
		}
		return ctx.Err()
	})
}

func (p *prober) keep(result probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found = append(p.found, result)
}

// results returns what was measured so far.
func (p *prober) results() []probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.found)
}

// warm reads until the value comes from memory, a few times at most.
func warm(ctx context.Context, c *client, id int64) bool {
	const tries = 5
	for range tries {
		_, s, err := c.read(ctx, id)
		if err != nil {
			return false
		}
		if s.source == fromL1 || s.source == fromStale {
			return true
		}
	}
	return false
}
