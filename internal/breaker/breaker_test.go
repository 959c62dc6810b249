package breaker_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/breaker"
)

func report(t *testing.T, b *breaker.Breaker, outcomes ...breaker.Outcome) {
	t.Helper()
	for _, o := range outcomes {
		pass, ok := b.Allow()
		require.True(t, ok)
		pass.Report(o)
	}
}

func TestBreaker_opensAfterFailuresInARow(t *testing.T) {
	opens := 0
	b := breaker.New(3, func() { opens++ })
	report(t, b, breaker.Failure, breaker.Failure, breaker.Success)
	report(t, b, breaker.Failure, breaker.Neutral, breaker.Failure)
	require.False(t, b.Open(), "a success ends the row, a neutral call does not add to it")
	report(t, b, breaker.Failure)
	assert.True(t, b.Open())
	_, ok := b.Allow()
	assert.False(t, ok)
	assert.Equal(t, 1, opens)
	assert.EqualValues(t, 1, b.Opened())
}

func TestBreaker_opensAtOnceWhenNobodyIsThere(t *testing.T) {
	b := breaker.New(0, nil)
	report(t, b, breaker.Dead)
	assert.True(t, b.Open())
}

func TestBreaker_onlyCloseCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker.New(1, nil)
		report(t, b, breaker.Failure)
		time.Sleep(24 * time.Hour)
		_, ok := b.Allow()
		require.False(t, ok, "no user's call is a probe, however long it has been open")
		assert.True(t, b.Close())
		assert.False(t, b.Close())
		report(t, b, breaker.Success)
	})
}

func TestBreaker_ignoresReportsFromBefore(t *testing.T) {
	b := breaker.New(1, nil)
	old, ok := b.Allow()
	require.True(t, ok)
	report(t, b, breaker.Failure)
	require.True(t, b.Close())
	old.Report(breaker.Dead)
	assert.False(t, b.Open(), "the call began before the server was found again")
	assert.EqualValues(t, 1, b.Opened())
}

// Which is not told of successes that change nothing: each that ends a row counts.
func TestBreaker_everySuccessEndsARow(t *testing.T) {
	b := breaker.New(2, nil)
	for range 100 {
		report(t, b, breaker.Failure, breaker.Success, breaker.Success)
	}
	require.False(t, b.Open())
	report(t, b, breaker.Failure, breaker.Failure)
	assert.True(t, b.Open())
}

// The call that every other one makes.
func TestBreaker_aSuccessAllocatesNothing(t *testing.T) {
	b := breaker.New(2, nil)
	assert.Zero(t, testing.AllocsPerRun(100, func() { report(t, b, breaker.Success) }))
	report(t, b, breaker.Failure, breaker.Success)
	assert.Zero(t, testing.AllocsPerRun(100, func() { report(t, b, breaker.Success) }))
}

func TestBreaker_concurrentUse(t *testing.T) {
	b := breaker.New(2, nil)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				if pass, ok := b.Allow(); ok {
					pass.Report(breaker.Outcome(i % 4))
				} else {
					b.Close()
				}
			}
		})
	}
	wg.Wait()
	b.Close()
	report(t, b, breaker.Success)
}
