package tier

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/invalidation"
)

// When a restart is told, the epoch has moved before any reply of the server is
// used: what the local tier holds is not fresh any more, and a read that is under
// way asks again, by when it finds out what is owed.
func TestGuard_movesTheEpochBeforeAReplyIsUsed(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	c, err := New(n, "c", Options[string]{})
	require.NoError(t, err)
	h := c.hash("1")
	before := c.fence.Stamp(h)
	require.True(t, c.fence.Trusted(before))
	n.guard.restarted(l2.Restart{Intact: time.Now()})
	assert.False(t, c.fence.Trusted(before), "a read under way believes the reply")
	assert.Equal(t, fence.Demoted, c.fence.State(h, "1", before))
}

// The ring knows what may be lost, and from when on it is complete.
func TestRing_since(t *testing.T) {
	start := time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	keys := func(names ...string) ringItem {
		return ringItem{kind: invalidation.KindKeys, cache: "c", names: names}
	}
	names := func(r *ring, from time.Time) (all []string, complete bool) {
		items, complete := r.since(from)
		for _, item := range items {
			all = append(all, item.names...)
		}
		return all, complete
	}
	r := newRing(4)
	a := r.enter(keys("a"), at(0))
	b := r.enter(keys("b"), at(1))
	c := r.enter(keys("c"), at(2))
	r.settle(a, true, at(3))
	r.settle(c, false, at(4)) // owed by its caller

	got, complete := names(r, at(0))
	assert.Equal(t, []string{"a", "b"}, got)
	assert.True(t, complete)
	got, _ = names(r, at(5))
	assert.Equal(t, []string{"b"}, got, "what is under way may be lost whenever it began")

	r.enter(keys("d", "e", "f"), at(6)) // too much: a and b go
	_, complete = names(r, at(7))
	assert.False(t, complete, "b was dropped while it was under way, which may end yet")
	r.settle(b, true, at(8))
	_, complete = names(r, at(8))
	assert.False(t, complete)
	_, complete = names(r, at(9))
	assert.True(t, complete)
	_, complete = names(r, time.Time{})
	assert.False(t, complete)
}

// fakeLink is a subscription of which only the number of links is known.
type fakeLink struct {
	invalidation.Subscription
	links, renewed uint64
}

func (f *fakeLink) Stats() invalidation.SubscriptionStats {
	return invalidation.SubscriptionStats{Links: f.links}
}
func (f *fakeLink) Renew() { f.renewed++ }

// A link that was being made when a restart was told may lead to the server of
// before. It is cut, and what still comes over it lifts no bar: it may be lost with
// that server.
func TestGuard_believesOnlyLinksSinceTheRestart(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	link := &fakeLink{links: 1}
	n.guard.watch(link)
	said := invalidation.Message{Kind: invalidation.KindKeys, Node: invalidation.NewNodeID(), Cache: "c", Keys: []string{"1"}}

	n.guard.restarted(l2.Restart{Intact: time.Now()})
	assert.EqualValues(t, 1, link.renewed, "the link that is being made goes on")
	n.guard.subscribed()
	n.guard.received(&said)
	assert.True(t, n.owes("c", "1"), "what came over the link of before is served")

	link.links++
	n.guard.subscribed()
	n.guard.received(&said)
	assert.False(t, n.owes("c", "1"), "its origin has issued it again")
}

// A restart that is told before the guard knows of a link counts for that, too.
func TestGuard_renewsWhatItIsToldOfLater(t *testing.T) {
	n, err := Open(t.Context(), Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.Close()) })
	n.guard.restarted(l2.Restart{Intact: time.Now()})
	link := &fakeLink{links: 1}
	n.guard.watch(link)
	assert.EqualValues(t, 1, link.renewed)
	n.guard.subscribed()
	assert.True(t, n.guard.stale.Load(), "the link of before is believed")
	link.links++
	n.guard.subscribed()
	assert.False(t, n.guard.stale.Load())
}
