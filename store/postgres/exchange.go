package postgres

import (
	"cmp"
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/consignq/consign"
)

// What a batch sends to the database, and takes in from it.

// lock begins a transaction, and locks and reads what the batch touches:
// jobs, effects, counters, documents, each by its key.
func (s *Store) lock(b *batch) *pgx.Batch {
	out := &pgx.Batch{}
	out.Queue("BEGIN ISOLATION LEVEL READ COMMITTED")
	out.Queue(writePlan)
	if len(b.jobs) > 0 {
		var ids []pgtype.UUID
		for _, r := range b.rows(func(*row) bool { return true }) {
			ids = append(ids, uuid(r.id))
		}
		out.Queue(s.sql.lockJobs, ids).Query(b.readJobs)
	}
	if len(b.effects) > 0 {
		jobs, seqs := effectKeys(sortedKeys(b.effects, compareEffects))
		out.Queue(s.sql.lockEffects, jobs, seqs).Query(b.readEffects)
	}
	if len(b.counters) > 0 {
		names := sortedKeys(b.counters, cmp.Compare[string])
		out.Queue(s.sql.makeCounters, names)
		out.Queue(s.sql.lockCounters, names).Query(b.readCounters)
	}
	if len(b.docs) > 0 {
		kinds, keys := docKeys(sortedKeys(b.docs, compareDocs))
		out.Queue(s.sql.lockDocs, kinds, keys).Query(b.readDocs)
	}
	return out
}

func (b *batch) readJobs(rows pgx.Rows) error {
	var id [16]byte
	var version int64
	var state int16
	var claim *[16]byte
	var lapsed, forgotten bool
	var log []byte
	_, err := pgx.ForEachRow(rows, []any{&id, &version, &state, &claim, &lapsed, &forgotten, &log}, func() error {
		r := b.jobs[id]
		r.base, r.version, r.state, r.lapsed, r.forgotten, r.packed = uint64(version), uint64(version), consign.State(state), lapsed, forgotten, log
		if claim != nil {
			r.claim = *claim
		}
		claim, log = nil, nil
		return nil
	})
	return err
}

func (b *batch) readEffects(rows pgx.Rows) error {
	var id [16]byte
	var seq int64
	_, err := pgx.ForEachRow(rows, []any{&id, &seq}, func() error {
		f := b.effects[consign.EffectID{Job: id, Seq: consign.Seq(seq)}]
		f.stored, f.waits = true, true
		return nil
	})
	return err
}

func (b *batch) readCounters(rows pgx.Rows) error {
	var name string
	var value int64
	_, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error {
		*b.counters[name] = counter{name, value, value}
		return nil
	})
	return err
}

func (b *batch) readDocs(rows pgx.Rows) error {
	var kind, key string
	var version int64
	_, err := pgx.ForEachRow(rows, []any{&kind, &key, &version}, func() error {
		if d := b.docs[docID{kind, key}]; d != nil { // one's kind with another's key may be there too
			d.base, d.version = uint64(version), uint64(version)
		}
		return nil
	})
	return err
}

// writes writes what the batch has come to, and commits.
func (s *Store) writes(ctx context.Context, r *round, b *batch) {
	dropped := b.rows(func(r *row) bool { return r.base > 0 && (r.anew || r.gone) }) // all that belongs to them
	deleted := slices.DeleteFunc(slices.Clone(dropped), func(r *row) bool { return r.job != nil })
	var reports []consign.LogEntry
	for _, r := range b.rows(func(r *row) bool { return len(r.reports) > 0 }) {
		reports = append(reports, r.reports...)
	}
	var carried []*effect
	for _, id := range sortedKeys(b.effects, compareEffects) {
		if f := b.effects[id]; f.stored && (!f.waits || b.inserts(f)) {
			carried = append(carried, f)
		}
	}
	added, changed, gone := b.changedDocs()
	write(ctx, r, s.sql.deleteSpecs, keyColumns, dropped)
	write(ctx, r, s.sql.deleteDone, keyColumns, dropped)
	write(ctx, r, s.sql.deleteReports, keyColumns, dropped)
	write(ctx, r, s.sql.deleteJobs, keyColumns, deleted)
	write(ctx, r, s.sql.dropEffects, effectColumns[1:3], carried)
	addWrites(r, b.rows(func(r *row) bool { return r.job != nil }), b.inserted())
	r.queue(ctx, s.sql.insist, nil)
	write(ctx, r, s.sql.addReports, reportColumns, reports)
	write(ctx, r, s.sql.setCounters, counterColumns, b.changedCounters())
	write(ctx, r, s.sql.deleteDocs, docColumns[:2], gone)
	write(ctx, r, s.sql.insertDocs, docColumns, added)
	write(ctx, r, s.sql.updateDocs, docColumns, changed)
	r.queue(ctx, "COMMIT", nil)
}

