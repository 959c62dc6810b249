package l2

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func (s *scene) setVersioned(payload string, source uint64) SetResult {
	s.t.Helper()
	res, err := s.SetVersioned(s.t.Context(), s.key, s.sourced(payload, source), minute, []byte(payload))
	require.NoError(s.t, err)
	return res
}

func testSetVersioned(t *testing.T, s *scene) {
	s.heard()
	assert.True(t, s.setVersioned("v5", 5).Stored)
	assert.True(t, s.setVersioned("v5 again", 5).Stored)
	assert.True(t, s.setVersioned("v300", 300).Stored)
	s.wantValue("v300")
	res := s.setVersioned("v299", 299)
	assert.True(t, res.Older)
	assert.False(t, res.Stored)
	assert.Equal(t, []string{"v5", "v5 again", "v300", "v299"}, s.heard())
	r := s.wantKind(KindTombstone)
	assert.EqualValues(t, 300, r.Source)
	s.wantTTL(tombstoneLife, tombstoneLife)
	assert.True(t, s.setVersioned("v300", 300).Stored)
	s.wantValue("v300")
	s.setTTL(s.key, 3*tombstoneLife)
	assert.True(t, s.setVersioned("v299", 299).Older)
	s.wantTTL(3*tombstoneLife, 3*tombstoneLife) // the version is known as long as with its value
	s.remove(DeleteOptions{})
	s.wantTTL(3*tombstoneLife, 3*tombstoneLife)

	// Versions are compared in all 64 bits, and without their sign.
	high := uint64(1)<<63 + 1<<53
	assert.True(t, s.setVersioned("high", high+1).Stored)
	assert.True(t, s.setVersioned("high", high).Older)

	w, _ := s.begin()
	assert.True(t, s.setVersioned("during", high+9).Barred)
	assert.EqualValues(t, high+9, s.wantKind(KindHold).Source, "the floor is raised")
	s.end(w, "x")
	assert.True(t, s.setVersioned("late", high+8).Older)
}

func testDelete(t *testing.T, s *scene) {
	s.heard()
	res, err := s.Delete(t.Context(), s.key, DeleteOptions{}, []byte("nothing there"))
	require.NoError(t, err)
	assert.Equal(t, DeleteResult{}, res)
	assert.Equal(t, []string{"nothing there"}, s.heard())
	s.set("v")
	assert.True(t, s.remove(DeleteOptions{}).Removed)
	s.wantAbsent()
	s.granted()
	assert.False(t, s.remove(DeleteOptions{}).Removed, "a placeholder is no value")
	s.wantAbsent()
	negative := sample("")
	negative.Kind = KindNegative
	_, err = s.Set(t.Context(), s.key, negative.Append(nil, s.key), minute, nil)
	require.NoError(t, err)
	assert.True(t, s.remove(DeleteOptions{}).Removed)
}

func testHold(t *testing.T, s *scene) {
	s.set("v")
	assert.True(t, s.remove(DeleteOptions{Hold: minute}).Removed)
	g := s.wantGrant(GrantBarred, absent, NewToken())
	assert.InDelta(t, minute, g.Wait, float64(2*second))
	s.wantTTL(minute, 2*minute)
	end := s.wantKind(KindHold).LeaseEnd
	s.remove(DeleteOptions{})
	s.remove(DeleteOptions{Hold: second})
	require.NoError(t, s.Expire(t.Context(), s.key, nil))
	s.end(NewToken(), "a bracket that was lost")
	assert.Equal(t, end, s.wantKind(KindHold).LeaseEnd, "not shortened")
	s.remove(DeleteOptions{Hold: 2 * minute})
	assert.Greater(t, s.wantKind(KindHold).LeaseEnd, end)
	s.endLease(s.key)
	s.wantGrant(Granted, absent, NewToken())
}

func testNotBefore(t *testing.T, s *scene) {
	s.set("v")
	s.heard()
	res, err := s.Delete(t.Context(), s.key, DeleteOptions{NotBefore: s.Now(s.key) + (10 * second).Microseconds()}, []byte("early"))
	require.NoError(t, err)
	assert.InDelta(t, 10*second, res.Early, float64(2*second))
	assert.False(t, res.Removed)
	assert.Empty(t, s.heard())
	s.wantValue("v")
	res, err = s.Delete(t.Context(), s.key, DeleteOptions{NotBefore: s.Now(s.key) - (10 * second).Microseconds()}, []byte("now"))
	require.NoError(t, err)
	assert.Equal(t, DeleteResult{Removed: true}, res)
	assert.Equal(t, []string{"now"}, s.heard())
}

