package l2

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	second = time.Second
	minute = time.Minute
	limit  = 1 << 16
)

// testStore is the specification of Store's rules, held against every store.
func testStore(t *testing.T, e *env) {
	for name, f := range map[string]func(*testing.T, *scene){
		"read": testRead, "read limits": testReadLimits, "foreign": testForeign, "newer": testNewer,
		"lease": testLease, "lease seen": testLeaseSeen, "lease ttl": testLeaseTTL, "lease clock": testLeaseClock,
		"renew": testRenew, "release": testRelease, "fill": testFill, "voided": testVoided,
		"set": testSet, "set versioned": testSetVersioned, "delete": testDelete, "hold": testHold,
		"not before": testNotBefore, "delete versioned": testDeleteVersioned, "floor": testFloor, "fill versioned": testFillVersioned,
		"expire": testExpire, "begin end": testBeginEnd, "brackets": testBrackets, "brackets disturbed": testBracketsDisturbed,
		"brackets over": testBracketsOver, "brackets lost": testBracketsLost, "bracket hold": testBracketHold, "bracket orphan": testBracketOrphan, "prefix": testPrefix,
		"marker": testMarker, "raise": testRaise, "read many": testReadMany, "lease many": testLeaseMany, "set many": testSetMany,
		"book": testBook, "book floors": testBookFloors, "book full": testBookFull,
		"add": testAdd, "take": testTake, "count": testCount, "clock": testNow, "arguments": testArguments,
	} {
		t.Run(name, func(t *testing.T) {
			e.heard() // what the test before has left
			f(t, &scene{env: e, t: t, key: "test:" + name + ":1", brackets: make(map[Token]Bracket)})
		})
	}
}

// scene is a test of one key.
type scene struct {
	*env
	t        *testing.T
	key      string
	brackets map[Token]Bracket // that are open
}

func sample(payload string) *Record {
	return &Record{
		Kind: KindValue, Version: NewVersion(), FreshUntil: 1 << 50, StoredAt: 1 << 49, Schema: 7,
		Load: 3 * time.Millisecond, Cost: 99, CacheVersion: 1 << 40,
		Tags: []TagVersion{{"red", 5}, {"blue", 1 << 62}}, Payload: []byte(payload),
	}
}

func (s *scene) rec(payload string) []byte { return sample(payload).Append(nil, s.key) }

func (s *scene) sourced(payload string, source uint64) []byte {
	r := sample(payload)
	r.Source = source
	return r.Append(nil, s.key)
}

func (s *scene) set(payload string) {
	s.t.Helper()
	res, err := s.Set(s.t.Context(), s.key, s.rec(payload), minute, nil)
	require.NoError(s.t, err)
	require.True(s.t, res.Stored)
}

func (s *scene) read() Reply {
	s.t.Helper()
	r, err := s.Read(s.t.Context(), s.key, limit)
	require.NoError(s.t, err)
	return r
}

func (s *scene) wantValue(payload string) Record {
	s.t.Helper()
	r := s.read()
	require.Equal(s.t, StateRecord, r.State)
	require.Equal(s.t, string(KindValue), string(r.Record.Kind))
	require.Equal(s.t, payload, string(r.Record.Payload))
	return r.Record
}

func (s *scene) wantKind(k Kind) Record {
	s.t.Helper()
	r := s.read()
	require.Equal(s.t, StateRecord, r.State)
	require.Equal(s.t, string(k), string(r.Record.Kind))
	return r.Record
}

func (s *scene) wantAbsent() {
	s.t.Helper()
	require.Equal(s.t, StateAbsent, s.read().State)
}

func (s *scene) lease(seen Seen, token Token) Grant {
	s.t.Helper()
	g, err := s.Lease(s.t.Context(), s.key, seen, token, 10*second)
	require.NoError(s.t, err)
	return g
}

func (s *scene) wantGrant(want GrantKind, seen Seen, token Token) Grant {
	s.t.Helper()
	g := s.lease(seen, token)
	require.Equal(s.t, want, g.Kind)
	return g
}

// granted takes the lease on what stands there.
func (s *scene) granted() Token {
	s.t.Helper()
	token := NewToken()
	r := s.read()
	s.wantGrant(Granted, r.Seen(), token)
	return token
}

