package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// jobView is a job in words.
type jobView struct {
	ID           consign.JobID    `json:"id"`
	Account      string           `json:"account"`
	State        string           `json:"state"`
	Kind         string           `json:"kind"`
	Model        string           `json:"model,omitempty"`
	Tier         consign.Tier     `json:"tier"`
	Custody      consign.Custody  `json:"custody"`
	Price        string           `json:"price"`
	Attempts     int              `json:"attempts"`
	Worker       consign.WorkerID `json:"worker,omitzero"`
	CreatedAt    time.Time        `json:"created_at"`
	EndedAt      time.Time        `json:"ended_at,omitzero"`
	Acknowledged bool             `json:"acknowledged"`
	Purged       bool             `json:"purged"`
	Reason       string           `json:"reason,omitempty"`
}

func view(j *consign.Job) jobView {
	v := jobView{ID: j.ID, Account: j.Account, State: j.State.String(), Custody: j.Custody, Price: j.Price.String(), Attempts: j.Attempt,
		Worker: j.Worker, CreatedAt: j.CreatedAt.Time(), EndedAt: j.EndedAt.Time(), Acknowledged: j.AckedAt != 0, Purged: j.Purged, Reason: j.Reason}
	if lane, err := consign.ParseLane(j.Lane); err == nil {
		v.Kind, v.Model, v.Tier = lane.Needs.Kind, lane.Needs.Model, lane.Needs.Tier
	}
	return v
}

func (t *tool) list(ctx context.Context) error {
	state, err := parseState(t.state)
	if err != nil {
		return err
	}
	if t.most < 1 {
		return errors.New("-n is below 1: leave it out for 100")
	}
	jobs, err := t.store.List(ctx, consign.Filter{Account: t.account, State: state}, consign.JobID{}, t.most)
	if err != nil {
		return err
	}
	views := make([]jobView, len(jobs))
	for i, j := range jobs {
		views[i] = view(j)
	}
	if err := show(t, []string{"JOB", "ACCOUNT", "STATE", "KIND", "MODEL", "TRIES", "CREATED", "REASON"}, views); err != nil {
		return err
	}
	if len(jobs) == t.most && !t.json {
		fmt.Fprintf(t.out, "There may be more: -n shows at most %d.\n", t.most)
	}
	return nil
}

// entryView is a line of a job's log in words.
type entryView struct {
	At      time.Time        `json:"at"`
	Event   string           `json:"event"`
	State   string           `json:"state"`
	Attempt int              `json:"attempt"`
	Worker  consign.WorkerID `json:"worker,omitzero"`
	Reason  string           `json:"reason,omitempty"`
	Report  string           `json:"report,omitempty"`
	Data    []byte           `json:"data,omitempty"`
}

// history is all of a job's log.
func (t *tool) history(ctx context.Context, id consign.JobID) (all []entryView, err error) {
	for last := consign.Seq(0); ; {
		entries, err := t.store.Log(ctx, id, last, 1000)
		if err != nil || len(entries) == 0 {
			return all, err
		}
		for _, e := range entries {
			v := entryView{At: e.At.Time(), Event: e.Event.String(), State: e.State.String(), Attempt: e.Attempt, Worker: e.Worker, Reason: e.Reason, Data: e.Data}
			if e.Event == consign.EventReport {
				v.Report = e.Report.String()
			}
			all, last = append(all, v), e.Seq
		}
	}
}

type explanation struct {
	Job   jobView       `json:"job"`
	Why   string        `json:"why"`
	Needs consign.Needs `json:"needs"`
	Log   []entryView   `json:"log"`
}

func (t *tool) explain(ctx context.Context) error {
	return t.each(ctx, func(job *consign.Job) error {
		x := explanation{Job: view(job)}
		lane, err := consign.ParseLane(job.Lane)
		if err != nil {
			return err
		}
		x.Needs = lane.Needs
		if x.Why, err = t.why(ctx, job); err != nil {
			return err
		}
		if x.Log, err = t.history(ctx, job.ID); err != nil {
			return err
		}
		return t.printExplanation(x)
	})
}

