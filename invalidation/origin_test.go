package invalidation_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/invalidation"
)

func TestOrigin_countsFromOneAndStatesItInBeats(t *testing.T) {
	o := invalidation.NewOrigin(testNode)
	assert.Zero(t, o.Last())
	first := o.Beat(time.Second)
	assert.Equal(t, invalidation.KindBeat, first.Kind)
	assert.Equal(t, testNode, first.Node)
	assert.Zero(t, first.Seq)
	assert.EqualValues(t, 1, first.Beat.Number)
	assert.Equal(t, time.Second, first.Beat.Interval)

	assert.EqualValues(t, 1, o.Next())
	assert.EqualValues(t, 2, o.Next())
	assert.EqualValues(t, 2, o.Last())
	second := o.Beat(time.Second)
	assert.EqualValues(t, 2, second.Seq)
	assert.EqualValues(t, 2, second.Beat.Number)
	assert.Equal(t, []uint64{1, 2}, second.Beat.Open)
	assert.Empty(t, second.Beat.Excused)

	bye := o.Bye()
	assert.Equal(t, invalidation.KindBye, bye.Kind)
	assert.EqualValues(t, 3, bye.Beat.Number)
}

func TestOrigin_excusesTheLostInFourBeatsAndNeverTheConfirmed(t *testing.T) {
	o := invalidation.NewOrigin(testNode)
	for range 5 {
		o.Next()
	}
	o.Lost(4)
	o.Confirmed(1)
	o.Lost(1) // too late: receivers must go on missing it
	o.Lost(2)
	o.Confirmed(2) // lost stays lost
	for range 4 {
		b := o.Beat(time.Second).Beat
		assert.Equal(t, []uint64{2, 4}, b.Excused)
		assert.Equal(t, []uint64{3, 5}, b.Open)
	}
	b := o.Beat(time.Second).Beat
	assert.Empty(t, b.Excused)
	assert.Equal(t, []uint64{3, 5}, b.Open)
}

func TestOrigin_tellsAgeAndQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := invalidation.NewOrigin(testNode)
		time.Sleep(time.Minute)
		seq := o.Next()
		time.Sleep(time.Second)
		b := o.Beat(time.Second).Beat
		assert.Equal(t, 61*time.Second, b.Age)
		assert.Equal(t, time.Second, b.Quiet)
		o.Confirmed(seq)
		assert.Zero(t, o.Beat(time.Second).Beat.Quiet, "an outcome is news")
	})
}

func TestOrigin_limitsTheAnnouncedInterval(t *testing.T) {
	o := invalidation.NewOrigin(testNode)
	for _, d := range []time.Duration{-1, 0, time.Hour} {
		m := o.Beat(d)
		_, err := m.Append(nil)
		require.NoError(t, err, d)
	}
}

// S5: more open numbers than a beat holds.
func TestOrigin_overflowOfOpenNumbersIsSaidUntilTheyAreResolved(t *testing.T) {
	o := invalidation.NewOrigin(testNode)
	for range invalidation.MaxListed {
		o.Next()
	}
	assert.False(t, o.Beat(time.Second).Beat.Overflow)
	o.Next()
	o.Next()
	b := o.Beat(time.Second).Beat
	assert.True(t, b.Overflow)
	assert.Len(t, b.Open, invalidation.MaxListed)
	assert.EqualValues(t, 3, b.Open[0])

	o.Confirmed(1)
	for range 10 {
		require.True(t, o.Beat(time.Second).Beat.Overflow, "2 is still open")
	}
	o.Lost(2)
	for range 3 { // and the last one before made the fourth
		require.True(t, o.Beat(time.Second).Beat.Overflow)
	}
	assert.False(t, o.Beat(time.Second).Beat.Overflow)
}

// S5: more lost numbers than a beat holds.
func TestOrigin_overflowOfLostNumbersLeavesThemUnexcused(t *testing.T) {
	o := invalidation.NewOrigin(testNode)
	for range invalidation.MaxListed + 10 {
		o.Lost(o.Next())
	}
	m := o.Beat(time.Second)
	assert.Len(t, m.Beat.Excused, invalidation.MaxListed)
	assert.EqualValues(t, 11, m.Beat.Excused[0])
	assert.Less(t, len(mustAppend(t, m)), invalidation.MaxMessageBytes)

	now := time.Now()
	tracker := invalidation.NewTracker(nil)
	tracker.Reset(now.Add(-time.Hour))
	assert.Equal(t, invalidation.GapNone, tracker.Observe(m, now))
	assert.Equal(t, invalidation.GapMissing, tracker.Tick(now.Add(invalidation.Grace)))
}

func TestInterval(t *testing.T) {
	tests := []struct {
		name  string
		base  time.Duration
		nodes int
		want  time.Duration
	}{
		{"alone", time.Second, 1, time.Second},
		{"no base", 0, 1, time.Second},
		{"nobody heard", time.Second, 0, time.Second},
		{"50 nodes beat 50 times a second", 100 * time.Millisecond, 50, time.Second},
		{"a short base is lengthened", 100 * time.Millisecond, 10, 200 * time.Millisecond},
		{"a short base is kept while few", 100 * time.Millisecond, 5, 100 * time.Millisecond},
		{"rule 12: at most a second up to 100", time.Second, 100, time.Second},
		{"50 a second beyond", time.Second, 101, 2020 * time.Millisecond},
		{"1000 nodes", time.Second, 1000, 20 * time.Second},
		{"a longer base is kept", 5 * time.Second, 2, 5 * time.Second},
		{"never over the limit", time.Second, 1 << 40, invalidation.MaxInterval},
		{"nor by its base", time.Hour, 1, invalidation.MaxInterval},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, invalidation.Interval(tt.base, tt.nodes))
		})
	}
}
