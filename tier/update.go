package tier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/internal/fence"
	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/invalidation"
)

const (
	// bracketTime is how long a writer's placeholder stands without renewal: how
	// long a key stays empty when the process of its writer dies. Longer than
	// a reader's lease, because what ends with it is a commit, not a wait.
	bracketTime = 5 * time.Second
	// bracketEvery is the time between two renewals.
	bracketEvery = time.Second
	// bracketMargin is how long before the end of the placeholder commit's context
	// ends: the time that a database has to drop, or to finish, what it was told.
	bracketMargin = time.Second
)

// errBracket is the cause of the end of commit's context when the placeholder is
// gone, or can no longer be kept.
var errBracket = fmt.Errorf("%w: the placeholder of this Update could not be kept", ErrUnavailable)

// Update changes the source of truth and the cache in one bracket, so that they
// cannot come apart (OrderedUpdate): commit writes the database and returns what
// is now true, and Update stores that. It is the write to use when a stale value
// would hurt; two round trips.
//
// A placeholder takes the key's place in Redis and on all nodes before commit
// runs, and while it stands, readers load for themselves and nothing is stored
// in any tier. Update stores what commit returned if the placeholder still stands
// and nobody else has touched the key: another Update, a Set, a Delete or
// an Expire that ran meanwhile, anywhere, leaves the key empty, because their
// order in the database is not known to anybody. So the cache equals the database
// or is empty, whatever the order of commits and replies. Update joins no load,
// and no read that begins after it joins one that began before it ended.
//
// # commit
//
// commit runs in the caller's goroutine, with a context of ctx that ends also
// after Options.LoadTimeout, when the node is closed, and when the placeholder
// cannot be kept alive, because Redis does not answer for seconds. It should end
// then. Until it has returned, the placeholder is renewed. It may use the cache,
// this key included; an Update of the same key inside leaves the key empty.
//
// If commit returns ErrNotFound, the row was removed: that is remembered for
// NegativeTTL, and Update returns ErrNotFound. With any other error, with
// a panic, a Goexit and when ctx ends, what is in the database is not known:
// the key is deleted on all nodes, on a context of its own, and Update returns
// commit's error, or goes on panicking.
//
// # Crash
//
// A process that dies in between leaves the placeholder. It ends after 5 s, and the
// next read loads what the database holds: empty, never stale, in L2 and in every
// L1. Until then reads load, and store nothing. (Updates that begin meanwhile and
// take longer than a second, or overlap one another, put that off, to 5 s after the
// last sign of life of any of them.) Compare [Cache.Delete] after a commit: the process that dies between
// the two leaves the old value for its TTL.
//
// If Redis cannot be reached when Update begins, commit runs all the same, without
// a placeholder, and the key is owed (see [Cache.Set]): this node serves it from
// neither tier from before commit until Redis has confirmed. A process that dies
// with it leaves what Redis held.
//
// # Result
//
// ttl is as for [Cache.Set]; below zero, other than NoExpiry, nothing is stored and
// the key is deleted. commit's value is returned whenever commit returned one,
// because the database has changed: together with nil, or with
//
//   - ErrTooLarge or the codec's error: it was not stored and the key was deleted.
//   - ErrUnavailable, only if Config.Strict: Redis did not confirm the end, and the
//     key is owed. Without Strict that is nil.
//   - ErrClosed: the node was closed meanwhile; the placeholder keeps the key empty
//     until it ends.
//
// An error that comes before commit, which then has not run: ErrKey, ErrClosed,
// one about ttl, a nil commit, or the cause of a ctx that has ended.
func (c *Cache[T]) Update(ctx context.Context, key string, ttl time.Duration, commit func(context.Context) (T, error)) (T, error) {
	var zero T
	if commit == nil {
		return zero, fmt.Errorf("tier: cache %q: Update %.80q: commit is nil", c.name, key)
	}
	ttl, err := c.ttlOf(ttl)
	if err != nil {
		return zero, err
	}
	if err := checkKey(c.name, key); err != nil {
		return zero, err
	}
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	b := &bracket[T]{c: c, key: key, hash: c.hash(key), token: l2.NewToken()}
	if err := b.begin(ctx); err != nil {
		return zero, err
	}
	defer c.node.brackets.leave()
	defer func() {
		if !b.ended { // a panic or a Goexit of commit
			_ = b.end(ctx, nil)
		}
	}()
	v, err := b.run(ctx, commit)
	return b.conclude(ctx, v, err, ttl)
}

// bracket is an Update under way.
type bracket[T any] struct {
	c     *Cache[T]
	key   string
	hash  uint64
	token l2.Token

	stands bool        // the placeholder was confirmed
	placed l2.Bracket  // then
	until  time.Time   // when it ends at the earliest
	begun  fence.Stamp // from after the placeholder was there
	// version is the cache's, from before commit. It is 0, and nothing is stored, if it
	// is not known, or if the placeholder was not confirmed before commit began:
	// that one may arrive late, when another's whole Update has come and gone.
	version uint64
	before  tagsBefore
	ended   bool
}

// begin puts the placeholder in place. Every nil must be followed by brackets.leave.
//
// The stamp moves twice: what a read finds between the two may be from before
// the placeholder, and must not stay here while commit changes the truth.
func (b *bracket[T]) begin(ctx context.Context) error {
	c := b.c
	if err := c.node.enter(); err != nil {
		return err
	}
	defer c.node.leave()
	ctx, cancel := c.node.detached(ctx)
	defer cancel()
	c.node.brackets.enter()

	c.fence.Move(b.hash)
	sent := time.Now()
	if err := b.place(ctx); err != nil {
		// Its outcome may be unknown. From here on this node loads the key on every
		// read, so that commit need not wait for Redis to be sure of that.
		c.node.owe(journal.Debt{Scope: journal.Key, Cache: c.name, Name: b.key}, err)
	} else {
		b.stands, b.until = true, sent.Add(bracketTime)
		// Known before commit: a Clear that comes later must void what commit returns.
		b.version, _ = c.currentVersion(ctx)
	}
	b.before = c.beforeLoad(ctx, b.hash, nil)
	b.begun = c.fence.Begin(b.hash)
	c.local.Drop(b.hash)
	return nil
}

