package l2

import "time"

// Held is a lease that somebody holds.
type Held struct {
	Key   string
	Token Token
}

// LeaseRequest is what Lease takes, as an element of LeaseMany.
type LeaseRequest struct {
	Held

	Seen Seen
}

// LeaseResult is one result of LeaseMany.
type LeaseResult struct {
	Grant

	Err error
}

// FillRequest is what Fill takes, as an element of FillMany.
type FillRequest struct {
	Held

	Rec []byte
	TTL time.Duration
	Msg []byte
}

// FillResult is one result of FillMany or RenewMany: OK says that the token
// still held the lease.
type FillResult struct {
	OK  bool
	Err error
}

// SetRequest is what Set takes, as an element of SetMany.
type SetRequest struct {
	Key string
	Rec []byte
	TTL time.Duration
	Msg []byte
}

// SetManyResult is one result of SetMany.
type SetManyResult struct {
	SetResult

	Err error
}
