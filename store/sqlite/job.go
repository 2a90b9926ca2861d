package sqlite

import (
	"strings"

	"github.com/consignq/consign"
)

// The statements that write a job and what belongs to it. An insert does
// nothing where there is the job, an update where there is another version:
// that is how a version is judged without being read.
var (
	insertJob = `INSERT INTO jobs (` + jobColumns + `, log, id, n) VALUES (` + parameters(movingCount+lastingCount+3) + `) ON CONFLICT (id) DO NOTHING`
	updateJob = `UPDATE jobs SET (` + movingColumns + `, log) = (` + parameters(movingCount) + `, CASE WHEN forgotten THEN '' ELSE log || ? END)
		WHERE n = ? AND version = ?`
	forgetJob = `UPDATE jobs SET (` + movingColumns + `, log, forgotten) = (` + parameters(movingCount) + `, '', 1) WHERE n = ? AND version = ?`
	deleteJob = `DELETE FROM jobs WHERE n = ? AND version = ?`

	insertSpec = `INSERT OR REPLACE INTO specs (` + specColumns + `, n) VALUES (` + parameters(specCount+1) + `)`
	insertDone = `INSERT INTO done (` + doneColumns + `, log, n)
		SELECT ` + parameters(doneCount) + `, CASE WHEN forgotten THEN '' ELSE ? END, n FROM jobs WHERE n = ?
		ON CONFLICT (n) DO UPDATE SET (` + doneColumns + `, log) = (` + excluded(doneColumns) + `, log || excluded.log)`
)

// excluded names columns of the row that an insert could not add.
func excluded(columns string) string {
	return "excluded." + strings.ReplaceAll(columns, ", ", ", excluded.")
}

// forgets are the tables of what belongs to a job.
var forgets = [...]string{
	`DELETE FROM specs WHERE n = ?`,
	`DELETE FROM done WHERE n = ?`,
	`DELETE FROM entries WHERE n = ?`,
}

// writeJob writes the change's job, and its spec and done with it, unless the
// stored version is another than it expects.
func (b *batch) writeJob(c *consign.Change, packed string) (written bool, err error) {
	j := c.Job
	insert := inserts(c)
	var n int64
	if insert {
		n, err = b.nextRow()
	} else {
		n, err = b.row(j.ID)
	}
	switch {
	case err != nil:
		return false, err
	case j.Version == 1 && c.Delete:
		return n == 0, nil // there must be none, and then there is none
	case n == 0:
		return false, nil
	case c.Delete:
		return b.deleteJob(j, n)
	}
	log := packed
	if c.Done != nil {
		log = ""
	}
	changed := 0
	switch {
	case c.Forget:
		changed, err = run(b.conn, forgetJob, func(a *args) { a.moving(j, b.leaseUntil(j)); a.int(n); a.int(int64(j.Version - 1)) })
	case insert:
		changed, err = run(b.conn, insertJob, func(a *args) {
			a.moving(j, b.leaseUntil(j))
			a.lasting(j)
			a.text(log)
			a.blob(j.ID[:])
			a.int(n)
		})
	default:
		changed, err = run(b.conn, updateJob, func(a *args) {
			a.moving(j, b.leaseUntil(j))
			a.text(log)
			a.int(n)
			a.int(int64(j.Version - 1))
		})
	}
	if err != nil || changed == 0 {
		return false, err
	}
	if c.Forget {
		return true, b.forget(n)
	}
	if c.Spec != nil {
		if _, err := run(b.conn, insertSpec, func(a *args) { a.spec(c.Spec); a.int(n) }); err != nil {
			return false, err
		}
	}
	if c.Done != nil {
		if _, err := run(b.conn, insertDone, func(a *args) { a.done(c.Done); a.text(packed); a.int(n) }); err != nil {
			return false, err
		}
	}
	b.rows[j.ID] = n
	return true, nil
}

// forget deletes what belongs to a job.
func (b *batch) forget(n int64) error {
	for _, query := range forgets {
		if _, err := run(b.conn, query, func(a *args) { a.int(n) }); err != nil {
			return err
		}
	}
	return nil
}

// deleteJob deletes a job with all that belongs to it, by its foreign keys.
func (b *batch) deleteJob(j *consign.Job, n int64) (written bool, err error) {
	changed, err := run(b.conn, deleteJob, func(a *args) { a.int(n); a.int(int64(j.Version - 1)) })
	if changed == 1 && err == nil {
		b.rows[j.ID] = 0
	}
	return changed == 1, err
}

// leaseUntil is when the lease ends that the job asks for, by the store's clock.
func (b *batch) leaseUntil(j *consign.Job) consign.Instant {
	if j.LeaseFor != 0 {
		return b.now.Add(j.LeaseFor)
	}
	return j.LeaseUntil
}

// lease is what the change makes of its job's lease.
func (b *batch) lease(c *consign.Change) lease {
	if c.Delete || c.Job.State != consign.StateRunning {
		return lease{}
	}
	return lease{running: true, claim: c.Job.Claim, until: b.leaseUntil(c.Job), due: c.Job.DueAt}
}
