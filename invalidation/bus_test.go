package invalidation_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

// busUnderTest is a bus of which the way to the subscribers can be broken.
type busUnderTest struct {
	bus  invalidation.Bus
	cut  func() // the subscription is lost
	heal func() // and can come back

	// scattered: messages are published on servers other than the subscribed
	// one, so that they overtake each other, and answers overtake them.
	scattered bool
}

// testBus holds an implementation of [invalidation.Bus] to its contract.
func testBus(t *testing.T, make func(t *testing.T) busUnderTest) {
	for _, tt := range []struct {
		name string
		test func(t *testing.T, b busUnderTest)
	}{
		{"confirms before anything else", testBusConfirms},
		{"keeps the order, own messages included", testBusOrder},
		{"hears only behind earlier messages", testBusHearsBehind},
		{"loss and return are gaps", testBusGaps},
		{"renewing is a gap", testBusRenew},
		{"ignores garbage", testBusGarbage},
		{"a newer format is a gap", testBusNewer},
		{"survives a panic over a message", testBusPanic},
		{"gives no proof until a gap is taken", testBusPanicInGap},
		{"checks what it is given", testBusRefuses},
		{"publishing ends with its context", testBusPublishContext},
		{"closes once and for all", testBusClose},
		{"closes in time behind a stuck handler", testBusCloseStuck},
		{"takes concurrent calls", testBusConcurrent},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, make(t)) })
	}
}

// B2, B3.
func testBusConfirms(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	sub := mustSubscribe(t, b.bus, r)
	events := r.all()
	assert.Equal(t, invalidation.GapSubscribed, events[0].gap)
	assert.False(t, events[1].heard.IsZero())
	r.checkProof()
	stats := sub.Stats()
	assert.True(t, stats.Confirmed)
	assert.EqualValues(t, 1, stats.Gaps)
	assert.EqualValues(t, 1, stats.Links)
	assert.False(t, stats.LastHeard.IsZero())
	assert.Equal(t, invalidation.GapSubscribed, stats.LastGap)
}

// B1.
func testBusOrder(t *testing.T, b busUnderTest) {
	const count = 300
	here, there := newRecorder(t), newRecorder(t)
	sub := mustSubscribe(t, b.bus, here)
	mustSubscribe(t, b.bus, there)
	node := invalidation.NewNodeID()
	var want []uint64
	for seq := uint64(1); seq <= count; seq++ {
		mustPublish(t, b.bus, sample(t, node, seq))
		want = append(want, seq)
	}
	for _, r := range []*recorder{here, there} {
		r.awaitCount(node, count)
		seqs := r.seqs(node)
		if b.scattered {
			slices.Sort(seqs)
		}
		assert.Equal(t, want, seqs)
	}
	assert.EqualValues(t, count, sub.Stats().Messages)
	m := here.all()[here.awaitMessage(0, 7)].message
	assert.Equal(t, invalidation.Message{
		Kind: invalidation.KindKeys, Node: node, Seq: 7, Cache: "user", Keys: []string{"1"},
	}, *m)
}

// B3.
func testBusHearsBehind(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	sub := mustSubscribe(t, b.bus, r)
	node := invalidation.NewNodeID()
	for seq := uint64(1); seq <= 20; seq++ {
		published := mustPublish(t, b.bus, sample(t, node, seq))
		if sub.Stats().Always {
			require.Contains(t, r.seqs(node), seq, "what is always heard is there when Publish returns")
			continue
		}
		heard := r.awaitHeard(0, published)
		message := r.awaitMessage(0, seq)
		require.True(t, b.scattered || message < heard, "the answer overtook message %d", seq)
	}
	r.checkProof()
}

// B2, B4.
func testBusGaps(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	sub := mustSubscribe(t, b.bus, r)
	node := invalidation.NewNodeID()
	from := r.len()
	for range 2 {
		b.cut()
		lost := r.awaitLoss(from)
		assert.False(t, sub.Stats().Confirmed)
		assert.NotEmpty(t, sub.Stats().LastError)
		b.heal()
		back := r.awaitGap(lost, invalidation.GapSubscribed)
		heard := r.awaitHeard(back, r.all()[back].at)
		from = heard
	}
	mustPublish(t, b.bus, sample(t, node, 1))
	r.awaitMessage(from, 1)
	assert.True(t, sub.Stats().Confirmed)
	assert.GreaterOrEqual(t, sub.Stats().Links, uint64(3))
	r.checkProof()
}

func testBusRenew(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	sub := mustSubscribe(t, b.bus, r)
	sub.Renew()
	lost := r.awaitLoss(0)
	back := r.awaitGap(lost, invalidation.GapSubscribed)
	r.awaitHeard(back, r.all()[back].at)
	r.checkProof()
	require.NoError(t, sub.Close())
	sub.Renew()
}

// B5.
func testBusGarbage(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	sub := mustSubscribe(t, b.bus, r)
	before := sub.Stats().Gaps
	node := invalidation.NewNodeID()
	good := sample(t, node, 1)
	for _, msg := range [][]byte{{0}, []byte("hello"), good[:len(good)-1], bytes.Repeat([]byte{0xFF}, 100_000)} {
		mustPublish(t, b.bus, msg)
	}
	mustPublish(t, b.bus, good)
	r.awaitMessage(0, 1)
	require.Eventually(t, func() bool { return sub.Stats().Garbage >= 4 }, patience, time.Millisecond)
	assert.EqualValues(t, 4, sub.Stats().Garbage)
	assert.EqualValues(t, 1, sub.Stats().Messages)
	assert.Equal(t, before, sub.Stats().Gaps)
}

