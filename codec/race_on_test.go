//go:build race

package codec_test

// poolLoss is how many more allocations a call may cost: under the race
// detector sync.Pool drops what it is given at random.
const poolLoss = 6