func (s *scene) fill(token Token, payload string) bool {
	s.t.Helper()
	ok, err := s.Fill(s.t.Context(), s.key, token, s.rec(payload), minute, nil)
	require.NoError(s.t, err)
	return ok
}

func (s *scene) remove(opt DeleteOptions) DeleteResult {
	s.t.Helper()
	res, err := s.Delete(s.t.Context(), s.key, opt, nil)
	require.NoError(s.t, err)
	return res
}

func (s *scene) begin() (Token, bool) {
	s.t.Helper()
	token := NewToken()
	b, err := s.Begin(s.t.Context(), s.key, token, 10*second, nil)
	require.NoError(s.t, err)
	s.brackets[token] = b
	return token, b.Sole
}

func (s *scene) end(token Token, payload string) bool {
	s.t.Helper()
	stored, err := s.End(s.t.Context(), s.key, token, s.brackets[token], s.rec(payload), minute, nil)
	require.NoError(s.t, err)
	return stored
}

func (s *scene) wantTTL(low, high time.Duration) {
	s.t.Helper()
	d := s.ttl(s.key)
	require.GreaterOrEqual(s.t, d, low-second)
	require.LessOrEqual(s.t, d, high)
}

var absent = Seen{}

func testRead(t *testing.T, s *scene) {
	s.wantAbsent()
	want := sample("hello")
	res, err := s.Set(t.Context(), s.key, want.Append(nil, s.key), 0, []byte("msg"))
	require.NoError(t, err)
	assert.True(t, res.Stored)
	assert.Positive(t, res.Deadline)
	r := s.read()
	require.Equal(t, StateRecord, r.State)
	assert.Equal(t, *want, r.Record)
	assert.Negative(t, s.ttl(s.key), "ttl 0 is no expiry")
	assert.Equal(t, []string{"msg"}, s.heard())

	r.Record.Payload[0] = 'j'
	s.wantValue("hello")
}

func testReadLimits(t *testing.T, s *scene) {
	s.set("12345678")
	for limit, want := range map[int]State{8: StateRecord, 7: StateTooLarge, 0: StateTooLarge} {
		r, err := s.Read(t.Context(), s.key, limit)
		require.NoError(t, err)
		assert.Equal(t, want, r.State, limit)
		assert.NotZero(t, r.Record.Version, "the head tells whose it is")
	}
	s.set(string(bytes.Repeat([]byte("x"), 300_000)))
	r, err := s.Read(t.Context(), s.key, 1000)
	require.NoError(t, err)
	assert.Equal(t, StateTooLarge, r.State, "cut off by the bounded read")
	s.wantGrant(GrantChanged, Seen{State: StateTooLarge, Version: 1}, NewToken())
	token := NewToken()
	s.wantGrant(Granted, r.Seen(), token)
	require.True(t, s.fill(token, "small"))
	s.wantValue("small")

	s.plant(s.key, bytes.Repeat([]byte("x"), 300_000))
	r, err = s.Read(t.Context(), s.key, 1000)
	require.NoError(t, err)
	assert.Equal(t, Seen{State: StateTooLarge}, r.Seen())
	s.wantGrant(Granted, r.Seen(), token)
}

func testForeign(t *testing.T, s *scene) {
	broken := s.rec("x")
	broken[offKind] = 'q'
	for name, data := range map[string][]byte{
		"text": []byte("hello"), "short": []byte("\x9f\xa4Td"), "cut head": s.rec("x")[:headLen-1],
		"kind": broken, "lead": append([]byte{0x98}, s.rec("x")[1:]...),
		"format 0": append([]byte("\x9f\xa4Tdm\x00"), s.rec("x")[6:]...),
	} {
		s.plant(s.key, data)
		require.Equal(t, StateForeign, s.read().State, name)
		s.wantGrant(GrantChanged, Seen{State: StateRecord, Version: 5}, NewToken())
		token := NewToken()
		s.wantGrant(Granted, s.readSeen(), token)
		require.True(t, s.fill(token, name), name)
		s.wantValue(name)

		s.plant(s.key, data)
		s.set(name)
		s.wantValue(name)

		s.plant(s.key, data)
		assert.False(t, s.remove(DeleteOptions{}).Removed, "no value of ours")
		s.wantAbsent()

		s.plant(s.key, data)
		require.NoError(t, s.Expire(t.Context(), s.key, nil))
		s.wantAbsent()

		s.plant(s.key, data)
		_, sole := s.begin()
		assert.True(t, sole)
		s.wantKind(KindWriter)
	}
}

