package queuetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
)

// Faults about what the store gives back: in time, in order, all of it, though
// some of it is bad; and about when it says that something is done.

var errPlanted = errors.New("planted fault")

// manyStuck is more than the queue reads of anything at once.
const manyStuck = 300

// A full batch of jobs that could not be rescued starved the others: of jobs
// whose time has come, and of jobs whose lease has ended.
func stuckExpiries(s *stand) error {
	ids, err := s.stuck(consign.EventExpire, func(r *consign.SubmitRequest) { r.QueueTime = time.Second })
	if err != nil {
		return err
	}
	return s.untilState(ids[manyStuck], consign.StateExpired)
}

func stuckLeases(s *stand) error {
	ids, err := s.stuck(consign.EventLeaseLost, nil)
	if err != nil {
		return err
	}
	held, err := s.claimAll(len(ids))
	if err != nil {
		return err
	}
	last := held[0]
	for i, a := range held {
		if a.Job == ids[manyStuck] {
			last, held[i] = a, held[len(held)-1]
		}
	}
	s.lapse(held[:manyStuck]...)
	s.lapse(last)
	return s.untilState(ids[manyStuck], consign.StateQueued)
}

// stuck starts a queue and submits jobs that cannot be moved by the event, but
// for the last one.
func (s *stand) stuck(kind consign.EventKind, change func(*consign.SubmitRequest)) (ids []consign.JobID, err error) {
	var mu sync.Mutex
	stuck := map[consign.JobID]bool{}
	s.start(func(store consign.Store) consign.Store {
		return &testkit.FaultStore{Store: store, Refuse: func(c *consign.Change) error {
			mu.Lock()
			defer mu.Unlock()
			if c.Job != nil && stuck[c.Job.ID] && len(c.Log) > 0 && c.Log[0].Event == kind {
				return errPlanted
			}
			return nil
		}}
	})
	var requests []consign.SubmitRequest
	for range manyStuck {
		r := plain(change)
		requests, stuck[r.ID] = append(requests, r), true
	}
	for _, o := range s.sub.SubmitMany(s.Context(), requests) {
		if o.Err != nil {
			return nil, o.Err
		}
		ids = append(ids, o.Job.ID)
	}
	time.Sleep(time.Millisecond) // its time comes after theirs
	last, err := s.submit(change)
	return append(ids, last.ID), err
}

// claimAll has a worker claim so many jobs.
func (s *stand) claimAll(n int) (held []consign.Assignment, err error) {
	h, err := s.hire(s.q)
	for range n {
		if err != nil {
			return nil, err
		}
		var a consign.Assignment
		a, err = h.claim()
		held = append(held, a)
	}
	return held, err
}

// Timeouts of 0 were misread. A job without times of its own has none, however
// often it is read.
func zeroTimes(s *stand) error {
	if !s.suite.RealTime {
		s.config.Lease = 10 * time.Minute // fewer ticks
	}
	s.start()
	job, err := s.submit(nil)
	if err != nil {
		return err
	}
	for anew := range 2 {
		if !s.suite.RealTime {
			time.Sleep(time.Hour)
		}
		s.ticks(1) // and it was looked at again
		if j := s.job(job.ID); j.State != consign.StateQueued || j.DueAt != 0 || j.QueueUntil != 0 || j.Deadline != 0 {
			return fmt.Errorf("a job without times of its own is %+v", j)
		}
		if anew > 0 {
			s.again()
		}
		h, err := s.hire(s.q)
		if err != nil {
			return err
		}
		a, err := h.claim()
		if err != nil {
			return err
		}
		s.ticks(1)
		if j := s.job(job.ID); j.State != consign.StateRunning || j.DueAt != 0 || j.LimitAt != 0 {
			return fmt.Errorf("an attempt without a limit is %+v", j)
		}
		if err := h.session.Release(s.Context(), consign.Release{Claim: claimOf(a)}); err != nil {
			return err
		}
	}
	return nil
}

// One undecodable row stalled its whole batch: a lane that says nothing.
func undecodableLane(s *stand) error {
	bad := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Account: "acme", Lane: "%%%=&not a lane", Key: 1, MaxAttempts: 1}
	if err := s.apply(consign.Change{Job: bad, Spec: &consign.Spec{ID: bad.ID}}); err != nil {
		return err
	}
	s.start()
	good, err := s.submitMany(20)
	if err != nil {
		return err
	}
	s.again() // all of them are read
	if err := s.completeAll(good, 1); err != nil {
		return err
	}
	if info, err := s.sub.Cancel(s.Context(), bad.ID); err != nil || info.State != consign.StateCancelled {
		return fmt.Errorf("the bad job cannot be cancelled: %s (%v)", info.State, err)
	}
	return nil
}

