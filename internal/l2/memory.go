package l2

import (
	"bytes"
	"container/heap"
	"container/list"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// MemoryOptions configures a Memory. The zero value is ready to use.
type MemoryOptions struct {
	// MaxBytes bounds records with their keys; the least recently used go
	// first. 0 is 64 MiB.
	MaxBytes int64
	// Publish takes the messages, in the order of the changes they tell of, one
	// at a time. A change returns when Publish has returned for its message. So
	// Publish may call the store for what carries no message, and for nothing
	// that does: that would wait for itself. nil drops the messages.
	Publish func(msg []byte)
	// Now is the clock, in microseconds. It must not go back. nil is a
	// monotonic clock that starts at the wall clock's time.
	Now func() int64
}

// Memory is the second tier inside this process: the same rules as in Redis,
// without the server. It keeps to the bounds of its options, has no goroutine
// and returns ErrUnavailable only when ctx
// is done before it began.
//
// Counters and markers are not evicted: who loses a counter has given its
// limit away. They count against MaxBytes, and when they alone fill it, new
// ones are refused (ErrRefused).
type Memory struct {
	opt   MemoryOptions
	start time.Time

	mu      sync.Mutex // guards all below but handing
	closed  bool
	cells   map[string]*cell
	recent  list.List // of *cell, most recently used first; numbers are not in it
	expiry  expiries
	bytes   int64
	numbers int64 // the part of bytes that is counters and markers
	outbox  [][]byte

	handing sync.Mutex // held by whoever hands outbox over; before mu
}

var _ Store = (*Memory)(nil)

// cell is what stands under one key.
type cell struct {
	key     string
	data    []byte
	expires int64         // microseconds; 0 never
	used    *list.Element // nil: a number, not evicted
	heapPos int           // in expiry; -1: never expires
	book    *book         // instead of data
	extra   int64         // bytes of the book's tags
}

// cellOverhead is about what a cell takes beside key and data: itself, a list
// element, its part of the map and of the heap.
const cellOverhead = 200

func (c *cell) size() int64 { return int64(len(c.key)+len(c.data)) + c.extra + cellOverhead }

// NewMemory returns an empty store.
func NewMemory(opt MemoryOptions) *Memory {
	if opt.MaxBytes <= 0 {
		opt.MaxBytes = 64 << 20
	}
	m := &Memory{opt: opt, start: time.Now(), cells: make(map[string]*cell)}
	m.recent.Init()
	return m
}

func (m *Memory) now() int64 {
	if m.opt.Now != nil {
		return m.opt.Now()
	}
	return m.start.UnixMicro() + time.Since(m.start).Microseconds()
}

// do runs f on key as one atomic step and then hands over what f published.
func (m *Memory) do(ctx context.Context, key string, f func(s *slot)) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return cutShort(ctx)
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return ErrClosed
	}
	s := m.slotLocked(key)
	queued := len(m.outbox)
	f(s)
	told := len(m.outbox) > queued
	m.mu.Unlock()
	if told {
		m.handOver()
	}
	return s.err
}

// slotLocked drops what is over and looks key up.
func (m *Memory) slotLocked(key string) *slot {
	now := m.now()
	m.sweepLocked(now)
	s := &slot{m: m, key: key, now: now, cell: m.cells[key]}
	if s.cell != nil {
		if s.cell.used != nil {
			m.recent.MoveToFront(s.cell.used)
		}
		s.state = parseHead(s.cell.data, &s.head)
	}
	return s
}

// handOver calls Publish for the messages in outbox, its caller's among them.
// When it returns, that one has been published, by this call or another.
//
// It is for those who have added a message, and for nobody else: a handler of
// messages that hands over what another goroutine has added waits for the turn
// at the bus that it holds itself.
func (m *Memory) handOver() {
	m.handing.Lock()
	defer m.handing.Unlock()
	for {
		m.mu.Lock()
		if len(m.outbox) == 0 {
			m.mu.Unlock()
			return
		}
		msg := m.outbox[0]
		m.outbox = m.outbox[1:]
		m.mu.Unlock()
		m.opt.Publish(msg)
	}
}

func (m *Memory) publishLocked(msg []byte) {
	if len(msg) > 0 && m.opt.Publish != nil {
		m.outbox = append(m.outbox, bytes.Clone(msg))
	}
}

