// Command bench measures Tandem beside its peers: latency, throughput, memory,
// hit ratios and the time until other processes obey. It prints tables while it
// runs and writes raw text for benchstat, a report in Markdown and plots.
//
//	go run . [-smoke] [-only REGEXP] [-rounds N] [-time D] [-traces DIR] [-out DIR] [-readme FILE]
//
// # Method
//
// All peers of a table run in one process, one after the other, in rounds: round
// 1 of each, round 2 of each, and so on, in an order that rotates. A figure is
// the median of its rounds; the spread is what the middle half of the rounds
// covers. Compare figures of one table only: absolute times drift with the
// machine. A job of one goroutine that waits for Redis takes its turns in slices of
// 25 ms, because how deep the processors sleep drifts. Each peer is configured as its documentation advises for the job; what
// a peer cannot do it is left out of. That each row hits the tier that it claims
// is held by the tests of package peer.
//
// Keys are drawn beforehand, with fixed seeds, from 100,000 users: uniform, or
// Zipf with exponent 1.01, which is closer to how caches are used.
package main
