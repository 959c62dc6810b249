package invalidation_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/invalidation"
)

// changeRecorder is a recorder of what a Listener says.
type changeRecorder struct{ *recorder }

func newChangeRecorder(t testing.TB) changeRecorder { return changeRecorder{newRecorder(t)} }

func (r changeRecorder) Changed(keys []string) { r.record(event{changed: keys}) }
func (r changeRecorder) Flushed()              { r.record(event{flushed: true}) }
func (r changeRecorder) Refused(err error)     { r.record(event{refused: err}) }

// tells reports whether an event names the key.
func tells(e event, key string) bool { return slices.Contains(e.changed, key) }

func (r changeRecorder) awaitChange(from int, key string) int {
	r.t.Helper()
	return r.await(from, "the change of "+key, func(e event) bool { return tells(e, key) })
}

// awaitProof waits for proof that everything up to now was told.
func (r changeRecorder) awaitProof(from int) int {
	r.t.Helper()
	return r.awaitHeard(from, time.Now())
}

// changes returns how often a key was told.
func (r changeRecorder) changes(key string) int {
	count := 0
	for _, e := range r.all() {
		if tells(e, key) {
			count++
		}
	}
	return count
}

// attentive are options that make faults show soon.
func attentive() invalidation.TrackingOptions {
	o := quick()
	return invalidation.TrackingOptions{
		Prefix: "p:", PingEvery: o.PingEvery, DeadAfter: o.DeadAfter, MinBackoff: o.MinBackoff, MaxBackoff: o.MaxBackoff,
	}
}

// mustListen listens and waits for the first proof.
func mustListen(t testing.TB, client redis.UniversalClient, r changeRecorder) *invalidation.Listener {
	t.Helper()
	l := listen(t, client, attentive(), r)
	r.awaitHeard(0, time.Time{})
	return l
}

func listen(t testing.TB, client redis.UniversalClient, o invalidation.TrackingOptions, r changeRecorder) *invalidation.Listener {
	t.Helper()
	tracking, err := invalidation.NewTracking(client, o)
	require.NoError(t, err)
	l, err := tracking.Listen(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() }) // closed by the test already: its business
	return l
}

// C2, C5: whatever changes a key is told, and nothing else.
func TestTracking_tellsEveryChange(t *testing.T) {
	srv := redistest.Start(t)
	for _, tt := range []struct {
		name     string
		protocol int
	}{{"by a client that speaks RESP2", 2}, {"by a client that speaks RESP3", 3}} {
		t.Run(tt.name, func(t *testing.T) {
			opt := srv.Options()
			opt.Protocol = tt.protocol
			r := newChangeRecorder(t)
			l := mustListen(t, client(t, opt), r)
			for i, command := range [][]any{
				{"SET", "p:key", "1"},
				{"APPEND", "p:key", "2"},
				{"SETRANGE", "p:key", 0, "3"},
				{"EXPIRE", "p:key", 100},
				{"PERSIST", "p:key"},
				{"RENAME", "p:key", "q:key"},
				{"RENAME", "q:key", "p:key"},
				{"EVAL", "return redis.call('SET', KEYS[1], 'x')", 1, "p:key"},
				{"DEL", "p:key"},
				{"HSET", "p:key", "field", "value"},
				{"UNLINK", "p:key"},
				{"RESTORE", "p:key", 0, dumped(srv)},
				{"COPY", "p:key", "p:other"},
				{"COPY", "p:other", "p:key", "REPLACE"},
				{"PEXPIRE", "p:key", 30},
			} {
				from := r.len()
				srv.Do(command...)
				if i != 12 { // COPY does not change its source
					r.awaitChange(from, "p:key")
				}
			}
			r.awaitChange(r.len(), "p:key") // it expires, without anybody's asking
			srv.Do("SET", "q:key", "1")
			srv.Do("GET", "p:other")
			from := r.len()
			r.awaitProof(from)
			for _, e := range r.all()[from:] {
				assert.Empty(t, e.changed)
			}
			stats := l.Stats()
			assert.Equal(t, []int{1, 1}, []int{stats.Servers, stats.Confirmed})
			assert.GreaterOrEqual(t, stats.Changes, uint64(15))
			assert.EqualValues(t, 1, stats.Gaps)
			require.NoError(t, l.Close())
			require.NoError(t, l.Close())
			assert.Zero(t, l.Stats().Confirmed)
		})
	}
}

