package transporttest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

// A suite that cannot fail is worse than none: each of these transports is
// broken in one way that a real one could be, and has to be caught.

func TestTheIdentityKeepsTheContract(t *testing.T) {
	for _, c := range submitterChecks {
		if err := verdict(t, c, func(api consign.SubmitterAPI) consign.SubmitterAPI { return api }); err != nil {
			t.Errorf("submitter, %s: %v", c.name, err)
		}
	}
	for _, c := range workerChecks {
		if err := verdict(t, c, func(api consign.WorkerAPI) consign.WorkerAPI { return api }); err != nil {
			t.Errorf("worker, %s: %v", c.name, err)
		}
	}
}

func TestBrokenTransportsAreCaught(t *testing.T) {
	caught := 0
	for _, m := range brokenSubmitters {
		caught += hunt(t, submitterChecks, "submitter", m.name, m.dial)
	}
	for _, m := range brokenWorkers {
		caught += hunt(t, workerChecks, "worker", m.name, m.dial)
	}
	k := len(brokenSubmitters) + len(brokenWorkers)
	t.Logf("%d of %d caught", caught, k)
	if caught != k {
		t.Errorf("%d of %d broken transports were caught", caught, k)
	}
}

// verdict runs a check in a bubble, where patience costs nothing.
func verdict[API any](t *testing.T, c check[API], dial func(API) API) (err error) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		e := &env[API]{dial: dial, end: make(chan struct{})}
		err = c.run(e)
		close(e.end)
	})
	return err
}

func hunt[API any](t *testing.T, checks []check[API], face, name string, dial func(API) API) int {
	t.Helper()
	for _, c := range checks {
		if err := verdict(t, c, dial); err != nil {
			t.Logf("%-9s %-45s caught by %q: %.120v", face, name, c.name, err)
			return 1
		}
	}
	t.Errorf("%s, %s: not caught", face, name)
	return 0
}

type brokenSubmitter struct {
	name string
	dial func(consign.SubmitterAPI) consign.SubmitterAPI
}

// lying keeps an error's text alone.
func lying(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}

var brokenSubmitters = []brokenSubmitter{
	{"errors lose their type", func(b consign.SubmitterAPI) consign.SubmitterAPI { return untyped{b} }},
	{"errors lose what happened", func(b consign.SubmitterAPI) consign.SubmitterAPI { return terse{b} }},
	{"one error becomes another", func(b consign.SubmitterAPI) consign.SubmitterAPI { return confused{b} }},
	{"a FieldError loses its fields", func(b consign.SubmitterAPI) consign.SubmitterAPI { return fieldless{b} }},
	{"a TransitionError loses its job", func(b consign.SubmitterAPI) consign.SubmitterAPI { return jobless{b} }},
	{"labels are forgotten", func(b consign.SubmitterAPI) consign.SubmitterAPI { return labelless{b} }},
	{"times lose their microseconds", func(b consign.SubmitterAPI) consign.SubmitterAPI { return coarse{b} }},
	{"payloads end at 1 MiB", func(b consign.SubmitterAPI) consign.SubmitterAPI { return short{b} }},
	{"outcomes come in another order", func(b consign.SubmitterAPI) consign.SubmitterAPI { return shuffled{b} }},
	{"one bad request fails all", func(b consign.SubmitterAPI) consign.SubmitterAPI { return allOrNothing{b} }},
	{"a submit is sent twice", func(b consign.SubmitterAPI) consign.SubmitterAPI { return resubmits{b} }},
	{"Wait gives up after a poll", func(b consign.SubmitterAPI) consign.SubmitterAPI { return polls{b} }},
	{"Wait does not heed its context", func(b consign.SubmitterAPI) consign.SubmitterAPI { return deafWait{b} }},
	{"a cancelled Wait goes on at the backend", func(b consign.SubmitterAPI) consign.SubmitterAPI { return leakyWait{b} }},
	{"a cancelled Wait forgets the job", func(b consign.SubmitterAPI) consign.SubmitterAPI { return emptyWait{b} }},
	{"Wait says cancelled for a deadline", func(b consign.SubmitterAPI) consign.SubmitterAPI { return wrongEnd{b} }},
	{"events start over", func(b consign.SubmitterAPI) consign.SubmitterAPI { return fromStart{b} }},
	{"events come in another order", func(b consign.SubmitterAPI) consign.SubmitterAPI { return swapped{b} }},
	{"an event is dropped under load", func(b consign.SubmitterAPI) consign.SubmitterAPI { return dropping{b} }},
	{"events wait for the end of the job", func(b consign.SubmitterAPI) consign.SubmitterAPI { return buffered{b} }},
	{"a cut of the events looks like their end", func(b consign.SubmitterAPI) consign.SubmitterAPI { return silent{b} }},
	{"events that were left go on at the backend", func(b consign.SubmitterAPI) consign.SubmitterAPI { return unstoppable{b} }},
	{"Submit does not heed its context", func(b consign.SubmitterAPI) consign.SubmitterAPI { return deafSubmit{b} }},
	{"one call at a time", func(b consign.SubmitterAPI) consign.SubmitterAPI {
		return oneAtATime{b, make(chan struct{}, 1)}
	}},
}

