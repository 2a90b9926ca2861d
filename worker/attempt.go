package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/internal/retry"
)

// attempt is one claim while this worker holds it.
type attempt struct {
	consign.Assignment
	claim  consign.Claim
	ctx    context.Context // the executor's
	cancel context.CancelCauseFunc
	sealed *sealedJob // set before the executor runs; nil where the job is plain, or did not open

	reports reporter

	mu      sync.Mutex
	expires time.Time     // when the lease has certainly ended, by the monotonic clock
	expiry  *time.Timer   // stops the executor then; nil where no lease was told
	over    bool          // the executor is done: only the answer to what is returned counts now
	lost    bool          // the queue said that the claim is not current
	back    chan struct{} // nil, unless it is given back before the executor is done; closed when it was
}

// newAttempt starts the lease's count-down. A claim is granted at an unknown
// time while Claim blocks, at the latest when it returns, which is now. The
// executor's context is no child of the run's: a parent that many children come
// to and leave is slower than stopAll.
func (r *run) newAttempt(assignment consign.Assignment) *attempt {
	a := &attempt{Assignment: assignment, claim: consign.Claim{Job: assignment.Job, Claim: assignment.Claim}}
	a.ctx, a.cancel = context.WithCancelCause(context.WithoutCancel(r.working))
	a.expires = time.Now().Add(a.Lease)
	if a.Lease > 0 {
		a.expiry = time.AfterFunc(a.Lease, func() { a.cancel(consign.ErrLeaseLost) })
	}
	a.reports.calling = r.calling
	a.reports.send = func(ctx context.Context, items []consign.ReportItem, last bool) error {
		if a.sealed != nil {
			return r.reportSealed(ctx, a, items, last)
		}
		return r.reportPlain(ctx, a, items)
	}
	return a
}

// renew counts the lease anew from when the request that renewed it was sent.
func (a *attempt) renew(sent time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if expires := sent.Add(a.Lease); expires.After(a.expires) {
		a.expires = expires
		if a.expiry != nil && !a.over {
			a.expiry.Reset(time.Until(expires))
		}
	}
}

// lose stops the work: the queue says that the claim is not current. Once the
// executor is done this may be news from before the result arrived, and only
// the answer to the result counts.
func (a *attempt) lose() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		a.lost = true
		a.cancel(consign.ErrLeaseLost)
	}
}

// finish ends the executor's part, and reports whether the claim may still be
// current. Where it is being given back it waits for that: then it is not.
func (a *attempt) finish() (current bool) {
	a.mu.Lock()
	a.end()
	back, current := a.back, !a.lost && a.back == nil
	a.mu.Unlock()
	if back != nil {
		<-back
	}
	return current
}

// giveUp begins to give the claim back, unless the executor is done: then it
// returns nil, else what is to be closed when the queue has the claim.
func (a *attempt) giveUp() chan<- struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return nil
	}
	a.end()
	a.back = make(chan struct{})
	return a.back
}

func (a *attempt) end() {
	a.over = true
	if a.expiry != nil {
		a.expiry.Stop()
	}
}

func (a *attempt) leaseEnd() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.expires
}

// outcome is what an executor came to.
type outcome struct {
	Output
	err               error
	input             [32]byte // consign.InputHash, from before the executor had the payload
	started, finished time.Time
}

// handle sees a claimed job through to its end. The executor runs in the slot's
// own goroutine: a panic and an end of that are contained, see execute and slot.
func (r *run) handle(a *attempt) {
	defer a.cancel(nil)
	if !r.begin(a) {
		r.cfg.Logger.Warn("a claim was delivered twice; it runs once", "job", a.Job, "claim", a.Claim)
		a.finish()
		return
	}
	defer r.forget(a)
	if r.claiming.Err() != nil { // it raced with the shutdown
		if a.finish() {
			r.release(a, stops)
		}
		return
	}
	if a.Limit > 0 {
		ctx, cancel := context.WithTimeoutCause(a.ctx, a.Limit, errLimit)
		defer cancel()
		a.ctx = ctx
	}
	o := outcome{err: errGoexit, started: time.Now()}
	defer r.conclude(a, &o) // even where the executor ends the goroutine
	r.execute(a, &o)
}

