package client

import (
	"context"
	"fmt"
	"slices"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/compare"
)

// Result is a completed job with what proves it.
type Result struct {
	consign.JobInfo
	// Output is the result in plain: Result itself where the job is plain, what
	// it opens to where it is sealed; nil for a job that another keyring has the
	// keys of.
	Output []byte
	// Empty where Config.Unverified is set.
	Receipt    consign.Receipt
	Record     consign.Record     // what the worker signed; empty for a foreign one
	Acceptance consign.Acceptance // what the queue signed
}

// JobError says that a job ended without a result.
type JobError struct{ Job consign.JobInfo }

func (e *JobError) Error() string {
	text := fmt.Sprintf("client: job %s %s", e.Job.ID, e.Job.State)
	if e.Job.Reason != "" {
		text += ": " + e.Job.Reason
	}
	return text
}

// Is makes a cancelled job match consign.ErrCancelled.
func (e *JobError) Is(target error) bool {
	return target == consign.ErrCancelled && e.Job.State == consign.StateCancelled
}

// Run submits a job, waits for it, verifies its result and opens it. Give the
// request an ID and keep it to find the job again after a crash, or after ctx
// ended: the job goes on, and Run with the same request takes it up.
//
// The payload is sealed first, as Submit says, unless the custody is plain.
//
// It returns the errors of Submit, Collect and Verify, and a *JobError for a
// job that failed, expired or was cancelled. With an error the Result holds
// what is known of the job; where that is an unverified result, do not use it.
func (c *Client) Run(ctx context.Context, r consign.SubmitRequest) (Result, error) {
	if r.ID.IsZero() {
		r.ID = consign.NewJobID()
	}
	res := Result{JobInfo: consign.JobInfo{ID: r.ID}}
	if r.Custody == consign.CustodyTransit {
		return res, &consign.FieldError{Field: "custody", Problem: "is transit, in which the queue seals, so that no receipt can be checked against what was sent",
			Remedy: "leave it out: this client seals by itself"}
	}
	if seals(&r) {
		j, err := c.seal(ctx, &r)
		if err != nil {
			return res, err
		}
		return c.collect(ctx, r.ID, j)
	}
	job, err := c.Submit(ctx, r)
	if err != nil {
		return res, err
	}
	res.JobInfo = job
	return c.finish(ctx, sentPlain(&r, job), nil)
}

// Collect waits for a job that this keyring has the keys of, submitting it
// first where the process that sealed it did not come to that; verifies its
// result as Verify does, opens it, and checks that it is the one that the
// worker had compared.
//
// It returns the errors of Submit, Wait and Verify; ErrNoKeys; a *JobError for
// a job without a result; seal.ErrBox and seal.ErrPadding for a result that
// does not open; seal.ErrTCommit and seal.ErrResultMismatch for one that is not
// what the worker committed to. With an error the Result holds what is known of
// the job; where that is a result, do not use it.
func (c *Client) Collect(ctx context.Context, id consign.JobID) (Result, error) {
	j, err := c.cfg.Keyring.job(id)
	if err != nil {
		return Result{JobInfo: consign.JobInfo{ID: id}}, err
	}
	return c.collect(ctx, id, j)
}

// collect is Collect with what the keyring has of the job at hand.
func (c *Client) collect(ctx context.Context, id consign.JobID, j *openJob) (Result, error) {
	if j.Request != nil {
		if _, err := c.send(ctx, id, j); err != nil {
			return Result{JobInfo: consign.JobInfo{ID: id}}, err
		}
	}
	s := sent{id: id, kind: j.Kind, model: j.Model, custody: j.Custody, header: j.Header, input: [32]byte(j.Input), workers: j.Workers}
	return c.finish(ctx, s, j)
}

