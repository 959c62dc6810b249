package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/bench/peer"
)

func newServer(t *testing.T) *server {
	t.Helper()
	s, err := startRedis()
	require.NoError(t, err)
	t.Cleanup(s.stop)
	return s
}

// reads is how many commands that read data the server has executed.
func reads(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	var n int64
	for line := range strings.Lines(c.Info(context.Background(), "commandstats").Val()) {
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if !slices.Contains([]string{"get", "getrange", "mget", "evalsha", "evalsha_ro"}, name) {
			continue
		}
		for field := range strings.SplitSeq(rest, ",") {
			if text, ok := strings.CutPrefix(field, "calls="); ok {
				var calls int64
				for _, r := range text {
					calls = calls*10 + int64(r-'0')
				}
				n += calls
			}
		}
	}
	return n
}

// Each peer really hits the tier that its row claims: no command for a hit in
// memory, one for each in Redis. And it returns what was stored.
func TestPeers_hitTheTierTheyClaim(t *testing.T) {
	s := newServer(t)
	stats := s.client()
	t.Cleanup(func() { _ = stats.Close() })
	keys := makeKeys(200)
	var checked []string
	check := func(p peer.Peer[User], perHit int64) {
		t.Run(p.Name, func(t *testing.T) {
			c, err := filled(p, peer.Env{Addr: s.addr, Bytes: 64 << 20}, keys, makeUser)
			require.NoError(t, err)
			defer func() { assert.NoError(t, c.Close()) }()
			before := reads(t, stats)
			for i, key := range keys {
				v, ok, err := c.Get(t.Context(), key)
				require.NoError(t, err)
				require.True(t, ok, key)
				v.Created = v.Created.UTC()
				require.Equal(t, makeUser(i), v)
			}
			assert.Equal(t, perHit*int64(len(keys)), reads(t, stats)-before)

			_, ok, err := c.Get(t.Context(), "absent")
			assert.NoError(t, err)
			assert.False(t, ok)
			require.NoError(t, c.Delete(t.Context(), keys[0]))
			assert.NoError(t, until(5*time.Second, func() error {
				if _, ok, err := c.Get(t.Context(), keys[0]); ok || err != nil {
					return assert.AnError
				}
				return nil
			}), "deleted")
		})
	}
	for _, p := range append(peer.Memory[User](), peer.Loading[User]()...) {
		if !slices.Contains(checked, p.Name) {
			checked = append(checked, p.Name)
			check(p, 0)
		}
	}
	for _, p := range peer.Remote[User]() {
		p.Name += "-remote"
		check(p, 1)
	}
}

// keeper keeps the strings that it is given.
type keeper struct {
	peer.Cache[int]
	mu    sync.Mutex // guards given
	given []string
}

func (k *keeper) keep(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.given = append(k.given, key)
}

func (k *keeper) Set(_ context.Context, key string, _ int) error {
	k.keep(key)
	return nil
}

func (k *keeper) Get(_ context.Context, key string) (int, bool, error) {
	k.keep(key)
	return 0, true, nil
}

// No peer holds a value under the very string that it is asked with.
func TestFill_storesUnderOtherStrings(t *testing.T) {
	keys := makeKeys(20)
	var k keeper
	require.NoError(t, fill(&k, keys, func(i int) int { return i }))
	require.Len(t, k.given, 3*len(keys))
	for _, given := range k.given {
		i := slices.Index(keys, given)
		require.GreaterOrEqual(t, i, 0)
		assert.NotSame(t, unsafe.StringData(keys[i]), unsafe.StringData(given))
	}
}

// Loading peers load once for many, and keep what they loaded.
func TestPeers_load(t *testing.T) {
	s := newServer(t)
	for _, p := range peer.Loading[User]() {
		c, err := p.Open(peer.Env{Addr: s.addr, Entries: 100, Bytes: 1 << 20, Name: "load-" + p.Name})
		require.NoError(t, err)
		loads := 0
		for range 3 {
			v, err := c.(peer.Loader[User]).Load(t.Context(), "k", func(context.Context) (User, error) {
				loads++
				return makeUser(5), nil
			})
			require.NoError(t, err)
			require.EqualValues(t, 5, v.ID)
		}
		assert.Equal(t, 1, loads, p.Name)
		require.NoError(t, c.Close())
	}
}

func TestMeasure_countsAndTimes(t *testing.T) {
	s, err := measure(load{workers: 2, ops: 100, each: true}, func(int, int) error { return nil })
	require.NoError(t, err)
	assert.EqualValues(t, 100, s["ops"])
	assert.GreaterOrEqual(t, s["p99-ns"], s["p50-ns"])
	_, err = measure(load{workers: 2, ops: 100}, func(int, int) error { return assert.AnError })
	assert.ErrorIs(t, err, assert.AnError)
}

func TestStatistics(t *testing.T) {
	assert.EqualValues(t, 2.5, median([]float64{4, 1, 2, 3}))
	assert.EqualValues(t, 3, median([]float64{9, 1, 3}))
	assert.InDelta(t, 0.25, spread([]float64{1, 2, 2, 2, 3, 3}), 0.26)
	p := percentiles([]time.Duration{5, 1, 4, 2, 3})
	assert.EqualValues(t, 3, p["p50-ns"])
	assert.EqualValues(t, 5, p["max-ns"])
}

