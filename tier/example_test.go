package tier_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/tier"
)

// User is what these examples cache.
type User struct {
	ID   string
	Name string
}

// loadUser stands for a query.
func loadUser(_ context.Context, id string) (User, error) {
	if id == "404" {
		return User{}, tier.ErrNotFound
	}
	return User{ID: id, Name: "Ada"}, nil
}

// The first five minutes. Without a URL the node keeps everything in memory;
// with one, the same code shares it through Redis.
func Example() {
	ctx := context.Background()
	node, err := tier.Open(ctx, tier.Config{Prefix: "app"}) // URL: "redis://localhost:6379/0"
	if err != nil {
		panic(err)
	}
	defer node.Close()

	users, err := tier.New(node, "user", tier.Options[User]{TTL: tier.TTLMedium})
	if err != nil {
		panic(err)
	}
	for range 3 {
		u, err := users.GetOrSet(ctx, "123", 0, func(ctx context.Context) (User, error) {
			fmt.Println("asking the database")
			return loadUser(ctx, "123")
		})
		fmt.Println(u.Name, err)
	}
	// After the database has committed a change:
	_ = users.Delete(ctx, "123")
	_, ok := users.Get(ctx, "123")
	fmt.Println(ok)
	// Output:
	// asking the database
	// Ada <nil>
	// Ada <nil>
	// Ada <nil>
	// false
}

