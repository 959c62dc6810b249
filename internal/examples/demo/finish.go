package main

import (
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// sweepers is how many reads of the sweep are on their way at once.
const sweepers = 8

// finish waits until nothing may be old any more, reads every updated user
// through every process, and collects what there is to say.
func (s *scenario) finish(ctx context.Context) (*measured, error) {
	if err := pause(ctx, time.Until(s.check.settled(s.ended))); err != nil {
		return nil, err
	}
	// From here on reads are no traffic, but they are checked all the same.
	m := s.measured()
	updated := s.check.updated()
	m.Swept = len(updated)
	m.Diverged, m.Unswept = s.sweep(ctx, updated)
	var err error
	if m.Services, err = s.stats(ctx); err != nil {
		return nil, err
	}
	m.Checked, m.Broken, m.Faults = s.check.findings()
	if m.Mistaken, err = s.mistaken(ctx, updated); err != nil {
		return nil, err
	}
	if info, err := os.Stat(s.path); err == nil {
		m.DatabaseBytes = info.Size()
	}
	return m, context.Cause(ctx)
}

// measured is what the load and the prober have seen so far.
func (s *scenario) measured() *measured {
	m := &measured{
		Config: s.cfg, Redis: s.redis.String(), Created: s.created, Limits: s.check.limits,
		Begun: s.begun, Ended: s.ended, Outage: s.outage, Away: s.away, Answered: s.answered,
		Probes: s.prober.results(),
	}
	m.Samples, m.Updates, m.Failures, m.Failed = s.traffic.all()
	var beside [2][]string
	var failed [2]int
	m.Probed, m.ProbeUpdates, beside[0], failed[0] = s.probing.all()
	m.Dueled, m.DuelUpdates, beside[1], failed[1] = s.dueling.all()
	m.Failures = slices.Concat(m.Failures, beside[0], beside[1])
	m.Failed += failed[0] + failed[1]
	return m
}

// stats asks every service for its figures.
func (s *scenario) stats(ctx context.Context) ([]serviceStats, error) {
	all := make([]serviceStats, len(s.clients))
	for i, c := range s.clients {
		var err error
		if all[i], err = c.stats(ctx); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sweep reads users through every process, and counts the answers that are not
// of the version that they should be, and the reads that failed.
func (s *scenario) sweep(ctx context.Context, users map[int64]int64) (diverged, failed int) {
	type read struct {
		client      *client
		id, version int64
	}
	reads := make(chan read)
	var old, lost atomic.Int64
	var running sync.WaitGroup
	for range sweepers {
		running.Go(func() {
			for r := range reads {
				switch o, _, err := r.client.read(ctx, r.id); {
				case err != nil:
					lost.Add(1)
				case o.version != r.version:
					old.Add(1)
				}
			}
		})
	}
	for id, version := range users {
		for _, c := range s.prober.clients {
			reads <- read{c, id, version}
		}
	}
	close(reads)
	running.Wait()
	return int(old.Load()), int(lost.Load())
}

// mistaken counts the users whose version in the database is not what the
// checker takes for the truth.
func (s *scenario) mistaken(ctx context.Context, updated map[int64]int64) (n int, err error) {
	db, err := openDatabase(s.path, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = db.Close() }() // was only read
	versions, err := db.versions(ctx, s.cfg.Users)
	for id := range versions {
		want, ok := updated[int64(id)]
		if !ok {
			want = s.base[id]
		}
		if versions[id] != want {
			n++
		}
	}
	return n, err
}
