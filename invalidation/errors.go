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

// ErrMessage is matched by the errors of [Message.Append] and [Bus.Publish] about
// a message that does not fit the format.
var ErrMessage = errors.New("invalidation: message cannot be encoded")

// ErrBusy says that Close gave up waiting, because the handler was still at work or a
// dialer did not end with its context. No call of the handler begins all the
// same.
var ErrBusy = errors.New("invalidation: handler or dialer still at work")

// ErrNoTracking says that a server answers but cannot tell what changes, or may
// not tell this client: older than Redis 6, a proxy that speaks RESP2 only or
// does not pass CLIENT TRACKING on, or a user without the right to HELLO or to
// CLIENT TRACKING.
var ErrNoTracking = errors.New("invalidation: the server does not track changes for this client")

var errNoHandler = errors.New("invalidation: no handler")
