package tier

import (
	"context"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
)

// Stats is what a cache has done since it was opened, and what its local tier
// holds now. The counts are read one by one, not as of one instant.
//
// A read of one key counts once, by what it found at first: in HitsL1, HitsL2 or
// Misses, or in StaleServed alone if a value past its TTL or an unverified one
// answered it without a load. A miss that such a value answers in the end counts in
// StaleServed, too. A call that ErrKey or ErrClosed ends is no read.
type Stats struct {
	HitsL1       uint64 // reads answered from this process' memory
	HitsL2       uint64 // reads answered from Redis
	Misses       uint64 // reads that neither tier answered at once: a Get came back empty, or a load was run or waited for
	Loads        uint64 // loaders run
	LoadErrors   uint64 // of them, ended with an error other than ErrNotFound
	Collapsed    uint64 // callers that joined another's load
	StaleServed  uint64 // reads answered with a value past its TTL, or from memory because Redis did not answer
	FillsRefused uint64 // loaded values that were not stored: invalidated meanwhile, too large, not encodable
	DecodeErrors uint64 // what stood under a key and was no usable record
	Entries      int64  // values in memory now
	Bytes        int64  // and their estimated size
	BytesLimit   int64  // to which Bytes is held: Local.MaxBytes less the tables that find values
	Evictions    uint64 // values dropped from memory for want of room
}

// Stats returns a snapshot of the cache's counts. It does no I/O.
func (c *Cache[T]) Stats() Stats {
	local := c.local.Stats()
	limit := l1.ForEntries(c.opts.Local.MaxBytes)
	if c.opts.Local.Disabled {
		limit = 0
	}
	return Stats{
		HitsL1: local.Hits, HitsL2: c.counts.hitsL2.Load(), Misses: c.counts.misses.Load(),
		Loads: c.counts.loads.Load(), LoadErrors: c.counts.loadErrors.Load(),
		Collapsed: c.flights.Stats().Collapsed, StaleServed: c.counts.staleServed.Load(),
		FillsRefused: c.counts.fillsRefused.Load(), DecodeErrors: c.counts.decodeErrors.Load(),
		Entries: local.Entries, Bytes: local.Bytes, BytesLimit: limit, Evictions: local.Evictions,
	}
}

// NodeStats is a snapshot of a node.
type NodeStats struct {
	// Available reports whether Redis answers as far as this node knows: no
	// breaker is open. A node without Redis is available until it is closed.
	Available bool
	// ReconnectAttempts counts the probes sent while Redis did not answer.
	ReconnectAttempts uint64
	// MaxStaleness is Δ of BoundedStaleness with the settings and the fleet of
	// now: max(2 heartbeats, 2 intervals between beats + 750 ms), the latter for what
	// beats and messages may be late.
	MaxStaleness time.Duration

	Background BackgroundStats
	Bus        BusStats
	Tracking   TrackingStats
	Journal    JournalStats
	Shards     []ShardStats // one a Redis server; empty without Redis
}

// BackgroundStats describes the loads that nobody waits for, see
// Config.MaxBackground.
type BackgroundStats struct {
	Running int    // now
	Skipped uint64 // did not begin, or did not go on, because too many were running
}

// BusStats describes the subscription to invalidations.
type BusStats struct {
	Hears    bool   // this node can prove now that it hears
	Nodes    int    // other nodes heard of
	Sent     uint64 // invalidations published and confirmed
	Received uint64 // invalidations of other nodes handled
	Gaps     uint64 // times that messages may have been missed
	LastGap  string // why, the last time
	Garbage  uint64 // messages that were none
	Links    uint64 // subscriptions begun, the first included
}

// JournalStats describes the invalidations owed to Redis.
type JournalStats struct {
	Owed        int           // now
	Oldest      time.Duration // age of the oldest
	Paid        uint64        // confirmed by a replay since the start
	Overflows   uint64        // times that they were folded into clearing caches
	Unconfirmed uint64        // changes that Redis did not confirm at once
}

// ShardStats describes a Redis server as this node sees it.
type ShardStats struct {
	Addr      string
	Available bool   // false: the breaker is open
	Failures  uint64 // calls that failed for want of the server
	Opened    uint64 // times the breaker opened
	Probes    uint64 // probes sent while it was open
	LastError string
}

// Stats returns a snapshot of the node. It does no I/O.
func (n *Node) Stats() NodeStats {
	sub := n.sub.Stats()
	s := NodeStats{
		Available:    !n.calls.closed(),
		MaxStaleness: n.member.maxStaleness(),
		Background:   BackgroundStats{Running: n.cfg.MaxBackground - n.background.Free(), Skipped: n.background.Skipped()},
		Bus: BusStats{
			Hears: n.member.hears(), Nodes: n.member.tracker.Origins(),
			Sent: n.member.sent.Load(), Received: n.member.received.Load(), Gaps: n.member.gaps.Load(),
			Garbage: sub.Garbage, Links: sub.Links,
		},
		Tracking: n.tracking.stats(),
		Journal:  journalStats(n.debts.Stats(time.Now())),
	}
	s.Journal.Unconfirmed = n.unconfirmed.Load()
	if reason := n.member.gapReason.Load(); reason != nil {
		s.Bus.LastGap = *reason
	}
	for _, shard := range n.store.Stats() {
		s.Available = s.Available && shard.Available
		s.ReconnectAttempts += shard.Reconnects
		s.Shards = append(s.Shards, shardStats(shard))
	}
	return s
}

func journalStats(j journal.Stats) JournalStats {
	return JournalStats{Owed: j.Owed, Oldest: j.Oldest, Paid: j.Paid, Overflows: j.Overflows}
}

func shardStats(s l2.ShardStats) ShardStats {
	return ShardStats{
		Addr: s.Addr, Available: s.Available, Failures: s.Failures, Opened: s.Opened,
		Probes: s.Reconnects, LastError: s.LastError,
	}
}

// Health is the state of a node.
type Health struct {
	// Healthy: Redis answered and invalidations are heard. A node without Redis
	// is healthy until it is closed. An unhealthy node serves all the same
	// (FailOpen): take it for an alarm, not for a reason to stop sending traffic.
	Healthy bool
	Latency time.Duration // of the slowest Redis server's answer; 0 without Redis
	L1      TierHealth
	L2      TierHealth
}

// TierHealth is the state of one tier.
type TierHealth struct { //nolint:revive // tier.Health is the node's
	Healthy bool
	State   string // "serving", "fallback" (L1 serves only while Redis does not answer), "down", "closed"
	Reason  string // why it is not healthy, or how many invalidations are owed all the same
}

// Health asks every Redis server, one round trip at once, within ctx and
// Config.Timeout, and returns the state of the node.
func (n *Node) Health(ctx context.Context) Health {
	if err := n.enter(); err != nil {
		down := TierHealth{State: "closed", Reason: err.Error()}
		return Health{L1: down, L2: down}
	}
	defer n.leave()
	serving := TierHealth{Healthy: true, State: "serving"}
	h := Health{L1: serving, L2: serving}
	latency, err := n.store.Ping(ctx)
	if n.remote() {
		h.Latency = latency
	}
	if err != nil {
		h.L2 = TierHealth{State: "down", Reason: err.Error()}
	} else if owed := n.debts.Len(); owed > 0 {
		h.L2.Reason = fmt.Sprintf("%d invalidations owed", owed)
	}
	if !n.member.hears() {
		h.L1 = TierHealth{State: "fallback", Reason: n.unheard()}
	}
	h.Healthy = h.L1.Healthy && h.L2.Healthy
	return h
}
