package tier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/keys"
)

// raiseBatch is how many tags of one InvalidateTags are raised in one pipeline.
const raiseBatch = 500

// InvalidateTags voids every value that carries one of tags, in all caches of
// the fleet, open on this node or not. It costs the same however many values
// that are: one step in Redis a tag, all of them in one round trip (on a cluster
// one to each master, at once), which also tells the other nodes. Values that
// are void take up their room until their TTL.
//
// Promises are those of [Cache.Delete]: when InvalidateTags returns, no read on
// this node returns a value that was stored or loaded under one of the tags
// before it, and no load begun before, on any node, stores its result under one.
//
// What Redis does not confirm is owed, see [Cache.Set]: until it is replayed,
// this node loads what carries the tag on every read. InvalidateTags returns nil
// then, or ErrUnavailable if Config.Strict. An invalid tag is ErrKey, the others
// are invalidated all the same. ErrClosed: nothing is done. Without tags it does
// nothing. A ctx that ends does not stop an invalidation.
func (n *Node) InvalidateTags(ctx context.Context, tags ...string) error {
	if err := n.enter(); err != nil {
		return err
	}
	defer n.leave()
	var errs []error
	names := make([]string, 0, len(tags))
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			errs = append(errs, err)
			continue
		}
		names = append(names, tag)
	}
	slices.Sort(names)
	for batch := range slices.Chunk(slices.Compact(names), raiseBatch) {
		ctx, cancel := n.detached(ctx)
		errs = append(errs, n.invalidateTags(ctx, batch))
		cancel()
	}
	return errors.Join(errs...)
}

// invalidateTags raises tags, or all tags of books, in Redis.
//
// Everything moves before and after: what a read finds in between is not kept,
// and a debt is there before the second move, so that a read which missed the
// one sees the other.
func (n *Node) invalidateTags(ctx context.Context, tags []string) error {
	for _, tag := range tags {
		n.tags.move(tag)
	}
	var errs []error
	for i, err := range n.raiseTags(ctx, tags) {
		if err == nil {
			continue
		}
		n.oweTag(tags[i], err)
		errs = append(errs, n.unconfirmedErr("invalidate tag", "", tags[i], err))
	}
	return errors.Join(errs...)
}

// raiseTags raises the versions of tags, or of all tags of books, and takes the
// new ones. It returns an error for each that was not confirmed.
func (n *Node) raiseTags(ctx context.Context, tags []string) []error {
	errs := make([]error, len(tags))
	notices := make([]notice, len(tags))
	raises := make([]l2.TagRaise, 0, len(tags))
	places := make([]int, 0, len(tags))
	for i, tag := range tags {
		raise := l2.TagRaise{Book: n.bookKey(bookOf(tag)), Floor: n.tags.floor(tag)}
		sign := tag
		if !isSign(tag) {
			raise.Tag, sign = tag, signOf(bookOf(tag))
		}
		nt, err := n.member.compose(invalidation.Message{Kind: invalidation.KindTags, Keys: []string{tag}})
		if err != nil {
			errs[i] = err
			continue
		}
		// The same message about all tags of the book: one of the two is sent.
		wide := invalidation.Message{Kind: invalidation.KindTags, Node: n.id, Seq: nt.seq, Keys: []string{sign}}
		raise.Msg = nt.bytes
		if raise.Wide, err = wide.Append(nil); err != nil {
			errs[i] = err
			n.member.settle(nt, false)
			continue
		}
		notices[i] = nt
		raises, places = append(raises, raise), append(places, i)
	}
	for j, st := range n.store.RaiseTags(ctx, raises) {
		i := places[j]
		n.member.settle(notices[i], st.Err == nil)
		if errs[i] = st.Err; st.Err == nil {
			n.tookTag(tags[i], st)
		}
	}
	return errs
}

// payTag replays an owed invalidation: of a tag, of a book or of all tags.
func (n *Node) payTag(ctx context.Context, tag string) error {
	tags := []string{tag}
	if tag == everyTag {
		tags = tags[:0]
		for book := range tagBooks {
			tags = append(tags, signOf(book))
		}
	}
	for _, tag := range tags {
		if !n.store.Available(n.bookKey(bookOf(tag))) {
			return l2.ErrUnavailable
		}
	}
	return errors.Join(n.raiseTags(ctx, tags)...)
}

// tookTag takes the outcome of raising a tag.
func (n *Node) tookTag(tag string, st l2.BookState) {
	if st.Wide {
		n.tags.raise(signOf(bookOf(tag)), st.Base)
		return
	}
	n.tags.raise(tag, st.Versions[0])
}

