package sqlite

import (
	"bytes"
	"cmp"
	"context"
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
}

// resumeLeases gives every running job its whole lease again: nobody knows for
// how long the store was closed, and no worker could reach it meanwhile.
func (s *Store) resumeLeases(ctx context.Context) error {
	s.leases.running = make(map[consign.JobID]lease)
	return s.read(ctx, func(conn *sqlite.Conn) error {
		return s.jobs(conn, running, nil, func(j *consign.Job) bool {
			s.leases.running[j.ID] = lease{true, j.Claim, s.now().Add(j.LeaseFor)}
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

// set makes the leases those of the jobs.
func (l *leases) set(changed map[consign.JobID]lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, lease := range changed {
		if lease.running {
			l.running[id] = lease
		} else {
			delete(l.running, id)
		}
	}
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
