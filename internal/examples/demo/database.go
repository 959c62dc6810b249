package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite", pure Go

	"github.com/tandemcache/tandem/tier"
)

// user is a row of the database, and what the services cache.
type user struct {
	ID      int64
	Version int64 // grows by one with every update
	Email   string
	Name    string
	Plan    string
	Credits int64
	Address string
	About   string // a few hundred bytes to a few kilobytes
	Updated int64  // milliseconds since 1970
}

// change is what an update writes.
type change struct {
	Plan  string
	About string
}

const schema = `CREATE TABLE users (
	id      INTEGER PRIMARY KEY,
	version INTEGER NOT NULL,
	email   TEXT    NOT NULL,
	name    TEXT    NOT NULL,
	plan    TEXT    NOT NULL,
	credits INTEGER NOT NULL,
	address TEXT    NOT NULL,
	about   TEXT    NOT NULL,
	updated INTEGER NOT NULL
)`

// database is the source of truth of both services: one SQLite file, opened by
// each process for itself.
type database struct {
	db      *sql.DB
	latency time.Duration
}

// openDatabase opens the file at path. Write-ahead logging lets readers go on
// beside a writer, so several connections are of use; a writer that finds the
// other process writing waits for it.
//
// A query in this file system takes some tens of microseconds, which no
// database across a network does. So every query and every transaction waits
// for half of latency on its way and for half on its way back, and the figures
// of the demo are those of a database that is that far away. What comes back
// may be old already when it arrives, too.
func openDatabase(path string, latency time.Duration) (*database, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate"+
		"&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
	if err != nil {
		return nil, err
	}
	const connections = 8
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return &database{db: db, latency: latency}, nil
}

func (d *database) Close() error { return d.db.Close() }

// travel waits as long as a message to a database elsewhere, or back, takes.
func (d *database) travel(ctx context.Context) error {
	if d.latency <= 0 {
		return ctx.Err()
	}
	return pause(ctx, d.latency/2)
}

// columns are those of a user, in the order of fields.
const columns = "id, version, email, name, plan, credits, address, about, updated"

func (u *user) fields() []any {
	return []any{&u.ID, &u.Version, &u.Email, &u.Name, &u.Plan, &u.Credits, &u.Address, &u.About, &u.Updated}
}

// user returns the row of id, or tier.ErrNotFound.
func (d *database) user(ctx context.Context, id int64) (u user, err error) {
	if err := d.travel(ctx); err != nil {
		return user{}, err
	}
	err = d.db.QueryRowContext(ctx, "SELECT "+columns+" FROM users WHERE id = ?", id).Scan(u.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		err = tier.ErrNotFound
	}
	return u, errors.Join(err, d.travel(ctx))
}

// update commits ch and returns what is then the row, or tier.ErrNotFound.
func (d *database) update(ctx context.Context, id int64, ch change) (u user, err error) {
	if err := d.travel(ctx); err != nil {
		return user{}, err
	}
	// An explicit transaction: a lone UPDATE ... RETURNING commits only when its
	// rows are closed, where an error is easily lost.
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return user{}, err
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	err = tx.QueryRowContext(ctx,
		"UPDATE users SET version = version + 1, plan = ?, about = ?, updated = ? WHERE id = ? RETURNING "+columns,
		ch.Plan, ch.About, time.Now().UnixMilli(), id).Scan(u.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return user{}, tier.ErrNotFound
	}
	if err != nil {
		return user{}, err
	}
	return u, errors.Join(tx.Commit(), d.travel(ctx))
}

// versions returns the version of every user; the id of a user is its index.
func (d *database) versions(ctx context.Context, users int) ([]int64, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT id, version FROM users`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	versions := make([]int64, users+1)
	for rows.Next() {
		var id, version int64
		if err := rows.Scan(&id, &version); err != nil {
			return nil, err
		}
		if id < 1 || id > int64(users) {
			return nil, fmt.Errorf("database: user %d is none of the %d", id, users)
		}
		versions[id] = version
	}
	return versions, rows.Err()
}

// prepareDatabase makes the database of so many users in dir, unless a former
// run has left it there, and returns its path. It is made under another name
// and renamed when it is complete, so that what was interrupted is never used.
func prepareDatabase(ctx context.Context, dir string, users int) (path string, created bool, err error) {
	path = filepath.Join(dir, fmt.Sprintf("users-%d.v1.db", users))
	if _, err := os.Stat(path); err == nil {
		return path, false, nil
	}
	unfinished := path + ".new"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", false, err
	}
	if err := createDatabase(ctx, unfinished, users); err != nil {
		return "", false, errors.Join(fmt.Errorf("database: create: %w", err), os.Remove(unfinished))
	}
	return path, true, os.Rename(unfinished, path)
}

// createDatabase writes all rows in one transaction without a journal: nobody
// reads the file before it is complete.
func createDatabase(ctx context.Context, path string, users int) (err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(OFF)&_pragma=synchronous(OFF)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	insert, err := tx.PrepareContext(ctx, `INSERT INTO users VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	rng := rand.New(rand.NewPCG(uint64(users), 1)) // the same database for everybody
	for id := int64(1); id <= int64(users); id++ {
		u := inventUser(rng, id)
		if _, err := insert.ExecContext(ctx, u.ID, u.Version, u.Email, u.Name, u.Plan, u.Credits, u.Address, u.About, u.Updated); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// emailOf is the one field that follows from the id, so that a reader can tell
// that it got the row that it asked for.
func emailOf(id int64) string { return fmt.Sprintf("user%d@example.com", id) }

func inventUser(rng *rand.Rand, id int64) user {
	name := pick(rng, "Ada", "Bo", "Chidi", "Dana", "Emre", "Fatima", "Guo", "Hana", "Ivo", "June") + " " +
		pick(rng, "Abara", "Berg", "Castillo", "Dogan", "Eriksson", "Fofana", "Gupta", "Haddad", "Ito", "Jansen")
	address := fmt.Sprintf("%d %s Street, %05d %s", 1+rng.IntN(200), pick(rng, "Mill", "Church", "Station", "Garden", "Harbor"),
		rng.IntN(100_000), pick(rng, "Springfield", "Riverton", "Lakeside", "Georgetown", "Fairview"))
	return user{
		ID: id, Version: 1, Email: emailOf(id), Name: name, Plan: inventPlan(rng),
		Credits: rng.Int64N(10_000), Address: address, About: inventAbout(rng),
		Updated: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(),
	}
}

func inventPlan(rng *rand.Rand) string { return pick(rng, "free", "starter", "pro", "agency") }

// inventAbout writes about 150 to 4,800 bytes, half of them below 700: sizes of
// profiles are roughly log-normal.
func inventAbout(rng *rand.Rand) string {
	size := 150 << min(int(rng.ExpFloat64()*1.6+rng.Float64()), 4)
	size += rng.IntN(size)
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(pick(rng, "works", "on", "campaigns", "for", "clients", "across", "regions", "with", "leads",
			"imported", "from", "forms", "and", "reviews", "each", "pipeline", "every", "morning", "before", "calls"))
		b.WriteByte(' ')
	}
	return b.String()
}

func pick(rng *rand.Rand, from ...string) string { return from[rng.IntN(len(from))] }
