package consign_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
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
		synctest.Test(t, func(t *testing.T) { err = playQueue(t, steps, queueBug{}) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

// queueBug is a fault that is planted around a whole queue.
type queueBug struct {
	name    string
	store   func(c *consign.Change) // before it is applied
	session func(s consign.Session) consign.Session
	sub     func(s consign.SubmitterAPI) consign.SubmitterAPI
}

// changing is a store that spoils what it is told to write.
type changing struct {
	consign.Store
	spoil func(c *consign.Change)
}

func (s changing) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	for i := range changes {
		s.spoil(&changes[i])
	}
	return s.Store.Apply(ctx, changes)
}

// polite is a session that never says that a claim is lost.
type polite struct{ consign.Session }

func (s polite) Complete(ctx context.Context, c consign.Completion) error {
	if err := s.Session.Complete(ctx, c); !errors.Is(err, consign.ErrLeaseLost) {
		return err
	}
	return nil
}

// grabbing is a session that gives back nothing.
type grabbing struct{ consign.Session }

func (grabbing) Release(context.Context, consign.Release) error { return nil }

// obliging is a queue that cancels whatever it is asked to, or says so.
type obliging struct{ consign.SubmitterAPI }

func (s obliging) Cancel(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, _ := s.SubmitterAPI.Cancel(ctx, id)
	return job, nil
}

func on(kind consign.EventKind, spoil func(c *consign.Change)) func(c *consign.Change) {
	return func(c *consign.Change) {
		if c.Job != nil && len(c.Log) > 0 && c.Log[0].Event == kind {
			spoil(c)
		}
	}
}

var queueBugs = []queueBug{
	{name: "a late result is acknowledged", session: func(s consign.Session) consign.Session { return polite{s} }},
	{name: "a claim is not given back", session: func(s consign.Session) consign.Session { return grabbing{s} }},
	{name: "a job that has its result is cancelled", sub: func(s consign.SubmitterAPI) consign.SubmitterAPI { return obliging{s} }},
	{name: "another result is stored", store: on(consign.EventComplete, func(c *consign.Change) {
		done := *c.Done
		done.Result = append([]byte("not "), done.Result...)
		c.Done = &done
	})},
	{name: "a cancelled job is not repaid", store: on(consign.EventCancel, func(c *consign.Change) { c.Effects = nil })},
	{name: "a job is admitted without its hold", store: on(consign.EventSubmit, func(c *consign.Change) { c.Counters = nil })},
	{name: "a job is paid twice", store: func(c *consign.Change) {
		if c.Job == nil && len(c.Drop) > 0 {
			c.Counters = append(slices.Clone(c.Counters), c.Counters...)
		}
	}},
}

// TestQueueMutants plays drawn calls with each bug until the model sees it.
func TestQueueMutants(t *testing.T) {
	draw := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 60)
	caught := 0
	for _, bug := range queueBugs {
		seen := false
		for seed := 0; seed < 200 && !seen; seed++ {
			synctest.Test(t, func(t *testing.T) { seen = playQueue(t, draw.Example(seed), bug) != nil })
		}
		if seen {
			caught++
		} else {
			t.Errorf("survived: %s", bug.name)
		}
	}
	t.Logf("%d of %d caught", caught, len(queueBugs))
}

func playQueue(t *testing.T, steps []int, bug queueBug) error {
	const price, credit = 10, 200
	store := consign.Store(memdb.New())
	if bug.store != nil {
		store = changing{store, bug.store}
	}
	q, stop := startQueueStop(t, consign.Config{Store: store, NoReceipts: true, MaxAttempts: 3, Prices: consign.PriceTable{{Price: price}}, Logger: slog.New(slog.DiscardHandler)})
	defer stop()
	ctx := t.Context()
	if err := q.AddCredit(ctx, "acme", credit); err != nil {
		return err
	}
	sub := q.Submitter("acme")
	s := openSession(t, q, seededIdentity(1), consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: 1000})
	if bug.session != nil {
		s = bug.session(s)
	}
	if bug.sub != nil {
		sub = bug.sub(sub)
	}
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
