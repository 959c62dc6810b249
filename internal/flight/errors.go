package flight

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrClosed is what callers get from a group that was closed, those that were
	// waiting included.
	ErrClosed = errors.New("flight: closed")
	// ErrSlow is what DoWithin returns when the result is not there in time.
	ErrSlow = errors.New("flight: load is slow")
	// ErrGoexit is what joiners get when the load ended its goroutine.
	ErrGoexit = errors.New("flight: load called runtime.Goexit")

	// errAbandoned is the cause that a load sees when nobody waits for it.
	errAbandoned = fmt.Errorf("flight: every waiter has left: %w", context.Canceled)
)

// TimeoutError says that a load took longer than the group allows. It matches
// [context.DeadlineExceeded].
type TimeoutError struct{ Limit time.Duration }

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("flight: load took longer than the limit of %v", e.Limit)
}

// Is reports whether target is context.DeadlineExceeded.
func (e *TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout returns true, as net.Error has it.
func (e *TimeoutError) Timeout() bool { return true }

// PanicError is what joiners get when the load panicked. It unwraps to the
// value of the panic if that is an error.
type PanicError struct {
	Value any
	Stack []byte // of the panic, as debug.Stack formats it
}

// Error leaves the stack out, so that it does not end up in replies to users.
func (e *PanicError) Error() string { return fmt.Sprintf("flight: load panicked: %v", e.Value) }

func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
