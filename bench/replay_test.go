package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a run writes is what -from reads, round by round.
func TestReadRaw(t *testing.T) {
	var raw bytes.Buffer
	raw.WriteString("goos: linux\n")
	tab := &table{name: "L2Hit"}
	r := &row{contender: contender{peer: "tandem", params: "goroutines=64"}}
	want := []sample{{"ops": 1000, "ns/op": 12.5, "p99-ns": 7}, {"ops": 900, "ns/op": 13, "p99-ns": 8}}
	for _, s := range want {
		tab.raw(&raw, r, s)
	}
	file := filepath.Join(t.TempDir(), "raw.txt")
	require.NoError(t, os.WriteFile(file, raw.Bytes(), 0o600))
	rounds, err := readRaw(file)
	require.NoError(t, err)
	assert.Equal(t, want, (&bench{earlier: rounds}).known(tab.fullName(r)))
	_, err = readRaw(filepath.Join(t.TempDir(), "absent"))
	assert.Error(t, err)
}

// What an earlier run has is neither measured nor prepared for, and says by itself
// when and how it was measured; what it lacks is measured.
func TestMeasure_takesEarlierRounds(t *testing.T) {
	var raw bytes.Buffer
	opened, run := 0, 0
	c := contender{
		peer:  "tandem",
		open:  func() error { opened++; return nil },
		round: func() (sample, error) { run++; return sample{"ops": 1, "ns/op": 9}, nil },
	}
	was := &origin{Date: "2026-01-02", Command: "make bench", Machine: "m", Rounds: "2 rounds", Versions: "v"}
	file := filepath.Join(t.TempDir(), "raw.txt")
	f, err := os.Create(file)
	require.NoError(t, err)
	b := &bench{rounds: 2, out: &raw, raw: f, origin: was, earlier: map[string][]sample{"X/peer=tandem": {{"ns/op": 1}, {"ns/op": 3}}}}
	tab := &table{name: "X", columns: []string{"ns/op"}}
	require.NoError(t, tab.run(b, []contender{c}))
	assert.Zero(t, opened+run)
	assert.EqualValues(t, 2, tab.rows[0].value("ns/op"))
	require.NoError(t, b.from(nil).write(f))
	require.NoError(t, f.Close())
	got, err := readOrigin(file)
	require.NoError(t, err)
	assert.Equal(t, was, got)
	again, err := readRaw(file)
	require.NoError(t, err)
	assert.Len(t, again["X/peer=tandem"], 2)

	b.rounds, b.redis = 3, newServer(t)
	b.raw, err = os.Create(file)
	require.NoError(t, err)
	tab = &table{name: "X", columns: []string{"ns/op"}, parallel: 2}
	require.NoError(t, tab.run(b, []contender{c}))
	assert.Equal(t, []int{1, 1}, []int{opened, run})
	assert.Len(t, tab.rows[0].samples, 3)
	assert.NotEqual(t, "2026-01-02", b.from(nil).Date)
	require.NoError(t, b.raw.Close())
}

// Hit ratios of an earlier run stand for a trace that is not at hand, if they are
// all there.
func TestEarlierTraces(t *testing.T) {
	b := &bench{earlier: map[string][]sample{}, tables: []*table{{title: "Hit ratio: seen"}}}
	for _, name := range ratioPeers() {
		for _, capacity := range []int{100, 20} {
			b.earlier["HitRatio/"+ratioParams("p3", capacity)+"/peer="+name] = make([]sample, 3)
		}
	}
	b.earlier["HitRatio/trace=seen/capacity=5/peer=otter"] = make([]sample, 3)
	assert.Equal(t, []string{"p3"}, b.earlierTraces())
	capacities, rounds := b.earlierCapacities("p3")
	assert.Equal(t, []int{20, 100}, capacities)
	assert.Equal(t, 3, rounds)
	delete(b.earlier, "HitRatio/trace=p3/capacity=20/peer=otter")
	capacities, _ = b.earlierCapacities("p3")
	assert.Nil(t, capacities, "cut off")
}
