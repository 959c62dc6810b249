package redistest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Server is a redis-server process on 127.0.0.1. [Start] makes one.
type Server struct {
	t    testing.TB
	bin  string
	cfg  config
	dir  string
	port *port
	cert *certificate // nil without TLS
	out  *output

	life  sync.Mutex // Stop, Kill and Restart one after the other
	mu    sync.Mutex
	proc  *process      // guards: mu; the last one, running or not
	admin *redis.Client // guards: mu; to proc
}

// Start runs a redis-server and returns once it answers. The server is empty,
// keeps nothing on disk unless an option says so, and is killed when t ends.
func Start(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := newServer(t, opts...)
	s.mustStart()
	return s
}

// newServer sets everything up but the process.
func newServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s := &Server{t: t, bin: mustFindServer(t), out: new(output)}
	for _, opt := range opts {
		opt(&s.cfg)
	}
	// Not t.TempDir: the name of a test can push the path of a Unix socket past
	// its limit of about 100 bytes.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	s.dir = dir
	t.Cleanup(s.cleanup)
	if s.cfg.tls {
		if s.cert, err = newCertificate(dir); err != nil {
			t.Fatal(err)
		}
	}
	if s.port, err = reservePort(); err != nil {
		t.Fatalf("redistest: no free port between %d and %d: %v", portMin, portMax, err)
	}
	return s
}

// cleanup kills the server, removes its directory and, if the test failed,
// prints what the server wrote.
func (s *Server) cleanup() {
	s.t.Helper()
	if err := s.end(syscall.SIGKILL); err != nil {
		s.t.Error(err)
	}
	if s.port != nil {
		if err := s.port.release(); err != nil {
			s.t.Errorf("redistest: release port %d: %v", s.port.number, err)
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Errorf("redistest: %v", err)
	}
	if s.t.Failed() {
		s.t.Logf("redistest: what the server on port %s wrote:\n%s", s.portText(), s.out)
	}
}

func (s *Server) portText() string {
	if s.port == nil {
		return "(none)"
	}
	return strconv.Itoa(s.port.number)
}

// Addr returns the TCP address, 127.0.0.1:port. It never changes.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.portText()) }

// Socket returns the path of the Unix socket, or "" without [WithUnixSocket].
func (s *Server) Socket() string {
	if !s.cfg.socket {
		return ""
	}
	return filepath.Join(s.dir, "redis.sock")
}

// URL returns what redis.ParseURL takes: redis://127.0.0.1:port/0, with the
// password if there is one; rediss:// with [WithTLS] (the certificate is trusted
// only by [Server.TLS]); unix:// with [WithUnixSocket].
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.Addr(), Path: "/0"}
	if s.cfg.password != "" {
		u.User = url.UserPassword("", s.cfg.password)
	}
	switch {
	case s.cfg.socket:
		u.Scheme, u.Host, u.Path = "unix", "", s.Socket()
	case s.cfg.tls:
		u.Scheme = "rediss"
	}
	return u.String()
}

// TLS returns a client's configuration that trusts the server, or nil without
// [WithTLS]. The caller may change it.
func (s *Server) TLS() *tls.Config {
	if s.cert == nil {
		return nil
	}
	return s.cert.client()
}

// Options returns what a client of this server needs and nothing else. The
// caller may change it.
func (s *Server) Options() *redis.Options {
	o := &redis.Options{Addr: s.Addr(), Password: s.cfg.password, TLSConfig: s.TLS()}
	if s.cfg.socket {
		o.Network, o.Addr, o.TLSConfig = "unix", s.Socket(), nil
	}
	return o
}

// Client returns a client with go-redis' defaults, which is closed when t ends.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	return closed(t, redis.NewClient(s.Options()))
}

// closed makes c end with t.
func closed[C interface{ Close() error }](t testing.TB, c C) C {
	t.Cleanup(func() { _ = c.Close() }) // closed by the test already: its business
	return c
}

