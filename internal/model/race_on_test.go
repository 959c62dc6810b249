//go:build race

package model

// The race detector makes exploring an order of magnitude slower, and there is
// nothing concurrent to detect.
const raceEnabled = true
