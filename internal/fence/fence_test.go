package fence_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/fence"
)

const hash = 77

func TestNew_roundsSlotsUpToAPowerOfTwo(t *testing.T) {
	for _, c := range []struct{ slots, want int }{
		{-1, 1024}, {0, 1024}, {1024, 1024}, {1025, 2048}, {3000, 4096}, {1 << 30, 1 << 24},
	} {
		assert.Equal(t, c.want, fence.New(c.slots).Slots(), "slots %d", c.slots)
	}
}

func TestState_ofAFreshStampIsCurrent(t *testing.T) {
	f := fence.New(0)
	s := f.Stamp(hash)
	assert.Equal(t, fence.Current, f.State(hash, "k", s))
	assert.True(t, f.Trusted(s))
	assert.Equal(t, s, f.Stamp(hash), "stamps compare equal while nothing happens")
}

func TestState_ofTheZeroStampIsVoid(t *testing.T) {
	f := fence.New(0)
	assert.Equal(t, fence.Void, f.State(hash, "k", fence.Stamp{}))
}

func TestState_afterEvents(t *testing.T) {
	for _, c := range []struct {
		name    string
		happens func(*fence.Fence)
		want    fence.State
		trusted bool
	}{
		{"Move of the key", func(f *fence.Fence) { f.Move(hash) }, fence.Void, true},
		{"Announce of the key", func(f *fence.Fence) { f.Announce(hash) }, fence.Void, true},
		{"Announce of another slot", func(f *fence.Fence) { f.Announce(hash + 1) }, fence.Current, true},
		{"Begin of the key", func(f *fence.Fence) { f.Begin(hash) }, fence.Void, true},
		{"Move of another slot", func(f *fence.Fence) { f.Move(hash + 1) }, fence.Current, true},
		{"Move of a key that shares the slot", func(f *fence.Fence) { f.Move(hash + 1024) }, fence.Void, true},
		{"Void", func(f *fence.Fence) { f.Void() }, fence.Void, false},
		{"Distrust", func(f *fence.Fence) { f.Distrust() }, fence.Demoted, false},
		{"Void and Distrust", func(f *fence.Fence) { f.Void(); f.Distrust() }, fence.Void, false},
		{"Move and Distrust", func(f *fence.Fence) { f.Move(hash); f.Distrust() }, fence.Void, false},
		{"Prefix and Distrust", func(f *fence.Fence) { f.Prefix("a"); f.Distrust() }, fence.Void, false},
		{"other Prefix and Distrust", func(f *fence.Fence) { f.Prefix("z"); f.Distrust() }, fence.Demoted, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fence.New(0)
			s := f.Stamp(hash)
			c.happens(f)
			assert.Equal(t, c.want, f.State(hash, "a:b", s))
			assert.Equal(t, c.trusted, f.Trusted(s))
			assert.Equal(t, fence.Current, f.State(hash, "a:b", f.Stamp(hash)), "a stamp taken afterwards")
		})
	}
}

func TestConfirm_ofAnUndisturbedWriteIsCurrent(t *testing.T) {
	f := fence.New(0)
	before := f.Stamp(hash)
	s := f.Begin(hash)
	during := f.Stamp(hash)
	require.Equal(t, fence.Current, f.State(hash, "k", during))

	own, ok := f.Confirm(hash, s)
	require.True(t, ok)
	assert.Equal(t, fence.Current, f.State(hash, "k", own))
	assert.Equal(t, fence.Void, f.State(hash, "k", before), "read that began before the write")
	assert.Equal(t, fence.Void, f.State(hash, "k", during), "read that began during the write")
	assert.Equal(t, fence.Void, f.State(hash, "k", s))
}

func TestConfirm_refusesADisturbedWrite(t *testing.T) {
	for name, happens := range map[string]func(*fence.Fence){
		"received invalidation": func(f *fence.Fence) { f.Move(hash) },
		"another write begun":   func(f *fence.Fence) { f.Begin(hash) },
		"another write whole":   func(f *fence.Fence) { f.Confirm(hash, f.Begin(hash)) },
		"Void":                  func(f *fence.Fence) { f.Void() },
		"Distrust":              func(f *fence.Fence) { f.Distrust() },
	} {
		t.Run(name, func(t *testing.T) {
			f := fence.New(0)
			s := f.Begin(hash)
			happens(f)
			during := f.Stamp(hash)
			own, ok := f.Confirm(hash, s)
			assert.False(t, ok)
			assert.Equal(t, fence.Void, f.State(hash, "k", own), "the zero stamp cannot be used by mistake")
			assert.Equal(t, fence.Void, f.State(hash, "k", during), "Confirm moves the slot all the same")
		})
	}
}

func TestConfirm_ofTwoWritesThatOverlapAllowsNeither(t *testing.T) {
	f := fence.New(0)
	a, b := f.Begin(hash), f.Begin(hash)
	_, aOK := f.Confirm(hash, a)
	_, bOK := f.Confirm(hash, b)
	assert.False(t, aOK)
	assert.False(t, bOK)
}