type untyped struct{ consign.SubmitterAPI }

func (s untyped) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Get(ctx, id)
	return job, lying(err)
}

type terse struct{ consign.SubmitterAPI }

func (s terse) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	x, err := s.SubmitterAPI.Explain(ctx, id)
	if errors.Is(err, consign.ErrNotFound) {
		err = consign.ErrNotFound
	}
	return x, err
}

type confused struct{ consign.SubmitterAPI }

func (s confused) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Submit(ctx, r)
	if errors.Is(err, consign.ErrIDTaken) {
		err = consign.ErrConflict // both are a 409
	}
	return job, err
}

type fieldless struct{ consign.SubmitterAPI }

func (s fieldless) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	q, err := s.SubmitterAPI.Quote(ctx, r)
	if f, ok := errors.AsType[*consign.FieldError](err); ok {
		err = &consign.FieldError{Field: f.Field, Problem: f.Error()}
	}
	return q, err
}

type jobless struct{ consign.SubmitterAPI }

func (s jobless) Acknowledge(ctx context.Context, id consign.JobID) error {
	err := s.SubmitterAPI.Acknowledge(ctx, id)
	if f, ok := errors.AsType[*consign.TransitionError](err); ok {
		err = &consign.TransitionError{State: f.State, Event: f.Event}
	}
	return err
}

type labelless struct{ consign.SubmitterAPI }

func (s labelless) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	r.Labels = nil
	return s.SubmitterAPI.Submit(ctx, r)
}

type coarse struct{ consign.SubmitterAPI }

func (s coarse) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Get(ctx, id)
	job.EndedAt = job.EndedAt.Truncate(time.Second)
	return job, err
}

type short struct{ consign.SubmitterAPI }

func (s short) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	r.Payload = r.Payload[:min(len(r.Payload), 1<<20)]
	return s.SubmitterAPI.Submit(ctx, r)
}

type shuffled struct{ consign.SubmitterAPI }

func (s shuffled) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	out := s.SubmitterAPI.SubmitMany(ctx, rs)
	slices.Reverse(out)
	return out
}

type allOrNothing struct{ consign.SubmitterAPI }

func (s allOrNothing) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	out := s.SubmitterAPI.SubmitMany(ctx, rs)
	for _, o := range out {
		if o.Err != nil {
			for i := range out {
				out[i] = o
			}
		}
	}
	return out
}

type resubmits struct{ consign.SubmitterAPI }

func (s resubmits) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	_, _ = s.SubmitterAPI.Submit(ctx, r)
	return s.SubmitterAPI.Submit(ctx, r) // without an ID that is another job
}

type polls struct{ consign.SubmitterAPI }

