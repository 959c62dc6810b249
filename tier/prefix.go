package tier

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tandemcache/tandem/internal/journal"
	"github.com/tandemcache/tandem/internal/l2"
	"github.com/tandemcache/tandem/internal/mutant"
	"github.com/tandemcache/tandem/invalidation"
)

// redisKey is the grammar of keys: prefix, cache, id.
func (n *Node) redisKey(cache, id string) string { return n.cfg.Prefix + ":" + cache + ":" + id }

// markerKey is where a cache's version for Clear stands. No cache's name
// begins with '!', so that no key of a cache is a marker.
func (n *Node) markerKey(cache string) string { return n.cfg.Prefix + ":!clear:" + cache }

// splitPrefix takes a prefix across caches apart: the cache, and what is left.
func splitPrefix(prefix string) (cache, below string, err error) {
	trimmed := strings.TrimSuffix(prefix, ":")
	if err := checkKey("", trimmed); err != nil {
		return "", "", fmt.Errorf("prefix: %w", err)
	}
	cache, below, _ = strings.Cut(trimmed, ":")
	if cache == "" || checkAlphabet(cache) != nil {
		return "", "", fmt.Errorf("%w: prefix %.80q does not begin with the name of a cache", ErrKey, prefix)
	}
	return cache, below, nil
}

// deletePrefix is DeletePrefix of a node and of a cache.
//
// The message goes out after the last key of the last server is gone, and the
// local fence moves before and after: what a read found between is not kept.
func (n *Node) deletePrefix(ctx context.Context, cache, prefix string) (int, error) {
	s := n.space(cache)
	void := func() {
		if s != nil {
			s.invalidatePrefix(prefix)
		}
	}
	void()
	nt, err := n.member.compose(invalidation.Message{Kind: invalidation.KindPrefix, Cache: cache, Keys: []string{prefix}})
	if err != nil {
		return 0, fmt.Errorf("tier: delete prefix %s:%.80q: %w", cache, prefix, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer n.brackets.onClose(func() { cancel(ErrClosed) })()
	count, err := n.removePrefix(ctx, cache, prefix, nt.bytes)
	n.member.settle(nt, err == nil)
	if err != nil {
		n.owe(journal.Debt{Scope: journal.Prefix, Cache: cache, Name: prefix}, err)
		void()
		return 0, n.unconfirmedErr("delete prefix", cache, prefix, err)
	}
	if !mutant.On(mutant.NoEndBump) {
		void()
	}
	return count, nil
}

// removePrefix removes the keys of a prefix from the store: the key that is
// the prefix, and everything below it. It publishes msg at the end.
//
// A scan lasts as long as the key space is large, so only its single calls are
// bounded, by the store, and ctx.
func (n *Node) removePrefix(ctx context.Context, cache, prefix string, msg []byte) (count int, err error) {
	below := n.redisKey(cache, prefix)
	if prefix != "" {
		res, err := n.store.Delete(ctx, below, l2.DeleteOptions{}, nil)
		if err != nil {
			return 0, err
		}
		if res.Removed {
			count++
		}
		below += ":"
	}
	removed, err := n.store.DeletePrefix(ctx, below, msg)
	return count + removed, err
}

// raiseCache raises a cache's version in Redis, which voids every record of it.
// s is nil when the cache is not open on this node.
func (n *Node) raiseCache(ctx context.Context, cache string, s space) error {
	var floor uint64
	if s != nil {
		_, floor = s.version().begin()
	}
	nt, err := n.member.compose(invalidation.Message{Kind: invalidation.KindClear, Cache: cache})
	if err != nil {
		return err
	}
	version, err := n.store.Raise(ctx, n.markerKey(cache), floor, nt.bytes)
	n.member.settle(nt, err == nil)
	if err == nil && s != nil {
		s.clear(version)
	}
	return err
}

// raiseAll raises the versions of all caches of the namespace: of those that have
// one in Redis, and of those that are open here.
func (n *Node) raiseAll(ctx context.Context) error {
	const most = 1 << 20 // far more than there can be reason for
	markers := n.markerKey("")
	keys, err := n.store.Keys(ctx, markers, most)
	if err != nil {
		return err
	}
	names := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		names[strings.TrimPrefix(key, markers)] = struct{}{}
	}
	n.mu.Lock()
	for name := range n.spaces {
		names[name] = struct{}{}
	}
	n.mu.Unlock()
	var errs []error
	for name := range names {
		if checkName(name) != nil {
			continue // not ours
		}
		ctx, cancel := context.WithTimeout(ctx, n.cfg.Timeout)
		errs = append(errs, n.raiseCache(ctx, name, n.space(name)))
		cancel()
	}
	return errors.Join(errs...)
}
