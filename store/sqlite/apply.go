package sqlite

import (
	"context"
	"errors"
	"fmt"

	"zombiezen.com/go/sqlite"

	"github.com/consignq/consign"
)

// Apply commits the changes in one transaction of SQLite. A change that makes
// no sense, or that SQLite refuses for what is in it, has an error of its own.
func (s *Store) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	conn, err := s.writer.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { s.writer <- conn }()
	outcomes, err := s.commit(conn, changes, false)
	if refused(err) {
		outcomes, err = s.commit(conn, changes, true)
	}
	if err != nil {
		return nil, explain(err)
	}
	return outcomes, nil
}

// batch is what one transaction has done so far. Most changes are judged whole
// before any of it is written, so that one that fails has nothing to undo; the
// others have a savepoint. What it would cost to read again is kept here, with
// what earlier changes made of it.
type batch struct {
	store    *Store
	conn     *sqlite.Conn
	now      consign.Instant
	leases   map[consign.JobID]lease
	rows     map[consign.JobID]int64 // 0: deleted
	last     int64                   // the highest row, once there was a new one
	counters map[string]int64
}

// commit applies the changes. With apart set each has a savepoint, so that one
// which SQLite refuses fails alone.
func (s *Store) commit(conn *sqlite.Conn, changes []consign.Change, apart bool) ([]error, error) {
	if _, err := run(conn, "BEGIN IMMEDIATE", nil); err != nil {
		return nil, err
	}
	defer rollback(conn)
	b := &batch{store: s, conn: conn, now: s.now(), leases: make(map[consign.JobID]lease, len(changes)),
		rows: make(map[consign.JobID]int64, len(changes)), counters: make(map[string]int64)}
	order, err := b.order(changes)
	if err != nil {
		return nil, err
	}
	outcomes := make([]error, len(changes))
	for _, i := range order {
		if apart || len(changes[i].Drop) > 0 {
			outcomes[i], err = b.applyApart(&changes[i])
		} else {
			outcomes[i], err = b.apply(&changes[i])
		}
		if err != nil {
			return nil, err
		}
	}
	if err := b.writeCounters(); err != nil {
		return nil, err
	}
	if err := s.leases.commit(conn, b.leases); err != nil {
		return nil, err
	}
	s.checkpoints.committed()
	s.rows.set(b.rows)
	s.last = max(s.last, b.last)
	return outcomes, nil
}

// refused reports an error that is about what a statement says, and not about
// the file or the disk.
func refused(err error) bool {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultConstraint, sqlite.ResultTooBig, sqlite.ResultMismatch:
		return true
	}
	return false
}

// applyApart is apply within a savepoint. What SQLite refuses fails alone.
func (b *batch) applyApart(c *consign.Change) (outcome, err error) {
	if _, err := run(b.conn, "SAVEPOINT change", nil); err != nil {
		return nil, err
	}
	undo := b.remember(c)
	outcome, err = b.apply(c)
	if refused(err) {
		outcome, err = fmt.Errorf("sqlite: the change cannot be stored: %w", err), nil
	}
	if outcome != nil {
		undo()
		_, err = run(b.conn, "ROLLBACK TO change", nil)
	}
	if err == nil {
		_, err = run(b.conn, "RELEASE change", nil)
	}
	return outcome, err
}

// remember returns what brings back the row that the batch has for the change's
// job, deleted earlier in it or not: the store knows of nothing that the batch
// has done.
func (b *batch) remember(c *consign.Change) (undo func()) {
	if c.Job == nil {
		return func() {}
	}
	n, known := b.rows[c.Job.ID]
	return func() {
		if known {
			b.rows[c.Job.ID] = n
		} else {
			delete(b.rows, c.Job.ID)
		}
	}
}

// apply judges a change and writes it. The first result is its outcome.
func (b *batch) apply(c *consign.Change) (outcome, err error) {
	if outcome = sound(c); outcome == nil {
		outcome, err = b.judge(c)
	}
	if outcome != nil || err != nil {
		return outcome, err
	}
	packed, loose := pack(c)
	if c.Job != nil { // the last judgement, and the first write
		if written, err := b.writeJob(c, packed); err != nil || !written {
			return consign.ErrVersion, err
		}
	}
	if err := b.append(c, loose); err != nil {
		return nil, err
	}
	// Nothing fails from here on, so that these need not be undone.
	if c.Job != nil {
		b.leases[c.Job.ID] = b.lease(c)
	}
	for _, d := range c.Counters {
		b.counters[d.Counter] += d.Add
	}
	return nil, nil
}