func ExampleConfigFromEnv() {
	cfg, err := tier.ConfigFromEnv() // REDIS_URL, CACHE_PREFIX
	if err != nil {
		fmt.Println(err)
		return
	}
	node, err := tier.Open(context.Background(), cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer node.Close()
	fmt.Println(node.Stats().Available)
	// Output: true
}

func openUsers() (*tier.Node, *tier.Cache[User]) {
	node, err := tier.Open(context.Background(), tier.Config{})
	if err != nil {
		panic(err)
	}
	users, err := tier.New(node, "user", tier.Options[User]{Jitter: -1})
	if err != nil {
		panic(err)
	}
	return node, users
}

func ExampleNew() {
	node, users := openUsers()
	defer node.Close()
	_, err := tier.New(node, "user", tier.Options[int]{})
	fmt.Println(err)
	fmt.Println(users.Set(context.Background(), "1", User{ID: "1"}, 0))
	// Output:
	// tier: name "user" is open as a cache of tier_test.User, asked for with T int
	// <nil>
}

func ExampleCache_GetOrSet() {
	node, users := openUsers()
	defer node.Close()
	load := func(ctx context.Context) (User, error) { return loadUser(ctx, "404") }
	_, err := users.GetOrSet(context.Background(), "404", tier.TTLLong, load)
	fmt.Println(errors.Is(err, tier.ErrNotFound)) // remembered for NegativeTTL
	// Output: true
}

func ExampleCache_Get() {
	node, users := openUsers()
	defer node.Close()
	_ = users.Set(context.Background(), "1", User{"1", "Ada"}, tier.TTLShort)
	u, ok := users.Get(context.Background(), "1")
	fmt.Println(u.Name, ok)
	// Output: Ada true
}

func ExampleCache_Lookup() {
	node, users := openUsers()
	defer node.Close()
	_, err := users.Lookup(context.Background(), "1")
	switch {
	case errors.Is(err, tier.ErrNotFound):
		fmt.Println("there is none")
	case errors.Is(err, tier.ErrUnavailable):
		fmt.Println("nobody knows")
	}
	// Output: there is none
}

func ExampleCache_Set() {
	node, users := openUsers()
	defer node.Close()
	ctx := context.Background()
	fmt.Println(users.Set(ctx, "1", User{"1", "Ada"}, tier.TTLDay))
	ttl, ok := users.TTL(ctx, "1")
	fmt.Println(ttl.Round(time.Second), ok)
	// Output:
	// <nil>
	// 24h0m0s true
}

func ExampleCache_Delete() {
	node, users := openUsers()
	defer node.Close()
	ctx := context.Background()
	_ = users.Set(ctx, "1", User{"1", "Ada"}, 0)
	// The change is in the database; now no node may serve the old value.
	fmt.Println(users.Delete(ctx, "1", "2"), users.Exists(ctx, "1"))
	// Output: <nil> false
}

// Write the database inside Update: the cache then has what was committed, or
// nothing, also if this process dies in between.
func ExampleCache_Update() {
	ctx := context.Background()
	node, _ := tier.Open(ctx, tier.Config{})
	defer node.Close()
	users, _ := tier.New(node, "user", tier.Options[User]{})

	database := map[string]User{"123": {ID: "123", Name: "Ada"}}
	rename := func(id, name string) (User, error) {
		return users.Update(ctx, id, 0, func(context.Context) (User, error) {
			u, ok := database[id]
			if !ok {
				return User{}, tier.ErrNotFound
			}
			u.Name = name
			database[id] = u
			return u, nil
		})
	}
	fmt.Println(rename("123", "Ada Lovelace"))
	u, _ := users.Get(ctx, "123")
	fmt.Println(u.Name)
	_, err := rename("404", "Nobody")
	fmt.Println(errors.Is(err, tier.ErrNotFound))
	// Output:
	// {123 Ada Lovelace} <nil>
	// Ada Lovelace
	// true
}

// Changes from a log may come twice and out of order: the highest version stays.
func ExampleCache_SetVersioned() {
	ctx := context.Background()
	node, _ := tier.Open(ctx, tier.Config{})
	defer node.Close()
	users, _ := tier.New(node, "user", tier.Options[User]{})

	_ = users.SetVersioned(ctx, "123", User{ID: "123", Name: "Ada Lovelace"}, 2, 0)
	_ = users.SetVersioned(ctx, "123", User{ID: "123", Name: "Ada"}, 1, 0) // late
	_, ok := users.Get(ctx, "123")
	fmt.Println(ok) // not what is old: the next load decides

	_ = users.DeleteVersioned(ctx, "123", 3)
	_ = users.SetVersioned(ctx, "123", User{ID: "123", Name: "Ada Lovelace"}, 2, 0) // late again
	_, ok = users.Get(ctx, "123")
	fmt.Println(ok)
	// Output:
	// false
	// false
}

// The next read loads; a value that is merely old need not be deleted.
func ExampleCache_Expire() {
	ctx := context.Background()
	node, _ := tier.Open(ctx, tier.Config{})
	defer node.Close()
	users, _ := tier.New(node, "user", tier.Options[User]{})

	_ = users.Set(ctx, "123", User{ID: "123", Name: "Ada"}, 0)
	fmt.Println(users.Expire(ctx, "123"))
	fmt.Println(users.Exists(ctx, "123"))
	// Output:
	// <nil>
	// false
}

func ExampleCache_DeletePrefix() {
	node, users := openUsers()
	defer node.Close()
	ctx := context.Background()
	for _, id := range []string{"1", "1:settings", "1:avatar:small", "10"} {
		_ = users.Set(ctx, id, User{ID: id}, 0)
	}
	n, err := users.DeletePrefix(ctx, "1")
	fmt.Println(n, err, users.Exists(ctx, "10"))
	// Output: 3 <nil> true
}

func ExampleCache_Clear() {
	node, users := openUsers()
	defer node.Close()
	ctx := context.Background()
	_ = users.Set(ctx, "1", User{ID: "1"}, 0)
	fmt.Println(users.Clear(ctx), users.Exists(ctx, "1"))
	// Output: <nil> false
}

func ExampleCache_Exists() {
	node, users := openUsers()
	defer node.Close()
	fmt.Println(users.Exists(context.Background(), "1"))
	// Output: false
}

func ExampleCache_TTL() {
	node, users := openUsers()
	defer node.Close()
	ctx := context.Background()
	_ = users.Set(ctx, "1", User{ID: "1"}, tier.NoExpiry)
	ttl, ok := users.TTL(ctx, "1")
	fmt.Println(ttl == tier.NoExpiry, ok)
	_, ok = users.TTL(ctx, "2")
	fmt.Println(ok)
	// Output:
	// true true
	// false
}

func ExampleCache_Stats() {
	node, users := openUsers()
	defer node.Close()
	ctx := context.Background()
	_, _ = users.GetOrSet(ctx, "1", 0, func(ctx context.Context) (User, error) { return loadUser(ctx, "1") })
	stats := users.Stats()
	fmt.Println(stats.Misses, stats.Loads)
	// Output: 1 1
}

func ExampleNode_Health() {
	node, _ := openUsers()
	defer node.Close()
	h := node.Health(context.Background())
	fmt.Println(h.Healthy, h.L1.State, h.L2.State)
	// Output: true serving serving
}

func ExampleNode_DeletePrefix() {
	node, users := openUsers()
	defer node.Close()
	ctx := context.Background()
	_ = users.Set(ctx, "1", User{ID: "1"}, 0)
	fmt.Println(node.DeletePrefix(ctx, "user"))
	// Output: 1 <nil>
}

func ExampleCounter_Allow() {
	node, _ := openUsers()
	defer node.Close()
	rate, err := tier.NewCounter(node, "rate", tier.CounterOptions{Window: time.Minute})
	if err != nil {
		panic(err)
	}
	for range 3 {
		d, err := rate.Allow(context.Background(), "user:1", 2)
		fmt.Println(d.Allowed, d.Remaining, err)
	}
	// Output:
	// true 1 <nil>
	// true 0 <nil>
	// false 0 <nil>
}

func ExampleCounter_Increment() {
	node, _ := openUsers()
	defer node.Close()
	views, err := tier.NewCounter(node, "views", tier.CounterOptions{})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	fmt.Println(views.Increment(ctx, "home", 5))
	fmt.Println(views.Decrement(ctx, "home", 2))
	// Output:
	// 5 <nil>
	// 3 <nil>
}

func ExampleNode_Shutdown() {
	node, _ := openUsers()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	fmt.Println(node.Shutdown(ctx)) // waits for invalidations that Redis has not confirmed
	// Output: <nil>
}
