package postgres

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// Now implements consign.Clock.
func (s *Store) Now(ctx context.Context) (at consign.Instant, err error) {
	err = s.pool.QueryRow(ctx, "SELECT "+now).Scan((*int64)(&at))
	return at, explain(err)
}

// Jobs implements consign.Store. A job whose row cannot be read is logged and
// nil.
func (s *Store) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	return pick(ctx, s, ids, s.sql.jobs, jobScan(), func(j *consign.Job) consign.JobID { return j.ID })
}

// Specs implements consign.Store. A spec whose row cannot be read is logged and
// nil.
func (s *Store) Specs(ctx context.Context, ids []consign.JobID) ([]*consign.Spec, error) {
	return pick(ctx, s, ids, s.sql.specs, specScan(), func(s *consign.Spec) consign.JobID { return s.ID })
}

// Done implements consign.Store. It returns a *CorruptError for a row that
// cannot be read.
func (s *Store) Done(ctx context.Context, id consign.JobID) (done *consign.Done, err error) {
	err = s.query(ctx, func(rows pgx.Rows) (err error) { done, err = scanDone(rows); return err }, s.sql.done, uuid(id))
	return done, err
}

// Log implements consign.Store. What cannot be read is logged and left out.
func (s *Store) Log(ctx context.Context, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
	var packed []consign.LogEntry
	reported, err := list(ctx, s, upTo(n)+1, func(rows pgx.Rows) (consign.LogEntry, error) {
		var log []byte
		var e reportRow
		if err := rows.Scan(append([]any{&log}, e.targets()...)...); err != nil {
			return consign.LogEntry{}, err
		}
		if log == nil {
			return e.entry()
		}
		var c checks
		var err error
		if packed, err = unpack(id, log); err != nil {
			c.note("log", "does not hold whole entries")
		}
		return consign.LogEntry{}, s.report(c.err("jobs", id)) // an entry without a number, which falls out below
	}, s.sql.log, uuid(id), int64(after))
	if err != nil {
		return nil, err
	}
	// Of those with one number the first stands, and the one beside the row was
	// there before the row had its own.
	all := slices.Concat(reported, packed)
	all = slices.DeleteFunc(all, func(e consign.LogEntry) bool { return e.Seq <= after })
	slices.SortStableFunc(all, func(a, b consign.LogEntry) int { return cmp.Compare(a.Seq, b.Seq) })
	all = slices.CompactFunc(all, func(a, b consign.LogEntry) bool { return a.Seq == b.Seq })
	return all[:min(len(all), max(n, 0))], nil
}

// reportRow is a row of what was reported; all is null beside a packed log.
type reportRow struct {
	job                  *[16]byte
	seq, at              *int64
	attempt              *int32
	event, state, report *int16
	worker               []byte
	reason               *string
	data                 []byte
}

func (r *reportRow) targets() []any {
	return []any{&r.job, &r.seq, &r.at, &r.attempt, &r.event, &r.state, &r.report, &r.worker, &r.reason, &r.data}
}

func (r *reportRow) entry() (consign.LogEntry, error) {
	e := consign.LogEntry{Job: *r.job, Seq: consign.Seq(*r.seq), At: consign.Instant(*r.at), Attempt: int(*r.attempt),
		Event: consign.EventKind(*r.event), State: consign.State(*r.state), Report: consign.ReportKind(*r.report), Reason: *r.reason, Data: r.data}
	copy(e.Worker[:], r.worker)
	var c checks
	c.within("event", int64(*r.event), math.MaxUint8)
	c.within("state", int64(*r.state), math.MaxUint8)
	c.within("report", int64(*r.report), math.MaxUint8)
	c.sized("worker", r.worker, len(e.Worker), true)
	return e, c.err("reports", e.Job)
}

// Lanes implements consign.Store.
func (s *Store) Lanes(ctx context.Context) ([]consign.LaneHead, error) {
	var heads []consign.LaneHead
	err := s.query(ctx, func(rows pgx.Rows) error {
		var h consign.LaneHead
		err := rows.Scan(&h.Lane, (*int64)(&h.Key))
		heads = append(heads, h)
		return err
	}, s.sql.lanes)
	return heads, err
}

// Page implements consign.Store. Jobs that cannot be read are logged and left
// out, here and in the lists that follow.
func (s *Store) Page(ctx context.Context, lane string, shards uint16, after consign.Place, n int) ([]*consign.Job, error) {
	args := []any{laneID(lane), int64(after.Key), uuid(after.ID)}
	if shards == consign.AllShards {
		return list(ctx, s, n, jobScan(), s.sql.page, args...)
	}
	return list(ctx, s, n, jobScan(), s.sql.pageOfShards, append(args, int32(shards))...)
}

