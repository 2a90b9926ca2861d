package sqlite

import (
	"cmp"
	"context"
	"errors"

	"zombiezen.com/go/sqlite"

	"github.com/consignq/consign"
)

// The queries. A plan test sees to it that each goes by an index, in the order
// of that index.
const (
	selectJobs = `SELECT n, id, ` + jobColumns + ` FROM jobs `
	byID       = `WHERE id = ?`
	page       = `WHERE state = 2 AND lane = ? AND (key, id) > (?, ?) ORDER BY key, id`
	running    = `WHERE state = 3`
	due        = `WHERE due_at <> 0 AND state <> 3 ORDER BY due_at` // those that run are known
	list       = `WHERE id > ?1 AND (?2 = '' OR account = ?2) AND (?3 = 0 OR state = ?3) ORDER BY id`

	firstLane = `SELECT lane, key FROM jobs WHERE state = 2 ORDER BY lane, key LIMIT 1`
	nextLane  = `SELECT lane, key FROM jobs WHERE state = 2 AND lane > ? ORDER BY lane, key LIMIT 1`

	selectRow     = `SELECT n FROM jobs WHERE id = ?`
	selectLast    = `SELECT max(n) FROM jobs`
	selectSpecRow = `SELECT n, ` + specColumns + ` FROM specs WHERE n = `
	selectSpec    = selectSpecRow + `(SELECT n FROM jobs WHERE id = ?)`
	selectSpecAt  = selectSpecRow + `?`
	selectDone    = `SELECT n, ` + doneColumns + ` FROM done WHERE n = (SELECT n FROM jobs WHERE id = ?)`
	selectEffects = `SELECT n, job, seq, kind, target, amount, reason, at FROM effects ORDER BY n`
	selectDocs    = `SELECT key, version, body FROM docs WHERE kind = ? AND key > ? ORDER BY key`
	selectDoc     = `SELECT key, version, body FROM docs WHERE kind = ? AND key = ?`
	selectCounter = `SELECT value FROM counters WHERE name = ?`
)

// read calls f with a connection on which all that is read is of one moment.
// A context that ends interrupts it.
func (s *Store) read(ctx context.Context, f func(conn *sqlite.Conn) error) error {
	conn, err := s.reader.take(ctx)
	if err != nil {
		return err
	}
	conn.SetInterrupt(ctx.Done())
	if _, err = run(conn, "BEGIN", nil); err == nil {
		err = f(conn)
	}
	conn.SetInterrupt(nil)
	rollback(conn) // which a reader has nothing to commit in
	s.reader <- conn
	if err == nil {
		return nil
	}
	return cmp.Or(ctx.Err(), explain(err))
}

// report logs a row that is left out of an answer because it cannot be read:
// one bad row must not keep those from being read that come with it.
func (s *Store) report(bad error) {
	var row *CorruptError
	if errors.As(bad, &row) && s.reported.first(*row) {
		s.config.Logger.Error("a row is left out", "file", s.config.Path, "error", bad)
	}
}

// jobs calls f for the jobs of a query that can be read, until f has enough.
func (s *Store) jobs(conn *sqlite.Conn, where string, bind func(*args), f func(*consign.Job) (more bool)) error {
	return s.jobRows(conn, where, bind, func(_ int64, j *consign.Job) bool { return f(j) })
}

// jobRows is jobs with the numbers of the rows.
func (s *Store) jobRows(conn *sqlite.Conn, where string, bind func(*args), f func(int64, *consign.Job) (more bool)) error {
	return each(conn, selectJobs+where, bind, func(r *row) bool {
		n, job, err := r.job()
		if err != nil {
			s.report(err)
			return true
		}
		if job.State == consign.StateRunning {
			if l := s.leases.of(job.ID); l.running && l.claim == job.Claim {
				job.LeaseUntil = l.until
			}
		}
		return f(n, job)
	})
}

// job returns a job, nil if there is none that can be read.
func (s *Store) job(conn *sqlite.Conn, id consign.JobID) (job *consign.Job, err error) {
	err = s.jobs(conn, byID, func(a *args) { a.blob(id[:]) }, func(j *consign.Job) bool { job = j; return false })
	return job, err
}

// Jobs implements consign.Store. A job whose row cannot be read is logged and
// nil.
func (s *Store) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	jobs := make([]*consign.Job, len(ids))
	err := s.read(ctx, func(conn *sqlite.Conn) (err error) {
		for i, id := range ids {
			if jobs[i], err = s.job(conn, id); err != nil {
				return err
			}
		}
		return nil
	})
	return jobs, err
}

