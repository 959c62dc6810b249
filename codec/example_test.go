package codec_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tandemcache/tandem/codec"
)

func Example() {
	type point struct {
		X int `msgpack:"x"`
		Y int `msgpack:"y"`
	}
	c := codec.Msgpack[point]()
	b, err := c.Append(nil, point{3, -4})
	if err != nil {
		fmt.Println(err)
		return
	}
	var p point
	fmt.Printf("%q %v %v\n", b, c.Decode(b, &p), p)
	// Output:
	// "\x82\xa1x\x03\xa1y\xfc" <nil> {3 -4}
}

func ExampleCompressed() {
	c, err := codec.Compressed(codec.JSON[[]string](), codec.Compression{MinBytes: 512})
	if err != nil {
		fmt.Println(err)
		return
	}
	b, _ := c.Append(nil, []string{strings.Repeat("again and ", 1000)})
	var v []string
	fmt.Println(c.Name(), len(b) < 100, c.Decode(b, &v), len(v[0]))
	// Output:
	// zstd(json) true <nil> 10000
}

func ExampleEncrypted() {
	ring := codec.Keyring{
		{ID: "2026-02", Key: []byte("0123456789abcdef0123456789abcdef")}, // from a secret store
		{ID: "2026-01", Key: []byte("fedcba9876543210fedcba9876543210")}, // until its values expired
	}
	c, err := codec.Encrypted(codec.Text(), ring)
	if err != nil {
		fmt.Println(err)
		return
	}
	b, _ := codec.AppendFor(c, nil, "ghl:session:7", "token")
	var v string
	fmt.Println(codec.DecodeFor(c, b, "ghl:session:7", &v), v)

	err = codec.DecodeFor(c, b, "ghl:session:8", &v) // copied to another key
	fmt.Printf("%v %q\n", errors.Is(err, codec.ErrForged), v)
	fmt.Println(ring[0])
	// Output:
	// <nil> token
	// true ""
	// Secret(2026-02)
}

func ExampleChecker() {
	type job struct {
		Name string
		Done chan struct{}
	}
	err := codec.Msgpack[job]().(codec.Checker).Check()
	fmt.Println(err)
	// Output:
	// codec: type cannot be encoded: msgpack of codec_test.job: Done is a chan
}
