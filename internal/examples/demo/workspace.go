package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// workspace is the directory where the demo keeps its database between runs,
// and what one run leaves on disk.
type workspace struct {
	dir  string // with the database
	run  string // of this run, removed at its end
	lock *sql.DB
	held *sql.Tx // on lock, for as long as the directory is ours
}

// defaultDir is below the user's cache directory, or the system's directory for
// temporary files if there is none.
func defaultDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "tandem-demo")
}

// openWorkspace makes dir and takes it for this process alone: another run
// would change rows behind the checker's back.
func openWorkspace(ctx context.Context, dir string) (w *workspace, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// An exclusive transaction of SQLite is a lock that ends with the process
	// that holds it, on every system.
	lock, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "lock.db")+"?_txlock=exclusive")
	if err != nil {
		return nil, err
	}
	// Not ctx: the lock outlives what is interrupted.
	held, err := lock.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("another demo works in %s; wait for it, or give -dir: %w", dir, err), lock.Close())
	}
	w = &workspace{dir: dir, run: filepath.Join(dir, "run"), lock: lock, held: held}
	// A run that was killed has left its files.
	if err := errors.Join(os.RemoveAll(w.run), os.Mkdir(w.run, 0o700)); err != nil {
		return nil, errors.Join(err, w.unlock())
	}
	return w, nil
}

// Close removes what the run has left and gives the directory back.
func (w *workspace) Close() error { return errors.Join(os.RemoveAll(w.run), w.unlock()) }

func (w *workspace) unlock() error { return errors.Join(w.held.Rollback(), w.lock.Close()) }