// sound reports a change that makes no sense.
func sound(c *consign.Change) error {
	switch {
	case c.Job == nil && (c.Spec != nil || c.Done != nil || c.Forget || c.Delete):
		return errors.New("sqlite: the change has a Spec, Done, Forget or Delete without the Job that it belongs to")
	case c.Spec != nil && c.Spec.ID != c.Job.ID, c.Done != nil && c.Done.ID != c.Job.ID:
		return errors.New("sqlite: the change has a Spec or Done of another job than its own")
	}
	return nil
}

// judge reports why the change cannot be applied, but for its job's version.
func (b *batch) judge(c *consign.Change) (outcome, err error) {
	if g := c.Guard; g != nil {
		l, ok := b.leases[g.Job]
		if !ok {
			l = b.store.leases.of(g.Job)
		}
		if !l.running || l.claim != g.Claim || g.Lapsed && l.until > b.now {
			return consign.ErrGuard, nil
		}
	}
	for _, id := range c.Drop { // judged by doing it, which the savepoint undoes
		dropped, err := run(b.conn, dropEffect, func(a *args) { a.blob(id.Job[:]); a.int(int64(id.Seq)) })
		if err != nil || dropped == 0 {
			return consign.ErrVersion, err
		}
	}
	for i := range c.Docs {
		d := &c.Docs[i]
		var version uint64
		err := each(b.conn, selectDoc, func(a *args) { a.text(d.Kind); a.text(d.Key) },
			func(r *row) bool { version = uint64(r.stmt.ColumnInt64(1)); return false })
		if err != nil || version != d.Version-1 {
			return consign.ErrVersion, err
		}
	}
	for _, d := range c.Counters {
		value, err := b.counter(d.Counter)
		if err != nil || d.Add < 0 && value+d.Add < d.Min {
			return consign.ErrBound, err
		}
	}
	return nil, nil
}

// append writes what comes with the job, or without one.
func (b *batch) append(c *consign.Change, loose []*consign.LogEntry) error {
	for _, e := range loose {
		if err := b.writeEntry(e); err != nil {
			return err
		}
	}
	for i := range c.Effects {
		if err := writeEffect(b.conn, &c.Effects[i]); err != nil {
			return err
		}
	}
	for i := range c.Docs {
		if err := writeDoc(b.conn, &c.Docs[i]); err != nil {
			return err
		}
	}
	return nil
}

const dropEffect = `DELETE FROM effects WHERE job = ? AND seq = ?`

func writeEffect(conn *sqlite.Conn, e *consign.Effect) error {
	_, err := run(conn, `INSERT INTO effects (job, seq, kind, target, amount, reason, at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		func(a *args) {
			a.blob(e.ID.Job[:])
			a.int(int64(e.ID.Seq))
			a.int(int64(e.Kind))
			a.text(e.Target)
			a.int(e.Amount)
			a.text(e.Reason)
			a.time(e.At)
		})
	return err
}

func writeDoc(conn *sqlite.Conn, d *consign.Doc) error {
	query := `INSERT OR REPLACE INTO docs (kind, key, version, body) VALUES (?, ?, ?, ?)`
	if d.Body == nil {
		query = `DELETE FROM docs WHERE kind = ? AND key = ?`
	}
	_, err := run(conn, query, func(a *args) {
		a.text(d.Kind)
		a.text(d.Key)
		if d.Body != nil {
			a.int(int64(d.Version))
			a.text(string(d.Body))
		}
	})
	return err
}

// counter returns a counter as the batch has it so far.
func (b *batch) counter(name string) (int64, error) {
	value, ok := b.counters[name]
	if ok {
		return value, nil
	}
	value, err := readCounter(b.conn, name)
	if err == nil {
		b.counters[name] = value
	}
	return value, err
}

// writeCounters writes each counter once, whatever the number of changes that
// have added to it.
func (b *batch) writeCounters() error {
	for name, value := range b.counters {
		_, err := run(b.conn, `INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)`, func(a *args) { a.text(name); a.int(value) })
		if err != nil {
			return err
		}
	}
	return nil
}
