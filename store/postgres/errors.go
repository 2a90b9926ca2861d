package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// CorruptError says which row cannot be read. Where others were asked for with
// it, they are returned without it, and it is logged, once.
type CorruptError struct {
	Table   string
	Row     string // its key
	Column  string
	Problem string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("postgres: row %s of table %s cannot be read: %s %s: repair the row, or restore a backup", e.Row, e.Table, e.Column, e.Problem)
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

// explain adds to an error of PostgreSQL's what to do about it.
func explain(err error) error {
	remedy := ""
	switch code(err) {
	case "53100":
		remedy = "a disk of the server is full: make room, and the queue goes on"
	case "25006":
		remedy = "the server takes no writes: connect to the primary, or set default_transaction_read_only = off"
	case "28000", "28P01":
		remedy = "the server does not let this user in: check user and password in the connection string, and pg_hba.conf"
	case "3D000":
		remedy = "there is no such database: create it, or check dbname in the connection string"
	case "42501":
		remedy = "the user may not do this: let him own the schema"
	case "53300":
		remedy = "the server has no connection left: raise max_connections, or lower pool_max_conns"
	case "42P01", "42703", "3F000":
		remedy = "a table of the queue is missing or was changed: restore a backup, or give another schema"
	case "XX001", "XX002":
		remedy = "the server's files are damaged: restore a backup"
	case "42P05", "26000":
		remedy = "sessions change hands in a pooler, or are reset: add default_query_exec_mode=exec to the connection string"
	case "57P01", "57P02", "57P03", "08P01": // the last is what PgBouncer says
		remedy = "the server, or a pooler before it, ends or starts: the queue goes on once it answers"
	case "":
		var connect *pgconn.ConnectError
		switch {
		case errors.As(err, &connect):
			remedy = "the server cannot be reached: check that it runs, and host and port in the connection string"
		case lost(err):
			return fmt.Errorf("postgres: the connection was lost, and the queue goes on once the server answers: %w", err)
		default:
			return err
		}
	default:
		return err
	}
	return fmt.Errorf("%w: %s", err, remedy)
}

// lost reports an error of a connection that is gone. Of those of a caller who
// does not wait any longer it is none.
func lost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var broken net.Error
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &broken) || pgconn.SafeToRetry(err)
}

// report logs a row that is left out of an answer because it cannot be read:
// one bad row must not keep those from being read that come with it. It
// returns any other error.
func (s *Store) report(err error) error {
	var bad *CorruptError
	if !errors.As(err, &bad) {
		return err
	}
	if s.reported.first(*bad) {
		s.logger.Error("a row is left out", "schema", s.schema, "error", bad)
	}
	return nil
}

// checks find what is wrong with a row, the first thing of several.
type checks struct{ column, problem string }

func (c *checks) note(column, problem string) {
	if c.column == "" {
		c.column, c.problem = column, problem
	}
}

// within checks a number that is kept in fewer bits, or names something.
func (c *checks) within(column string, n, most int64) {
	if n < 0 || n > most {
		c.note(column, fmt.Sprintf("is %d, not 0 to %d", n, most))
	}
}

// sized checks bytes that have a fixed length, or may be null.
func (c *checks) sized(column string, b []byte, n int, null bool) {
	if len(b) != n && !(null && b == nil) {
		c.note(column, fmt.Sprintf("has %d bytes, not %d", len(b), n))
	}
}

func (c *checks) json(column string, err error) {
	if err != nil {
		c.note(column, "is not the JSON that it should be: "+err.Error())
	}
}

// err is what is wrong with the row of a table, if anything.
func (c *checks) err(table string, key fmt.Stringer) error {
	if c.column == "" {
		return nil
	}
	return &CorruptError{Table: table, Row: key.String(), Column: c.column, Problem: c.problem}
}