// write queues a statement that takes the records, if there are any.
func write[R any](ctx context.Context, r *round, sql string, columns []column[R], records []R) {
	if len(records) > 0 {
		add(r, columns, records)
		r.queue(ctx, sql, nil)
	}
}

func (b *batch) changedDocs() (added, changed, gone []*doc) {
	for _, id := range sortedKeys(b.docs, compareDocs) {
		switch d := b.docs[id]; {
		case d.version == d.base && d.body == nil: // not touched
		case d.version == 0:
			gone = append(gone, d)
		case d.base == 0:
			added = append(added, d)
		default:
			changed = append(changed, d)
		}
	}
	return added, changed, gone
}

// inserts reports whether the effect is among those to insert.
func (b *batch) inserts(f *effect) bool {
	return f.waits && f.place < len(b.arrived) && b.arrived[f.place] == f
}

// inserted are the effects that come to wait.
func (b *batch) inserted() (effects []*effect) {
	for i, f := range b.arrived {
		if f.waits && f.place == i {
			effects = append(effects, f)
		}
	}
	return effects
}

// addWrites adds the parameters of writeSQL.
func addWrites(r *round, rows []*row, effects []*effect) {
	var done []*consign.Done
	for _, row := range rows {
		if row.done != nil {
			done = append(done, row.done)
		}
	}
	add(r, jobColumns, rows)
	add(r, rowColumns, rows)
	add(r, specColumns, specsOf(rows))
	add(r, doneColumns, done)
	add(r, effectColumns, effects)
}

func (b *batch) changedCounters() (changed []*counter) {
	for _, name := range sortedKeys(b.counters, cmp.Compare[string]) {
		if c := b.counters[name]; c.value != c.base {
			changed = append(changed, c)
		}
	}
	return changed
}

// keyColumns are the ID of a job that need not be there.
var keyColumns = []column[*row]{col("id", "uuid", func(r *row) pgtype.UUID { return uuid(r.id) })}

var counterColumns = []column[*counter]{
	col("name", "text", func(c *counter) string { return c.name }),
	col("value", "bigint", func(c *counter) int64 { return c.value }),
}

var effectColumns = []column[*effect]{
	// The job without which there is no effect; null: there is one.
	col("owner", "uuid", func(f *effect) pgtype.UUID { return f.owner }),
	col("job", "uuid", func(f *effect) pgtype.UUID { return uuid(f.effect.ID.Job) }),
	col("seq", "bigint", func(f *effect) int64 { return int64(f.effect.ID.Seq) }),
	col("kind", "smallint", func(f *effect) int16 { return int16(f.effect.Kind) }),
	col("target", "text", func(f *effect) string { return f.effect.Target }),
	col("amount", "bigint", func(f *effect) int64 { return f.effect.Amount }),
	col("reason", "text", func(f *effect) string { return f.effect.Reason }),
	col("at", "bigint", func(f *effect) int64 { return int64(f.effect.At) }),
}

var reportColumns = []column[consign.LogEntry]{
	col("job", "uuid", func(e consign.LogEntry) pgtype.UUID { return uuid(e.Job) }),
	col("seq", "bigint", func(e consign.LogEntry) int64 { return int64(e.Seq) }),
	col("at", "bigint", func(e consign.LogEntry) int64 { return int64(e.At) }),
	col("attempt", "integer", func(e consign.LogEntry) int32 { return int32(e.Attempt) }),
	col("event", "smallint", func(e consign.LogEntry) int16 { return int16(e.Event) }),
	col("state", "smallint", func(e consign.LogEntry) int16 { return int16(e.State) }),
	col("report", "smallint", func(e consign.LogEntry) int16 { return int16(e.Report) }),
	col("worker", "bytea", func(e consign.LogEntry) []byte { return worker(&e.Worker) }),
	col("reason", "text", func(e consign.LogEntry) string { return e.Reason }),
	col("data", "bytea", func(e consign.LogEntry) []byte { return e.Data }),
}

var docColumns = []column[*doc]{
	col("kind", "text", func(d *doc) string { return d.id.kind }),
	col("key", "text", func(d *doc) string { return d.id.key }),
	col("version", "bigint", func(d *doc) int64 { return int64(d.version) }),
	col("body", "json", func(d *doc) string { return string(d.body) }),
}

func effectKeys(ids []consign.EffectID) (jobs []pgtype.UUID, seqs []int64) {
	for _, id := range ids {
		jobs, seqs = append(jobs, uuid(id.Job)), append(seqs, int64(id.Seq))
	}
	return jobs, seqs
}

func docKeys(ids []docID) (kinds, keys []string) {
	for _, id := range ids {
		kinds, keys = append(kinds, id.kind), append(keys, id.key)
	}
	return kinds, keys
}

func compareEffects(a, b consign.EffectID) int {
	return cmp.Or(compareIDs(a.Job, b.Job), cmp.Compare(a.Seq, b.Seq))
}

func compareDocs(a, b docID) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.key, b.key))
}
