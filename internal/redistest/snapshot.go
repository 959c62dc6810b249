package redistest

import (
	"os"
	"path/filepath"
	"syscall"
)

// Snapshot is the data of a server at one moment.
type Snapshot struct{ rdb []byte }

// Snapshot saves the data of a server without [WithPersistence].
func (s *Server) Snapshot() Snapshot {
	s.t.Helper()
	s.noPersistence("Snapshot")
	s.Do("save")
	path := filepath.Join(s.dir, "dump.rdb")
	rdb, err := os.ReadFile(path)
	s.must(err)
	// Left there, it would be loaded by the next plain Restart.
	s.must(os.Remove(path))
	return Snapshot{rdb: rdb}
}

// RestartFrom is [Server.Restart], but the server comes back with the data of
// snap, its own or another server's, as from an old backup.
func (s *Server) RestartFrom(snap Snapshot) {
	s.t.Helper()
	s.noPersistence("RestartFrom")
	s.life.Lock()
	defer s.life.Unlock()
	s.must(s.end(syscall.SIGTERM))
	path := filepath.Join(s.dir, "dump.rdb")
	s.must(os.WriteFile(path, snap.rdb, 0o600))
	s.mustStart()
	s.must(os.Remove(path))
}

// noPersistence refuses what an append-only file would hide: a server that has
// one does not read the snapshot.
func (s *Server) noPersistence(method string) {
	s.t.Helper()
	if s.cfg.persist {
		s.t.Fatalf("redistest: %s of a server with WithPersistence", method)
	}
}
