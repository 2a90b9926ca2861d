package postgres

import (
	"context"
	"encoding/binary"
	"io"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/consignq/consign"
)

// plain is a batch of changes that only write jobs, each another: they do not
// depend on each other, so their versions alone decide, and the statements that
// write them judge them as well.
type plain struct {
	rows    [shapes][]*row // each sorted by ID: the order in which all transactions lock them
	effects []*effect      // of the others
}

// plainBatch sorts the changes by what they do, or takes all of them for
// others if they are not to be expected to succeed. It returns nil if there is
// more to them.
func plainBatch(changes []consign.Change, expected bool) *plain {
	rows := make([]row, len(changes))
	order := make([]*row, len(changes))
	var known map[consign.EffectID]bool
	p := &plain{}
	for i := range changes {
		c := &changes[i]
		if c.Job == nil || c.Forget || c.Delete || c.Guard != nil || len(c.Drop)+len(c.Docs)+len(c.Counters) > 0 {
			return nil
		}
		for j := range c.Log {
			if c.Log[j].Job != c.Job.ID {
				return nil
			}
		}
		for _, e := range c.Effects {
			if known[e.ID] {
				return nil // two changes may fail apart
			}
			if known == nil {
				known = map[consign.EffectID]bool{}
			}
			known[e.ID] = true
			p.effects = append(p.effects, &effect{owner: uuid(c.Job.ID), effect: e})
		}
		rows[i] = row{id: c.Job.ID, change: i, base: c.Job.Version - 1, job: c.Job, spec: c.Spec, done: c.Done, entries: c.Log}
		order[i] = &rows[i]
	}
	slices.SortFunc(order, func(x, y *row) int { return compareIDs(x.id, y.id) })
	for i, r := range order {
		if i > 0 && order[i-1].id == r.id {
			return nil
		}
		to := other
		if expected && len(changes[r.change].Effects) == 0 {
			to = shapeOf(r)
		}
		p.rows[to] = append(p.rows[to], r)
	}
	return p
}

// copyFrom is how many new jobs are copied rather than inserted.
const copyFrom = 64

// commitPlain writes what can be written, in one round trip, unless there are
// many new jobs: the statements of a batch are a transaction.
func (s *Store) commitPlain(ctx context.Context, p *plain, outcomes []error) error {
	for _, rows := range p.rows[started:] {
		for _, r := range rows {
			outcomes[r.change] = consign.ErrVersion // until it is known to be written
		}
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if len(p.rows[created]) >= copyFrom {
		return s.commitCopied(ctx, conn.Conn(), p, outcomes)
	}
	r := newRound(conn.Conn())
	s.queue(ctx, r, p, outcomes)
	return r.send(ctx)
}

// queue adds the statements that write the batch, but for new jobs that are
// copied.
func (s *Store) queue(ctx context.Context, r *round, p *plain, outcomes []error) {
	if len(p.rows[started])+len(p.rows[finished])+len(p.rows[other]) > 0 {
		r.queue(ctx, writePlan, nil) // to insert new jobs there is but one way
	}
	if rows := p.rows[created]; len(rows) < copyFrom {
		write(ctx, r, s.sql.create, createdColumns, rows)
		write(ctx, r, s.sql.createSpecs, specColumns, specsOf(rows))
	}
	if rows := p.rows[started]; len(rows) > 0 {
		add(r, startedColumns, rows)
		r.queue(ctx, s.sql.start, written(rows, outcomes))
	}
	if rows := p.rows[finished]; len(rows) > 0 {
		add(r, finishedColumns, rows)
		add(r, endColumns, rows)
		r.queue(ctx, s.sql.finish, written(rows, outcomes))
	}
	if rows := p.rows[other]; len(rows) > 0 {
		addWrites(r, rows, p.effects)
		r.queue(ctx, s.sql.write, written(rows, outcomes))
	}
}

// written takes in the IDs of those of the rows that were written.
func written(rows []*row, outcomes []error) func([][]byte) {
	return func(values [][]byte) {
		if i, ok := slices.BinarySearchFunc(rows, consign.JobID(values[0]), func(r *row, id consign.JobID) int { return compareIDs(r.id, id) }); ok {
			outcomes[rows[i].change] = nil
		}
	}
}

// commitCopied has new jobs copied, and the rest written, in one transaction.
func (s *Store) commitCopied(ctx context.Context, conn *pgx.Conn, p *plain, outcomes []error) error {
	err := s.copy(ctx, conn, p.rows[created])
	if err == nil {
		r := newRound(conn)
		if len(p.rows[started])+len(p.rows[finished])+len(p.rows[other]) > 0 {
			s.queue(ctx, r, p, outcomes)
		}
		r.queue(ctx, "COMMIT", nil)
		err = r.send(ctx)
	}
	if err != nil {
		s.rollback(conn)
	}
	return err
}

// copy begins a transaction and copies new jobs. It fails if one is there
// already.
func (s *Store) copy(ctx context.Context, conn *pgx.Conn, rows []*row) error {
	if _, err := conn.PgConn().CopyFrom(ctx, newCopier(copiedColumns, rows), "BEGIN ISOLATION LEVEL READ COMMITTED; "+s.sql.copyJobs); err != nil {
		return err
	}
	if specs := specsOf(rows); len(specs) > 0 {
		_, err := conn.PgConn().CopyFrom(ctx, newCopier(specColumns, specs), s.sql.copySpecs)
		return err
	}
	return nil
}

// copiedColumns are all of a job's row.
var copiedColumns = slices.Concat(jobColumns, []column[*row]{pickColumns([]string{"lane_id"})[0],
	col("forgotten", "boolean", func(*row) bool { return false }),
	entriesColumn("log")})

func copySQL[R any](table string, columns []column[R]) string {
	return `COPY @` + table + ` (` + names(columns, "") + `) FROM STDIN (FORMAT binary)`
}

// copier reads records as COPY takes them in its binary format: a header, and
// for each a row of fields after their number, and -1 at the end.
type copier[R any] struct {
	columns []column[R]
	records []R
	buf     []byte // encoded
	left    []byte // of it, not yet read
	ended   bool
}

func newCopier[R any](columns []column[R], records []R) *copier[R] {
	return &copier[R]{columns: columns, records: records, left: []byte("PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00")}
}

// Read implements io.Reader. It fills what it is given, as each part is sent
// by itself.
func (c *copier[R]) Read(into []byte) (n int, err error) {
	for n < len(into) {
		if len(c.left) == 0 && c.ended {
			return n, io.EOF
		}
		if len(c.left) == 0 {
			c.next()
		}
		took := copy(into[n:], c.left)
		c.left, n = c.left[took:], n+took
	}
	return n, nil
}

// next encodes a record, or the end.
func (c *copier[R]) next() {
	c.buf = c.buf[:0]
	if c.ended = len(c.records) == 0; c.ended {
		c.buf = append(c.buf, 0xff, 0xff)
	} else {
		c.buf = binary.BigEndian.AppendUint16(c.buf, uint16(len(c.columns)))
		for i := range c.columns {
			c.buf = c.columns[i].field(c.buf, c.records[0])
		}
		c.records = c.records[1:]
	}
	c.left = c.buf
}
