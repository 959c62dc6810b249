package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/bench/peer"
	"github.com/tandemcache/tandem/tier"
)

// obedience measures how long another process goes on with what was changed. Both
// processes read the clock of one machine: this one when a change begins, the
// other when it obeys.
func obedience(b *bench) error {
	t := &table{
		name: "Obey", title: "Time until another process obeys",
		about: "From the beginning of Set (or Delete) here until the memory of another process, which holds the key, no longer has the old value: " +
			"when the goroutine that handles invalidations is done with that message and reads on. pubsub is a bare PUBLISH here until a bare subscriber there has the message; " +
			"both processes do nothing else. Each change is one of another key. " +
			"In the rows of polling a loop without a pause runs in the other process, which shares two processors with Redis and this process: " +
			"Tandem's reads a key, to which every tenth change goes, until it sees the new value, that of pubsub does nothing.",
		columns: []string{"p99-ns", "p50-ns", "max-ns", "changes/s"}, base: "pubsub", better: "less",
	}
	var all []contender
	for _, rate := range []int{100, 1000, 10_000} {
		for _, name := range []string{"pubsub", "tandem", "tandem-delete", "pubsub-polling", "tandem-polling"} {
			if polling(name) && rate != 1000 {
				continue
			}
			all = append(all, contender{peer: name, params: fmt.Sprintf("rate=%d", rate), round: func() (sample, error) {
				return b.obey(name, rate)
			}})
		}
	}
	return t.run(b, all)
}

const obeyName = "bench-obey"

func polling(name string) bool { return strings.HasSuffix(name, "-polling") }

// obeyed says when another process obeyed a change, by its number.
type obeyed map[int]int64

func (b *bench) obey(name string, rate int) (s sample, err error) {
	length := max(b.length*5, 300*time.Millisecond)
	changes := int(float64(rate) * length.Seconds())
	other, err := startChild("obey", order{Peer: name, Addr: b.redis.addr, Keys: changes})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.stop()) }()
	change, closing, err := b.changer(name, makeKeys(changes))
	if err != nil {
		return nil, err
	}
	defer func() { _ = closing() }()
	var ready string
	if err := other.hear(&ready); err != nil {
		return nil, err
	}
	begun := make([]int64, changes)
	took, err := atRate(rate, changes, func(n int) error {
		begun[n] = time.Now().UnixNano()
		return change(n)
	})
	if err != nil {
		return nil, err
	}
	if polling(name) {
		time.Sleep(100 * time.Millisecond) // for the last change to be seen
	}
	_ = other.in.Close()
	var at obeyed
	if err := other.hear(&at); err != nil {
		return nil, err
	}
	if len(at) == 0 {
		return nil, errors.New("the other process saw no change")
	}
	var late []time.Duration
	for n, when := range at {
		// A read that polls may begin before the change that it sees, and wait for a processor.
		late = append(late, time.Duration(max(when-begun[n], 0)))
	}
	s = percentiles(late)
	s["ops"], s["changes/s"] = float64(len(late)), float64(changes)/took.Seconds()
	return s, nil
}

// changer returns what makes the change with a number.
func (b *bench) changer(name string, keys []string) (change func(n int) error, closing func() error, err error) {
	ctx := context.Background()
	if strings.HasPrefix(name, "pubsub") {
		c := b.redis.client()
		return func(n int) error { return c.Publish(ctx, obeyName, n).Err() }, c.Close, nil
	}
	c, err := openPeer(peer.Memory[User](), "tandem", peer.Env{Addr: b.redis.addr, Bytes: 64 << 20, Name: obeyName})
	if err != nil {
		return nil, nil, err
	}
	if name == "tandem-delete" {
		return func(n int) error { return c.Delete(ctx, keys[n]) }, c.Close, nil
	}
	return func(n int) error {
		key := keys[n]
		if polling(name) && n%10 == 0 {
			key = keys[0] // which is watched
		}
		return c.Set(ctx, key, User{ID: int64(n)})
	}, c.Close, nil
}

