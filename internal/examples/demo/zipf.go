package main

import "math/rand/v2"

// zipf draws users so that few are asked for often and most seldom: the user of
// rank k about k^-exponent times as often as the first. Every generator with
// the same number of users ranks them alike.
type zipf struct {
	ranks *rand.Zipf
	users uint64
	step  uint64
}

// exponent of the distribution. Access to profiles, pages and videos is usually
// reported between 0.8 and 1.1; the generator of the standard library needs
// more than 1.
const exponent = 1.05

func newZipf(rng *rand.Rand, users int) *zipf {
	n := uint64(users)
	return &zipf{ranks: rand.NewZipf(rng, exponent, 1, n-1), users: n, step: stepFor(n)}
}

// draw returns the id of a user, from 1.
func (z *zipf) draw() int64 { return z.user(z.ranks.Uint64()) }

// user returns the id of the user with a rank, from 0. Ranks are spread over
// the ids, as popularity is in a real table: neighbors in the database would
// share its pages.
func (z *zipf) user(rank uint64) int64 { return int64(rank%z.users*z.step%z.users) + 1 }

// stepFor returns a number that shares no divisor with n, near its golden
// section: so rank times step, modulo n, meets every id once.
func stepFor(n uint64) uint64 {
	for step := max(n*618/1000, 1); ; step++ {
		if gcd(step, n) == 1 {
			return step
		}
	}
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
