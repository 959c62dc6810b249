// Command bench measures Tandem beside its peers: latency, throughput, memory,
// hit ratios and the time until other processes obey. It prints tables while it
// runs and writes raw text for benchstat, a report in Markdown and plots.
//
//	go run . [-smoke] [-only REGEXP] [-rounds N] [-time D] [-traces DIR] [-from RAW] [-out DIR] [-readme FILE]
//
// # Method
//
// All peers of a table take turns, in rounds whose order rotates: round 1 of each,
// round 2 of each, and so on. A figure is the median of its rounds, the spread what the
// middle half of the rounds covers. Compare figures of one table only: absolute times
// drift with the machine.
//
// Two kinds of jobs take their turns in slices of a round: one goroutine that waits for
// Redis, 25 ms each, because how deep the processors sleep drifts; and hits in memory,
// 75 ms each, because neighbors of the machine make memory slower for seconds. A ratio is
// then the median over slices of the same turn.
//
// Each peer is configured as its documentation advises for the job; what a peer cannot
// do it is left out of. That each row hits the tier that it claims is held by
// TestPeers_hitTheTierTheyClaim.
//
// Keys are drawn beforehand, with fixed seeds, from as many as the table says: uniform, or
// Zipf with exponent 1.01, which is closer to how caches are used.
//
// # Traces
//
// Hit ratios are measured on Zipf alone unless -traces names a directory with these files,
// which circulate with cache simulators (Caffeine, otter) and are not part of this
// project: oltp.gz and p3.gz of ARC (Megiddo and Modha, FAST 2003), and
// trace_vaultservice.gz (Corda) and scarab-recs.trace.xz (Scarab Research), which are
// 64-bit keys one after another.
package main