// B4.
func testBusNewer(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	sub := mustSubscribe(t, b.bus, r)
	newer := sample(t, invalidation.NewNodeID(), 1)
	newer[2]++
	mustPublish(t, b.bus, newer)
	gap := r.awaitGap(0, invalidation.GapNewer)
	r.awaitHeard(gap, time.Time{}) // the link stands
	assert.EqualValues(t, 1, sub.Stats().Newer)
	assert.EqualValues(t, 1, sub.Stats().Links)
}

// B4.
func testBusPanic(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	r.on = func(e event) {
		if e.message != nil && e.message.Seq == 1 {
			panic("of the handler")
		}
	}
	sub := mustSubscribe(t, b.bus, r)
	node := invalidation.NewNodeID()
	mustPublish(t, b.bus, sample(t, node, 1))
	gap := r.awaitGap(0, invalidation.GapPanic)
	mustPublish(t, b.bus, sample(t, node, 2))
	r.awaitMessage(gap, 2)
	r.awaitHeard(gap, time.Time{})
	assert.Equal(t, []uint64{2}, r.seqs(node))
	assert.EqualValues(t, 1, sub.Stats().Panics)
}

// B3: a gap that the handler did not take is not followed by proof.
func testBusPanicInGap(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	panics := 0
	r.on = func(e event) {
		if e.gap == invalidation.GapNewer && panics < 2 {
			panics++
			panic("of the handler")
		}
	}
	sub := mustSubscribe(t, b.bus, r)
	newer := sample(t, invalidation.NewNodeID(), 1)
	newer[2]++
	mustPublish(t, b.bus, newer)
	require.Eventually(t, func() bool { return sub.Stats().Newer == 1 }, patience, time.Millisecond)
	published := time.Now()
	for seq := uint64(1); seq <= 3; seq++ {
		mustPublish(t, b.bus, sample(t, testNode, seq))
	}
	gap := r.awaitGap(0, invalidation.GapNewer)
	r.awaitHeard(gap, published)
	for _, e := range r.all()[:gap] {
		require.False(t, e.heard.After(published) && !sub.Stats().Always, "proof before the gap was taken")
	}
	assert.EqualValues(t, 2, sub.Stats().Panics)
}

func testBusRefuses(t *testing.T, b busUnderTest) {
	_, err := b.bus.Subscribe(nil)
	require.Error(t, err)
	require.ErrorIs(t, b.bus.Publish(t.Context(), nil), invalidation.ErrMessage)
	tooLarge := make([]byte, invalidation.MaxMessageBytes+1)
	require.ErrorIs(t, b.bus.Publish(t.Context(), tooLarge), invalidation.ErrMessage)
}

func testBusPublishContext(t *testing.T, b busUnderTest) {
	cause := errors.New("because")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	require.ErrorIs(t, b.bus.Publish(ctx, sample(t, testNode, 1)), cause)
}

// B6.
func testBusClose(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	sub := mustSubscribe(t, b.bus, r)
	var closing sync.WaitGroup
	for range 3 {
		closing.Go(func() { assert.NoError(t, sub.Close()) })
	}
	closing.Wait()
	require.NoError(t, sub.Close())
	count := r.len()
	other := newRecorder(t)
	mustSubscribe(t, b.bus, other)
	mustPublish(t, b.bus, sample(t, testNode, 1))
	other.awaitMessage(0, 1)
	assert.Equal(t, count, r.len(), "a call after Close")
	sub.Stats()
}

// B6.
func testBusCloseStuck(t *testing.T, b busUnderTest) {
	r := newRecorder(t)
	stuck, release := make(chan struct{}), make(chan struct{})
	r.on = func(e event) {
		if e.message != nil && e.message.Seq == 1 {
			close(stuck)
			<-release
		}
	}
	sub := mustSubscribe(t, b.bus, r)
	var publishing sync.WaitGroup
	for seq := uint64(1); seq <= 2; seq++ {
		publishing.Go(func() {
			if seq > 1 {
				<-stuck
			}
			mustPublish(t, b.bus, sample(t, testNode, seq))
		})
	}
	<-stuck
	begin := time.Now()
	require.ErrorIs(t, sub.Close(), invalidation.ErrBusy)
	assert.Less(t, time.Since(begin), 3*time.Second)
	require.ErrorIs(t, sub.Close(), invalidation.ErrBusy, "the same again")
	close(release)
	publishing.Wait()
	r.awaitMessage(0, 1)
	other := newRecorder(t)
	mustSubscribe(t, b.bus, other)
	mustPublish(t, b.bus, sample(t, testNode, 3))
	other.awaitMessage(0, 3)
	assert.Equal(t, []uint64{1}, r.seqs(testNode), "no call begins after Close")
}

func testBusConcurrent(t *testing.T, b busUnderTest) {
	const publishers, count = 4, 50
	recorders := []*recorder{newRecorder(t), newRecorder(t)}
	subs := []invalidation.Subscription{}
	for _, r := range recorders {
		subs = append(subs, mustSubscribe(t, b.bus, r))
	}
	var work sync.WaitGroup
	for n := range byte(publishers) {
		work.Go(func() {
			for seq := uint64(1); seq <= count; seq++ {
				mustPublish(t, b.bus, sample(t, nodeID(n), seq))
				subs[n%2].Stats()
			}
		})
	}
	for range 3 {
		work.Go(func() {
			r := newRecorder(t)
			sub, err := b.bus.Subscribe(r)
			if assert.NoError(t, err) {
				assert.NoError(t, sub.Close())
			}
		})
	}
	work.Wait()
	for n := range byte(publishers) {
		for _, r := range recorders {
			r.awaitCount(nodeID(n), count)
			seqs := r.seqs(nodeID(n))
			assert.Len(t, seqs, count)
			assert.True(t, b.scattered || slices.IsSorted(seqs), "%v", seqs)
		}
	}
}
