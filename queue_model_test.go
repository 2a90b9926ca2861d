package consign_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"pgregory.net/rapid"
)

// queueModel is what a queue promises of each job, kept beside a real one: at
// most one result, the holder's; nothing changes after the end; every credit
// is somewhere.
type queueModel struct {
	state  map[consign.JobID]consign.State
	holder map[consign.JobID]consign.ClaimID
	result map[consign.JobID]string
}

// TestQueueModel drives a Queue on memdb through drawn calls and passing time,
// and compares every job with the model after each. RAPID_CHECKS and
// RAPID_STEPS make it deeper.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 60).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(t *testing.T) { err = playQueue(t, steps) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func playQueue(t *testing.T, steps []int) error {
	const price, credit = 10, 200
	q, stop := startQueueStop(t, consign.Config{NoReceipts: true, MaxAttempts: 3, Prices: consign.PriceTable{{Price: price}}})
	defer stop()
	ctx := t.Context()
	if err := q.AddCredit(ctx, "acme", credit); err != nil {
		return err
	}
	sub := q.Submitter("acme")
	s := openSession(t, q, seededIdentity(1), consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: 1000})
	m := queueModel{map[consign.JobID]consign.State{}, map[consign.JobID]consign.ClaimID{}, map[consign.JobID]string{}}
	var ids []consign.JobID
	var held []consign.Claim
	for i, n := range steps {
		switch pick := n / 10; n % 10 {
		case 0, 1, 2:
			job, err := sub.Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: fmt.Appendf(nil, "job %d", i), Custody: consign.CustodyPlain})
			if errors.Is(err, consign.ErrCredit) && len(ids)*price >= credit {
				break
			} else if err != nil {
				return err
			}
			ids = append(ids, job.ID)
			m.state[job.ID] = consign.StateQueued
		case 3, 4:
			if a, ok := claimNow(t, s); ok {
				if m.state[a.Job] != consign.StateQueued {
					return fmt.Errorf("claimed job %s, which is %s", a.Job, m.state[a.Job])
				}
				m.state[a.Job], m.holder[a.Job] = consign.StateRunning, a.Claim
				held = append(held, consign.Claim{Job: a.Job, Claim: a.Claim})
			}
		case 5, 6:
			if len(held) == 0 {
				break
			}
			c := held[pick%len(held)]
			text := fmt.Sprint("result ", i)
			err := s.Complete(ctx, consign.Completion{Claim: c, Result: []byte(text)})
			if now := m.state[c.Job] == consign.StateRunning && m.holder[c.Job] == c.Claim; now != (err == nil) {
				return fmt.Errorf("completion under claim %s, current %t: %v", c.Claim, now, err)
			} else if now {
				m.state[c.Job], m.result[c.Job] = consign.StateCompleted, text
			}
		case 7:
			if len(held) == 0 {
				break
			}
			c := held[pick%len(held)]
			err := s.Release(ctx, consign.Release{Claim: c})
			if now := m.state[c.Job] == consign.StateRunning && m.holder[c.Job] == c.Claim; now != (err == nil) {
				return fmt.Errorf("release of claim %s, current %t: %v", c.Claim, now, err)
			} else if now {
				m.state[c.Job] = consign.StateQueued
			}
		case 8:
			if len(ids) == 0 {
				break
			}
			id := ids[pick%len(ids)]
			_, err := sub.Cancel(ctx, id)
			late := m.state[id].Terminal() && m.state[id] != consign.StateCancelled
			if late == (err == nil) {
				return fmt.Errorf("cancel of a job that is %s: %v", m.state[id], err)
			} else if !late {
				m.state[id] = consign.StateCancelled
			}
		case 9:
			time.Sleep(time.Second * time.Duration(pick)) // within the lease
			if _, err := s.Heartbeat(ctx, consign.Heartbeat{Capabilities: consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: 1000}, FreeSlots: 1, Claims: held}); err != nil {
				return err
			}
		}
		for _, id := range ids {
			job, err := sub.Get(ctx, id)
			if err != nil || job.State != m.state[id] || string(job.Result) != m.result[id] {
				return fmt.Errorf("step %d: job %s is %s with %q, want %s with %q: %w", i, id, job.State, job.Result, m.state[id], m.result[id], err)
			}
		}
	}
	time.Sleep(10 * time.Second) // the pump
	b, err := q.Balance(ctx, "acme")
	spent, open := 0, 0
	for _, state := range m.state {
		if state == consign.StateCompleted {
			spent += price
		} else if !state.Terminal() {
			open += price
		}
	}
	if err != nil || b.Spent != consign.Price(spent) || b.Held != consign.Price(open) || b.Available != consign.Price(credit-spent-open) {
		return fmt.Errorf("credit %+v, want %d spent and %d held: %w", b, spent, open, err)
	}
	return nil
}

// claimNow claims if there is something to claim.
func claimNow(t *testing.T, s consign.Session) (consign.Assignment, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	a, err := s.Claim(ctx)
	return a, err == nil
}
