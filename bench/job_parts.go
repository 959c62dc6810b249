package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/tandemcache/tandem/bench/peer"
	"github.com/tandemcache/tandem/codec"
	"github.com/tandemcache/tandem/tier"
)

// codecs measures codecs alone, and the sizes that they make.
func codecs(b *bench) error {
	t := &table{
		name: "Codec", title: "Codecs: one encoding and one decoding",
		about:   "10-field struct, and 10 KiB of text.",
		columns: []string{"ns/op", "allocs/op", "encoded-B"}, base: "msgpack", better: "less",
	}
	user, err := codecContenders(b, "user", makeUser(7))
	if err != nil {
		return err
	}
	blob, err := codecContenders(b, "10KiB", makeBlob(10<<10)(7))
	if err != nil {
		return err
	}
	return t.run(b, append(user, blob...))
}

func codecContenders[T any](b *bench, name string, v T) ([]contender, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	encrypted, err := codec.Encrypted(codec.Msgpack[T](), codec.Keyring{{ID: "bench", Key: secret}})
	if err != nil {
		return nil, err
	}
	compressed, err := codec.Compressed(codec.Msgpack[T](), codec.Compression{})
	if err != nil {
		return nil, err
	}
	list := []struct {
		peer  string
		codec codec.Codec[T]
	}{
		{"msgpack", codec.Msgpack[T]()}, {"json", codec.JSON[T]()},
		{"msgpack+zstd", compressed}, {"msgpack+aes-gcm", encrypted},
	}
	var all []contender
	for _, e := range list {
		all = append(all, contender{peer: e.peer, params: "value=" + name, round: func() (sample, error) {
			var buf []byte
			s, err := measure(load{workers: 1, length: b.length}, func(int, int) error {
				var err error
				if buf, err = codec.AppendFor(e.codec, buf[:0], "bench", v); err != nil {
					return err
				}
				var back T
				return codec.DecodeFor(e.codec, buf, "bench", &back)
			})
			s["encoded-B"] = float64(len(buf))
			return s, err
		}})
	}
	return all, nil
}

// features measures what options cost on a hit, and what a cluster costs.
func features(b *bench) error {
	t := &table{
		name: "Feature", title: "What a feature costs on a hit in memory",
		about:   "10-field struct, 10,000 keys, Zipf, 1 CPU; the base is a cache with default options.",
		columns: []string{"ns/op", "allocs/op"}, base: "default", better: "less",
	}
	keys := makeKeys(b.scale(10_000))
	orders := draw(keys, "zipf", 1)
	var all []contender
	closed := func() error { return nil }
	for _, f := range []struct {
		name string
		opts tier.Options[User]
	}{
		{"default", tier.Options[User]{TTL: peer.TTL}},
		{"no-expiry", tier.Options[User]{TTL: tier.NoExpiry}},
		{"local-ttl", tier.Options[User]{TTL: peer.TTL, Local: tier.Local{TTL: 10 * time.Minute}}},
		{"clone", tier.Options[User]{TTL: peer.TTL, Clone: func(u User) User { return u }}},
	} {
		f.opts.Local.MaxBytes = 256 << 20
		p := peer.Peer[User]{Name: f.name, Open: func(e peer.Env) (peer.Cache[User], error) { return peer.OpenTandem(e, f.opts) }}
		h := &holder[User]{peer: p, env: peer.Env{Addr: b.redis.addr}, keys: keys, value: makeUser}
		before := closed
		closed = func() error { return errors.Join(before(), h.close()) }
		all = append(all, contender{peer: f.name, open: h.open, round: hits(h, orders, load{workers: 1, length: b.length}, 1)})
	}
	if err := errors.Join(t.run(b, all), closed()); err != nil {
		return err
	}
	return clusterCost(b)
}

func clusterCost(b *bench) error {
	t := &table{
		name: "Cluster", title: "L2 hits on one server, and on a cluster of three masters",
		about:   "10-field struct, 10,000 keys, uniform, memory turned off; go-redis is GET and decode by its client for a cluster. All servers share this machine, so that three masters take more of it than one.",
		columns: []string{"ops/s", "p50-ns", "p99-ns", "cpu-ns/op"}, base: "go-redis", better: "more",
	}
	var addrs []string
	stop := func() {}
	defer func() { stop() }()
	keys := makeKeys(b.scale(10_000))
	order := draw(keys, "uniform", 64)
	var all []contender
	for _, topology := range []string{"standalone", "cluster"} {
		for _, p := range peer.Remote[User]() {
			if p.Name != "go-redis" && p.Name != "tandem" {
				continue
			}
			h := &holder[User]{peer: p, env: peer.Env{Addr: b.redis.addr}, keys: keys, value: makeUser}
			defer func() { _ = h.close() }()
			open := func() (err error) {
				if topology == "cluster" && addrs == nil {
					addrs, stop, err = startCluster()
				}
				if topology == "cluster" {
					h.env.Cluster = addrs
				}
				return errors.Join(err, h.open())
			}
			for _, g := range []int{1, 64} {
				l := b.requests(g)
				all = append(all, contender{
					peer: p.Name, params: fmt.Sprintf("topology=%s/goroutines=%d", topology, g), sliced: l.sliced,
					open: open, round: hits(h, order, l, runtime.GOMAXPROCS(0)),
				})
			}
		}
	}
	return t.run(b, all)
}
