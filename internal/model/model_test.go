package model

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// most is how many states a mutant may take to be found.
const most = 3_000_000

// Every promised scenario holds in every order of its steps. Under the race
// detector the big ones are left to `make model`.
func TestProtocol_holdsInEveryScenario(t *testing.T) {
	total, count := 0, 0
	for _, sc := range Scenarios() {
		if sc.Big && raceEnabled {
			continue
		}
		r := Explore(sc, Switches{}, 20_000_000)
		total, count = total+r.States, count+1
		t.Logf("%-45s %9d states", sc.Name, r.States)
		require.True(t, r.Whole, "%s: cut off", sc.Name)
		require.Empty(t, r.Broken, "%s:\n%s\n%s", sc.Name, strings.Join(r.Trace, "\n"), r.Broken)
	}
	t.Logf("%d of %d scenarios hold, %d states", count, len(Scenarios()), total)
}

// Without any one mechanism a promise breaks.
func TestMutants_areFound(t *testing.T) {
	for _, m := range Mutants() {
		sc := scenario(t, m.In)
		if sc.Big && raceEnabled {
			continue
		}
		r := Explore(sc, m.Off, most)
		if assert.NotEmpty(t, r.Broken, "%s: %s does not break", m.Name, sc.Name) {
			t.Logf("%-34s %-40s %2d steps: %s", m.Name, sc.Name, len(r.Trace), r.Broken)
		}
	}
}

func scenario(t *testing.T, name string) Scenario {
	for _, sc := range Scenarios() {
		if strings.HasPrefix(sc.Name, name+" ") {
			return sc
		}
	}
	require.Fail(t, "no scenario", name)
	return Scenario{}
}

// A counter-example is told step by step, in words.
func TestExplore_tellsTheWay(t *testing.T) {
	r := Explore(Scenarios()[0], Switches{NoLease: true}, most)
	require.NotEmpty(t, r.Broken)
	require.NotEmpty(t, r.Trace)
	for _, step := range r.Trace {
		assert.NotEmpty(t, step)
	}
}

// Every switch has a mutant that turns it alone.
func TestMutants_coverEverySwitch(t *testing.T) {
	covered := map[string]bool{}
	for _, m := range Mutants() {
		v := reflect.ValueOf(m.Off)
		on := 0
		for i := range v.NumField() {
			if v.Field(i).Bool() {
				on++
				covered[v.Type().Field(i).Name] = true
			}
		}
		assert.Equal(t, 1, on, m.Name)
	}
	assert.Len(t, covered, reflect.TypeFor[Switches]().NumField())
}
