package tier

import (
	"context"
	"slices"

	"github.com/tandemcache/tandem/internal/l1"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/keys"
)

// askAlong begins a query to be sent along with reads: for names, the tags of
// what L1 holds of them, and, if a load may follow that names tags, once for all
// books.
func (c *Cache[T]) askAlong(names []string) *tagQuery {
	all := c.tagged.Load() && !c.node.tags.made.Load()
	if len(names) == 0 && !all {
		return noTags
	}
	q := c.node.queryTags(names)
	if all {
		q.wantAll()
	}
	return q
}

// noTags is the query that asks for nothing. It is not changed.
var noTags = &tagQuery{}

// tookAlong takes what came along with a read. Books that are missing are made,
// so that a load which follows knows versions from before it.
func (c *Cache[T]) tookAlong(ctx context.Context, asked *tagQuery, states []l2.BookState) {
	if asked.done() {
		return
	}
	all := len(asked.books) == tagBooks
	asked.take(states)
	// One that fails leaves tags unknown: whoever needs them asks again.
	if asked.makeMissing(ctx) == nil && all {
		c.node.tags.made.Store(true)
	}
	asked.seen = slices.DeleteFunc(asked.seen, func(s seenTag) bool { return s.version == 0 })
}

// tagsHold says whether a record's tags have the versions that it was stored
// with: hit if they have, else what the read has come to: missed (one was
// invalidated), owed, or blind (one could not be read). seen are their versions
// now.
func (c *Cache[T]) tagsHold(ctx context.Context, rec *l2.Record, asked *tagQuery) (o outcome, seen []seenTag) {
	if !validTags(rec.Tags) {
		c.counts.decodeErrors.Add(1)
		return missed, nil
	}
	names := make([]string, len(rec.Tags))
	for i, t := range rec.Tags {
		names[i] = t.Name
	}
	seen, err := c.node.tagsNow(ctx, names, asked)
	if err != nil {
		return blind, nil
	}
	return c.node.compareTags(rec, seen), seen
}

// compareTags is tagsHold with the versions at hand, one for each tag of rec.
func (n *Node) compareTags(rec *l2.Record, seen []seenTag) outcome {
	for i, t := range rec.Tags {
		switch {
		case n.owesTag(t.Name): // after its cell was read: see oweTag
			return owed
		case seen[i].version != t.Version && !mutant.On(mutant.TagUnread):
			return missed
		}
	}
	return hit
}

// validTags reports whether a record's tags are what this library stores.
func validTags(tags []l2.TagVersion) bool {
	for i, t := range tags {
		twice := slices.ContainsFunc(tags[:i], func(u l2.TagVersion) bool { return u.Name == t.Name })
		if twice || keys.Check(t.Name) != nil {
			return false
		}
	}
	return true
}

// tagsNow returns the versions of tags, those that asked has found and others.
func (n *Node) tagsNow(ctx context.Context, names []string, asked *tagQuery) ([]seenTag, error) {
	seen := make([]seenTag, len(names))
	var rest []string
	var places []int
	for i, name := range names {
		if j := slices.IndexFunc(asked.seen, func(s seenTag) bool { return s.Name == name }); j >= 0 {
			seen[i] = asked.seen[j]
			continue
		}
		rest, places = append(rest, name), append(places, i)
	}
	q := n.queryTags(rest)
	if err := q.resolve(ctx); err != nil {
		return nil, err
	}
	for i, s := range q.seen {
		seen[places[i]] = s
	}
	return seen, nil
}

// ties returns what ties an entry to its tags.
func ties(seen []seenTag) []l1.Tag {
	if len(seen) == 0 {
		return nil
	}
	tags := make([]l1.Tag, len(seen))
	for i := range seen {
		tags[i] = seen[i].Tag
	}
	return tags
}

// stamps returns the versions that a record stores.
func stamps(seen []seenTag) []l2.TagVersion {
	if len(seen) == 0 {
		return nil
	}
	tags := make([]l2.TagVersion, len(seen))
	for i := range seen {
		tags[i] = l2.TagVersion{Name: seen[i].Name, Version: seen[i].version}
	}
	return tags
}

// tied reports whether nothing that tags stand for was invalidated since the
// entry was tied to them.
func tied(tags []l1.Tag) bool {
	for i := range tags {
		if tags[i].Cell.Load() != tags[i].Version {
			return false
		}
	}
	return true
}

func tagNames(tags []l1.Tag) []string {
	if len(tags) == 0 {
		return nil
	}
	names := make([]string, len(tags))
	for i := range tags {
		names[i] = tags[i].Name
	}
	return names
}
