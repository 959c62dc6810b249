package journal

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandemcache/tandem/internal/mutant"
)

// Scope says how much of a cache a debt covers.
type Scope uint8

// The scopes, from the narrowest to the widest.
const (
	Key    Scope = iota + 1 // one key
	Prefix                  // a key and all that begin with it and ":"; "" is every key
	Tag                     // every entry of the node that carries the tag, "" is every tag; Cache is empty
	Clear                   // the whole cache
)

// Debt is an invalidation that is owed to Redis.
type Debt struct {
	Scope Scope
	Cache string
	Name  string // the key, prefix or tag; empty with Clear

	// NotBefore is when the replay may act at the earliest, in microseconds of
	// the clock of Redis: a store that timed out may still run until then.
	NotBefore int64
	// Version is the source version of a versioned write, 0 for others.
	Version uint64
	// Since is when the debt was first owed.
	Since time.Time

	incurred uint64 // tells a debt owed anew during its replay from the replayed one
}

// id is what makes two debts one. A versioned deletion spares what is newer, and
// a plain one leaves no version behind: neither stands for the other.
type id struct {
	scope     Scope
	versioned bool
	cache     string
	name      string
}

func (d *Debt) id() id { return id{d.Scope, d.Version != 0, d.Cache, d.Name} }

// Journal is a bounded set of debts.
type Journal struct {
	max int
	// size mirrors len(debts), so that a read of a node without debts takes no lock.
	size atomic.Int64

	mu       sync.RWMutex
	debts    map[id]*Debt // guarded by mu
	wide     int          // how many of debts are not of scope Key; guarded by mu
	clock    uint64       // guarded by mu
	paid     uint64       // guarded by mu
	overflow uint64       // guarded by mu
}

// Stats is a snapshot of a journal.
type Stats struct {
	Owed      int           // debts now
	Oldest    time.Duration // age of the oldest, 0 without debts
	Paid      uint64        // debts paid since the start
	Overflows uint64        // times that all debts were folded into clears
}

// New returns a journal that keeps at most limit debts (at least one a cache, and
// one for the tags: folding never drops a cache).
func New(limit int) *Journal {
	return &Journal{max: max(limit, 1), debts: make(map[id]*Debt)}
}

// Owe records d. Owed twice, a debt keeps its age and the later of the two
// NotBefores, and a payment that was under way no longer settles it. It
// reports whether the journal overflowed by it.
func (j *Journal) Owe(d Debt, now time.Time) (overflowed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, known := j.debts[d.id()]; !known && len(j.debts) >= j.max && !d.widest() {
		if mutant.On(mutant.OverflowForgets) {
			return false
		}
		j.foldLocked(now)
		d = d.folded()
		j.overflow++
		overflowed = true
	}
	j.addLocked(d, now)
	return overflowed
}

func (j *Journal) addLocked(d Debt, now time.Time) {
	j.clock++
	if old := j.debts[d.id()]; old != nil {
		old.incurred = j.clock
		old.NotBefore = max(old.NotBefore, d.NotBefore)
		old.Version = max(old.Version, d.Version)
		return
	}
	if d.Since.IsZero() {
		d.Since = now
	}
	d.incurred = j.clock
	j.debts[d.id()] = &d
	if d.Scope != Key {
		j.wide++
	}
	j.size.Store(int64(len(j.debts)))
}

// folded is the wider debt that stands for d when there is no room: to clear its
// cache, or to invalidate every tag, since tags have no cache.
func (d *Debt) folded() Debt {
	f := Debt{Scope: Clear, Cache: d.Cache, NotBefore: d.NotBefore, Since: d.Since}
	if d.Scope == Tag {
		f.Scope = Tag
	}
	return f
}

func (d *Debt) widest() bool { return d.Scope == Clear || d.Scope == Tag && d.Name == "" }

// foldLocked folds every debt.
func (j *Journal) foldLocked(now time.Time) {
	old := j.debts
	j.debts = make(map[id]*Debt)
	j.wide = 0
	for _, d := range old {
		f := d.folded()
		if known := j.debts[f.id()]; known != nil && f.Since.Before(known.Since) {
			known.Since = f.Since
		}
		j.addLocked(f, now)
	}
}

// Owes reports whether key of cache is covered by a debt.
func (j *Journal) Owes(cache, key string) bool {
	if j.size.Load() == 0 || mutant.On(mutant.NoPoison) {
		return false
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	for _, versioned := range [...]bool{false, true} {
		if _, ok := j.debts[id{Key, versioned, cache, key}]; ok {
			return true
		}
	}
	if j.wide == 0 {
		return false
	}
	if _, ok := j.debts[id{Clear, false, cache, ""}]; ok {
		return true
	}
	if _, ok := j.debts[id{Prefix, false, cache, ""}]; ok {
		return true
	}
	for end := len(key); end > 0; end = strings.LastIndexByte(key[:end], ':') {
		if _, ok := j.debts[id{Prefix, false, cache, key[:end]}]; ok {
			return true
		}
	}
	return false
}

// OwesTag reports whether the invalidation of a tag is owed, its own or that of
// every tag.
func (j *Journal) OwesTag(tag string) bool {
	if j.size.Load() == 0 || mutant.On(mutant.NoPoison) {
		return false
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	_, one := j.debts[id{Tag, false, "", tag}]
	_, every := j.debts[id{Tag, false, "", ""}]
	return one || every
}

// Batch returns up to n debts, in no order. They stay in the journal.
func (j *Journal) Batch(n int) []Debt {
	j.mu.RLock()
	defer j.mu.RUnlock()
	out := make([]Debt, 0, min(n, len(j.debts)))
	for _, d := range j.debts {
		if len(out) == n {
			break
		}
		out = append(out, *d)
	}
	return out
}

// Pay removes d, which Batch returned, unless it was owed again since.
//
// REQUIRES: the stamps of what d covers were moved after its replay was
// confirmed; else a read that began before could still serve the old value.
func (j *Journal) Pay(d Debt) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	now, ok := j.debts[d.id()]
	if !ok || now.incurred != d.incurred && !mutant.On(mutant.PayUnheard) {
		return false
	}
	delete(j.debts, d.id())
	if d.Scope != Key {
		j.wide--
	}
	j.paid++
	j.size.Store(int64(len(j.debts)))
	return true
}

// Len returns the number of debts. It takes no lock.
func (j *Journal) Len() int { return int(j.size.Load()) }

// Stats returns a snapshot.
func (j *Journal) Stats(now time.Time) Stats {
	j.mu.RLock()
	defer j.mu.RUnlock()
	s := Stats{Owed: len(j.debts), Paid: j.paid, Overflows: j.overflow}
	for _, d := range j.debts {
		s.Oldest = max(s.Oldest, now.Sub(d.Since))
	}
	return s
}