// putLocked stores data under key. A number is not evicted.
func (m *Memory) putLocked(key string, data []byte, expires int64, number bool) *cell {
	m.removeLocked(m.cells[key])
	c := &cell{key: key, data: data, heapPos: -1}
	m.cells[key] = c
	m.bytes += c.size()
	if number {
		m.numbers += c.size()
	} else {
		c.used = m.recent.PushFront(c)
	}
	m.expireLocked(c, expires)
	for m.bytes > m.opt.MaxBytes {
		last := m.recent.Back()
		if last == nil || last.Value.(*cell) == c {
			break // what was just written stays, or the write would be lost silently
		}
		m.removeLocked(last.Value.(*cell))
	}
	return c
}

func (m *Memory) removeLocked(c *cell) {
	if c == nil {
		return
	}
	delete(m.cells, c.key)
	m.bytes -= c.size()
	if c.used != nil {
		m.recent.Remove(c.used)
	} else {
		m.numbers -= c.size()
	}
	m.expireLocked(c, 0)
}

// expireLocked makes c end at the time t, 0 for never.
func (m *Memory) expireLocked(c *cell, t int64) {
	c.expires = t
	switch {
	case t == 0 && c.heapPos >= 0:
		heap.Remove(&m.expiry, c.heapPos)
	case t == 0:
	case c.heapPos >= 0:
		heap.Fix(&m.expiry, c.heapPos)
	default:
		heap.Push(&m.expiry, c)
	}
}

// sweepLocked frees what has expired. It runs with every call, so that nothing
// expired is ever seen; each cell is freed once, so the cost is its store's.
func (m *Memory) sweepLocked(now int64) {
	for len(m.expiry) > 0 && m.expiry[0].expires <= now {
		m.removeLocked(m.expiry[0])
	}
}

// DeletePrefix implements Store. It holds the lock for a walk over all keys.
func (m *Memory) DeletePrefix(ctx context.Context, prefix string, msg []byte) (int, error) {
	if err := checkKey(prefix); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, cutShort(ctx)
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return 0, ErrClosed
	}
	var keys []string
	for key := range m.cells {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	n := 0
	for _, key := range keys {
		s := m.slotLocked(key)
		if s.delete(DeleteOptions{}) {
			n++
		}
	}
	m.publishLocked(msg)
	m.mu.Unlock()
	if len(msg) > 0 {
		m.handOver()
	}
	return n, nil
}

// Keys implements Store. It holds the lock for a walk over all keys.
func (m *Memory) Keys(ctx context.Context, prefix string, limit int) ([]string, error) {
	if err := checkKey(prefix); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, cutShort(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	m.sweepLocked(m.now())
	var keys []string
	for key := range m.cells {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	if len(keys) > limit {
		return nil, fmt.Errorf("%w: more than %d keys begin with %q", ErrArgument, limit, prefix)
	}
	slices.Sort(keys)
	return keys, nil
}

// Now implements Store; the clock is the store's own, so the estimate is exact.
func (m *Memory) Now(string) int64 { return m.now() }

// Clock implements Store.
func (m *Memory) Clock(context.Context, string) (int64, error) { return m.now(), nil }

// Earliest implements Store.
func (m *Memory) Earliest(string) int64 { return m.now() }

// Owner implements Store: there is no server.
func (m *Memory) Owner(string) string { return "" }

// Available implements Store: memory is, until Close.
func (m *Memory) Available(string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.closed
}

// Ping implements Store.
func (m *Memory) Ping(ctx context.Context) (time.Duration, error) {
	if !m.Available("") {
		return 0, ErrClosed
	}
	return 0, ctx.Err()
}

// Stats implements Store: there is no server, so there are none.
func (m *Memory) Stats() []ShardStats { return nil }

// Close implements Store and frees everything.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.cells, m.expiry, m.bytes, m.numbers = nil, nil, 0, 0
	m.recent.Init()
	return nil
}

// expiries is a heap of cells, the first to expire on top.
type expiries []*cell

func (h expiries) Len() int           { return len(h) }
func (h expiries) Less(i, j int) bool { return h[i].expires < h[j].expires }
func (h expiries) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapPos, h[j].heapPos = i, j
}

func (h *expiries) Push(x any) {
	c := x.(*cell)
	c.heapPos = len(*h)
	*h = append(*h, c)
}

func (h *expiries) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	c.heapPos = -1
	return c
}
