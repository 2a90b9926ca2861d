package testkit

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// Call is one call to a faulty API.
type Call struct {
	Method string // "Submit", "Heartbeat", ...
	N      int    // how often this method was called before
}

// Fault is what happens to a call. The zero Fault is none. A Delay comes
// first; a call whose context ends in it was not carried out.
type Fault struct {
	Delay time.Duration
	Lose  error // the call is not carried out, and this is its answer
	Drop  error // the call is carried out, but this is its answer
	Twice bool  // the call is carried out twice; the second answer counts
	Late  time.Duration
	// Cut ends a stream of events with this error after After entries.
	Cut   error
	After int
}

// Faults decides what happens to each call. It is called from many goroutines,
// one at a time.
type Faults func(Call) Fault

type faults struct {
	decide Faults
	mu     sync.Mutex
	n      map[string]int
}

func newFaults(decide Faults) *faults { return &faults{decide: decide, n: make(map[string]int)} }

func (f *faults) next(method string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := Call{Method: method, N: f.n[method]}
	f.n[method]++
	return f.decide(c)
}

func inject[T any](ctx context.Context, f *faults, method string, call func() (T, error)) (T, error) {
	var none T
	fault := f.next(method)
	if err := pause(ctx, fault.Delay); err != nil {
		return none, err
	}
	if fault.Lose != nil {
		return none, fault.Lose
	}
	v, err := call()
	if fault.Twice {
		v, err = call()
	}
	if err := pause(ctx, fault.Late); err != nil {
		return none, err
	}
	if fault.Drop != nil {
		return none, fault.Drop
	}
	return v, err
}

func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func inject0(ctx context.Context, f *faults, method string, call func() error) error {
	_, err := inject(ctx, f, method, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// FaultyWorker returns api with faults.
func FaultyWorker(api consign.WorkerAPI, decide Faults) consign.WorkerAPI {
	return &faultyWorker{api: api, f: newFaults(decide)}
}

type faultyWorker struct {
	api consign.WorkerAPI
	f   *faults
}

func (w *faultyWorker) Challenge(ctx context.Context) (consign.Challenge, error) {
	return inject(ctx, w.f, "Challenge", func() (consign.Challenge, error) { return w.api.Challenge(ctx) })
}

func (w *faultyWorker) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	return inject(ctx, w.f, "Register", func() (consign.Session, error) {
		s, err := w.api.Register(ctx, r)
		if err != nil {
			return nil, err
		}
		return &faultySession{s: s, f: w.f}, nil
	})
}

type faultySession struct {
	s consign.Session
	f *faults
}

func (s *faultySession) Heartbeat(ctx context.Context, h consign.Heartbeat) (consign.HeartbeatReply, error) {
	return inject(ctx, s.f, "Heartbeat", func() (consign.HeartbeatReply, error) { return s.s.Heartbeat(ctx, h) })
}

func (s *faultySession) Claim(ctx context.Context) (consign.Assignment, error) {
	return inject(ctx, s.f, "Claim", func() (consign.Assignment, error) { return s.s.Claim(ctx) })
}

func (s *faultySession) Report(ctx context.Context, r consign.Report) error {
	return inject0(ctx, s.f, "Report", func() error { return s.s.Report(ctx, r) })
}

func (s *faultySession) Complete(ctx context.Context, c consign.Completion) error {
	return inject0(ctx, s.f, "Complete", func() error { return s.s.Complete(ctx, c) })
}

func (s *faultySession) Fail(ctx context.Context, f consign.Failure) error {
	return inject0(ctx, s.f, "Fail", func() error { return s.s.Fail(ctx, f) })
}

func (s *faultySession) Release(ctx context.Context, r consign.Release) error {
	return inject0(ctx, s.f, "Release", func() error { return s.s.Release(ctx, r) })
}

func (s *faultySession) ClaimPairing(ctx context.Context, code string) (consign.Pairing, error) {
	return inject(ctx, s.f, "ClaimPairing", func() (consign.Pairing, error) { return s.s.ClaimPairing(ctx, code) })
}

// FaultySubmitter returns api with faults.
func FaultySubmitter(api consign.SubmitterAPI, decide Faults) consign.SubmitterAPI {
	return &faultySubmitter{api: api, f: newFaults(decide)}
}

type faultySubmitter struct {
	api consign.SubmitterAPI
	f   *faults
}

func (s *faultySubmitter) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	return inject(ctx, s.f, "Quote", func() (consign.Quote, error) { return s.api.Quote(ctx, r) })
}

