package journal_test

import (
	"fmt"
	"sync"
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

func key(cache, name string) journal.Debt {
	return journal.Debt{Scope: journal.Key, Cache: cache, Name: name}
}

// NothingForgotten: overflow escalates to clearing the cache that owes the most.
func TestJournal_Owe_overflowFoldsTheCacheThatOwesTheMost(t *testing.T) {
	j := journal.New(5)
	j.Owe(journal.Debt{Scope: journal.Tag, Name: "team"}, t0)
	j.Owe(key("session", "s"), t0)
	for i := range 3 {
		require.Empty(t, j.Owe(key("user", fmt.Sprint(i)), t0))
	}
	require.Equal(t, []string{"user"}, j.Owe(journal.Debt{Scope: journal.Prefix, Cache: "lead", Name: "1"}, t0.Add(time.Second)))
	assert.True(t, j.Owes("user", "anything"))
	for _, cache := range []string{"session", "lead", "other"} {
		assert.False(t, j.Owes(cache, "anything"), cache)
	}
	assert.True(t, j.Owes("session", "s"))
	assert.True(t, j.Owes("lead", "1:a"))
	assert.True(t, j.OwesTag("team"))
	assert.False(t, j.OwesTag("other"))
	st := j.Stats(t0.Add(3 * time.Second))
	assert.Equal(t, 4, st.Owed)
	assert.EqualValues(t, 1, st.Overflows)
	assert.Equal(t, 3*time.Second, st.Oldest)
}

func TestJournal_Owe_overflowOfTags(t *testing.T) {
	j := journal.New(4)
	j.Owe(key("user", "1"), t0)
	for i := range 3 {
		require.Empty(t, j.Owe(journal.Debt{Scope: journal.Tag, Name: fmt.Sprint(i)}, t0))
	}
	require.Equal(t, []string{""}, j.Owe(journal.Debt{Scope: journal.Tag, Name: "3"}, t0))
	assert.True(t, j.OwesTag("any"))
	assert.True(t, j.Owes("user", "1"))
	assert.False(t, j.Owes("user", "2"))
	assert.Equal(t, 2, j.Len())
}

// Too many caches: then everything is owed, and whatever comes is covered.
func TestJournal_Owe_overflowOfCaches(t *testing.T) {
	j := journal.New(4)
	for i := range 4 {
		require.Empty(t, j.Owe(key(fmt.Sprint("cache", i), "1"), t0))
	}
	require.Equal(t, []string{""}, j.Owe(key("another", "1"), t0.Add(time.Second)))
	assert.Equal(t, 1, j.Len())
	assert.True(t, j.Owes("whatever", "x"))
	assert.True(t, j.OwesTag("any"))
	assert.Equal(t, time.Second, j.Stats(t0.Add(time.Second)).Oldest)
	replayed := j.Batch(1)[0]
	assert.Equal(t, journal.All, replayed.Scope)
	require.Empty(t, j.Owe(key("another", "2"), t0))
	assert.Equal(t, 1, j.Len())
	assert.False(t, j.Pay(replayed), "its replay may have come before the last")
	assert.True(t, j.Pay(j.Batch(1)[0]))
	assert.False(t, j.Owes("whatever", "x"))
}

// What a wider debt covers is no debt of its own, but the wider one is owed anew.
func TestJournal_Owe_coveredByAWiderDebt(t *testing.T) {
	j := journal.New(5)
	j.Owe(journal.Debt{Scope: journal.Clear, Cache: "user"}, t0)
	replayed := j.Batch(1)[0]
	d := key("user", "1")
	d.NotBefore = 50
	j.Owe(d, t0)
	j.Owe(journal.Debt{Scope: journal.Prefix, Cache: "user", Name: "2"}, t0)
	assert.Equal(t, 1, j.Len())
	assert.False(t, j.Pay(replayed))

	// A version is worth a debt of its own while there is room.
	d.Version = 7
	j.Owe(d, t0)
	assert.Equal(t, 2, j.Len())
	j.Owe(key("lead", "1"), t0)
	for i := range 2 {
		d.Name = fmt.Sprint("more", i)
		j.Owe(d, t0)
	}
	assert.Equal(t, 5, j.Len())
	d.Name = "too many"
	assert.Empty(t, j.Owe(d, t0))
	assert.Equal(t, 5, j.Len())
	assert.True(t, j.Owes("user", "too many"))
	require.Equal(t, []string{"user"}, j.Owe(key("lead", "2"), t0))
	assert.Equal(t, 3, j.Len())
}

// Whoever asks again and again gets every debt in turn.
func TestJournal_Batch_takesTurns(t *testing.T) {
	j := journal.New(100)
	for i := range 10 {
		j.Owe(key("user", fmt.Sprint(i)), t0)
	}
	j.Owe(journal.Debt{Scope: journal.Prefix, Cache: "user", Name: "p"}, t0)
	j.Owe(journal.Debt{Scope: journal.Clear, Cache: "lead"}, t0)
	var names []string
	for range 4 {
		for _, d := range j.Batch(3, journal.Key) {
			names = append(names, d.Name)
		}
	}
	assert.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "1"}, names)
	assert.Len(t, j.Batch(100, journal.Prefix, journal.Clear), 2)
	assert.Equal(t, 2, j.Len(journal.Prefix, journal.Clear))
	assert.Equal(t, 12, j.Len())
	assert.Len(t, j.Batch(100), 12)
}

