package queuetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/consignq/consign"
)

// Faults about who holds a job, and how it ends.

// The reaper overwrote a job that completed after its scan.
func reaperLoses(s *stand) error {
	reaper := s.gate(about(consign.EventLeaseLost), nil)
	s.start(reaper.in)
	h, a, err := s.held(s.q)
	if err != nil {
		return err
	}
	other, _ := s.beside(blinded)
	s.lapse(a)
	if err := reaper.waits(s); err != nil { // its write is on its way
		return err
	}
	if err := errors.Join(h.register(other), h.complete(a, "mine")); err != nil {
		return fmt.Errorf("before the reaper's commit: %v", err)
	}
	outcome, err := reaper.passes(s)
	if err == nil && outcome == nil {
		err = errors.New("the reaper's write is done")
	}
	if err != nil {
		return err
	}
	s.ticks(2)
	log, err := s.store.Log(s.Context(), a.Job, 0, 100)
	if j := s.job(a.Job); err != nil || j.State != consign.StateCompleted || slices.ContainsFunc(log, logged(consign.EventLeaseLost)) {
		return fmt.Errorf("the job that completed is %s, its log %+v (%v)", j.State, log, err)
	}
	return nil
}

func logged(kind consign.EventKind) func(consign.LogEntry) bool {
	return func(e consign.LogEntry) bool { return e.Event == kind }
}

// A past leader believed that it still led. Here there is no leader; but a
// coordinator that slept while another took over its leases decides on what it
// saw before: what it then reaps, renews and is told changes nothing.
func sleeper(s *stand) error {
	asleep := s.gate(renewal, func(c call) bool { return len(c.lapsed) > 0 }) // it has looked, and then sleeps
	s.start(asleep.in)
	old, first, err := s.held(s.q)
	if err != nil {
		return err
	}
	if _, err := old.beat(first); err != nil { // a renewal that comes when it wakes
		return err
	}
	s.lapse(first)
	if err := errors.Join(asleep.waits(s), asleep.waits(s)); err != nil { // the renewal, and what it saw
		return err
	}
	other, _ := s.beside()
	holder, err := s.hire(other)
	if err != nil {
		return err
	}
	second, err := holder.claim() // the other has reaped the lease
	if err != nil {
		return err
	}
	version := s.job(first.Job).Version
	if _, err := asleep.passes(s); err != nil {
		return err
	}
	for range 3 {
		s.ticks(1)
		if lost, err := holder.beat(second); err != nil || len(lost) > 0 {
			return fmt.Errorf("the holder has lost %v: %v", lost, err)
		}
	}
	if err := old.complete(first, "late"); !errors.Is(err, consign.ErrLeaseLost) {
		return fmt.Errorf("the sleeper takes a result under a claim that is over: %v", err)
	}
	if j := s.job(first.Job); j.Version != version || j.Claim != second.Claim {
		return fmt.Errorf("the sleeper has changed the job: %+v", j)
	}
	return holder.complete(second, "mine")
}

// A lost notification meant a missed cancel. The worker hears of a cancel at
// another coordinator with a heartbeat, and who waits for the job is woken,
// whether the store tells or not.
func cancelElsewhere(s *stand) error {
	s.start()
	for _, wraps := range [][]func(consign.Store) consign.Store{nil, {muted}} {
		other, stop := s.beside(wraps...)
		h, a, err := s.held(s.q)
		if err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(s.Context(), s.patience())
			defer cancel()
			info, err := s.sub.Wait(ctx, a.Job)
			if err == nil && info.State != consign.StateCancelled {
				err = fmt.Errorf("who waits for the job finds it %s", info.State)
			}
			ended <- err
		}()
		if _, err := other.Submitter("acme").Cancel(s.Context(), a.Job); err != nil {
			return err
		}
		var failed error
		err = s.until("the worker hears of the cancel", func() bool {
			lost, err := h.beat(a)
			failed = err
			return err != nil || slices.Contains(lost, claimOf(a))
		})
		if err := errors.Join(err, failed, <-ended); err != nil {
			return err
		}
		stop()
	}
	return nil
}

