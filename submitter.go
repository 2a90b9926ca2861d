package consign

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
)

// Submitter returns the queue as the account sees it: its own jobs, and no
// others. The program that embeds the queue decides who is which account.
func (q *Queue) Submitter(account string) SubmitterAPI { return &submitter{q, account} }

// submitter is a Queue's SubmitterAPI for one account.
type submitter struct {
	q       *Queue
	account string
}

func (s *submitter) Quote(_ context.Context, r QuoteRequest) (Quote, error) {
	return s.q.config.quote(&r)
}

func (s *submitter) Submit(ctx context.Context, r SubmitRequest) (JobInfo, error) {
	in, err := s.prepare(ctx, &r)
	if err != nil {
		return JobInfo{}, err
	}
	if err := s.q.inbox.call(in); err != nil {
		return JobInfo{}, err
	}
	return s.submitted(ctx, in, &r)
}

const (
	bulk    = 5000 // jobs of SubmitMany that are under way at once
	deposit = 32   // of them, whose keys are on their way to the vault
)

func (s *submitter) SubmitMany(ctx context.Context, rs []SubmitRequest) []SubmitOutcome {
	out := make([]SubmitOutcome, len(rs))
	before := func() {}
	for start := 0; start < len(rs); start += bulk / 2 {
		end := min(start+bulk/2, len(rs))
		answers := s.submitPart(ctx, rs[start:end], out[start:end])
		before() // which the store has taken in while this part was prepared
		before = answers
	}
	before()
	return out
}

// submitPart sends the requests on their way, and returns what waits for their
// outcomes.
func (s *submitter) submitPart(ctx context.Context, rs []SubmitRequest, out []SubmitOutcome) (answers func()) {
	prepared := make([]*inSubmit, len(rs))
	prepare := func(i int) { prepared[i], out[i].Err = s.prepare(ctx, &rs[i]) }
	vaulted := make(chan int)
	var group sync.WaitGroup
	started := 0
	for i := range rs {
		if !rs[i].Custody.vaulted() {
			prepare(i)
			continue
		}
		if started < deposit {
			started++
			group.Go(func() {
				for i := range vaulted {
					prepare(i)
				}
			})
		}
		vaulted <- i
	}
	close(vaulted)
	group.Wait()

	inputs := make([]input, 0, len(rs))
	for _, in := range prepared {
		if in != nil {
			inputs = append(inputs, in)
		}
	}
	err := s.q.inbox.call(inputs...)
	return func() {
		for i, in := range prepared {
			switch {
			case in == nil:
			case err != nil:
				out[i].Err = err
			default:
				out[i].Job, out[i].Err = s.submitted(ctx, in, &rs[i])
			}
		}
	}
}

// prepare checks a request, and has the vault take in its key.
func (s *submitter) prepare(ctx context.Context, r *SubmitRequest) (*inSubmit, error) {
	draft, spec, err := s.q.config.admit(s.account, r)
	if err != nil {
		return nil, err
	}
	if spec.Custody != CustodyPlain {
		if err := s.q.serves(ctx); err != nil {
			return nil, err
		}
	}
	if spec.Custody.vaulted() {
		vault, err := s.q.vaultName(ctx)
		if err != nil {
			return nil, err
		}
		draft.Lane = laneWithVault(draft.Lane, vault)
	}
	switch spec.Custody {
	case CustodyEscrow:
		err = s.deposit(ctx, spec, r.Wraps[0].Wrap, draft.Price)
	case CustodyTransit:
		err = s.seal(ctx, draft, spec)
	}
	if err != nil {
		return nil, err
	}
	o := &op{kind: opSubmit, call: s.q.newCall(), id: draft.ID, account: s.account, draft: draft, spec: spec, ev: Event{Kind: EventSubmit}}
	return &inSubmit{op: o, delay: r.Delay, deadline: r.Deadline}, nil
}

