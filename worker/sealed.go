package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/internal/compare"
	"github.com/consignq/consign/internal/retry"
)

// sealedJob is what an attempt of a sealed job needs once it is open: what its
// result and its reports are sealed with. Its plaintext is in nothing that
// leaves the worker or that it logs.
type sealedJob struct {
	header seal.Header
	cek    seal.CEK
	info   seal.ResultInfo

	parts *seal.PartSealer // nil until there is something to report
	cut   error            // why no more reports can follow
}

// open opens the payload of a sealed job. The error is a *cannotOpen.
func (r *run) open(a *attempt, input [32]byte) (*sealedJob, []byte, error) {
	worker, h := r.ID(), seal.HeaderHash(a.Header)
	var purpose seal.Purpose = seal.ClaimWrap{Job: a.Job, Worker: worker, Claim: a.Assignment.Claim, Header: h}
	if a.Custody == consign.CustodySealed {
		purpose = seal.DirectWrap{Job: a.Job, Worker: worker, Header: h}
	}
	cek, err := seal.Unwrap(purpose, a.Wrap, r.keys.keys...)
	if err != nil {
		return nil, nil, openError(err)
	}
	header, payload, err := seal.OpenPayload(a.Header, a.Payload, cek, seal.Assignment{
		Queue: a.Queue, Job: a.Job, Kind: a.Kind, Model: a.Model, Chars: a.Chars, Custody: string(a.Custody),
		Comparator: or(a.Comparator, consign.ComparatorNone), Signature: a.Signature, Pinned: r.cfg.Pinned,
	})
	if err != nil {
		return nil, nil, openError(err)
	}
	info := seal.ResultInfo{Queue: a.Queue, Job: a.Job, Worker: worker, Claim: a.Assignment.Claim, Input: input}
	return &sealedJob{header: header, cek: cek, info: info}, payload, nil
}

// cannotOpen says why a payload was not opened, and whose fault that is.
type cannotOpen struct {
	words string // fit for the queue's log
	fault error  // ErrPayload or ErrRefused
}

func (e *cannotOpen) Error() string { return e.words }
func (e *cannotOpen) Unwrap() error { return e.fault }

// openFaults are the reasons for which a job stays closed. What another worker
// may open, or would be right not to trust either, is refused here: a payload
// is at fault only where it is the same to everybody who has its key.
var openFaults = []struct {
	err   error
	fault error
	words string
}{
	{seal.ErrKeyUnknown, ErrRefused, "the job's key is wrapped to an encryption key that this worker does not have any more"},
	{seal.ErrUnwrap, ErrRefused, "the job's key does not open: it was wrapped for another job, claim, worker or header"},
	{seal.ErrWrap, ErrRefused, "the job's key did not come in a wrap"},
	{seal.ErrSuite, ErrRefused, "the payload is sealed with a suite that this worker does not know"},
	{seal.ErrAssignment, ErrRefused, "the payload's header is of another job than the assignment"},
	{seal.ErrSubmitter, ErrRefused, "the PRIVATE job is from a submitter that this worker is not paired with"},
	{seal.ErrSubmission, ErrRefused, "the PRIVATE job is not signed by its submitter"},
	{seal.ErrHeader, ErrPayload, "the payload's header cannot be read"},
	{seal.ErrCommit, ErrPayload, "the payload is sealed under another key than its header commits to"},
	{seal.ErrBox, ErrPayload, "the payload does not open: it was altered or cut"},
	{seal.ErrPadding, ErrPayload, "the payload's padding is not as the format has it"},
	{seal.ErrPayloadMismatch, ErrPayload, "payload_mismatch: the payload is not of the length that its header declares"},
}

func openError(err error) error {
	for _, f := range openFaults {
		if errors.Is(err, f.err) {
			return &cannotOpen{words: f.words, fault: f.fault}
		}
	}
	return &cannotOpen{words: "the payload cannot be opened here", fault: ErrRefused}
}

// seal replaces an outcome's result by the sealed one. The comparison value is
// nil where the job's comparator is none, or not known here.
func (s *sealedJob) seal(o *outcome) (*seal.Comparison, error) {
	var value *seal.Comparison
	if canonical, ok := compare.Canonical(s.header.Comparator, o.Result); ok {
		c, err := seal.NewComparison(s.cek, s.header, canonical, nil)
		if err != nil {
			return nil, err
		}
		value = &c
	}
	sealed, err := seal.SealResult(s.header.ResultKey, s.info, o.Result)
	if err != nil {
		return nil, err
	}
	o.Result = sealed
	return value, nil
}

// maxPart is how many bytes of a report are sealed as one: far below what a
// queue takes.
const maxPart = 256 << 10

// sealItems seals reports in their order, each once.
func (s *sealedJob) sealItems(items []consign.ReportItem, last bool) ([]consign.ReportItem, error) {
	if s.parts == nil {
		parts, err := seal.NewPartSealer(s.header.ResultKey, s.info)
		if err != nil {
			return nil, err
		}
		s.parts = parts
	}
	var out []consign.ReportItem
	for i, item := range items {
		for rest, more := item.Data, true; more; {
			n := min(len(rest), maxPart)
			more = n < len(rest)
			part, err := s.parts.Seal(rest[:n], last && !more && i == len(items)-1)
			if err != nil {
				return nil, err
			}
			out = append(out, consign.ReportItem{Kind: item.Kind, Data: part})
			rest = rest[n:]
		}
	}
	return out, nil
}

// reportSealed seals what an executor streamed and sends it until the queue has
// answered. A part that arrives twice is ignored by who opens it, but without
// it no later one opens: so it is sent again, byte for byte, and after one that
// was refused nothing more is sent.
func (r *run) reportSealed(ctx context.Context, a *attempt, items []consign.ReportItem, last bool) error {
	s := a.sealed
	if s.cut != nil {
		return s.cut
	}
	sealed, err := s.sealItems(items, last)
	if err == nil {
		_, err = retry.Do(ctx, 0, func() (struct{}, error) { return struct{}{}, r.report(ctx, a, sealed) }, nil)
	}
	s.cut = err
	return err
}

// sealedWords is what a failure of a sealed job says in the open: the class of
// what happened. The executor's own words are the last line of its sealed log.
func sealedWords(cause error) string {
	if e, ok := errors.AsType[*cannotOpen](cause); ok {
		return e.words
	}
	switch {
	case errors.Is(cause, errNoExecutor):
		return "this worker has no executor for the job's kind"
	case errors.Is(cause, ErrPayload):
		return "the payload cannot be run; the sealed log says why"
	case errors.Is(cause, ErrRefused):
		return "the executor refused the job; the sealed log says why"
	default:
		return "the attempt failed; the sealed log says why"
	}
}

var errNoExecutor = fmt.Errorf("%w: no executor for kind", ErrRefused)