func (s polls) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	short, cancel := context.WithTimeout(ctx, moment/2)
	defer cancel()
	job, err := s.SubmitterAPI.Wait(short, id)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return job, err
}

type deafWait struct{ consign.SubmitterAPI }

func (s deafWait) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return s.SubmitterAPI.Wait(context.WithoutCancel(ctx), id)
}

type leakyWait struct{ consign.SubmitterAPI }

func (s leakyWait) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	type answer struct {
		job consign.JobInfo
		err error
	}
	c := make(chan answer, 1)
	go func() {
		job, err := s.SubmitterAPI.Wait(context.WithoutCancel(ctx), id)
		c <- answer{job, err}
	}()
	select {
	case a := <-c:
		return a.job, a.err
	case <-ctx.Done():
		return consign.JobInfo{ID: id, State: consign.StateRunning}, ctx.Err()
	}
}

type emptyWait struct{ consign.SubmitterAPI }

func (s emptyWait) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Wait(ctx, id)
	if err != nil {
		job = consign.JobInfo{}
	}
	return job, err
}

type wrongEnd struct{ consign.SubmitterAPI }

func (s wrongEnd) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, err := s.SubmitterAPI.Wait(ctx, id)
	if ctx.Err() != nil {
		err = context.Canceled
	}
	return job, err
}

// entries is a stream.
type entries = iter.Seq2[consign.LogEntry, error]

type fromStart struct{ consign.SubmitterAPI }

func (s fromStart) Events(ctx context.Context, id consign.JobID, _ consign.Seq) entries {
	return s.SubmitterAPI.Events(ctx, id, 0)
}

type swapped struct{ consign.SubmitterAPI }

func (s swapped) Events(ctx context.Context, id consign.JobID, after consign.Seq) entries {
	return func(yield func(consign.LogEntry, error) bool) {
		var kept []consign.LogEntry
		n := 0
		for e, err := range s.SubmitterAPI.Events(ctx, id, after) {
			if n++; err == nil && n == 60 {
				kept = append(kept, e)
				continue
			}
			if !yield(e, err) {
				return
			}
			for _, e := range kept {
				if !yield(e, nil) {
					return
				}
			}
			kept = nil
		}
	}
}

type dropping struct{ consign.SubmitterAPI }

func (s dropping) Events(ctx context.Context, id consign.JobID, after consign.Seq) entries {
	return func(yield func(consign.LogEntry, error) bool) {
		n := 0
		for e, err := range s.SubmitterAPI.Events(ctx, id, after) {
			if n++; n != 64 && !yield(e, err) {
				return
			}
		}
	}
}

type buffered struct{ consign.SubmitterAPI }

func (s buffered) Events(ctx context.Context, id consign.JobID, after consign.Seq) entries {
	return func(yield func(consign.LogEntry, error) bool) {
		var all []consign.LogEntry
		var failed error
		for e, err := range s.SubmitterAPI.Events(ctx, id, after) {
			if failed = err; err != nil {
				break
			}
			all = append(all, e)
		}
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if failed != nil {
			yield(consign.LogEntry{}, failed)
		}
	}
}

type silent struct{ consign.SubmitterAPI }

func (s silent) Events(ctx context.Context, id consign.JobID, after consign.Seq) entries {
	return func(yield func(consign.LogEntry, error) bool) {
		n := 0
		for e, err := range s.SubmitterAPI.Events(ctx, id, after) {
			if n++; err != nil && n > 1 || ctx.Err() != nil || !yield(e, err) {
				return
			}
		}
	}
}

type unstoppable struct{ consign.SubmitterAPI }

func (s unstoppable) Events(ctx context.Context, id consign.JobID, after consign.Seq) entries {
	type item struct {
		e   consign.LogEntry
		err error
	}
	return func(yield func(consign.LogEntry, error) bool) {
		pump := make(chan item, 100_000)
		go func() {
			defer close(pump)
			for e, err := range s.SubmitterAPI.Events(ctx, id, after) {
				pump <- item{e, err}
			}
		}()
		for i := range pump {
			if !yield(i.e, i.err) {
				return
			}
		}
	}
}

