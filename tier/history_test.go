package tier_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/history"
)

// The checker: a fleet of nodes under random operations and faults, whose
// history is judged by the promises (package history). Each run of it draws all
// its operations and faults from one seed, which is printed; a failing seed does
// the same again. TANDEM_SOAK says how long each of these tests lasts (default
// 10 s), TANDEM_SEED where it begins.

func TestSoak_standalone(t *testing.T) { soak(t, newStandalone(t)) }
func TestSoak_cluster(t *testing.T)    { soak(t, newReplicated(t)) }
func TestSoak_sentinel(t *testing.T)   { soak(t, newWatched(t)) }

// roundTime is how long one history is: its whole record is in memory.
const roundTime = 20 * time.Second

func soak(t *testing.T, top topology) {
	redis.SetLogger(silence{})
	total := 10 * time.Second
	if text := os.Getenv("TANDEM_SOAK"); text != "" {
		var err error
		total, err = time.ParseDuration(text)
		require.NoError(t, err, "TANDEM_SOAK")
	}
	seed := rand.Uint64()
	if text := os.Getenv("TANDEM_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "TANDEM_SEED")
	}
	sum := summary{faults: make(map[string]int)}
	begun := time.Now()
	for round := 0; round == 0 || time.Since(begun)+roundTime/2 < total; round++ {
		// The first round has the seed itself, so that its number is all it takes.
		if round > 0 {
			seed = mix(seed)
		}
		d := min(roundTime, total)
		r := newRun(t, seed, fmt.Sprintf("r%d", round), top)
		t.Logf("seed %d, round %d, %v", seed, round, d)
		h := r.do(d)
		v := history.Judge(h, r.promises())
		sum.add(v, h)
		t.Logf("%v", v)
		if !v.Good() {
			require.Fail(t, "the promises were not kept", "seed %d\n%v\n%s\nagain: %s", seed, v, strings.Join(h.Errors, "\n"), r.replay(d))
		}
	}
	t.Logf("in all: %v", &sum)
}

// silence is for go-redis, which prints a line for each connection that is
// refused, and here they are refused by the hundred.
type silence struct{}

func (silence) Printf(context.Context, string, ...any) {}

// summary adds the rounds up.
type summary struct {
	rounds, reads, changes, owed, loads, finals, gaps int
	excepted                                          int
	stalest                                           time.Duration
	faults                                            map[string]int
	all                                               int
}

func (s *summary) add(v *history.Verdict, h *history.History) {
	s.rounds++
	s.reads += v.Reads
	s.changes += v.Changes
	s.owed += v.Owed
	s.loads += v.Loads
	s.finals += v.Finals
	s.gaps += v.Gaps
	s.excepted += v.InOutage + v.InFailover + v.BehindOwedStore + v.AfterWipe
	s.stalest = max(s.stalest, v.Stalest)
	for name, n := range v.Faults {
		s.faults[name] += n
	}
	s.all += len(h.Faults)
}

func (s *summary) String() string {
	return fmt.Sprintf("%d rounds, %d reads, %d changes (%d owed), %d loads, %d finals, %d gaps; %d reads excepted; stalest %v; %d faults: %v",
		s.rounds, s.reads, s.changes, s.owed, s.loads, s.finals, s.gaps, s.excepted, s.stalest, s.all, s.faults)
}
