package l2

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mutant"
)

// Read implements Store: one GETRANGE. Concurrent ones share pipelines, but for
// those of a client that overruns deadlines.
func (r *Redis) Read(ctx context.Context, key string, limit int) (Reply, error) {
	if err := errors.Join(checkLimit(limit), checkKey(key)); err != nil {
		return Reply{}, err
	}
	if !r.loose {
		s := r.shardFor(key)
		if !s.gather.alone() {
			return r.readGathered(ctx, s, key, limit)
		}
		defer s.gather.back()
	}
	if r.loose {
		return perform(ctx, r, key, false, func(ctx context.Context, _ *shard) (Reply, error) {
			return r.readAlone(ctx, key, limit)
		})
	}
	return performHere(ctx, r, key, false, func(ctx context.Context, _ *shard) (Reply, error) {
		return r.readAlone(ctx, key, limit)
	})
}

func (r *Redis) readAlone(ctx context.Context, key string, limit int) (Reply, error) {
	cmd := newRange(ctx, key, limit+maxMeta+1)
	return replyOf(cmd, r.client.Process(ctx, cmd), key, limit)
}

func checkLimit(limit int) error {
	if limit < 0 || limit > MaxPayload {
		return fmt.Errorf("%w: limit %d is not between 0 and %d", ErrArgument, limit, MaxPayload)
	}
	return nil
}

// replyOf turns the reply to a GETRANGE into a Reply.
func replyOf(cmd onceString, err error, key string, limit int) (Reply, error) {
	if err != nil {
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			return Reply{State: StateForeign}, nil
		}
		return Reply{}, err
	}
	b, err := cmd.Bytes() // the reply's own memory, not a copy
	if err != nil {
		return Reply{}, err
	}
	return limited(b, key, limit), nil
}

