package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/consignq/consign"
)

// migrate has nothing left to do: to open a store is to bring it up to date.
func (t *tool) migrate(context.Context) error {
	return t.say("the store is there, and up to date")
}

// backup needs no queue, and no store but the file.
func (t *tool) backup(ctx context.Context) error {
	if err := backup(ctx, t.target, t.file); err != nil {
		return err
	}
	return t.say("the queue as it was at one moment is in " + plain(t.file))
}

// outcome is what became of a job.
type outcome struct {
	Job   consign.JobID `json:"job"`
	State string        `json:"state"`
	New   consign.JobID `json:"new_job,omitzero"` // which the state is of, if there is one
}

// tell shows what became of jobs, and is the error of the others. Where there
// is nothing else the error says it all, but to programs.
func (t *tool) tell(head []string, done []outcome, err error) error {
	if len(done) == 0 && err != nil && !t.json {
		return err
	}
	return errors.Join(show(t, head, done), err)
}

// withQueue runs a queue on the store for as long as f takes. It has no
// workers, so it hands nothing out.
func (t *tool) withQueue(ctx context.Context, c consign.Config, f func(*consign.Queue) error) error {
	c.Store, c.DrainTimeout = t.store, 5*time.Second
	c.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	q, err := consign.New(c)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- q.Run(running) }()
	err = f(q)
	stop()
	if e := <-ended; !errors.Is(e, context.Canceled) {
		err = errors.Join(e, err)
	}
	return err
}

// cancel ends jobs, whosever they are.
func (t *tool) cancel(ctx context.Context) error {
	var done []outcome
	err := t.withQueue(ctx, consign.Config{}, func(q *consign.Queue) error {
		return t.each(ctx, func(job *consign.Job) error {
			info, err := q.Cancel(ctx, job.ID, t.reason)
			if err == nil {
				done = append(done, outcome{Job: job.ID, State: info.State.String()})
			}
			return err
		})
	})
	return t.tell([]string{"JOB", "STATE"}, done, err)
}

// retry submits again what a job was: a terminal state never changes, and the
// history of a job is not written anew. The new ID follows from the old one, so
// that to retry a job twice is to retry it once.
func (t *tool) retry(ctx context.Context) error {
	var done []outcome
	err := t.each(ctx, func(job *consign.Job) error {
		specs, err := t.store.Specs(ctx, []consign.JobID{job.ID})
		if err != nil {
			return err
		}
		r, c, err := again(job, specs[0])
		if err != nil {
			return err
		}
		return t.withQueue(ctx, c, func(q *consign.Queue) error {
			info, err := q.Submitter(job.Account).Submit(ctx, r)
			if err == nil {
				done = append(done, outcome{Job: job.ID, State: info.State.String(), New: info.ID})
			}
			return err
		})
	})
	return t.tell([]string{"JOB", "STATE OF NEW", "NEW JOB"}, done, err)
}

// again is the request that makes a job like another one, and what a queue has
// to be for it to be like that in price, kind and tier.
func again(job *consign.Job, spec *consign.Spec) (r consign.SubmitRequest, c consign.Config, err error) {
	switch {
	case !job.State.Terminal():
		return r, c, fmt.Errorf("is %s: only what has ended can be retried", job.State)
	case job.State == consign.StateCompleted:
		return r, c, errors.New("is completed: there is nothing to retry")
	case job.Purged || spec == nil:
		return r, c, errors.New("was purged: its payload is gone, and only its submitter can submit it again")
	case spec.Custody != consign.CustodyPlain:
		return r, c, fmt.Errorf("is in the custody %s, sealed for this ID and no other: ask its submitter to submit it again", spec.Custody)
	}
	r = consign.SubmitRequest{ID: retryOf(job.ID), Kind: spec.Kind, Model: spec.Model, Payload: spec.Payload, Custody: spec.Custody,
		ClientKey: spec.ClientKey, Privacy: spec.Privacy, Policy: spec.Policy, Priority: spec.Priority, HardwareTier: spec.HardwareTier,
		VRAM: spec.VRAM, Labels: labels(spec.Labels), Comparator: spec.Comparator, QueueTime: job.QueueTime, MaxAttempts: job.MaxAttempts,
		Webhook: spec.Webhook}
	if job.Deadline != 0 {
		r.Deadline = job.Deadline.Sub(job.CreatedAt)
	}
	lane, err := consign.ParseLane(job.Lane)
	if err != nil {
		return r, c, err
	}
	c = consign.Config{Prices: consign.PriceTable{{Price: job.Price}}, Webhooks: spec.Webhook != "",
		Kinds: []consign.Kind{{Name: spec.Kind, Docker: lane.Needs.Docker}}, MaxPayload: max(len(spec.Payload), 1)}
	if consign.DefaultTierBounds.Tier(spec.Chars) != spec.Tier {
		return r, c, fmt.Errorf("is of tier %s by bounds that its queue has and this program does not: submit it again there", spec.Tier)
	}
	return r, c, nil
}