func (b *bracket[T]) place(ctx context.Context) error {
	n := b.c.node
	nt, err := b.notice()
	if err != nil {
		return err
	}
	b.placed, err = n.store.Begin(ctx, b.c.redisKey(b.key), b.token, bracketTime, nt.bytes)
	n.member.settle(nt, err == nil)
	return err
}

func (b *bracket[T]) notice() (notice, error) {
	return b.c.node.member.compose(invalidation.Message{
		Kind: invalidation.KindKeys, Cache: b.c.name, Keys: []string{b.key},
	})
}

// run calls commit while the placeholder is renewed.
func (b *bracket[T]) run(ctx context.Context, commit func(context.Context) (T, error)) (T, error) {
	if ctx.Err() != nil {
		var zero T
		return zero, context.Cause(ctx)
	}
	limited, stop := context.WithTimeout(ctx, b.c.opts.LoadTimeout)
	defer stop()
	limited, cancel := context.WithCancelCause(limited)
	defer cancel(nil)
	defer b.c.node.brackets.onClose(func() { cancel(ErrClosed) })()
	defer b.keep(ctx, func() { cancel(errBracket) })()

	v, err := commit(limited)
	if cause := context.Cause(limited); err != nil && (errors.Is(cause, errBracket) || errors.Is(cause, ErrClosed)) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return v, err
}

// keep renews the placeholder until the returned function is called, which waits
// for the renewal under way, and calls lost once when it is gone or might be soon.
//
// It goes on after lost and after the end of ctx: commit may be slow to notice,
// and as long as it runs it may change the truth.
func (b *bracket[T]) keep(ctx context.Context, lost func()) (stop func()) {
	if !b.stands {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	limit := time.AfterFunc(time.Until(b.until)-bracketMargin, lost)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(bracketEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			until := time.Now().Add(bracketTime)
			held, err := b.renew(ctx)
			switch {
			case err == nil && held:
				limit.Reset(time.Until(until) - bracketMargin)
			case err == nil:
				lost()
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		limit.Stop()
	}
}

func (b *bracket[T]) renew(ctx context.Context) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, bracketEvery)
	defer cancel()
	return b.c.node.store.Renew(ctx, b.c.redisKey(b.key), b.token, bracketTime, true)
}

// conclude ends the bracket with what commit came to.
func (b *bracket[T]) conclude(ctx context.Context, v T, err error, ttl time.Duration) (T, error) {
	var zero T
	m := making[T]{key: b.key, value: v, negative: errors.Is(err, ErrNotFound), ttl: ttl, version: b.version}
	if err != nil {
		v, m.value = zero, zero
	}
	store := b.version != 0 && (err == nil || m.negative) && (ttl > 0 || ttl == NoExpiry)
	if m.negative {
		m.ttl = b.c.opts.NegativeTTL
		store = store && m.ttl > 0
	}
	if store {
		m.tags, store = b.c.afterLoad(context.WithoutCancel(ctx), newEntry(b.key, v, m.negative), b.hash, nil, b.before)
	}
	var w *encoded[T]
	if store {
		m.ttl = b.c.jittered(m.ttl)
		var faulty error
		w, faulty = b.c.encode(ctx, m)
		if !errors.Is(faulty, l2.ErrUnavailable) { // else the key is left empty
			err = joined(err, faulty)
		}
	}
	return v, joined(err, b.end(ctx, w))
}

// joined is errors.Join that leaves a single error as it is.
func joined(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return errors.Join(a, b)
}

// end takes the placeholder away and stores w in its place, if w is not nil and
// nobody has disturbed the placeholder. Whatever comes of it, this node is rid of
// what was there before.
func (b *bracket[T]) end(ctx context.Context, w *encoded[T]) error {
	c := b.c
	b.ended = true
	if err := c.node.enterLast(); err != nil {
		c.invalidate(b.key)
		return err
	}
	defer c.node.endings.leave()
	ctx, cancel := c.node.detached(ctx)
	defer cancel()

	stored, err := b.finish(ctx, w)
	if err == nil && !stored && c.opts.Hold > 0 {
		_, err = c.node.deleteKey(ctx, c.name, b.key, l2.DeleteOptions{Hold: c.opts.Hold})
	}
	if err != nil {
		// A late end stores only in place of its placeholder, which the replay removes.
		c.node.owe(journal.Debt{Scope: journal.Key, Cache: c.name, Name: b.key}, err)
		c.invalidate(b.key)
		return c.node.unconfirmedErr("update", c.name, b.key, err)
	}
	if st := c.confirm(b.hash, b.begun); stored {
		c.keep(b.hash, w.entry, w.bytes, st)
		return nil
	}
	c.local.Drop(b.hash)
	return nil
}

func (b *bracket[T]) finish(ctx context.Context, w *encoded[T]) (stored bool, err error) {
	n := b.c.node
	nt, err := b.notice()
	if err != nil {
		return false, err
	}
	var rec []byte
	var ttl time.Duration
	if w != nil {
		rec, ttl = w.record, w.redisTTL
	}
	stored, err = n.store.End(ctx, b.c.redisKey(b.key), b.token, b.placed, rec, ttl, nt.bytes)
	n.member.settle(nt, err == nil)
	return stored, err
}