func (s *scene) readSeen() Seen {
	s.t.Helper()
	r := s.read()
	return r.Seen()
}

func testNewer(t *testing.T, s *scene) {
	newer := s.rec("x")
	newer[offFormat] = format + 1
	s.plant(s.key, newer)
	require.Equal(t, StateNewer, s.read().State)
	s.wantGrant(GrantRefused, s.readSeen(), NewToken())
	s.wantGrant(GrantRefused, absent, NewToken())
	assert.Equal(t, newer, s.raw(s.key), "left alone by fills")
	assert.True(t, s.remove(DeleteOptions{}).Removed)
	s.plant(s.key, newer)
	s.set("over")
	s.wantValue("over")
}

func testLease(t *testing.T, s *scene) {
	a, b := NewToken(), NewToken()
	g := s.wantGrant(Granted, absent, a)
	assert.InDelta(t, s.Now(s.key), g.Time, 1e6)
	r := s.wantKind(KindReader)
	assert.Equal(t, a, r.Token)
	assert.Equal(t, g.Time+(10*second).Microseconds(), r.LeaseEnd)
	g = s.wantGrant(GrantBusy, absent, b)
	assert.InDelta(t, 10*second, g.Wait, float64(2*second))
	s.wantGrant(Granted, absent, a) // a retry of the same
	s.wantTTL(10*second, 20*second)

	s.endLease(s.key)
	s.wantGrant(Granted, absent, b)
	assert.False(t, s.fill(a, "a"), "b has taken over")
	assert.True(t, s.fill(b, "b"))
	assert.False(t, s.fill(b, "again"), "a fill uses the lease up")
	s.wantValue("b")

	// In a record's own fields.
	seen := s.readSeen()
	s.wantGrant(Granted, seen, a)
	s.wantGrant(Granted, seen, a)
	s.wantGrant(GrantBusy, seen, b)
	s.wantValue("b")
	s.endLease(s.key)
	s.wantGrant(Granted, seen, b)
	assert.True(t, s.fill(b, "c"))
	s.wantValue("c")
}

func testLeaseSeen(t *testing.T, s *scene) {
	s.set("v")
	old := s.readSeen()
	require.Equal(t, StateRecord, old.State)
	s.wantGrant(GrantChanged, absent, NewToken())
	s.wantGrant(GrantChanged, Seen{State: StateForeign}, NewToken())
	s.set("v")
	s.wantGrant(GrantChanged, old, NewToken())
	s.remove(DeleteOptions{})
	s.wantGrant(GrantChanged, old, NewToken())
	s.wantGrant(Granted, absent, NewToken())
	s.endLease(s.key)
	s.wantGrant(GrantChanged, old, NewToken())
	s.wantGrant(Granted, s.readSeen(), NewToken())

	corrupt := s.rec("damaged")
	corrupt[len(corrupt)-1] ^= 1
	s.plant(s.key, corrupt)
	seen := s.readSeen()
	require.Equal(t, StateCorrupt, seen.State)
	require.NotZero(t, seen.Version)
	token := NewToken()
	s.wantGrant(GrantChanged, Seen{State: StateCorrupt, Version: seen.Version + 1}, token)
	s.wantGrant(Granted, seen, token)
	require.True(t, s.fill(token, "sound"))
	s.wantValue("sound")
}

func testLeaseTTL(t *testing.T, s *scene) {
	s.set("v")
	s.setTTL(s.key, second)
	s.granted()
	s.wantTTL(10*second, 20*second)
	s.remove(DeleteOptions{})

	s.set("v")
	s.granted()
	s.wantTTL(minute, minute)
	s.remove(DeleteOptions{})

	_, err := s.Set(t.Context(), s.key, s.rec("v"), 0, nil)
	require.NoError(t, err)
	s.granted()
	assert.Negative(t, s.ttl(s.key), "a record without expiry gets none")
}