type deafSubmit struct{ consign.SubmitterAPI }

func (s deafSubmit) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	return s.SubmitterAPI.Submit(context.WithoutCancel(ctx), r)
}

type oneAtATime struct {
	consign.SubmitterAPI
	turn chan struct{}
}

func (s oneAtATime) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return s.SubmitterAPI.Wait(ctx, id)
	}
	defer func() { <-s.turn }()
	return s.SubmitterAPI.Wait(ctx, id)
}

type brokenWorker struct {
	name string
	dial func(consign.WorkerAPI) consign.WorkerAPI
}

// sessions wraps each session of a backend.
type sessions struct {
	consign.WorkerAPI
	wrap func(consign.Session) consign.Session
}

func (s sessions) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	session, err := s.WorkerAPI.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	return s.wrap(session), nil
}

func wraps(f func(consign.Session) consign.Session) func(consign.WorkerAPI) consign.WorkerAPI {
	return func(b consign.WorkerAPI) consign.WorkerAPI { return sessions{b, f} }
}

var brokenWorkers = []brokenWorker{
	{"Register forgets the key bundle", func(b consign.WorkerAPI) consign.WorkerAPI { return bundleless{b} }},
	{"ErrRemoved loses its type", func(b consign.WorkerAPI) consign.WorkerAPI { return unremoved{b} }},
	{"a lost lease is any error", wraps(func(s consign.Session) consign.Session { return leaseless{s} })},
	{"an ended session is any error", wraps(func(s consign.Session) consign.Session { return sessionless{s} })},
	{"lost claims are not told", wraps(func(s consign.Session) consign.Session { return lostless{s} })},
	{"rates are forgotten", wraps(func(s consign.Session) consign.Session { return rateless{s} })},
	{"the limit is forgotten", wraps(func(s consign.Session) consign.Session { return limitless{s} })},
	{"results end at 4 MiB", wraps(func(s consign.Session) consign.Session { return shortResult{s} })},
	{"Claim times out without a job", wraps(func(s consign.Session) consign.Session { return hasty{s} })},
	{"Claim does not heed its context", wraps(func(s consign.Session) consign.Session { return deafClaim{s} })},
	{"an abandoned claim is lost", wraps(func(s consign.Session) consign.Session { return loses{s} })},
	{"a cancelled Claim goes on at the backend", wraps(func(s consign.Session) consign.Session { return leakyClaim{s} })},
	{"jobs are fetched ahead", wraps(func(s consign.Session) consign.Session { return &prefetch{Session: s} })},
	{"an assignment is delivered twice", wraps(func(s consign.Session) consign.Session { return &repeats{Session: s} })},
	{"reports overtake each other", wraps(func(s consign.Session) consign.Session { return &overtakes{Session: s} })},
	{"a report is sent twice", wraps(func(s consign.Session) consign.Session { return &doubles{Session: s} })},
	{"parts of a report are reversed", wraps(func(s consign.Session) consign.Session { return reverses{s} })},
	{"a completion is resent with other bytes", wraps(func(s consign.Session) consign.Session { return rewrites{s} })},
	{"a conflict is taken for a success", wraps(func(s consign.Session) consign.Session { return agrees{s} })},
	{"a completion is acknowledged early", wraps(func(s consign.Session) consign.Session { return early{s} })},
	{"Fail does not heed its context", wraps(func(s consign.Session) consign.Session { return deafFail{s} })},
	{"claims hold everything up", wraps(func(s consign.Session) consign.Session { return serial{s, make(chan struct{}, 1)} })},
	{"the last session serves all", func(b consign.WorkerAPI) consign.WorkerAPI { return &shared{WorkerAPI: b} }},
	{"the end of one session ends all", func(b consign.WorkerAPI) consign.WorkerAPI { return &fate{WorkerAPI: b} }},
}

