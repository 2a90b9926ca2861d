// Package client is what a submitter programs against: a consign.SubmitterAPI
// that stands outages, and the way from a request to a result that has been
// verified.
package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/retry"
)

// Config says which queue to use and whom to trust. API and QueueKey are
// required.
type Config struct {
	// API is the queue: consign.Queue.Submitter of one in this process, or
	// what a transport's dialer returns.
	API consign.SubmitterAPI

	// QueueKey is the key that the queue signs acceptances with. It has to
	// come to you by another way than the queue's own answers. Required,
	// unless Unverified is set.
	QueueKey sign.PublicKey
	// WorkerKey returns the key of a worker, or an error for one that is not
	// to be believed: here a submitter pins the workers that it trusts.
	// Defaults to believing any worker with an ed25519 key, which its ID is;
	// the receipt then says that one worker made the result, not that you know
	// it. The ID of an RSA key is a hash: such workers need a WorkerKey.
	WorkerKey func(consign.WorkerID) (sign.PublicKey, error)
	// Unverified makes Run return results without a look at their receipts,
	// for queues that keep none. Defaults to verifying.
	Unverified bool

	// Acknowledge makes Run acknowledge a job once its result is verified,
	// after which the queue may forget it: a result that the caller then loses
	// is gone. Defaults to leaving that to the caller.
	Acknowledge bool
	// Patience is how long a call is tried again while the queue does not
	// answer. Negative: not at all. Defaults to 1 minute.
	Patience time.Duration
}

func (c Config) withDefaults() Config {
	if c.WorkerKey == nil {
		c.WorkerKey = func(id consign.WorkerID) (sign.PublicKey, error) { return sign.ParsePublicKey(sign.Ed25519, id[:]) }
	}
	if c.Patience == 0 {
		c.Patience = time.Minute
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.API == nil:
		return &consign.FieldError{Field: "client.Config.API", Problem: "is nil", Remedy: "give a queue's Submitter, or what a transport's dialer returns"}
	case c.QueueKey.Algorithm() == "" && !c.Unverified:
		return &consign.FieldError{Field: "client.Config.QueueKey", Problem: "is empty", Remedy: "give the queue's public key, or set Unverified"}
	}
	return nil
}

// Client is a consign.SubmitterAPI that tries again, for Config.Patience, what
// the queue has not answered: a network's errors, ErrClosed, ErrBusy. Every
// call is safe to repeat, since a job's ID is chosen here, before the first
// try. It may be used from many goroutines.
type Client struct{ cfg Config }

var _ consign.SubmitterAPI = (*Client)(nil)

// New checks the configuration. It returns a *consign.FieldError for a bad
// one, and calls nothing.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg}, nil
}

// Result is a completed job with what proves it.
type Result struct {
	consign.JobInfo
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

// Run submits a job, waits for it and verifies its result. Give the request an
// ID and keep it to find the job again after a crash, or after ctx ended: the
// job goes on, and Run with the same request takes it up.
//
// It returns the errors of Submit, Wait and Verify, and a *JobError for a job
// that failed, expired or was cancelled. With an error the Result holds what
// is known of the job; where that is an unverified result, do not use it.
func (c *Client) Run(ctx context.Context, r consign.SubmitRequest) (Result, error) {
	if r.ID.IsZero() {
		r.ID = consign.NewJobID()
	}
	res := Result{JobInfo: consign.JobInfo{ID: r.ID}}
	job, err := c.Submit(ctx, r)
	if err != nil {
		return res, err
	}
	res.JobInfo = job
	job, err = c.Wait(ctx, r.ID)
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
		if res, err = c.Verify(ctx, r, job); err != nil {
			return res, err
		}
	}
	if c.cfg.Acknowledge {
		return res, c.Acknowledge(ctx, r.ID)
	}
	return res, nil
}

