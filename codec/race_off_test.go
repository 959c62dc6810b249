//go:build !race

package codec_test

const poolLoss = 0