// be returns v as scripts take versions.
func be(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// bytesOf makes b an argument; nil would be sent as something else.
func bytesOf(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// change runs a script that publishes and draws a version for what it places.
func (r *Redis) change(ctx context.Context, sc *script, key string, msg []byte, args ...any) (any, error) {
	if mutant.On(mutant.PublishFirst) || mutant.On(mutant.PublishApart) {
		defer r.publishApart(ctx, &msg)()
	}
	return r.evalWords(ctx, sc, key, true, r.withHead(forScript(len(args)+3), msg, args))
}

// changeGathered is change, together with others that are made at the same time.
func (r *Redis) changeGathered(ctx context.Context, sc *script, key string, msg []byte, args ...any) (any, error) {
	s, join := r.joins(ctx, key, len(msg))
	if !join {
		if s != nil {
			defer s.writes.back()
		}
		return r.change(ctx, sc, key, msg, args...)
	}
	if mutant.On(mutant.PublishFirst) || mutant.On(mutant.PublishApart) {
		defer r.publishApart(ctx, &msg)()
	}
	a := s.gatherWrite(r.changeOrder(sc, key, msg, args...))
	return a.value, a.err
}

// withHead appends what a script that publishes begins with, and args.
func (r *Redis) withHead(dst []any, msg []byte, args []any) []any {
	return append(append(dst, r.channel, bytesOf(msg), be(NewVersion())), args...)
}

// intOf returns a reply that is an integer.
func intOf(v any, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	if !ok {
		return 0, unexpected(v)
	}
	return n, nil
}

// twoOf reads the reply of a script that returns two numbers.
func twoOf(v any, err error) (n [2]int64, _ error) {
	if err != nil {
		return n, err
	}
	list, ok := v.([]any)
	if !ok || len(list) != len(n) {
		return n, unexpected(v)
	}
	for i := range n {
		if n[i], ok = list[i].(int64); !ok {
			return n, unexpected(v)
		}
	}
	return n, nil
}

// unexpected is for replies that no script of ours gives. What was done is as
// unknown as if there were none.
func unexpected(v any) error {
	return fmt.Errorf("%w: unexpected reply of type %T", ErrUnavailable, v)
}

// Lease implements Store.
func (r *Redis) Lease(ctx context.Context, key string, seen Seen, token Token, d time.Duration) (Grant, error) {
	if err := checkHeld(token, d); err != nil {
		return Grant{}, err
	}
	return grantOf(r.change(ctx, r.scripts.lease, key, nil, leaseArgs(seen, token, d)...))
}

func leaseArgs(seen Seen, token Token, d time.Duration) []any {
	replace := "0"
	if seen.replaceable() {
		replace = "1"
	}
	return []any{be(seen.version()), replace, token[:], d.Microseconds()}
}

// grantOf reads the reply of luaLease.
func grantOf(v any, err error) (Grant, error) {
	if err != nil {
		return Grant{}, err
	}
	list, ok := v.([]any)
	if !ok || len(list) != 3 {
		return Grant{}, unexpected(v)
	}
	kind, ok1 := list[0].(int64)
	wait, ok2 := list[1].(int64)
	now, ok3 := list[2].(int64)
	if !ok1 || !ok2 || !ok3 || kind < int64(Granted) || kind > int64(GrantRefused) {
		return Grant{}, unexpected(v)
	}
	return Grant{Kind: GrantKind(kind), Wait: time.Duration(wait) * time.Microsecond, Time: now}, nil
}

// Renew implements Store.
func (r *Redis) Renew(ctx context.Context, key string, token Token, d time.Duration, writer bool) (bool, error) {
	if err := checkLease("d", d); err != nil {
		return false, err
	}
	shared := "0"
	if writer {
		shared = "1"
	}
	n, err := intOf(r.change(ctx, r.scripts.renew, key, nil, token[:], d.Microseconds(), shared))
	return n == 1, err
}

// Release implements Store.
func (r *Redis) Release(ctx context.Context, key string, token Token) error {
	_, err := intOf(r.change(ctx, r.scripts.release, key, nil, token[:]))
	return err
}

// Fill implements Store.
func (r *Redis) Fill(ctx context.Context, key string, token Token, rec []byte, ttl time.Duration, msg []byte) (bool, error) {
	if err := checkRecord(rec, ttl, false); err != nil {
		return false, err
	}
	n, err := intOf(r.change(ctx, r.scripts.fill, key, msg, token[:], rec, millis(ttl)))
	return n == 1, err
}

// Set implements Store.
func (r *Redis) Set(ctx context.Context, key string, rec []byte, ttl time.Duration, msg []byte) (SetResult, error) {
	return r.store(ctx, r.scripts.set, key, rec, ttl, msg)
}

// SetVersioned implements Store.
func (r *Redis) SetVersioned(ctx context.Context, key string, rec []byte, ttl time.Duration, msg []byte) (SetResult, error) {
	if err := checkRecord(rec, ttl, true); err != nil {
		return SetResult{}, err
	}
	return r.store(ctx, r.scripts.setVersioned, key, rec, ttl, msg)
}

// Replies of luaSet that are not minus the time.
const (
	setStored = 1
	setBarred = 2
	setOlder  = 3
)

// store runs luaSet with a deadline: the server's clock at the moment when the
// call will have been given up, by an estimate from above, so that a script is
// not refused that its caller still waits for.
//
// A script that was late all the same tells the time; the server's clock must
// have jumped, or the call sat in a queue. It is tried once more.
func (r *Redis) store(ctx context.Context, sc *script, key string, rec []byte, ttl time.Duration, msg []byte) (SetResult, error) {
	if err := checkRecord(rec, ttl, false); err != nil {
		return SetResult{}, err
	}
	var res SetResult
	for range 2 {
		code, deadline, err := r.storeOnce(ctx, sc, key, rec, ttl, msg)
		res.Deadline = max(res.Deadline, deadline)
		if err != nil {
			return res, err
		}
		switch code {
		case setStored, setBarred, setOlder:
			res.Stored, res.Barred, res.Older = code == setStored, code == setBarred, code == setOlder
			return res, nil
		}
	}
	return res, fmt.Errorf("%w: past its deadline", ErrRefused)
}

// storeOnce returns also the deadline that was sent, 0 if nothing was.
func (r *Redis) storeOnce(ctx context.Context, sc *script, key string, rec []byte, ttl time.Duration, msg []byte) (code, deadline int64, err error) {
	if mutant.On(mutant.PublishFirst) || mutant.On(mutant.PublishApart) {
		defer r.publishApart(ctx, &msg)()
	}
	// The record's version serves a placeholder, too: one of the two is stored.
	version := rec[offVersion : offVersion+8]
	words := append(forScript(6), r.channel, bytesOf(msg), version, rec, millis(ttl), nil)
	s, join := r.joins(ctx, key, len(rec)+len(msg))
	if join {
		a := s.gatherWrite(order{key: key, script: sc, args: words[scriptHead:], write: true, deadline: true})
		code, err = intOf(a.value, a.err)
		return code, a.deadline, err
	}
	if s != nil {
		defer s.writes.back()
	}
	if r.loose {
		return r.storeLoose(ctx, sc, key, r.own(words))
	}
	code, err = performHere(ctx, r, key, true, func(ctx context.Context, s *shard) (code int64, err error) {
		if deadline, err = s.deadline(ctx); err != nil {
			return 0, err
		}
		return s.storeBy(ctx, sc, key, words, deadline)
	})
	return code, deadline, err
}

// storeLoose is storeOnce with a client whose calls may be left behind.
func (r *Redis) storeLoose(ctx context.Context, sc *script, key string, words []any) (code, deadline int64, err error) {
	var sent atomic.Int64
	code, err = perform(ctx, r, key, true, func(ctx context.Context, s *shard) (int64, error) {
		deadline, err := s.deadline(ctx)
		if err != nil {
			return 0, err
		}
		sent.Store(deadline)
		return s.storeBy(ctx, sc, key, words, deadline)
	})
	if deadline = sent.Load(); deadline == 0 && err != nil {
		// Left behind before it had one, it may still send one that is no
		// later than this.
		deadline = r.Now(key) + r.opt.Timeout.Microseconds()
	}
	return code, deadline, err
}

// storeBy sends luaSet with its deadline, the last of words.
func (s *shard) storeBy(ctx context.Context, sc *script, key string, words []any, deadline int64) (int64, error) {
	words[len(words)-1] = deadline
	a := s.clock.local()
	n, err := intOf(s.eval(ctx, sc, key, words))
	if err == nil && n < 0 {
		s.clock.observe(a, -n, s.clock.local())
	}
	return n, err
}

// deadline is the end of ctx in the server's clock.
func (s *shard) deadline(ctx context.Context) (int64, error) {
	if err := s.askTime(ctx); err != nil {
		return 0, err
	}
	now := time.Now()
	_, hi, _ := s.clock.boundsAt(now)
	end, _ := ctx.Deadline() // REQUIRES: perform's context, which has one
	return hi + end.Sub(now).Microseconds(), nil
}

// Delete implements Store.
func (r *Redis) Delete(ctx context.Context, key string, opt DeleteOptions, msg []byte) (DeleteResult, error) {
	if err := opt.check(); err != nil {
		return DeleteResult{}, err
	}
	n, err := intOf(r.changeGathered(ctx, r.scripts.del, key, msg, deleteArgs(opt)...))
	if err != nil {
		return DeleteResult{}, err
	}
	if n < 0 {
		return DeleteResult{Early: time.Duration(-n) * time.Microsecond}, nil
	}
	return DeleteResult{Removed: n == 1}, nil
}

func deleteArgs(opt DeleteOptions) []any {
	return []any{opt.NotBefore, opt.Hold.Microseconds(), sourceOf(opt.Version), millis(opt.Tombstone)}
}

// noSource is the source version 0 as scripts take it.
const noSource = "\x00\x00\x00\x00\x00\x00\x00\x00"

func sourceOf(v uint64) any {
	if v == 0 {
		return noSource
	}
	return be(v)
}

// Expire implements Store.
func (r *Redis) Expire(ctx context.Context, key string, msg []byte) error {
	_, err := intOf(r.change(ctx, r.scripts.expire, key, msg))
	return err
}

// Begin implements Store.
func (r *Redis) Begin(ctx context.Context, key string, token Token, d time.Duration, msg []byte) (Bracket, error) {
	if err := checkHeld(token, d); err != nil {
		return Bracket{}, err
	}
	n, err := twoOf(r.change(ctx, r.scripts.begin, key, msg, token[:], d.Microseconds()))
	return Bracket{Sole: err == nil && n[0] == 0, till: n[0], found: n[1]}, err
}

// End implements Store.
func (r *Redis) End(ctx context.Context, key string, token Token, b Bracket, rec []byte, ttl time.Duration, msg []byte) (stored bool, err error) {
	if len(rec) > 0 {
		if err := checkRecord(rec, ttl, false); err != nil {
			return false, err
		}
	}
	n, err := intOf(r.change(ctx, r.scripts.end, key, msg, token[:], bytesOf(rec), millis(ttl), b.till, b.found))
	return n == 1, err
}