// A cancel arrived during the fetch: before the claim is committed, or before
// its answer is there.
func cancelDuringClaim(s *stand) error {
	for _, committed := range []bool{false, true} {
		claims := s.gate(about(consign.EventClaim), nil)
		if committed {
			claims = s.gate(nil, about(consign.EventClaim))
		}
		s.start(claims.in)
		other, _ := s.beside(blinded)
		h, err := s.hire(s.q)
		if err != nil {
			return err
		}
		job, err := s.submit(nil)
		if err != nil {
			return err
		}
		type answer struct {
			consign.Assignment
			error
		}
		got := make(chan answer, 1)
		ctx, cancel := context.WithCancel(s.Context())
		go func() { a, err := h.session.Claim(ctx); got <- answer{a, err} }()
		if err := claims.waits(s); err != nil {
			cancel()
			return err
		}
		info, err := other.Submitter("acme").Cancel(s.Context(), job.ID)
		if err != nil || info.State != consign.StateCancelled {
			err = fmt.Errorf("the cancel leaves the job %s: %v", info.State, err)
		}
		outcome, gone := claims.passes(s)
		if !committed { // there is nothing to claim
			s.ticks(1)
			cancel()
		}
		a := <-got
		cancel()
		if err := errors.Join(err, gone); err != nil {
			return err
		}
		if j := s.job(job.ID); j.State != consign.StateCancelled || committed != (outcome == nil) || committed != (a.error == nil) {
			return fmt.Errorf("the job that was cancelled is %s: its claim, committed before it %t, has the outcome %v, the worker %v", j.State, committed, outcome, a.error)
		}
		if committed {
			if err := s.until("the worker hears that the job is cancelled", func() bool {
				lost, err := h.beat(a.Assignment)
				return err == nil && slices.Contains(lost, claimOf(a.Assignment))
			}); err != nil {
				return err
			}
			if err := h.complete(a.Assignment, "late"); !errors.Is(err, consign.ErrLeaseLost) || !errors.Is(err, consign.ErrCancelled) {
				return fmt.Errorf("a completion of the cancelled job: %v", err)
			}
		}
		s.end()
	}
	return nil
}

// A late ack was accepted for another consumer's redelivery.
func lateCompletion(s *stand) error {
	for _, elsewhere := range []bool{false, true} {
		t, err := s.take(elsewhere)
		if err != nil {
			return err
		}
		before := s.job(t.old.Job)
		if err := t.first.complete(t.old, "late"); !errors.Is(err, consign.ErrLeaseLost) {
			return fmt.Errorf("the late completion: %v", err)
		}
		if err := t.first.complete(t.now, "stolen"); err == nil {
			return errors.New("a completion under another worker's claim is accepted")
		}
		if j := s.job(t.old.Job); j.Version != before.Version || j.State != consign.StateRunning || j.Claim != t.now.Claim {
			return fmt.Errorf("the late completion changed the job: %+v", j)
		}
		if err := t.second.complete(t.now, "mine"); err != nil {
			return fmt.Errorf("the holder's completion: %v", err)
		}
		if done, err := s.store.Done(s.Context(), t.old.Job); err != nil || done == nil || string(done.Result) != "mine" {
			return fmt.Errorf("the job ends with %+v: %v", done, err)
		}
		s.end()
	}
	return nil
}

// A stale owner wrote failure fields on the new owner's job.
func staleOwner(s *stand) error {
	for _, elsewhere := range []bool{false, true} {
		t, err := s.take(elsewhere)
		if err != nil {
			return err
		}
		before := s.job(t.old.Job)
		ctx, first := s.Context(), t.first.session
		for name, err := range map[string]error{
			"fail":    first.Fail(ctx, consign.Failure{Claim: claimOf(t.old), Kind: consign.FailPayload, Reason: "mine"}),
			"release": first.Release(ctx, consign.Release{Claim: claimOf(t.old), Reason: "mine"}),
			"report":  first.Report(ctx, consign.Report{Claim: claimOf(t.old), Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte("mine")}}}),
		} {
			if !errors.Is(err, consign.ErrLeaseLost) {
				return fmt.Errorf("a stale %s: %v", name, err)
			}
		}
		if _, err := t.first.beat(t.old); err != nil { // which renews nothing
			return err
		}
		s.ticks(1)
		if after := s.job(t.old.Job); after != before {
			return fmt.Errorf("a stale holder changed the job from %+v to %+v", before, after)
		}
		log, err := s.store.Log(ctx, t.old.Job, 0, 100)
		if err != nil || slices.ContainsFunc(log, logged(consign.EventReport)) {
			return fmt.Errorf("a stale holder's line is in the log: %+v (%v)", log, err)
		}
		if err := t.second.complete(t.now, "mine"); err != nil {
			return err
		}
		s.end()
	}
	return nil
}

