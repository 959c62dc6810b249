package l1_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/l1"
)

// Every method of ristretto panics, hangs or races when Close overtakes it.
func TestClose_amidEverything(t *testing.T) {
	for range 100 {
		s, err := newHashed(l1.Config{MaxBytes: 1 << 16}, l1.New[string])
		require.NoError(t, err)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for g := range 4 {
			wg.Go(func() {
				<-start
				for i := range 300 {
					h := mix(i % 50)
					key := fmt.Sprint(i % 50)
					switch (i + g) % 4 {
					case 0:
						s.Put(h, entry(s, h, key, ""), 10)
					case 1:
						s.Drop(h)
					case 2:
						s.Put(h, entry(s, h, key, ""), 1<<13)
					default:
						for range 64 {
							s.Get(h, key, never)
						}
					}
					s.Stats()
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				<-start
				s.Close()
				for i := range 50 {
					_, state := s.Get(mix(i), fmt.Sprint(i), never)
					assert.Equal(t, l1.None, state)
				}
			})
		}
		close(start)
		wg.Wait()
		st := s.Stats()
		assert.Zero(t, st.Entries)
		assert.Zero(t, st.Bytes)
	}
}

// Close waits for whoever is inside ristretto.
func TestClose_waitsForCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, l1.Config{})
		ok, leave := s.Enter()
		require.True(t, ok)
		var closed atomic.Bool
		go func() {
			s.Close()
			closed.Store(true)
		}()
		synctest.Wait()
		require.False(t, closed.Load())
		ok, leaveToo := s.Enter()
		assert.False(t, ok, "nobody may enter any more")
		leaveToo()
		time.Sleep(time.Second)
		require.False(t, closed.Load())
		leave()
		time.Sleep(time.Second)
		assert.True(t, closed.Load())
	})
}

// Every way into ristretto leads through the guard, and out of it again.
func TestClose_knowsOfAllCalls(t *testing.T) {
	s := newStore(t, l1.Config{})
	require.True(t, s.PutWait(hash, entry(s, hash, "k", "v"), 1))
	for name, call := range map[string]func(){
		"put":  func() { s.Put(hash, entry(s, hash, "k", "v"), 1) },
		"drop": func() { s.Drop(hash + 1) },
		"miss": func() { s.Get(hash+1, "absent", never) },
		"a void entry in front": func() {
			s.Put(hash, entry(s, hash, "k", "v"), 1)
			s.Fence().Move(hash)
			s.Get(hash, "k", never)
			s.Put(hash, entry(s, hash, "k", "v"), 1)
		},
		"some hits": func() {
			for range 100 {
				_, state := s.Get(hash, "k", never)
				require.Equal(t, l1.Hit, state)
			}
		},
	} {
		before := s.Entered()
		call()
		switch calls := s.Entered() - before; name {
		case "some hits":
			// And those that two misses pay for, if they came before.
			assert.InDelta(t, 100/32+l1.MissPays, calls, 2+l1.MissPays)
		case "a void entry in front":
			assert.EqualValues(t, 3, calls, "two puts, one get")
		default:
			assert.EqualValues(t, 1, calls, name)
		}
	}
	assert.Zero(t, s.Inside())
}

func TestClose_endsTheStore(t *testing.T) {
	s := newStore(t, l1.Config{})
	s.Put(hash, entry(s, hash, "k", "v"), 1)
	s.Close()
	_, state := s.Get(hash, "k", never)
	assert.Equal(t, l1.None, state)
	s.Put(hash, entry(s, hash, "k", "v"), 1)
	s.Drop(hash)
	_, state = s.Get(hash, "k", never)
	assert.Equal(t, l1.None, state)
	assert.Equal(t, l1.Stats{Misses: 2}, s.Stats(), "what Close frees is no eviction")
}