// conclude returns what an attempt came to.
func (r *run) conclude(a *attempt, o *outcome) {
	current := a.finish()
	if !current {
		a.reports.silence()
	} else if a.sealed != nil && o.err != nil {
		a.reports.add(consign.ReportLog, []byte(reason(o.err.Error())))
	}
	a.reports.close(lastCalls) // previews must not hold the result up
	switch {
	case a.back != nil: // it was given back
	case !current:
		r.cfg.Logger.Warn("lease lost, work stopped", "job", a.Job, "claim", a.Claim)
	case o.err == nil:
		r.complete(a, o)
	case errors.Is(context.Cause(a.ctx), consign.ErrLeaseLost):
		r.cfg.Logger.Warn("lease ended without renewal, work stopped", "job", a.Job, "claim", a.Claim)
	case r.working.Err() != nil:
		r.release(a, stops)
	default:
		words := o.err.Error()
		if a.Custody != consign.CustodyPlain {
			words = sealedWords(o.err)
		}
		r.fail(a, fault(o.err), words)
	}
}

// giveBack releases what still runs, once the drain is over, while the
// executors unwind: another worker need not wait for them.
func (r *run) giveBack() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		if back := a.giveUp(); back != nil {
			go func() {
				defer close(back)
				a.reports.silence()
				r.release(a, stops)
			}()
		}
	}
}

var (
	errLimit  = errors.New("worker: the attempt's limit is over")
	errGoexit = errors.New("the executor ended its goroutine")
)

// begin notes that the attempt runs. It reports false where it already does,
// or did lately: run twice, a claim would have two results.
func (r *run) begin(a *attempt) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attempts[a.claim] != nil || slices.Contains(r.ended[:], a.claim) {
		return false
	}
	if other := r.newest[a.Job]; other != nil {
		other.lose() // a new claim of the job means that this one is over
	}
	r.attempts[a.claim], r.newest[a.Job] = a, a
	if r.working.Err() != nil { // stopAll may have come before
		a.cancel(context.Cause(r.working))
	}
	return true
}

// stopAll stops the executors, once the drain is over.
func (r *run) stopAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.attempts {
		a.cancel(context.Cause(r.working))
	}
}

func (r *run) forget(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.attempts, a.claim)
	if r.newest[a.Job] == a {
		delete(r.newest, a.Job)
	}
	r.ended[r.endedAt%len(r.ended)] = a.claim
	r.endedAt++
}

// execute runs the job and contains what its executor does to itself.
func (r *run) execute(a *attempt, o *outcome) {
	defer func() {
		if p := recover(); p != nil {
			o.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		o.finished = time.Now()
	}()
	executor := r.cfg.Executors[a.Kind]
	if executor == nil {
		o.err = fmt.Errorf("%w %q", errNoExecutor, a.Kind)
		return
	}
	sealed := a.Custody != consign.CustodyPlain
	if a.Receipts || sealed {
		o.input = consign.InputHash(a.Header, a.Payload)
	}
	payload := a.Payload
	if sealed {
		var err error
		if a.sealed, payload, err = r.open(a, o.input); err != nil {
			o.err = err
			return
		}
	}
	o.Output, o.err = executor.Execute(a.ctx, &Task{
		Job: a.Job, Kind: a.Kind, Model: a.Model, Tier: a.Tier, Chars: a.Chars,
		Payload: payload, Comparator: a.Comparator,
		reports: &a.reports,
	})
}

// reportPlain sends what an executor streamed, once.
func (r *run) reportPlain(ctx context.Context, a *attempt, items []consign.ReportItem) error {
	err := r.report(ctx, a, items)
	if err != nil && ctx.Err() == nil && !errors.Is(err, consign.ErrLeaseLost) && !errors.Is(err, consign.ErrCancelled) {
		r.cfg.Logger.Info("reports lost", "job", a.Job, "items", len(items), "error", err)
	}
	return err
}

// report makes one call with reports, which renews the lease.
func (r *run) report(ctx context.Context, a *attempt, items []consign.ReportItem) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	var sent time.Time
	err := r.call(ctx, func(ctx context.Context, s consign.Session) error {
		sent = time.Now()
		return s.Report(ctx, consign.Report{Claim: a.claim, Items: items})
	})
	switch {
	case err == nil:
		a.renew(sent)
	case errors.Is(err, consign.ErrLeaseLost), errors.Is(err, consign.ErrCancelled):
		a.lose()
	}
	return err
}