// Ghost work: results were lost or doubled after a reconnect.
func afterAReconnect(s *stand) error {
	const cost = 3
	s.config.Prices = consign.PriceTable{{Price: cost}}
	s.start()
	if err := s.q.AddCredit(s.Context(), "acme", 2*cost, "all"); err != nil {
		return err
	}
	h, a, err := s.held(s.q)
	if err != nil {
		return err
	}
	for range 3 { // a new process: sessions are gone, claims and results are not
		s.again()
		if err := h.register(s.q); err != nil {
			return err
		}
		for range 2 {
			if err := h.complete(a, "after the reconnect"); err != nil {
				return err
			}
		}
		if err := h.complete(a, "another"); !errors.Is(err, consign.ErrConflict) {
			return fmt.Errorf("another result under the claim: %v", err)
		}
	}
	info, err := s.sub.Get(s.Context(), a.Job)
	if err != nil || string(info.Result) != "after the reconnect" {
		return fmt.Errorf("the result is %q: %v", info.Result, err)
	}
	return s.paidOnce(consign.Balance{Available: cost, Spent: cost})
}

// paidOnce waits until the account has come to a balance, and is there to stay.
func (s *stand) paidOnce(want consign.Balance) error {
	var got consign.Balance
	err := s.until("the account is settled", func() bool {
		got, _ = s.q.Balance(s.Context(), "acme")
		return got.Held == 0
	})
	s.ticks(1)
	if got, _ = s.q.Balance(s.Context(), "acme"); err != nil || got != want {
		return fmt.Errorf("the balance is %+v, want %+v: %v", got, want, err)
	}
	return nil
}

// An invalid result counted as a success.
func invalidResult(s *stand) error {
	const cost = 3
	s.config.Prices, s.config.NoReceipts = consign.PriceTable{{Price: cost}}, false
	s.start()
	if err := s.q.AddCredit(s.Context(), "acme", cost, "all"); err != nil {
		return err
	}
	h, a, err := s.held(s.q)
	if err != nil {
		return err
	}
	signed, err := record(h.id, &a, []byte("mine"))
	if err != nil {
		return err
	}
	if err := h.session.Complete(s.Context(), consign.Completion{Claim: claimOf(a), Result: []byte("other"), Record: signed}); !errors.Is(err, consign.ErrBadResult) {
		return fmt.Errorf("a bad result: %v", err)
	}
	if j := s.job(a.Job); j.State != consign.StateQueued || j.Faults != 1 {
		return fmt.Errorf("the job is %s with %d faults after a bad result", j.State, j.Faults)
	}
	if _, err := s.sub.Receipt(s.Context(), a.Job); !errors.Is(err, consign.ErrNotFound) {
		return fmt.Errorf("a bad result has a receipt: %v", err)
	}
	if b, err := s.q.Balance(s.Context(), "acme"); err != nil || b.Spent != 0 || b.Held != cost {
		return fmt.Errorf("a bad result was paid for: %+v (%v)", b, err)
	}
	strikes := func() uint64 {
		w, err := s.q.Worker(s.Context(), consign.WorkerID(h.id.Public().ID()))
		if err != nil {
			s.Error(err)
		}
		return w.Standing.Strikes
	}
	if err := s.until("it counts against its worker", func() bool { return strikes() > 0 }); err != nil {
		return err
	}
	s.again() // what is stored
	second, err := s.hire(s.q)
	if err != nil {
		return err
	}
	good, err := second.claim()
	if err != nil {
		return err
	}
	if err := second.complete(good, "mine"); err != nil {
		return err
	}
	if err := s.paidOnce(consign.Balance{Spent: cost}); err != nil {
		return err
	}
	if n := strikes(); n != 1 {
		return fmt.Errorf("it counts %d times", n)
	}
	return nil
}
