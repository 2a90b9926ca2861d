package sqlite

import (
	"fmt"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/consignq/consign"
)

// run carries out a statement and returns how many rows it changed.
func run(conn *sqlite.Conn, query string, bind func(*args)) (changed int, err error) {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return 0, err
	}
	if bind != nil {
		bind(&args{stmt: stmt})
	}
	_, err = stmt.Step()
	if e := stmt.Reset(); err == nil {
		err = e
	}
	return conn.Changes(), err
}

// each calls f for the rows of a query, until f says that it has enough.
func each(conn *sqlite.Conn, query string, bind func(*args), f func(*row) (more bool)) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	if bind != nil {
		bind(&args{stmt: stmt})
	}
	for more := true; more && err == nil; {
		if more, err = stmt.Step(); more && err == nil {
			more = f(&row{stmt: stmt})
		}
	}
	if e := stmt.Reset(); err == nil {
		err = e
	}
	return err
}

// pragma carries out what is done once and takes no parameters.
func pragma(conn *sqlite.Conn, query string) error {
	return sqlitex.ExecuteTransient(conn, query, nil)
}

// number returns the one number that a query gives.
func number(conn *sqlite.Conn, query string) (n int64, err error) {
	err = sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		n = stmt.ColumnInt64(0)
		return nil
	}})
	return n, err
}

// rollback ends a transaction that has not been committed. SQLite may have
// ended it already, as it does when the disk is full.
func rollback(conn *sqlite.Conn) {
	if !conn.AutocommitEnabled() {
		_, _ = run(conn, "ROLLBACK", nil)
	}
}

// parameters is a list of n question marks.
func parameters(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// args fills the parameters of a statement, in order.
type args struct {
	stmt *sqlite.Stmt
	last int
}

func (a *args) int(v int64) {
	a.last++
	a.stmt.BindInt64(a.last, v)
}

func (a *args) bool(v bool) {
	a.last++
	a.stmt.BindBool(a.last, v)
}

func (a *args) text(v string) {
	a.last++
	a.stmt.BindText(a.last, v)
}

// blob stores nil as NULL, and what is empty as that.
func (a *args) blob(v []byte) {
	a.last++
	if v == nil {
		a.stmt.BindNull(a.last)
	} else {
		a.stmt.BindBytes(a.last, v)
	}
}

// hash stores an ID or a hash; one that is zero as NULL.
func (a *args) hash(v []byte) {
	for _, b := range v {
		if b != 0 {
			a.blob(v)
			return
		}
	}
	a.blob(nil)
}

func (a *args) time(v consign.Instant)   { a.int(int64(v)) }
func (a *args) duration(v time.Duration) { a.int(int64(v / time.Microsecond)) }
func (a *args) null()                    { a.blob(nil) }

// row reads the columns of a row, in order. It notes the first one that is not
// what it should be.
type row struct {
	stmt *sqlite.Stmt
	next int
	bad  *CorruptError
}

func (r *row) col(want sqlite.ColumnType) (i int, null, ok bool) {
	i = r.next
	r.next++
	switch got := r.stmt.ColumnType(i); got {
	case want:
		return i, false, true
	case sqlite.TypeNull:
		return i, true, false
	default:
		r.fail(i, fmt.Sprintf("is %s and not %s", got, want))
		return i, false, false
	}
}

func (r *row) fail(i int, problem string) {
	if r.bad == nil {
		r.bad = &CorruptError{Row: -1, Column: r.stmt.ColumnName(i), Problem: problem}
	}
}

func (r *row) int() int64 {
	i, null, ok := r.col(sqlite.TypeInteger)
	if null {
		r.fail(i, "is NULL")
	}
	if !ok {
		return 0
	}
	return r.stmt.ColumnInt64(i)
}

func (r *row) text() string {
	i, null, ok := r.col(sqlite.TypeText)
	if null {
		r.fail(i, "is NULL")
	}
	if !ok {
		return ""
	}
	return r.stmt.ColumnText(i)
}

func (r *row) blob() []byte {
	i, _, ok := r.col(sqlite.TypeBlob)
	if !ok {
		return nil
	}
	v := make([]byte, r.stmt.ColumnLen(i))
	r.stmt.ColumnBytes(i, v)
	return v
}

// hash reads what args.hash stored.
func (r *row) hash(into []byte) {
	i, null, ok := r.col(sqlite.TypeBlob)
	switch {
	case null:
		clear(into)
	case ok && r.stmt.ColumnLen(i) != len(into):
		r.fail(i, fmt.Sprintf("has %d bytes and not %d", r.stmt.ColumnLen(i), len(into)))
	case ok:
		r.stmt.ColumnBytes(i, into)
	}
}

func (r *row) bool() bool              { return r.int() != 0 }
func (r *row) time() consign.Instant   { return consign.Instant(r.int()) }
func (r *row) duration() time.Duration { return time.Duration(r.int()) * time.Microsecond }

// small reads a number that has to fit a type.
func small[T ~int | ~int32 | ~uint8 | ~uint32](r *row) T {
	v := r.int()
	if int64(T(v)) != v {
		r.fail(r.next-1, fmt.Sprintf("is %d, which is out of range", v))
	}
	return T(v)
}

// corrupt returns what is wrong with the row of a table.
func (r *row) corrupt(table string, n int64) error {
	if r.bad == nil {
		return nil
	}
	r.bad.Table, r.bad.Row = table, n
	return r.bad
}
