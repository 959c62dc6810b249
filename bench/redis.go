package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server that this process started, on loopback.
type server struct {
	addr string
	cmd  *exec.Cmd
	dir  string
}

// startRedis runs a redis-server without persistence.
func startRedis(args ...string) (*server, error) {
	dir, err := os.MkdirTemp("", "tandem-bench")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(addr)
	args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir, "--loglevel", "warning"}, args...)
	cmd := exec.Command("redis-server", args...)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("redis-server is needed (make test installs it): %w", err)
	}
	s := &server{addr: addr, cmd: cmd, dir: dir}
	c := s.client()
	defer func() { _ = c.Close() }()
	return s, until(10*time.Second, func() error { return c.Ping(context.Background()).Err() })
}

func (s *server) client() *redis.Client { return redis.NewClient(&redis.Options{Addr: s.addr}) }

func (s *server) stop() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	_ = os.RemoveAll(s.dir)
}

// version is what INFO says.
func (s *server) version() string {
	c := s.client()
	defer func() { _ = c.Close() }()
	return info(c, "server", "redis_version")
}

// commands is how many commands the server has executed.
func commandsDone(c *redis.Client) float64 {
	var n float64
	_, _ = fmt.Sscan(info(c, "stats", "total_commands_processed"), &n)
	return n
}

func info(c *redis.Client, section, field string) string {
	for line := range strings.Lines(c.Info(context.Background(), section).Val()) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// startCluster runs three masters that share the slots.
func startCluster() (addrs []string, stop func(), err error) {
	var servers []*server
	stop = func() {
		for _, s := range servers {
			s.stop()
		}
	}
	ctx := context.Background()
	const slots, masters = 16384, 3
	for i := range masters {
		s, err := startRedis("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		if err != nil {
			return nil, stop, err
		}
		servers, addrs = append(servers, s), append(addrs, s.addr)
		c := s.client()
		defer func() { _ = c.Close() }()
		if err := c.ClusterAddSlotsRange(ctx, i*slots/masters, (i+1)*slots/masters-1).Err(); err != nil {
			return nil, stop, err
		}
		host, port, _ := net.SplitHostPort(servers[0].addr)
		if err := c.ClusterMeet(ctx, host, port).Err(); err != nil {
			return nil, stop, err
		}
	}
	for _, s := range servers {
		c := s.client()
		defer func() { _ = c.Close() }()
		err := until(20*time.Second, func() error {
			if text := c.ClusterInfo(ctx).Val(); !strings.Contains(text, "cluster_state:ok") ||
				!strings.Contains(text, "cluster_known_nodes:3") {
				return errors.New("the cluster does not come up")
			}
			return nil
		})
		if err != nil {
			return nil, stop, err
		}
	}
	return addrs, stop, nil
}

// until calls f until it returns nil.
func until(limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}
