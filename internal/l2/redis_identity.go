package l2

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mutant"
)

// sighting is what a server shows of itself.
type sighting struct {
	id, runID string // empty: it does not tell
	sentinel  bool   // it holds no data
	marker    string
	mark      uint64 // of this process, from before this sighting
	marked    bool   // there is one
	markErr   error  // an answer that does not tell
	left      mark   // by this sighting; zero: none
}

var errNoMaster = errors.New("the cluster's masters are not known yet")

// visit meets the server and leaves the next mark there.
func (s *shard) visit(ctx context.Context) error {
	node := s.node.Load()
	if node == nil {
		return errNoMaster
	}
	pipe := node.Pipeline()
	ping := pipe.Ping(ctx)
	clock := pipe.Time(ctx)
	var state *redis.StringCmd
	if s.r.cluster != nil {
		state = pipe.ClusterInfo(ctx)
	}
	who := s.askWho(ctx, pipe, true)
	a := s.clock.local()
	_, _ = pipe.Exec(ctx) // each command has its own error
	b := s.clock.local()
	if err := errors.Join(pinged(ping), clock.Err()); err != nil {
		return err
	}
	if state != nil && strings.Contains(state.Val(), "cluster_state:fail") && s.breaker.Open() {
		return errors.New("the cluster is down")
	}
	seen, err := who()
	if err != nil {
		return err
	}
	before := s.identity()
	another, err := s.meet(seen, true)
	if err != nil {
		return err
	}
	if seen.marker != "" && before != s.identity() {
		s.wake() // only a server that is known gets a mark
	}
	if t := clock.Val().UnixMicro(); another {
		s.clock.replace(a, t, b)
	} else {
		s.clock.observe(a, t, b)
	}
	return nil
}

// pinged returns why ping says that the server does not serve. One that cannot
// save (MISCONF) refuses PING like a write, and serves reads.
func pinged(ping *redis.StatusCmd) error {
	if err := ping.Err(); classify(err) != classRefused {
		return err
	}
	return nil
}

// askWho adds to pipe what tells one server from another, and with leave set the
// next mark. The result is to be called when pipe has been executed.
//
// The run id changes with a restart and a failover behind one address. The
// replication id, and the role, change when a primary was demoted and promoted
// again in between, which loses writes as well.
func (s *shard) askWho(ctx context.Context, pipe redis.Pipeliner, leave bool) func() (sighting, error) {
	server := pipe.Info(ctx, "server")
	replication := pipe.Info(ctx, "replication")
	marker := s.fleetKey()
	var reply *redis.Cmd
	var next mark
	if marker != "" {
		known, number, sweep := "", "", ""
		if leave {
			known = s.identity()
			next, sweep = s.nextMark(marker)
			number = strconv.FormatUint(next.number, 10)
		}
		script := luaMark
		if mutant.On(mutant.BlindMark) {
			script = strings.Replace(script, "id ~= KNOWN", "false", 1)
		}
		reply = pipe.Eval(ctx, script, []string{marker}, s.r.opt.Node, known, number, sweep)
	}
	return func() (seen sighting, err error) {
		if err := server.Err(); err != nil && !isAnswer(err) {
			return seen, err
		}
		seen.runID = infoField(server.Val(), "run_id")
		seen.sentinel = infoField(server.Val(), "redis_mode") == "sentinel"
		if seen.runID != "" {
			text := replication.Val()
			seen.id = seen.runID + " " + infoField(text, "master_replid") + " " + infoField(text, "role")
		}
		if reply == nil {
			return seen, nil
		}
		if err := reply.Err(); err != nil && !isAnswer(err) {
			return seen, err
		}
		seen.marker = marker
		s.readMark(&seen, reply, next)
		return seen, nil
	}
}

