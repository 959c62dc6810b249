// Package l2 keeps records in the second tier: Redis, or the memory of this
// process when there is no Redis.
//
// A [Store] holds one record a key. The record is value, lease and marks in
// one, so that whatever changes it voids every permission to fill by nature.
// All rules about who may store what stand in the scripts of this package (and
// in their twins of the in-process store, held to the same conformance suite);
// callers decide nothing about them.
package l2

import (
	"context"
	"time"
)

// Bracket is what Begin found and left.
type Bracket struct {
	Sole bool // no other writer is open

	// Where there are others, in the server's time: when the placeholder ends that
	// stands now, and when the one would have that was there before. Every
	// lengthening makes a later end, be it by one, so that End sees whether it is
	// still as Begin left it.
	till, found int64
}

// Store is the second tier. All methods may be called concurrently.
//
// Every method takes whole Redis keys (prefix:name:id). The deadline of ctx
// bounds the call, whatever the client's own settings are. An error that
// matches [ErrUnavailable] says that Redis could not be asked or did not
// answer: the outcome of a write is then unknown. An error that matches
// [ErrRefused] says that Redis answered and changed nothing (out of memory,
// read-only, too few replicas).
//
// A msg is an encoded invalidation message that the store publishes in the
// same atomic step as the change, also when the change found nothing to do; an
// empty msg publishes nothing.
type Store interface {
	// Read fetches what stands under key in one round trip, at most limit
	// bytes of payload. It does not judge freshness.
	Read(ctx context.Context, key string, limit int) (Reply, error)

	// Lease asks for the permission to fill key, for d from now. seen is what
	// the caller's Read found: the lease is granted only if that is still so.
	Lease(ctx context.Context, key string, seen Seen, token Token, d time.Duration) (Grant, error)
	// Renew makes a lease end d from now. False: the lease is no longer the caller's.
	// With writer set it also renews a placeholder that several writers share.
	Renew(ctx context.Context, key string, token Token, d time.Duration, writer bool) (bool, error)
	// Release gives a lease back. It changes nothing if token no longer holds it.
	Release(ctx context.Context, key string, token Token) error
	// Fill stores rec for ttl (0: no expiry) if token still holds the lease,
	// whether or not its time is over. False: it does not, or rec carries
	// a source version lower than one that was stored or deleted here before;
	// nothing was stored. msg is published only if rec was stored.
	Fill(ctx context.Context, key string, token Token, rec []byte, ttl time.Duration, msg []byte) (bool, error)

	// Set stores rec whatever stands there, but for a writer's placeholder that
	// is alive: that one becomes a no-store placeholder, and Barred is set.
	// Deadline is when the script refuses itself, in the clock of Redis, set
	// also when err is not nil: a replay of the key must wait for it.
	Set(ctx context.Context, key string, rec []byte, ttl time.Duration, msg []byte) (SetResult, error)
	// SetVersioned is Set of a record that carries a source version. Over a
	// higher one it removes the value instead, keeps the higher version as
	// a tombstone and sets Older.
	SetVersioned(ctx context.Context, key string, rec []byte, ttl time.Duration, msg []byte) (SetResult, error)

	// Delete removes what stands under key, but for a writer's placeholder that
	// is alive: that one becomes a no-store placeholder.
	Delete(ctx context.Context, key string, opt DeleteOptions, msg []byte) (DeleteResult, error)
	// Expire marks a value as past its time but usable as a fallback, voids
	// leases, and deletes what is not a Tandem record.
	Expire(ctx context.Context, key string, msg []byte) error
	// DeletePrefix deletes the keys that begin with prefix, taken literally, on
	// every master, then publishes msg, and returns how many values it removed.
	// After an error some keys may be left, and msg may have been published: on
	// a cluster a master that is away keeps no other from being emptied.
	DeletePrefix(ctx context.Context, prefix string, msg []byte) (int, error)

	// Keys returns the keys that begin with prefix, taken literally, on every master,
	// sorted. More than limit of them are an error.
	Keys(ctx context.Context, prefix string, limit int) ([]string, error)

	// Begin opens a writer's bracket (Update): it replaces what stands there by
	// the writer's placeholder.
	Begin(ctx context.Context, key string, token Token, d time.Duration, msg []byte) (Bracket, error)
	// End closes the bracket b, which is zero if Begin's reply is not known. It
	// stores rec if token's placeholder stands undisturbed and rec is not empty;
	// else it removes what stands there, or, while other writers are open, lowers
	// their number. Their placeholder then ends when it would have without this
	// bracket, if nobody else has lengthened it since Begin.
	End(ctx context.Context, key string, token Token, b Bracket, rec []byte, ttl time.Duration, msg []byte) (stored bool, err error)

	// Marker returns the version number under key, a marker, and creates it
	// from the time of Redis, but above floor, when it is missing. When it
	// creates it, msg is published with the version in its last 8 bytes.
	Marker(ctx context.Context, key string, floor uint64, msg []byte) (uint64, error)
	// Raise makes the version the largest of itself plus one, floor plus one
	// and the time of Redis in microseconds, and publishes msg with the new
	// version in its last 8 bytes (big-endian; msg must come with 8 bytes there).
	Raise(ctx context.Context, key string, floor uint64, msg []byte) (uint64, error)
	// ReadMany reads keys, at most limit bytes of payload each, and the versions
	// that their records depend on. All goes in one round trip, on a cluster one
	// to each master concerned, at once. Each result has its own error.
	ReadMany(ctx context.Context, keys []string, limit int, marks Marks) ([]Read, Marked)
	// LeaseMany, RenewMany, ReleaseMany, FillMany and SetMany are Lease, Renew (not
	// of writers), Release, Fill and Set of many keys, sent at once as ReadMany
	// does. They return one result for each element, in order, with its own error.
	LeaseMany(ctx context.Context, leases []LeaseRequest, d time.Duration) []LeaseResult
	RenewMany(ctx context.Context, held []Held, d time.Duration) []FillResult
	ReleaseMany(ctx context.Context, held []Held) []error
	FillMany(ctx context.Context, fills []FillRequest) []FillResult
	SetMany(ctx context.Context, sets []SetRequest) []SetManyResult
	// MakeBooks makes those of the books that are missing, and returns the
	// versions of all. RaiseTags raises tags. Both send what they do at once, as
	// ReadMany does, and return one result for each element, in order.
	MakeBooks(ctx context.Context, books []BookMake) []BookState
	RaiseTags(ctx context.Context, raises []TagRaise) []BookState

	// Add adds delta to the counter under key. window is set as its TTL if it
	// has none (0: never).
	Add(ctx context.Context, key string, delta int64, window time.Duration) (int64, error)
	// Take adds one to the counter under key if it is below limit. left is the
	// remaining time of its window, negative when it has none.
	Take(ctx context.Context, key string, limit int64, window time.Duration) (taken bool, count int64, left time.Duration, err error)
	// Count returns a counter and the remaining time of its window, negative
	// when it has none. Found is false, the count 0, when there is none.
	Count(ctx context.Context, key string) (count int64, left time.Duration, found bool, err error)

	// Now estimates the clock of the server that owns key, in microseconds,
	// from above: the server's clock shows at most this. 0: not known yet, so that
	// no time in a record can be judged.
	Now(key string) int64
	// Clock is Now for who needs it: it asks the server where it is not known, one
	// round trip.
	Clock(ctx context.Context, key string) (int64, error)
	// Earliest estimates the same clock from below: the server's clock shows at
	// least this. 0: not known yet.
	Earliest(key string) int64
	// Owner names the server that a call for key would go to now; empty if there
	// is none. It never blocks.
	Owner(key string) string
	// Available reports whether a call for key would be tried now. It never blocks.
	Available(key string) bool
	// Ping asks every known server and returns the longest round trip.
	Ping(ctx context.Context) (time.Duration, error)
	// Stats describes the servers, one entry a shard.
	Stats() []ShardStats
	// Close ends the store's goroutines and waits for them. It does not close
	// a client that was handed to it.
	Close() error
}

