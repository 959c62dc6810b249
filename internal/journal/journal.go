package journal

import (
	"container/list"
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
	All                     // every cache of the namespace, and every tag; Cache and Name are empty
)

// Debt is an invalidation that is owed to Redis.
type Debt struct {
	Scope Scope
	Cache string
	Name  string // the key, prefix or tag; empty with Clear and All

	// NotBefore is when the replay may act at the earliest, in microseconds of
	// the clock of Redis: a store that timed out may still run until then.
	NotBefore int64
	// Version is the source version of a versioned write, 0 for others.
	Version uint64
	// Since is when the debt was first owed, Last when it was last owed anew.
	Since, Last time.Time

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

// normalize empties the fields that the scope leaves no meaning.
func (d *Debt) normalize() {
	switch d.Scope {
	case Clear:
		d.Name = ""
	case Tag:
		d.Cache = ""
	case All:
		d.Cache, d.Name = "", ""
	}
}

// Journal is a bounded set of debts.
type Journal struct {
	max int
	// size mirrors len(debts), so that a read of a node without debts takes no lock.
	size atomic.Int64

	mu       sync.RWMutex
	debts    map[id]*list.Element // of *Debt, in the queue of their scope; guarded by mu
	queues   [All + 1]list.List   // by scope, the next to be replayed first; guarded by mu
	shares   map[string]int       // debts that folding a cache would make one, by cache; guarded by mu
	clock    uint64               // guarded by mu
	paid     uint64               // guarded by mu
	overflow uint64               // guarded by mu
}

// Stats is a snapshot of a journal.
type Stats struct {
	Owed      int           // debts now
	Oldest    time.Duration // age of the oldest, 0 without debts
	Paid      uint64        // debts paid since the start
	Overflows uint64        // times that debts were folded into wider ones
}

// New returns a journal that keeps at most limit debts, and at least two.
func New(limit int) *Journal {
	return &Journal{max: max(limit, 2), debts: make(map[id]*list.Element), shares: make(map[string]int)}
}

// Owe records d. Owed twice, a debt keeps its age and the later of the two
// NotBefores, and a payment that was under way no longer settles it.
//
// Where there is no room, debts are folded into wider ones. Owe then returns
// what is owed whole from now on: names of caches, or the empty name for every
// cache of the namespace.
func (j *Journal) Owe(d Debt, now time.Time) (folded []string) {
	d.Last = now
	if d.Since.IsZero() {
		d.Since = now
	}
	d.normalize()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.coverLocked(&d) {
		return nil
	}
	if _, known := j.debts[d.id()]; !known && len(j.debts) >= j.max {
		if mutant.On(mutant.OverflowForgets) {
			return nil
		}
		folded = j.makeRoomLocked(&d)
	}
	j.addLocked(&d)
	return folded
}

// addLocked adds d, or what it changes, to the debts.
func (j *Journal) addLocked(d *Debt) {
	j.clock++
	d.incurred = j.clock
	if e := j.debts[d.id()]; e != nil {
		old := e.Value.(*Debt)
		old.incurred, old.Last = d.incurred, d.Last
		old.NotBefore = max(old.NotBefore, d.NotBefore)
		old.Version = max(old.Version, d.Version)
		if d.Since.Before(old.Since) {
			old.Since = d.Since
		}
		return
	}
	kept := *d
	j.debts[d.id()] = j.queues[d.Scope].PushBack(&kept)
	if d.foldable() {
		j.shares[d.Cache]++
	}
	j.size.Store(int64(len(j.debts)))
}

func (j *Journal) removeLocked(e *list.Element) {
	d := e.Value.(*Debt)
	j.queues[d.Scope].Remove(e)
	delete(j.debts, d.id())
	if d.foldable() {
		if j.shares[d.Cache]--; j.shares[d.Cache] == 0 {
			delete(j.shares, d.Cache)
		}
	}
	j.size.Store(int64(len(j.debts)))
}

// Owes reports whether key of cache is covered by a debt.
func (j *Journal) Owes(cache, key string) bool {
	if j.size.Load() == 0 || mutant.On(mutant.NoPoison) {
		return false
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	if j.has(id{scope: Key, cache: cache, name: key}) || j.has(id{scope: Key, versioned: true, cache: cache, name: key}) {
		return true
	}
	if j.queues[Key].Len() == len(j.debts) {
		return false
	}
	if j.has(id{scope: All}) || j.has(id{scope: Clear, cache: cache}) {
		return true
	}
	if j.queues[Prefix].Len() == 0 {
		return false
	}
	if j.has(id{scope: Prefix, cache: cache}) {
		return true
	}
	for end := len(key); end > 0; end = strings.LastIndexByte(key[:end], ':') {
		if j.has(id{scope: Prefix, cache: cache, name: key[:end]}) {
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
	return j.has(id{scope: Tag, name: tag}) || j.has(id{scope: Tag}) || j.has(id{scope: All})
}

// has is called with the lock held, for reading at least.
func (j *Journal) has(i id) bool {
	_, ok := j.debts[i]
	return ok
}

// Batch returns up to n debts of the given scopes, or of all without. They stay in
// the journal, behind all others of their scope: who asks again and again gets
// every debt in turn, however many of them cannot be paid.
func (j *Journal) Batch(n int, scopes ...Scope) []Debt {
	if len(scopes) == 0 {
		scopes = []Scope{All, Clear, Tag, Key, Prefix}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	out := make([]Debt, 0, min(n, len(j.debts)))
	for _, scope := range scopes {
		q := &j.queues[scope]
		for range min(n-len(out), q.Len()) {
			out = append(out, *q.Front().Value.(*Debt))
			q.MoveToBack(q.Front())
		}
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
	e, ok := j.debts[d.id()]
	if !ok || e.Value.(*Debt).incurred != d.incurred && !mutant.On(mutant.PayUnheard) {
		return false
	}
	j.removeLocked(e)
	j.paid++
	return true
}

// Len returns the number of debts, of the given scopes if there are any. Without
// it takes no lock.
func (j *Journal) Len(scopes ...Scope) int {
	if n := j.size.Load(); n == 0 || len(scopes) == 0 {
		return int(n)
	}
	j.mu.RLock()
	defer j.mu.RUnlock()
	n := 0
	for _, scope := range scopes {
		n += j.queues[scope].Len()
	}
	return n
}

// Stats returns a snapshot. It looks at every debt.
func (j *Journal) Stats(now time.Time) Stats {
	j.mu.RLock()
	defer j.mu.RUnlock()
	s := Stats{Owed: len(j.debts), Paid: j.paid, Overflows: j.overflow}
	for _, e := range j.debts {
		s.Oldest = max(s.Oldest, now.Sub(e.Value.(*Debt).Since))
	}
	return s
}

// Forgive removes what d covers, whoever owed it and even if it was owed anew
// meanwhile: the same thing, of no higher a version.
//
// REQUIRES: as for Pay.
func (j *Journal) Forgive(d Debt) {
	j.mu.Lock()
	defer j.mu.Unlock()
	d.normalize()
	if e := j.debts[d.id()]; e != nil && e.Value.(*Debt).Version <= d.Version {
		j.removeLocked(e)
	}
}

// ForgiveCache removes all debts of a cache, as Forgive does.
func (j *Journal) ForgiveCache(cache string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.debts {
		if d := e.Value.(*Debt); d.Cache == cache && d.Scope != Tag && d.Scope != All {
			j.removeLocked(e)
		}
	}
}
