package queuetest

import (
	"errors"
	"fmt"

	"github.com/consignq/consign"
)

// Faults about heartbeats and what they renew.

// A heartbeat in flight overtook the completion and reported a false lost
// lease. Here the renewal comes after the completion, which another coordinator
// took; or the answer to the completion is late.
func overtakingHeartbeat(s *stand) error {
	for _, renews := range []bool{true, false} {
		late := s.gate(nil, about(consign.EventComplete))
		if renews {
			late = s.gate(renewal, nil)
		}
		s.start(late.in)
		h, a, err := s.held(s.q)
		if err != nil {
			return err
		}
		if lost, err := h.beat(a); err != nil || len(lost) > 0 {
			return fmt.Errorf("a claim is told to be lost: %v (%v)", lost, err)
		}
		done := make(chan error, 1)
		if renews {
			if err := late.waits(s); err != nil {
				return err
			}
			other, _ := s.beside()
			there := &hand{s: s, id: h.id}
			done <- errors.Join(there.register(other), there.complete(a, "mine"))
		} else {
			go func() { done <- h.complete(a, "mine") }()
			if err := late.waits(s); err != nil {
				return err
			}
		}
		told := func() error {
			if lost, err := h.beat(a); err != nil || len(lost) > 0 { // the worker thinks that it holds it still
				return fmt.Errorf("a completed claim is told to be lost: %v (%v)", lost, err)
			}
			return nil
		}
		if err := told(); err != nil {
			return err
		}
		if _, err := late.passes(s); err != nil {
			return err
		}
		if err := <-done; err != nil {
			return err
		}
		for range 2 {
			s.ticks(1)
			if err := told(); err != nil {
				return err
			}
		}
		if j := s.job(a.Job); j.State != consign.StateCompleted {
			return fmt.Errorf("the job is %s", j.State)
		}
		s.end()
	}
	return nil
}

// A worker heartbeats but takes no work. A job whose assignment was lost on its
// way to such a worker goes to another one once its lease has ended, whatever was
// restarted meanwhile, since a heartbeat renews only the claims that it names; and
// a job that waits does not wait for it.
func deafWorker(s *stand) error {
	s.start()
	deaf, lost, err := s.held(s.q) // and never hears of it
	if err != nil {
		return err
	}
	s.again()
	if err := deaf.register(s.q); err != nil {
		return err
	}
	good, err := s.submitMany(5)
	if err == nil {
		err = s.completeAll(good, 1)
	}
	if err != nil {
		return fmt.Errorf("beside a worker that takes none: %v", err)
	}
	s.lapse(lost)
	var failed error
	if err := s.until("the lost job is queued again", func() bool {
		_, failed = deaf.beat()
		return failed != nil || s.job(lost.Job).State == consign.StateQueued
	}); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	return s.completeAll(map[consign.JobID]bool{lost.Job: true}, 1)
}

// One UPDATE per heartbeat saturated the database at 100-500 workers. Those of
// a tick are one renewal, which has to reach every lease.
func manyHeartbeats(s *stand) error {
	const workers, each = 100, 3
	renewals := &counting{}
	s.start(renewals.in)
	held := map[*hand][]consign.Assignment{}
	for range workers {
		h, err := s.hire(s.q)
		if err != nil {
			return err
		}
		for range each {
			if _, err := s.submit(nil); err != nil {
				return err
			}
			a, err := h.claim()
			if err != nil {
				return err
			}
			held[h] = append(held[h], a)
		}
		if _, err := h.beat(held[h]...); err != nil { // all of it may take longer than a lease
			return err
		}
	}
	s.ticks(1)
	before := map[consign.JobID]consign.Instant{}
	for _, claims := range held {
		for _, a := range claims {
			before[a.Job] = s.job(a.Job).LeaseUntil
		}
	}
	began := renewals.calls.Load()
	for range 5 {
		for h, claims := range held {
			if lost, err := h.beat(claims...); err != nil || len(lost) > 0 {
				return fmt.Errorf("a worker has lost %v: %v", lost, err)
			}
		}
	}
	s.ticks(2)
	if calls := renewals.calls.Load() - began; calls == 0 || calls > 5 {
		return fmt.Errorf("%d heartbeats within a few ticks are %d renewals", 5*workers, calls)
	}
	for _, claims := range held {
		for _, a := range claims {
			if j := s.job(a.Job); j.State != consign.StateRunning || j.Claim != a.Claim || j.LeaseUntil <= before[a.Job] {
				return fmt.Errorf("a job whose worker is alive is %s until %s, and was until %s", j.State, j.LeaseUntil.Time(), before[a.Job].Time())
			}
		}
	}
	return nil
}