// Events are the store's calls back to its owner. Fields may be nil. They are
// called from goroutines of the store, never while it holds a lock.
type Events struct {
	// Up is called when a server that was not available answers again, and once
	// when the first answer of all arrives.
	Up func()
	// Down is called when calls to a server begin to fail fast.
	Down func(err error)
	// Restarted is called when a server turns out to be another than before
	// (a restart, a failover, another primary under the same address), or empty.
	// No reply of it reaches a caller before Restarted has returned, so it must
	// not call the store. A client that was not made to call [Redis.Greet] may
	// get replies until the next look.
	Restarted func(Restart)
}

// ShardStats describes one server as this process sees it.
type ShardStats struct {
	Addr       string
	Available  bool
	Failures   uint64 // calls that failed for want of the server
	Refused    uint64 // writes that the server refused: out of memory, read-only, too few replicas
	Reconnects uint64 // probes sent while the breaker was open
	Opened     uint64 // times the breaker opened
	Since      time.Time
	LastError  string
	RunID      string
	Offset     time.Duration // the server's clock minus this process' wall clock, for people to read
}

// SetResult is the outcome of a write that stores.
type SetResult struct {
	Stored   bool
	Barred   bool  // a writer's bracket is open: nothing was stored, the key is void
	Older    bool  // SetVersioned only
	Deadline int64 // microseconds in the clock of Redis
}

