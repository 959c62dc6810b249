package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// The demo starts itself again for its services and for Redis. In a test that is
// the test binary.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(dispatchBroken(os.Args[1:]))
	}
	// With the race detector a process lingers for a second when it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	// Runs wait more than they work, so more of them fit in than there are cores.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// small is a run that a test can wait for.
func small(t *testing.T, redis string) config {
	t.Helper()
	cfg, err := parseFlags([]string{
		"-duration=1200ms", "-outage=300ms", "-heartbeat=100ms", "-users=300", "-rate=500", "-workers=16",
		"-redis=" + redis, "-dir=" + t.TempDir(),
	}, io.Discard)
	require.NoError(t, err)
	return cfg
}

// wantStatus runs the demo and wants an exit status and what it says.
func wantStatus(t *testing.T, cfg config, status int, says ...string) {
	t.Helper()
	var out, errs bytes.Buffer
	got := perform(t.Context(), cfg, &out, &errs)
	assert.Equal(t, status, got, "%s%s", out.String(), errs.String())
	for _, text := range says {
		assert.Contains(t, out.String()+errs.String(), text)
	}
	left, err := filepath.Glob(filepath.Join(cfg.Dir, "run*"))
	require.NoError(t, err)
	assert.Empty(t, left, "a run removes what it has written")
}

func TestDemo_holdsOverRedis(t *testing.T) {
	t.Parallel()
	wantStatus(t, small(t, redisReal), exitHeld, "COHERENCE, over redis-server ", "Every promise held.")
}

func TestDemo_holdsOverMiniredisAndSaysSo(t *testing.T) {
	t.Parallel()
	wantStatus(t, small(t, redisMini), exitHeld, "COHERENCE, over embedded miniredis", "Every promise held.")
}

func TestDemo_withoutRedisServerTakesMiniredis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	redis, err := newRedis(redisAuto, t.TempDir())
	require.NoError(t, err)
	assert.Equal(t, "embedded miniredis (redis-server is not on PATH)", redis.String())
	_, err = newRedis(redisReal, t.TempDir())
	require.ErrorContains(t, err, "redis-server")
}

// What a demo is worth shows when something is broken on purpose.
func TestDemo_failsWhenAServiceIsBroken(t *testing.T) {
	for name, says := range map[string][]string{
		careless: {
			"ReadYourWrites broke", "Untrusted broke", "FailOpen broke: requests that failed",
			"updates were acknowledged, and the services count",
		},
		deaf:       {"stale reads beyond"},
		indebted:   {"NothingForgotten broke: stale reads", "NothingForgotten broke: users that are old at the end"},
		mortal:     {"ended by itself"},
		unpromised: {"the services state a Δ of 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := small(t, redisReal)
			cfg.service = name
			if name == indebted {
				cfg.Outage = time.Second // for some probes
				cfg.Duration += 2 * cfg.Outage
			}
			wantStatus(t, cfg, exitBroken, says...)
		})
	}
}

func TestDemo_endsWhenInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	cfg := small(t, redisMini)
	cfg.Duration = time.Hour
	var out, errs bytes.Buffer
	assert.Equal(t, exitInterrupted, perform(ctx, cfg, &out, &errs), out.String()+errs.String())
	assert.NotContains(t, out.String(), "Every promise held.")
}

func TestDemo_runsOncePerDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := openWorkspace(t.Context(), dir)
	require.NoError(t, err)
	_, err = openWorkspace(t.Context(), dir)
	require.ErrorContains(t, err, "another demo works in "+dir)
	require.NoError(t, first.Close())
	again, err := openWorkspace(t.Context(), dir)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestFlags(t *testing.T) {
	for args, says := range map[string]string{
		"-outage=0s":                "-outage: not above 0",
		"-duration=5s":              "-duration: below 1s or twice the outage",
		"-latency=-1s":              "-latency: negative",
		"-heartbeat=1ms":            "-heartbeat: below 50ms",
		"-users=1":                  "-users: below 10",
		"-rate=-1":                  "-rate: negative",
		"-workers=0":                "-workers: below 1",
		"-rate=1 -workers=100":      "-rate: below a tenth of the workers",
		"-users=1 -rate=-1":         "-users: below 10\n-rate: negative",
		"-rate=many":                "invalid value",
		"-nonsense":                 "not defined",
		"please":                    `unexpected argument "please"`,
		"-redis=rabbit -users=1000": `-redis: "rabbit" is none of`,
	} {
		t.Run(args, func(t *testing.T) {
			var out, errs bytes.Buffer
			assert.Equal(t, exitUsage, demo(strings.Fields(args), &out, &errs))
			assert.Contains(t, errs.String(), says)
			assert.Empty(t, out.String())
		})
	}
	var out, errs bytes.Buffer
	assert.Equal(t, exitHeld, demo([]string{"-help"}, &out, &errs), "who asks for help is not wrong")
	assert.Contains(t, errs.String(), "-duration")
}

func TestFlags_defaultsEndInUnderAMinute(t *testing.T) {
	cfg, err := parseFlags(nil, io.Discard)
	require.NoError(t, err)
	assert.Equal(t, 100_000, cfg.Users)
	assert.Equal(t, 3*time.Second, cfg.Outage)
	assert.Equal(t, 2*time.Millisecond, cfg.Latency)
	settle := promisedDelta(cfg.Heartbeat)
	assert.Less(t, cfg.Duration+spareTime+settle, 45*time.Second, "the rest is for the database and the sweep")
}
