package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

// Whenever a call begins, it has its whole time but for a sixteenth, and no more;
// and those that begin close together share a context.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		d := deadlines{parent: ctx, after: 16 * time.Second}
		made := map[context.Context]bool{}
		const calls = 200
		for range calls {
			c := d.context()
			made[c] = true
			deadline, _ := c.Deadline()
			if left := time.Until(deadline); c.Err() != nil || left < 15*time.Second || left > 16*time.Second {
				t.Fatalf("a call has %v: %v", left, c.Err())
			}
			time.Sleep(170 * time.Millisecond)
		}
		if len(made) > calls/5 {
			t.Errorf("%d calls have %d contexts", calls, len(made))
		}
		cancel()
		if d.context().Err() == nil {
			t.Error("a call outlives what bounds them all")
		}
	})
}

// An attempt that begins just as the drain is over is stopped, too.
func TestAttemptThatBeginsAfterTheDrain(t *testing.T) {
	working, kill := context.WithCancelCause(t.Context())
	r := &run{working: working, attempts: map[consign.Claim]*attempt{}, newest: map[consign.JobID]*attempt{}}
	before := r.newAttempt(consign.Assignment{Job: consign.JobID{1}, Claim: consign.ClaimID{1}})
	between := r.newAttempt(consign.Assignment{Job: consign.JobID{2}, Claim: consign.ClaimID{2}})
	r.begin(before)
	kill(errStopped)
	r.stopAll()
	r.begin(between)
	for _, a := range []*attempt{before, between} {
		if !errors.Is(context.Cause(a.ctx), errStopped) {
			t.Errorf("job %s goes on: %v", a.Job, context.Cause(a.ctx))
		}
	}
}
