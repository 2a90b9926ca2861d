package faults

import (
	"context"
	"fmt"

	"github.com/consignq/consign"
)

// verdict is what a store holds, compared with what callers were told: the
// total-queue check, and whether the history of each job is linearizable.
type verdict struct {
	submits, claims, completions, cancels int // that were acknowledged
	unanswered, tooLate                   int // calls: what the faults did

	lost       int // acknowledged, and not there, or there and never ended
	unended    int // those of the lost that are there
	unexpected int // there, and submitted by nobody
	duplicates int // completed twice, or moved after their end
	stale      int // accepted from somebody who held the claim no more, or was told so
	unordered  int // jobs whose history has no order

	jobs, calls int    // in the history
	example     string // of what is wrong
}

func (v *verdict) transitions() int { return v.submits + v.claims + v.completions + v.cancels }

func (v *verdict) blame(n *int, format string, args ...any) {
	*n++
	if v.example == "" {
		v.example = fmt.Sprintf(format, args...)
	}
}

func (v *verdict) String() string {
	return fmt.Sprintf("%d acknowledged transitions (%d submits, %d claims, %d completions, %d cancels), %d calls without an answer, %d too late: lost %d, unexpected %d, duplicate completions %d, stale writes accepted %d; %d calls about %d jobs, not linearizable %d",
		v.transitions(), v.submits, v.claims, v.completions, v.cancels, v.unanswered, v.tooLate, v.lost, v.unexpected, v.duplicates, v.stale, v.calls, v.jobs, v.unordered)
}

// wrong is how many promises were broken.
func (v *verdict) wrong() int {
	return v.lost + v.unexpected + v.duplicates + v.stale + v.unordered
}

// judge compares a history with the store that is left.
func judge(ctx context.Context, store consign.Store, h *history) (*verdict, error) {
	v := &verdict{}
	told := h.byJob(v)
	err := eachJob(ctx, store, func(j *consign.Job) error {
		t, known := told[j.ID]
		if !known || !t.tried {
			v.blame(&v.unexpected, "job %s was submitted by nobody", j.ID)
			return nil
		}
		delete(told, j.ID)
		return v.job(ctx, store, j, t)
	})
	if err != nil {
		return nil, err
	}
	for id, t := range told {
		if t.submitted {
			v.blame(&v.lost, "job %s was acknowledged and is not there", id)
		}
	}
	var bad []call
	if v.jobs, v.calls, bad = h.linearizable(); bad != nil {
		v.blame(&v.unordered, "no order explains %+v", bad)
	}
	return v, nil
}

// told is what callers were told of a job.
type told struct {
	tried     bool // somebody has submitted it, acknowledged or not
	submitted bool
	cancelled bool
	completed map[consign.ClaimID][32]byte // acknowledged results
	tooLate   map[consign.ClaimID]bool     // whose completions were refused
}

// byJob sums up the history, and counts it.
func (h *history) byJob(v *verdict) map[consign.JobID]*told {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[consign.JobID]*told{}
	for _, c := range h.calls {
		t := all[c.Job]
		if t == nil {
			t = &told{completed: map[consign.ClaimID][32]byte{}, tooLate: map[consign.ClaimID]bool{}}
			all[c.Job] = t
		}
		yes := c.Outcome == acknowledged
		if c.Outcome == unknown {
			v.unanswered++
		}
		if c.Outcome == tooLate {
			v.tooLate++
		}
		t.tried = t.tried || c.Action == submit
		switch {
		case c.Action == submit && yes:
			v.submits++
			t.submitted = true
		case c.Action == claim && yes:
			v.claims++
		case c.Action == cancel && yes:
			v.cancels++
			t.cancelled = true
		case c.Action == complete && yes:
			if _, again := t.completed[c.Claim]; !again {
				v.completions++
			}
			t.completed[c.Claim] = c.Result
		case c.Action == complete && c.Outcome == tooLate:
			t.tooLate[c.Claim] = true
		}
	}
	return all
}

// job compares one job, its end and its log with what callers were told.
func (v *verdict) job(ctx context.Context, store consign.Store, j *consign.Job, t *told) error {
	done, err := store.Done(ctx, j.ID)
	if err != nil {
		return err
	}
	log, err := store.Log(ctx, j.ID, 0, 100_000)
	if err != nil {
		return err
	}
	if !j.State.Terminal() {
		v.unended++
		v.blame(&v.lost, "job %s is %s and does not end: %s", j.ID, j.State, j.Reason)
	}
	if t.cancelled && j.State != consign.StateCancelled {
		v.blame(&v.lost, "the cancel of job %s was acknowledged, and it is %s", j.ID, j.State)
	}
	if len(t.completed) > 1 {
		v.blame(&v.duplicates, "%d completions of job %s were acknowledged", len(t.completed), j.ID)
	}
	for claim, result := range t.completed {
		switch {
		case j.State != consign.StateCompleted || done == nil:
			v.blame(&v.lost, "a completion of job %s was acknowledged, and it is %s", j.ID, j.State)
		case done.Claim != claim:
			v.blame(&v.stale, "the completion of job %s under %s was acknowledged, and %s has completed it", j.ID, claim, done.Claim)
		case digest(done.Result) != result:
			v.blame(&v.lost, "the result of job %s is another than was acknowledged", j.ID)
		}
	}
	if done != nil && t.tooLate[done.Claim] {
		v.blame(&v.stale, "the completion of job %s under %s was refused, and is its result", j.ID, done.Claim)
	}
	v.log(j, log)
	return nil
}

// log checks that the job was completed at most once, by the attempt that was
// last claimed, and that nothing moved it after its end.
func (v *verdict) log(j *consign.Job, log []consign.LogEntry) {
	var holder consign.LogEntry
	completions, over := 0, false
	for _, e := range log {
		switch e.Event {
		case consign.EventClaim:
			holder = e
		case consign.EventComplete:
			if completions++; e.Attempt != holder.Attempt || e.Worker != holder.Worker {
				v.blame(&v.stale, "attempt %d of job %s completed it while attempt %d held it", e.Attempt, j.ID, holder.Attempt)
			}
		case consign.EventSettle, consign.EventReport, consign.EventAcknowledge, consign.EventPurge:
			continue
		}
		if over {
			v.blame(&v.duplicates, "job %s had ended before %s", j.ID, e.Event)
		}
		over = over || e.State.Terminal()
	}
	if completions > 1 {
		v.blame(&v.duplicates, "job %s was completed %d times", j.ID, completions)
	}
}

// eachJob calls f for every job.
func eachJob(ctx context.Context, store consign.Store, f func(*consign.Job) error) error {
	for after := (consign.JobID{}); ; {
		page, err := store.List(ctx, consign.Filter{}, after, 1000)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, j := range page {
			if err := f(j); err != nil {
				return err
			}
			after = j.ID
		}
	}
}
