package tier_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tandemcache/tandem/internal/history"
	"github.com/tandemcache/tandem/internal/redistest"
	"github.com/tandemcache/tandem/tier"
)

// topology is the Redis that a fleet shares.
type topology interface {
	// connect returns how the node of a slot reaches Redis, and gives the slot
	// links if they can be broken one by one. A client in the Config is closed
	// when t ends.
	connect(t *testing.T, s *slot) tier.Config
	// direct returns how to reach it past everything that is broken.
	direct() tier.Config
	// owner returns the server that holds a key.
	owner(key string) *redistest.Server
	// faults are those of the servers.
	faults() []fault
	// mend waits until Redis works, when all faults have ended.
	mend()
}

// standalone is one server, with a proxy in front of it for each node.
type standalone struct {
	server  *redistest.Server
	proxies [slots]*redistest.Proxy
}

func newStandalone(t *testing.T) topology {
	s := &standalone{server: redistest.Start(t)}
	for i := range s.proxies {
		s.proxies[i] = redistest.NewProxy(t, s.server)
	}
	return s
}

func (s *standalone) connect(_ *testing.T, slot *slot) tier.Config {
	p := s.proxies[slot.index]
	slot.links = links{p}
	return tier.Config{URL: p.URL()}
}

func (s *standalone) direct() tier.Config { return tier.Config{URL: s.server.URL()} }

func (s *standalone) owner(string) *redistest.Server { return s.server }

func (s *standalone) mend() {}

// serverFault is a fault of one server.
func serverFault(name string, weight int, effect history.Effect, most time.Duration, begin func(rng *rand.Rand) func()) fault {
	return fault{name, weight, effect, most, onServer, func(_ *run, _ *slot, rng *rand.Rand) func() { return begin(rng) }}
}

func (s *standalone) faults() []fault {
	return append(common(func(*rand.Rand) *redistest.Server { return s.server }),
		serverFault("restart empty", 2, history.Outage|history.Wipes, time.Second, func(*rand.Rand) func() {
			s.server.Kill()
			return s.server.Restart
		}),
	)
}

// common are the faults of any server that holds data; which picks one.
func common(which func(*rand.Rand) *redistest.Server) []fault {
	return []fault{
		serverFault("freeze server", 2, history.Outage, time.Second, func(rng *rand.Rand) func() {
			s := which(rng)
			s.Freeze()
			return s.Thaw
		}),
		serverFault("maxmemory", 2, history.Outage, time.Second, func(rng *rand.Rand) func() {
			s := which(rng)
			s.MaxMemory(1, "noeviction")
			return func() { s.MaxMemory(0, "noeviction") }
		}),
		serverFault("evict all", 1, history.Outage|history.Wipes, time.Second, func(rng *rand.Rand) func() {
			s := which(rng)
			s.MaxMemory(1, "allkeys-lru")
			return func() { s.MaxMemory(0, "noeviction") }
		}),
		serverFault("flushall", 1, history.Wipes, 0, func(rng *rand.Rand) func() {
			which(rng).FlushAll()
			return nil
		}),
		serverFault("script flush", 1, 0, 0, func(rng *rand.Rand) func() {
			which(rng).Do("script", "flush")
			return nil
		}),
		{"stranger", 3, history.Wipes, 0, onServer, stranger},
		{"garbage", 1, history.Deaf, 0, onServer, garbage},
		serverFault("kill clients", 1, history.Outage, 0, func(rng *rand.Rand) func() {
			which(rng).Do("client", "kill", "type", "normal", "skipme", "yes")
			return nil
		}),
		serverFault("kill subscribers", 2, history.Deaf, 0, func(rng *rand.Rand) func() {
			which(rng).Do("client", "kill", "type", "pubsub")
			return nil
		}),
		serverFault("pause writes", 1, history.Outage, 0, func(rng *rand.Rand) func() {
			which(rng).Do("client", "pause", 50+rng.IntN(500), "write")
			return nil
		}),
	}
}

// stranger changes records as no node would.
func stranger(r *run, _ *slot, rng *rand.Rand) func() {
	for range 1 + rng.IntN(20) {
		key := r.prefix + ":" + r.keys[rng.IntN(len(r.keys))].Name
		redis := r.try(r.top.owner(key))
		record, _ := redis("get", key).(string)
		how := rng.IntN(6)
		if len(record) < 60 {
			how %= 3
		}
		switch how {
		case 0:
			redis("del", key)
		case 1:
			redis("set", key, "not a record", "px", 60_000)
		case 2:
			redis("del", key)
			redis("rpush", key, "not", "a", "record")
		case 3: // a damaged body
			redis("setrange", key, 58+rng.IntN(len(record)-58), string([]byte{byte(rng.IntN(256))}))
		case 4: // a piece of it
			redis("set", key, record[:rng.IntN(len(record))], "px", 60_000)
		case 5: // the value of another key
			other := r.prefix + ":" + r.keys[rng.IntN(len(r.keys))].Name
			r.try(r.top.owner(other))("set", other, record, "px", 60_000)
		}
	}
	return nil
}

// try returns how to call a server by hand. What it says to that does not
// matter: a key may be another by then.
func (r *run) try(s *redistest.Server) func(args ...any) any {
	client := r.strangers[s]
	if client == nil {
		client = s.Client(r.t)
		r.strangers[s] = client
	}
	return func(args ...any) any {
		v, _ := client.Do(context.Background(), args...).Result()
		return v
	}
}

// garbage goes over the channel.
func garbage(r *run, _ *slot, rng *rand.Rand) func() {
	for range 1 + rng.IntN(20) {
		text := make([]byte, rng.IntN(200))
		for i := range text {
			text[i] = byte(rng.IntN(256))
		}
		r.top.owner("").Do("publish", r.prefix+":!bus:0", string(text))
	}
	return nil
}
