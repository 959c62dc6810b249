package main

import (
	"context"
	"io"
	"time"
)

// progress prints one line a second of what happened in it.
type progress struct {
	out     io.Writer
	traffic *collector
	begun   time.Time
	away    func(at time.Time) bool // whether Redis was

	updates, failed int // so far
}

func newProgress(s *scenario) *progress {
	return &progress{out: s.out, traffic: s.traffic, begun: s.begun, away: s.check.redisAway}
}

// run prints until ctx ends.
func (p *progress) run(ctx context.Context) {
	say(p.out, "%6s  %-5s  %7s  %6s %6s %6s %6s  %9s %9s  %7s  %6s\n", "time", "redis",
		"reads/s", "memory", "redis", "stale", "loads", "p50", "p99", "updates", "errors")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := p.begun
	for {
		select {
		case now := <-tick.C:
			p.line(now, now.Sub(last))
			last = now
		case <-ctx.Done():
			return
		}
	}
}

func (p *progress) line(now time.Time, length time.Duration) {
	reads, updates, failed := p.traffic.window()
	w := phase{Length: length, Reads: len(reads), Sources: make(map[source]int)}
	took := make([]time.Duration, len(reads))
	for i := range reads {
		w.Sources[reads[i].source]++
		took[i] = reads[i].http
	}
	w.HTTP = latencyOf(took)
	redis := "up"
	if p.away(now.Add(-length / 2)) {
		redis = "DOWN"
	}
	say(p.out, "%5.0fs  %-5s  %7.0f  %6s %6s %6s %6s  %9s %9s  %7d  %6d\n", now.Sub(p.begun).Seconds(), redis,
		w.rate(w.Reads), percent(w.share(fromL1)), percent(w.share(fromL2)), percent(w.share(fromStale)),
		percent(w.share(fromLoad, fromShared)), short(w.HTTP.P50), short(w.HTTP.P99),
		updates-p.updates, failed-p.failed)
	p.updates, p.failed = updates, failed
}
