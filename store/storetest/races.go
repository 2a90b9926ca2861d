package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// races are the checks of what many goroutines do at once.
var races = []check{
	{"OneWinner", "Job is written if the stored version is Job.Version-1", func(s *subject) {
		const rounds, workers = 20, 8
		for round := range rounds {
			job := queued(round, "a", 1)
			s.must(consign.Change{Job: job})
			won := make([]bool, workers)
			s.together(workers, func(i int) error {
				outcomes, err := s.Apply(s.Context(), []consign.Change{{Job: running(job, 1+i, long),
					Counters: []consign.Delta{{Counter: counters[0], Add: 1}}}})
				if err != nil {
					return err
				}
				if won[i] = outcomes[0] == nil; !won[i] && !errors.Is(outcomes[0], consign.ErrVersion) {
					return fmt.Errorf("a claim that came too late gave %w", outcomes[0])
				}
				return nil
			})
			var winners []consign.ClaimID
			for i := range won {
				if won[i] {
					winners = append(winners, claim(1+i))
				}
			}
			equal(s, "the claims that were told that they won", winners, []consign.ClaimID{s.job(job.ID).Claim})
		}
		equal(s, "what the winners counted", ok[int64](s)(s.Counter(s.Context(), counters[0])), rounds)
	}},

	{"DropOnce", "to be carried out later, once", func(s *subject) {
		const effects, pumps = 200, 4
		var all []consign.Effect
		for i := range effects {
			all = append(all, effect(id(i), number(1, 0)))
		}
		s.must(consign.Change{Effects: all})
		// A pump carries an effect out by counting it in the change that drops it.
		s.together(pumps, func(int) error {
			for range effects {
				waiting, err := s.Effects(s.Context(), 5)
				if err != nil || len(waiting) == 0 {
					return err
				}
				var changes []consign.Change
				for _, e := range waiting {
					changes = append(changes, consign.Change{Drop: []consign.EffectID{e.ID}, Counters: []consign.Delta{{Counter: counters[0], Add: e.Amount}}})
				}
				if _, err := s.Apply(s.Context(), changes); err != nil {
					return err
				}
			}
			return errors.New("the effects do not get fewer")
		})
		equal(s, "the sum of what was carried out", ok[int64](s)(s.Counter(s.Context(), counters[0])), effects*7)
	}},

	{"Bound", "one that would leave the counter below Min fails its change with ErrBound", func(s *subject) {
		const spenders, each, credit = 6, 40, 100
		s.must(consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: credit}}})
		var mu sync.Mutex
		var spent int64
		s.together(spenders, func(int) error {
			for range each {
				outcomes, err := s.Apply(s.Context(), []consign.Change{{Counters: []consign.Delta{
					{Counter: counters[0], Add: -1}, {Counter: counters[1], Add: 1}}}})
				if err != nil {
					return err
				}
				if left, err := s.Counter(s.Context(), counters[0]); err != nil || left < 0 {
					return fmt.Errorf("the counter is %d (%v)", left, err)
				}
				if outcomes[0] == nil {
					mu.Lock()
					spent++
					mu.Unlock()
				} else if !errors.Is(outcomes[0], consign.ErrBound) {
					return outcomes[0]
				}
			}
			return nil
		})
		equal(s, "what was spent", spent, credit)
		equal(s, "the counters", s.state().Counters, []int64{0, credit})
	}},

	{"RenewOrReap", "Guard, if set, must hold at the moment of the commit.", func(s *subject) {
		const rounds = 60
		for round := range rounds {
			job := queued(round, "a", 1)
			held := running(job, round, 1000) // a microsecond: it has lapsed before anyone can look
			s.must(consign.Change{Job: job}, consign.Change{Job: held})
			s.eventually("the lease has ended", func() bool { return len(s.lapsed(1)) == 1 })
			var reaped, renewed error
			s.together(2, func(i int) error {
				if round%3 == 1+i { // each comes late in a third of the rounds
					time.Sleep(time.Microsecond / 2)
				}
				if i == 0 {
					outcomes, err := s.Apply(s.Context(), []consign.Change{{Job: in(consign.StateQueued, held),
						Guard: &consign.Guard{Job: job.ID, Claim: held.Claim, Lapsed: true}}})
					if err == nil {
						reaped = outcomes[0]
					}
					return err
				}
				outcomes, err := s.Renew(s.Context(), []consign.Renewal{{Job: job.ID, Claim: held.Claim, For: long}})
				if err == nil {
					renewed = outcomes[0]
				}
				return err
			})
			if (reaped == nil) == (renewed == nil) {
				s.failf("a lease was reaped (%v) and renewed (%v): one of the two must fail", reaped, renewed)
			}
			if got := s.job(job.ID).State; (got == consign.StateQueued) != (reaped == nil) {
				s.failf("the job is %s, and its reaper was told %v", got, reaped)
			}
		}
	}},

	{"WholeChanges", "Each change is all or nothing", func(s *subject) {
		const rounds, parts = 150, 3
		a, b := queued(1, "a", 1), queued(2, "a", 2)
		s.must(insert(a, b)...)
		stop := make(chan struct{})
		s.together(3, func(i int) error {
			if i == 0 { // the writer: two jobs in step, documents and log entries in threes
				defer close(stop)
				for round := range uint64(rounds) {
					a, b = in(consign.StateQueued, a), in(consign.StateQueued, b)
					c := consign.Change{Job: a}
					for part := range parts {
						c.Docs = append(c.Docs, doc(fmt.Sprint(part), round+1, "x"))
						c.Log = append(c.Log, entry(a.ID, number(a.Version, part)))
					}
					outcomes, err := s.Apply(s.Context(), []consign.Change{c, {Job: b}})
					if err := errors.Join(append(outcomes, err)...); err != nil {
						return err
					}
					time.Sleep(time.Microsecond)
				}
				return nil
			}
			for {
				select {
				case <-stop:
					return nil
				case <-time.After(time.Microsecond): // and a bubble's clock goes on
				}
				jobs, err := s.Jobs(s.Context(), []consign.JobID{id(1), id(2)})
				if err != nil {
					return err
				}
				if len(jobs) != 2 || jobs[0] == nil || jobs[1] == nil {
					return fmt.Errorf("a read did not see the jobs: %s", show(jobs))
				}
				if jobs[0].Version != jobs[1].Version {
					return fmt.Errorf("a read saw half of a transaction: versions %d and %d", jobs[0].Version, jobs[1].Version)
				}
				docs, err := s.Docs(s.Context(), consign.DocWorker, "", many)
				if err != nil {
					return err
				}
				for _, d := range docs {
					if len(docs) != parts || d.Version != docs[0].Version {
						return fmt.Errorf("a read saw a part of a change: %s", show(docs))
					}
				}
				log, err := s.Log(s.Context(), id(1), 0, many)
				if err != nil || len(log)%parts != 0 {
					return fmt.Errorf("a read saw a part of a change: %d log entries, %w", len(log), err)
				}
			}
		})
		equal(s, "the last version", s.job(b.ID).Version, rounds+1)
	}},

	{"ManyGoroutines", "All methods may be called from many goroutines.", func(s *subject) {
		const workers, each = 4, 15
		s.together(workers, func(w int) error {
			for i := range each {
				job := queued(w*100+i, fmt.Sprint("lane", w), consign.Instant(i))
				held := running(job, w*100+i, long)
				done := in(consign.StateCompleted, held)
				outcomes, err := s.Apply(s.Context(), []consign.Change{{Job: job}, {Job: held}})
				if err := errors.Join(append(outcomes, err)...); err != nil {
					return err
				}
				outcomes, err = s.Renew(s.Context(), []consign.Renewal{{Job: job.ID, Claim: held.Claim, For: long}})
				if err := errors.Join(append(outcomes, err)...); err != nil {
					return err
				}
				if _, err := read(s.Context(), s.Store); err != nil {
					return err
				}
				outcomes, err = s.Apply(s.Context(), []consign.Change{{Job: done, Guard: &consign.Guard{Job: job.ID, Claim: held.Claim}}})
				if err := errors.Join(append(outcomes, err)...); err != nil {
					return err
				}
			}
			return nil
		})
		completed := ok[[]*consign.Job](s)(s.List(s.Context(), consign.Filter{State: consign.StateCompleted}, consign.JobID{}, many))
		equal(s, "the jobs that were completed", len(completed), workers*each)
	}},
}

// together runs n goroutines and fails the check with the first error of one.
func (s *subject) together(n int, work func(i int) error) {
	s.Helper()
	failed := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			failed[i] = work(i)
		})
	}
	close(start)
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			s.failf("%v", err)
		}
	}
}