// DeleteOptions says how a delete differs from the plain one.
type DeleteOptions struct {
	Hold      time.Duration // refuse fills for this long
	NotBefore int64         // a replay: act only past this Redis time, in microseconds
	Version   uint64        // not 0: DeleteVersioned
	Tombstone time.Duration // how long the tombstone of a versioned delete lives
}

// DeleteResult is the outcome of a delete.
type DeleteResult struct {
	Removed bool          // a value was there
	Early   time.Duration // not 0: nothing was done, ask again after this time (NotBefore)
}

// Seen is what a read found, as far as a lease depends on it.
type Seen struct {
	State   State
	Version uint64 // of the record, with StateRecord, StateCorrupt or StateTooLarge; 0: unknown
}

// State is what stands under a key.
type State uint8

// The states of a key.
const (
	StateAbsent   State = iota // nothing
	StateRecord                // a record of ours, Record is valid
	StateForeign               // something that is not ours, of any Redis type
	StateNewer                 // a record of a newer format: left alone by fills
	StateCorrupt               // a record of ours whose body is damaged
	StateTooLarge              // more than the limit; of a record of ours the head is valid
)

// Reply is the result of a read.
type Reply struct {
	State  State
	Record Record // its slices alias the reply and are the caller's
}

// Seen returns what a lease needs to know of r.
//
// Placeholders and tombstones count as absent: they hold no value that the
// caller could go on using, so nothing depends on their being still there.
func (r *Reply) Seen() Seen {
	if r.State == StateRecord && !r.Record.Kind.HasBody() {
		return Seen{State: StateAbsent}
	}
	return Seen{State: r.State, Version: r.Record.Version}
}

// Grant is the answer to a request for a lease.
type Grant struct {
	Kind GrantKind
	Wait time.Duration // with GrantBusy and GrantBarred: how long the other's lease lasts at most
	Time int64         // when the answer was given, microseconds in the clock of the key's server
}

// GrantKind tells the answers to a request for a lease apart.
type GrantKind uint8

// The answers to a request for a lease.
const (
	Granted      GrantKind = iota + 1
	GrantBusy              // another reader loads: wait, then read again
	GrantBarred            // a writer's bracket or a hold: load, store nothing in either tier
	GrantChanged           // what was seen is no longer there: read again
	GrantRefused           // a record of a newer format: load, store nothing
)