// dumped returns what RESTORE takes.
func dumped(srv *redistest.Server) any {
	srv.Do("SET", "dumped", "x")
	return srv.Do("DUMP", "dumped")
}

// C2: what Redis gives up for want of memory.
func TestTracking_tellsEvictions(t *testing.T) {
	srv := redistest.Start(t)
	srv.MaxMemory(4<<20, "allkeys-lru")
	r := newChangeRecorder(t)
	mustListen(t, srv.Client(t), r)
	srv.Do("SET", "p:victim", "1")
	r.awaitChange(0, "p:victim")
	from := r.len()
	client := srv.Client(t)
	// Which keys go is up to a sample of those of one age: until ours does.
	for round := 0; srv.Do("EXISTS", "p:victim") != int64(0); round++ {
		require.Less(t, round, 100, "not evicted")
		pipe := client.Pipeline()
		for i := range 5_000 {
			pipe.Set(t.Context(), fmt.Sprint("q:", round, ":", i), strings.Repeat("x", 1000), 0)
		}
		_, err := pipe.Exec(t.Context())
		require.NoError(t, err)
	}
	r.awaitChange(from, "p:victim")
}

// C2: all keys at once.
func TestTracking_tellsFlushes(t *testing.T) {
	srv := redistest.Start(t)
	r := newChangeRecorder(t)
	l := mustListen(t, srv.Client(t), r)
	for i, command := range [][]any{{"FLUSHALL"}, {"FLUSHDB"}, {"FLUSHALL", "ASYNC"}} {
		from := r.len()
		srv.Do(command...)
		r.await(from, fmt.Sprint(command), func(e event) bool { return e.flushed })
		assert.EqualValues(t, i+1, l.Stats().Flushes)
	}
}

// C3: a change that was confirmed to whoever made it comes before the answer to
// a PING that was sent afterward.
func TestTracking_hearsOnlyBehindEveryChange(t *testing.T) {
	srv := redistest.Start(t)
	r := newChangeRecorder(t)
	listen(t, srv.Client(t), invalidation.TrackingOptions{Prefix: "p:", PingEvery: time.Millisecond, DeadAfter: 5 * time.Second}, r)
	from := r.awaitHeard(0, time.Time{})
	writer := srv.Client(t)
	for i := range 2000 {
		key := "p:" + strconv.Itoa(i)
		require.NoError(t, writer.Set(t.Context(), key, "x", 0).Err())
		heard := r.awaitProof(from)
		require.LessOrEqual(t, r.awaitChange(from, key), heard, "the answer overtook change %d", i)
		from = heard
	}
}

// A change may come late or twice, a number of changes at once: all are told.
func TestTracking_tellsManyChanges(t *testing.T) {
	const rounds, count = 20, 2000
	srv := redistest.Start(t)
	r := newChangeRecorder(t)
	l := mustListen(t, srv.Client(t), r)
	for round := range rounds {
		pipe := srv.Client(t).Pipeline()
		for i := range count {
			pipe.Set(t.Context(), fmt.Sprintf("p:%d:%d", round, i), "x", 0)
		}
		_, err := pipe.Exec(t.Context())
		require.NoError(t, err)
	}
	r.awaitProof(0)
	told := make(map[string]bool)
	for _, e := range r.all() {
		for _, key := range e.changed {
			told[key] = true
		}
	}
	assert.Len(t, told, rounds*count)
	assert.GreaterOrEqual(t, l.Stats().Changes, uint64(rounds*count))
	assert.EqualValues(t, 1, l.Stats().Gaps)
}

func TestNewTracking_namesEveryFault(t *testing.T) {
	_, err := invalidation.NewTracking(nil, invalidation.TrackingOptions{PingEvery: time.Second, DeadAfter: time.Second})
	for _, text := range []string{"client", "Prefix", "DeadAfter"} {
		require.ErrorContains(t, err, text)
	}
	tracking, err := invalidation.NewTracking(client(t, &redis.Options{Addr: "127.0.0.1:1"}), attentive())
	require.NoError(t, err)
	_, err = tracking.Listen(nil)
	require.Error(t, err)
}