// why asks a queue. This one has no workers, so it cannot say who could take
// the job.
func (t *tool) why(ctx context.Context, job *consign.Job) (why string, err error) {
	if job.Purged {
		return "it is past its retention: only that it was there is kept", nil
	}
	now, err := t.now(ctx)
	if err != nil {
		return "", err
	}
	err = t.withQueue(ctx, consign.Config{}, func(q *consign.Queue) error {
		x, err := q.Submitter(job.Account).Explain(ctx, job.ID)
		why = x.Reason
		if err == nil && x.State == consign.StateQueued && !x.Paused && job.ReadyAt <= now {
			why = "it waits for a worker that can run it; which workers are connected its coordinator knows, and says at /v1/jobs/" + job.ID.String() + "/explain to its submitter"
		}
		return err
	})
	return why, err
}

// exported is all that the store has of a job.
type exported struct {
	Job          jobView         `json:"job"`
	Spec         *specView       `json:"spec,omitempty"`
	Result       []byte          `json:"result,omitempty"`
	ExitStatus   int32           `json:"exit_status,omitempty"`
	Verification string          `json:"verification,omitempty"`
	Record       json.RawMessage `json:"record,omitempty"`
	Acceptance   *sign.Envelope  `json:"acceptance,omitempty"`
	Log          []entryView     `json:"log"`
}

type specView struct {
	Header       []byte `json:"header,omitempty"`
	Payload      []byte `json:"payload"`
	Comparator   string `json:"comparator"`
	Privacy      string `json:"privacy_class"`
	Policy       string `json:"policy"`
	Priority     string `json:"priority"`
	HardwareTier uint8  `json:"hardware_tier,omitempty"`
	VRAM         uint32 `json:"vram,omitempty"`
	Labels       string `json:"labels,omitempty"`
	Chars        uint32 `json:"chars"`
	Webhook      string `json:"webhook,omitempty"`
}

// export prints a line of JSON for each job.
func (t *tool) export(ctx context.Context) error {
	var identity *sign.Identity
	if t.identity != "" {
		var err error
		if identity, err = sign.Load(t.identity); err != nil {
			return err
		}
	}
	lines := json.NewEncoder(t.out)
	return t.each(ctx, func(job *consign.Job) error {
		x, err := t.whole(ctx, job, identity)
		if err != nil {
			return err
		}
		return lines.Encode(x)
	})
}

func (t *tool) whole(ctx context.Context, job *consign.Job, identity *sign.Identity) (x exported, err error) {
	x.Job = view(job)
	specs, err := t.store.Specs(ctx, []consign.JobID{job.ID})
	if err != nil {
		return x, err
	}
	if s := specs[0]; s != nil {
		x.Spec = &specView{Header: s.Header, Payload: s.Payload, Comparator: s.Comparator, Privacy: s.Privacy.String(), Policy: s.Policy.String(),
			Priority: s.Priority.String(), HardwareTier: s.HardwareTier, VRAM: s.VRAM, Labels: s.Labels, Chars: s.Chars, Webhook: s.Webhook}
	}
	done, err := t.store.Done(ctx, job.ID)
	if err != nil {
		return x, err
	}
	if done != nil {
		x.Result, x.ExitStatus, x.Verification, x.Record = done.Result, done.ExitStatus, string(done.Verification), done.Record
		var record sign.Envelope
		if done.Record != nil && done.Verification != consign.VerificationSignature {
			if record, err = done.SignedRecord(); err != nil {
				return x, err
			}
			if x.Record, err = record.MarshalJSON(); err != nil {
				return x, err
			}
		}
		if identity != nil && done.Acceptance != nil {
			if x.Acceptance, err = accept(identity, record, done.Acceptance); err != nil {
				return x, err
			}
		}
	}
	x.Log, err = t.history(ctx, job.ID)
	return x, err
}

// accept signs the acceptance of a record, if the record is for that queue.
func accept(identity *sign.Identity, record sign.Envelope, acceptance *consign.Acceptance) (*sign.Envelope, error) {
	var names struct {
		Queue consign.QueueID `json:"queue_id"`
	}
	if err := json.Unmarshal(record.Payload, &names); err != nil {
		return nil, err
	}
	if names.Queue != consign.QueueIDOf(identity.Public()) {
		return nil, errors.New("was accepted by a queue of another identity: give that one's file with -identity")
	}
	e, err := consign.SignAcceptance(identity, *acceptance)
	return &e, err
}
