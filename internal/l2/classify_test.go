package l2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"

	"github.com/tandemcache/tandem/internal/breaker"
)

// answer is an error that a server replied.
type answer string

func (a answer) Error() string { return string(a) }
func (answer) RedisError()     {}

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err  error
		want class
	}{
		{nil, classOK},
		{redis.Nil, classOK},
		{io.EOF, classUnavailable},
		{os.ErrDeadlineExceeded, classUnavailable},
		{context.DeadlineExceeded, classUnavailable},
		{redis.ErrPoolTimeout, classUnavailable},
		{redis.ErrClosed, classUnavailable},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, classDead},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, classUnavailable},
		{answer("OOM command not allowed when used memory > 'maxmemory'."), classRefused},
		{answer("READONLY You can't write against a read only replica."), classRefused},
		{answer("NOREPLICAS Not enough good replicas to write."), classRefused},
		{answer("MISCONF Redis is configured to save RDB snapshots"), classRefused},
		{answer("ERR Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM command not allowed"), classRefused},
		{answer("@user_script: 12: -READONLY You can't write against a read only replica."), classRefused},
		{answer("LOADING Redis is loading the dataset in memory"), classUnavailable},
		{answer("MASTERDOWN Link with MASTER is down"), classUnavailable},
		{answer("CLUSTERDOWN The cluster is down"), classUnavailable},
		{answer("TRYAGAIN Multiple keys request during rehashing of slot"), classUnavailable},
		{answer("BUSY Redis is busy running a script."), classUnavailable},
		{answer("MOVED 1 127.0.0.1:1"), classUnavailable},
		{answer("ERR max number of clients reached"), classUnavailable},
		{answer("NOAUTH Authentication required."), classConfig},
		{answer("WRONGPASS invalid username-password pair"), classConfig},
		{answer("NOPERM this user has no permissions"), classConfig},
		{answer("ERR ACL failure in script: this user has no permissions to access a channel"), classConfig},
		{answer("WRONGTYPE Operation against a key"), classUsage},
		{answer("ERR syntax error"), classUsage},
		{fmt.Errorf("hook: %w", answer("OOM x")), classRefused},
	} {
		assert.Equal(t, c.want, classify(c.err), "%v", c.err)
	}
}

func TestClass_wrap(t *testing.T) {
	cause := errors.New("cause")
	assert.NoError(t, classOK.wrap(cause, true))
	assert.Equal(t, cause, classUsage.wrap(cause, false))
	for _, c := range []struct {
		class class
		write bool
		want  error
		not   error
	}{
		{classRefused, true, ErrRefused, ErrUnavailable},
		{classUnavailable, true, ErrUnavailable, ErrRefused},
		{classDead, false, ErrUnavailable, ErrRefused},
		{classConfig, false, ErrUnavailable, ErrRefused},
		{classUsage, true, ErrUnavailable, ErrRefused}, // part of the script may have run
	} {
		err := c.class.wrap(cause, c.write)
		assert.ErrorIs(t, err, cause)
		assert.ErrorIs(t, err, c.want)
		assert.NotErrorIs(t, err, c.not)
	}
	assert.Equal(t, breaker.Success, classRefused.outcome(), "an answer: reads go on")
	assert.Equal(t, breaker.Dead, classDead.outcome())
}
