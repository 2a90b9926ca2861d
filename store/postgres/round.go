package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// round is statements that go to the server together, as a transaction unless
// there is one. Their parameters are arrays, and are sent as they are encoded
// here: pgx's own batch finds out anew for each element of an array how to
// encode it, and leaves several times what it sends to be collected.
type round struct {
	conn       *pgx.Conn
	keeps      bool // the connection may keep statements
	statements []statement
	buf        []byte   // the parameters of all statements
	from       int      // where those of the next one begin,
	ends       []int    // where each of them ends,
	arrays     []uint32 // and its type
	err        error    // of a statement that cannot be prepared: nothing is sent
}

type statement struct {
	sql      string
	prepared *pgconn.StatementDescription // nil: the connection may keep none
	values   [][]byte
	arrays   []uint32
	row      func(values [][]byte) // nil: what it returns is of no interest
}

// buffers are those that rounds have used, but for large ones.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const maxKept = 1 << 20

func newRound(conn *pgx.Conn) *round {
	keeps := conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement // a copy, which costs
	return &round{conn: conn, keeps: keeps, buf: *buffers.Get().(*[]byte)}
}

// arrayType is what PostgreSQL calls a parameter that holds a column, and its
// elements.
type arrayType struct{ array, element uint32 }

var arrayTypes = map[string]arrayType{
	"uuid": {2951, 2950}, "bigint": {1016, 20}, "integer": {1007, 23}, "smallint": {1005, 21},
	"boolean": {1000, 16}, "text": {1009, 25}, "bytea": {1001, 17}, "json": {199, 114},
}

// add adds records column by column to the parameters of the next statement.
func add[R any](r *round, columns []column[R], records []R) {
	for i := range columns {
		c := &columns[i]
		if len(records) == 0 {
			r.buf = append(r.buf, 0, 0, 0, 0, 0, 0, 0, 0)
			r.buf = binary.BigEndian.AppendUint32(r.buf, c.types.element)
		} else {
			r.buf = append(r.buf, 0, 0, 0, 1, 0, 0, 0, 1) // one dimension; there may be nulls
			r.buf = binary.BigEndian.AppendUint32(r.buf, c.types.element)
			r.buf = binary.BigEndian.AppendUint32(r.buf, uint32(len(records)))
			r.buf = append(r.buf, 0, 0, 0, 1) // the number of the first
			for _, record := range records {
				r.buf = c.field(r.buf, record)
			}
		}
		r.ends, r.arrays = append(r.ends, len(r.buf)), append(r.arrays, c.types.array)
	}
}

var binaryForm = []int16{pgx.BinaryFormatCode}

// queue has a statement run with the parameters that were added, and row called
// for what it returns. A connection that may keep statements prepares it once.
func (r *round) queue(ctx context.Context, sql string, row func(values [][]byte)) {
	if r.err != nil {
		return
	}
	st := statement{sql: sql, values: make([][]byte, len(r.ends)), row: row}
	for i, end := range r.ends {
		st.values[i], r.from = r.buf[r.from:end], end
	}
	if r.keeps {
		st.prepared, r.err = r.conn.Prepare(ctx, sql, sql)
	} else {
		st.arrays = slices.Clone(r.arrays)
	}
	r.statements = append(r.statements, st)
	r.ends, r.arrays = r.ends[:0], r.arrays[:0]
}

// room makes room in a connection's buffer for what is sent next. Else it grows
// by a quarter again and again, and leaves five times what it holds to be
// collected.
type room int

func (n room) Encode(b []byte) ([]byte, error) { return slices.Grow(b, int(n)), nil }
func (room) Decode([]byte) error               { return errors.ErrUnsupported }
func (room) Frontend()                         {}

// send sends the statements and takes in what they return.
func (r *round) send(ctx context.Context) error {
	if r.err != nil {
		return r.err
	}
	conn := r.conn.PgConn()
	p := conn.StartPipeline(ctx)
	conn.Frontend().Send(room(len(r.buf) + len(r.statements)*512))
	for i := range r.statements {
		if st := &r.statements[i]; r.keeps {
			p.SendQueryStatement(st.prepared, st.values, binaryForm, binaryForm)
		} else {
			p.SendQueryParams(st.sql, st.values, st.arrays, binaryForm, binaryForm)
		}
	}
	err := p.Sync()
	for i := 0; i < len(r.statements) && err == nil; i++ {
		err = receive(p, r.statements[i].row)
	}
	if ended := p.Close(); err == nil {
		err = ended
	}
	if buf := r.buf[:0]; cap(buf) <= maxKept {
		buffers.Put(&buf)
	}
	return err
}

// receive takes in what a statement returns.
func receive(p *pgconn.Pipeline, row func([][]byte)) error {
	results, err := p.GetResults()
	if err != nil {
		return err
	}
	answer := results.(*pgconn.ResultReader)
	for answer.NextRow() {
		if row != nil {
			row(answer.Values())
		}
	}
	_, err = answer.Close()
	return err
}