// finish waits for a job and verifies what it came to.
func (c *Client) finish(ctx context.Context, s sent, keys *openJob) (Result, error) {
	res := Result{JobInfo: consign.JobInfo{ID: s.id}}
	job, err := c.Wait(ctx, s.id)
	if !job.ID.IsZero() {
		res.JobInfo = job
	}
	switch {
	case err != nil:
		return res, err
	case job.State != consign.StateCompleted:
		return res, &JobError{Job: job}
	}
	if !c.cfg.Unverified {
		if res, err = c.verify(ctx, s, job); err != nil {
			return res, err
		}
	}
	switch {
	case keys != nil:
		if res.Output, err = c.open(&res, keys); err != nil {
			return res, err
		}
	case s.custody == consign.CustodyPlain:
		res.Output = res.Result
	}
	if c.cfg.Acknowledge {
		return res, c.Acknowledge(ctx, s.id)
	}
	return res, nil
}

// open opens a result, and checks its comparison value.
func (c *Client) open(res *Result, j *openJob) ([]byte, error) {
	key, err := j.resultKey(res.ID)
	if err != nil {
		return nil, err
	}
	header, err := seal.ParseHeader(j.Header)
	if err != nil {
		return nil, fmt.Errorf("%w: job %s: %w", ErrKeyring, res.ID, err)
	}
	output, err := seal.OpenResult(key, j.info(header.Queue, res.ID, res.Worker, res.Claim), res.Result)
	if err != nil || c.cfg.Unverified {
		return output, err
	}
	if err := checkComparison(res, j, header, output); err != nil {
		return nil, err
	}
	return output, nil
}

// checkComparison checks what the worker had compared against what it
// delivered. A comparator that is not known here tells only that it committed
// to something.
func checkComparison(res *Result, j *openJob, header seal.Header, output []byte) error {
	if res.Comparison == nil {
		if res.Record.TCommit != [32]byte{} {
			return fmt.Errorf("%w: the queue did not hand it out", seal.ErrTCommit)
		}
		return nil
	}
	value := seal.Comparison{T: res.Comparison.T, R: res.Comparison.R, Sketch: res.Comparison.Sketch}
	canonical, known := compare.Canonical(header.Comparator, output)
	if !known {
		return value.Verify(res.Record.TCommit)
	}
	cek, err := seal.ParseCEK(j.CEK)
	if err != nil {
		return fmt.Errorf("%w: job %s: %w", ErrKeyring, res.ID, err)
	}
	return value.VerifyResult(res.Record.TCommit, cek, header, canonical, nil)
}

// info is what a claim's result and parts are bound to.
func (j *openJob) info(queue consign.QueueID, job consign.JobID, worker consign.WorkerID, claim consign.ClaimID) seal.ResultInfo {
	return seal.ResultInfo{Queue: queue, Job: job, Worker: worker, Claim: claim, Input: [32]byte(j.Input)}
}

// sent is what a receipt is checked against.
type sent struct {
	id      consign.JobID
	kind    string
	model   string
	custody consign.Custody
	header  []byte
	input   [32]byte
	workers []sign.PublicKey // the only ones that can have made the result; nil: any
}

func sentPlain(r *consign.SubmitRequest, job consign.JobInfo) sent {
	s := sent{id: r.ID, kind: r.Kind, model: r.Model, custody: r.Custody, header: r.Header, input: consign.InputHash(r.Header, r.Payload)}
	if s.id.IsZero() {
		s.id = job.ID
	}
	return s
}

// Verify fetches the receipt of a completed job and checks that it is for this
// request, which is as it was sent, and this result: the worker's signature
// over its record, with the key that Config.WorkerKey has for the worker; that
// the record names queue, job, claim, kind, model, input, result and exit
// status; its PoE; and the queue's acceptance of it, with Config.QueueKey. For
// a job that this client sealed, see Collect.
//
// The result of a plain job may be a foreign worker's, as its Verification then
// says. That has signed less, and so less is checked: the job, the output, and
// the queue's acceptance.
//
// A receipt that does not hold is a *consign.ReceiptError, which wraps
// consign.ErrBadReceipt and names the field. Other errors are Receipt's and
// WorkerKey's.
func (c *Client) Verify(ctx context.Context, r consign.SubmitRequest, job consign.JobInfo) (Result, error) {
	return c.verify(ctx, sentPlain(&r, job), job)
}

