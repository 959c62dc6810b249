package l2

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Restart tells that a server may lack what it, or the one in whose place it
// is, had acknowledged.
//
// How far its history reaches is known by marks. At every look this process
// writes a growing number of its own to the fleet's marker on the server.
// Replication, snapshots and append-only files keep a beginning of the history
// in its order, so a mark that is there proves everything that the server had
// acknowledged before the mark was sent.
type Restart struct {
	Addr string
	// Intact is the moment up to which history is proved: what the server had
	// acknowledged to anybody before it is still there. Zero: nothing is proved.
	Intact time.Time
	// Joined says that a master has joined the cluster in whose slots this
	// process has no mark, as when the cluster is enlarged: it came by its keys
	// one by one, and is not known to have lost anything.
	Joined bool

	// shard is the server, nil for the zero Restart: that one owns every key, and
	// notes nothing.
	shard *shard
	id    string // of the server
}

// Owns reports whether the server is the one that holds key, as far as is known
// now. What cannot be told is said to be its.
func (r Restart) Owns(key string) bool {
	return r.shard == nil || r.shard.r.cluster == nil || r.shard.holds(key) != no
}

// Noted reports for each of what whether a process has noted it with
// [Restart.Note] since the server has become what it is. One round trip.
func (r Restart) Noted(ctx context.Context, what ...string) ([]bool, error) {
	noted := make([]bool, len(what))
	marker, node, err := r.marker()
	if err != nil || marker == "" {
		return noted, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.shard.r.opt.Timeout)
	defer cancel()
	pipe := node.Pipeline()
	scores := make([]*redis.FloatCmd, len(what))
	for i, w := range what {
		scores[i] = pipe.ZScore(ctx, marker, r.note(w))
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, score := range scores {
		if err := score.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		noted[i] = score.Err() == nil
	}
	return noted, nil
}

// Note leaves word on the server that something was done because of the
// restart, and reports whether this is the first word of it. It is forgotten
// with the server's next change, or after [fleetLife]. A server that takes no
// notes is new to everybody.
func (r Restart) Note(ctx context.Context, what string) (first bool, err error) {
	marker, node, err := r.marker()
	if err != nil || marker == "" {
		return true, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.shard.r.opt.Timeout)
	defer cancel()
	_, now, _ := r.shard.clock.bounds()
	added, err := node.ZAddNX(ctx, marker, redis.Z{Score: float64(now), Member: r.note(what)}).Result()
	return added > 0, err
}

// note is the member of the fleet's marker for what; no node's name has a space.
func (r Restart) note(what string) string { return what + " " + r.id }

func (r Restart) marker() (string, *redis.Client, error) {
	if r.shard == nil {
		return "", nil, nil
	}
	node := r.shard.node.Load()
	if node == nil {
		return "", nil, errNoMaster
	}
	return r.shard.fleetKey(), node, nil
}

const (
	// marksKept is how many marks are remembered: two minutes of them.
	marksKept = 128
	// fleetLife is how long the marks of a process that is gone stay, and notes.
	fleetLife = time.Hour
	// fleetSweep is how many marks a process writes between two sweeps of the
	// marker.
	fleetSweep = 64
	// fleetTries bounds the search for a marker among the slots of a master. One
	// that owns few has none then, and proves nothing.
	fleetTries = 4096
)

// history is what this process has written to one marker.
type history struct {
	mu    sync.Mutex // guards what follows
	last  uint64     // number given out last
	count uint64     // of numbers given out
	marks []mark     // ascending; each was sent to a server that was known
	left  mark       // the last that is known to have been written
}

type mark struct {
	number uint64
	sent   time.Time
}

// next gives out a mark to be sent, with a number that is about now in the
// server's clock, so that a marker can be swept by age, but always grows. It
// says whether that is due.
func (h *history) next(now int64) (m mark, sweep bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = max(h.last+1, uint64(max(now, 0)))
	h.count++
	m = mark{h.last, time.Now()}
	if len(h.marks) == marksKept {
		h.marks = append(h.marks[:0], h.marks[1:]...)
	}
	h.marks = append(h.marks, m)
	return m, h.count%fleetSweep == 1
}

// written takes note that m is on the server.
func (h *history) written(m mark) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.number > h.left.number {
		h.left = m
	}
}