// NothingForgotten: memory stays bounded whatever is owed, and whatever was owed
// stays owed.
func TestJournal_Owe_bounded(t *testing.T) {
	for name, debt := range map[string]func(i int) journal.Debt{
		"keys of a few caches": func(i int) journal.Debt { return key(fmt.Sprint(i%7), fmt.Sprint(i)) },
		"versions": func(i int) journal.Debt {
			d := key(fmt.Sprint(i%7), fmt.Sprint(i))
			d.Version = uint64(i) + 1
			return d
		},
		"caches": func(i int) journal.Debt { return key(fmt.Sprint(i), "1") },
		"clears": func(i int) journal.Debt { return journal.Debt{Scope: journal.Clear, Cache: fmt.Sprint(i)} },
		"tags":   func(i int) journal.Debt { return journal.Debt{Scope: journal.Tag, Name: fmt.Sprint(i)} },
		"of all kinds": func(i int) journal.Debt {
			return journal.Debt{Scope: journal.Scope(1 + i%4), Cache: fmt.Sprint(i % 13), Name: fmt.Sprint(i)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []int{1, 2, 3, 100} {
				j := journal.New(limit)
				for i := range 3000 {
					j.Owe(debt(i), t0)
					require.LessOrEqual(t, j.Len(), max(limit, 2))
				}
				for i := range 3000 {
					d := debt(i)
					if d.Scope == journal.Tag {
						require.True(t, j.OwesTag(d.Name), "limit %d: %+v", limit, d)
						continue
					}
					require.True(t, j.Owes(d.Cache, d.Name), "limit %d: %+v", limit, d)
				}
				for j.Len() > 0 {
					for _, d := range j.Batch(10) {
						require.True(t, j.Pay(d))
					}
				}
				assert.False(t, j.Owes("1", "1"))
			}
		})
	}
}

func TestJournal_concurrently(t *testing.T) {
	j := journal.New(50)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				cache := fmt.Sprint((i + w) % 3)
				switch i % 5 {
				case 0:
					for _, d := range j.Batch(5) {
						j.Pay(d)
					}
				case 1:
					j.Owe(journal.Debt{Scope: journal.Prefix, Cache: cache, Name: fmt.Sprint(i % 90)}, t0)
				case 2:
					j.Owe(journal.Debt{Scope: journal.Tag, Name: fmt.Sprint(i % 90)}, t0)
				default:
					j.Owe(key(cache, fmt.Sprint(i%90)), t0)
				}
				j.Owes(cache, "1:2")
				j.OwesTag("1")
				j.Stats(t0)
			}
		})
	}
	wg.Wait()
	for j.Len() > 0 {
		for _, d := range j.Batch(10) {
			require.True(t, j.Pay(d))
		}
	}
}
