package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// User is the typed struct of ten fields.
type User struct {
	ID      int64
	Name    string
	Email   string
	Phone   string
	Country string
	Plan    string
	Credits int64
	Active  bool
	Created time.Time
	Tags    []string
}

// Blob is a value of a given size.
type Blob struct {
	ID   int64
	Data []byte
}

func makeUser(i int) User {
	return User{
		ID: int64(i), Name: fmt.Sprintf("User Number %d", i), Email: fmt.Sprintf("user%d@example.com", i),
		Phone: fmt.Sprintf("+43 %09d", i), Country: "AT", Plan: "professional", Credits: int64(i % 5000), Active: i%3 > 0,
		Created: time.Unix(1_700_000_000+int64(i), 0).UTC(), Tags: []string{"alpha", "beta"},
	}
}

func makeString(i int) string { return fmt.Sprintf("value number %08d of a plain string", i) }

// makeBlob returns a maker of blobs whose bytes do not compress to nothing.
func makeBlob(size int) func(i int) Blob {
	return func(i int) Blob {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		b := make([]byte, size)
		for j := range b {
			b[j] = "abcdefghijklmnopqrstuvwxyz0123456789"[rng.IntN(36)]
		}
		return Blob{ID: int64(i), Data: b}
	}
}

// makeKeys returns n keys of usual length. Each is memory of its own, as it would
// be if it came from a request.
func makeKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = strings.Clone(fmt.Sprintf(keyFormat, i))
	}
	return keys
}

// keyFormat makes a key of a number.
const keyFormat = "user:%08d"

// drawsPerWorker is a power of two, so that a worker wraps around with a mask.
const drawsPerWorker = 1 << 16

// draw returns, for each worker, the keys that it asks for, in order.
func draw(keys []string, dist string, workers int) [][]string {
	all := make([][]string, workers)
	for w := range all {
		rng := rand.New(rand.NewPCG(42, uint64(w)))
		next := func() int { return rng.IntN(len(keys)) }
		if dist == "zipf" {
			z := rand.NewZipf(rng, zipfExponent, 1, uint64(len(keys)-1))
			next = func() int { return int(z.Uint64()) }
		}
		order := make([]string, drawsPerWorker)
		for i := range order {
			order[i] = keys[next()]
		}
		all[w] = order
	}
	return all
}

const zipfExponent = 1.01
