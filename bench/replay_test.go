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
	b := &bench{earlier: rounds}
	for _, s := range want {
		got, ok := b.known(tab.fullName(r))
		require.True(t, ok)
		assert.Equal(t, s, got)
	}
	_, ok := b.known(tab.fullName(r))
	assert.False(t, ok, "the rest is measured")
	_, err = readRaw(filepath.Join(t.TempDir(), "absent"))
	assert.Error(t, err)
}
