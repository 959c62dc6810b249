package l2

import (
	"context"
	"time"
)

// LeaseMany implements Store. Like those below it is one step a key.
func (m *Memory) LeaseMany(ctx context.Context, leases []LeaseRequest, d time.Duration) []LeaseResult {
	results := make([]LeaseResult, len(leases))
	for i, l := range leases {
		results[i].Grant, results[i].Err = m.Lease(ctx, l.Key, l.Seen, l.Token, d)
	}
	return results
}

// RenewMany implements Store.
func (m *Memory) RenewMany(ctx context.Context, held []Held, d time.Duration) []FillResult {
	results := make([]FillResult, len(held))
	for i, h := range held {
		if results[i].Err = checkHeld(h.Token, d); results[i].Err == nil {
			results[i].OK, results[i].Err = m.Renew(ctx, h.Key, h.Token, d, false)
		}
	}
	return results
}

// ReleaseMany implements Store.
func (m *Memory) ReleaseMany(ctx context.Context, held []Held) []error {
	errs := make([]error, len(held))
	for i, h := range held {
		errs[i] = m.Release(ctx, h.Key, h.Token)
	}
	return errs
}

// FillMany implements Store.
func (m *Memory) FillMany(ctx context.Context, fills []FillRequest) []FillResult {
	results := make([]FillResult, len(fills))
	for i, f := range fills {
		results[i].OK, results[i].Err = m.Fill(ctx, f.Key, f.Token, f.Rec, f.TTL, f.Msg)
	}
	return results
}

// SetMany implements Store.
func (m *Memory) SetMany(ctx context.Context, sets []SetRequest) []SetManyResult {
	results := make([]SetManyResult, len(sets))
	for i, s := range sets {
		results[i].SetResult, results[i].Err = m.Set(ctx, s.Key, s.Rec, s.TTL, s.Msg)
	}
	return results
}