// Verify fetches the receipt of a completed job and checks that it is for this
// request and this result: the worker's signature over its record, with the
// key that Config.WorkerKey has for the worker; that the record names queue,
// job, claim, kind, model, input, result and exit status; its PoE; and the
// queue's acceptance of it, with Config.QueueKey. Of a foreign worker's result,
// whose Verification says so, it checks what that signed, which is less: the
// job and the output.
//
// A receipt that does not hold is a *consign.ReceiptError, which wraps
// consign.ErrBadReceipt and names the field. Other errors are Receipt's and
// WorkerKey's.
func (c *Client) Verify(ctx context.Context, r consign.SubmitRequest, job consign.JobInfo) (Result, error) {
	if job.Verification == consign.VerificationSignature {
		return c.verifyForeign(ctx, r, job)
	}
	res := Result{JobInfo: job}
	key, err := c.cfg.WorkerKey(job.Worker)
	if err != nil {
		return res, fmt.Errorf("client: no key to verify worker %s with: %w", job.Worker, err)
	}
	receipt, err := c.Receipt(ctx, job.ID)
	if err != nil {
		return res, err
	}
	record, acceptance, err := receipt.Verify(consign.Exchange{
		Worker: key, Queue: c.cfg.QueueKey, Job: job.ID,
		Header: r.Header, Payload: r.Payload, Result: job.Result,
	})
	if err != nil {
		return res, err
	}
	bad := func(field, problem string) (Result, error) {
		return res, &consign.ReceiptError{Field: field, Problem: problem, Err: consign.ErrBadReceipt}
	}
	switch {
	case !r.ID.IsZero() && r.ID != job.ID:
		return bad("record.job_id", "names another job than the request")
	case record.WorkerID != job.Worker:
		return bad("record.worker_id", "names another worker than the job")
	case record.ClaimID != job.Claim:
		return bad("record.claim_id", "names another claim than the job")
	case record.Kind != r.Kind:
		return bad("record.kind", fmt.Sprintf("is %q, not %q", record.Kind, r.Kind))
	case record.ModelRequested != r.Model:
		return bad("record.model_requested", fmt.Sprintf("is %q, not %q", record.ModelRequested, r.Model))
	case record.ExitStatus != int64(job.ExitStatus):
		return bad("record.exit_status", fmt.Sprintf("is %d, not %d", record.ExitStatus, job.ExitStatus))
	case acceptance.Custody != r.Custody:
		return bad("acceptance.custody", fmt.Sprintf("is %q, not %q", acceptance.Custody, r.Custody))
	}
	res.Receipt, res.Record, res.Acceptance = receipt, record, acceptance
	return res, nil
}

// verifyForeign is Verify for the result of a foreign worker.
func (c *Client) verifyForeign(ctx context.Context, r consign.SubmitRequest, job consign.JobInfo) (Result, error) {
	res := Result{JobInfo: job}
	receipt, err := c.Receipt(ctx, job.ID)
	if err != nil {
		return res, err
	}
	id := job.ID
	if !r.ID.IsZero() {
		id = r.ID
	}
	acceptance, err := receipt.VerifyForeign(job.Worker, consign.Exchange{Queue: c.cfg.QueueKey, Job: id, Result: job.Result})
	switch {
	case err != nil:
		return res, err
	case acceptance.Custody != r.Custody:
		return res, &consign.ReceiptError{Field: "acceptance.custody", Problem: fmt.Sprintf("is %q, not %q", acceptance.Custody, r.Custody), Err: consign.ErrBadReceipt}
	}
	res.Receipt, res.Acceptance = receipt, acceptance
	return res, nil
}

// again makes a call until the queue has answered it.
func again[T any](ctx context.Context, c *Client, f func() (T, error)) (T, error) {
	if c.cfg.Patience < 0 {
		return f()
	}
	return retry.Do(ctx, c.cfg.Patience, f, nil)
}

// Quote implements consign.SubmitterAPI.
func (c *Client) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	return again(ctx, c, func() (consign.Quote, error) { return c.cfg.API.Quote(ctx, r) })
}

// Submit implements consign.SubmitterAPI. A request without an ID gets one, so
// that the same job is meant on every try.
func (c *Client) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	if r.ID.IsZero() {
		r.ID = consign.NewJobID()
	}
	return again(ctx, c, func() (consign.JobInfo, error) { return c.cfg.API.Submit(ctx, r) })
}

// SubmitMany implements consign.SubmitterAPI. Requests without an ID get one;
// only those that were not answered are sent again.
func (c *Client) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	out := make([]consign.SubmitOutcome, len(rs))
	open := make([]int, len(rs)) // indices into rs
	send := make([]consign.SubmitRequest, len(rs))
	for i, r := range rs {
		if r.ID.IsZero() {
			r.ID = consign.NewJobID()
		}
		open[i], send[i] = i, r
	}
	_, _ = again(ctx, c, func() (struct{}, error) {
		var last error
		n := 0
		for k, o := range c.cfg.API.SubmitMany(ctx, send) {
			out[open[k]] = o
			if o.Err != nil && !retry.Permanent(o.Err) {
				open[n], send[n] = open[k], send[k]
				n++
				last = o.Err
			}
		}
		open, send = open[:n], send[:n]
		return struct{}{}, last
	})
	return out
}