// submitted waits for the job to be stored.
func (s *submitter) submitted(ctx context.Context, in *inSubmit, r *SubmitRequest) (JobInfo, error) {
	stored, err := s.q.await(ctx, in.call)
	if errors.Is(err, ErrConflict) && r.Custody == CustodyTransit {
		// The same payload may have been stored since this one was sealed, which
		// makes another one of it: this one, then.
		if in, err = s.prepare(ctx, r); err == nil {
			if err = s.q.inbox.call(in); err == nil {
				stored, err = s.q.await(ctx, in.call)
			}
		}
	}
	if err != nil {
		return JobInfo{}, err
	}
	if r.Custody.vaulted() && (stored.job.AckedAt != 0 || stored.job.Purged) {
		// An old request, sent again, may have brought its key again.
		if err := s.q.config.Vault.Shred(ctx, stored.job.ID); err != nil {
			return JobInfo{}, err
		}
	}
	return s.q.info(stored.job), nil
}

func (s *submitter) Get(ctx context.Context, id JobID) (JobInfo, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return JobInfo{}, err
	}
	return s.q.withResult(ctx, j)
}

// job reads a job of this account.
func (s *submitter) job(ctx context.Context, id JobID) (*Job, error) {
	jobs, err := s.q.config.Store.Jobs(ctx, []JobID{id})
	if err != nil {
		return nil, err
	}
	if j := jobs[0]; j != nil && j.Account == s.account && !j.Purged {
		return j, nil
	}
	return nil, fmt.Errorf("%w: job %s", ErrNotFound, id)
}

func (s *submitter) Wait(ctx context.Context, id JobID) (JobInfo, error) {
	changed, cancel := s.q.topics.subscribe(id, false)
	defer cancel()
	for {
		j, err := s.job(ctx, id)
		switch {
		case err != nil:
			return JobInfo{}, err
		case j.State.Terminal():
			// ctx may have ended with the job: whoever waited gets the result.
			return s.q.withResult(context.WithoutCancel(ctx), j)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.q.info(j), ctx.Err()
		case <-s.q.ended:
			return s.q.info(j), ErrClosed
		}
	}
}

func (s *submitter) Events(ctx context.Context, id JobID, after Seq) iter.Seq2[LogEntry, error] {
	return func(yield func(LogEntry, error) bool) {
		changed, cancel := s.q.topics.subscribe(id, true)
		defer cancel()
		for {
			j, err := s.job(ctx, id)
			if err != nil {
				yield(LogEntry{}, err)
				return
			}
			more, err := s.yieldLog(ctx, id, &after, yield)
			if err != nil {
				yield(LogEntry{}, err)
			}
			if err != nil || !more || j.State.Terminal() {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(LogEntry{}, ctx.Err())
				return
			case <-s.q.ended:
				yield(LogEntry{}, ErrClosed)
				return
			}
		}
	}
}

// yieldLog yields what the log has now, and moves after. more is false once
// the caller has had enough.
func (s *submitter) yieldLog(ctx context.Context, id JobID, after *Seq, yield func(LogEntry, error) bool) (more bool, err error) {
	const page = 256
	for {
		entries, err := s.q.config.Store.Log(ctx, id, *after, page)
		if err != nil {
			return false, err
		}
		for _, e := range entries {
			*after = e.Seq
			if !yield(e, nil) {
				return false, nil
			}
		}
		if len(entries) < page {
			return true, nil
		}
	}
}

func (s *submitter) Cancel(ctx context.Context, id JobID) (JobInfo, error) {
	r, err := s.ask(ctx, &op{kind: opCancel, id: id, ev: Event{Kind: EventCancel, Reason: "cancelled by its submitter"}})
	if err != nil {
		return JobInfo{}, err
	}
	return s.q.info(r.job), nil
}

