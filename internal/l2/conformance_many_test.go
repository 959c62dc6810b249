package l2

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const several = 30 // on a cluster: keys of all masters

func (s *scene) several() (keys []string) {
	for i := range several {
		keys = append(keys, fmt.Sprintf("%s:%d", s.key, i))
	}
	return keys
}

func recordOf(key, payload string) []byte { return sample(payload).Append(nil, key) }

func testLeaseMany(t *testing.T, s *scene) {
	ctx := t.Context()
	keys := s.several()
	var leases []LeaseRequest
	for i, key := range keys {
		switch i % 4 {
		case 1: // there already, so that what was seen has changed
			_, err := s.Set(ctx, key, recordOf(key, "there"), minute, nil)
			require.NoError(t, err)
		case 2: // another loads
			_, err := s.Lease(ctx, key, absent, NewToken(), minute)
			require.NoError(t, err)
		}
		leases = append(leases, LeaseRequest{Held{key, NewToken()}, absent})
	}
	leases[3].Token = Token{}
	results := s.LeaseMany(ctx, leases, 10*second)
	require.Len(t, results, several)
	var held []Held
	for i, res := range results {
		if i == 3 {
			require.ErrorIs(t, res.Err, ErrArgument)
			continue
		}
		require.NoError(t, res.Err)
		require.Equal(t, []GrantKind{Granted, GrantChanged, GrantBusy, Granted}[i%4], res.Kind, i)
		if res.Kind == Granted {
			held = append(held, leases[i].Held)
		}
	}

	_, err := s.Delete(ctx, held[0].Key, DeleteOptions{}, nil)
	require.NoError(t, err)
	for i, res := range s.RenewMany(ctx, held, 20*second) {
		require.NoError(t, res.Err)
		require.Equal(t, i > 0, res.OK)
	}
	fills := make([]FillRequest, len(held))
	for i, h := range held {
		fills[i] = FillRequest{h, recordOf(h.Key, "filled"), minute, []byte(h.Key)}
	}
	fills[1].Rec = []byte("no record")
	s.heard()
	for i, res := range s.FillMany(ctx, fills) {
		if i == 1 {
			require.ErrorIs(t, res.Err, ErrArgument)
			continue
		}
		require.NoError(t, res.Err)
		require.Equal(t, i > 0, res.OK, "a lease that was voided fills nothing")
	}
	assert.Len(t, s.heard(), len(held)-2, "messages of what was filled")
	for _, err := range s.ReleaseMany(ctx, held) {
		require.NoError(t, err)
	}
	reads, _ := s.ReadMany(ctx, []string{held[0].Key, held[1].Key, held[2].Key}, limit, Marks{})
	assert.Equal(t, StateAbsent, reads[0].State)
	assert.Equal(t, StateAbsent, reads[1].State, "given back")
	assert.Equal(t, "filled", string(reads[2].Record.Payload))
	for _, res := range s.RenewMany(ctx, []Held{{keys[0], Token{}}}, second) {
		assert.ErrorIs(t, res.Err, ErrArgument)
	}
}

func testSetMany(t *testing.T, s *scene) {
	ctx := t.Context()
	keys := s.several()
	sets := make([]SetRequest, several)
	for i, key := range keys {
		sets[i] = SetRequest{key, recordOf(key, fmt.Sprint("v", i)), time.Duration(i) * minute, []byte(key)}
	}
	s.key = keys[4]
	_, sole := s.begin()
	require.True(t, sole)
	token := NewToken()
	_, err := s.Lease(ctx, keys[5], absent, token, minute)
	require.NoError(t, err)
	sets[6].Rec = nil
	s.heard()
	for i, res := range s.SetMany(ctx, sets) {
		if i == 6 {
			require.ErrorIs(t, res.Err, ErrArgument)
			continue
		}
		require.NoError(t, res.Err)
		require.Equal(t, SetResult{Stored: i != 4, Barred: i == 4, Deadline: res.Deadline}, res.SetResult)
		require.Positive(t, res.Deadline)
	}
	assert.ElementsMatch(t, append(append([]string{}, keys[:6]...), keys[7:]...), s.heard())
	reads, _ := s.ReadMany(ctx, keys, limit, Marks{})
	for i, r := range reads {
		require.NoError(t, r.Err)
		if i == 4 || i == 6 {
			continue
		}
		assert.Equal(t, fmt.Sprint("v", i), string(r.Record.Payload))
	}
	assert.Negative(t, s.ttl(keys[0]), "ttl 0 is no expiry")
	assert.InDelta(t, 7*minute, s.ttl(keys[7]), float64(2*second))
	ok, err := s.Fill(ctx, keys[5], token, recordOf(keys[5], "stale"), minute, nil)
	require.NoError(t, err)
	assert.False(t, ok, "a Set voids leases")
}