// readMark takes the reply to luaMark.
func (s *shard) readMark(seen *sighting, reply *redis.Cmd, next mark) {
	list, err := reply.Slice()
	if err == nil && len(list) != 3 {
		err = unexpected(reply.Val())
	}
	if err != nil {
		switch classify(err) {
		case classUnavailable, classDead:
			seen.markErr = err // later it may
		}
		if seen.markErr == nil || redirected(err) {
			// No rights, no such command in scripts, or a slot that has moved:
			// nothing is proved.
			seen.marker, seen.markErr = "", nil
		}
		return
	}
	if id, _ := list[0].(string); len(id) > len("  ") {
		seen.id = id // of the very server that shows the mark
	}
	old, _ := list[1].(string)
	seen.mark, seen.marked = parseMark(old)
	if result, _ := list[2].(string); result == markLeft {
		seen.left = next
	}
}

// redirected reports whether a server said that a key is, or may be, elsewhere.
func redirected(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK") || redis.HasErrorPrefix(err, "TRYAGAIN")
}

// meet takes note of who the server is, and tells of a restart if it is another
// one than before. It returns when the owner has been told, to whoever waits
// for the same server as well: no reply of it may be used before. The error says
// why that cannot be told now.
//
// With look set it is the watch that asks, which leaves a mark afterwards and
// therefore knows that one must be there.
func (s *shard) meet(seen sighting, look bool) (another bool, err error) {
	s.meeting.Lock()
	defer s.meeting.Unlock()
	known := s.identity()
	h := s.r.histories.of(seen.marker, false)
	r := Restart{Addr: s.addr, shard: s, id: seen.id}
	switch first := known == ""; {
	case seen.id == "":
		s.met.Store(s.met.Load() || look) // it will never tell
		return false, nil
	case first && s.joined, !first && known != seen.id:
		if seen.markErr != nil {
			return false, seen.markErr
		}
		r.Joined = first && h == nil
		if h != nil && seen.marked {
			r.Intact = h.proves(seen.mark)
		}
	case !first && look && seen.markErr == nil && !seen.marked && h != nil && !h.latest().IsZero():
		// The same server without the mark: it was emptied, which brings nothing
		// back, but voids what the local tier holds.
		r.Intact = time.Now()
	default:
		s.know(seen)
		return false, nil
	}
	s.r.log.Warn("l2: redis may have lost what it acknowledged", slog.String("addr", s.addr),
		slog.String("was", known), slog.String("is", seen.id), slog.Time("intact", r.Intact))
	s.r.restarted(r)
	s.know(seen)
	return known != seen.id, nil
}

// identity returns who the server is, as far as is known; empty: it is not.
func (s *shard) identity() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

func (s *shard) know(seen sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id, s.runID = seen.id, seen.runID
	s.met.Store(true)
	if seen.left.number != 0 {
		s.r.histories.of(seen.marker, true).written(seen.left)
	}
}

// introduce meets a server over which nothing has been asked yet, and reads its
// clock if the look that should have done so has failed: the times in a record
// mean nothing to who does not know it. In a cluster that is one that has just
// become a master.
func (s *shard) introduce(ctx context.Context) error {
	if s.node.Load() == nil {
		return nil // of the cluster nothing is known yet
	}
	if !s.met.Load() {
		if err := s.look(ctx); err != nil {
			return err
		}
	}
	return s.askTime(ctx)
}

// Greet meets the server at the other end of a new connection of the client,
// before anything is asked over it: it is meant for the client's OnConnect. One
// round trip.
//
// addr tells the nodes of a cluster apart and is ignored otherwise. A node that
// is not known as a master is met when it turns out to be one. A sentinel, for
// which go-redis calls OnConnect as well, is none of ours.
func (r *Redis) Greet(ctx context.Context, addr string, conn *redis.Conn) error {
	if mutant.On(mutant.NoGreet) {
		return nil
	}
	if r.enter() != nil {
		return nil // closed: its owner does not care any more
	}
	defer r.tasks.Done()
	s := r.seed
	if r.cluster != nil {
		r.mu.RLock()
		s = r.shards[addr]
		r.mu.RUnlock()
		if s == nil {
			return nil
		}
	}
	pipe := conn.Pipeline()
	who := s.askWho(ctx, pipe, false)
	_, _ = pipe.Exec(ctx) // each command has its own error
	seen, err := who()
	if err != nil || seen.sentinel {
		return err
	}
	_, err = s.meet(seen, false)
	return err
}

// infoField returns the value of name in the text of INFO, empty if absent.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
