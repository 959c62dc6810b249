package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Two processes.
const (
	procA = iota
	procB
)

// story is a checker with a clock of its own, in milliseconds.
type story struct {
	t *testing.T
	*checker
	zero time.Time
}

// newStory has three users, all of version 1, a Δ of 100 ms, 300 ms of LocalTTL
// and 50 ms until the replay.
func newStory(t *testing.T) *story {
	t.Helper()
	l := limits{Delta: 100 * time.Millisecond, LocalTTL: 300 * time.Millisecond, Replay: 50 * time.Millisecond}
	return &story{t, newChecker([]int64{0, 1, 1, 1}, l), time.Now()}
}

func (s *story) at(ms int) time.Time { return s.zero.Add(time.Duration(ms) * time.Millisecond) }

func (s *story) updated(id int64, process int, version int64, ms int) {
	s.begin(id, change{About: aboutOf(version)})
	s.acknowledge(id, process, version, s.at(ms))
}

func (s *story) outage(down, back int) {
	s.redisDown(s.at(down))
	s.redisBack(s.at(back))
}

func aboutOf(version int64) string { return "about of version " + string(rune('0'+version)) }

func read(s *story, id int64, process int, version int64, ms int) observation {
	return observation{
		id: id, process: process, sent: s.at(ms), version: version,
		user: user{ID: id, Version: version, Email: emailOf(id), About: aboutOf(version)},
	}
}

// want judges a read and wants a promise to be named, or "".
func (s *story) want(broken string, o observation) {
	s.t.Helper()
	before := s.broken.total()
	v := s.check(o)
	assert.Equal(s.t, broken, v.Broken)
	assert.Equal(s.t, broken != "", s.broken.total() > before, "counted and named are the same")
}

func TestChecker_readYourWrites(t *testing.T) {
	s := newStory(t)
	s.want("", read(s, 1, procA, 1, 0))
	s.updated(1, procA, 2, 10)
	s.want("", read(s, 1, procA, 1, 10)) // sent before the answer had come
	s.want("", read(s, 1, procA, 2, 11))
	s.want("ReadYourWrites", read(s, 1, procA, 1, 11))
	s.outage(20, 30)
	s.updated(2, procA, 2, 25)
	s.want("ReadYourWrites", read(s, 2, procA, 1, 26)) // an outage excuses none
	_, broken, faults := s.findings()
	assert.Equal(t, counts{OwnWrite: 2}, broken)
	require.Len(t, faults, 2)
	assert.Contains(t, faults[0], "ReadYourWrites: user 1: process A answered version 1, 1ms after")
}

func TestChecker_boundedStaleness(t *testing.T) {
	s := newStory(t)
	s.updated(1, procA, 2, 10)
	s.want("", read(s, 1, procB, 1, 110))
	s.want("BoundedStaleness", read(s, 1, procB, 1, 111))
	s.want("", read(s, 1, procB, 2, 111))
	s.updated(1, procA, 3, 200)
	s.want("", read(s, 1, procB, 2, 300))
	s.want("BoundedStaleness", read(s, 1, procB, 1, 205)) // of two updates behind, the older one
}

func TestChecker_boundIsWeakerAroundTheOutage(t *testing.T) {
	for name, tt := range map[string]struct{ acked, last int }{
		"long before":                   {acked: 899, last: 999},
		"its message may have died":     {acked: 901, last: 1_550},
		"during":                        {acked: 1_200, last: 1_550},
		"not noticed yet that it is up": {acked: 1_449, last: 1_550},
		"after":                         {acked: 1_450, last: 1_550},
		"long after":                    {acked: 1_500, last: 1_600},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			s.outage(1_000, 1_400)
			s.updated(1, procA, 2, tt.acked)
			s.want("", read(s, 1, procB, 1, tt.last))
			assert.NotEmpty(t, s.check(read(s, 1, procB, 1, tt.last+1)).Broken)
		})
	}
}

func TestChecker_boundWhileRedisIsAway(t *testing.T) {
	s := newStory(t)
	s.redisDown(s.at(1_000))
	s.updated(1, procA, 2, 1_100)
	s.want("", read(s, 1, procB, 1, 1_400)) // acked + LocalTTL
	s.want("NothingForgotten", read(s, 1, procB, 1, 1_401))
	v := s.check(read(s, 1, procB, 1, 1_300))
	assert.Equal(t, verdict{Lag: 200 * time.Millisecond, Excused: true}, v)
	assert.True(t, s.redisAway(s.at(1_200)))
	assert.False(t, s.redisAway(s.at(900)))
	s.redisBack(s.at(1_500))
	assert.False(t, s.redisAway(s.at(1_501)))
}

func TestChecker_answersThatNeverWereTrue(t *testing.T) {
	s := newStory(t)
	other := read(s, 1, procA, 1, 0)
	other.user.ID = 2
	s.want(`with the user 2, "user1@example.com"`, other)
	torn := read(s, 1, procA, 1, 0)
	torn.user.Version = 2
	s.want("version 1 in its header and 2 in its body", torn)
	s.want("version 0, which is older than the beginning", read(s, 1, procA, 0, 0))
	s.want("version 2 of 1", read(s, 1, procA, 2, 0))
	s.begin(1, change{About: aboutOf(2)})
	s.want("", read(s, 1, procA, 2, 0)) // its answer is on its way
	s.acknowledge(1, procA, 2, s.at(5))
	mixed := read(s, 1, procA, 2, 6)
	mixed.user.About = aboutOf(1)
	s.want("version 2 with the text of another", mixed)

	s.begin(1, change{})
	s.acknowledge(1, procA, 4, s.at(10)) // 3 was lost
	reads, broken, _ := s.findings()
	assert.Equal(t, 6, reads)
	assert.Equal(t, counts{Wrong: 6}, broken)
}

func TestChecker_truthAndWhenItIsSettled(t *testing.T) {
	s := newStory(t)
	s.updated(1, procA, 2, 10)
	s.updated(1, procB, 3, 20)
	s.updated(3, procB, 2, 20)
	assert.Equal(t, map[int64]int64{1: 3, 3: 2}, s.checker.updated())
	assert.Equal(t, s.at(600), s.settled(s.at(500)))
	s.outage(400, 490)
	assert.Equal(t, s.at(640), s.settled(s.at(500)), "the replay comes later")
	assert.Equal(t, s.at(700), s.settled(s.at(600)))
}

func TestChecker_keepsTheFirstFaults(t *testing.T) {
	s := newStory(t)
	for range 100 {
		s.check(read(s, 1, procA, 9, 0))
	}
	_, broken, faults := s.findings()
	assert.Equal(t, 100, broken.Wrong)
	assert.Len(t, faults, 10)
}
