package tier_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tandemcache/tandem/tier"
)

// A conditional load, as with If-None-Match: what has not changed is not sent
// again, and kept for another TTL.
func ExampleCache_Fetch() {
	ctx := context.Background()
	node, users := openUsers()
	defer node.Close()
	fetch := func() {
		u, err := users.Fetch(ctx, "123", func(_ context.Context, f *tier.Fill[User]) (User, error) {
			if f.HasStale && f.Stale.Name == "Ada" { // the source says: as before
				fmt.Println("not modified")
				f.NotModified = true
				return User{}, nil
			}
			fmt.Println("loading")
			f.TTL = tier.TTLLong // as the source allows
			return User{"123", "Ada"}, nil
		})
		fmt.Println(u.Name, err)
	}
	fetch()
	fetch() // cached
	_ = users.Expire(ctx, "123")
	fetch()
	// Output:
	// loading
	// Ada <nil>
	// Ada <nil>
	// not modified
	// Ada <nil>
}

// StaleFor lets a value that is past its time stand in while its loader fails.
// Lookup tells it apart, Get does not return it, and what was deleted never
// serves.
func ExampleOptions_staleFor() {
	ctx := context.Background()
	node, err := tier.Open(ctx, tier.Config{})
	if err != nil {
		panic(err)
	}
	defer node.Close()
	users, err := tier.New(node, "user", tier.Options[User]{StaleFor: time.Hour})
	if err != nil {
		panic(err)
	}
	broken := func(context.Context) (User, error) { return User{}, errors.New("the database is away") }

	_ = users.Set(ctx, "123", User{"123", "Ada"}, 0)
	_ = users.Expire(ctx, "123") // as its TTL would
	fmt.Println(users.GetOrSet(ctx, "123", 0, broken))
	item, err := users.Lookup(ctx, "123")
	fmt.Println(item.Value.Name, item.Stale, err)
	_, ok := users.Get(ctx, "123")
	fmt.Println(ok)

	_ = users.Delete(ctx, "123")
	fmt.Println(users.GetOrSet(ctx, "123", 0, broken))
	// Output:
	// {123 Ada} <nil>
	// Ada true <nil>
	// false
	// { } the database is away
}

// A version that comes late deletes nothing that is newer.
func ExampleCache_DeleteVersioned() {
	ctx := context.Background()
	node, users := openUsers()
	defer node.Close()
	_ = users.SetVersioned(ctx, "123", User{"123", "Ada"}, 7, 0)
	fmt.Println(users.DeleteVersioned(ctx, "123", 6), users.Exists(ctx, "123"))
	fmt.Println(users.DeleteVersioned(ctx, "123", 8), users.Exists(ctx, "123"))
	// Output:
	// <nil> true
	// <nil> false
}
