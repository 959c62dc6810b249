package tier_test

import (
	"context"
	"fmt"

	"github.com/tandemcache/tandem/invalidation"
	"github.com/tandemcache/tandem/tier"
)

// Two nodes without Redis that share a bus behave like two processes, in tests:
// what is invalidated through one is gone from the other.
func ExampleConfig_bus() {
	ctx := context.Background()
	bus := invalidation.NewLocal()
	var users [2]*tier.Cache[User]
	for i := range users {
		node, err := tier.Open(ctx, tier.Config{Bus: bus})
		if err != nil {
			panic(err)
		}
		defer node.Close()
		if users[i], err = tier.New(node, "user", tier.Options[User]{}); err != nil {
			panic(err)
		}
	}
	_ = users[1].Set(ctx, "123", User{"123", "Ada"}, 0)
	fmt.Println(users[1].Exists(ctx, "123"))
	_ = users[0].Delete(ctx, "123") // the change came in over there
	fmt.Println(users[1].Exists(ctx, "123"))
	// Output:
	// true
	// false
}

// Open does not fail because Redis is down: the node serves, and attaches when it
// answers. What it returns an error for is a Config that cannot mean anything,
// with all faults at once.
func ExampleOpen() {
	_, err := tier.Open(context.Background(), tier.Config{URL: "http://localhost", Prefix: "a:b"})
	fmt.Println(err)
	// Output:
	// tier: config: URL: connect: scheme is none of redis, rediss, unix, redis+cluster, rediss+cluster, redis+sentinel, rediss+sentinel
	// Prefix: "a:b" has a character at byte 1 that is not a letter, digit, '.', '_' or '-'
}

func ExampleNode_Stats() {
	node, _ := openUsers()
	defer node.Close()
	s := node.Stats()
	fmt.Println(s.Available, s.ReconnectAttempts, s.Journal.Owed, s.Bus.Hears)
	// Output: true 0 0 true
}

func ExampleCounter_Get() {
	ctx := context.Background()
	node, _ := openUsers()
	defer node.Close()
	views, err := tier.NewCounter(node, "views", tier.CounterOptions{})
	if err != nil {
		panic(err)
	}
	_, _ = views.Increment(ctx, "home", 5)
	fmt.Println(views.Get(ctx, "home"))
	ttl, ok := views.TTL(ctx, "home")
	fmt.Println(ttl == tier.NoExpiry, ok)
	fmt.Println(views.Reset(ctx, "home"))
	fmt.Println(views.Get(ctx, "home"))
	// Output:
	// 5 <nil>
	// true true
	// <nil>
	// 0 <nil>
}

// A tag stands for all values that carry it, in every cache.
func ExampleNode_InvalidateTags() {
	ctx := context.Background()
	node, err := tier.Open(ctx, tier.Config{})
	if err != nil {
		panic(err)
	}
	defer node.Close()
	users, err := tier.New(node, "user", tier.Options[User]{})
	if err != nil {
		panic(err)
	}
	names, err := tier.New(node, "teamnames", tier.Options[string]{
		Tags: func(team, _ string) []string { return []string{"team:" + team} },
	})
	if err != nil {
		panic(err)
	}
	_ = users.Set(ctx, "123", User{"123", "Ada"}, 0, "team:7")
	_ = users.Set(ctx, "124", User{"124", "Bo"}, 0, "team:8")
	_ = names.Set(ctx, "7", "Analysts", 0)

	fmt.Println(node.InvalidateTags(ctx, "team:7"))
	fmt.Println(users.Exists(ctx, "123"), names.Exists(ctx, "7"), users.Exists(ctx, "124"))
	// Output:
	// <nil>
	// false false true
}
