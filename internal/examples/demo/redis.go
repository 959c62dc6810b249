package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// redisServer is the Redis that both services share. It can be taken away and
// comes back at the same address with the data that it had.
//
// That is the harder case for a cache: what was updated meanwhile stands in it
// with its old value, and must not be served.
type redisServer interface {
	URL() string
	// String says what it is, for the table.
	String() string
	// Start returns when it answers.
	Start(ctx context.Context) error
	// Ping asks it whether it serves.
	Ping() error
	// Stop ends it without a warning, and returns when it is gone.
	Stop() error
}

// The values of the flag -redis.
const (
	redisAuto = "auto"
	redisReal = "redis-server"
	redisMini = "miniredis"
)

// newRedis returns the Redis that kind asks for, not started yet: with
// redisAuto, redis-server if it is on PATH, else miniredis in this process.
func newRedis(kind, dir string) (redisServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	bin, err := exec.LookPath("redis-server")
	switch {
	case err != nil && kind == redisReal:
		return nil, fmt.Errorf("-redis %s: %w", kind, err)
	case err != nil || kind == redisMini:
		return newMiniRedis(kind, port), nil //nolint:nilerr // it needs no redis-server
	}
	version, err := exec.Command(bin, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --version: %w", bin, err)
	}
	dir = filepath.Join(dir, "redis")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return &processRedis{bin: bin, dir: dir, port: port, version: versionIn(string(version))}, nil
}

// versionIn finds "v=7.0.15" in what redis-server says of itself.
func versionIn(text string) string {
	for field := range strings.FieldsSeq(text) {
		if v, ok := strings.CutPrefix(field, "v="); ok {
			return v
		}
	}
	return "of unknown version"
}

// freePort draws a TCP port of loopback that nobody listens on. It lies below
// the ranges that systems take for outgoing connections, so that none of those
// takes it while Redis is away.
func freePort() (int, error) {
	const lowest, highest, tries = 12_000, 32_000, 100
	var last error
	for range tries {
		port := lowest + rand.IntN(highest-lowest)
		l, err := net.Listen("tcp4", loopback(port))
		if err == nil {
			return port, l.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("no free port: %w", last)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// processRedis is a redis-server under a guard.
type processRedis struct {
	bin, dir, version string
	port              int
	running           *child // nil while it is stopped
}

func (r *processRedis) URL() string { return "redis://" + loopback(r.port) + "/0" }

func (r *processRedis) String() string { return "redis-server " + r.version }

func (r *processRedis) Start(ctx context.Context) error {
	// The append-only file keeps the data over the outage. "appendfsync no"
	// writes it before each reply and never holds a write back for a sync in
	// progress, so the file outlives the process, if not the machine.
	c, _, err := startChild(ctx, r.dir, "redis", "guard", r.bin,
		"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", r.dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "no")
	if err != nil {
		return err
	}
	r.running = c
	return r.awaitAnswer(ctx)
}

// awaitAnswer asks until Redis answers a PING: it may be loading its data.
func (r *processRedis) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 15*time.Second, errors.New("redis: does not answer"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if r.Ping() == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-r.running.ended:
			return r.running.failure()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (r *processRedis) Ping() error { return ping(loopback(r.port)) }

func (r *processRedis) Stop() error {
	if r.running == nil {
		return nil
	}
	err := r.running.stop()
	r.running = nil
	return err
}

// ping asks a Redis whether it serves. LOADING is an answer too, but not this.
func ping(addr string) (err error) {
	conn, err := net.DialTimeout("tcp4", addr, time.Second)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err == nil && line != "+PONG\r\n" {
		err = errors.New(strings.TrimSpace(line))
	}
	return err
}

// miniRedis is an imitation of Redis in this process, for machines without one.
// It keeps its data in memory while it is stopped.
type miniRedis struct {
	why, addr string
	server    *miniredis.Miniredis
}

func newMiniRedis(why string, port int) *miniRedis {
	return &miniRedis{why: why, addr: loopback(port), server: miniredis.NewMiniRedis()}
}

func (r *miniRedis) URL() string { return "redis://" + r.addr + "/0" }

func (r *miniRedis) String() string {
	if r.why == redisAuto {
		return "embedded miniredis (redis-server is not on PATH)"
	}
	return "embedded miniredis"
}

func (r *miniRedis) Start(context.Context) error {
	r.server.ClockTTL(true) // by default its keys never expire
	return r.server.StartAddr(r.addr)
}

func (r *miniRedis) Ping() error { return ping(r.addr) }

func (r *miniRedis) Stop() error {
	r.server.Close() // does nothing if it is stopped
	return nil
}