// Pid returns the id of the running process. It changes with [Server.Restart].
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.cmd.Process.Pid
}

// Stop ends the server orderly (SIGTERM) and waits until it is gone. Stopping a
// stopped server does nothing.
func (s *Server) Stop() {
	s.t.Helper()
	s.life.Lock()
	defer s.life.Unlock()
	s.must(s.end(syscall.SIGTERM))
}

// Kill ends the server at once (SIGKILL) and waits until it is gone.
func (s *Server) Kill() {
	s.t.Helper()
	s.life.Lock()
	defer s.life.Unlock()
	s.must(s.end(syscall.SIGKILL))
}

// Restart stops the server if it runs and starts it again on the same port,
// empty, or with its data after [WithPersistence]. Settings made while it ran
// ([Server.ReadOnly], [Server.MaxMemory], CONFIG SET) are gone.
func (s *Server) Restart() {
	s.t.Helper()
	s.life.Lock()
	defer s.life.Unlock()
	s.must(s.end(syscall.SIGTERM))
	s.mustStart()
}

// end ends the process, if there is one, and waits for it.
func (s *Server) end(sig syscall.Signal) error {
	s.mu.Lock()
	proc, admin := s.proc, s.admin
	s.admin = nil
	s.mu.Unlock()
	if admin != nil {
		_ = admin.Close() // idle connections to a process about to go
	}
	if proc == nil || proc.exited() {
		return nil
	}
	return proc.end(sig)
}

// must fails the test that started the server.
func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("redistest: server %s: %v", s.Addr(), err)
	}
}

// mustStart starts the process and waits until it answers.
//
// The port is ours alone among the tests of this module, but not on the whole
// machine, so a server that cannot bind it is started again, until deadline.
func (s *Server) mustStart() {
	s.t.Helper()
	conf := filepath.Join(s.dir, "redis.conf")
	s.must(os.WriteFile(conf, []byte(s.configFile()), 0o600))
	var err error
	poll(nil, func() bool {
		if err = s.start(conf); err == nil {
			return true
		}
		return !strings.Contains(s.out.String(), "Address already in use")
	})
	if err != nil {
		s.t.Fatalf("redistest: server %s: %v", s.Addr(), err)
	}
}

// start runs the process once and waits until it answers.
func (s *Server) start(conf string) error {
	args := []string{conf}
	if s.cfg.sentinel {
		args = append(args, "--sentinel")
	}
	proc, err := spawn(s.out, s.cfg.env, s.bin, args...)
	if err != nil {
		return err
	}
	opts := s.Options()
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	opts.PoolSize = 2
	opts.PipelinePoolSize = -1
	opts.ContextTimeoutEnabled = true
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	admin := redis.NewClient(opts)
	var last error
	ready := poll(proc.done, func() bool {
		last = answers(admin, opts, proc.cmd.Process.Pid)
		return last == nil
	})
	if !ready {
		_ = admin.Close()
		gone := proc.exited()
		_ = proc.end(syscall.SIGKILL)
		if gone {
			return fmt.Errorf("redis-server exited: %v", proc.cmd.ProcessState)
		}
		return fmt.Errorf("no answer within %v: %w", deadline, last)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc, s.admin = proc, admin
	return nil
}

// answers asks whether the process pid answers commands. It dials by itself
// first, because go-redis prints a line about each refused connection.
func answers(admin *redis.Client, opts *redis.Options, pid int) error {
	network := opts.Network
	if network == "" {
		network = "tcp"
	}
	conn, err := net.DialTimeout(network, opts.Addr, time.Second)
	if err != nil {
		return err
	}
	_ = conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := admin.Ping(ctx).Err(); err != nil {
		return err
	}
	// A stranger's server may have the port: ours then never binds it.
	info, err := admin.Info(ctx, "server").Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", pid)) {
		return fmt.Errorf("another process answers on %s", opts.Addr)
	}
	return nil
}
