package consign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// What the owner of a queue does with it, beside the two faces.

// PauseKey names what is paused: a kind or a lane.
type PauseKey string

// PauseKind names all jobs of a kind.
func PauseKind(kind string) PauseKey { return PauseKey("kind/" + kind) }

// PauseLane names the jobs of one lane, by the text of Job.Lane.
func PauseLane(lane string) PauseKey { return PauseKey("lane/" + lane) }

// Pause stops handing out jobs of a kind or lane, durably; those that run go
// on. Pausing twice is pausing once.
func (q *Queue) Pause(ctx context.Context, what PauseKey) error {
	return q.setPause(ctx, what, true)
}

// Resume ends a Pause.
func (q *Queue) Resume(ctx context.Context, what PauseKey) error {
	return q.setPause(ctx, what, false)
}

func (q *Queue) setPause(ctx context.Context, what PauseKey, paused bool) error {
	q.admin.Lock() // the store and the engine hear of changes in one order
	defer q.admin.Unlock()
	if err := q.setDoc(ctx, DocPause, string(what), []byte(`{}`), paused); err != nil {
		return err
	}
	return q.inbox.call(inPause{what, paused})
}

// setDoc writes a document, or deletes it where there shall be none.
func (q *Queue) setDoc(ctx context.Context, kind, key string, body []byte, there bool) error {
	for {
		doc, err := q.config.Store.Doc(ctx, kind, key)
		if err != nil || (doc.Version > 0) == there {
			return err
		}
		if !there {
			body = nil
		}
		err = q.write(ctx, Change{Docs: []Doc{{Kind: kind, Key: key, Version: doc.Version + 1, Body: body}}, Counters: []Delta{adminChanged}})
		if !errors.Is(err, ErrVersion) {
			return err
		}
	}
}

// Balance is an account's credit.
type Balance struct {
	Available Price // may be spent
	Held      Price // for jobs that are under way
	Spent     Price // on jobs that were completed
}

// maxCredit bounds what is added at once, a million million, far from where
// counters end.
const maxCredit = Price(1e18)

// credited is a document of kind DocCredit: what was added, under which
// reference.
type credited struct {
	Account string  `json:"account"`
	Amount  Price   `json:"amount"`
	At      Instant `json:"at"`
}

// AddCredit adds to what an account may spend; a negative amount takes away,
// down to zero. The reference names the payment, one of the whole queue: under
// one reference money moves once, so after an error call it again with the same.
// It is remembered for ever, in one small document, by every queue on the store.
// It returns ErrCredit where there is not so much to take, ErrConflict for the
// reference of another account or amount, and a *FieldError for more than $1e12
// or for a reference or an account that is no text of at most 1,024 bytes.
func (q *Queue) AddCredit(ctx context.Context, account string, amount Price, reference string) error {
	switch {
	case amount > maxCredit || amount < -maxCredit:
		return fieldError("credit", fmt.Sprintf("is %s", amount), fmt.Sprintf("add at most %s at once", maxCredit))
	case reference == "" || !text(reference):
		return fieldError("reference", fmt.Sprintf("is not a name: %.80q", reference), "name the payment, in UTF-8 of at most 1,024 bytes, without zero bytes")
	case !text(account):
		return fieldError("account", fmt.Sprintf("is not a name: %.80q", account), "use UTF-8 of at most 1,024 bytes, without zero bytes")
	}
	err := q.write(ctx, Change{
		Docs:     []Doc{jsonDoc(DocCredit, reference, 1, credited{account, amount, q.now()})},
		Counters: []Delta{{Counter: balanceCounter(account), Add: int64(amount)}},
	})
	if !errors.Is(err, ErrVersion) && !errors.Is(err, ErrBound) {
		return err
	}
	// Either may be what is left of a call that moved the money before.
	doc, readErr := q.config.Store.Doc(ctx, DocCredit, reference)
	var before credited
	if readErr == nil && doc.Version > 0 {
		readErr = json.Unmarshal(doc.Body, &before)
	}
	switch {
	case readErr != nil:
		return readErr
	case doc.Version > 0 && (before.Account != account || before.Amount != amount):
		return fmt.Errorf("%w: reference %q added %s to account %q: give this payment one of its own", ErrConflict, reference, before.Amount, before.Account)
	case doc.Version > 0:
		return nil
	case errors.Is(err, ErrBound):
		return fmt.Errorf("%w: account %q does not have %s", ErrCredit, account, -amount)
	}
	return err
}

