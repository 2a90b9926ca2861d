package queuetest

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/consignq/consign"
)

// The faults of others, as stores that have them, on whatever store.

// altering is a store that alters changes on their way.
type altering struct {
	consign.Store
	alter func(ctx context.Context, c *consign.Change)
}

func (s altering) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	altered := append([]consign.Change{}, changes...)
	for i := range altered {
		s.alter(ctx, &altered[i])
	}
	return s.Store.Apply(ctx, altered)
}

// jobs is a store that alters the jobs that it writes.
func jobs(s consign.Store, alter func(j *consign.Job)) consign.Store {
	return altering{s, func(_ context.Context, c *consign.Change) {
		if c.Job != nil {
			job := *c.Job
			alter(&job)
			c.Job = &job
		}
	}}
}

// regardless is a store that writes what follows from some events whatever is
// there.
func regardless(s consign.Store, kinds ...consign.EventKind) consign.Store {
	return altering{s, func(ctx context.Context, c *consign.Change) {
		for _, kind := range kinds {
			if !about(kind)(call{changes: []consign.Change{*c}}) {
				continue
			}
			if there, err := s.Jobs(ctx, []consign.JobID{c.Job.ID}); err == nil && there[0] != nil {
				job := *c.Job
				job.Version = there[0].Version + 1
				c.Job, c.Guard = &job, nil
			}
		}
	}}
}

// overwriting believes its own coordinator that a lease is over, or a job there.
func overwriting(s consign.Store) consign.Store {
	return regardless(s, consign.EventLeaseLost, consign.EventClaim)
}

// anyClaim believes it that a worker has a claim.
func anyClaim(s consign.Store) consign.Store {
	return regardless(s, consign.EventComplete, consign.EventFail, consign.EventRelease)
}

// sinceEpoch takes no time for the beginning of time.
func sinceEpoch(s consign.Store) consign.Store {
	return jobs(s, func(j *consign.Job) {
		if j.DueAt == 0 {
			j.DueAt, j.QueueUntil = 1, 1
		}
	})
}

// hasty forgets delays.
func hasty(s consign.Store) consign.Store {
	return jobs(s, func(j *consign.Job) { j.ReadyAt = j.CreatedAt })
}

// lenient forgets what counts against workers.
func lenient(s consign.Store) consign.Store {
	return altering{s, func(_ context.Context, c *consign.Change) {
		if about(consign.EventReject)(call{changes: []consign.Change{*c}}) {
			c.Effects = nil
		}
	}}
}

// few gives no more than the first 256 of what time has done.
type few struct{ consign.Store }

func fewDue(s consign.Store) consign.Store { return few{s} }

func (s few) Due(ctx context.Context, now consign.Instant, n int) ([]*consign.Job, consign.Instant, error) {
	due, _, err := s.Store.Due(ctx, now, min(n, 256))
	return due, 0, err
}

func (s few) Lapsed(ctx context.Context, n int) ([]*consign.Job, error) {
	return s.Store.Lapsed(ctx, min(n, 256))
}

// stops lists lanes as far as it understands them.
type stops struct{ consign.Store }

func stopping(s consign.Store) consign.Store { return stops{s} }

func (s stops) Lanes(ctx context.Context) ([]consign.LaneHead, error) {
	heads, err := s.Store.Lanes(ctx)
	for i, h := range heads {
		if strings.HasPrefix(h.Lane, "%%%") {
			return heads[:i], err
		}
	}
	return heads, err
}

// aborts takes no change any more after one that it could not write.
type aborts struct {
	consign.Store
	failed atomic.Bool
}

func aborted(s consign.Store) consign.Store { return &aborts{Store: s} }

func (s *aborts) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	if s.failed.Load() {
		return nil, errPlanted
	}
	outcomes, err := s.Store.Apply(ctx, changes)
	for _, outcome := range outcomes {
		if outcome == errPlanted {
			s.failed.Store(true)
		}
	}
	return outcomes, err
}

// assures says that it has renewed whatever it is told to.
type assures struct{ consign.Store }

func assuring(s consign.Store) consign.Store { return assures{s} }

func (s assures) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	_, err := s.Store.Renew(ctx, renewals)
	return make([]error, len(renewals)), err
}

// renewsFew renews the first hundred.
type renewsFew struct{ consign.Store }

func fewRenewed(s consign.Store) consign.Store { return renewsFew{s} }

func (s renewsFew) Renew(ctx context.Context, renewals []consign.Renewal) ([]error, error) {
	_, err := s.Store.Renew(ctx, renewals[:min(100, len(renewals))])
	return make([]error, len(renewals)), err
}

// forgets whose claim a job had that has ended.
type forgets struct{ consign.Store }

func claimless(s consign.Store) consign.Store { return forgets{s} }

func (s forgets) Jobs(ctx context.Context, ids []consign.JobID) ([]*consign.Job, error) {
	found, err := s.Store.Jobs(ctx, ids)
	for i, j := range found {
		if j != nil && j.State.Terminal() {
			job := *j
			job.Claim = consign.ClaimID{}
			found[i] = &job
		}
	}
	return found, err
}

// loses results.
type loses struct{ consign.Store }

func forgetful(s consign.Store) consign.Store { return loses{s} }

func (s loses) Done(context.Context, consign.JobID) (*consign.Done, error) { return nil, nil }

// answersEarly answers, and then commits.
type answersEarly struct{ consign.Store }

func early(s consign.Store) consign.Store { return answersEarly{s} }

func (s answersEarly) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	go s.Store.Apply(context.WithoutCancel(ctx), changes) //nolint:errcheck // which is the fault
	return make([]error, len(changes)), nil
}
