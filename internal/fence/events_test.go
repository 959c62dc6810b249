package fence_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/fence"
)

// guarded is a value that several goroutines ask about while events happen.
type guarded struct {
	key     string
	stamp   fence.Stamp
	checked *atomic.Uint32
	most    atomic.Uint32 // the most that it may be, a fence.State
}

func (g *guarded) check(f *fence.Fence) fence.State { return check(f, g.key, g.stamp, g.checked) }

// Whatever else happens at the same time, a value is not Current, nor trusted, once
// an event that came after its stamp has returned; and what has been demoted
// or voided stays so, whoever asks.
func TestEvents_holdForAllWhoAskAtTheSameTime(t *testing.T) {
	void := func(f *fence.Fence, _ string) fence.State { f.Void(); return fence.Void }
	distrust := func(f *fence.Fence, _ string) fence.State { f.Distrust(); return fence.Demoted }
	prefix := func(f *fence.Fence, key string) fence.State { f.Prefix(key); return fence.Void }
	type event = func(f *fence.Fence, key string) fence.State
	for name, events := range map[string][]event{
		"Void": {void}, "Distrust": {distrust}, "Prefix": {prefix},
		"Distrust and Prefix": {distrust, prefix}, "all": {void, distrust, prefix},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := fence.New(0)
			const writers, readers, rounds = 4, 2, 5000
			var current [writers]atomic.Pointer[guarded]
			var done atomic.Bool
			var writing, reading sync.WaitGroup
			for i := range writers {
				writing.Go(func() {
					for n := range rounds {
						begun := f.Begin(uint64(i))
						g := &guarded{key: fmt.Sprint(i, ":", n), stamp: f.Stamp(hash)}
						g.checked = checkedOf(g.stamp)
						g.most.Store(uint32(fence.Current))
						current[i].Store(g)
						most := events[n%len(events)](f, g.key)
						g.most.Store(uint32(most))

						_, confirmed := f.Confirm(uint64(i), begun)
						if f.State(hash, g.key, g.stamp) > most || g.check(f) > most ||
							most != fence.Void && f.Trusted(g.stamp) || name == "Void" && (confirmed || f.Trusted(g.stamp)) {
							t.Errorf("event %d of writer %d went unseen", n, i)
							return
						}
					}
				})
			}
			for range readers {
				reading.Go(func() {
					for i := 0; !done.Load(); i++ {
						g := current[i%writers].Load()
						if g == nil {
							continue
						}
						most := fence.State(g.most.Load())
						first := g.check(f)
						if again := g.check(f); first > most || again > first {
							t.Errorf("value of %q is %d and then %d, and was %d at most", g.key, first, again, most)
							return
						}
					}
				})
			}
			writing.Wait()
			done.Store(true)
			reading.Wait()
		})
	}
}

// A value is compared with events again and again. That it has been compared with
// some does not make it forget the one that demoted it.
func TestCheck_ofADemotedValueStaysDemoted(t *testing.T) {
	f := fence.New(0)
	s := f.Stamp(hash)
	checked := checkedOf(s)
	f.Prefix("other")
	require.Equal(t, fence.Current, check(f, "k", s, checked))
	f.Distrust()
	for i := range 5 {
		require.Equal(t, fence.Demoted, check(f, "k", s, checked), "asked %d times", i)
		f.Prefix(fmt.Sprint("other", i))
	}
	moved := fence.Stamp{Slot: s.Slot, Events: checked.Load()}
	assert.Equal(t, fence.Demoted, f.State(hash, "k", moved))
	assert.False(t, f.Trusted(moved))
	f.Prefix("k")
	assert.Equal(t, fence.Void, check(f, "k", s, checked))
	assert.Equal(t, fence.Void, f.State(hash, "k", moved))
}

// Stamps hold the lower half of the count of events. One that was taken before the
// count went around is void, although its half is that of a later number, or the same.
func TestEvents_thatGoAroundVoidWhatWasStampedBefore(t *testing.T) {
	const lap = 1 << 31
	f := fence.New(0)
	old, begun := f.Stamp(hash), f.Begin(hash+1)
	load := f.Stamp(hash)
	f.SetEvents(lap - 1)
	kept := f.Stamp(hash)
	assert.Equal(t, fence.Current, f.State(hash, "k", kept))

	f.Prefix("other")
	for _, events := range []uint64{lap, 2*lap - 3, 2*lap + 1, 2*lap + lap/2} {
		f.SetEvents(events)
		for name, s := range map[string]fence.Stamp{"old": old, "kept": kept, "zero": {}} {
			assert.Equal(t, fence.Void, f.State(hash, "k", s), "%s after %d", name, events)
			assert.Equal(t, fence.Void, check(f, "k", s, checkedOf(s)), "%s after %d", name, events)
		}
		assert.Equal(t, fence.Void, f.Load(hash, "k", load))
		s := f.Stamp(hash)
		assert.Equal(t, fence.Current, f.State(hash, "k", s), "one taken then")
		f.Distrust()
		assert.Equal(t, fence.Demoted, f.State(hash, "k", s))
		assert.Equal(t, fence.Demoted, check(f, "k", s, checkedOf(s)))
		assert.False(t, f.Trusted(s))
		f.Void()
		assert.Equal(t, fence.Void, f.State(hash, "k", s))
	}
	_, ok := f.Confirm(hash+1, begun)
	assert.False(t, ok, "a write that began then")
}