type bundleless struct{ consign.WorkerAPI }

func (b bundleless) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	r.KeyBundle = nil
	return b.WorkerAPI.Register(ctx, r)
}

type unremoved struct{ consign.WorkerAPI }

func (b unremoved) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := b.WorkerAPI.Register(ctx, r)
	if errors.Is(err, consign.ErrRemoved) {
		err = lying(err)
	}
	return s, err
}

type leaseless struct{ consign.Session }

func (s leaseless) Report(ctx context.Context, r consign.Report) error {
	return lying(s.Session.Report(ctx, r))
}

type sessionless struct{ consign.Session }

func (s sessionless) Release(ctx context.Context, r consign.Release) error {
	err := s.Session.Release(ctx, r)
	if errors.Is(err, consign.ErrSession) {
		err = lying(err)
	}
	return err
}

type lostless struct{ consign.Session }

func (s lostless) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	reply, err := s.Session.Heartbeat(ctx, h)
	reply.Lost = nil
	return reply, err
}

type rateless struct{ consign.Session }

func (s rateless) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	h.Rates = nil
	return s.Session.Heartbeat(ctx, h)
}

type limitless struct{ consign.Session }

func (s limitless) Claim(ctx context.Context) (consign.Assignment, error) {
	a, err := s.Session.Claim(ctx)
	a.Limit = 0
	return a, err
}

type shortResult struct{ consign.Session }

func (s shortResult) Complete(ctx context.Context, c consign.Completion) error {
	c.Result = c.Result[:min(len(c.Result), 4<<20)]
	return s.Session.Complete(ctx, c)
}

type hasty struct{ consign.Session }

func (s hasty) Claim(ctx context.Context) (consign.Assignment, error) {
	short, cancel := context.WithTimeout(ctx, moment)
	defer cancel()
	return s.Session.Claim(short)
}

type deafClaim struct{ consign.Session }

func (s deafClaim) Claim(ctx context.Context) (consign.Assignment, error) {
	return s.Session.Claim(context.WithoutCancel(ctx))
}

// loses is what a handler does that looks at its request's context first.
type loses struct{ consign.Session }

func (s loses) Claim(ctx context.Context) (consign.Assignment, error) {
	a, err := s.Session.Claim(ctx)
	if ctx.Err() != nil {
		return consign.Assignment{}, ctx.Err()
	}
	return a, err
}

type leakyClaim struct{ consign.Session }

func (s leakyClaim) Claim(ctx context.Context) (consign.Assignment, error) {
	type answer struct {
		a   consign.Assignment
		err error
	}
	c := make(chan answer, 1)
	go func() {
		a, err := s.Session.Claim(context.WithoutCancel(ctx))
		c <- answer{a, err}
	}()
	select {
	case got := <-c:
		return got.a, got.err
	case <-ctx.Done():
		return consign.Assignment{}, ctx.Err()
	}
}

type prefetch struct {
	consign.Session
	mu    sync.Mutex
	ahead []consign.Assignment
}

func (s *prefetch) Claim(ctx context.Context) (consign.Assignment, error) {
	s.mu.Lock()
	if n := len(s.ahead); n > 0 {
		a := s.ahead[0]
		s.ahead = s.ahead[1:]
		s.mu.Unlock()
		return a, nil
	}
	s.mu.Unlock()
	a, err := s.Session.Claim(ctx)
	if err == nil {
		short, cancel := context.WithTimeout(ctx, moment/10)
		defer cancel()
		if next, err := s.Session.Claim(short); err == nil {
			s.mu.Lock()
			s.ahead = append(s.ahead, next)
			s.mu.Unlock()
		}
	}
	return a, err
}

type repeats struct {
	consign.Session
	mu   sync.Mutex
	last *consign.Assignment
}