// Specs implements consign.Store. A spec whose row cannot be read is logged
// and nil.
func (s *Store) Specs(ctx context.Context, ids []consign.JobID) ([]*consign.Spec, error) {
	specs := make([]*consign.Spec, len(ids))
	err := s.read(ctx, func(conn *sqlite.Conn) error {
		for i, id := range ids {
			query, bind := selectSpec, func(a *args) { a.blob(id[:]) }
			if n := s.rows.of(id); n != 0 {
				query, bind = selectSpecAt, func(a *args) { a.int(n) }
			}
			err := each(conn, query, bind,
				func(r *row) bool {
					spec, bad := r.spec(id)
					if s.report(bad); bad == nil {
						specs[i] = spec
					}
					return false
				})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return specs, err
}

// Done implements consign.Store. It returns a *CorruptError for a row that
// cannot be read.
func (s *Store) Done(ctx context.Context, id consign.JobID) (done *consign.Done, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		var bad error
		err := each(conn, selectDone, func(a *args) { a.blob(id[:]) },
			func(r *row) bool { done, bad = r.done(id); return false })
		return errors.Join(err, bad)
	})
	if err != nil {
		return nil, err
	}
	return done, nil
}

// Log implements consign.Store. Entries that cannot be read are logged and
// left out.
func (s *Store) Log(ctx context.Context, id consign.JobID, after consign.Seq, n int) (log []consign.LogEntry, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) (err error) { log, err = s.log(conn, id, after, n); return err })
	return log, err
}

// Lanes seeks from one lane to the next, so that its cost is in the number of
// lanes and not of jobs.
func (s *Store) Lanes(ctx context.Context) (heads []consign.LaneHead, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		next := func(query string, bind func(*args)) error {
			return each(conn, query, bind, func(r *row) bool {
				heads = append(heads, consign.LaneHead{Lane: r.text(), Key: r.time()})
				return false
			})
		}
		err := next(firstLane, nil)
		for n := 0; err == nil && len(heads) > n; {
			n = len(heads)
			err = next(nextLane, func(a *args) { a.text(heads[n-1].Lane) })
		}
		return err
	})
	return heads, err
}

// Page implements consign.Store. Jobs that cannot be read are logged and left
// out.
func (s *Store) Page(ctx context.Context, lane string, shards uint16, place consign.Place, most int) (jobs []*consign.Job, err error) {
	if most <= 0 {
		return nil, ctx.Err()
	}
	var ns []int64
	deleted := s.rows.deleted() // before anything is read
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return s.jobRows(conn, page, func(a *args) { a.text(lane); a.time(place.Key); a.blob(place.ID[:]) }, func(n int64, j *consign.Job) bool {
			if shards>>j.ID.Shard()&1 == 1 {
				jobs, ns = append(jobs, j), append(ns, n)
			}
			return len(jobs) < most
		})
	})
	s.rows.learn(jobs, ns, deleted)
	return jobs, err
}

// List implements consign.Store. It reads every job between the first and the
// last that match. Jobs that cannot be read are logged and left out.
func (s *Store) List(ctx context.Context, f consign.Filter, after consign.JobID, n int) (jobs []*consign.Job, err error) {
	if n <= 0 {
		return nil, ctx.Err()
	}
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return s.jobs(conn, list, func(a *args) { a.blob(after[:]); a.text(f.Account); a.int(int64(f.State)) }, func(j *consign.Job) bool {
			jobs = append(jobs, j)
			return len(jobs) < n
		})
	})
	return jobs, err
}

// Effects implements consign.Store. Those that cannot be read are logged and
// left out.
func (s *Store) Effects(ctx context.Context, n int) (effects []consign.Effect, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return each(conn, selectEffects, nil, func(r *row) bool {
			if len(effects) >= n {
				return false
			}
			e := consign.Effect{}
			row := r.int()
			r.hash(e.ID.Job[:])
			e.ID.Seq = consign.Seq(r.int())
			e.Kind = small[consign.EffectKind](r)
			e.Target = r.text()
			e.Amount = r.int()
			e.Reason = r.text()
			e.At = r.time()
			bad := r.corrupt("effects", row)
			if s.report(bad); bad == nil {
				effects = append(effects, e)
			}
			return true
		})
	})
	return effects, err
}

// Docs implements consign.Store. Documents that cannot be read are logged and
// left out.
func (s *Store) Docs(ctx context.Context, kind, after string, n int) (docs []consign.Doc, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		return each(conn, selectDocs, func(a *args) { a.text(kind); a.text(after) },
			func(r *row) bool {
				if len(docs) >= n {
					return false
				}
				d, bad := r.doc(kind)
				if s.report(bad); bad == nil {
					docs = append(docs, d)
				}
				return true
			})
	})
	return docs, err
}

// Doc implements consign.Store. It returns a *CorruptError for a row that
// cannot be read.
func (s *Store) Doc(ctx context.Context, kind, key string) (consign.Doc, error) {
	doc := consign.Doc{Kind: kind, Key: key}
	err := s.read(ctx, func(conn *sqlite.Conn) error {
		var bad error
		err := each(conn, selectDoc, func(a *args) { a.text(kind); a.text(key) },
			func(r *row) bool { doc, bad = r.doc(kind); return false })
		return errors.Join(err, bad)
	})
	return doc, err
}

func (r *row) doc(kind string) (consign.Doc, error) {
	d := consign.Doc{Kind: kind, Key: r.text()}
	d.Version = uint64(r.int())
	d.Body = []byte(r.text())
	return d, r.corrupt("docs", -1)
}

// Counter implements consign.Store.
func (s *Store) Counter(ctx context.Context, name string) (value int64, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) (err error) { value, err = readCounter(conn, name); return err })
	return value, err
}

func readCounter(conn *sqlite.Conn, name string) (value int64, err error) {
	err = each(conn, selectCounter, func(a *args) { a.text(name) }, func(r *row) bool { value = r.int(); return false })
	return value, err
}
