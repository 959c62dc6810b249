package keys_test

import (
	"errors"
	"fmt"

	"github.com/tandemcache/tandem/keys"
)

func Example() {
	user := keys.Must(keys.New1[int]("user"))
	fmt.Println(user.ID(123))  // for the methods of the cache "user"
	fmt.Println(user.Key(123)) // what it is without the prefix of the node

	visits := keys.Must(keys.New2[int, string]("visits"))
	fmt.Println(visits.ID(123, "2026-01-31T10:00"))
	// Output:
	// 123
	// user:123
	// 123:2026-01-31T10%3A00
}

func ExampleJoin() {
	fmt.Println(keys.Join("order", "7", "eu"))
	fmt.Println(keys.Join("order", "7:eu")) // not the same
	fmt.Println(keys.Join("order", "", "eu"))
	// Output:
	// order:7:eu
	// order:7%3Aeu
	// order:%-:eu
}

func ExampleSplit() {
	parts, err := keys.Split("order:7%3Aeu")
	fmt.Printf("%q %v\n", parts, err)
	_, err = keys.Split("order::eu")
	fmt.Println(err)
	// Output:
	// ["order" "7:eu"] <nil>
	// keys: not a key that Join builds: byte 6 of "order::eu"
}

func ExampleCheck() {
	err := keys.Check("user:1\n")
	fmt.Println(err)
	fmt.Println(errors.Is(err, keys.ErrControl))
	// Output:
	// keys: key holds a control character: U+000A at byte 6 of "user:1\n"
	// true
}
