package l2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/mutant"
)

const (
	// scanCount is how many slots of its table Redis looks at in one step: well
	// under a millisecond, so that nobody else waits.
	scanCount = 500
	// scanBatch is how many keys are deleted in one pipeline.
	scanBatch = 200
	// scanPasses bounds how often the masters are scanned again because slots
	// moved meanwhile.
	scanPasses = 4
)

// DeletePrefix implements Store: a SCAN with a cursor over each master, and
// Delete's script for each key found, placeholders and what is not ours
// included. Each round trip has the store's timeout; ctx bounds the whole.
func (r *Redis) DeletePrefix(ctx context.Context, prefix string, msg []byte) (int, error) {
	if err := r.beginScan(ctx, prefix); err != nil {
		return 0, err
	}
	defer r.tasks.Done()
	total := 0
	err := r.scanMasters(ctx, prefix, func(keys []string) (int, error) { return r.deleteBatch(ctx, keys) }, &total)
	if len(msg) > 0 && (err == nil || r.cluster != nil) {
		// Only now: a reader that has heard of it must not find the old value. That
		// one master could not be scanned makes the others' news no less true.
		err = errors.Join(err, r.publish(ctx, prefix, msg))
	}
	if err != nil {
		return total, unavailable(err)
	}
	return total, nil
}

// Keys implements Store.
func (r *Redis) Keys(ctx context.Context, prefix string, limit int) ([]string, error) {
	if err := r.beginScan(ctx, prefix); err != nil {
		return nil, err
	}
	defer r.tasks.Done()
	var mu sync.Mutex
	found := make(map[string]struct{})
	total := 0
	err := r.scanMasters(ctx, prefix, func(keys []string) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, key := range keys {
			found[key] = struct{}{}
		}
		if len(found) > limit {
			return 0, errTooMany
		}
		return 0, nil
	}, &total)
	if errors.Is(err, errTooMany) {
		return nil, fmt.Errorf("%w: more than %d keys begin with %q", ErrArgument, limit, prefix)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

var errTooMany = errors.New("too many keys")

// beginScan begins a call for all keys of a prefix; every nil is followed by
// r.tasks.Done.
func (r *Redis) beginScan(ctx context.Context, prefix string) error {
	if err := checkKey(prefix); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return cutShort(ctx)
	}
	return r.enter()
}

// unavailable makes err match ErrUnavailable: part of the work may be done.
func unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// scanMasters calls visit with the keys that begin with prefix, in batches, from
// several goroutines on a cluster, and adds what it returns to total.
//
// It scans until a pass over the masters during which no slot moved: a key that
// moves from a master not yet scanned to one that was is seen by neither scan. So
// visit may see a key twice. A master that is away is an error, and keeps no other
// from being scanned.
//
// While a slot is open its keys move one by one, and the map of slots stays the
// same. They go one way, so that one which the first pass missed has arrived when
// it is over: two passes over the same map see every key.
func (r *Redis) scanMasters(ctx context.Context, prefix string, visit func([]string) (int, error), total *int) error {
	scanned := "" // the map of the last pass, if it stayed the same
	for range scanPasses {
		before, lacking := r.topology(ctx)
		n, err := r.scanEach(ctx, prefix, visit)
		*total += n
		if err := errors.Join(lacking, err); err != nil {
			return err
		}
		after, err := r.topology(ctx)
		switch {
		case err != nil:
			return err
		case before != after:
			scanned = ""
		case !hasOpenSlot(before) || before == scanned:
			return nil
		default:
			scanned = before
		}
	}
	return fmt.Errorf("slots kept moving during %d scans", scanPasses)
}

// hasOpenSlot reports whether a slot is being given or taken: a field [7->-id] or
// [7-<-id], which unlike an address does not begin a line.
func hasOpenSlot(topology string) bool { return strings.Contains(topology, " [") }

// topology is the cluster's map of slots, as text; moving slots differ in it.
func (r *Redis) topology(ctx context.Context) (string, error) {
	if r.cluster == nil {
		return "", nil
	}
	if err := r.discover(ctx); err != nil {
		return "", err
	}
	views := make(map[string]string)
	for _, s := range r.all() {
		ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
		text, err := s.node.Load().ClusterNodes(ctx).Result()
		cancel()
		if err != nil {
			return "", err
		}
		views[s.addr] = slotsOf(text)
	}
	var all strings.Builder
	for _, addr := range slices.Sorted(maps.Keys(views)) {
		fmt.Fprintf(&all, "%s %s\n", addr, views[addr])
	}
	return all.String(), nil
}