// complete signs the record and offers the result until the queue has
// answered. Record and result are the same bytes on every try.
func (r *run) complete(a *attempt, o *outcome) {
	c, err := r.completion(a, o)
	if broken, ok := errors.AsType[*journalError](err); ok {
		r.cfg.Logger.Error("the worker stops", "job", a.Job, "claim", a.Claim, "error", broken)
		r.end(broken, true) // else it would take job after job, and ruin each
		r.release(a, broken.Error())
		return
	}
	if err != nil {
		r.fail(a, consign.FailTransient, "no record of the result: "+err.Error())
		return
	}
	err = r.deliver(r.working, a, r.cfg.KeepResult, func(ctx context.Context, s consign.Session) error { return s.Complete(ctx, c) })
	if err == nil {
		return
	}
	r.cfg.Logger.Error("result not accepted", "job", a.Job, "claim", a.Claim, "error", err)
	if _, refused := errors.AsType[*consign.FieldError](err); refused {
		r.fail(a, consign.FailTransient, err.Error()) // nothing was changed, so the claim still holds
	} else if r.working.Err() != nil && !retry.Permanent(err) {
		r.release(a, stops)
	}
}

// completion seals the result of a sealed job, and signs the record of any.
func (r *run) completion(a *attempt, o *outcome) (consign.Completion, error) {
	var value *seal.Comparison
	if a.sealed != nil {
		var err error
		if value, err = a.sealed.seal(o); err != nil {
			return consign.Completion{}, err
		}
	}
	c := consign.Completion{Claim: a.claim, Result: o.Result, ExitStatus: o.ExitStatus}
	if !a.Receipts {
		return c, nil
	}
	var tCommit [32]byte
	if value != nil {
		tCommit = value.Commit()
		c.Comparison = &consign.Comparison{T: value.T, R: value.R, Sketch: value.Sketch}
	}
	var err error
	c.Record, err = r.book.sign(a, o, tCommit)
	return c, err
}

// fail says that the job could not be run, and why.
func (r *run) fail(a *attempt, kind consign.FailKind, words string) {
	f := consign.Failure{Claim: a.claim, Kind: kind, Reason: reason(words)}
	r.settle(r.working, a, "failure", func(ctx context.Context, s consign.Session) error { return s.Fail(ctx, f) })
}

// release gives the claim back.
func (r *run) release(a *attempt, why string) {
	back := consign.Release{Claim: a.claim, Reason: reason(why)}
	r.settle(r.calling, a, "release", func(ctx context.Context, s consign.Session) error { return s.Release(ctx, back) })
}

const stops = "the worker stops" // why most claims are given back

// settle delivers what matters only while the lease lasts.
func (r *run) settle(until context.Context, a *attempt, what string, f func(context.Context, consign.Session) error) {
	err := r.deliver(until, a, 0, f)
	if err != nil && !errors.Is(err, consign.ErrLeaseLost) {
		r.cfg.Logger.Warn(what+" not delivered, the lease will end by itself", "job", a.Job, "claim", a.Claim, "error", err)
	}
}

// deliver makes a call about a claim until the queue has answered it, keep is
// over since the lease has ended, or until is done.
func (r *run) deliver(until context.Context, a *attempt, keep time.Duration, f func(context.Context, consign.Session) error) error {
	err := r.call(r.deadlines.context(), f)
	if err == nil || retry.Permanent(err) {
		return err
	}
	r.cfg.Logger.Warn("the queue does not answer, trying on", "job", a.Job, "claim", a.Claim, "error", err)
	waits := retry.NewBackOff()
	for n := 1; !time.Now().After(a.leaseEnd().Add(max(keep, 0))) && retry.Sleep(until, waits.NextBackOff()); n++ {
		ctx, cancel := context.WithTimeout(r.calling, r.cfg.CallTimeout<<min(n, 4))
		err = r.call(ctx, f)
		cancel()
		if err == nil || retry.Permanent(err) {
			return err
		}
	}
	return err
}