func retryOf(id consign.JobID) (next consign.JobID) {
	sum := sha256.Sum256(append([]byte("consign/examples/retry/v1"), id[:]...))
	copy(next[:], sum[:])
	next[6], next[8] = next[6]&0x0f|0x40, next[8]&0x3f|0x80 // as of every ID
	return next
}

// labels reads "k=v,k=v".
func labels(text string) map[string]string {
	all := make(map[string]string)
	for pair := range strings.SplitSeq(text, ",") {
		if k, v, ok := strings.Cut(pair, "="); ok {
			all[k] = v
		}
	}
	return all
}

// disown has the store belong to nobody: to the next coordinator that starts.
func (t *tool) disown(ctx context.Context) error {
	docs, err := t.store.Docs(ctx, consign.DocQueue, "", 1)
	if err != nil {
		return err
	}
	if len(docs) == 0 {
		return t.say("the store belongs to no queue")
	}
	d := docs[0]
	errs, err := t.store.Apply(ctx, []consign.Change{{ID: consign.ChangeID(consign.NewJobID()), Docs: []consign.Doc{{Kind: d.Kind, Key: d.Key, Version: d.Version + 1}}}})
	if err = errors.Join(append(errs, err)...); err != nil {
		return err
	}
	return t.say(fmt.Sprintf("the store belonged to %s; the next coordinator that starts makes it its own", d.Body))
}

// purge lets a queue do what time alone has made due. When a job is purged was
// decided when it ended, or was acknowledged: this does not hurry it.
func (t *tool) purge(ctx context.Context) error {
	seen := make(map[consign.JobID]bool)
	err := t.withQueue(ctx, consign.Config{}, func(*consign.Queue) error {
		for {
			now, err := t.now(ctx)
			if err != nil {
				return err
			}
			due, _, err := t.store.Due(ctx, now, 1000)
			if err != nil || len(due) == 0 {
				return err
			}
			for _, job := range due {
				seen[job.ID] = true
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	if err != nil {
		return err
	}
	after, err := t.purged(ctx, seen)
	if err != nil {
		return err
	}
	effects, err := t.store.Effects(ctx, 1000)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%d jobs were due, and %d of them are forgotten now", len(seen), after)
	if slices.ContainsFunc(effects, func(f consign.Effect) bool { return f.Kind == consign.EffectShred }) {
		what += "; keys of sealed jobs wait for a coordinator with the vault, to be destroyed"
	}
	return t.say(what)
}

// now is the time by which the queue goes.
func (t *tool) now(ctx context.Context) (consign.Instant, error) {
	if clock, own := t.store.(consign.Clock); own {
		return clock.Now(ctx)
	}
	return consign.At(time.Now()), nil
}

// purged counts those of the jobs of which a tombstone, or nothing, is left.
func (t *tool) purged(ctx context.Context, seen map[consign.JobID]bool) (n int, err error) {
	var ids []consign.JobID
	for id := range seen {
		ids = append(ids, id)
	}
	jobs, err := t.store.Jobs(ctx, ids)
	for _, job := range jobs {
		if job == nil || job.Purged {
			n++
		}
	}
	return n, err
}