func TestTable_readsForPeopleAndBenchstat(t *testing.T) {
	tb := &table{name: "X", columns: []string{"ns/op"}, base: "a", rows: []row{
		{contender{peer: "a", params: "n=1"}, []sample{{"ns/op": 100, "ops": 7}}, 0},
		{contender{peer: "b", params: "n=1"}, []sample{{"ns/op": 150, "ops": 7}}, 0},
	}}
	var text, raw strings.Builder
	tb.print(&text)
	assert.Contains(t, text.String(), "1.50")
	tb.raw(&raw, &tb.rows[1], tb.rows[1].samples[0])
	assert.Equal(t, "BenchmarkX/n=1/peer=b 7 150 ns/op\n", raw.String())
}

// Slices take turns job by job, their percentiles are those of all, and ratios those
// of the same turn.
func TestTable_slices(t *testing.T) {
	var order []string
	b := &bench{rounds: 1, length: time.Second, out: io.Discard, earlier: map[string][]sample{}}
	raw, err := os.Create(filepath.Join(t.TempDir(), "raw.txt"))
	require.NoError(t, err)
	defer func() { assert.NoError(t, raw.Close()) }()
	b.raw = raw
	var all []contender
	for _, params := range []string{"n=1", "n=2"} {
		for i, peer := range []string{"a", "b"} {
			l := b.requests(1)
			require.Equal(t, time.Second/slicesPerRound, l.length)
			all = append(all, contender{peer: peer, params: params, sliced: l.sliced, round: func() (sample, error) {
				order = append(order, params+peer)
				l.sliced.times = append(l.sliced.times, time.Duration(len(l.sliced.times)+1))
				return sample{"ops": 1, "ns/op": float64(i + 1)}, nil
			}})
		}
	}
	all = append(all, contender{peer: "a", params: "n=3", round: func() (sample, error) {
		order = append(order, "round")
		return sample{"ops": 1, "ns/op": 1}, nil
	}})
	tb := &table{name: "X", columns: []string{"ns/op", "p50-ns"}, base: "a"}
	require.NoError(t, tb.run(b, all))
	assert.Equal(t, []string{"round", "n=1a", "n=1b", "n=1b", "n=1a", "n=1a", "n=1b"}, order[:7])
	assert.Len(t, order, 1+4*slicesPerRound)
	slow := tb.find("b", "n=2")
	assert.EqualValues(t, slicesPerRound/2+1, slow.value("p50-ns"))
	assert.NotContains(t, slow.samples[0], "p50-ns")

	// From its raw text nothing is measured again, and the figures are the same.
	b.earlier, err = readRaw(raw.Name())
	require.NoError(t, err)
	again := &table{name: "X", columns: tb.columns, base: "a"}
	order = nil
	for i := range all {
		if all[i].sliced != nil {
			all[i].sliced = new(sliced)
		}
	}
	require.NoError(t, again.run(b, all))
	assert.Empty(t, order)
	assert.InEpsilon(t, slow.value("p50-ns"), again.find("b", "n=2").value("p50-ns"), 1e-3)
	assert.InEpsilon(t, slow.value("ns/op"), again.find("b", "n=2").value("ns/op"), 1e-3)
}

func TestRow_timesOfTheSameTurn(t *testing.T) {
	samples := func(values ...float64) (s []sample) {
		for _, v := range values {
			s = append(s, sample{"ns/op": v})
		}
		return s
	}
	base := &row{contender{sliced: new(sliced)}, samples(1, 2, 3), 0}
	r := &row{contender{sliced: new(sliced)}, samples(3, 2, 2.4), 0}
	assert.InEpsilon(t, 1, r.times(base, "ns/op"), 1e-9, "of slices")
	r.sliced = nil
	assert.InEpsilon(t, 1.2, r.times(base, "ns/op"), 1e-9, "of rounds")
}

// A run replaces what stands between the marks of the README, and nothing else.
func TestReadme_holdsTheMainTable(t *testing.T) {
	b := &bench{rounds: 3, redis: newServer(t), tables: []*table{{name: "L2Hit", rows: []row{
		{contender{peer: "tandem", params: "goroutines=256"}, []sample{{"ops/s": 300_000}}, 0},
		{contender{peer: "go-redis", params: "goroutines=256"}, []sample{{"ops/s": 60_000}}, 0},
	}}}}
	file := filepath.Join(t.TempDir(), "README.md")
	around := func(inside string) string { return "before\n" + readmeBegin + inside + readmeEnd + "\nafter\n" }
	require.NoError(t, os.WriteFile(file, []byte(around("\nold\n")), 0o600))
	text := b.summary(b.from([]string{"-traces", "/home/x/traces", "-out=/tmp/y"}), "bench/results")
	assert.Contains(t, text, "by `make bench BENCH=\"-traces traces -out=y\"`", "paths of a machine mean nothing elsewhere")
	assert.Contains(t, text, "go-redis 60 k (0.2×)")
	assert.Contains(t, text, "300 k")
	require.NoError(t, writeReadme(file, text))
	require.NoError(t, writeReadme(file, text), "again")
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, around("\n\n"+text+"\n"), string(got))

	real, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	assert.Contains(t, string(real), readmeBegin)
	assert.Contains(t, string(real), readmeEnd)
}
