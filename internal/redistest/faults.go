package redistest

import (
	"fmt"
	"syscall"
)

// deadPort is a port of loopback where nothing listens: tcpmux is served by no
// system of today, and below 1024 no test can bind it by chance.
const deadPort = 1

// Freeze suspends the process (SIGSTOP) and returns once it is suspended:
// connections stay open and are still accepted by the kernel, nothing answers.
func (s *Server) Freeze() {
	s.t.Helper()
	proc := s.running()
	s.must(proc.signal(syscall.SIGSTOP))
	if !poll(proc.done, func() bool { return suspended(proc.cmd.Process.Pid) }) {
		s.t.Fatalf("redistest: server %s was not suspended within %v", s.Addr(), deadline)
	}
}

// Thaw ends [Server.Freeze]. What clients sent meanwhile is then run.
func (s *Server) Thaw() {
	s.t.Helper()
	s.must(s.running().signal(syscall.SIGCONT))
}

// up reports whether the process runs and is not suspended.
func (s *Server) up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc != nil && !s.proc.exited() && !suspended(s.proc.cmd.Process.Pid)
}

// running returns the process, which must run.
func (s *Server) running() *process {
	s.t.Helper()
	s.mu.Lock()
	proc := s.proc
	s.mu.Unlock()
	if proc == nil || proc.exited() {
		s.must(fmt.Errorf("it does not run"))
	}
	return proc
}

// ReadOnly makes the server a replica of an address where nothing listens, so
// that it serves reads and answers writes with READONLY; ReadOnly(false) makes
// it a primary again, with its data and a new replication id.
func (s *Server) ReadOnly(on bool) {
	s.t.Helper()
	if on {
		s.Do("replicaof", "127.0.0.1", deadPort)
		return
	}
	s.Do("replicaof", "no", "one")
}

// MaxMemory limits the memory for data, in bytes (0: no limit), and says what
// happens at the limit: "noeviction" makes writes fail with OOM, "allkeys-lru"
// and the like evict.
func (s *Server) MaxMemory(bytes int64, policy string) {
	s.t.Helper()
	s.Do("config", "set", "maxmemory", bytes, "maxmemory-policy", policy)
}
