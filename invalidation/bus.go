package invalidation

import (
	"context"
	"time"
)

// Bus carries messages between the nodes of a fleet. All methods may be called
// concurrently. The package documentation states what an implementation
// promises (B1 to B6); testBus holds every one to it.
type Bus interface {
	// Subscribe begins to deliver to h. It returns at once: the link is built,
	// watched and rebuilt in the background until the subscription is closed.
	// The error is of the caller's making (no handler).
	Subscribe(h Handler) (Subscription, error)
	// Publish sends an encoded message ([Message.Append]) to every subscriber. It
	// ends with ctx. After an error the message may have been sent or not.
	Publish(ctx context.Context, msg []byte) error
}

// Handler is told what a subscription hears. One goroutine at a time calls it,
// in order. It should return soon: while it works nothing else is heard. A
// panic is recovered and becomes a [GapPanic].
type Handler interface {
	// Message is called for every valid message, those of this node included,
	// which the handler tells by Node. m and what it holds are the handler's.
	Message(m Message)
	// Gap is called when continuity was lost: anything may have been missed
	// until now, and earlier proof of hearing is void.
	Gap(reason GapReason)
	// Heard is called when a PING sent at the given time has come back behind
	// all messages delivered before it. The time is monotonic. On a bus that
	// cannot lose messages (see [SubscriptionStats.Always]) it is called once
	// after each Gap, with a time far in the future.
	Heard(sent time.Time)
}

// Subscription is a running delivery to one [Handler].
type Subscription interface {
	// Stats describes the subscription now. It does no I/O.
	Stats() SubscriptionStats
	// Renew drops the link and builds another one, in the background. It is for
	// an owner that has evidence of its own that the link hears nothing, such as
	// the absence of its own beats: a demoted master and a forgotten cluster
	// node answer every PING. Without a link it ends the pause before the next
	// one, for an owner that knows that the server is back. After Close it does
	// nothing.
	Renew()
	// Close ends the subscription and waits for its goroutines, at most about
	// two seconds whatever the network does. No call of the handler begins after
	// it has returned. Closing again does nothing and returns the same. It
	// returns [ErrBusy] if the handler was still at work when the time was up.
	// The handler must not call it.
	Close() error
}

// SubscriptionStats describes a [Subscription]. Counters only grow.
type SubscriptionStats struct {
	Confirmed  bool      // the server has confirmed the subscription, and the link stands
	Always     bool      // the bus cannot lose messages: it is heard without PINGs
	Addr       string    // of the server of the last link, if there is one
	LastHeard  time.Time // when the last PING that came back was sent; zero: none yet
	RTT        time.Duration
	Messages   uint64 // delivered to the handler
	Garbage    uint64 // ignored: not messages of ours
	Newer      uint64 // not understood: of a newer format
	Gaps       uint64 // calls of Gap
	Panics     uint64 // panics of the handler
	Links      uint64 // links that were begun, successful or not
	LastError  string // why the last link ended or did not come about
	LastGap    GapReason
	LastGapAt  time.Time
	BackoffFor time.Duration // the last wait between two links
}

// GapReason says why continuity was lost.
type GapReason uint8

// The reasons for a gap. Those up to GapPanic come from a [Bus], the others from
// a [Tracker]. GapNone, the zero value, is no gap.
const (
	GapNone         GapReason = iota
	GapSubscribed             // a subscription was confirmed: missed until now, complete from now on
	GapLink                   // the link failed
	GapSilent                 // the server did not answer in time
	GapUnsubscribed           // the server ended the subscription, or confirmed it twice
	GapProtocol               // the server sent what it must not: answers out of turn, oversized messages
	GapNewer                  // a message of a newer format, which may have meant anything
	GapPanic                  // the handler panicked over a message

	GapMissing  // a message that was sent did not arrive
	GapOrigin   // a node fell silent without a goodbye
	GapDeaf     // this node does not hear its own beats
	GapBaseline // nodes older than the subscription may have sent what was not delivered
	GapImpostor // another process uses the id of this node
	GapOverflow // a bound was exceeded: too much to keep track of
)

// String returns the reason in words.
func (r GapReason) String() string {
	switch r {
	case GapNone:
		return "none"
	case GapSubscribed:
		return "subscribed"
	case GapLink:
		return "link failed"
	case GapSilent:
		return "server silent"
	case GapUnsubscribed:
		return "subscription ended"
	case GapProtocol:
		return "protocol violated"
	case GapNewer:
		return "newer format"
	case GapPanic:
		return "handler panicked"
	case GapMissing:
		return "message missing"
	case GapOrigin:
		return "node silent"
	case GapDeaf:
		return "own beats unheard"
	case GapBaseline:
		return "baseline"
	case GapImpostor:
		return "node id in use twice"
	case GapOverflow:
		return "overflow"
	default:
		return "unknown"
	}
}
