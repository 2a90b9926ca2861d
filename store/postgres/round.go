package postgres

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// round is statements that go to the server together, as a transaction unless
// there is one. Their parameters are arrays, and are sent as they are encoded
// here: pgx's own batch finds out anew for each element of an array how to
// encode it, and leaves several times what it sends to be collected.
type round struct {
	conn   *pgx.Conn
	keeps  bool // the connection may keep statements
	batch  pgconn.Batch
	rows   []func(values [][]byte) // of each statement; nil: what it returns is of no interest
	buf    []byte                  // the next statement's parameters,
	ends   []int                   // where each ends in it,
	arrays []uint32                // and its type
	err    error                   // of a statement that cannot be prepared: nothing is sent
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
	values, from := make([][]byte, len(r.ends)), 0
	for i, end := range r.ends {
		values[i], from = r.buf[from:end], end
	}
	if r.keeps {
		statement, err := r.conn.Prepare(ctx, sql, sql)
		if err != nil {
			r.err = err
			return
		}
		r.batch.ExecStatement(statement, values, binaryForm, binaryForm)
	} else {
		r.batch.ExecParams(sql, values, r.arrays, binaryForm, binaryForm)
	}
	r.rows = append(r.rows, row)
	r.buf, r.ends, r.arrays = r.buf[:0], r.ends[:0], r.arrays[:0]
}

// send sends the statements and takes in what they return.
func (r *round) send(ctx context.Context) error {
	if buf := r.buf[:0]; cap(buf) <= maxKept {
		buffers.Put(&buf)
	}
	if r.err != nil {
		return r.err
	}
	answers := r.conn.PgConn().ExecBatch(ctx, &r.batch)
	for i := 0; answers.NextResult(); i++ {
		answer := answers.ResultReader()
		for answer.NextRow() {
			if r.rows[i] != nil {
				r.rows[i](answer.Values())
			}
		}
		_, _ = answer.Close() // an error ends the batch as well
	}
	return answers.Close()
}
