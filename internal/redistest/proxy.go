package redistest

import (
	"errors"
	"net"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Class is a set of connections through a [Proxy], told apart by their first
// command after those that every connection begins with (HELLO, AUTH, SELECT,
// CLIENT). Until that command a connection belongs to none of the two, and only
// what is done to All is done to it.
type Class uint8

// The classes of connections.
const (
	Commands Class               = 1 << iota // ordinary commands
	PubSub                                   // at least one SUBSCRIBE, PSUBSCRIBE or SSUBSCRIBE
	All      = Commands | PubSub             // every connection
)

// Direction is a set of the two ways through a [Proxy].
type Direction uint8

// The directions.
const (
	ToServer Direction = 1 << iota
	ToClient
	BothWays = ToServer | ToClient
)

// Proxy is a TCP proxy in front of a [Server] that reads what goes through it,
// command by command and reply by reply, and so can break one of them.
// [NewProxy] makes one.
//
// All methods may be called concurrently. What is done to a class holds for its
// connections of later, too, until it is undone, but for Cut and HalfOpen.
type Proxy struct {
	t    testing.TB
	port *port
	work sync.WaitGroup

	mu     sync.Mutex
	server *Server                 // guards: mu; whom new connections reach
	ln     net.Listener            // guards: mu; nil while refusing
	closed bool                    // guards: mu
	links  map[*link]struct{}      // guards: mu
	frozen map[Direction]Class     // guards: mu; by single direction
	delay  map[Class]time.Duration // guards: mu; by single class
	change chan struct{}           // guards: mu; closed and replaced when frozen or closed change
	rules  []*Rule                 // guards: mu
	drops  []*MessageDrop          // guards: mu
}

// NewProxy starts a proxy in front of server, which ends with t. The server
// must not use TLS: the proxy could not read it.
func NewProxy(t testing.TB, server *Server) *Proxy {
	t.Helper()
	if server.cfg.tls {
		t.Fatal("redistest: NewProxy in front of a server with WithTLS")
	}
	port, err := reservePort()
	if err != nil {
		t.Fatalf("redistest: no free port: %v", err)
	}
	p := &Proxy{
		t: t, server: server, port: port,
		links:  make(map[*link]struct{}),
		frozen: make(map[Direction]Class),
		delay:  make(map[Class]time.Duration),
		change: make(chan struct{}),
	}
	t.Cleanup(p.close)
	p.Accept()
	return p
}

// close ends every connection and waits for every goroutine.
func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.changed()
	p.mu.Unlock()
	p.Refuse()
	p.Cut(All)
	p.work.Wait()
	if err := p.port.release(); err != nil {
		p.t.Errorf("redistest: release port: %v", err)
	}
}

// Addr returns the address of the proxy, 127.0.0.1:port.
func (p *Proxy) Addr() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port.number))
}

// URL returns redis://127.0.0.1:port/0 of the proxy, with the password if the
// server has one.
func (p *Proxy) URL() string {
	u := url.URL{Scheme: "redis", Host: p.Addr(), Path: "/0"}
	if password := p.password(); password != "" {
		u.User = url.UserPassword("", password)
	}
	return u.String()
}

// Options returns what a client through the proxy needs and nothing else.
func (p *Proxy) Options() *redis.Options {
	return &redis.Options{Addr: p.Addr(), Password: p.password()}
}

// Client returns a client through the proxy with go-redis' defaults, which is
// closed when t ends.
func (p *Proxy) Client(t testing.TB) *redis.Client {
	t.Helper()
	return closed(t, redis.NewClient(p.Options()))
}

// PointTo makes the address lead to another server, as when a replica is promoted
// behind the address of its primary: new connections reach that one. Those that
// are open stay, see [Proxy.Cut].
func (p *Proxy) PointTo(server *Server) {
	p.t.Helper()
	if server.cfg.tls || server.cfg.password != p.password() {
		p.t.Fatal("redistest: PointTo a server that is reached otherwise")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.server = server
}

func (p *Proxy) password() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.cfg.password
}

// Refuse makes new connections fail with "connection refused". Those that are
// open stay.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	ln := p.ln
	p.ln = nil
	p.mu.Unlock()
	if ln != nil {
		_ = ln.Close() // cannot fail but for being closed
	}
}

// Accept ends [Proxy.Refuse].
func (p *Proxy) Accept() {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil || p.closed {
		return
	}
	ln, err := net.Listen("tcp4", p.Addr())
	if err != nil {
		p.t.Fatalf("redistest: proxy: %v", err)
	}
	p.ln = ln
	p.work.Go(func() { p.serve(ln) })
}

// serve connects whoever comes until ln is closed.
func (p *Proxy) serve(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				p.t.Errorf("redistest: proxy: %v", err)
			}
			return
		}
		p.work.Go(func() { p.connect(client) })
	}
}

// Cut closes the connections of a class that are open, on both sides.
func (p *Proxy) Cut(class Class) {
	for _, l := range p.of(class) {
		l.close()
	}
}

// HalfOpen closes the connections of a class towards the server only. The
// client's side stays open, takes what is sent and stays silent, as when the
// server's machine is gone.
func (p *Proxy) HalfOpen(class Class) {
	for _, l := range p.of(class) {
		l.halfOpen()
	}
}

// Freeze holds back all that a class sends in the given directions. Connections
// stay open, new ones are taken. Nothing is lost: Thaw lets it through.
func (p *Proxy) Freeze(class Class, dir Direction) {
	p.setFrozen(dir, func(old Class) Class { return old | class })
}

// Thaw ends [Proxy.Freeze] for a class, both ways.
func (p *Proxy) Thaw(class Class) {
	p.setFrozen(BothWays, func(old Class) Class { return old &^ class })
}

func (p *Proxy) setFrozen(dir Direction, change func(Class) Class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range [...]Direction{ToServer, ToClient} {
		if dir&d != 0 {
			p.frozen[d] = change(p.frozen[d])
		}
	}
	p.changed()
}

// changed wakes whoever waits for a change.
//
// REQUIRES: p.mu.
func (p *Proxy) changed() {
	close(p.change)
	p.change = make(chan struct{})
}

// Delay makes everything that the server sends to a class arrive d later; 0
// ends that. It is latency, not a lower rate: what is sent together arrives
// together.
func (p *Proxy) Delay(class Class, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range [...]Class{Commands, PubSub} {
		if class&c != 0 {
			p.delay[c] = d
		}
	}
}

// Connections returns how many connections of a class are open.
func (p *Proxy) Connections(class Class) int { return len(p.of(class)) }

// of returns the open connections of a class.
func (p *Proxy) of(class Class) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var links []*link
	for l := range p.links {
		if class.covers(l.class) {
			links = append(links, l)
		}
	}
	return links
}

// covers reports whether what is done to c is done to a connection of class of
// (0: not known yet).
func (c Class) covers(of Class) bool { return c == All || c&of != 0 }
