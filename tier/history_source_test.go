package tier_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/tier"
)

// fact is what the checker of histories caches: a version of a row, with a sum
// over all of it.
type fact struct {
	Key     string
	Version int64
	Pad     []byte
	Sum     uint32
}

// newFact is the row of a key at a version. Nothing else says what is in it.
func newFact(key string, version int64) fact {
	f := fact{Key: key, Version: version, Pad: make([]byte, 8+int(version*37%200))}
	for i := range f.Pad {
		f.Pad[i] = byte(version) + byte(i)
	}
	f.Sum = f.sum()
	return f
}

func (f *fact) sum() uint32 {
	var version [8]byte
	binary.LittleEndian.PutUint64(version[:], uint64(f.Version))
	s := crc32.ChecksumIEEE([]byte(f.Key))
	s = crc32.Update(s, crc32.IEEETable, version[:])
	return crc32.Update(s, crc32.IEEETable, f.Pad)
}

// whole reports whether f is a row of key and nothing in it was changed.
func (f *fact) whole(key string) bool { return f.Key == key && f.sum() == f.Sum }

// source is the database of a run: it keeps every version of every key.
type source struct {
	now  func() history.Time
	keys []history.Key
	rows []sourceRow
}

type sourceRow struct {
	mu      sync.Mutex
	commits []history.Commit // guards: mu
}

func newSource(now func() history.Time, keys []history.Key) *source {
	return &source{now: now, keys: keys, rows: make([]sourceRow, len(keys))}
}

// commit makes a new version of a key, which may say that the row is deleted.
// The time is taken while nobody can read: who begins to read later sees it.
func (s *source) commit(key int32, absent bool) (fact, int64) {
	row := &s.rows[key]
	row.mu.Lock()
	defer row.mu.Unlock()
	row.commits = append(row.commits, history.Commit{At: s.now(), Absent: absent})
	version := int64(len(row.commits))
	return newFact(s.keys[key].Name, version), version
}

// load returns the row of a key, or ErrNotFound.
func (s *source) load(key int32) (fact, error) {
	row := &s.rows[key]
	row.mu.Lock()
	version := len(row.commits)
	absent := version == 0 || row.commits[version-1].Absent
	row.mu.Unlock()
	if absent {
		return fact{}, fmt.Errorf("%s: %w", s.keys[key].Name, tier.ErrNotFound)
	}
	return newFact(s.keys[key].Name, int64(version)), nil
}

// version returns the newest version of a key.
func (s *source) version(key int32) int64 {
	row := &s.rows[key]
	row.mu.Lock()
	defer row.mu.Unlock()
	return int64(len(row.commits))
}

// commits returns the whole history of the database.
func (s *source) commits() [][]history.Commit {
	all := make([][]history.Commit, len(s.rows))
	for i := range s.rows {
		s.rows[i].mu.Lock()
		all[i] = s.rows[i].commits
		s.rows[i].mu.Unlock()
	}
	return all
}