func testDeleteVersioned(t *testing.T, s *scene) {
	assert.False(t, s.remove(DeleteOptions{Version: 7}).Removed)
	assert.EqualValues(t, 7, s.wantKind(KindTombstone).Source)
	s.wantTTL(tombstoneLife, tombstoneLife)
	s.remove(DeleteOptions{Version: 8, Tombstone: 2 * tombstoneLife})
	s.remove(DeleteOptions{Version: 9})
	s.wantTTL(2*tombstoneLife, 2*tombstoneLife) // not shortened
	s.remove(DeleteOptions{})
	s.wantTTL(2*tombstoneLife, 2*tombstoneLife)
	assert.True(t, s.setVersioned("v8", 8).Older)
	s.wantTTL(2*tombstoneLife, 2*tombstoneLife)
	assert.True(t, s.setVersioned("v10", 10).Stored)

	s.heard()
	res, err := s.Delete(t.Context(), s.key, DeleteOptions{Version: 9}, []byte("older"))
	require.NoError(t, err)
	assert.False(t, res.Removed)
	s.wantValue("v10")
	assert.Equal(t, []string{"older"}, s.heard(), "the others may have what is older still")
	assert.True(t, s.remove(DeleteOptions{Version: 10}).Removed)

	_, _ = s.begin()
	s.remove(DeleteOptions{Version: 20})
	r := s.wantKind(KindHold)
	assert.EqualValues(t, 20, r.Source)
	assert.EqualValues(t, 1, r.Writers)
	s.endLease(s.key)
	s.remove(DeleteOptions{Version: 21, Hold: minute, Tombstone: 2 * tombstoneLife})
	assert.EqualValues(t, 21, s.wantKind(KindHold).Source)
	s.wantTTL(2*tombstoneLife, 2*tombstoneLife)
}

// testFloor: a source version outlives everything that happens to its value.
func testFloor(t *testing.T, s *scene) {
	floor := func(want uint64) {
		t.Helper()
		r := s.read()
		require.EqualValues(t, want, r.Record.Source)
		if !r.Record.Kind.HasBody() {
			require.GreaterOrEqual(t, s.ttl(s.key), tombstoneLife-second)
		}
	}
	s.setVersioned("v9", 9)
	s.granted()
	floor(9)
	s.remove(DeleteOptions{})
	s.wantKind(KindTombstone)
	floor(9)
	token := NewToken()
	s.wantGrant(Granted, s.readSeen(), token)
	floor(9)
	s.wantGrant(GrantBusy, absent, NewToken())
	require.True(t, s.fill(token, "filled"))
	assert.EqualValues(t, 9, s.wantValue("filled").Source, "patched in, checksum intact")

	w, _ := s.begin()
	floor(9)
	require.True(t, s.end(w, "updated"))
	assert.EqualValues(t, 9, s.wantValue("updated").Source)
	s.set("set")
	assert.EqualValues(t, 9, s.wantValue("set").Source)
	s.begin()
	s.endLease(s.key)
	token = s.granted()
	floor(9)
	require.NoError(t, s.Release(t.Context(), s.key, token))
	s.wantKind(KindTombstone)
	floor(9)
	require.NoError(t, s.Expire(t.Context(), s.key, nil))
	floor(9)
	assert.True(t, s.setVersioned("v8", 8).Older)
	floor(9)
	_, err := s.DeletePrefix(t.Context(), s.key, nil)
	require.NoError(t, err)
	floor(9)
}

