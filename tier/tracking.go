package tier

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

const (
	// verdictLimit is how long Open waits for what servers that answer say to
	// tracking, if Config.Timeout is less.
	verdictLimit = 2 * time.Second
	// againQueue and againWorkers bound the reads of what announcements voided.
	// What finds no room is read when it is needed.
	againQueue, againWorkers = 1024, 4
	// recentAge is how long after a key was put into L1 an announcement of it is
	// probably that of its being stored; recentSlots is how many are remembered.
	recentAge, recentSlots = 1000 /* ms */, 1 << 12
)

// tracking makes L1 obey what servers announce (Config.Tracking), beside the
// bus. It is the handler of its listener.
//
// An announcement names a key and nothing else: neither who changed it nor into
// what, and several changes may be announced as one. So whatever it is, it voids.
// A node hears its own changes as well: the lease that it takes, its renewals,
// what it stores. So that this does not cost it what it has just put into L1, a
// key that it has read or changed in the last second is read again at once, in
// the background, by the same rules as any read. Nothing depends on telling own
// changes from others'; what is guessed wrong costs a read. Loads in flight are
// not voided (fence.Load): what they may store, their leases decide.
type tracking struct {
	node   *Node
	source *invalidation.Tracking

	mu       sync.Mutex
	listener *invalidation.Listener // nil: not yet, or closed before; guarded by mu
	floor    time.Time              // proof of earlier times is void; guarded by mu

	refusal atomic.Pointer[error]
	refused chan struct{} // closed at the first refusal
	once    sync.Once

	recent [recentSlots]atomic.Uint64 // half a hash and a time, of what was put into L1
	again  chan looking

	waiting sync.Map // the looking in again, each once
}

