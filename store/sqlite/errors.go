package sqlite

import (
	"errors"
	"fmt"
	"sync"

	"zombiezen.com/go/sqlite"
)

// The errors of files that cannot be used as they are, and of a store that is
// closed. Each is wrapped with what happened; test with errors.Is.
var (
	// ErrInUse: another process, or another Store of this one, has the file.
	ErrInUse = errors.New("sqlite: file in use")
	// ErrNewer: the file has a schema that this program does not know.
	ErrNewer = errors.New("sqlite: file of a newer version")
	// ErrForeign: the file is no SQLite database, or another program's.
	ErrForeign = errors.New("sqlite: not a store")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("sqlite: store closed")
)

// CorruptError says which row cannot be read. Where others were asked for with
// it, they are returned without it, and it is logged, once.
type CorruptError struct {
	Table   string
	Row     int64 // the column n, or -1
	Column  string
	Problem string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("sqlite: row %d of table %s cannot be read: %s %s: repair the row, or restore a backup",
		e.Row, e.Table, e.Column, e.Problem)
}

// reported remembers which rows were logged: a queue asks for most of them
// again and again.
type reported struct {
	mu   sync.Mutex
	rows map[CorruptError]bool
}

const maxReported = 1000 // then it begins anew

// first reports whether the row was not logged yet.
func (r *reported) first(bad CorruptError) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows[bad] {
		return false
	}
	if r.rows == nil || len(r.rows) == maxReported {
		r.rows = map[CorruptError]bool{}
	}
	r.rows[bad] = true
	return true
}

// explain adds to an error of SQLite what to do about it.
func explain(err error) error {
	remedy := ""
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultFull:
		remedy = "the disk is full, or the file has reached PRAGMA max_page_count: make room, and the store goes on"
	case sqlite.ResultReadOnly, sqlite.ResultPerm:
		remedy = "the file cannot be written: let this user write the file and its folder"
	case sqlite.ResultCantOpen:
		remedy = "the file cannot be opened: let this user read and write the file and its folder"
	case sqlite.ResultBusy, sqlite.ResultLocked:
		remedy = "another program is writing to the file: end what it does, such as an open transaction of a shell"
	case sqlite.ResultCorrupt:
		remedy = "the file is damaged: restore a backup, or use the sqlite3 shell's .recover on a copy"
	case sqlite.ResultNotADB:
		return fmt.Errorf("%w: the file is no SQLite database: name another file (%w)", ErrForeign, err)
	case sqlite.ResultIOErr:
		remedy = "the disk fails, or is full: see the system's log"
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, remedy)
}
