package l2

import (
	"context"
	"fmt"
	"time"
)

// changeOrder is the order that runs a script as change does.
func (r *Redis) changeOrder(sc *script, key string, msg []byte, args ...any) order {
	return order{key: key, script: sc, args: r.withHead(nil, msg, args), write: true}
}

// LeaseMany implements Store.
func (r *Redis) LeaseMany(ctx context.Context, leases []LeaseRequest, d time.Duration) []LeaseResult {
	orders := make([]order, len(leases))
	for i := range leases {
		l := &leases[i]
		orders[i] = r.changeOrder(r.scripts.lease, l.Key, nil, leaseArgs(l.Seen, l.Token, d)...)
		orders[i].err = checkHeld(l.Token, d)
	}
	results := make([]LeaseResult, len(leases))
	for i, a := range r.batch(ctx, orders) {
		results[i].Grant, results[i].Err = grantOf(a.value, a.err)
	}
	return results
}

// RenewMany implements Store.
func (r *Redis) RenewMany(ctx context.Context, held []Held, d time.Duration) []FillResult {
	orders := make([]order, len(held))
	for i := range held {
		h := &held[i]
		orders[i] = r.changeOrder(r.scripts.renew, h.Key, nil, h.Token[:], d.Microseconds(), "0")
		orders[i].err = checkHeld(h.Token, d)
	}
	return fillResults(r.batch(ctx, orders))
}

// ReleaseMany implements Store.
func (r *Redis) ReleaseMany(ctx context.Context, held []Held) []error {
	orders := make([]order, len(held))
	for i := range held {
		orders[i] = r.changeOrder(r.scripts.release, held[i].Key, nil, held[i].Token[:])
	}
	errs := make([]error, len(held))
	for i, a := range r.batch(ctx, orders) {
		_, errs[i] = intOf(a.value, a.err)
	}
	return errs
}

// FillMany implements Store.
func (r *Redis) FillMany(ctx context.Context, fills []FillRequest) []FillResult {
	orders := make([]order, len(fills))
	for i := range fills {
		f := &fills[i]
		orders[i] = r.changeOrder(r.scripts.fill, f.Key, f.Msg, f.Token[:], f.Rec, millis(f.TTL))
		orders[i].err = checkRecord(f.Rec, f.TTL, false)
	}
	return fillResults(r.batch(ctx, orders))
}

func fillResults(answers []answered) []FillResult {
	results := make([]FillResult, len(answers))
	for i, a := range answers {
		n, err := intOf(a.value, a.err)
		results[i] = FillResult{n == 1, err}
	}
	return results
}

// SetMany implements Store. Those that come too late are tried once more, see
// store.
func (r *Redis) SetMany(ctx context.Context, sets []SetRequest) []SetManyResult {
	results := make([]SetManyResult, len(sets))
	places := make([]int, len(sets))
	for i := range places {
		places[i] = i
	}
	for range 2 {
		orders := make([]order, len(places))
		for j, i := range places {
			s := &sets[i]
			orders[j] = r.changeOrder(r.scripts.set, s.Key, s.Msg, s.Rec, millis(s.TTL), int64(0))
			orders[j].deadline, orders[j].err = true, checkRecord(s.Rec, s.TTL, false)
		}
		var late []int
		for j, a := range r.batch(ctx, orders) {
			i := places[j]
			res := &results[i]
			res.Deadline = max(res.Deadline, a.deadline)
			var code int64
			code, res.Err = intOf(a.value, a.err)
			res.Stored, res.Barred = code == setStored, code == setBarred
			if res.Err == nil && code < 0 {
				res.Err = fmt.Errorf("%w: past its deadline", ErrRefused)
				late = append(late, i)
			}
		}
		if places = late; len(places) == 0 {
			break
		}
	}
	return results
}
