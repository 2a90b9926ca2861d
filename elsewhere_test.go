package consign_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// What one queue handed out and another one on the same store ended. The first
// must neither count the claim against its worker nor keep the job from others.

// slow is a store whose queue is never the first to see what time has done.
type slow struct{ consign.Store }

func (slow) Lapsed(context.Context, int) ([]*consign.Job, error) { return nil, nil }
func (slow) Due(context.Context, consign.Instant, int) ([]*consign.Job, consign.Instant, error) {
	return nil, 0, nil
}

// stale is a slow store that shows each job as it was first seen running.
type stale struct {
	slow
	mu   *sync.Mutex
	seen map[consign.JobID]*consign.Job
}

func (s stale) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	jobs, err := s.Store.Jobs(ctx, ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range jobs {
		if old := s.seen[ids[i]]; old != nil {
			jobs[i] = old
		}
	}
	return jobs, err
}

func (s stale) Page(ctx context.Context, lane string, shards uint16, after consign.Place, n int) ([]*consign.Job, error) {
	jobs, err := s.Store.Page(ctx, lane, shards, after, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range jobs {
		if old := s.seen[jobs[i].ID]; old != nil {
			job := *jobs[i]
			job.Version = old.Version
			jobs[i] = &job
		}
	}
	return jobs, err
}

func (s stale) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	s.mu.Lock()
	for _, c := range changes {
		if c.Job != nil && c.Job.State == consign.StateRunning && s.seen[c.Job.ID] == nil {
			s.seen[c.Job.ID] = c.Job
		}
	}
	s.mu.Unlock()
	return s.Store.Apply(ctx, changes)
}

// start is a worker's new process: it registers, and its heartbeats name no
// claim, as it knows of none.
func (p *couple) start(q *consign.Queue, worker uint64) consign.Session {
	s := openSession(p.t, q, seededIdentity(worker), benchCaps)
	go func() {
		for p.t.Context().Err() == nil {
			_, _ = s.Heartbeat(p.t.Context(), consign.Heartbeat{Capabilities: benchCaps, FreeSlots: 1})
			sleep(p.t.Context(), 10*time.Second/3)
		}
	}()
	return s
}

// gets claims as a worker does, which tries again.
func (p *couple) gets(s consign.Session, id consign.JobID, within time.Duration) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), within)
	defer cancel()
	for {
		a, err := s.Claim(ctx)
		switch {
		case err == nil && a.Job == id:
			return nil
		case err == nil:
			return fmt.Errorf("the worker gets job %s", a.Job)
		case !errors.Is(err, consign.ErrBusy):
			return fmt.Errorf("no job within %v: %w", within, err)
		}
		sleep(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return err
		}
	}
}

const (
	beatLater  = 10*time.Second/3 + 500*time.Millisecond // with the next heartbeat
	leaseLater = 13 * time.Second
)

var elsewhere = []struct {
	name     string
	deadline time.Duration
	run      func(p *couple, first consign.Assignment) error
}{
	{"the lease is reaped and a worker there has the job", 0, func(p *couple, first consign.Assignment) error {
		s := p.start(p.a, 1)
		other, a, err := p.claimAt(p.b, 2, leaseLater)
		if err != nil || a.Job != first.Job {
			return fmt.Errorf("job %s was not rescued: %w", first.Job, err)
		}
		if err := complete(p.t.Context(), other, a); err != nil {
			return err
		}
		return p.gets(s, p.submit(p.a), beatLater)
	}},
	{"the job is cancelled", 0, func(p *couple, first consign.Assignment) error {
		s := p.start(p.a, 1)
		if _, err := p.b.Submitter("acme").Cancel(p.t.Context(), first.Job); err != nil {
			return err
		}
		return p.gets(s, p.submit(p.a), beatLater)
	}},
	{"its deadline passes", 9 * time.Second, func(p *couple, first consign.Assignment) error {
		s := p.start(p.a, 1)
		time.Sleep(7 * time.Second)
		return p.gets(s, p.submit(p.a), beatLater)
	}},
	{"its worker brings the result there and comes back", 0, func(p *couple, first consign.Assignment) error {
		if err := complete(p.t.Context(), openSession(p.t, p.b, seededIdentity(1), benchCaps), first); err != nil {
			return err
		}
		return p.gets(p.start(p.a, 1), p.submit(p.a), beatLater)
	}},
	{"the lease is reaped and only the first has workers", 0, func(p *couple, first consign.Assignment) error {
		return p.gets(p.start(p.a, 2), first.Job, leaseLater)
	}},
	{"the lease is reaped and another worker of the first has the job", 0, func(p *couple, first consign.Assignment) error {
		time.Sleep(2500 * time.Millisecond) // so that it sends its heartbeats just before the lease ends, and long after
		s := p.start(p.a, 1)
		if err := p.gets(p.start(p.a, 2), first.Job, leaseLater); err != nil {
			return err
		}
		return p.gets(s, p.submit(p.a), time.Second) // before its next heartbeat
	}},
	{"the lease is reaped and there is only the worker itself", 0, func(p *couple, first consign.Assignment) error {
		return p.gets(p.start(p.a, 1), first.Job, leaseLater+beatLater)
	}},
}

// elsewhereOn plays one of them: job and worker are the first queue's, and the
// worker's process dies with the job.
func elsewhereOn(t *testing.T, a, b consign.Store, deadline time.Duration, run func(*couple, consign.Assignment) error) error {
	p := newCouple(t, a, b, nil)
	r := benchRequests(1, "m")[0]
	r.Deadline = deadline
	if _, err := p.a.Submitter("acme").Submit(t.Context(), r); err != nil {
		return err
	}
	_, first, err := p.claimAt(p.a, 1, time.Second)
	if err != nil {
		return err
	}
	time.Sleep(4 * time.Second)
	return run(p, first)
}

func TestEndedElsewhere(t *testing.T) {
	for _, c := range elsewhere {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := memdb.New()
				if err := elsewhereOn(t, slow{s}, s, c.deadline, c.run); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A queue that believes what it remembers does none of it.
func TestEndedElsewhereMutant(t *testing.T) {
	for _, c := range elsewhere {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := memdb.New()
				if err := elsewhereOn(t, stale{slow{s}, &sync.Mutex{}, map[consign.JobID]*consign.Job{}}, s, c.deadline, c.run); err == nil {
					t.Error("a queue that sees the past passes")
				}
			})
		})
	}
}