// Get implements consign.SubmitterAPI.
func (c *Client) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	return again(ctx, c, func() (consign.JobInfo, error) { return c.cfg.API.Get(ctx, id) })
}

// Wait implements consign.SubmitterAPI. It waits through outages, each of them
// up to Config.Patience long.
func (c *Client) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	waits := retry.NewBackOff()
	for {
		job, err := c.cfg.API.Wait(ctx, id)
		if err == nil || retry.Permanent(err) || c.cfg.Patience < 0 || ctx.Err() != nil {
			return job, err
		}
		// A short call tells whether the outage is over: the long one may have
		// waited for an hour before it was cut.
		if job, err = c.Get(ctx, id); err != nil || job.State.Terminal() {
			return job, err
		}
		retry.Sleep(ctx, waits.NextBackOff())
	}
}

// Events implements consign.SubmitterAPI. A stream that is cut is taken up
// after the last entry; each entry is yielded once. An outage that outlasts
// Config.Patience ends it with its error.
func (c *Client) Events(ctx context.Context, id consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(yield func(consign.LogEntry, error) bool) {
		waits := retry.NewBackOff()
		var failing time.Time // since when; zero: it is not
		for {
			began := time.Now()
			var cut error
			for e, err := range c.cfg.API.Events(ctx, id, after) {
				if err != nil {
					cut = err
					break
				}
				if e.Seq <= after {
					continue // we have it
				}
				after, failing = e.Seq, time.Time{}
				if !yield(e, nil) {
					return
				}
			}
			if cut == nil {
				return
			}
			if failing.IsZero() || time.Since(began) > c.cfg.Patience {
				failing = time.Now() // it ran for a while in between
				waits.Reset()
			}
			if retry.Permanent(cut) || time.Since(failing) > c.cfg.Patience || c.cfg.Patience < 0 || !retry.Sleep(ctx, waits.NextBackOff()) {
				yield(consign.LogEntry{}, cut)
				return
			}
		}
	}
}

// Cancel implements consign.SubmitterAPI.
func (c *Client) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	tries := 0
	job, err := again(ctx, c, func() (consign.JobInfo, error) {
		tries++
		return c.cfg.API.Cancel(ctx, id)
	})
	late, ok := errors.AsType[*consign.TransitionError](err)
	if ok && tries > 1 && late.State == consign.StateCancelled {
		return c.Get(ctx, id) // an earlier try did it, and its answer was lost
	}
	return job, err
}

// Acknowledge implements consign.SubmitterAPI.
func (c *Client) Acknowledge(ctx context.Context, id consign.JobID) error {
	_, err := again(ctx, c, func() (struct{}, error) { return struct{}{}, c.cfg.API.Acknowledge(ctx, id) })
	return err
}

// Receipt implements consign.SubmitterAPI. It verifies nothing; see Verify.
func (c *Client) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	return again(ctx, c, func() (consign.Receipt, error) { return c.cfg.API.Receipt(ctx, id) })
}

// Explain implements consign.SubmitterAPI.
func (c *Client) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	return again(ctx, c, func() (consign.Explanation, error) { return c.cfg.API.Explain(ctx, id) })
}

// Keys implements consign.SubmitterAPI.
func (c *Client) Keys(ctx context.Context) (consign.Keys, error) {
	return again(ctx, c, func() (consign.Keys, error) { return c.cfg.API.Keys(ctx) })
}

// NewPairing implements consign.SubmitterAPI. An answer that was lost leaves a
// code open that nobody knows.
func (c *Client) NewPairing(ctx context.Context, submitter []byte) (consign.PairingCode, error) {
	return again(ctx, c, func() (consign.PairingCode, error) { return c.cfg.API.NewPairing(ctx, submitter) })
}

// Pairings implements consign.SubmitterAPI.
func (c *Client) Pairings(ctx context.Context) ([]consign.Pairing, error) {
	return again(ctx, c, func() ([]consign.Pairing, error) { return c.cfg.API.Pairings(ctx) })
}

// ConfirmPairing implements consign.SubmitterAPI.
func (c *Client) ConfirmPairing(ctx context.Context, w consign.WorkerID, fingerprint string) (consign.Pairing, error) {
	return again(ctx, c, func() (consign.Pairing, error) { return c.cfg.API.ConfirmPairing(ctx, w, fingerprint) })
}

// RevokePairing implements consign.SubmitterAPI.
func (c *Client) RevokePairing(ctx context.Context, w consign.WorkerID) error {
	_, err := again(ctx, c, func() (struct{}, error) { return struct{}{}, c.cfg.API.RevokePairing(ctx, w) })
	return err
}
