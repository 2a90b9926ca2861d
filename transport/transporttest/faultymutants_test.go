package transporttest

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/consignq/consign"
)

// Each of these transports does one thing wrong when the network does.

func TestWhatBreaksUnderFaultsIsCaught(t *testing.T) {
	for _, m := range []struct {
		name string
		wrap func(consign.Session) consign.Session
	}{
		{"a completion whose answer was lost is made again under another claim", func(s consign.Session) consign.Session { return renames{s} }},
		{"a completion whose answer was lost is taken for accepted", func(s consign.Session) consign.Session { return assumes{s} }},
		{"an assignment is dropped at a reconnect", func(s consign.Session) consign.Session { return &forgets{Session: s} }},
		{"a report whose answer was lost is made again", func(s consign.Session) consign.Session { return repeatsReport{s} }},
		{"a completion carries another job's result", func(s consign.Session) consign.Session { return &mixes{Session: s} }},
	} {
		suspect(t, m.name, func(mid *Middle) error {
			return faultyWorker(mid, func(b consign.WorkerAPI) consign.WorkerAPI { return sessions{mid.Worker(b), m.wrap} })
		})
	}
	for _, m := range []struct {
		name string
		wrap func(consign.SubmitterAPI) consign.SubmitterAPI
	}{
		{"a submit whose answer was lost is made again under another ID", func(s consign.SubmitterAPI) consign.SubmitterAPI { return renamesJob{s} }},
		{"a submit that was lost is taken for admitted", func(s consign.SubmitterAPI) consign.SubmitterAPI { return assumesJob{s} }},
		{"a job that is awaited is cancelled when the answer is lost", func(s consign.SubmitterAPI) consign.SubmitterAPI { return impatient{s} }},
	} {
		suspect(t, m.name, func(mid *Middle) error {
			return faultySubmitter(mid, func(b consign.SubmitterAPI) consign.SubmitterAPI { return m.wrap(mid.Submitter(b)) })
		})
	}
}

// suspect runs a broken transport in a bubble, where patience costs nothing,
// until one of the networks shows it.
func suspect(t *testing.T, name string, run func(*Middle) error) {
	t.Helper()
	// So many faults, and so often, that each wrong is done, whatever the order of
	// the calls.
	for try := range 10 {
		f := faults{name: "lost", lost: 0.5}
		if try%2 == 1 {
			f = faults{name: "twice", twice: 1}
		}
		var err error
		synctest.Test(t, func(t *testing.T) {
			m := newMiddle(t, f)
			m.random = rand.New(rand.NewPCG(uint64(try), 3)) //nolint:gosec // a test's
			err = run(m)
		})
		if err != nil {
			t.Logf("%s: caught by %q: %.160v", name, f.name, err)
			return
		}
	}
	t.Errorf("%s: not caught", name)
}

type renames struct{ consign.Session }

func (s renames) Complete(ctx context.Context, c consign.Completion) error {
	err := s.Session.Complete(ctx, c)
	if err != nil {
		c.Claim.Claim = consign.NewClaimID()
		err = s.Session.Complete(ctx, c)
	}
	return err
}

type assumes struct{ consign.Session }

func (s assumes) Complete(ctx context.Context, c consign.Completion) error {
	_ = s.Session.Complete(ctx, c)
	return nil
}

type forgets struct {
	consign.Session
	lost atomic.Bool
}

func (s *forgets) Complete(ctx context.Context, c consign.Completion) error {
	err := s.Session.Complete(ctx, c)
	if err != nil {
		s.lost.Store(true)
	}
	return err
}

func (s *forgets) Claim(ctx context.Context) (consign.Assignment, error) {
	a, err := s.Session.Claim(ctx)
	if err == nil && s.lost.Swap(false) {
		return s.Session.Claim(ctx)
	}
	return a, err
}

type repeatsReport struct{ consign.Session }

func (s repeatsReport) Report(ctx context.Context, r consign.Report) error {
	err := s.Session.Report(ctx, r)
	if err != nil {
		err = s.Session.Report(ctx, r)
	}
	return err
}

type mixes struct {
	consign.Session
	last atomic.Pointer[[]byte]
}

func (s *mixes) Complete(ctx context.Context, c consign.Completion) error {
	own := c.Result
	if last := s.last.Swap(&own); last != nil {
		c.Result = *last
	}
	return s.Session.Complete(ctx, c)
}

type renamesJob struct{ consign.SubmitterAPI }

func (s renamesJob) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Submit(ctx, r)
	if err != nil {
		other := r
		other.ID = consign.NewJobID()
		_, _ = s.SubmitterAPI.Submit(ctx, other)
	}
	return job, err
}

type assumesJob struct{ consign.SubmitterAPI }

func (s assumesJob) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Submit(ctx, r)
	if err != nil {
		job, err = consign.JobInfo{ID: r.ID, State: consign.StateQueued, Kind: r.Kind}, nil
	}
	return job, err
}

type impatient struct{ consign.SubmitterAPI }

func (s impatient) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Wait(ctx, id)
	if err != nil {
		_, _ = s.SubmitterAPI.Cancel(ctx, id)
	}
	return job, err
}
