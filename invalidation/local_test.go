package invalidation_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

func TestLocal_keepsTheContractOfTheBus(t *testing.T) {
	testBus(t, func(*testing.T) busUnderTest {
		bus := invalidation.NewLocal()
		return busUnderTest{bus: bus, cut: func() { bus.Cut(true) }, heal: func() { bus.Cut(false) }}
	})
}

func TestLocal_Publish_hasRunEveryHandlerWhenItReturns(t *testing.T) {
	bus := invalidation.NewLocal()
	here, there := newRecorder(t), newRecorder(t)
	mustSubscribe(t, bus, here)
	mustSubscribe(t, bus.Peer(), there)
	mustPublish(t, bus, sample(t, testNode, 1))
	assert.Equal(t, []uint64{1}, here.seqs(testNode))
	assert.Equal(t, []uint64{1}, there.seqs(testNode))
}

func TestLocal_isHeardForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRecorder(t)
		sub := mustSubscribe(t, invalidation.NewLocal(), r)
		defer func() { require.NoError(t, sub.Close()) }()
		heard := r.all()[1].heard
		assert.True(t, sub.Stats().Always)
		time.Sleep(50 * 365 * 24 * time.Hour)
		assert.Negative(t, time.Since(heard))
	})
}

func TestLocal_Cut_hitsItsOwnPlaceOnly(t *testing.T) {
	bus := invalidation.NewLocal()
	peer := bus.Peer()
	here, there := newRecorder(t), newRecorder(t)
	mustSubscribe(t, bus, here)
	mustSubscribe(t, peer, there)
	peer.Cut(true)
	peer.Cut(true)
	mustPublish(t, peer, sample(t, testNode, 1))
	peer.Cut(false)
	mustPublish(t, peer, sample(t, testNode, 2))
	assert.Equal(t, []uint64{1, 2}, here.seqs(testNode))
	assert.Equal(t, []uint64{2}, there.seqs(testNode))
	assert.Len(t, here.all(), 4)

	var reasons []invalidation.GapReason
	for _, e := range there.all() {
		if e.gap != invalidation.GapNone {
			reasons = append(reasons, e.gap)
		}
	}
	assert.Equal(t, []invalidation.GapReason{
		invalidation.GapSubscribed, invalidation.GapLink, invalidation.GapSubscribed,
	}, reasons)
	there.checkProof()
}

func TestLocal_Subscribe_atACutPlaceWaitsForHealing(t *testing.T) {
	bus := invalidation.NewLocal()
	bus.Cut(true)
	r := newRecorder(t)
	sub, err := bus.Subscribe(r)
	require.NoError(t, err)
	assert.Empty(t, r.all())
	assert.False(t, sub.Stats().Confirmed)
	sub.Renew() // nothing to renew
	bus.Cut(false)
	assert.Equal(t, invalidation.GapSubscribed, r.all()[0].gap)
	assert.True(t, sub.Stats().Confirmed)
	require.NoError(t, sub.Close())
}

func TestLocal_Hold_delaysInOrder(t *testing.T) {
	bus := invalidation.NewLocal()
	r := newRecorder(t)
	mustSubscribe(t, bus, r)
	bus.Hold(true)
	msg := sample(t, testNode, 1)
	mustPublish(t, bus, msg)
	clear(msg) // the bus has its own copy
	mustPublish(t, bus, sample(t, testNode, 2))
	assert.Empty(t, r.seqs(testNode))
	bus.Hold(false)
	assert.Equal(t, []uint64{1, 2}, r.seqs(testNode))
}

func TestLocal_Drop_isSilent(t *testing.T) {
	bus := invalidation.NewLocal()
	r := newRecorder(t)
	mustSubscribe(t, bus, r)
	before := r.len()
	bus.Drop(2)
	for seq := uint64(1); seq <= 3; seq++ {
		mustPublish(t, bus, sample(t, testNode, seq))
	}
	assert.Equal(t, []uint64{3}, r.seqs(testNode))
	assert.Equal(t, before+1, r.len())
}
