package fence_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/tandemcache/tandem/internal/fence"
)

func TestPrefix_voidsWholeSegmentsOnly(t *testing.T) {
	for _, c := range []struct {
		prefix, key string
		void        bool
	}{
		{"", "anything", true},
		{"", "", true},
		{"1", "1", true},
		{"1", "1:2", true},
		{"1", "1:2:3", true},
		{"1", "10", false},
		{"1", "10:1", false},
		{"1", "2:1", false},
		{"1:2", "1:2", true},
		{"1:2", "1:2:3", true},
		{"1:2", "1:20", false},
		{"1:2", "1", false},
		{"a:", "a::b", true},
		{"a:", "a:b", false},
		{"a*", "ab", false},
		{"a*", "a*:b", true},
		{"ü", "ü:1", true},
		{"user:1", "user", false},
	} {
		f := fence.New(0)
		s := f.Stamp(hash)
		f.Prefix(c.prefix)
		want := fence.Current
		if c.void {
			want = fence.Void
		}
		assert.Equal(t, want, f.State(hash, c.key, s), "prefix %q, key %q", c.prefix, c.key)
		assert.Equal(t, fence.Current, f.State(hash, c.key, f.Stamp(hash)), "stamped afterwards: prefix %q, key %q", c.prefix, c.key)
	}
}

func TestPrefix_isNeverForgotten(t *testing.T) {
	f := fence.New(0)
	s := f.Stamp(hash)
	f.Prefix("user")
	for i := range 100_000 {
		f.Prefix(fmt.Sprint("other", i))
	}
	assert.Equal(t, fence.Void, f.State(hash, "user:1", s))
}

func TestCheck_comparesEachDeletionOnce(t *testing.T) {
	f := fence.New(0)
	s := f.Stamp(hash)
	checked := checkedOf(s)
	for i := range 10 {
		before := checked.Load()
		f.Prefix(fmt.Sprint("other", i))
		require.Equal(t, fence.Current, check(f, "user:1", s, checked))
		after := checked.Load()
		require.Greater(t, after, before, "the entry is moved forward")
		require.Equal(t, fence.Current, check(f, "user:1", s, checked))
		require.Equal(t, after, checked.Load())
	}
	f.Prefix("user:1")
	assert.Equal(t, fence.Void, check(f, "user:1", s, checked))
	f.Prefix("other")
	assert.Equal(t, fence.Void, check(f, "user:1", s, checked), "void stays void")
}

// A reader that is told of a deletion by its number must find the deletion in
// the table: else the entry is marked as compared with something it never saw.
func TestPrefix_isSeenByReadersThatRunAtTheSameTime(t *testing.T) {
	type entry struct {
		key     string
		stamp   fence.Stamp
		checked *atomic.Uint32
	}
	f := fence.New(0)
	var current atomic.Pointer[entry]
	var done atomic.Bool
	var wg sync.WaitGroup
	next := func(i int) *entry {
		e := &entry{key: fmt.Sprint(i), stamp: f.Stamp(hash)}
		e.checked = checkedOf(e.stamp)
		current.Store(e)
		return e
	}
	next(0)
	wg.Go(func() {
		for !done.Load() {
			e := current.Load()
			check(f, e.key, e.stamp, e.checked)
		}
	})
	for i := range 200_000 {
		e := next(i)
		f.Prefix(e.key)
		if check(f, e.key, e.stamp, e.checked) != fence.Void {
			t.Errorf("deletion %d went unseen", i)
			break
		}
	}
	done.Store(true)
	wg.Wait()
}

func FuzzPrefix(f *testing.F) {
	f.Add("user", "user:1")
	f.Add("1", "10")
	f.Add("", ":")
	f.Add("a:", "a::b")
	f.Add("\xff", "\xff:\x00")
	f.Fuzz(func(t *testing.T, prefix, key string) {
		g := fence.New(0)
		s := g.Stamp(hash)
		g.Prefix(prefix)
		matches := prefix == "" || key == prefix || strings.HasPrefix(key, prefix+":")
		if matches && g.State(hash, key, s) != fence.Void {
			t.Errorf("prefix %q does not void key %q", prefix, key)
		}
	})
}
