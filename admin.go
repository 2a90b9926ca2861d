package consign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
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

// Pairing says that an account trusts a worker with its PRIVATE jobs.
type Pairing struct {
	Account string   `json:"account"`
	Worker  WorkerID `json:"worker_id"`
}

func (p Pairing) key() string { return url.QueryEscape(p.Account) + "/" + p.Worker.String() }

// pairedWith lists the workers that are paired with an account, by ID.
func (q *Queue) pairedWith(ctx context.Context, account string) (ids []WorkerID, err error) {
	prefix := url.QueryEscape(account) + "/"
	after := prefix
	for {
		page, err := q.config.Store.Docs(ctx, DocPairing, after, 1000)
		if err != nil || len(page) == 0 {
			return ids, err
		}
		for _, d := range page {
			if !strings.HasPrefix(d.Key, prefix) {
				return ids, nil
			}
			p, err := readPairing(d)
			if err != nil {
				return nil, fmt.Errorf("document %s %q: %w", d.Kind, d.Key, err)
			}
			ids, after = append(ids, p.Worker), d.Key
		}
	}
}

func readPairing(d Doc) (p Pairing, err error) {
	err = json.Unmarshal(d.Body, &p)
	return p, err
}

// Pair records that the account trusts the worker with its PRIVATE jobs. The
// caller vouches that the account has confirmed the worker's fingerprint.
func (q *Queue) Pair(ctx context.Context, p Pairing) error { return q.setPairing(ctx, p, true) }

// Unpair ends a Pair. Jobs that the worker is running go on.
func (q *Queue) Unpair(ctx context.Context, p Pairing) error { return q.setPairing(ctx, p, false) }

func (q *Queue) setPairing(ctx context.Context, p Pairing, trusted bool) error {
	q.admin.Lock()
	defer q.admin.Unlock()
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := q.setDoc(ctx, DocPairing, p.key(), body, trusted); err != nil {
		return err
	}
	return q.inbox.call(inPair{p.Account, p.Worker, trusted})
}

// Balance is an account's credit.
type Balance struct {
	Available Price // may be spent
	Held      Price // for jobs that are under way
	Spent     Price // on jobs that were completed
}

// AddCredit adds to what an account may spend; a negative amount takes away,
// down to zero. It returns ErrCredit where there is not so much to take.
func (q *Queue) AddCredit(ctx context.Context, account string, amount Price) error {
	err := q.write(ctx, Change{Counters: []Delta{{Counter: balanceCounter(account), Add: int64(amount)}}})
	if errors.Is(err, ErrBound) {
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
	var r WorkerRecord
	doc, err := q.config.Store.Doc(ctx, DocWorker, id.String())
	if err == nil && doc.Version == 0 {
		err = fmt.Errorf("%w: worker %s", ErrNotFound, id)
	}
	if err == nil {
		err = json.Unmarshal(doc.Body, &r)
	}
	return r, err
}