// upTo is how many rows are asked for: there are never more.
func upTo(n int) int { return min(max(n, 0), math.MaxInt32-1) }

// Due implements consign.Store.
func (s *Store) Due(ctx context.Context, now consign.Instant, n int) (due []*consign.Job, next consign.Instant, err error) {
	jobs, err := list(ctx, s, upTo(n)+1, jobScan(), s.sql.due)
	for i, j := range jobs {
		if j.DueAt > now || i == upTo(n) {
			return jobs[:i], j.DueAt, err
		}
	}
	return jobs, 0, err
}

// Lapsed looks at every running job: leases change too often to keep them in
// order.
func (s *Store) Lapsed(ctx context.Context, n int) ([]*consign.Job, error) {
	return list(ctx, s, n, jobScan(), s.sql.lapsed)
}

// List reads every job between the first and the last that match.
func (s *Store) List(ctx context.Context, f consign.Filter, after consign.JobID, n int) ([]*consign.Job, error) {
	return list(ctx, s, n, jobScan(), s.sql.list, uuid(after), f.Account, int16(f.State))
}

// Effects implements consign.Store.
func (s *Store) Effects(ctx context.Context, n int) ([]consign.Effect, error) {
	return list(ctx, s, n, scanEffect, s.sql.effects)
}

func scanEffect(rows pgx.Rows) (e consign.Effect, err error) {
	var seq int64
	var kind int16
	if err := rows.Scan((*[16]byte)(&e.ID.Job), &seq, &kind, &e.Target, &e.Amount, &e.Reason, (*int64)(&e.At)); err != nil {
		return e, err
	}
	e.ID.Seq, e.Kind = consign.Seq(seq), consign.EffectKind(kind)
	var c checks
	c.within("kind", int64(kind), math.MaxUint8)
	return e, c.err("effects", e.ID.Job)
}

// Docs implements consign.Store.
func (s *Store) Docs(ctx context.Context, kind, after string, n int) ([]consign.Doc, error) {
	var docs []consign.Doc
	err := s.query(ctx, func(rows pgx.Rows) error {
		d, err := scanDoc(rows)
		docs = append(docs, d)
		return err
	}, s.sql.docs, kind, after, max(n, 0))
	return docs, err
}

// Doc implements consign.Store.
func (s *Store) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	d := consign.Doc{Kind: kind, Key: key}
	err := s.query(ctx, func(rows pgx.Rows) (err error) { d, err = scanDoc(rows); return err }, s.sql.doc, kind, key)
	return d, err
}

func scanDoc(rows pgx.Rows) (d consign.Doc, err error) {
	var version int64
	var body string
	err = rows.Scan(&d.Kind, &d.Key, &version, &body)
	d.Version, d.Body = uint64(version), []byte(body)
	return d, err
}

// Counter implements consign.Store.
func (s *Store) Counter(ctx context.Context, name string) (value int64, err error) {
	err = s.query(ctx, func(rows pgx.Rows) error { return rows.Scan(&value) }, s.sql.counter, name)
	return value, err
}

// list reads at most n records, in one statement unless some of them cannot be
// read. Those are logged and left out, and count for none: who gets fewer than he
// asked for takes the list to end there.
func list[T any](ctx context.Context, s *Store, n int, scan func(pgx.Rows) (T, error), sql string, args ...any) ([]T, error) {
	n = max(n, 0)
	for limit := n; ; limit *= 2 {
		var found []T
		rows := 0
		err := s.query(ctx, func(r pgx.Rows) error {
			rows++
			v, err := scan(r)
			if err == nil {
				found = append(found, v)
			}
			return s.report(err)
		}, sql, append([]any{limit}, args...)...)
		if err != nil || len(found) >= n || rows < limit {
			return found[:min(len(found), n)], err
		}
	}
}

// pick reads one thing of each job, nil where there is none, in one statement.
func pick[T any](ctx context.Context, s *Store, ids []consign.JobID, sql string, scan func(pgx.Rows) (*T, error), id func(*T) consign.JobID) ([]*T, error) {
	picked := make([]*T, len(ids))
	if len(ids) == 0 {
		return picked, ctx.Err()
	}
	raw := make([]pgtype.UUID, len(ids))
	for i := range ids {
		raw[i] = uuid(ids[i])
	}
	found := make(map[consign.JobID]*T, len(ids))
	err := s.query(ctx, func(rows pgx.Rows) error {
		v, err := scan(rows)
		if err == nil {
			found[id(v)] = v
		}
		return s.report(err)
	}, sql, raw)
	for i := range ids {
		picked[i] = found[ids[i]]
	}
	return picked, err
}