func testLeaseClock(t *testing.T, s *scene) {
	far := s.Now(s.key) + (LongestLease + minute).Microseconds()
	token := s.granted()
	s.setLeaseEnd(s.key, far)
	s.wantGrant(Granted, absent, NewToken())
	assert.False(t, s.fill(token, "x"))

	_, _ = s.begin()
	s.setLeaseEnd(s.key, far)
	s.set("the bracket's end is not to be believed")
	s.remove(DeleteOptions{Hold: second})
	s.setLeaseEnd(s.key, far)
	s.wantGrant(Granted, absent, NewToken())
}

func testRenew(t *testing.T, s *scene) {
	renew := func(token Token, d time.Duration, writer bool) bool {
		ok, err := s.Renew(t.Context(), s.key, token, d, writer)
		require.NoError(t, err)
		return ok
	}
	assert.False(t, renew(NewToken(), minute, true), "nothing there")
	token := s.granted()
	before := s.wantKind(KindReader).LeaseEnd
	assert.False(t, renew(NewToken(), minute, true))
	assert.True(t, renew(token, minute, false))
	assert.Greater(t, s.wantKind(KindReader).LeaseEnd, before)
	s.wantTTL(minute, 2*minute)
	s.endLease(s.key)
	assert.True(t, renew(token, minute, false), "over, but nobody took it")
	s.wantGrant(GrantBusy, absent, NewToken())
	require.True(t, s.fill(token, "v"))

	token = s.granted()
	assert.True(t, renew(token, 5*minute, false))
	assert.Equal(t, token, s.wantValue("v").Token)
	s.wantTTL(5*minute, 10*minute)
	assert.False(t, renew(Token{}, minute, true), "the zero token holds nothing")

	// Writers: alone, then shared, then gone.
	w, _ := s.begin()
	assert.True(t, renew(w, 5*minute, true))
	assert.Equal(t, w, s.wantKind(KindWriter).Token)
	_, _ = s.begin()
	held := s.wantKind(KindHold).LeaseEnd
	assert.True(t, renew(w, minute, true))
	assert.Equal(t, held+1, s.wantKind(KindHold).LeaseEnd, "never shortened, and seen by ends")
	assert.False(t, renew(w, minute, false))
	assert.EqualValues(t, 2, s.wantKind(KindHold).Writers)
	s.endLease(s.key)
	s.remove(DeleteOptions{Hold: minute})
	assert.False(t, renew(w, minute, true), "a plain hold is nobody's")
}

func testRelease(t *testing.T, s *scene) {
	release := func(token Token) { require.NoError(t, s.Release(t.Context(), s.key, token)) }
	token := s.granted()
	release(NewToken())
	release(Token{})
	s.wantGrant(GrantBusy, absent, NewToken())
	release(token)
	s.wantAbsent()

	s.set("v")
	token = s.granted()
	release(NewToken())
	assert.Equal(t, token, s.wantValue("v").Token)
	release(token)
	r := s.wantValue("v")
	assert.True(t, r.Token.IsZero())
	assert.Zero(t, r.LeaseEnd)
	release(Token{})
	s.wantValue("v")
	w, _ := s.begin()
	release(w)
	s.wantKind(KindWriter)
}

func testFill(t *testing.T, s *scene) {
	assert.False(t, s.fill(NewToken(), "v"), "no lease")
	assert.False(t, s.fill(Token{}, "v"), "the zero token")
	s.set("old")
	assert.False(t, s.fill(Token{}, "v"), "a record without lease has the zero token")
	s.remove(DeleteOptions{})
	token := s.granted()
	s.heard()
	ok, err := s.Fill(t.Context(), s.key, NewToken(), s.rec("v"), minute, []byte("not stored"))
	require.NoError(t, err)
	assert.False(t, ok)
	s.endLease(s.key)
	ok, err = s.Fill(t.Context(), s.key, token, s.rec("v"), minute, []byte("stored"))
	require.NoError(t, err)
	assert.True(t, ok, "over, but nobody took it")
	assert.Equal(t, []string{"stored"}, s.heard())
	s.wantTTL(minute, minute)
	w, _ := s.begin()
	assert.False(t, s.fill(w, "v"), "a writer's token is none for readers")
	s.wantKind(KindWriter)
}

