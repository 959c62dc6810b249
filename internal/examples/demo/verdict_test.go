package main

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sound is a run of a minute in which every promise was tried and held. The
// outage lasts from 20 s to 30 s.
func sound() *measured {
	begun := time.Now()
	at := func(s float64) time.Time { return begun.Add(time.Duration(s * float64(time.Second))) }
	m := &measured{
		Config: config{Duration: time.Minute, Rate: 10, Heartbeat: time.Second},
		Limits: limits{Delta: 2 * time.Second, LocalTTL: 5 * time.Second, Replay: time.Second},
		Begun:  begun, Ended: at(60), Outage: outage{Down: at(20), Back: at(30)}, Away: 10,
		Swept: 5, Redis: "test",
	}
	for s := range 60 {
		for _, from := range sources() {
			if away := s >= 20 && s < 30; away == (from == fromStale) || from == fromLoad {
				m.Samples = append(m.Samples, sample{
					sent: at(float64(s)), source: from,
					http: time.Duration(s+1) * time.Millisecond, cache: time.Millisecond, query: time.Millisecond,
				})
			}
		}
		m.Updates = append(m.Updates, timed{at(float64(s)), 4 * time.Millisecond, int64(s)})
		m.ProbeUpdates = append(m.ProbeUpdates, timed{at(float64(s)), 4 * time.Millisecond, int64(s)})
		m.Probes = append(m.Probes, probe{at: at(float64(s)), current: time.Duration(s) * time.Millisecond})
		m.Probed = append(m.Probed, sample{sent: at(float64(s)), source: fromL1})
	}
	m.Checked = len(m.Samples) + len(m.Probed) + 2*m.Swept
	for range processes {
		s := serviceStats{Updates: int64(len(m.Updates)+len(m.ProbeUpdates)) / processes}
		s.Cache.HitsL1, s.Cache.Collapsed, s.Cache.FillsRefused = 100, 7, 40
		s.Node.Bus.Sent, s.Node.Bus.Received = 60, 60
		s.Node.Journal.Unconfirmed, s.Node.Journal.Paid = 10, 9
		m.Services = append(m.Services, s)
	}
	return m
}

func TestVerdict_soundRunHolds(t *testing.T) {
	r := analyze(sound())
	require.Empty(t, r.Verdict)
	var out bytes.Buffer
	r.print(&out)
	assert.Contains(t, out.String(), "Every promise held.")
	assert.NotContains(t, out.String(), "FAILED")
}

// Each line is a way for a run to be wrong or to prove nothing. None of them may
// pass for a success.
func TestVerdict_namesWhatIsWrong(t *testing.T) {
	keep := func(m *measured, wanted func(*sample) bool) {
		var kept []sample
		for i := range m.Samples {
			if wanted(&m.Samples[i]) {
				kept = append(kept, m.Samples[i])
			}
		}
		m.Samples = kept
	}
	for _, tt := range []struct {
		says  string
		spoil func(m *measured)
	}{
		{"ReadYourWrites broke", func(m *measured) { m.Broken.OwnWrite = 1 }},
		{"BoundedStaleness broke", func(m *measured) { m.Broken.Late = 1 }},
		{"NothingForgotten broke: stale reads", func(m *measured) { m.Broken.LateAway = 1 }},
		{"Untrusted broke", func(m *measured) { m.Broken.Wrong = 1 }},
		{"FailOpen broke: requests that failed: 1", func(m *measured) { m.Failed = 1 }},
		{"FailOpen broke: reads at the end", func(m *measured) { m.Unswept = 1 }},
		{"NothingForgotten broke: users that are old", func(m *measured) { m.Diverged = 1 }},
		{"the database is not what was acknowledged", func(m *measured) { m.Mistaken = 1 }},
		{"still owed at the end: 2", func(m *measured) { m.Services[1].Node.Journal.Owed = 2 }},
		{"FailOpen broke: a read took 6s", func(m *measured) { m.Samples[0].http = 6 * time.Second }},
		{"something did not end well: it hangs", func(m *measured) { m.Leftover = errors.New("it hangs") }},

		{"0 reads of the load", func(m *measured) { m.Samples = nil }},
		{"0 updates,", func(m *measured) { m.Updates, m.ProbeUpdates = nil, nil }},
		{"0 probes,", func(m *measured) { m.ProbeUpdates = nil }},
		{"0 probes whose effect was seen", func(m *measured) { m.Probes = nil }},
		{"0 users read once more", func(m *measured) { m.Swept = 0 }},
		{"0 times that Redis did not answer", func(m *measured) { m.Away = 0 }},
		{"1 times that Redis answered in the outage", func(m *measured) { m.Answered = 1 }},
		{"2 values that were loaded while", func(m *measured) {
			m.Services[0].Cache.FillsRefused, m.Services[1].Cache.FillsRefused = 1, 1
		}},
		{"reads were judged", func(m *measured) { m.Checked = 1 }},
		{"updates were acknowledged, and the services count", func(m *measured) { m.Services[0].Updates++ }},
		{"1 services that told", func(m *measured) { m.Services = m.Services[:1] }},
		{"0 updates in the phase after", func(m *measured) { m.Updates, m.ProbeUpdates = m.Updates[:25], m.ProbeUpdates[:25] }},
		{"0 reads from memory in the phase outage", func(m *measured) { keep(m, func(s *sample) bool { return s.source != fromStale }) }},
		{"0 loads in the phase before", func(m *measured) { keep(m, func(s *sample) bool { return s.source != fromLoad }) }},
		{"0 reads from Redis in the phase after", func(m *measured) { keep(m, func(s *sample) bool { return s.source != fromL2 }) }},
		{"0 probes seen by the other process in the phase before", func(m *measured) { m.Probes = m.Probes[30:] }},
		{"0 hits in the memory of process A", func(m *measured) { m.Services[0].Cache.HitsL1 = 0 }},
		{"0 invalidations sent by process B", func(m *measured) { m.Services[1].Node.Bus.Sent = 0 }},
		{"0 invalidations received by process B", func(m *measured) { m.Services[1].Node.Bus.Received = 0 }},
		{"0 invalidations that the outage kept from Redis in process A", func(m *measured) { m.Services[0].Node.Journal.Unconfirmed = 0 }},
		{"0 invalidations made up for by process A", func(m *measured) { m.Services[0].Node.Journal.Paid = 0 }},
	} {
		t.Run(tt.says, func(t *testing.T) {
			m := sound()
			tt.spoil(m)
			m.Faults = []string{"a read was wrong"}
			r := analyze(m)
			require.NotEmpty(t, r.Verdict)
			var out bytes.Buffer
			r.print(&out)
			assert.Contains(t, out.String(), tt.says)
			assert.Contains(t, out.String(), "FAILED")
			assert.Contains(t, out.String(), "a read was wrong")
			assert.NotContains(t, out.String(), "Every promise held.")
		})
	}
}