func (s *repeats) Claim(ctx context.Context) (consign.Assignment, error) {
	s.mu.Lock()
	if last := s.last; last != nil {
		s.last = nil
		s.mu.Unlock()
		return *last, nil
	}
	s.mu.Unlock()
	a, err := s.Session.Claim(ctx)
	if err == nil {
		s.mu.Lock()
		s.last = &a
		s.mu.Unlock()
	}
	return a, err
}

type overtakes struct {
	consign.Session
	n    int
	kept *consign.Report
}

func (s *overtakes) Report(ctx context.Context, r consign.Report) error {
	if s.n++; s.n%10 == 5 {
		s.kept = &r
		return nil
	}
	err := s.Session.Report(ctx, r)
	if s.kept != nil {
		err = errors.Join(err, s.Session.Report(ctx, *s.kept))
		s.kept = nil
	}
	return err
}

type doubles struct {
	consign.Session
	n int
}

func (s *doubles) Report(ctx context.Context, r consign.Report) error {
	if s.n++; s.n == 77 {
		_ = s.Session.Report(ctx, r) // its answer was lost
	}
	return s.Session.Report(ctx, r)
}

type reverses struct{ consign.Session }

func (s reverses) Report(ctx context.Context, r consign.Report) error {
	r.Items = slices.Clone(r.Items)
	slices.Reverse(r.Items)
	return s.Session.Report(ctx, r)
}

// rewrites is what a codec does that reads the record and writes it again.
type rewrites struct{ consign.Session }

func (s rewrites) Complete(ctx context.Context, c consign.Completion) error {
	c.Record = fmt.Appendf(nil, "{\"payload\":\"e30=\",\"n\":%d}", len(c.Record))
	return s.Session.Complete(ctx, c)
}

type agrees struct{ consign.Session }

func (s agrees) Complete(ctx context.Context, c consign.Completion) error {
	if err := s.Session.Complete(ctx, c); !errors.Is(err, consign.ErrConflict) {
		return err
	}
	return nil
}

type early struct{ consign.Session }

func (s early) Complete(ctx context.Context, c consign.Completion) error {
	done := make(chan error, 1)
	go func() { done <- s.Session.Complete(ctx, c) }()
	select {
	case err := <-done:
		return err
	case <-time.After(moment / 2):
		return nil // it is on its way
	}
}

type deafFail struct{ consign.Session }

func (s deafFail) Fail(ctx context.Context, f consign.Failure) error {
	return s.Session.Fail(context.WithoutCancel(ctx), f)
}

type serial struct {
	consign.Session
	turn chan struct{}
}

func (s serial) lock(ctx context.Context) (func(), error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s serial) Claim(ctx context.Context) (consign.Assignment, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return consign.Assignment{}, err
	}
	defer unlock()
	return s.Session.Claim(ctx)
}

func (s serial) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return consign.HeartbeatReply{}, err
	}
	defer unlock()
	return s.Session.Heartbeat(ctx, h)
}

// shared keeps one session per connection.
type shared struct {
	consign.WorkerAPI
	last consign.Session
}

type follows struct {
	consign.Session
	s *shared
}

func (f follows) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	return f.s.last.Heartbeat(ctx, h)
}

func (s *shared) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	session, err := s.WorkerAPI.Register(ctx, r)
	if err == nil {
		s.last = session
	}
	return follows{session, s}, err
}

// fate ends every session with the first that ends.
type fate struct {
	consign.WorkerAPI
	mu    sync.Mutex
	ended bool
}

type tied struct {
	consign.Session
	f *fate
}

func (s *fate) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	session, err := s.WorkerAPI.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	return tied{session, s}, nil
}

func (t tied) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	t.f.mu.Lock()
	ended := t.f.ended
	t.f.mu.Unlock()
	if ended {
		return consign.HeartbeatReply{}, consign.ErrSession
	}
	reply, err := t.Session.Heartbeat(ctx, h)
	if errors.Is(err, consign.ErrSession) {
		t.f.mu.Lock()
		t.f.ended = true
		t.f.mu.Unlock()
	}
	return reply, err
}
