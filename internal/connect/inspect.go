package connect

import (
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Info describes a client.
type Info struct {
	Kind  Kind
	Addrs []string // as configured; empty for Sentinel, whose client does not tell
	DB    int
	// ContextTimeoutEnabled says that a call ends with the deadline of its
	// context. Without it, a call to a server that hangs lasts as long as the
	// client's own read timeout.
	ContextTimeoutEnabled bool
}

// failoverAddr is what go-redis writes in place of an address into the options
// of a client that asks sentinels.
const failoverAddr = "FailoverClient"

// Inspect says what a client is, or why the cache cannot stand on it and what to
// change. It sends nothing.
//
// A client made with FailoverOptions.ReplicaOnly does not tell, and is accepted;
// its writes fail, as those to any read-only server.
func Inspect(client redis.UniversalClient) (Info, error) {
	switch c := client.(type) {
	case nil:
		return Info{}, errors.New("connect: the client is nil")
	case *redis.Client:
		if c == nil {
			return Info{}, errors.New("connect: the *redis.Client is nil")
		}
		return inspectClient(c.Options())
	case *redis.ClusterClient:
		if c == nil {
			return Info{}, errors.New("connect: the *redis.ClusterClient is nil")
		}
		return inspectCluster(c.Options())
	case *redis.Ring:
		return Info{}, errors.New("connect: a *redis.Ring delivers messages from another shard than the one that holds the data; use a *redis.ClusterClient, or a *redis.Client of one server")
	case *redis.AutoPipeliner:
		return Info{}, errors.New("connect: a *redis.AutoPipeliner reorders what must stay in order; hand over the client that it was made from")
	}
	return Info{}, fmt.Errorf("connect: a %T is not known here; use a *redis.Client or a *redis.ClusterClient", client)
}

func inspectClient(o *redis.Options) (Info, error) {
	if o.ClientSideCache != nil || o.ClientSideCacheConfig != nil {
		return Info{}, errors.New("connect: the client caches on its own side and may answer with what was invalidated; make it without Options.ClientSideCache and Options.ClientSideCacheConfig")
	}
	info := Info{Kind: Standalone, DB: o.DB, ContextTimeoutEnabled: o.ContextTimeoutEnabled}
	if o.Addr == failoverAddr {
		info.Kind = Sentinel
	} else {
		info.Addrs = []string{o.Addr}
	}
	return info, nil
}

func inspectCluster(o *redis.ClusterOptions) (Info, error) {
	var faults []error
	refuse := func(on bool, option string) {
		if on {
			faults = append(faults, fmt.Errorf("connect: ClusterOptions.%s reads from replicas, which may still have what was invalidated; make the client without it", option))
		}
	}
	refuse(o.RouteByLatency, "RouteByLatency")
	refuse(o.RouteRandomly, "RouteRandomly")
	// The two above turn ReadOnly on by themselves.
	refuse(o.ReadOnly && !o.RouteByLatency && !o.RouteRandomly, "ReadOnly")
	if len(faults) > 0 {
		return Info{}, errors.Join(faults...)
	}
	return Info{Kind: Cluster, Addrs: slices.Clone(o.Addrs), ContextTimeoutEnabled: o.ContextTimeoutEnabled}, nil
}