func TestAnalyze_splitsTheRunAtTheOutage(t *testing.T) {
	m := sound()
	m.Samples[0].verdict = verdict{Lag: 3 * time.Millisecond}
	m.Samples[1].verdict = verdict{Lag: 4 * time.Second, Excused: true}
	m.Probed[0].verdict = verdict{Lag: 5 * time.Millisecond}
	r := analyze(m)
	require.Len(t, r.Phases, 3)
	before, away, after := r.Phases[0], r.Phases[1], r.Phases[2]
	assert.Equal(t, 20*time.Second, before.Length)
	assert.Equal(t, 10*time.Second, away.Length)
	assert.Equal(t, 30*time.Second, after.Length)
	assert.Equal(t, map[source]int{fromL1: 20, fromL2: 20, fromLoad: 20, fromShared: 20}, before.Sources)
	assert.Equal(t, map[source]int{fromStale: 10, fromLoad: 10}, away.Sources)
	assert.InDelta(t, 0.5, before.share(fromL1, fromL2, fromStale), 1e-9)
	assert.InDelta(t, 4, before.rate(before.Reads), 1e-9)
	assert.Equal(t, latency{Count: 20, P50: 26 * time.Millisecond, P99: 30 * time.Millisecond, Max: 30 * time.Millisecond}, away.HTTP)
	assert.Equal(t, 30, after.Updates)
	assert.Equal(t, 30, after.Probes)
	assert.Equal(t, lag{Usual: 5 * time.Millisecond, Away: 4 * time.Second, Old: 3}, r.Lag)
	assert.Equal(t, 60, r.Query.Count)
	assert.Equal(t, 30, r.Delete.Count)
	assert.Equal(t, 30, r.Update.Count)
	assert.EqualValues(t, 14, r.Sum.Cache.Collapsed)
	assert.Equal(t, 48, r.Obeyed.Count, "without those of the outage and of the second after it")
}

func TestQuantile(t *testing.T) {
	d := []time.Duration{3, 1, 2}
	assert.Equal(t, time.Duration(1), quantile(d, 0))
	assert.Equal(t, time.Duration(2), quantile(d, 0.5))
	assert.Equal(t, time.Duration(3), quantile(d, 0.99))
	assert.Equal(t, time.Duration(3), quantile(d, 1))
	assert.Zero(t, quantile(nil, 0.5))
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "-", 999: "999 ns", 1_500: "1.50 µs", 15 * time.Microsecond: "15.0 µs",
		2_345 * time.Microsecond: "2.35 ms", 215 * time.Millisecond: "215 ms", 61 * time.Second: "61.0 s",
	} {
		assert.Equal(t, want, short(d))
	}
}

func TestProgress_showsASecond(t *testing.T) {
	traffic := new(collector)
	begun := time.Now()
	p := &progress{traffic: traffic, begun: begun, away: func(at time.Time) bool { return at.After(begun.Add(time.Second)) }}
	var out bytes.Buffer
	p.out = &out
	for _, from := range []source{fromL1, fromL1, fromL2, fromLoad} {
		traffic.read(sample{source: from, http: 2 * time.Millisecond})
	}
	traffic.update(1, begun, time.Millisecond)
	p.line(begun.Add(time.Second), time.Second)
	assert.Regexp(t, `^ +1s +up +4 +50.0 % +25.0 % +- +25.0 % +2.00 ms +2.00 ms +1 +0\n$`, out.String())
	out.Reset()
	traffic.failure(errors.New("no"))
	p.line(begun.Add(2*time.Second), time.Second)
	assert.Regexp(t, `^ +2s +DOWN +0 +- +- +- +- +- +- +0 +1\n$`, out.String())
}
