package invalidation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// link is one connection to one server, for one subscription, used once.
//
// A PubSub of go-redis reconnects by itself within Receive, holding the lock
// that Close and Ping take. Here its dialer works only once, so that it cannot,
// and the link can be cut from outside by closing the connection under it, which
// takes no lock of go-redis and ends whatever waits for the network.
type link struct {
	ctx    context.Context // ends with the link
	cancel context.CancelFunc
	client *redis.Client // of this link alone
	pubsub *redis.PubSub

	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	dialing *dialing

	mu     sync.Mutex // guards what follows
	conn   net.Conn
	dialed bool
	gone   bool
	reason GapReason
	cause  error
}

var (
	errSpent   = errors.New("the connection of this link is gone")
	errSilent  = errors.New("the server did not answer in time")
	errClosed  = errors.New("closed")
	errHanging = errors.New("earlier dials do not end")
	errRenew   = errors.New("renewed by its owner")
)

// maxDialing is how many dials of one subscription may hang.
const maxDialing = 4

// dialing counts the dials of one subscription, because a dialer that does not
// end with its context outlives its link.
type dialing struct {
	slots chan struct{}
}

func newDialing() *dialing { return &dialing{slots: make(chan struct{}, maxDialing)} }

func (d *dialing) begin() bool {
	select {
	case d.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (d *dialing) end() { <-d.slots }

// wait waits for all of them. None may begin any more.
func (d *dialing) wait() {
	for range maxDialing {
		d.slots <- struct{}{}
	}
}

// newLink prepares a link to the server of opt, which tune, if there is one, may
// change last. It does no I/O.
func newLink(ctx context.Context, opt redis.Options, timeout time.Duration, d *dialing, tune func(*redis.Options)) *link {
	l := &link{dial: opt.Dialer, dialing: d}
	l.ctx, l.cancel = context.WithCancel(ctx)
	opt.Dialer = l.dialOnce
	// What a client of an application is made for does not suit a link that is
	// always waiting for the server.
	opt.ContextTimeoutEnabled = true
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = timeout, timeout, timeout
	opt.MaxRetries, opt.DialerRetries = -1, 1
	opt.PoolSize, opt.PipelinePoolSize, opt.MinIdleConns, opt.MaxIdleConns = 1, -1, 0, 0
	opt.Limiter = nil // a breaker of the client counts its commands, not our links
	opt.ClientSideCache, opt.ClientSideCacheConfig = nil, nil
	opt.PushNotificationProcessor = nil // handlers of the application are for its connections
	opt.Protocol = 2                    // one kind of reply, no push notifications between messages
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if tune != nil {
		tune(&opt)
	}
	l.client = redis.NewClient(&opt)
	l.pubsub = l.client.Subscribe(l.ctx) // no channel yet: no I/O
	return l
}

// dialOnce dials the first time, and fails from then on. It ends with ctx even
// where the dialer does not, such as that of go-redis over TLS.
func (l *link) dialOnce(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	spent := l.dialed || l.gone
	l.dialed = true
	l.mu.Unlock()
	if spent {
		return nil, errSpent
	}
	if !l.dialing.begin() {
		return nil, errHanging
	}
	type result struct {
		conn net.Conn
		err  error
	}
	dialed := make(chan result, 1)
	go func() {
		defer l.dialing.end()
		conn, err := l.dial(ctx, network, addr)
		if err == nil && !l.adopt(conn) {
			_ = conn.Close()
			err = errSpent
		}
		dialed <- result{conn, err}
	}()
	select {
	case r := <-dialed:
		if r.err != nil {
			return nil, r.err
		}
		return &boundedConn{Conn: r.conn, cut: func(err error) { l.cut(GapProtocol, err) }}, nil
	case <-ctx.Done():
		l.cut(GapSilent, errSilent) // a connection that comes late is not adopted
		return nil, context.Cause(ctx)
	}
}

// adopt makes conn the connection to close, or reports false if it is too late.
func (l *link) adopt(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return false
	}
	l.conn = conn
	return true
}

// cut ends the link: everything that waits for its network returns. The first
// reason counts.
func (l *link) cut(reason GapReason, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return
	}
	l.gone, l.reason, l.cause = true, reason, cause
	l.cancel()
	if l.conn != nil {
		// TLS says goodbye on Close, at most 5 s on a dead network. A deadline
		// in the past makes it not try.
		_ = l.conn.SetDeadline(time.Unix(1, 0))
		_ = l.conn.Close()
	}
}

// close cuts the link and frees what it holds.
func (l *link) close() {
	l.cut(GapLink, errClosed)
	_ = l.pubsub.Close()
	_ = l.client.Close()
}

// refusedPing is the answer to a PING by a server that cannot save. It refuses
// PING like a write, and goes on to deliver.
type refusedPing struct{ error }

// receive waits for what comes next. go-redis panics on some replies that no
// Redis sends.
func (l *link) receive() (v any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reply not understood: %v", p)
		}
	}()
	v, err = l.pubsub.Receive(l.ctx)
	if err != nil && redis.HasErrorPrefix(err, "MISCONF ") {
		return refusedPing{err}, nil
	}
	return v, err
}

// peer returns the address at the other end, if there was one.
func (l *link) peer() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return ""
	}
	return l.conn.RemoteAddr().String()
}

// why returns the reason and cause of the first cut, if there was one.
func (l *link) why() (GapReason, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason, l.cause
}