func (s *submitter) Acknowledge(ctx context.Context, id JobID) error {
	_, err := s.ask(ctx, &op{kind: opAcknowledge, id: id, ev: Event{Kind: EventAcknowledge}})
	return err
}

func (s *submitter) Explain(ctx context.Context, id JobID) (Explanation, error) {
	r, err := s.ask(ctx, &op{kind: opExplain, id: id})
	if err != nil {
		return Explanation{}, err
	}
	return r.info.(Explanation), nil
}

func (s *submitter) ask(ctx context.Context, o *op) (reply, error) {
	o.account = s.account
	return s.q.ask(ctx, func(c *call) input {
		o.call = c
		return inOp{o}
	})
}

func (s *submitter) Receipt(ctx context.Context, id JobID) (Receipt, error) {
	j, err := s.job(ctx, id)
	if err != nil {
		return Receipt{}, err
	}
	if j.State != StateCompleted {
		return Receipt{}, fmt.Errorf("%w: job %s is %s and has no accepted result", ErrNotFound, id, j.State)
	}
	d, err := s.q.config.Store.Done(ctx, id)
	switch {
	case err != nil:
		return Receipt{}, err
	case d == nil || d.Record == nil:
		return Receipt{}, fmt.Errorf("%w: job %s was completed without a receipt", ErrNotFound, id)
	}
	var r Receipt
	if d.Verification == VerificationSignature {
		r.Foreign = &ForeignReceipt{}
		err = r.Foreign.UnmarshalJSON(d.Record)
	} else {
		r.Record, err = d.SignedRecord()
	}
	if err != nil {
		return Receipt{}, err
	}
	r.Acceptance, err = SignAcceptance(s.q.config.Identity, *d.Acceptance)
	return r, err
}

func (s *submitter) Keys(ctx context.Context) (k Keys, err error) {
	k.Queue, k.QueueKey = s.q.id, s.q.config.Identity.Public().String()
	if v := s.q.config.Vault; v != nil {
		if k.Vault, err = v.Key(ctx); err != nil {
			return Keys{}, err
		}
	}
	pairings, err := s.q.pairings(ctx, s.account)
	if err != nil {
		return Keys{}, err
	}
	for _, p := range pairings {
		r, err := s.q.Worker(ctx, p.Worker)
		switch {
		case p.Pending:
		case errors.Is(err, ErrNotFound): // paired before it ever registered
		case err != nil:
			return Keys{}, err
		case r.KeyBundle != nil:
			k.Workers = append(k.Workers, r.keys())
		}
	}
	return k, nil
}

// info is a job as its submitter sees it, without the result.
func (q *Queue) info(j *Job) JobInfo {
	info := JobInfo{ID: j.ID, State: j.State, Price: j.Price, Attempts: j.Attempt, Worker: j.Worker, Claim: j.Claim,
		CreatedAt: j.CreatedAt.Time(), ClaimedAt: j.ClaimedAt.Time(), EndedAt: j.EndedAt.Time(),
		Acknowledged: j.AckedAt != 0, Reason: j.Reason}
	if lane, err := ParseLane(j.Lane); err == nil { // it was written by Lane.String
		info.Kind, info.Model, info.Tier = lane.Needs.Kind, lane.Needs.Model, lane.Needs.Tier
	}
	return info
}

func (q *Queue) withResult(ctx context.Context, j *Job) (JobInfo, error) {
	info := q.info(j)
	if j.State != StateCompleted {
		return info, nil
	}
	d, err := q.config.Store.Done(ctx, j.ID)
	if err != nil {
		return info, err
	}
	if d == nil {
		return info, fmt.Errorf("%w: job %s was forgotten just now", ErrNotFound, j.ID)
	}
	info.Verification, info.Result, info.ExitStatus, info.Comparison = d.Verification, d.Result, d.ExitStatus, d.Comparison
	if j.Custody == CustodyTransit {
		info.Opened, err = q.opened(ctx, j, d)
	}
	return info, err
}