// testFillVersioned: a fill that carries a source version is held to the floor.
func testFillVersioned(t *testing.T, s *scene) {
	fill := func(source uint64) bool {
		token := s.granted()
		s.heard()
		ok, err := s.Fill(t.Context(), s.key, token, s.sourced("filled", source), minute, []byte("stored"))
		require.NoError(t, err)
		if !ok {
			assert.Empty(t, s.heard())
			require.NoError(t, s.Release(t.Context(), s.key, token))
		}
		return ok
	}
	const high uint64 = 1<<63 + 300 // beyond what Lua's numbers tell apart
	s.setVersioned("v", high)
	assert.False(t, fill(high-1))
	assert.EqualValues(t, high, s.wantValue("v").Source, "and the value stays")
	assert.True(t, fill(high), "as new as what is there")
	assert.True(t, fill(high+1))
	assert.EqualValues(t, high+1, s.wantValue("filled").Source)
	s.remove(DeleteOptions{Version: high + 9})
	assert.False(t, fill(high+8), "the tombstone is a floor, and so is the placeholder over it")
	assert.True(t, fill(high+9))
}

func testExpire(t *testing.T, s *scene) {
	s.heard()
	require.NoError(t, s.Expire(t.Context(), s.key, []byte("nothing there")))
	s.wantAbsent()
	s.set("v")
	before := s.wantValue("v")
	seen := s.readSeen()
	token := s.granted()
	require.NoError(t, s.Expire(t.Context(), s.key, []byte("soft")))
	r := s.wantValue("v")
	assert.True(t, r.Soft)
	assert.NotEqual(t, before.Version, r.Version)
	assert.True(t, r.Token.IsZero())
	assert.Zero(t, r.LeaseEnd)
	assert.False(t, s.fill(token, "stale"))
	s.wantGrant(GrantChanged, seen, NewToken())
	s.wantTTL(minute, minute)
	assert.Equal(t, []string{"nothing there", "soft"}, s.heard())
	s.remove(DeleteOptions{})
	s.granted()
	require.NoError(t, s.Expire(t.Context(), s.key, nil))
	s.wantAbsent()
	_, _ = s.begin()
	require.NoError(t, s.Expire(t.Context(), s.key, nil))
	assert.EqualValues(t, 1, s.wantKind(KindHold).Writers)
}

func testBeginEnd(t *testing.T, s *scene) {
	ctx := t.Context()
	s.set("old")
	s.heard()
	token := NewToken()
	for range 2 { // repeated, it does not count twice
		b, err := s.Begin(ctx, s.key, token, 10*second, []byte("begin"))
		require.NoError(t, err)
		require.True(t, b.Sole)
	}
	r := s.wantKind(KindWriter)
	assert.Equal(t, token, r.Token)
	assert.EqualValues(t, 1, r.Writers)
	s.wantTTL(10*second, 20*second)
	s.wantGrant(GrantBarred, absent, NewToken())
	stored, err := s.End(ctx, s.key, token, Bracket{}, s.rec("new"), minute, []byte("end"))
	require.NoError(t, err)
	assert.True(t, stored)
	s.wantValue("new")
	s.wantTTL(minute, minute)
	assert.Equal(t, []string{"begin", "begin", "end"}, s.heard())

	stored, err = s.End(ctx, s.key, token, Bracket{}, s.rec("twice"), minute, nil)
	require.NoError(t, err)
	assert.False(t, stored)
	s.wantAbsent()

	token, _ = s.begin()
	stored, err = s.End(ctx, s.key, token, Bracket{}, nil, 0, []byte("failed"))
	require.NoError(t, err)
	assert.False(t, stored, "a commit without a result")
	s.wantAbsent()
	assert.Equal(t, []string{"failed"}, s.heard())
}

// testBrackets: OrderedUpdate. Of two brackets that overlap neither stores.
func testBrackets(t *testing.T, s *scene) {
	a, sole := s.begin()
	require.True(t, sole)
	b, sole := s.begin()
	require.False(t, sole)
	c, _ := s.begin()
	assert.EqualValues(t, 3, s.wantKind(KindHold).Writers)
	assert.False(t, s.end(a, "a"))
	assert.EqualValues(t, 2, s.wantKind(KindHold).Writers)
	assert.False(t, s.end(c, "c"))
	s.wantGrant(GrantBarred, absent, NewToken())
	assert.False(t, s.end(b, "b"))
	s.wantAbsent()

	// Many: the count does not wrap.
	for range maxWriters + 3 {
		s.begin()
	}
	assert.EqualValues(t, maxWriters, s.wantKind(KindHold).Writers)
	s.end(a, "x")
	assert.EqualValues(t, maxWriters, s.wantKind(KindHold).Writers)
}