func (s *faultySubmitter) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	return inject(ctx, s.f, "Submit", func() (consign.JobInfo, error) { return s.api.Submit(ctx, r) })
}

func (s *faultySubmitter) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	out, err := inject(ctx, s.f, "SubmitMany", func() ([]consign.SubmitOutcome, error) { return s.api.SubmitMany(ctx, rs), nil })
	if err != nil {
		out = make([]consign.SubmitOutcome, len(rs))
		for i := range out {
			out[i].Err = err
		}
	}
	return out
}

func (s *faultySubmitter) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return inject(ctx, s.f, "Get", func() (consign.JobInfo, error) { return s.api.Get(ctx, id) })
}

func (s *faultySubmitter) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return inject(ctx, s.f, "Wait", func() (consign.JobInfo, error) { return s.api.Wait(ctx, id) })
}

func (s *faultySubmitter) Events(ctx context.Context, id consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(yield func(consign.LogEntry, error) bool) {
		fault := s.f.next("Events")
		n := 0
		for e, err := range s.api.Events(ctx, id, after) {
			if fault.Cut != nil && n == fault.After {
				yield(consign.LogEntry{}, fault.Cut)
				return
			}
			n++
			if !yield(e, err) {
				return
			}
		}
		if fault.Cut != nil {
			yield(consign.LogEntry{}, fault.Cut)
		}
	}
}

func (s *faultySubmitter) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return inject(ctx, s.f, "Cancel", func() (consign.JobInfo, error) { return s.api.Cancel(ctx, id) })
}

func (s *faultySubmitter) Acknowledge(ctx context.Context, id consign.JobID) error {
	return inject0(ctx, s.f, "Acknowledge", func() error { return s.api.Acknowledge(ctx, id) })
}

func (s *faultySubmitter) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	return inject(ctx, s.f, "Receipt", func() (consign.Receipt, error) { return s.api.Receipt(ctx, id) })
}

func (s *faultySubmitter) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	return inject(ctx, s.f, "Explain", func() (consign.Explanation, error) { return s.api.Explain(ctx, id) })
}

func (s *faultySubmitter) Keys(ctx context.Context) (consign.Keys, error) {
	return inject(ctx, s.f, "Keys", func() (consign.Keys, error) { return s.api.Keys(ctx) })
}

func (s *faultySubmitter) NewPairing(ctx context.Context, key []byte) (consign.PairingCode, error) {
	return inject(ctx, s.f, "NewPairing", func() (consign.PairingCode, error) { return s.api.NewPairing(ctx, key) })
}

func (s *faultySubmitter) Pairings(ctx context.Context) ([]consign.Pairing, error) {
	return inject(ctx, s.f, "Pairings", func() ([]consign.Pairing, error) { return s.api.Pairings(ctx) })
}

func (s *faultySubmitter) ConfirmPairing(ctx context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
	return inject(ctx, s.f, "ConfirmPairing", func() (consign.Pairing, error) { return s.api.ConfirmPairing(ctx, w, fingerprint) })
}

func (s *faultySubmitter) RevokePairing(ctx context.Context, w consign.WorkerID) error {
	return inject0(ctx, s.f, "RevokePairing", func() error { return s.api.RevokePairing(ctx, w) })
}
