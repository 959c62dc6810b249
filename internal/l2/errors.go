package l2

import "errors"

// Errors of a Store, matched with errors.Is. The first two exclude each other:
// what a caller does next depends on whether the outcome is known.
var (
	// ErrUnavailable: Redis could not be asked or did not answer in time. The
	// outcome of a write is unknown, so the key is owed an invalidation.
	ErrUnavailable = errors.New("l2: redis unavailable")
	// ErrRefused: Redis answered and changed nothing (out of memory, read-only,
	// too few replicas, past its deadline). What stood there stands there still.
	ErrRefused = errors.New("l2: write refused by redis")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("l2: store closed")
	// ErrArgument: the call's arguments make no sense; nothing was sent.
	ErrArgument = errors.New("l2: invalid argument")
	// ErrNotInteger: what stands under a counter's key is not an integer, or
	// the sum overflows 64 bits. Nothing was changed.
	ErrNotInteger = errors.New("l2: not an integer, or out of range")
)
