package sqlite

import (
	"github.com/consignq/consign"
)

// The statements that write a job and what belongs to it. An insert does
// nothing where there is the job, an update where there is another version:
// that is how a version is judged without being read.
var (
	insertJob = `INSERT INTO jobs (` + jobColumns + `, log, id) VALUES (` + parameters(jobCount+2) + `) ON CONFLICT (id) DO NOTHING`
	updateJob = `UPDATE jobs SET (` + jobColumns + `, log) = (` + parameters(jobCount) + `, CASE WHEN forgotten THEN '' ELSE log || ? END)
		WHERE id = ? AND version = ?`
	forgetJob = `UPDATE jobs SET (` + jobColumns + `, log, forgotten) = (` + parameters(jobCount) + `, '', 1) WHERE id = ? AND version = ?`
	deleteJob = `DELETE FROM jobs WHERE id = ? AND version = ?`

	insertSpec = `INSERT OR REPLACE INTO specs (` + specColumns + `, n) VALUES (` + parameters(specCount) + `, (SELECT n FROM jobs WHERE id = ?))`
	insertDone = `INSERT OR REPLACE INTO done (` + doneColumns + `, n) VALUES (` + parameters(doneCount) + `, (SELECT n FROM jobs WHERE id = ?))`
)

// forgets are the tables of what belongs to a job.
var forgets = [...]string{
	`DELETE FROM specs WHERE n = (SELECT n FROM jobs WHERE id = ?)`,
	`DELETE FROM done WHERE n = (SELECT n FROM jobs WHERE id = ?)`,
	`DELETE FROM entries WHERE n = (SELECT n FROM jobs WHERE id = ?)`,
}

// writeJob writes the change's job, and its spec and done with it, unless the
// stored version is another than it expects.
func (b *batch) writeJob(c *consign.Change, packed string) (written bool, err error) {
	if c.Delete {
		return b.deleteJob(c.Job)
	}
	j := c.Job
	changed, err := 0, error(nil)
	switch {
	case c.Forget:
		changed, err = run(b.conn, forgetJob, func(a *args) { a.job(j, b.leaseUntil(j)); a.blob(j.ID[:]); a.int(int64(j.Version - 1)) })
	case j.Version == 1:
		changed, err = run(b.conn, insertJob, func(a *args) { a.job(j, b.leaseUntil(j)); a.text(packed); a.blob(j.ID[:]) })
	default:
		changed, err = run(b.conn, updateJob, func(a *args) {
			a.job(j, b.leaseUntil(j))
			a.text(packed)
			a.blob(j.ID[:])
			a.int(int64(j.Version - 1))
		})
	}
	if err != nil || changed == 0 {
		return false, err
	}
	if c.Forget {
		for _, query := range forgets {
			if _, err := run(b.conn, query, func(a *args) { a.blob(j.ID[:]) }); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	if c.Spec != nil {
		if _, err := run(b.conn, insertSpec, func(a *args) { a.spec(c.Spec); a.blob(j.ID[:]) }); err != nil {
			return false, err
		}
	}
	if c.Done != nil {
		if _, err := run(b.conn, insertDone, func(a *args) { a.done(c.Done); a.blob(j.ID[:]) }); err != nil {
			return false, err
		}
	}
	return true, nil
}

// deleteJob deletes a job with all that belongs to it, by its foreign keys.
func (b *batch) deleteJob(j *consign.Job) (written bool, err error) {
	if j.Version == 1 { // there must be none, and then there is none
		there, err := b.exists(`SELECT 1 FROM jobs WHERE id = ?`, func(a *args) { a.blob(j.ID[:]) })
		return !there, err
	}
	changed, err := run(b.conn, deleteJob, func(a *args) { a.blob(j.ID[:]); a.int(int64(j.Version - 1)) })
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
	return lease{running: true, claim: c.Job.Claim, until: b.leaseUntil(c.Job)}
}
