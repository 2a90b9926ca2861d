// Package sqlite keeps a queue in one SQLite file, in pure Go.
//
// A file serves one process at a time, which Open makes sure of; any number of
// programs may read it meanwhile. Writers take turns, readers do not wait for
// them. An acknowledged change is on the disk.
//
// Ends of leases that were renewed are kept in memory alone. When a file is
// opened again, the leases of its running jobs start anew, whatever the clock
// says by then.
package sqlite

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/consignq/consign"
)

// Config says where a store is and how it writes. Path is required.
type Config struct {
	// Path names the file, which is made if it is not there. Beside it stand
	// PATH-wal and PATH-shm, which belong to it, and PATH.lock.
	Path string
	// Relaxed acknowledges changes before they are on the disk: a crash of the
	// process loses nothing, one of the machine may lose the last of them.
	// Defaults to false: every commit waits for the disk.
	Relaxed bool
	// Logger gets the rows that cannot be read. Defaults to slog.Default.
	Logger *slog.Logger
}

// Store is a consign.Store in an SQLite file. Make one with Open.
type Store struct {
	config Config
	began  time.Time
	lock   *sqlite.Conn // holds PATH.lock
	writer pool         // of one connection
	reader pool
	leases leases
	rows   rows
	last   int64 // the highest row that a job has had; with the writer's connection
	closed func() error

	reported    reported
	checkpoints checkpointer
}

var _ consign.Store = (*Store)(nil)

// readers is how many reads go on at once; others wait.
const readers = 4

// Open opens the store in a file, or makes it, and brings an older schema up
// to date. It returns a *consign.FieldError for a bad Config, ErrInUse if
// another process has the file, ErrNewer if a newer program has written it,
// ErrForeign if it is not a store, and SQLite's own errors with what to do.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	path, err := resolve(c.Path)
	if err != nil {
		return nil, err
	}
	c.Path = path
	return open(ctx, c, time.Now())
}

// open is Open with a path that is resolved, at a time.
func open(ctx context.Context, c Config, now time.Time) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	lock, err := lockFile(c.Path + ".lock")
	if err != nil {
		return nil, err
	}
	s := &Store{config: c, began: now, lock: lock, rows: rows{known: make(map[consign.JobID]int64)}, writer: make(pool, 1), reader: make(pool, readers)}
	s.closed = sync.OnceValue(s.close)
	for _, p := range []pool{s.writer, s.reader} {
		for range cap(p) {
			conn, err := s.connect(p)
			if err != nil {
				s.abandon()
				return nil, explain(fmt.Errorf("sqlite: open %s: %w", c.Path, err))
			}
			p <- conn
		}
	}
	err = s.resumeLeases(ctx)
	if err == nil {
		err = s.startCheckpoints()
	}
	if err != nil {
		s.abandon()
		return nil, err
	}
	return s, nil
}

// resolve makes one path of the many that a file may have, so that they have
// one lock.
func resolve(path string) (string, error) {
	if path == "" || path == ":memory:" {
		return "", &consign.FieldError{Field: "config.path", Problem: fmt.Sprintf("is %q", path),
			Remedy: "name a file, or use store/memdb to keep nothing"}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	folder, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", fmt.Errorf("sqlite: the folder of %s cannot be used: make it, and let this user write to it: %w", path, err)
	}
	path = filepath.Join(folder, filepath.Base(path))
	if file, err := filepath.EvalSymlinks(path); err == nil {
		path = file
	}
	return path, nil
}

// Close ends the store, when calls that are under way have ended. Later calls
// return ErrClosed. Closing twice gives the first answer.
func (s *Store) Close() error { return s.closed() }

func (s *Store) close() error {
	err := s.reader.close()
	if e := s.writer.close(); err == nil {
		err = e
	}
	if e := s.checkpoints.close(); err == nil { // the last one moves the WAL into the file
		err = e
	}
	if e := s.lock.Close(); err == nil {
		err = e
	}
	return err
}

// abandon closes what an Open that fails has opened.
func (s *Store) abandon() {
	for _, p := range []pool{s.reader, s.writer} {
		for len(p) > 0 {
			_ = (<-p).Close()
		}
	}
	_ = s.lock.Close()
}

// now is the store's clock: the wall clock when it was opened and what has
// passed since by the monotonic one, so that setting the machine's clock ends
// no lease and prolongs none.
func (s *Store) now() consign.Instant { return consign.At(s.began.Add(time.Since(s.began))) }

// pool holds the connections that nobody uses.
type pool chan *sqlite.Conn

// take waits for a connection. It returns the context's error, or ErrClosed.
func (p pool) take(ctx context.Context) (*sqlite.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case conn, open := <-p:
		if !open {
			return nil, ErrClosed
		}
		return conn, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pool) close() (err error) {
	for range cap(p) {
		if e := (<-p).Close(); err == nil {
			err = e
		}
	}
	close(p)
	return err
}