// track prepares the tracking that cfg asks for. It does no I/O.
func (n *Node) track(client redis.UniversalClient) error {
	if !n.cfg.Tracking {
		return nil
	}
	source, err := invalidation.NewTracking(client, invalidation.TrackingOptions{
		Prefix: n.cfg.Prefix + ":", PingEvery: n.cfg.Heartbeat / 2, DeadAfter: 2 * n.cfg.Heartbeat, Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.tracking = &tracking{
		node: n, source: source, refused: make(chan struct{}), again: make(chan looking, againQueue),
	}
	return nil
}

// start begins to listen, until close.
func (t *tracking) start() error {
	if t == nil {
		return nil
	}
	listener, err := t.source.Listen(t)
	if err != nil {
		return err
	}
	t.mu.Lock()
	t.listener = listener
	t.mu.Unlock()
	for range againWorkers {
		t.node.tasks.Go(t.lookAgain)
	}
	return nil
}

func (t *tracking) close() error {
	if t == nil {
		return nil
	}
	if listener := t.listening(); listener != nil {
		return listener.Close()
	}
	return nil
}

// listening returns the listener, nil if there is none yet.
func (t *tracking) listening() *invalidation.Listener {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.listener
}

// verdict waits until the servers track or one refuses, and returns the refusal.
func (t *tracking) verdict(ctx context.Context) error {
	select {
	case <-t.node.member.heardOnce:
	case <-ctx.Done():
	case <-t.refused:
	}
	if err := t.refusedBy(); err != nil {
		return fmt.Errorf("tier: config: Tracking: %w", err)
	}
	return nil
}

// refusedBy returns why a server does not track, nil if none is known not to.
func (t *tracking) refusedBy() error {
	if err := t.refusal.Load(); err != nil {
		return *err
	}
	return nil
}

// Refused implements invalidation.ChangeHandler.
func (t *tracking) Refused(err error) {
	t.refusal.Store(&err)
	t.once.Do(func() { close(t.refused) })
}

// Heard implements invalidation.ChangeHandler.
func (t *tracking) Heard(sent time.Time) {
	t.mu.Lock()
	void := sent.Before(t.floor)
	t.mu.Unlock()
	if void {
		return
	}
	t.refusal.Store(nil)
	t.node.member.trackedUntil(t.node.clock.Now() - int64(time.Since(sent)) + int64(t.node.member.maxSilence()))
}

// Gap implements invalidation.ChangeHandler.
func (t *tracking) Gap(reason invalidation.GapReason) {
	t.node.member.trackedUntil(0)
	t.node.member.gap("tracking: " + reason.String())
}

// renew builds new links: a server is another than before, perhaps at another
// address, and the old one may go on to answer.
func (t *tracking) renew() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.floor = time.Now()
	listener := t.listener
	t.mu.Unlock()
	t.node.member.trackedUntil(0)
	if listener != nil {
		listener.Renew()
	}
}

// Flushed implements invalidation.ChangeHandler: everything is gone.
func (t *tracking) Flushed() { t.node.eachSpace(space.flushed) }

// Changed implements invalidation.ChangeHandler.
func (t *tracking) Changed(keys []string) {
	if mutant.On(mutant.AnnouncedStays) {
		return
	}
	for _, key := range keys {
		name, id, ok := strings.Cut(strings.TrimPrefix(key, t.node.cfg.Prefix+":"), ":")
		switch {
		case !ok:
		case strings.HasPrefix(name, "!"):
			t.markerChanged(name, id)
		default:
			if s := t.node.space(name); s != nil {
				s.announced(id)
			}
		}
	}
}

// markerChanged forgets the versions that this node knows, which the next reads
// then ask for. If somebody has removed that of a cache, they make another, which
// voids all. The books of tags change with each invalidation of a tag, which
// would make every read ask; one that is lost is missed by who reads it next.
func (t *tracking) markerChanged(kind, cache string) {
	if kind != "!clear" {
		return
	}
	if s := t.node.space(cache); s != nil {
		s.version().forget()
	}
}

// looking is a key to be read for L1's sake.
type looking struct {
	s    space
	key  string
	hash uint64
}

// kept notes that the application has brought a key into L1. Collisions cost
// a read, now or later.
func (t *tracking) kept(h uint64) {
	if t != nil {
		t.recent[h%recentSlots].Store(h>>32<<32 | uint64(t.now()))
	}
}

// now is milliseconds on the node's clock, which wrap.
func (t *tracking) now() uint32 { return uint32(t.node.clock.Now() / int64(time.Millisecond)) }

func (t *tracking) isRecent(h uint64) bool {
	mark := t.recent[h%recentSlots].Load()
	return mark>>32 == h>>32 && t.now()-uint32(mark) < recentAge
}

// lookLater has a key read for L1's sake, if it is recent.
func (t *tracking) lookLater(s space, key string, h uint64) {
	if t == nil || !t.isRecent(h) {
		return
	}
	l := looking{s, strings.Clone(key), h} // the key may lie in an entry
	if _, waits := t.waiting.LoadOrStore(l, true); waits {
		return
	}
	select {
	case t.again <- l:
	default:
		t.waiting.Delete(l)
	}
}

// lookAgain works off what announcements took out of L1.
func (t *tracking) lookAgain() {
	for {
		select {
		case <-t.node.ctx.Done():
			return
		case l := <-t.again:
			t.waiting.Delete(l)
			if t.isRecent(l.hash) {
				l.s.lookAgain(t.node.ctx, l.key, l.hash)
			}
		}
	}
}

// trackedUntil is what tracking proves of the local tier's lease.
func (m *member) trackedUntil(until int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tracked = until
	m.trustLocked()
}

// flushed is what a space does when Redis has lost everything.
func (c *Cache[T]) flushed() {
	if mutant.On(mutant.FlushStays) {
		return
	}
	c.cell.forget()
	c.voidAll()
}

// announced voids a key that a server says has changed.
func (c *Cache[T]) announced(key string) {
	h := c.hash(key)
	c.fence.Announce(h)
	c.local.Drop(h)
	c.node.tracking.lookLater(c, key, h)
}

// lookAgain reads key for L1's sake. For how long that is done depends on the
// last read or change of the application, not on what this read keeps.
//
// It is a task of the node, for which Close waits while it lets nobody enter. A
// panic in it (a Codec or Options.Cost that does not expect what a stranger wrote)
// would end the process; whoever reads the key next has it in its own goroutine.
func (c *Cache[T]) lookAgain(ctx context.Context, key string, h uint64) {
	defer func() {
		if v := recover(); v != nil {
			c.complain(key, fmt.Errorf("panic: %v", v))
		}
	}()
	mark := &c.node.tracking.recent[h%recentSlots]
	before := mark.Load()
	_ = c.look(ctx, key, h, c.budget(), nil) // puts what it finds into L1
	mark.Store(before)
}

// TrackingStats describes the changes that Redis itself announces, see
// Config.Tracking.
type TrackingStats struct {
	On        bool   // Config.Tracking
	Hears     bool   // this node can prove now that it hears every master
	Servers   int    // masters known
	Confirmed int    // of them, those that track for this node
	Changes   uint64 // keys announced, this node's own changes included
	Flushes   uint64
	Gaps      uint64 // times that announcements may have been missed
	Links     uint64 // connections begun
	LastError string // why the last of them ended, or what a server has against it
}

func (t *tracking) stats() TrackingStats {
	if t == nil {
		return TrackingStats{}
	}
	s := TrackingStats{On: true, Hears: t.node.member.tracks()}
	listener := t.listening()
	if listener == nil {
		return s
	}
	l := listener.Stats()
	s.Servers, s.Confirmed, s.Changes, s.Flushes = l.Servers, l.Confirmed, l.Changes, l.Flushes
	s.Gaps, s.Links, s.LastError = l.Gaps, l.Links, l.LastError
	return s
}

// tracks reports whether the node can prove now that it hears announcements.
func (m *member) tracks() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node.clock.Now() < m.tracked
}

// unheard says why L1 is not served as fresh.
func (n *Node) unheard() string {
	if n.tracking == nil || n.member.tracks() {
		return "invalidations are not heard"
	}
	reason := "changes by strangers are not heard"
	if err := n.tracking.refusedBy(); err != nil {
		reason += ": " + err.Error()
	}
	return reason
}