func (c *Client) verify(ctx context.Context, s sent, job consign.JobInfo) (Result, error) {
	if job.Verification == consign.VerificationSignature && s.custody == consign.CustodyPlain {
		return c.verifyForeign(ctx, s, job)
	}
	res := Result{JobInfo: job}
	bad := func(field, problem string) (Result, error) {
		return res, &consign.ReceiptError{Field: field, Problem: problem, Err: consign.ErrBadReceipt}
	}
	key, err := c.cfg.WorkerKey(job.Worker)
	if s.workers != nil {
		i := slices.IndexFunc(s.workers, func(k sign.PublicKey) bool { return k.ID() == job.Worker })
		if i < 0 {
			return bad("record.worker_id", "names a worker that the job was not sealed to")
		}
		key, err = s.workers[i], nil
	}
	if err != nil {
		return res, fmt.Errorf("client: no key to verify worker %s with: %w", job.Worker, err)
	}
	receipt, err := c.Receipt(ctx, job.ID)
	if err != nil {
		return res, err
	}
	record, acceptance, err := receipt.Verify(consign.Exchange{
		Worker: key, Queue: c.cfg.QueueKey, Job: job.ID, Header: s.header, Input: s.input, Result: job.Result,
	})
	if err != nil {
		return res, err
	}
	switch {
	case s.id != job.ID:
		return bad("record.job_id", "names another job than the request")
	case record.WorkerID != job.Worker:
		return bad("record.worker_id", "names another worker than the job")
	case record.ClaimID != job.Claim:
		return bad("record.claim_id", "names another claim than the job")
	case record.Kind != s.kind:
		return bad("record.kind", fmt.Sprintf("is %q, not %q", record.Kind, s.kind))
	case record.ModelRequested != s.model:
		return bad("record.model_requested", fmt.Sprintf("is %q, not %q", record.ModelRequested, s.model))
	case record.ExitStatus != int64(job.ExitStatus):
		return bad("record.exit_status", fmt.Sprintf("is %d, not %d", record.ExitStatus, job.ExitStatus))
	case acceptance.Custody != s.custody:
		return bad("acceptance.custody", fmt.Sprintf("is %q, not %q", acceptance.Custody, s.custody))
	}
	res.Receipt, res.Record, res.Acceptance = receipt, record, acceptance
	return res, nil
}

// verifyForeign is verify for the result of a foreign worker, whose ID is a hash
// of its key.
func (c *Client) verifyForeign(ctx context.Context, s sent, job consign.JobInfo) (Result, error) {
	res := Result{JobInfo: job}
	bad := func(field, problem string) (Result, error) {
		return res, &consign.ReceiptError{Field: field, Problem: problem, Err: consign.ErrBadReceipt}
	}
	if c.pins {
		key, err := c.cfg.WorkerKey(job.Worker)
		if err != nil {
			return res, fmt.Errorf("client: no key to verify worker %s with: %w", job.Worker, err)
		}
		if consign.ForeignWorkerID(key.Bytes()) != job.Worker {
			return bad("foreign.provider_pubkey", "is not the key that WorkerKey has for the worker")
		}
	}
	receipt, err := c.Receipt(ctx, job.ID)
	if err != nil {
		return res, err
	}
	acceptance, err := receipt.VerifyForeign(job.Worker, consign.Exchange{Queue: c.cfg.QueueKey, Job: s.id, Result: job.Result})
	switch {
	case err != nil:
		return res, err
	case acceptance.Custody != s.custody:
		return bad("acceptance.custody", fmt.Sprintf("is %q, not %q", acceptance.Custody, s.custody))
	}
	res.Receipt, res.Acceptance = receipt, acceptance
	return res, nil
}
