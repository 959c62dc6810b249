package tier

import (
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/invalidation"
)

// ringSpan is how long an invalidation is remembered for the case that Redis
// loses it: longer than a replica that is worth being promoted lags, and than
// the second that an append-only file may lack.
const ringSpan = 30 * time.Second

// ring is the memory of the last invalidations: the own ones, or those that
// were received. It is bounded in time and in keys, and knows from when on it is
// complete.
type ring struct {
	limit int // keys

	mu    sync.Mutex // guards what follows
	slots []ringItem // a power of two of them, or none: item number n is in slot n of as many
	first uint64     // the number of the oldest item
	next  uint64     // that of the next one
	keys  int        // of all items
	lost  time.Time  // when the latest of the items that were dropped was done; zero: none was
	open  int        // dropped ones that are still under way
}

// ringItem is one invalidation.
type ringItem struct {
	kind    invalidation.Kind
	origin  invalidation.NodeID // of those that were received
	cache   string
	names   []string
	version uint64
	done    time.Time // when Redis had it for certain; zero: it is under way
	void    bool      // Redis did not confirm it, so that it is owed and comes again
}

func itemOf(msg *invalidation.Message, done time.Time) ringItem {
	return ringItem{kind: msg.Kind, origin: msg.Node, cache: msg.Cache, names: msg.Keys, version: msg.Version, done: done}
}

// debt returns what is owed when name number i of the item is lost.
func (item *ringItem) debt(i int) journal.Debt {
	d := journal.Debt{Scope: scopeOf(item.kind), Cache: item.cache, Name: item.names[i]}
	if item.kind == invalidation.KindKeys {
		d.Version = item.version
	}
	return d
}

func newRing(limit int) *ring { return &ring{limit: limit} }

// enter remembers an item and returns its number for settle. It is done, or yet
// to be sent: it must be here before its command is, else a server could lose
// it in between.
func (r *ring) enter(item ringItem, now time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lenLocked() == len(r.slots) {
		r.resizeLocked(max(2*len(r.slots), ringSlots))
	}
	number := r.next
	r.next++
	*r.itemLocked(number) = item
	r.keys += max(len(item.names), 1)
	r.pruneLocked(now)
	return number
}

// ringSlots is how many slots a ring has at least, once it holds anything. It has
// room for what a busy node changes at once, and grows with what it must remember:
// items are not moved for each new one.
const ringSlots = 64

func (r *ring) lenLocked() int { return int(r.next - r.first) }

func (r *ring) itemLocked(number uint64) *ringItem {
	return &r.slots[number&uint64(len(r.slots)-1)]
}

// resizeLocked moves the items to so many slots.
func (r *ring) resizeLocked(slots int) {
	old := r.slots
	r.slots = make([]ringItem, slots)
	for n := r.first; n < r.next; n++ {
		*r.itemLocked(n) = old[n&uint64(len(old)-1)]
	}
}

// settle ends an item that was under way.
func (r *ring) settle(number uint64, confirmed bool, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if number < r.first {
		r.open--
		if confirmed && r.lost.Before(now) {
			r.lost = now
		}
		return
	}
	item := r.itemLocked(number)
	item.done, item.void = now, !confirmed
}

// pruneLocked drops from the old end what is too old or too much. One that is
// under way is kept unless there is too much: it holds up those behind it, for
// as long as a call to Redis takes.
func (r *ring) pruneLocked(now time.Time) {
	for ; r.first+1 < r.next; r.first++ {
		item := r.itemLocked(r.first)
		old := !item.done.IsZero() && now.Sub(item.done) > ringSpan
		if !old && r.keys <= r.limit {
			break
		}
		if item.done.IsZero() {
			r.open++
		} else if !item.void && r.lost.Before(item.done) {
			r.lost = item.done
		}
		r.keys -= max(len(item.names), 1)
		*item = ringItem{} // frees the names
	}
	if len(r.slots) > ringSlots && r.lenLocked() < len(r.slots)/4 {
		r.resizeLocked(len(r.slots) / 2)
	}
}

// since returns what Redis may not have had by the time t, and whether that is
// all there was. t zero asks for everything since the node began.
func (r *ring) since(t time.Time) (items []ringItem, complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := r.first; n < r.next; n++ {
		if item := r.itemLocked(n); !item.void && (item.done.IsZero() || !item.done.Before(t)) {
			items = append(items, *item)
		}
	}
	return items, r.open == 0 && (r.lost.IsZero() || r.lost.Before(t))
}

// caches adds the names of the caches that items are about to set.
func (r *ring) caches(set map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := r.first; n < r.next; n++ {
		if item := r.itemLocked(n); item.cache != "" {
			set[item.cache] = true
		}
	}
}
