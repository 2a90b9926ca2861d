package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/consignq/consign"
)

// workerView is a worker in words.
type workerView struct {
	ID        consign.WorkerID `json:"worker_id"`
	Operator  string           `json:"operator,omitempty"`
	Standing  string           `json:"standing"`
	Strikes   uint64           `json:"strikes"`
	FirstSeen time.Time        `json:"first_seen"`
	Reason    string           `json:"reason,omitempty"` // of the last strike or review
}

func viewOf(w consign.WorkerRecord) workerView {
	return workerView{ID: w.ID, Operator: w.Operator, Standing: string(w.Standing.State()), Strikes: w.Standing.Strikes,
		FirstSeen: w.FirstSeen.Time(), Reason: w.Reason}
}

func (v workerView) row() []string {
	return []string{v.ID.String(), v.Standing, fmt.Sprint(v.Strikes), moment(v.FirstSeen), v.Reason}
}

var workerHead = []string{"WORKER", "STANDING", "STRIKES", "FIRST SEEN", "REASON"}

// workers lists all that ever registered.
func (t *tool) workers(ctx context.Context) error {
	var views []workerView
	for after := ""; ; {
		docs, err := t.store.Docs(ctx, consign.DocWorker, after, 1000)
		if err != nil {
			return err
		}
		if len(docs) == 0 {
			return show(t, workerHead, views)
		}
		for _, d := range docs {
			after = d.Key
			var w consign.WorkerRecord
			if err := json.Unmarshal(d.Body, &w); err != nil {
				return fmt.Errorf("the document of worker %s cannot be read: mend or delete it: %w", d.Key, err)
			}
			views = append(views, viewOf(w))
		}
	}
}

func (t *tool) remove(ctx context.Context) error { return t.review(ctx, consign.EvidenceRemove) }
func (t *tool) clear(ctx context.Context) error  { return t.review(ctx, consign.EvidenceClear) }

func (t *tool) review(ctx context.Context, kind consign.EvidenceKind) error {
	var views []workerView
	err := t.withQueue(ctx, consign.Config{}, func(q *consign.Queue) error {
		var failed []error
		for _, id := range t.whom {
			w, err := q.Review(ctx, id, kind, t.reason)
			if err != nil {
				failed = append(failed, fmt.Errorf("worker %s: %w", id, err))
				continue
			}
			views = append(views, viewOf(w))
		}
		return errors.Join(failed...)
	})
	if len(views) == 0 && err != nil && !t.json {
		return err
	}
	return errors.Join(show(t, workerHead, views), err)
}
