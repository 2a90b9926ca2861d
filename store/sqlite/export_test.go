package sqlite

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/consignq/consign"
	"github.com/consignq/consign/vault"
)

// OpenWhen is Open when the machine's clock shows that time.
func OpenWhen(ctx context.Context, path string, now time.Time) (*Store, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	return open(ctx, Config{Path: path, Logger: slog.Default()}, now)
}

// Queries are those that a queue makes all the time.
var Queries = map[string]string{
	"insertJob": insertJob, "updateJob": updateJob, "forgetJob": forgetJob, "deleteJob": deleteJob,
	"insertSpec": insertSpec, "insertDone": insertDone, "insertEntry": insertEntry,
	"forgetSpec": forgets[0], "forgetDone": forgets[1], "forgetEntries": forgets[2],
	"job": selectJobs + byID, "page": selectJobs + page, "row": selectRow, "last": selectLast, "specAt": selectSpecAt, "due": selectJobs + due, "running": selectJobs + running, "list": selectJobs + list,
	"firstLane": firstLane, "nextLane": nextLane, "spec": selectSpec, "done": selectDone, "log": selectLog, "entries": selectEntries,
	"dropEffect": dropEffect, "effects": selectEffects, "doc": selectDoc, "docs": selectDocs, "counter": selectCounter,
}

// Do has the writer's connection carry out a script.
func (s *Store) Do(script string) error {
	conn := <-s.writer
	defer func() { s.writer <- conn }()
	return sqlitex.ExecuteScript(conn, script, nil)
}

// Texts returns the last column of a query, whose parameters are NULL.
func (s *Store) Texts(query string) (texts []string, err error) {
	conn := <-s.writer
	defer func() { s.writer <- conn }()
	stmt, _, err := conn.PrepareTransient(query)
	if err != nil {
		return nil, err
	}
	defer stmt.Finalize() //nolint:errcheck
	for {
		if more, err := stmt.Step(); err != nil || !more {
			return texts, err
		}
		texts = append(texts, stmt.ColumnText(stmt.ColumnCount()-1))
	}
}

// Checkpoint does the first half of what forget does.
func (v *Vault) Checkpoint() error {
	conn := <-v.pool
	defer func() { v.pool <- conn }()
	return pragma(conn, "PRAGMA wal_checkpoint(RESTART)")
}

// WALHead is how much of the WAL is overwritten first.
const WALHead = walHead

// VaultPlans returns what SQLite means to do for the vault's statements.
func (v *Vault) VaultPlans() (plans map[string]string, err error) {
	conn := <-v.pool
	defer func() { v.pool <- conn }()
	plans = make(map[string]string)
	for _, query := range []string{selectSlot, countHeaders, selectFree, replace, erase, selectJob, selectAll} {
		err = errors.Join(err, each(conn, "EXPLAIN QUERY PLAN "+query, nil, func(r *row) bool {
			plans[query] += r.stmt.ColumnText(3) + "; "
			return true
		}))
	}
	return plans, err
}

// Faulty is a vault with one fault in how it deletes.
type Faulty struct {
	*Vault
	KeepsWAL, KeepsPages bool
}

// Delete is a Delete with the fault.
func (f Faulty) Delete(ctx context.Context, rs []vault.Record) error {
	w := &vaultWrite{forgets: !f.KeepsWAL, do: func(conn *sqlite.Conn) error {
		query := erase
		if f.KeepsPages {
			query = "DELETE FROM records WHERE job = ? AND header = ? AND at = ?"
			if err := pragma(conn, "PRAGMA secure_delete = OFF"); err != nil {
				return err
			}
		}
		for _, r := range rs {
			if _, err := run(conn, query, func(a *args) { a.name(r) }); err != nil {
				return err
			}
		}
		return nil
	}}
	return f.write(ctx, w)
}

// MaxRows is how many rows are known at most.
const MaxRows = maxRows

// Known returns the row that is known of a job.
func (s *Store) Known(id consign.JobID) int64 { return s.rows.of(id) }

// Learning begins to read jobs; the result ends it.
func (s *Store) Learning(jobs []*consign.Job) func() {
	ns := make([]int64, len(jobs))
	for i, j := range jobs {
		ns[i] = s.rows.of(j.ID)
	}
	deleted := s.rows.deleted()
	return func() { s.rows.learn(jobs, ns, deleted) }
}

// LearnMany learns n rows and returns how many are known then.
func LearnMany(n int) int {
	r := rows{known: make(map[consign.JobID]int64)}
	for i := range n {
		r.set(map[consign.JobID]int64{{byte(i), byte(i >> 8), byte(i >> 16)}: 1})
	}
	return len(r.known)
}

// WAL returns how many pages the WAL has.
func (s *Store) WAL() int64 { return s.checkpoints.walLength() }

// WALPages is how long the WAL grows before it is moved.
const WALPages = walPages

// BackupBy is a backup that is copied by a function.
func BackupBy(path string, copyTo func(part string) error) error { return backup(path, copyTo) }
