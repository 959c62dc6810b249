package connect

import (
	"context"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// steadily returns a dialer like go-redis' own whose failures show in the first
// use of the connection.
//
// After as many failed dials as it has room for connections, go-redis' pool fails
// at once and dials again only once a second: when Redis is back, a node would go
// on without it for that long. Not to ask a server that is down is the business of
// our breaker, which asks more often and knows at once.
func steadily(o *redis.Options) dialer {
	dial := redis.NewDialer(o)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return failed{err}, nil //nolint:nilerr // the connection returns it
		}
		return conn, nil
	}
}

// failed is a connection that did not come about.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error)         { return 0, f.err }
func (f failed) Write([]byte) (int, error)        { return 0, f.err }
func (f failed) Close() error                     { return nil }
func (f failed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (f failed) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (f failed) SetDeadline(time.Time) error      { return nil }
func (f failed) SetReadDeadline(time.Time) error  { return nil }
func (f failed) SetWriteDeadline(time.Time) error { return nil }