// applyTags does what another node's message about tags asks for.
func (n *Node) applyTags(msg invalidation.Message) {
	for _, tag := range msg.Keys {
		if n.remote() {
			n.tags.raise(tag, msg.Version)
			continue
		}
		// Without Redis each node has its own records, under versions of its own.
		n.tags.move(tag)
		raise := l2.TagRaise{Book: n.bookKey(bookOf(tag))}
		if !isSign(tag) {
			raise.Tag = tag
		}
		if st := n.store.RaiseTags(n.ctx, []l2.TagRaise{raise})[0]; st.Err == nil {
			n.tookTag(tag, st)
		}
	}
}

// checkTag returns an error that matches ErrKey, and names the tag, unless tag
// keeps to the rules for keys.
func checkTag(tag string) error {
	if err := keys.Check(tag); err != nil {
		return fmt.Errorf("%w: tag %.80q: %w", ErrKey, tag, err)
	}
	return nil
}

// tagsOf returns the tags of a value: those given and those of Options.Tags, each
// once. Errors match ErrKey.
func (c *Cache[T]) tagsOf(key string, value T, given []string) ([]string, error) {
	all := slices.Clone(given)
	if c.opts.Tags != nil {
		// A key may lie in an entry, and a tag that is a part of it lives longer.
		all = append(all, c.opts.Tags(strings.Clone(key), value)...)
	}
	return foldTags(c.name, key, all)
}

// foldTags checks tags and drops those that came before, in place.
func foldTags(cache, key string, tags []string) ([]string, error) {
	out := tags[:0]
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			return nil, fmt.Errorf("cache %q, key %.80q: %w", cache, key, err)
		}
		if slices.Contains(out, tag) {
			continue
		}
		if len(out) == l2.MaxTags {
			return nil, fmt.Errorf("%w: cache %q, key %.80q: tag %.80q is one more than the %d allowed", ErrKey, cache, key, tag, l2.MaxTags)
		}
		out = append(out, tag)
	}
	return out, nil
}

// writeMarks returns the versions that a write stores: of the cache and of the
// tags, from before it is sent.
func (c *Cache[T]) writeMarks(ctx context.Context, tags []string) (version uint64, seen []seenTag, err error) {
	version = c.cell.get()
	known := version != 0 && c.node.member.hears()
	if known && len(tags) == 0 {
		return version, nil, nil
	}
	q := c.node.queryTags(tags)
	if known {
		return version, q.seen, q.resolve(ctx)
	}
	ticket, floor := c.cell.begin()
	_, marked := c.node.store.ReadMany(ctx, nil, 0, l2.Marks{Marker: c.node.markerKey(c.name), Books: q.reads()})
	q.take(marked.Books)
	if err := errors.Join(marked.Err, q.makeMissing(ctx)); err != nil {
		return 0, nil, err
	}
	if marked.Version == 0 {
		version, err = c.learnVersion(ctx)
		return version, q.seen, err
	}
	return c.tookVersion(ticket, floor, marked.Version), q.seen, nil
}

// tagsBefore is what was known of tags before a load began.
type tagsBefore struct {
	seen []seenTag
	seq  uint64
	at   time.Time
}

// tagsUsable returns those of tags under which the result of a load that began
// with before may be stored, with the versions to store.
//
// Of a tag that was known before, it is the version from before. Any other is
// named by the loader alone, so its version is compared with the time at which
// the load began: a version is at least the time of its last change, in the
// clock of its own master, so below a lower bound of that time there was no
// change since.
func (n *Node) tagsUsable(ctx context.Context, tags []string, before tagsBefore) map[string]seenTag {
	usable := make(map[string]seenTag, len(tags))
	known := make(map[string]seenTag, len(before.seen))
	for _, s := range before.seen {
		known[s.Name] = s
	}
	var late []string
	for _, tag := range tags {
		if s, ok := known[tag]; ok && !mutant.On(mutant.TagAfterLoad) {
			usable[tag] = s
		} else {
			late = append(late, tag)
		}
	}
	q := n.queryTags(late)
	_ = q.resolve(ctx) // what could not be read has no version
	if mutant.On(mutant.TagAfterLoad) {
		for _, s := range q.seen {
			usable[s.Name] = s
		}
		return usable
	}
	took := time.Since(before.at)
	for _, s := range q.seen {
		// The server's clock may run faster than ours by a thousandth. A clock that
		// is not known shows 0, so that the load began before all times.
		now := n.store.Earliest(n.bookKey(bookOf(s.Name)))
		begun := now - took.Microseconds() - took.Microseconds()/1000 - 1
		if s.version != 0 && begun > 0 && s.version < uint64(begun) {
			usable[s.Name] = s
		}
	}
	for tag := range usable {
		if n.tags.movedSince(tag, before.seq) || n.owesTag(tag) {
			delete(usable, tag)
		}
	}
	return usable
}