// slotsOf returns the line of CLUSTER NODES that a server says of itself, with
// slots that it gives or takes, without what changes by the second.
func slotsOf(nodes string) string {
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) >= 8 && strings.Contains(fields[2], "myself") {
			return strings.Join(append(fields[:1:1], fields[8:]...), " ")
		}
	}
	return ""
}

// scanEach scans all masters at once.
func (r *Redis) scanEach(ctx context.Context, prefix string, visit func([]string) (int, error)) (int, error) {
	list := r.all()
	counts := make([]int, len(list))
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, s := range list {
		wg.Go(func() { counts[i], errs[i] = s.each(ctx, prefix, visit) })
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return total, errors.Join(errs...)
}

// each calls visit with the server's keys that begin with prefix, in batches.
func (s *shard) each(ctx context.Context, prefix string, visit func([]string) (int, error)) (int, error) {
	total, cursor := 0, uint64(0)
	var pending []string
	for {
		keys, next, err := s.scan(ctx, cursor, escapeGlob(prefix)+"*")
		if err != nil {
			return total, err
		}
		for _, key := range keys {
			// The pattern is only a hint: the prefix is literal.
			if mutant.On(mutant.PrefixOfValues) && !s.holdsValue(ctx, key) {
				continue
			}
			if strings.HasPrefix(key, prefix) {
				pending = append(pending, key)
			}
		}
		for len(pending) >= scanBatch || next == 0 && len(pending) > 0 {
			batch := pending[:min(scanBatch, len(pending))]
			n, err := visit(batch)
			total += n
			if err != nil {
				return total, err
			}
			pending = pending[len(batch):]
		}
		if cursor = next; cursor == 0 {
			return total, nil
		}
	}
}

func (s *shard) scan(ctx context.Context, cursor uint64, pattern string) ([]string, uint64, error) {
	if s.breaker.Open() {
		return nil, 0, s.unavailable()
	}
	node := s.node.Load()
	if node == nil {
		return nil, 0, errNoMaster
	}
	ctx, cancel := context.WithTimeout(ctx, s.r.opt.Timeout)
	defer cancel()
	return node.Scan(ctx, cursor, pattern, scanCount).Result()
}

// deleteBatch deletes keys in one pipeline, following redirections, and again
// whole where the server did not know the script.
func (r *Redis) deleteBatch(ctx context.Context, keys []string) (int, error) {
	args := r.withHead(nil, nil, deleteArgs(DeleteOptions{}))
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	return run(ctx, r, func(ctx context.Context) (int, error) {
		total, unknown, err := r.deletePipeline(ctx, "evalsha", r.scripts.del.sha, keys, args)
		if err != nil || len(unknown) == 0 {
			return total, err
		}
		n, _, err := r.deletePipeline(ctx, "eval", r.scripts.del.src, unknown, args)
		return total + n, err
	})
}

// deletePipeline returns how many values went and the keys whose server did not
// know the script.
func (r *Redis) deletePipeline(ctx context.Context, name, script string, keys []string, args []any) (total int, unknown []string, err error) {
	pipe := r.client.Pipeline()
	cmds := make([]once, len(keys))
	for i, key := range keys {
		cmds[i] = newScriptCall(ctx, name, script, key, args)
		_ = pipe.Process(ctx, cmds[i])
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	var errs []error
	for i, cmd := range cmds {
		switch n, err := intOf(cmd.Val(), cmd.Err()); {
		case noScript(err):
			unknown = append(unknown, keys[i])
		case err != nil:
			errs = append(errs, err)
		default:
			total += int(n)
		}
	}
	if len(errs) > 0 {
		err = errs[0] // the others are mostly the same
	}
	return total, unknown, err
}

// publish sends msg, under the breaker of the server that owns key. A cluster
// passes it on from any of its masters.
func (r *Redis) publish(ctx context.Context, key string, msg []byte) error {
	msg = slices.Clone(msg)
	_, err := perform(ctx, r, key, true, func(ctx context.Context, _ *shard) (struct{}, error) {
		return struct{}{}, r.client.Process(ctx, once{redis.NewCmd(ctx, "publish", r.opt.Channel, msg)})
	})
	return err
}

// escapeGlob makes every character of s stand for itself in a MATCH pattern.
func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(s)
}
