package invalidation_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

// patience is how long tests wait for what must happen.
const patience = 20 * time.Second

// event is one call of a handler: exactly one of them.
type event struct {
	at      time.Time
	message *invalidation.Message
	gap     invalidation.GapReason
	heard   time.Time

	// of a changeRecorder
	changed []string
	flushed bool
	refused error
}

// recorder is a handler that writes down what it is told.
type recorder struct {
	t  testing.TB
	on func(e event) // before it is written down; may block or panic

	mu      sync.Mutex // guards what follows
	events  []event
	changed chan struct{} // closed and replaced with every event
	inside  int
}

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, changed: make(chan struct{})}
}

func (r *recorder) Message(m invalidation.Message)    { r.record(event{message: &m}) }
func (r *recorder) Gap(reason invalidation.GapReason) { r.record(event{gap: reason}) }
func (r *recorder) Heard(sent time.Time)              { r.record(event{heard: sent}) }

func (r *recorder) record(e event) {
	r.enter(1)
	defer r.enter(-1)
	if r.on != nil {
		r.on(e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.at = time.Now()
	r.events = append(r.events, e)
	close(r.changed)
	r.changed = make(chan struct{})
}

// enter finds calls that are concurrent with others, which B1 forbids.
func (r *recorder) enter(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inside += n; r.inside > 1 {
		r.t.Error("two calls of the handler at a time")
	}
}

// all returns the events so far.
func (r *recorder) all() []event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[:len(r.events):len(r.events)]
}

func (r *recorder) len() int { return len(r.all()) }

// await returns the index of the first event, from index from on, that matches.
func (r *recorder) await(from int, what string, match func(e event) bool) int {
	r.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		r.mu.Lock()
		events, changed := r.events, r.changed
		r.mu.Unlock()
		for ; from < len(events); from++ {
			if match(events[from]) {
				return from
			}
		}
		select {
		case <-changed:
		case <-timer.C:
			require.FailNow(r.t, "not called", "%s; %d events, the last: %v", what, len(events), last(events))
		}
	}
}

func last(events []event) []event { return events[max(0, len(events)-5):] }

func (r *recorder) awaitMessage(from int, seq uint64) int {
	r.t.Helper()
	return r.await(from, "the message", func(e event) bool { return e.message != nil && e.message.Seq == seq })
}

// awaitCount waits for so many messages of a node.
func (r *recorder) awaitCount(node invalidation.NodeID, count int) {
	r.t.Helper()
	r.await(0, "all messages", func(e event) bool {
		if e.message != nil && e.message.Node == node {
			count--
		}
		return count == 0
	})
}

// awaitLoss waits for a gap that is no confirmation.
func (r *recorder) awaitLoss(from int) int {
	r.t.Helper()
	return r.await(from, "a loss", func(e event) bool {
		return e.gap != invalidation.GapNone && e.gap != invalidation.GapSubscribed
	})
}

func (r *recorder) awaitGap(from int, reason invalidation.GapReason) int {
	r.t.Helper()
	return r.await(from, reason.String(), func(e event) bool { return e.gap == reason })
}

// awaitHeard waits for proof of hearing from the given time on.
func (r *recorder) awaitHeard(from int, since time.Time) int {
	r.t.Helper()
	return r.await(from, "proof", func(e event) bool { return !e.heard.IsZero() && !e.heard.Before(since) })
}

// seqs returns the numbers of the messages of a node, in order of arrival.
func (r *recorder) seqs(node invalidation.NodeID) []uint64 {
	var seqs []uint64
	for _, e := range r.all() {
		if e.message != nil && e.message.Node == node {
			seqs = append(seqs, e.message.Seq)
		}
	}
	return seqs
}

// checkProof holds a record to B2 and B3: proof only between a confirmation and
// the next loss, and only of PINGs sent after the confirmation.
func (r *recorder) checkProof() {
	r.t.Helper()
	confirmed := time.Time{}
	for i, e := range r.all() {
		switch {
		case e.gap == invalidation.GapSubscribed:
			confirmed = e.at
		case e.gap == invalidation.GapLink, e.gap == invalidation.GapSilent, e.gap == invalidation.GapProtocol,
			e.gap == invalidation.GapUnsubscribed:
			confirmed = time.Time{}
		case !e.heard.IsZero():
			require.False(r.t, confirmed.IsZero(), "event %d: proof without a subscription", i)
			require.False(r.t, e.heard.Before(confirmed), "event %d: proof from before the subscription", i)
		}
	}
}

// sample returns an encoded message of a node.
func sample(t testing.TB, node invalidation.NodeID, seq uint64) []byte {
	t.Helper()
	return mustAppend(t, invalidation.Message{
		Kind: invalidation.KindKeys, Node: node, Seq: seq, Cache: "user", Keys: []string{"1"},
	})
}

// mustPublish publishes and returns the time at which that was done.
func mustPublish(t testing.TB, bus invalidation.Bus, msg []byte) time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, bus.Publish(ctx, msg))
	return time.Now()
}

// mustSubscribe subscribes r and waits until it hears.
func mustSubscribe(t testing.TB, bus invalidation.Bus, r *recorder) invalidation.Subscription {
	t.Helper()
	sub, err := bus.Subscribe(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = sub.Close() }) // closed by the test already: its business
	r.awaitHeard(0, time.Time{})
	return sub
}
