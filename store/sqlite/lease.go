package sqlite

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/consignq/consign"
)

// leases are the jobs that run and when their leases end. They are in memory,
// so that a heartbeat costs no write. They change with the writer's
// connection in hand, and after the commit that they belong to.
type leases struct {
	mu      sync.RWMutex
	running map[consign.JobID]lease
}

// lease is zero for a job that is not running.
type lease struct {
	running bool
	claim   consign.ClaimID
	until   consign.Instant
	due     consign.Instant // the job's DueAt: no index has it while the job runs
}

// resumeLeases gives every running job its whole lease again: nobody knows for
// how long the store was closed, and no worker could reach it meanwhile.
func (s *Store) resumeLeases(ctx context.Context) error {
	s.leases.running = make(map[consign.JobID]lease)
	return s.read(ctx, func(conn *sqlite.Conn) error {
		return s.jobs(conn, running, nil, func(j *consign.Job) bool {
			s.leases.running[j.ID] = lease{true, j.Claim, s.now().Add(j.LeaseFor), j.DueAt}
			return true
		})
	})
}

// of returns the job's lease.
func (l *leases) of(id consign.JobID) lease {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.running[id]
}

// commit ends a transaction and takes over its leases. Whoever holds the mutex
// sees either none of it or all, in the file and here.
func (l *leases) commit(conn *sqlite.Conn, changed map[consign.JobID]lease) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := run(conn, "COMMIT", nil); err != nil {
		return err
	}
	for id, lease := range changed {
		if lease.running {
			l.running[id] = lease
		} else {
			delete(l.running, id)
		}
	}
	return nil
}

// Renew implements consign.Store. It writes nothing to the file.
func (s *Store) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	conn, err := s.writer.take(ctx) // so that none comes between a guard and its commit
	if err != nil {
		return nil, err
	}
	defer func() { s.writer <- conn }()
	now := s.now()
	outcomes := make([]error, len(renewals))
	s.leases.mu.Lock()
	defer s.leases.mu.Unlock()
	for i, r := range renewals {
		if l, ok := s.leases.running[r.Job]; ok && l.claim == r.Claim {
			l.until = now.Add(r.For)
			s.leases.running[r.Job] = l
		} else {
			outcomes[i] = consign.ErrGuard
		}
	}
	return outcomes, nil
}

// Lapsed implements consign.Store.
func (s *Store) Lapsed(ctx context.Context, n int) (jobs []*consign.Job, err error) {
	type ended struct {
		id consign.JobID
		lease
	}
	var lapsed []ended
	now := s.now()
	s.leases.mu.RLock()
	for id, l := range s.leases.running {
		if l.until <= now {
			lapsed = append(lapsed, ended{id, l})
		}
	}
	s.leases.mu.RUnlock()
	slices.SortFunc(lapsed, func(a, b ended) int {
		return cmp.Or(cmp.Compare(a.until, b.until), bytes.Compare(a.id[:], b.id[:]))
	})
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		for _, l := range lapsed {
			if len(jobs) >= n {
				break
			}
			job, err := s.job(conn, l.id)
			if err != nil {
				return err
			}
			if job != nil && job.State == consign.StateRunning && job.Claim == l.claim {
				jobs = append(jobs, job)
			}
		}
		return nil
	})
	return jobs, err
}

// Due implements consign.Store. Jobs that cannot be read are logged and left
// out.
func (s *Store) Due(ctx context.Context, now consign.Instant, n int) (jobs []*consign.Job, next consign.Instant, err error) {
	err = s.read(ctx, func(conn *sqlite.Conn) error {
		running, err := s.runningDue(conn)
		if err != nil {
			return err
		}
		add := func(j *consign.Job) (more bool) {
			if more = j.DueAt <= now && len(jobs) < n; more {
				jobs = append(jobs, j)
			} else {
				next = j.DueAt
			}
			return more
		}
		// addRunning adds those that run and are due by a time.
		addRunning := func(by consign.Instant) (more bool, err error) {
			for more = true; more && err == nil && len(running) > 0 && running[0].due <= by; running = running[1:] {
				var job *consign.Job
				if job, err = s.job(conn, running[0].id); job != nil {
					more = add(job)
				}
			}
			return more, err
		}
		var failed error
		err = s.jobs(conn, due, nil, func(j *consign.Job) (more bool) {
			more, failed = addRunning(j.DueAt)
			return more && failed == nil && add(j)
		})
		err = errors.Join(err, failed)
		if err == nil && next == 0 {
			_, err = addRunning(math.MaxInt64)
		}
		return err
	})
	return jobs, next, err
}

// dueJob is a job that runs, and when it is due.
type dueJob struct {
	id  consign.JobID
	due consign.Instant
}

// runningDue begins to read, and returns the jobs that run in what is read, in
// the order in which they are due.
func (s *Store) runningDue(conn *sqlite.Conn) (jobs []dueJob, err error) {
	s.leases.mu.RLock()
	err = each(conn, "SELECT 1 FROM counters", nil, func(*row) bool { return false })
	for id, l := range s.leases.running {
		if l.due != 0 {
			jobs = append(jobs, dueJob{id, l.due})
		}
	}
	s.leases.mu.RUnlock()
	slices.SortFunc(jobs, func(a, b dueJob) int { return cmp.Compare(a.due, b.due) })
	return jobs, err
}
