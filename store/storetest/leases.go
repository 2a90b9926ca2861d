package storetest

import (
	"time"

	"github.com/consignq/consign"
)

// leases are the checks of guards, leases and renewals.
var leases = []check{
	{"Lease", "A running job has LeaseFor set, and the store fills LeaseUntil from its own clock.", func(s *subject) {
		job := queued(1, "a", 1)
		held := running(job, 1, long)
		held.LeaseUntil = 12345 // is not believed
		s.must(consign.Change{Job: job}, consign.Change{Job: held})
		s.leased(job.ID, long)
		equal(s, "the length of the lease", s.job(job.ID).LeaseFor, long)
		done := in(consign.StateCompleted, held)
		s.must(consign.Change{Job: done})
		equal(s, "the job's lease after its end", s.job(job.ID).LeaseUntil, 0)
	}},

	{"Guard", "Guard is a condition that the store judges inside the commit: the job is running under the claim", func(s *subject) {
		job, other := queued(1, "a", 1), queued(2, "a", 2)
		held := running(job, 1, long)
		try := func(id consign.JobID, claim consign.ClaimID) error {
			return s.apply(consign.Change{Guard: &consign.Guard{Job: id, Claim: claim}})[0]
		}
		s.must(insert(job, other)...)
		s.outcomes([]error{try(job.ID, claim(1)), try(job.ID, consign.ClaimID{}), try(id(3), claim(1))},
			consign.ErrGuard, consign.ErrGuard, consign.ErrGuard)
		s.must(consign.Change{Job: held})
		s.outcomes([]error{try(job.ID, claim(1)), try(job.ID, claim(2)), try(job.ID, consign.ClaimID{}), try(other.ID, claim(1))},
			nil, consign.ErrGuard, consign.ErrGuard, consign.ErrGuard)
		again := running(in(consign.StateQueued, held), 2, long)
		s.must(consign.Change{Job: in(consign.StateQueued, held)}, consign.Change{Job: again})
		s.outcomes([]error{try(job.ID, claim(1)), try(job.ID, claim(2))}, consign.ErrGuard, nil)
		ended := in(consign.StateCompleted, again) // keeps the claim
		s.must(consign.Change{Job: ended})
		s.outcomes([]error{try(job.ID, claim(2))}, consign.ErrGuard)
	}},

	{"GuardLapsed", "and, with Lapsed, its lease has ended by the store's clock", func(s *subject) {
		job := queued(1, "a", 1)
		held := running(job, 1, long)
		lapsed := consign.Change{Job: in(consign.StateQueued, held), Guard: &consign.Guard{Job: job.ID, Claim: claim(1), Lapsed: true}}
		s.must(consign.Change{Job: job}, consign.Change{Job: held})
		s.refused("reaping a lease that has not ended", consign.ErrGuard, lapsed)
		s.outcomes(s.renew(consign.Renewal{Job: job.ID, Claim: claim(1), For: short}), nil)
		s.eventually("the lease has ended", func() bool { return len(ok[[]*consign.Job](s)(s.Lapsed(s.Context(), 1))) == 1 })
		s.must(consign.Change{Guard: &consign.Guard{Job: job.ID, Claim: claim(1)}}) // lapsed, but still its own
		s.outcomes(s.renew(consign.Renewal{Job: job.ID, Claim: claim(1), For: long}), nil)
		s.refused("reaping a lease that was renewed", consign.ErrGuard, lapsed)
		s.outcomes(s.renew(consign.Renewal{Job: job.ID, Claim: claim(1), For: short}), nil)
		s.eventually("the lease has ended", func() bool { return len(ok[[]*consign.Job](s)(s.Lapsed(s.Context(), 1))) == 1 })
		s.must(lapsed)
		s.refused("reaping it twice", consign.ErrGuard, consign.Change{Guard: lapsed.Guard})
	}},

	{"Renew", "Renew sets each lease to end r.For after the store's present time, where the job is running under that claim", func(s *subject) {
		a, b := queued(1, "a", 1), queued(2, "a", 2)
		s.must(insert(a, b)...)
		s.must(consign.Change{Job: running(a, 1, short)}, consign.Change{Job: running(b, 2, 3*long)})
		s.outcomes(s.renew(consign.Renewal{Job: a.ID, Claim: claim(1), For: 2 * long}, consign.Renewal{Job: b.ID, Claim: claim(2), For: long}), nil, nil)
		s.leased(a.ID, 2*long)
		s.leased(b.ID, long) // shorter than it was
		list := ok[[]*consign.Job](s)(s.List(s.Context(), consign.Filter{}, consign.JobID{}, many))
		equal(s, "the jobs in a list", list, []*consign.Job{s.job(a.ID), s.job(b.ID)})
		// The next attempt has a lease of its own.
		requeued := in(consign.StateQueued, running(a, 1, short))
		s.must(consign.Change{Job: requeued}, consign.Change{Job: running(requeued, 3, long)})
		s.leased(a.ID, long)
	}},

	{"RenewOthers", "and answers ErrGuard where it is not", func(s *subject) {
		a, b, c := queued(1, "a", 1), queued(2, "a", 2), queued(3, "a", 3)
		held := running(a, 1, long)
		s.must(insert(a, b, c)...)
		s.must(consign.Change{Job: held}, consign.Change{Job: running(b, 2, long)}, consign.Change{Job: in(consign.StateCompleted, held)})
		renewal := func(job consign.JobID, claim consign.ClaimID) consign.Renewal {
			return consign.Renewal{Job: job, Claim: claim, For: 2 * long}
		}
		s.outcomes(s.renew(
			renewal(a.ID, claim(1)),          // ended
			renewal(b.ID, claim(1)),          // another's
			renewal(b.ID, consign.ClaimID{}), // no claim
			renewal(c.ID, consign.ClaimID{}), // queued
			renewal(id(9), claim(1)),         // not there
			renewal(b.ID, claim(2)),          // its own
		), consign.ErrGuard, consign.ErrGuard, consign.ErrGuard, consign.ErrGuard, consign.ErrGuard, nil)
		s.leased(b.ID, 2*long)
		s.outcomes(s.renew(renewal(b.ID, claim(1))), consign.ErrGuard)
		s.outcomes(s.renew())
	}},

	{"RenewVersion", "No version moves.", func(s *subject) {
		job := queued(1, "a", 1)
		held := running(job, 1, long)
		s.must(consign.Change{Job: job}, consign.Change{Job: held})
		before := s.state()
		s.outcomes(s.renew(consign.Renewal{Job: job.ID, Claim: claim(1), For: 2 * long}), nil)
		same(s, "the store after a renewal", s.state(), before)
		s.must(consign.Change{Job: in(consign.StateCompleted, held)})
	}},

	{"Lapsed", "Lapsed returns at most n running jobs whose lease has ended by the store's own clock, longest lapsed first.", func(s *subject) {
		var renewals []consign.Renewal
		var ended []consign.Change
		for i := range 6 {
			job := queued(i, "a", 1)
			s.must(consign.Change{Job: job}, consign.Change{Job: running(job, i, long)})
			renewals = append(renewals, consign.Renewal{Job: job.ID, Claim: claim(i), For: short})
			ended = append(ended, consign.Change{Job: in(consign.StateCompleted, running(job, i, long))})
		}
		equal(s, "the lapsed jobs while all leases hold", s.lapsed(many), nil)
		for _, i := range []int{4, 1, 3, 2} { // 0 and 5 keep theirs
			s.outcomes(s.renew(renewals[i]), nil)
			time.Sleep(time.Millisecond)
		}
		s.eventually("four leases have ended", func() bool { return len(s.lapsed(many)) == 4 })
		equal(s, "the lapsed jobs", s.lapsed(many), []consign.JobID{id(4), id(1), id(3), id(2)})
		equal(s, "the first two", s.lapsed(2), []consign.JobID{id(4), id(1)})
		s.must(ended[1])
		renewals[4].For = long
		s.outcomes(s.renew(renewals[4]), nil)
		equal(s, "the lapsed jobs after one ended and one was renewed", s.lapsed(many), []consign.JobID{id(3), id(2)})
		equal(s, "no jobs", s.lapsed(0), nil)
	}},
}

// leased checks that the job's lease ends that long from now, give or take the
// difference of two clocks.
func (s *subject) leased(id consign.JobID, d time.Duration) {
	s.Helper()
	if left := time.Until(s.job(id).LeaseUntil.Time()); left < d-time.Minute || left > d+time.Minute {
		s.failf("the lease ends in %v, want %v", left, d)
	}
}

func (s *subject) lapsed(n int) []consign.JobID {
	s.Helper()
	return idsOf(ok[[]*consign.Job](s)(s.Lapsed(s.Context(), n)))
}
