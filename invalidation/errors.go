package invalidation

import "errors"

// Errors of [Parse].
var (
	// ErrGarbage: the bytes are not a message of ours. It is safe to ignore them.
	ErrGarbage = errors.New("invalidation: not a message")
	// ErrNewer: the bytes are a message of a newer format. It may have meant
	// anything, so that a receiver must treat it as a gap.
	ErrNewer = errors.New("invalidation: message of a newer format")
)

// ErrMessage is matched by the errors of [Message.Append] about a message that
// does not fit the format.
var ErrMessage = errors.New("invalidation: message cannot be encoded")

// Errors of a [Bus].
var (
	// ErrClosed: the bus or subscription was closed.
	ErrClosed = errors.New("invalidation: closed")
	// ErrBusy: the handler was still at work when Close gave up waiting, or too
	// many calls of Publish wait for a server that does not answer.
	ErrBusy = errors.New("invalidation: busy")
)
