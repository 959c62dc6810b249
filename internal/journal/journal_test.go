package journal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/journal"
)

var t0 = time.Unix(1_000, 0)

func TestJournal_Owes_coversByScope(t *testing.T) {
	for _, tc := range []struct {
		name string
		debt journal.Debt
		owed []string
		free []string
	}{
		{"key", journal.Debt{Scope: journal.Key, Cache: "user", Name: "1"}, []string{"1"}, []string{"1:a", "10", "2"}},
		{"prefix", journal.Debt{Scope: journal.Prefix, Cache: "user", Name: "1"}, []string{"1", "1:a", "1:a:b"}, []string{"10", "10:a", "2:1"}},
		{"deep prefix", journal.Debt{Scope: journal.Prefix, Cache: "user", Name: "1:a"}, []string{"1:a", "1:a:b"}, []string{"1", "1:ab"}},
		{"empty prefix", journal.Debt{Scope: journal.Prefix, Cache: "user"}, []string{"1", "x:y"}, nil},
		{"clear", journal.Debt{Scope: journal.Clear, Cache: "user"}, []string{"1", "x:y"}, nil},
		{"tag", journal.Debt{Scope: journal.Tag, Name: "1"}, nil, []string{"1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := journal.New(10)
			j.Owe(tc.debt, t0)
			for _, k := range tc.owed {
				assert.True(t, j.Owes("user", k), k)
			}
			for _, k := range tc.free {
				assert.False(t, j.Owes("user", k), k)
			}
			assert.False(t, j.Owes("other", "1"), "another cache's key")
			assert.Equal(t, tc.debt.Scope == journal.Tag, j.OwesTag("1"))
			for _, d := range j.Batch(10) {
				require.True(t, j.Pay(d))
			}
			assert.False(t, j.Owes("user", "1"), "owed although paid")
			assert.Zero(t, j.Len())
		})
	}
}

// NothingForgotten: a replay that began before the key was owed again does not settle it.
func TestJournal_Pay_notIfOwedAgain(t *testing.T) {
	j := journal.New(10)
	d := journal.Debt{Scope: journal.Key, Cache: "user", Name: "1", NotBefore: 7}
	j.Owe(d, t0)
	replayed := j.Batch(1)[0]
	d.NotBefore = 9
	j.Owe(d, t0.Add(time.Second))
	assert.False(t, j.Pay(replayed))
	require.True(t, j.Owes("user", "1"))
	again := j.Batch(1)[0]
	assert.EqualValues(t, 9, again.NotBefore)
	assert.Equal(t, t0, again.Since, "a debt keeps its age")
	assert.True(t, j.Pay(again))
}

func TestJournal_Owe_keepsTheLaterNotBeforeAndVersion(t *testing.T) {
	j := journal.New(10)
	j.Owe(journal.Debt{Scope: journal.Key, Cache: "user", Name: "1", NotBefore: 9, Version: 4}, t0)
	j.Owe(journal.Debt{Scope: journal.Key, Cache: "user", Name: "1", NotBefore: 3, Version: 2}, t0)
	d := j.Batch(2)
	require.Len(t, d, 1)
	assert.EqualValues(t, 9, d[0].NotBefore)
	assert.EqualValues(t, 4, d[0].Version)
}

// A versioned deletion would spare what the plain one must delete.
func TestJournal_Owe_keepsPlainAndVersionedApart(t *testing.T) {
	j := journal.New(10)
	j.Owe(journal.Debt{Scope: journal.Key, Cache: "user", Name: "1", Version: 4}, t0)
	j.Owe(journal.Debt{Scope: journal.Key, Cache: "user", Name: "1"}, t0)
	debts := j.Batch(3)
	require.Len(t, debts, 2)
	for _, d := range debts {
		assert.True(t, j.Owes("user", "1"))
		require.True(t, j.Pay(d))
	}
	assert.False(t, j.Owes("user", "1"))
}

// NothingForgotten: overflow escalates to clearing caches.
func TestJournal_Owe_overflowFoldsIntoClears(t *testing.T) {
	j := journal.New(4)
	j.Owe(journal.Debt{Scope: journal.Tag, Name: "team"}, t0)
	j.Owe(journal.Debt{Scope: journal.Key, Cache: "session", Name: "s", NotBefore: 50}, t0)
	for i := range 2 {
		require.False(t, j.Owe(journal.Debt{Scope: journal.Key, Cache: "user", Name: fmt.Sprint(i)}, t0))
	}
	require.True(t, j.Owe(journal.Debt{Scope: journal.Prefix, Cache: "lead", Name: "1"}, t0.Add(time.Second)))
	for _, cache := range []string{"user", "session", "lead"} {
		assert.True(t, j.Owes(cache, "anything"), cache)
	}
	assert.True(t, j.OwesTag("team"))
	assert.False(t, j.Owes("other", "anything"))
	st := j.Stats(t0.Add(3 * time.Second))
	assert.Equal(t, 4, st.Owed)
	assert.EqualValues(t, 1, st.Overflows)
	assert.Equal(t, 3*time.Second, st.Oldest)
	for _, d := range j.Batch(10) {
		if d.Cache == "session" {
			assert.EqualValues(t, 50, d.NotBefore, "a fold keeps what a replay must wait for")
		}
	}
}

// Memory stays bounded whatever is owed: keys fold, and there are few caches.
func TestJournal_Owe_bounded(t *testing.T) {
	j := journal.New(100)
	for i := range 10_000 {
		j.Owe(journal.Debt{Scope: journal.Key, Cache: fmt.Sprint(i % 7), Name: fmt.Sprint(i)}, t0)
		require.LessOrEqual(t, j.Len(), 101)
	}
	for c := range 7 {
		require.True(t, j.Owes(fmt.Sprint(c), "x") || j.Owes(fmt.Sprint(c), fmt.Sprint(9996/7*7+c)))
	}
}