// testVoided: NoStaleFill. Whatever changes the record takes the lease away.
func testVoided(t *testing.T, s *scene) {
	ctx := t.Context()
	changes := map[string]func(){
		"set":    func() { s.set("new") },
		"delete": func() { s.remove(DeleteOptions{}) },
		"hold":   func() { s.remove(DeleteOptions{Hold: second}) },
		"versioned": func() {
			s.remove(DeleteOptions{Version: 3})
		},
		"expire": func() { require.NoError(t, s.Expire(ctx, s.key, nil)) },
		"prefix": func() {
			_, err := s.DeletePrefix(ctx, s.key, nil)
			require.NoError(t, err)
		},
		"begin": func() { s.begin() },
		"update": func() {
			w, _ := s.begin()
			require.True(t, s.end(w, "new"))
		},
		"end of a lost bracket": func() { s.end(NewToken(), "x") },
		"evicted": func() {
			s.remove(DeleteOptions{})
		},
	}
	for name, change := range changes {
		for _, present := range []bool{false, true} {
			s.key = "test:voided:" + name + map[bool]string{true: ":present"}[present]
			if present {
				s.set("old")
			}
			token := s.granted()
			change()
			assert.False(t, s.fill(token, "stale"), "%s, present %v", name, present)
			r := s.read()
			assert.NotEqual(t, "stale", string(r.Record.Payload), name)
		}
	}
}

func testSet(t *testing.T, s *scene) {
	s.heard()
	w, _ := s.begin()
	res, err := s.Set(t.Context(), s.key, s.rec("v"), minute, []byte("barred"))
	require.NoError(t, err)
	assert.True(t, res.Barred)
	assert.False(t, res.Stored)
	assert.Equal(t, []string{"barred"}, s.heard())
	r := s.wantKind(KindHold)
	assert.EqualValues(t, 1, r.Writers)
	assert.Equal(t, w, r.Token, "whose end is missing")
	s.wantGrant(GrantBarred, absent, NewToken())
	s.endLease(s.key)
	s.set("over")
	s.wantValue("over")
	s.remove(DeleteOptions{Hold: minute})
	s.set("over a plain hold")
	s.wantValue("over a plain hold")
}

func testNow(t *testing.T, s *scene) {
	g := s.lease(absent, NewToken())
	assert.LessOrEqual(t, g.Time, s.Now(s.key))
	assert.InDelta(t, g.Time, s.Earliest(s.key), 2e6)
	assert.LessOrEqual(t, s.Earliest(s.key), s.Now(s.key)+1e5)
	assert.True(t, s.Available(s.key))
	_, err := s.Ping(t.Context())
	assert.NoError(t, err)
}

func testArguments(t *testing.T, s *scene) {
	ctx, token := t.Context(), NewToken()
	isBad := func(err error) {
		t.Helper()
		assert.ErrorIs(t, err, ErrArgument)
	}
	_, err := s.Read(ctx, "", limit)
	isBad(err)
	_, err = s.Lease(ctx, s.key, absent, Token{}, second)
	isBad(err)
	for _, d := range []time.Duration{0, -1, LongestLease + 1} {
		_, err = s.Lease(ctx, s.key, absent, token, d)
		isBad(err)
		_, err = s.Renew(ctx, s.key, token, d, false)
		isBad(err)
		_, err = s.Begin(ctx, s.key, token, d, nil)
		isBad(err)
	}
	_, err = s.Delete(ctx, s.key, DeleteOptions{Hold: LongestLease + 1}, nil)
	isBad(err)
	_, err = s.Set(ctx, s.key, []byte("no record"), 0, nil)
	isBad(err)
	_, err = s.Set(ctx, s.key, s.rec("v"), -1, nil)
	isBad(err)
	_, err = s.SetVersioned(ctx, s.key, s.rec("no source version"), 0, nil)
	isBad(err)
	_, err = s.Raise(ctx, s.key, 0, []byte("1234567"))
	isBad(err)
	_, err = s.DeletePrefix(ctx, "", nil)
	isBad(err)
	_, err = s.Add(ctx, s.key, 1, -second)
	isBad(err)
	s.wantAbsent()
}
