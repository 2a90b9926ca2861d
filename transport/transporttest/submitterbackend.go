package transporttest

import (
	"context"
	"errors"
	"iter"

	"github.com/consignq/consign"
)

// submitter is a scripted backend. A method without a script fails with err.
type submitter struct {
	err        error
	quote      func(context.Context, consign.QuoteRequest) (consign.Quote, error)
	submit     func(context.Context, consign.SubmitRequest) (consign.JobInfo, error)
	submitMany func(context.Context, []consign.SubmitRequest) []consign.SubmitOutcome
	job        func(context.Context, consign.JobID) (consign.JobInfo, error) // Get, Cancel
	wait       func(context.Context, consign.JobID) (consign.JobInfo, error)
	events     func(context.Context, consign.JobID, consign.Seq) iter.Seq2[consign.LogEntry, error]
	ack        func(context.Context, consign.JobID) error
	receipt    func(context.Context, consign.JobID) (consign.Receipt, error)
	explain    func(context.Context, consign.JobID) (consign.Explanation, error)
	keys       func(context.Context) (consign.Keys, error)
	offer      func(context.Context, []byte) (consign.PairingCode, error)
	pairings   func(context.Context) ([]consign.Pairing, error)
	confirm    func(context.Context, consign.WorkerID, string) (consign.Pairing, error)
	revoke     func(context.Context, consign.WorkerID) error
}

var errUnexpected = errors.New("transporttest: this call is not part of the check")

func (s *submitter) fail() error {
	if s.err != nil {
		return s.err
	}
	return errUnexpected
}

func (s *submitter) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	if s.quote == nil {
		return consign.Quote{}, s.fail()
	}
	return s.quote(ctx, r)
}

func (s *submitter) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	if s.submit == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.submit(ctx, r)
}

func (s *submitter) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	if s.submitMany != nil {
		return s.submitMany(ctx, rs)
	}
	out := make([]consign.SubmitOutcome, len(rs))
	for i := range out {
		out[i].Err = s.fail()
	}
	return out
}

func (s *submitter) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	if s.job == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.job(ctx, id)
}

func (s *submitter) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	if s.wait == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.wait(ctx, id)
}

func (s *submitter) Events(ctx context.Context, id consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
	if s.events == nil {
		return func(yield func(consign.LogEntry, error) bool) { yield(consign.LogEntry{}, s.fail()) }
	}
	return s.events(ctx, id, after)
}

func (s *submitter) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	if s.job == nil {
		return consign.JobInfo{}, s.fail()
	}
	return s.job(ctx, id)
}

func (s *submitter) Acknowledge(ctx context.Context, id consign.JobID) error {
	if s.ack == nil {
		return s.fail()
	}
	return s.ack(ctx, id)
}

func (s *submitter) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	if s.receipt == nil {
		return consign.Receipt{}, s.fail()
	}
	return s.receipt(ctx, id)
}

func (s *submitter) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	if s.explain == nil {
		return consign.Explanation{}, s.fail()
	}
	return s.explain(ctx, id)
}

func (s *submitter) Keys(ctx context.Context) (consign.Keys, error) {
	if s.keys == nil {
		return consign.Keys{}, s.fail()
	}
	return s.keys(ctx)
}

func (s *submitter) NewPairing(ctx context.Context, key []byte) (consign.PairingCode, error) {
	if s.offer == nil {
		return consign.PairingCode{}, s.fail()
	}
	return s.offer(ctx, key)
}

func (s *submitter) Pairings(ctx context.Context) ([]consign.Pairing, error) {
	if s.pairings == nil {
		return nil, s.fail()
	}
	return s.pairings(ctx)
}

func (s *submitter) ConfirmPairing(ctx context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
	if s.confirm == nil {
		return consign.Pairing{}, s.fail()
	}
	return s.confirm(ctx, w, fingerprint)
}

func (s *submitter) RevokePairing(ctx context.Context, w consign.WorkerID) error {
	if s.revoke == nil {
		return s.fail()
	}
	return s.revoke(ctx, w)
}
