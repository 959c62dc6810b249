package tier

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tandemcache/tandem/internal/l1"
)

// beforeLoad notes what is known of tags before a load of the key with hash h
// begins: versions that were seen on the way, and those of tags for which the
// last fill of the key was refused.
func (c *Cache[T]) beforeLoad(ctx context.Context, h uint64, seen []seenTag) tagsBefore {
	n := c.node
	if names := c.hints.take(h); names != nil {
		names = slices.DeleteFunc(names, func(name string) bool {
			return slices.ContainsFunc(seen, func(s seenTag) bool { return s.Name == name })
		})
		ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
		defer cancel()
		q := n.queryTags(names)
		if q.resolve(ctx) == nil {
			seen = slices.Concat(seen, q.seen)
		}
	}
	return tagsBefore{seen, n.tags.seq.Load(), time.Now()}
}

// afterLoad returns the tags of a loaded value, those that the loader gave and
// those of Options.Tags, with the versions to store them under. False: the value
// may not be stored. Its tags are then remembered, so that the next load of the
// key knows their versions before it begins.
func (c *Cache[T]) afterLoad(ctx context.Context, e *l1.Entry[T], h uint64, given []string, before tagsBefore) ([]seenTag, bool) {
	names := given
	if !e.Negative() {
		var err error
		if names, err = c.tagsOf(e.Key(), e.Value, given); err != nil {
			c.node.log.Warn("tier: loaded value not stored", "cache", c.name, "key", e.Key(), "error", err)
			return nil, false
		}
	}
	if len(names) == 0 {
		return nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, c.node.cfg.Timeout)
	defer cancel()
	usable := c.node.tagsUsable(ctx, names, before)
	tags := make([]seenTag, 0, len(names))
	for _, name := range names {
		s, ok := usable[name]
		if !ok {
			c.hints.put(h, names)
			return nil, false
		}
		tags = append(tags, s)
	}
	return tags, true
}

// tagHints remembers the tags of keys whose fills were refused for them. It is
// bounded: a key that is forgotten is refused once more.
type tagHints struct {
	mu    sync.Mutex
	names map[uint64][]string // by the hash of the key; guarded by mu
}

const maxHints = 4096

func (h *tagHints) put(hash uint64, names []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.names == nil {
		h.names = make(map[uint64][]string)
	}
	if len(h.names) >= maxHints {
		for other := range h.names {
			delete(h.names, other)
			break
		}
	}
	h.names[hash] = names
}

func (h *tagHints) take(hash uint64) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := h.names[hash]
	delete(h.names, hash)
	return names
}
