package main

import (
	"slices"
	"sync"
	"time"
)

// collector keeps what the load generator measured. All methods may be called
// concurrently.
type collector struct {
	mu       sync.Mutex
	samples  []sample
	updates  []timed
	failures []string // the first few
	failed   int
	seen     int // samples before the last call of window
}

// timed is an update that was sent then and took so long.
type timed struct {
	sent time.Time
	took time.Duration
	id   int64
}

func (c *collector) read(s sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.samples = append(c.samples, s)
}

func (c *collector) update(id int64, sent time.Time, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.updates = append(c.updates, timed{sent, took, id})
}

func (c *collector) failure(err error) {
	const most = 10
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed++
	if len(c.failures) < most {
		c.failures = append(c.failures, err.Error())
	}
}

// window returns the reads since the last call, and all updates and errors.
func (c *collector) window() (reads []sample, updates, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reads = slices.Clone(c.samples[c.seen:])
	c.seen = len(c.samples)
	return reads, len(c.updates), c.failed
}

// all returns what was collected.
func (c *collector) all() (reads []sample, updates []timed, failures []string, failed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.samples), slices.Clone(c.updates), slices.Clone(c.failures), c.failed
}

// quantile returns the value below which the share q of the durations lies
// (nearest rank), 0 if there are none. It sorts them.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}