// atRate calls f for the numbers below n, so many a second, and returns how long it
// took. Several workers share the rate, so that one slow call does not hold up the
// next.
func atRate(rate, n int, f func(n int) error) (took time.Duration, err error) {
	const workers = 8
	begun := time.Now()
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				due := begun.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))
				time.Sleep(time.Until(due))
				errs[w] = f(i)
			}
		})
	}
	wg.Wait()
	return time.Since(begun), errors.Join(errs...)
}

// lastHeard is how long after the last change a process may take to hear of it.
const lastHeard = 5 * time.Second

// obeyChild is the process that obeys.
func obeyChild(ctx context.Context, o order, say func(any) error) error {
	if strings.HasPrefix(o.Peer, "pubsub") {
		return hearChild(ctx, o, say)
	}
	var w witness
	c, err := openPeer(peer.Memory[User](), "tandem", peer.Env{Addr: o.Addr, Bytes: 64 << 20, Name: obeyName, Dial: w.dial})
	if err != nil {
		return err
	}
	// Loaded, not set: of a Set this process would hear itself.
	keys := makeKeys(o.Keys)
	if err := hold(c, keys); err != nil {
		return errors.Join(err, c.Close())
	}
	if err := say("ready"); err != nil {
		return errors.Join(err, c.Close())
	}
	at := obeyed{}
	if polling(o.Peer) {
		err = poll(ctx, c, keys[0], at)
	}
	<-ctx.Done()
	if !polling(o.Peer) {
		err = until(lastHeard, func() error {
			if heard := len(w.handled()); heard < o.Keys {
				return fmt.Errorf("of %d changes %d were heard of", o.Keys, heard)
			}
			return nil
		})
	}
	if err := errors.Join(err, c.Close()); err != nil {
		return err
	}
	if !polling(o.Peer) {
		for key, when := range w.handled() {
			var n int
			if _, err := fmt.Sscanf(key, keyFormat, &n); err != nil {
				return err
			}
			at[n] = when
		}
	}
	return say(at)
}

// hold loads keys until the memory of c serves them, which it does not before the
// process can prove that it hears of changes.
func hold(c peer.Cache[User], keys []string) error {
	ctx := context.Background()
	hits := func() uint64 { return c.(interface{ Stats() tier.Stats }).Stats().HitsL1 }
	return until(20*time.Second, func() error {
		before := hits()
		err := together(len(keys), func(i int) error {
			_, err := c.(peer.Loader[User]).Load(ctx, keys[i], func(context.Context) (User, error) { return User{}, nil })
			return err
		})
		if held := int(hits() - before); err == nil && held < len(keys)*99/100 {
			return fmt.Errorf("memory serves %d keys of %d", held, len(keys))
		}
		return err
	})
}

// poll reads key without a pause and notes when the read began that saw a change.
func poll(ctx context.Context, c peer.Cache[User], key string, at obeyed) error {
	known, _, err := c.Get(context.Background(), key)
	for err == nil && ctx.Err() == nil {
		var v User
		var ok bool
		begun := time.Now().UnixNano()
		if v, ok, err = c.Get(context.Background(), key); ok && v.ID != known.ID {
			known = v
			at[int(v.ID)] = begun
		}
	}
	return err
}

// hearChild receives what is published, if it is told to beside a loop like poll's.
func hearChild(ctx context.Context, o order, say func(any) error) error {
	client := redis.NewClient(&redis.Options{Addr: o.Addr})
	defer func() { _ = client.Close() }()
	sub := client.Subscribe(context.Background(), obeyName)
	if _, err := sub.Receive(context.Background()); err != nil {
		return err
	}
	if err := say("ready"); err != nil {
		return err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for polling(o.Peer) && ctx.Err() == nil {
			_ = time.Now()
		}
	})
	context.AfterFunc(ctx, func() {
		time.Sleep(lastHeard)
		_ = sub.Close()
	})
	at := obeyed{}
	for len(at) < o.Keys {
		msg, err := sub.ReceiveMessage(context.Background())
		if err != nil {
			return fmt.Errorf("of %d changes %d were heard of: %w", o.Keys, len(at), err)
		}
		now := time.Now().UnixNano()
		n, err := strconv.Atoi(msg.Payload)
		if err != nil {
			return err
		}
		at[n] = now
	}
	wg.Wait()
	return say(at)
}
