package tier_test

import (
	"context"
	"fmt"

	"github.com/tandemcache/tandem/tier"
)

// One query for all that is missing. What it leaves out does not exist, which
// is remembered too.
func ExampleCache_GetOrSetMany() {
	ctx := context.Background()
	node, _ := tier.Open(ctx, tier.Config{})
	defer node.Close()
	users, _ := tier.New(node, "user", tier.Options[User]{})
	_ = users.Set(ctx, "1", User{ID: "1", Name: "Ada"}, 0)

	load := func(_ context.Context, missing []string) (map[string]User, error) {
		fmt.Println("SELECT ... WHERE id IN", missing)
		return map[string]User{"2": {ID: "2", Name: "Grace"}}, nil
	}
	for range 2 {
		found, err := users.GetOrSetMany(ctx, []string{"1", "2", "404"}, 0, load)
		fmt.Println(len(found), found["1"].Name, found["2"].Name, err)
	}
	// Output:
	// SELECT ... WHERE id IN [2 404]
	// 2 Ada Grace <nil>
	// 2 Ada Grace <nil>
}

func ExampleCache_GetMany() {
	ctx := context.Background()
	node, _ := tier.Open(ctx, tier.Config{})
	defer node.Close()
	users, _ := tier.New(node, "user", tier.Options[User]{})
	_ = users.SetMany(ctx, map[string]User{"1": {ID: "1", Name: "Ada"}, "2": {ID: "2", Name: "Grace"}}, tier.TTLLong, "team:7")

	fmt.Println(len(users.GetMany(ctx, []string{"1", "2", "3"})))
	_ = node.InvalidateTags(ctx, "team:7")
	fmt.Println(len(users.GetMany(ctx, []string{"1", "2", "3"})))
	// Output:
	// 2
	// 0
}