func (s *stand) apply(changes ...consign.Change) error {
	outcomes, err := s.store.Apply(s.Context(), changes)
	return errors.Join(append(outcomes, err)...)
}

// submitMany submits so many jobs.
func (s *stand) submitMany(n int) (map[consign.JobID]bool, error) {
	ids := map[consign.JobID]bool{}
	for range n {
		job, err := s.submit(nil)
		if err != nil {
			return nil, err
		}
		ids[job.ID] = true
	}
	return ids, nil
}

// completeAll has workers claim and complete as many jobs: these. A claim that
// fails is tried again.
func (s *stand) completeAll(good map[consign.JobID]bool, workers int) error {
	hands := make([]*hand, workers)
	for i := range hands {
		var err error
		if hands[i], err = s.hire(s.q); err != nil {
			return err
		}
	}
	failed := make([]error, workers)
	var group sync.WaitGroup
	for i, h := range hands {
		group.Go(func() {
			for range len(good) / workers {
				var a consign.Assignment
				var err error
				if gone := s.until("there is a job", func() bool { a, err = h.claim(); return err == nil }); gone != nil {
					err = errors.Join(gone, err)
				}
				if err == nil && !good[a.Job] {
					err = fmt.Errorf("job %s was handed out", a.Job)
				}
				if err == nil {
					err = h.complete(a, "mine")
				}
				if err != nil {
					failed[i] = err
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// A job that the store cannot write is in nobody's way, also where it is written
// together with others.
func poisonTicket(s *stand) error {
	poison := plain(nil)
	if s.suite.Poison != nil {
		s.suite.Poison(s.T, s.store, poison.ID)
	} else {
		s.store = &testkit.FaultStore{Store: s.store, Refuse: func(c *consign.Change) error {
			if c.Job != nil && c.Job.ID == poison.ID && c.Job.State == consign.StateRunning {
				return errPlanted
			}
			return nil
		}}
	}
	s.start()
	if _, err := s.sub.Submit(s.Context(), poison); err != nil {
		return err
	}
	time.Sleep(time.Millisecond) // it is first in line
	began := time.Now()
	good, err := s.submitMany(60)
	if err == nil {
		err = s.completeAll(good, 6)
	}
	if err != nil {
		return err
	}
	if took := time.Since(began); took > 20*time.Second {
		return fmt.Errorf("60 jobs behind a poison ticket took %s", took)
	}
	run := s.job(poison.ID)
	if run.State != consign.StateQueued {
		return fmt.Errorf("the poison job is %s", run.State)
	}
	run.Version, run.State, run.Claim, run.LeaseFor = run.Version+1, consign.StateRunning, consign.NewClaimID(), time.Minute
	with := consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateCancelled, Account: "acme"}
	outcomes, err := s.store.Apply(s.Context(), []consign.Change{{Job: &run}, {Job: &with}})
	if err != nil || outcomes[0] == nil || outcomes[1] != nil {
		return fmt.Errorf("a change that cannot be written and one beside it have the outcomes %v (%v)", outcomes, err)
	}
	info, err := s.sub.Cancel(s.Context(), poison.ID)
	if err != nil || info.State != consign.StateCancelled {
		return fmt.Errorf("the poison job cannot be cancelled: %s (%v)", info.State, err)
	}
	return nil
}

// Jobs that cannot be read, or are in a state that this version does not know,
// are in nobody's way, however many there are in front of others.
func unreadableJobs(s *stand) error {
	if err := s.spoil(); err != nil {
		return err
	}
	var unknown []consign.Change
	for range manyStuck {
		j := &consign.Job{ID: consign.NewJobID(), Version: 1, State: 99, Account: "acme", DueAt: 1}
		unknown = append(unknown, consign.Change{Job: j, Spec: &consign.Spec{ID: j.ID}})
	}
	if err := s.apply(unknown...); err != nil {
		return err
	}
	s.again()
	if _, err := s.sub.Cancel(s.Context(), unknown[0].Job.ID); err == nil {
		return errors.New("a job in an unknown state can be cancelled")
	}
	due, err := s.submit(func(r *consign.SubmitRequest) { r.QueueTime = time.Second })
	if err != nil {
		return err
	}
	if err := s.untilState(due.ID, consign.StateExpired); err != nil {
		return err
	}
	good, err := s.submitMany(20)
	if err != nil {
		return err
	}
	s.again() // and reads them behind the others
	if err := s.completeAll(good, 1); err != nil {
		return err
	}
	running, err := s.submit(nil)
	if err != nil {
		return err
	}
	held, err := s.claimAll(1)
	if err != nil || held[0].Job != running.ID {
		return fmt.Errorf("job %v was handed out: %v", held, err)
	}
	s.lapse(held...)
	return s.untilState(running.ID, consign.StateQueued)
}

// spoil leaves jobs that cannot be read, as many that wait, first in line and long
// due, as that run, and whose leases have ended.
func (s *stand) spoil() error {
	if s.suite.Spoil == nil {
		return nil
	}
	s.start()
	var requests []consign.SubmitRequest
	for range 2 * manyStuck {
		requests = append(requests, plain(nil))
	}
	var bad []consign.JobID
	for _, o := range s.sub.SubmitMany(s.Context(), requests) {
		if o.Err != nil {
			return o.Err
		}
		bad = append(bad, o.Job.ID)
	}
	if _, err := s.claimAll(manyStuck); err != nil {
		return err
	}
	s.stop()
	s.suite.Spoil(s.T, s.store, bad)
	return nil
}

// Receive computed `now` before it took the write lock and returned nothing
// with a message waiting. A delayed job comes when it should, and no sooner,
// whether the queue knows it or reads it from the store.
func delayedJob(s *stand) error {
	s.start()
	delays := []time.Duration{time.Microsecond, time.Millisecond, 777777 * time.Microsecond, 20 * time.Second}
	late := 10 * time.Microsecond
	if s.suite.RealTime {
		delays, late = delays[:3], 10*time.Second
	}
	for _, anew := range []bool{false, true} {
		for _, delay := range delays {
			job, err := s.submit(func(r *consign.SubmitRequest) { r.Delay = delay })
			if err != nil {
				return err
			}
			if anew {
				s.again()
			}
			h, err := s.hire(s.q)
			if err != nil {
				return err
			}
			a, err := h.claim()
			if err != nil {
				return err
			}
			j := s.job(a.Job)
			waited := j.ClaimedAt.Sub(j.CreatedAt)
			slow := late
			if anew && !s.suite.RealTime {
				slow += 2 * time.Second // for the restart
			}
			if a.Job != job.ID || waited < delay || waited > delay+slow {
				return fmt.Errorf("a job with a delay of %s was claimed %s after its submit", delay, waited)
			}
			if err := h.complete(a, "mine"); err != nil {
				return err
			}
		}
	}
	return nil
}

// Acknowledged before fsync: acknowledged messages were lost. Here no answer
// leaves before the store's commit is there for all to see. (Whether it has
// waited for the disk shows when a store's process is killed, or its system
// calls are counted.)
func committedFirst(s *stand) error {
	s.store = &testkit.FaultStore{Store: s.store, Wrong: func([]consign.Change) testkit.Fault { return testkit.Fault{Delay: 10 * time.Millisecond} }}
	s.start()
	is := func(what string, id consign.JobID, state consign.State) error {
		jobs, err := s.store.Jobs(s.Context(), []consign.JobID{id})
		if err != nil || jobs[0] == nil || jobs[0].State != state {
			return fmt.Errorf("%s is answered before it is committed: %+v (%v)", what, jobs[0], err)
		}
		return nil
	}
	h, err := s.hire(s.q)
	if err != nil {
		return err
	}
	for range 3 {
		job, err := s.submit(nil)
		if err == nil {
			err = is("a submit", job.ID, consign.StateQueued)
		}
		if err != nil {
			return err
		}
		a, err := h.claim()
		if err == nil {
			err = is("a claim", job.ID, consign.StateRunning)
		}
		if err == nil {
			err = h.complete(a, "mine")
		}
		if err == nil {
			err = is("a completion", job.ID, consign.StateCompleted)
		}
		if err != nil {
			return err
		}
		other, err := s.submit(nil)
		if err == nil {
			_, err = s.sub.Cancel(s.Context(), other.ID)
		}
		if err == nil {
			err = is("a cancel", other.ID, consign.StateCancelled)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