// Balance returns an account's credit.
func (q *Queue) Balance(ctx context.Context, account string) (b Balance, err error) {
	for _, c := range []struct {
		name string
		into *Price
	}{
		{balanceCounter(account), &b.Available}, {heldCounter(account), &b.Held}, {spentCounter(account), &b.Spent},
	} {
		n, err := q.config.Store.Counter(ctx, c.name)
		if err != nil {
			return b, err
		}
		*c.into = Price(n)
	}
	return b, nil
}

// Cancel ends a job of any account that has no result yet, as its submitter
// could; the reason is kept with the job, for the submitter to read, and is
// "cancelled by the queue's owner" where it is empty. ErrNotFound; a
// *TransitionError for a job that has ended otherwise; a *FieldError for a
// reason that is no text of at most 4,096 bytes.
func (q *Queue) Cancel(ctx context.Context, id JobID, why string) (JobInfo, error) {
	if reason(why) != why {
		return JobInfo{}, fieldError("reason", fmt.Sprintf("has %d bytes, or is not text", len(why)), "give UTF-8 without NUL, at most 4,096 bytes of it")
	}
	if why == "" {
		why = "cancelled by the queue's owner"
	}
	r, err := q.ask(ctx, func(c *call) input {
		return inOp{&op{kind: opCancel, call: c, id: id, owner: true, ev: Event{Kind: EventCancel, Reason: why}}}
	})
	if err != nil {
		return JobInfo{}, err
	}
	return q.info(r.job), nil
}

// Jobs lists jobs of any account, by ID, after the given one, at most n, with
// their results left out.
func (q *Queue) Jobs(ctx context.Context, f Filter, after JobID, n int) ([]JobInfo, error) {
	jobs, err := q.config.Store.List(ctx, f, after, n)
	if err != nil {
		return nil, err
	}
	out := make([]JobInfo, len(jobs))
	for i, j := range jobs {
		out[i] = q.info(j)
	}
	return out, nil
}

// Worker returns what the queue keeps of a worker. ErrNotFound.
func (q *Queue) Worker(ctx context.Context, id WorkerID) (WorkerRecord, error) {
	r, _, err := q.workerRecord(ctx, id)
	return r, err
}

func (q *Queue) workerRecord(ctx context.Context, id WorkerID) (r WorkerRecord, version uint64, err error) {
	doc, err := q.config.Store.Doc(ctx, DocWorker, id.String())
	if err == nil && doc.Version == 0 {
		err = fmt.Errorf("%w: worker %s", ErrNotFound, id)
	}
	if err == nil {
		err = json.Unmarshal(doc.Body, &r)
	}
	return r, doc.Version, err
}

// Review is a person's word on a worker: with EvidenceRemove it gets no more
// jobs, with EvidenceClear it may take jobs, whatever was held against it. Other
// queues on the store go by it within a second. Why is kept with it, and told to
// a worker that is removed. What the worker runs goes on; Cancel ends it.
// ErrNotFound for a worker that never registered; a *FieldError for another kind,
// or for a reason that is no text of at most 4,096 bytes.
func (q *Queue) Review(ctx context.Context, id WorkerID, kind EvidenceKind, why string) (WorkerRecord, error) {
	switch {
	case kind != EvidenceRemove && kind != EvidenceClear:
		return WorkerRecord{}, fieldError("review.kind", fmt.Sprintf("is %.80q", kind), "use EvidenceRemove or EvidenceClear")
	case reason(why) != why:
		return WorkerRecord{}, fieldError("reason", fmt.Sprintf("has %d bytes, or is not text", len(why)), "give UTF-8 without NUL, at most 4,096 bytes of it")
	}
	for {
		r, version, err := q.workerRecord(ctx, id)
		if err != nil {
			return r, err
		}
		if r.Standing, err = r.Standing.Fold(Evidence{Subject: r.Standing.Subject, Number: r.Standing.Row + 1, Kind: kind, Operator: r.Operator}); err != nil {
			return r, err
		}
		r.Reason = why
		doc := jsonDoc(DocWorker, id.String(), version+1, r)
		err = q.write(ctx, Change{Docs: []Doc{doc}, Counters: []Delta{adminChanged}})
		if err == nil {
			q.inbox.push(inStanding{doc})
		}
		if !errors.Is(err, ErrVersion) { // else it was struck, or registered, meanwhile
			return r, err
		}
	}
}
