package faults

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// recordedWorkers is a queue as workers meet it, whose claims and completions
// are recorded.
type recordedWorkers struct {
	consign.WorkerAPI
	record func(call)
}

// Origin is the address that was dialled.
func (w *recordedWorkers) Origin() string {
	return w.WorkerAPI.(interface{ Origin() string }).Origin()
}

func (w *recordedWorkers) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := w.WorkerAPI.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	return &recordedSession{Session: s, record: w.record, claims: map[*asked]bool{}}, nil
}

type recordedSession struct {
	consign.Session
	record func(call)

	mu     sync.Mutex
	lost   int64           // when the first claim began whose answer may be one that comes later; zero: none
	claims map[*asked]bool // without an answer, or refused lately
}

// asked is a call of Claim. Calls travel together, and it does not matter which
// gets which answer: one that began later may get the job that was handed out
// for this one.
type asked struct{ since, refused int64 }

// owedFor is how long the answer to one call may be on its way to another.
const owedFor = int64(5 * time.Second)

func (s *recordedSession) Claim(ctx context.Context) (consign.Assignment, error) {
	began := now()
	mine := &asked{since: began}
	s.mu.Lock()
	for other := range s.claims {
		if other.refused != 0 && other.refused < began-owedFor {
			delete(s.claims, other)
		} else {
			mine.since = min(mine.since, max(other.since, began-owedFor))
		}
	}
	if s.lost != 0 {
		mine.since = min(mine.since, s.lost)
	}
	s.claims[mine] = true
	s.mu.Unlock()

	a, err := s.Session.Claim(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		delete(s.claims, mine)
		s.record(call{Action: claim, Outcome: acknowledged, Job: a.Job, Claim: a.Claim, Began: mine.since, Ended: now()})
		return a, nil
	}
	mine.refused = now()
	if outcomeOf(err) == unknown && !errors.Is(err, consign.ErrSession) && !errors.Is(err, consign.ErrBusy) && s.lost == 0 {
		s.lost = mine.since
	}
	return a, err
}

func (s *recordedSession) Complete(ctx context.Context, c consign.Completion) error {
	began := now()
	err := s.Session.Complete(ctx, c)
	o := outcomeOf(err)
	s.record(call{Action: complete, Outcome: o, Job: c.Job, Claim: c.Claim.Claim, Result: digest(c.Result), Began: began, Ended: ended(o), Said: said(err)})
	return err
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// submitter submits, looks and cancels, and records it.
type submitter struct {
	api    consign.SubmitterAPI
	record func(call)
}

// callTimeout bounds a call of a submitter; what has no answer by then is
// asked again.
const callTimeout = 2 * time.Second

// submit submits a job until it is acknowledged, or ctx is done.
func (s *submitter) submit(ctx context.Context, r consign.SubmitRequest) bool {
	return s.until(ctx, func(ctx context.Context) bool {
		began := now()
		_, err := s.api.Submit(ctx, r)
		o := outcomeOf(err)
		s.record(call{Action: submit, Outcome: o, Job: r.ID, Began: began, Ended: ended(o), Said: said(err)})
		return o != unknown
	})
}

// cancel cancels a job, unless it is too late.
func (s *submitter) cancel(ctx context.Context, id consign.JobID) {
	s.until(ctx, func(ctx context.Context) bool {
		began := now()
		_, err := s.api.Cancel(ctx, id)
		o := outcomeOf(err)
		s.record(call{Action: cancel, Outcome: o, Job: id, Began: began, Ended: ended(o), Said: said(err)})
		return o != unknown
	})
}

// get looks at a job once, or waits for its end.
func (s *submitter) get(ctx context.Context, id consign.JobID, wait bool) (done bool) {
	return s.until(ctx, func(ctx context.Context) bool {
		began, ask := now(), s.api.Get
		if wait {
			ask = s.api.Wait
		}
		info, err := ask(ctx, id)
		o := outcomeOf(err)
		if o == unknown {
			return false // it changes nothing, and nobody knows more
		}
		c := call{Action: get, Outcome: o, Job: id, State: info.State, Began: began, Ended: now(), Said: said(err)}
		if info.State == consign.StateRunning || info.State == consign.StateCompleted {
			c.Claim = info.Claim
		}
		if info.State == consign.StateCompleted {
			c.Result = digest(info.Result)
		}
		s.record(c)
		return true
	})
}

// until calls f until it returns true or ctx is done.
func (s *submitter) until(ctx context.Context, f func(context.Context) bool) bool {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		done := f(limited)
		cancel()
		if done {
			return true
		}
		sleep(ctx, 20*time.Millisecond)
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