func TestConfirm_carriesAPrefixDeletionThatCameDuringTheWrite(t *testing.T) {
	f := fence.New(0)
	s := f.Begin(hash)
	f.Prefix("user")
	own, ok := f.Confirm(hash, s)
	require.True(t, ok)
	assert.Equal(t, fence.Void, f.State(hash, "user:1", own))
	assert.Equal(t, fence.Current, f.State(hash, "lead:1", own))
}

// If two writes began with one stamp, the first to confirm would not notice the
// other.
func TestBegin_givesEachWriteItsOwnStamp(t *testing.T) {
	const writers, writes = 4, 20_000
	f := fence.New(0)
	begun := make([][]fence.Stamp, writers)
	var wg sync.WaitGroup
	for i := range begun {
		wg.Go(func() {
			for range writes {
				begun[i] = append(begun[i], f.Begin(hash))
			}
		})
	}
	wg.Wait()
	distinct := make(map[fence.Stamp]bool)
	for _, stamps := range begun {
		for _, s := range stamps {
			distinct[s] = true
		}
	}
	assert.Len(t, distinct, writers*writes)
}

// Of writers that overlap in any way at most the last one may keep its value.
func TestConfirm_underContention(t *testing.T) {
	const writers, rounds = 4, 2000
	f := fence.New(0)
	var current sync.Map // of stamps that were given out
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range rounds {
				if own, ok := f.Confirm(hash, f.Begin(hash)); ok {
					_, twice := current.LoadOrStore(own, true)
					assert.False(t, twice, "two writers were given the same stamp")
				}
			}
		})
	}
	wg.Wait()
	valid := 0
	current.Range(func(s, _ any) bool {
		if f.State(hash, "k", s.(fence.Stamp)) == fence.Current {
			valid++
		}
		return true
	})
	assert.LessOrEqual(t, valid, 1)
}

// check is Check for a value that carries s, but for what was checked since.
func check(f *fence.Fence, key string, s fence.Stamp, checked *atomic.Uint32) fence.State {
	return f.Check(f.Line(hash), hash, key, s.Slot, checked)
}

func checkedOf(s fence.Stamp) *atomic.Uint32 {
	checked := new(atomic.Uint32)
	checked.Store(s.Events)
	return checked
}

func TestCheck_allocatesNothing(t *testing.T) {
	f := fence.New(0)
	f.Prefix("other")
	s := f.Stamp(hash)
	f.Prefix("another")
	checked := checkedOf(s)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		if check(f, "user:1:name", s, checked) != fence.Current {
			t.Error("not current")
		}
		f.Prefix("yet:another")
	}))
}

func BenchmarkCheck(b *testing.B) {
	f := fence.New(1 << 16)
	s := f.Stamp(hash)
	checked := checkedOf(s)
	b.Run("steady", func(b *testing.B) {
		for b.Loop() {
			check(f, "user:123456:profile", s, checked)
		}
	})
	b.Run("prefix=new", func(b *testing.B) {
		f.Prefix("other")
		for b.Loop() {
			checked.Store(s.Events)
			check(f, "user:123456:profile", s, checked)
		}
	})
}

// A load in flight outlives announcements, which may be of its own lease, and
// nothing else.
func TestLoad_isVoidedByAllButAnnouncements(t *testing.T) {
	for _, c := range []struct {
		name    string
		happens func(*fence.Fence)
		want    fence.State
	}{
		{"nothing", func(*fence.Fence) {}, fence.Current},
		{"Announce", func(f *fence.Fence) { f.Announce(hash) }, fence.Current},
		{"many an Announce", func(f *fence.Fence) {
			for range 100_000 {
				f.Announce(hash)
			}
		}, fence.Current},
		{"Move", func(f *fence.Fence) { f.Move(hash) }, fence.Void},
		{"Announce and Move", func(f *fence.Fence) { f.Announce(hash); f.Move(hash) }, fence.Void},
		{"Move and Announce", func(f *fence.Fence) { f.Move(hash); f.Announce(hash) }, fence.Void},
		{"Begin", func(f *fence.Fence) { f.Begin(hash) }, fence.Void},
		{"Void", func(f *fence.Fence) { f.Announce(hash); f.Void() }, fence.Void},
		{"Prefix", func(f *fence.Fence) { f.Announce(hash); f.Prefix("a") }, fence.Void},
		{"Distrust", func(f *fence.Fence) { f.Announce(hash); f.Distrust() }, fence.Demoted},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := fence.New(0)
			s := f.Stamp(hash)
			c.happens(f)
			assert.Equal(t, c.want, f.Load(hash, "a:b", s))
		})
	}
}

// What a write may put into L1 is not known after an announcement: it may have
// been of another's change behind it.
func TestConfirm_refusesAfterAnAnnouncement(t *testing.T) {
	f := fence.New(0)
	s := f.Begin(hash)
	f.Announce(hash)
	_, ok := f.Confirm(hash, s)
	assert.False(t, ok)
}