func testBracketsDisturbed(t *testing.T, s *scene) {
	disturb := map[string]func(){
		"delete": func() { s.remove(DeleteOptions{}) },
		"set": func() {
			res, err := s.Set(t.Context(), s.key, s.rec("s"), minute, nil)
			require.NoError(t, err)
			require.True(t, res.Barred)
		},
		"expire": func() { require.NoError(t, s.Expire(t.Context(), s.key, nil)) },
		"prefix": func() {
			_, err := s.DeletePrefix(t.Context(), s.key, nil)
			require.NoError(t, err)
		},
		"end of another that was lost": func() { assert.False(t, s.end(NewToken(), "x")) },
	}
	for name, f := range disturb {
		s.key = "test:disturbed:" + name
		w, _ := s.begin()
		end := s.wantKind(KindWriter).LeaseEnd
		f()
		r := s.wantKind(KindHold)
		assert.Equal(t, end, r.LeaseEnd, name)
		assert.EqualValues(t, 1, r.Writers, name)
		s.wantGrant(GrantBarred, absent, NewToken())
		assert.False(t, s.end(w, "w"), name)
		s.wantAbsent()
	}
}

// testBracketsOver: what a crashed writer leaves bars until its end.
func testBracketsOver(t *testing.T, s *scene) {
	a, _ := s.begin()
	s.endLease(s.key)
	b, sole := s.begin()
	assert.True(t, sole, "the first is over")
	assert.False(t, s.end(a, "a"), "and has lost its bracket")
	assert.False(t, s.end(b, "b"), "its commit may have come in between")
	s.wantAbsent()

	a, _ = s.begin()
	s.endLease(s.key)
	assert.True(t, s.end(a, "a"), "over, but nobody came")
	a, _ = s.begin()
	s.endLease(s.key)
	s.granted()
	assert.False(t, s.end(a, "a"))
	s.wantAbsent()
}

// testBracketsLost: the end of a bracket that was lost before, and so is not
// counted, opens nothing for readers while another writer is at work.
func testBracketsLost(t *testing.T, s *scene) {
	lost, _ := s.begin()
	s.endLease(s.key)
	b, sole := s.begin()
	require.True(t, sole)
	s.remove(DeleteOptions{})
	assert.False(t, s.end(lost, "lost"))
	s.wantGrant(GrantBarred, absent, NewToken())
	assert.False(t, s.end(b, "b"))
	s.wantAbsent()

	b, _ = s.begin()
	c, _ := s.begin()
	assert.False(t, s.end(lost, "lost"))
	assert.False(t, s.end(b, "b"))
	assert.False(t, s.end(c, "c"))
	assert.EqualValues(t, 1, s.wantKind(KindHold).Writers, "who is missing is not known: it stands until its end")
	s.wantGrant(GrantBarred, absent, NewToken())
	s.endLease(s.key)
	s.granted()

	s.remove(DeleteOptions{})
	b, _ = s.begin()
	s.remove(DeleteOptions{Hold: minute})
	assert.False(t, s.end(lost, "lost"))
	assert.EqualValues(t, 1, s.wantKind(KindHold).Writers)
	assert.False(t, s.end(b, "b"))
	assert.Zero(t, s.wantKind(KindHold).Writers, "the hold is left")
}

func testBracketHold(t *testing.T, s *scene) {
	s.remove(DeleteOptions{Hold: minute})
	end := s.wantKind(KindHold).LeaseEnd
	w, sole := s.begin()
	assert.False(t, sole, "a hold lets nobody store")
	assert.False(t, s.end(w, "w"))
	r := s.wantKind(KindHold)
	assert.Equal(t, end, r.LeaseEnd, "a bracket does not end a hold")
	assert.Zero(t, r.Writers)
	s.endLease(s.key)

	w, _ = s.begin()
	s.remove(DeleteOptions{Hold: minute})
	r = s.wantKind(KindHold)
	assert.EqualValues(t, 1, r.Writers)
	assert.False(t, s.end(w, "w"))
	r = s.wantKind(KindHold)
	assert.Zero(t, r.Writers)
	s.wantGrant(GrantBarred, absent, NewToken())
}
