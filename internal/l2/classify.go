package l2

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/tandemcache/tandem/internal/breaker"
)

// class is what an error of a call to Redis means.
type class uint8

const (
	classOK          class = iota
	classUsage             // an answer to a wrong question: our bug or the key's content
	classRefused           // an answer: the write was refused and nothing changed
	classUnavailable       // no answer, or one that says that there is none to be had now
	classDead              // nobody listens
	classConfig            // credentials or rights are missing
)

// classify sorts err, whose call was not cut short by its caller.
//
// A refused write is an answer like any other: the server is there and reads of
// it go on, so it does not count against the server. LOADING and the like come
// from a server that serves nothing, reads included.
func classify(err error) class {
	if err == nil || errors.Is(err, redis.Nil) {
		return classOK
	}
	var answer redis.Error
	if !errors.As(err, &answer) {
		if errors.Is(err, syscall.ECONNREFUSED) {
			return classDead
		}
		return classUnavailable
	}
	text := answer.Error()
	if strings.Contains(text, "ACL failure") {
		return classConfig
	}
	switch code(text) {
	case "OOM", "READONLY", "NOREPLICAS", "MISCONF":
		return classRefused
	case "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "UNKILLABLE", "MOVED", "ASK":
		return classUnavailable
	case "NOAUTH", "WRONGPASS", "NOPERM":
		return classConfig
	}
	if strings.Contains(text, "max number of clients") {
		return classUnavailable
	}
	return classUsage
}

// code returns the first word of an error reply. Redis 6 wraps an error inside
// a script as "ERR Error running script (...): @user_script: 12: -OOM command
// ..." or "@user_script: 12: -OOM ...".
func code(text string) string {
	if strings.HasPrefix(text, "@user_script") || strings.HasPrefix(text, "ERR Error running script") {
		if _, inner, ok := strings.Cut(text, ": -"); ok {
			text = inner
		}
	}
	word, _, _ := strings.Cut(strings.TrimPrefix(text, "ERR "), " ")
	return word
}

// outcome is what the class says of the server.
func (c class) outcome() breaker.Outcome {
	switch c {
	case classDead:
		return breaker.Dead
	case classUnavailable, classConfig:
		return breaker.Failure
	}
	return breaker.Success
}

// wrap makes err what Store's methods return. For a write, also an error that
// nobody expected leaves the outcome unknown: part of the script may have run.
func (c class) wrap(err error, write bool) error {
	switch {
	case c == classOK:
		return nil
	case c == classRefused:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case c == classUsage && !write:
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// cutShort is the error of a call whose caller would not wait for its end.
func cutShort(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
}
