package testkit

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"time"

	"github.com/consignq/consign"
)

// Quote implements consign.SubmitterAPI.
func (q *FakeQueue) Quote(ctx context.Context, r consign.QuoteRequest) (consign.Quote, error) {
	if err := q.enter(ctx); err != nil {
		return consign.Quote{}, err
	}
	defer q.mu.Unlock()
	return consign.Quote{Policy: consign.PolicyFast, Tier: consign.DefaultTierBounds.Tier(r.Chars)}, nil
}

// Submit implements consign.SubmitterAPI.
func (q *FakeQueue) Submit(ctx context.Context, r consign.SubmitRequest) (consign.JobInfo, error) {
	if err := q.enter(ctx); err != nil {
		return consign.JobInfo{}, err
	}
	defer q.mu.Unlock()
	if len(r.Payload) == 0 {
		return consign.JobInfo{}, &consign.FieldError{Field: "payload", Problem: "is empty", Remedy: "send at least one byte"}
	}
	if r.ID.IsZero() {
		r.ID = consign.NewJobID()
	}
	if j := q.jobs[r.ID]; j != nil {
		if consign.InputHash(j.req.Header, j.req.Payload) != consign.InputHash(r.Header, r.Payload) {
			return consign.JobInfo{}, consign.ErrConflict
		}
		return j.info, nil
	}
	if err := q.deposit(&r); err != nil {
		return consign.JobInfo{}, err
	}
	j := &fakeJob{req: r, info: consign.JobInfo{ID: r.ID, State: consign.StateQueued, Kind: r.Kind, Model: r.Model, CreatedAt: time.Now()}}
	q.jobs[r.ID] = j
	q.order = append(q.order, r.ID)
	q.note(j, consign.LogEntry{Event: consign.EventSubmit})
	q.wake()
	return j.info, nil
}

// SubmitMany implements consign.SubmitterAPI.
func (q *FakeQueue) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	out := make([]consign.SubmitOutcome, len(rs))
	for i, r := range rs {
		out[i].Job, out[i].Err = q.Submit(ctx, r)
	}
	return out
}

func (q *FakeQueue) find(ctx context.Context, id consign.JobID) (*fakeJob, error) {
	if err := q.enter(ctx); err != nil {
		return nil, err
	}
	if j := q.jobs[id]; j != nil {
		return j, nil
	}
	q.mu.Unlock()
	return nil, consign.ErrNotFound
}

// Get implements consign.SubmitterAPI.
func (q *FakeQueue) Get(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	j, err := q.find(ctx, id)
	if err != nil {
		return consign.JobInfo{}, err
	}
	defer q.mu.Unlock()
	return j.info, nil
}

// Wait implements consign.SubmitterAPI.
func (q *FakeQueue) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	for {
		j, err := q.find(context.WithoutCancel(ctx), id)
		if err != nil {
			return consign.JobInfo{}, err
		}
		info, changed := j.info, q.changed
		q.mu.Unlock()
		if info.State.Terminal() {
			return info, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return info, ctx.Err()
		}
	}
}

// Events implements consign.SubmitterAPI.
func (q *FakeQueue) Events(ctx context.Context, id consign.JobID, after consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(yield func(consign.LogEntry, error) bool) {
		for {
			j, err := q.find(ctx, id)
			if err != nil {
				yield(consign.LogEntry{}, err)
				return
			}
			var fresh []consign.LogEntry
			for _, e := range j.log {
				if e.Seq > after {
					fresh = append(fresh, e)
				}
			}
			ended, changed := j.info.State.Terminal(), q.changed
			q.mu.Unlock()
			for _, e := range fresh {
				after = e.Seq
				if !yield(e, nil) {
					return
				}
			}
			if ended {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(consign.LogEntry{}, ctx.Err())
				return
			}
		}
	}
}

// Cancel implements consign.SubmitterAPI.
func (q *FakeQueue) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	j, err := q.find(ctx, id)
	if err != nil {
		return consign.JobInfo{}, err
	}
	defer q.mu.Unlock()
	if j.info.State.Terminal() {
		return j.info, &consign.TransitionError{Job: id, State: j.info.State, Event: consign.EventCancel}
	}
	q.end(j, consign.StateCancelled, consign.EventCancel, "cancelled by its submitter")
	return j.info, nil
}

// Acknowledge implements consign.SubmitterAPI.
func (q *FakeQueue) Acknowledge(ctx context.Context, id consign.JobID) error {
	j, err := q.find(ctx, id)
	if err != nil {
		return err
	}
	defer q.mu.Unlock()
	if !j.info.State.Terminal() {
		return &consign.TransitionError{Job: id, State: j.info.State, Event: consign.EventAcknowledge}
	}
	j.info.Acknowledged = true
	return nil
}

// Receipt implements consign.SubmitterAPI.
func (q *FakeQueue) Receipt(ctx context.Context, id consign.JobID) (consign.Receipt, error) {
	j, err := q.find(ctx, id)
	if err != nil {
		return consign.Receipt{}, err
	}
	defer q.mu.Unlock()
	if j.record == nil {
		return consign.Receipt{}, consign.ErrNotFound
	}
	var r consign.Receipt
	if err := json.Unmarshal(j.record, &r.Record); err != nil {
		return consign.Receipt{}, err
	}
	r.Acceptance, err = consign.SignAcceptance(q.Identity, consign.Acceptance{
		Record: r.Record.Name(), AcceptedAt: j.at.UnixMicro(), Custody: j.req.Custody, Checks: []string{"poe", "signature"},
	})
	return r, err
}

// Explain implements consign.SubmitterAPI.
func (q *FakeQueue) Explain(ctx context.Context, id consign.JobID) (consign.Explanation, error) {
	_, err := q.find(ctx, id)
	if err != nil {
		return consign.Explanation{}, err
	}
	defer q.mu.Unlock()
	return consign.Explanation{}, nil
}

var errNoPairings = errors.New("testkit: this queue pairs nobody")

// NewPairing, Pairings, ConfirmPairing and RevokePairing implement
// consign.SubmitterAPI: this queue pairs nobody.
func (q *FakeQueue) NewPairing(context.Context, []byte) (consign.PairingCode, error) {
	return consign.PairingCode{}, errNoPairings
}

func (q *FakeQueue) Pairings(context.Context) ([]consign.Pairing, error) { return nil, nil }

func (q *FakeQueue) ConfirmPairing(context.Context, consign.WorkerID, string) (consign.Pairing, error) {
	return consign.Pairing{}, errNoPairings
}

func (q *FakeQueue) RevokePairing(context.Context, consign.WorkerID) error { return nil }
