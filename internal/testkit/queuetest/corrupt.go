package queuetest

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
)

// BesideCorruptRows damages the rows of some jobs, as many as it is told: a
// queue that is opened on them completes all others, whose number is good.
func (s Suite) BesideCorruptRows(t *testing.T, bad int, damage func(t *testing.T, store consign.Store, ids []consign.JobID)) {
	const good = 20
	s.run(t, func(t *testing.T) {
		open := s.Place(t)
		store := open()
		q, stop := startPlain(t, store)
		requests := make([]consign.SubmitRequest, good+bad)
		for i := range requests {
			requests[i] = consign.SubmitRequest{Kind: consign.KindTask, Payload: fmt.Appendf(nil, "job %d", i), Custody: consign.CustodyPlain}
		}
		var ids []consign.JobID
		for i, o := range q.Submitter("acme").SubmitMany(t.Context(), requests) {
			if o.Err != nil {
				t.Fatal(i, o.Err)
			}
			ids = append(ids, o.Job.ID)
		}
		stop()
		damage(t, store, ids[:bad]) // those that would be claimed first

		store = open()
		q, stop = startPlain(t, store)
		defer stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w, err := session(ctx, q, identity(1))
		if err != nil {
			t.Fatal(err)
		}
		for done := range good {
			a, err := w.Claim(ctx)
			if err == nil {
				err = w.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("the answer")})
			}
			if err != nil {
				t.Fatalf("after %d of %d jobs: %v", done, good, err)
			}
		}
		for _, id := range ids[bad:] {
			if info, err := q.Submitter("acme").Get(ctx, id); err != nil || info.State != consign.StateCompleted {
				t.Errorf("job %s beside those that are damaged is %s (%v)", id, info.State, err)
			}
		}
	})
}

// startPlain runs a queue until it is stopped.
func startPlain(t *testing.T, store consign.Store) (q *consign.Queue, stop func()) {
	t.Helper()
	return testkit.Start(t, consign.Config{Store: store, Identity: identity(0), NoReceipts: true, DrainTimeout: time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
}