// proves returns when the mark was sent that a server shows: it proves what the
// server had acknowledged before. Zero: it is none that is remembered.
//
// Its reply may have been lost: where it stands it was written by a server that
// was known, or by one that has that server's history. What was written after
// it stays remembered. It is not in this server's history, but may be in that of
// another which takes its place again.
func (h *history) proves(number uint64) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.marks {
		if m.number == number {
			return m.sent
		}
	}
	return time.Time{}
}

// latest returns when the last mark was sent that is known to have been written,
// zero without one.
func (h *history) latest() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.left.sent
}

// histories are those of a store, by marker. There is one marker, or in
// a cluster one for each master.
type histories struct {
	mu  sync.Mutex // guards all
	all map[string]*history
}

// of returns the history of marker, nil if there is none and make is false.
func (hs *histories) of(marker string, make bool) *history {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	h := hs.all[marker]
	if h == nil && make {
		h = &history{}
		hs.all[marker] = h
	}
	return h
}

// freshest returns the marker with the latest mark among those that ok accepts,
// "" without one.
func (hs *histories) freshest(ok func(marker string) bool) string {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	best, at := "", time.Time{}
	for marker, h := range hs.all {
		if latest := h.latest(); latest.After(at) && ok(marker) {
			best, at = marker, latest
		}
	}
	return best
}

// ownership is the answer to whether a server holds a key.
type ownership uint8

const (
	no ownership = iota
	yes
	unknown
)

// holds reports whether the cluster's client takes s for the master of key.
func (s *shard) holds(key string) ownership {
	node, err := s.r.cluster.MasterForKey(s.r.ctx, key)
	switch {
	case err != nil:
		return unknown
	case node.Options().Addr == s.addr:
		return yes
	}
	return no
}

// fleetKey returns the marker on s, "" if it has none.
//
// In a cluster it is one whose slot s serves: the one that s has been using, or
// that its predecessor was, so that a replica that takes over is judged by the
// marks on its master.
func (s *shard) fleetKey() string {
	base := s.r.opt.Fleet
	if base == "" || s.r.cluster == nil {
		return base
	}
	mine := func(marker string) bool { return s.holds(marker) == yes }
	if marker := s.r.histories.freshest(mine); marker != "" {
		return marker
	}
	for i := range fleetTries {
		if marker := base + ":{" + strconv.Itoa(i) + "}"; mine(marker) {
			return marker
		}
	}
	return ""
}

// markLeft is luaMark's word for a mark that was left.
const markLeft = "left"

// luaMark shows who the server is and the mark of a process in the marker, and
// leaves the next one if the server is the one that is expected: a mark must not
// reach a server whose own last one was not read, for it would pass for a proof
// of what that server lacks. So it asks for the identity itself.
//
// Arguments: name of the process, who is expected, the next mark, the number
// below which marks are swept (each may be empty).
//
// ZREM comes first because the first write of a script is refused when memory
// is full, and later ones are not.
const luaMark = `
local K, NODE, KNOWN, NEXT, SWEEP = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local function field(text, name)
  return string.match(text, name .. ':([^\r\n]*)') or ''
end
local replication = redis.call('INFO', 'replication')
local id = field(redis.call('INFO', 'server'), 'run_id') .. ' ' ..
  field(replication, 'master_replid') .. ' ' .. field(replication, 'role')
local old = redis.pcall('ZSCORE', K, NODE)
if type(old) ~= 'string' then old = '' end
if KNOWN == '' or id ~= KNOWN then return {id, old, ''} end
local r = redis.pcall('ZREM', K, NODE)
if type(r) == 'table' and r.err and string.find(r.err, 'WRONGTYPE', 1, true) then
  redis.call('DEL', K)
elseif type(r) == 'table' and r.err then
  return {id, old, r.err}
end
redis.call('ZADD', K, NEXT, NODE)
if SWEEP ~= '' then redis.call('ZREMRANGEBYSCORE', K, '-inf', SWEEP) end
return {id, old, '` + markLeft + `'}
`

// nextMark gives out the next mark for a marker, and the number below which
// those of others are swept now, if that is due.
func (s *shard) nextMark(marker string) (next mark, sweep string) {
	_, now, _ := s.clock.bounds()
	next, due := s.r.histories.of(marker, true).next(now)
	if old := now - fleetLife.Microseconds(); due && old > 0 {
		sweep = "(" + strconv.FormatInt(old, 10)
	}
	return next, sweep
}

// parseMark reads a score of the marker.
func parseMark(score string) (number uint64, ok bool) {
	f, err := strconv.ParseFloat(score, 64)
	if err != nil || !(f >= 0 && f < math.MaxInt64) {
		return 0, false
	}
	return uint64(f), true
}
