package postgres

import (
	"cmp"

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
		*b.counters[name] = counter{value, value}
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
func (s *Store) writes(b *batch) *pgx.Batch {
	out := &pgx.Batch{}
	queue := func(n int, sql string, args ...any) {
		if n > 0 {
			out.Queue(sql, args...)
		}
	}
	var dropped, deleted []pgtype.UUID // all that belongs to them; the jobs themselves
	var reports reportRows
	for _, r := range b.rows(func(r *row) bool { return r.base > 0 && (r.anew || r.gone) }) {
		dropped = append(dropped, uuid(r.id))
		if r.job == nil {
			deleted = append(deleted, uuid(r.id))
		}
	}
	for _, r := range b.rows(func(r *row) bool { return len(r.reports) > 0 }) {
		for i := range r.reports {
			reports.add(&r.reports[i])
		}
	}
	var carried []consign.EffectID
	for _, id := range sortedKeys(b.effects, compareEffects) {
		if f := b.effects[id]; f.stored && (!f.waits || b.inserts(f)) {
			carried = append(carried, id)
		}
	}
	jobs, seqs := effectKeys(carried)
	names, values := b.changedCounters()

	queue(len(dropped), s.sql.deleteSpecs, dropped)
	queue(len(dropped), s.sql.deleteDone, dropped)
	queue(len(dropped), s.sql.deleteReports, dropped)
	queue(len(deleted), s.sql.deleteJobs, deleted)
	queue(len(carried), s.sql.dropEffects, jobs, seqs)
	out.Queue(s.sql.insist, b.writeArgs()...)
	queue(len(reports.job), s.sql.addReports, reports.args()...)
	queue(len(names), s.sql.setCounters, names, values)
	s.writeDocs(b, queue)
	out.Queue("COMMIT")
	return out
}

func (s *Store) writeDocs(b *batch, queue func(n int, sql string, args ...any)) {
	var added, changed docRows
	var gone []docID
	for _, id := range sortedKeys(b.docs, compareDocs) {
		switch d := b.docs[id]; {
		case d.version == d.base && d.body == nil: // not touched
		case d.version == 0:
			gone = append(gone, id)
		case d.base == 0:
			added.add(id, d)
		default:
			changed.add(id, d)
		}
	}
	kinds, keys := docKeys(gone)
	queue(len(gone), s.sql.deleteDocs, kinds, keys)
	queue(len(added.kind), s.sql.insertDocs, added.args()...)
	queue(len(changed.kind), s.sql.updateDocs, changed.args()...)
}

// inserts reports whether the effect is among those to insert.
func (b *batch) inserts(f *effect) bool {
	return f.waits && f.place < len(b.arrived) && b.arrived[f.place] == f
}

// writeArgs are the parameters of writeSQL.
func (b *batch) writeArgs() []any {
	var jobs jobRows
	var base []int64
	var anew, gone []bool
	var entries [][]byte
	var specs specRows
	var done doneRows
	for _, r := range b.rows(func(r *row) bool { return r.job != nil }) {
		jobs.add(r.job)
		base = append(base, int64(r.base))
		anew = append(anew, r.anew)
		gone = append(gone, r.gone)
		entries = append(entries, pack([]byte{}, r.entries))
		if r.spec != nil {
			specs.add(r.spec)
		}
		if r.done != nil {
			done.add(r.done)
		}
	}
	var effects effectRows
	for i, f := range b.arrived {
		if f.waits && f.place == i {
			effects.add(f)
		}
	}
	args := append(jobs.args(), jobs.laneID, base, anew, gone, entries)
	args = append(args, specs.args()...)
	args = append(args, done.args()...)
	return append(args, effects.args()...)
}

func (b *batch) changedCounters() (names []string, values []int64) {
	for _, name := range sortedKeys(b.counters, cmp.Compare[string]) {
		if c := b.counters[name]; c.value != c.base {
			names, values = append(names, name), append(values, c.value)
		}
	}
	return names, values
}

// effectRows gathers effects column by column.
type effectRows struct {
	owner          []pgtype.UUID
	job            []pgtype.UUID
	seq            []int64
	kind           []int16
	target, reason []string
	amount, at     []int64
}

func (r *effectRows) add(f *effect) {
	r.owner = append(r.owner, f.owner)
	r.job = append(r.job, uuid(f.effect.ID.Job))
	r.seq = append(r.seq, int64(f.effect.ID.Seq))
	r.kind = append(r.kind, int16(f.effect.Kind))
	r.target = append(r.target, f.effect.Target)
	r.amount = append(r.amount, f.effect.Amount)
	r.reason = append(r.reason, f.effect.Reason)
	r.at = append(r.at, int64(f.effect.At))
}

func (r *effectRows) args() []any {
	return []any{r.owner, r.job, r.seq, r.kind, r.target, r.amount, r.reason, r.at}
}

// reportRows gathers log entries column by column.
type reportRows struct {
	job                  []pgtype.UUID
	seq, at              []int64
	attempt              []int32
	event, state, report []int16
	worker               [][]byte
	reason               []string
	data                 [][]byte
}

func (r *reportRows) add(e *consign.LogEntry) {
	r.job = append(r.job, uuid(e.Job))
	r.seq = append(r.seq, int64(e.Seq))
	r.at = append(r.at, int64(e.At))
	r.attempt = append(r.attempt, int32(e.Attempt))
	r.event = append(r.event, int16(e.Event))
	r.state = append(r.state, int16(e.State))
	r.report = append(r.report, int16(e.Report))
	r.worker = append(r.worker, optional32(&e.Worker))
	r.reason = append(r.reason, e.Reason)
	r.data = append(r.data, e.Data)
}

func (r *reportRows) args() []any {
	return []any{r.job, r.seq, r.at, r.attempt, r.event, r.state, r.report, r.worker, r.reason, r.data}
}

// docRows gathers documents column by column.
type docRows struct {
	kind, key []string
	version   []int64
	body      []string
}

func (r *docRows) add(id docID, d *doc) {
	r.kind = append(r.kind, id.kind)
	r.key = append(r.key, id.key)
	r.version = append(r.version, int64(d.version))
	r.body = append(r.body, string(d.body))
}

func (r *docRows) args() []any { return []any{r.kind, r.key, r.version, r.body} }

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
