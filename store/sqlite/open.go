package sqlite

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

//go:embed migrations/*.sql
var migrations embed.FS

// applicationID marks a file as a store: "Cnsg".
const applicationID = 0x436e7367

// busyTimeout is how long a write waits for another program's, such as that of
// a person in a shell.
const busyTimeout = 5 * time.Second

// openFile opens a database whose lock is held. One that it makes is this user's
// alone, and so are the files that SQLite puts beside it, which get the same
// mode; who else may read a file that is there already is its owner's choice.
//
// A file that is there is not touched but by SQLite: a process that closes one
// loses the locks that its other connections have on it.
func openFile(path string) (*sqlite.Conn, error) {
	if f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		_ = f.Close()
	} // else it is there, or SQLite says what is wrong
	return sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
}

// lockFile holds a file's lock until it is closed, or the process ends in
// whatever way. SQLite's own locks do this on every system that it runs on.
func lockFile(path string) (*sqlite.Conn, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate)
	if err != nil {
		return nil, explain(fmt.Errorf("sqlite: open %s: %w", path, err))
	}
	conn.SetBusyTimeout(0)
	if err := pragma(conn, "BEGIN EXCLUSIVE"); err != nil {
		_ = conn.Close()
		if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy {
			return nil, fmt.Errorf("%w: %s is held: a file serves one process at a time: end the other one, or give this one a file of its own", ErrInUse, path)
		}
		return nil, explain(fmt.Errorf("sqlite: lock %s: %w", path, err))
	}
	return conn, nil
}

// connect opens a connection for the pool. The writer's comes first, and brings
// the file up to date.
func (s *Store) connect(p pool) (*sqlite.Conn, error) {
	conn, err := openFile(s.config.Path)
	if err != nil {
		return nil, err
	}
	conn.SetBusyTimeout(busyTimeout)
	if p == s.writer {
		err = s.setUpWriter(conn)
	} else { // what a reader has read is of no use to it after the next commit, and costs it time to drop
		err = pragma(conn, "PRAGMA cache_size = -512")
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (s *Store) setUpWriter(conn *sqlite.Conn) error {
	if err := recognise(conn, applicationID); err != nil {
		return err
	}
	synchronous := "FULL"
	if s.config.Relaxed {
		synchronous = "NORMAL"
	}
	for _, p := range []string{
		"PRAGMA journal_mode = WAL",
		"PRAGMA synchronous = " + synchronous,
		"PRAGMA foreign_keys = ON",
		"PRAGMA cache_size = -16384",           // 16 MiB: more makes commits slower, as SQLite looks through all of it
		"PRAGMA wal_autocheckpoint = 0",        // see checkpointer
		"PRAGMA journal_size_limit = 67108864", // what a long read has made the WAL grow to is given back
	} {
		if err := pragma(conn, p); err != nil {
			return err
		}
	}
	return migrate(conn)
}

// recognise refuses a file that is not marked with the ID, unless it is empty.
func recognise(conn *sqlite.Conn, want int64) error {
	id, err := number(conn, "PRAGMA application_id")
	if err != nil {
		return err
	}
	objects, err := number(conn, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return err
	}
	if id != want && (id != 0 || objects != 0) {
		return fmt.Errorf("%w: the file is the database of another program: name another file", ErrForeign)
	}
	return nil
}

// migrate brings the schema of a store up to date.
func migrate(conn *sqlite.Conn) error {
	names, err := fs.Glob(migrations, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	scripts := make([]string, len(names))
	for i, name := range names {
		script, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		scripts[i] = string(script)
	}
	return upgrade(conn, applicationID, scripts)
}

// upgrade carries out the scripts that the file has not had, all or none. That
// it begins a write finds out whether the file can be written at all.
func upgrade(conn *sqlite.Conn, id int64, scripts []string) error {
	if err := pragma(conn, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	defer rollback(conn)
	version, err := number(conn, "PRAGMA user_version")
	if err != nil {
		return err
	}
	if version > int64(len(scripts)) {
		return fmt.Errorf("%w: its schema has version %d, and this program knows %d: update the program, or open a backup from before", ErrNewer, version, len(scripts))
	}
	for i, script := range scripts[version:] {
		if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
			return fmt.Errorf("to version %d: %w", version+int64(i)+1, err)
		}
	}
	for _, p := range []string{
		fmt.Sprintf("PRAGMA application_id = %d", id),
		fmt.Sprintf("PRAGMA user_version = %d", len(scripts)),
		"COMMIT",
	} {
		if err := pragma(conn, p); err != nil {
			return err
		}
	}
	return nil
}
