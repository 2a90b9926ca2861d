package storetest

import (
	"context"
	"errors"
	"slices"

	"github.com/consignq/consign"
)

// writes are the checks of Apply, but for guards and leases.
var writes = []check{
	{"Round", "Spec and Done are written with Job and belong to it.", func(s *subject) {
		job, spec, done := filled[consign.Job](), filled[consign.Spec](), filled[consign.Done]()
		job.Version, job.State, job.LeaseFor = 1, consign.StateValidating, 0
		spec.ID, done.ID = job.ID, job.ID
		s.must(consign.Change{ID: job.Change, Job: job, Spec: spec, Done: done})
		// A later write without them leaves them.
		next := in(consign.StateCompleted, job)
		s.must(consign.Change{ID: next.Change, Job: next})

		equal(s, "the job", s.job(job.ID), next)
		equal(s, "the spec", s.state().Specs, []*consign.Spec{spec})
		equal(s, "the end", s.state().Done, []*consign.Done{done})

		// What is not set stays so.
		bare := queued(2, "a", 1)
		s.must(consign.Change{Job: bare, Spec: &consign.Spec{ID: bare.ID}, Done: &consign.Done{ID: bare.ID}})
		equal(s, "a bare job", s.job(bare.ID), bare)
		equal(s, "a bare spec", ok[[]*consign.Spec](s)(s.Specs(s.Context(), []consign.JobID{bare.ID})), []*consign.Spec{{ID: bare.ID}})
		equal(s, "a bare end", ok[*consign.Done](s)(s.Done(s.Context(), bare.ID)), &consign.Done{ID: bare.ID})
	}},

	{"Version", "Job is written if the stored version is Job.Version-1", func(s *subject) {
		first := queued(1, "a", 1)
		second := in(consign.StateCancelled, first)
		s.must(consign.Change{Job: first}, consign.Change{Job: second})
		before := s.state()
		for version := range uint64(6) {
			if version != 3 {
				stale := *second
				stale.Version, stale.Reason = version, "stale"
				s.refused("a write of the wrong version", consign.ErrVersion, consign.Change{Job: &stale})
			}
		}
		same(s, "the store after refusals", s.state(), before)
		s.must(consign.Change{Job: in(consign.StateExpired, second)})
	}},

	{"Insert", "version 1 inserts and needs that there is none", func(s *subject) {
		job, other := queued(1, "a", 1), queued(1, "b", 2)
		s.outcomes(s.apply(insert(job, other)...), nil, consign.ErrVersion)
		s.refused("a second insert", consign.ErrVersion, consign.Change{Job: other})
		s.refused("a write to a job that is not there", consign.ErrVersion, consign.Change{Job: in(consign.StateQueued, queued(2, "a", 1))})
		equal(s, "the job", s.job(job.ID), job)
	}},

	{"AllOrNothing", "Each change is all or nothing, and its outcome is in the slice at its index", func(s *subject) {
		job, held := queued(1, "a", 1), queued(2, "a", 2)
		s.must(consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID, Kind: "TASK"},
			Log: []consign.LogEntry{entry(job.ID, number(1, 0))}, Effects: []consign.Effect{effect(job.ID, number(1, 0))},
			Docs: []consign.Doc{doc("w", 1, "one")}, Counters: []consign.Delta{{Counter: counters[0], Add: 5}}},
			consign.Change{Job: held}, consign.Change{Job: running(held, 1, long)})
		before := s.state()

		// Each of these breaks a change that is otherwise good in every part.
		for _, bad := range []struct {
			part string
			want error
			set  func(c *consign.Change)
		}{
			{"a guard for another claim", consign.ErrGuard, func(c *consign.Change) { c.Guard = &consign.Guard{Job: held.ID, Claim: claim(9)} }},
			{"a guard for a job that is not running", consign.ErrGuard, func(c *consign.Change) { c.Guard = &consign.Guard{Job: job.ID} }},
			{"a guard for a lease that has not ended", consign.ErrGuard, func(c *consign.Change) {
				c.Guard = &consign.Guard{Job: held.ID, Claim: claim(1), Lapsed: true}
			}},
			{"a job of an old version", consign.ErrVersion, func(c *consign.Change) { c.Job = job }},
			{"a job to delete of an old version", consign.ErrVersion, func(c *consign.Change) { c.Job, c.Delete = job, true }},
			{"a job to forget of an old version", consign.ErrVersion, func(c *consign.Change) { c.Job, c.Forget = job, true }},
			{"an effect that is not there", consign.ErrVersion, func(c *consign.Change) {
				c.Drop = append(c.Drop, consign.EffectID{Job: job.ID, Seq: number(1, 9)})
			}},
			{"a document of an old version", consign.ErrVersion, func(c *consign.Change) { c.Docs = append(c.Docs, doc("w", 1, "new")) }},
			{"a document that is there already", consign.ErrVersion, func(c *consign.Change) { c.Docs = append([]consign.Doc{doc("w", 1, "new")}, c.Docs...) }},
			{"a document that is not there", consign.ErrVersion, func(c *consign.Change) { c.Docs = append(c.Docs, doc("z", 2, "")) }},
			{"a counter below its bound", consign.ErrBound, func(c *consign.Change) {
				c.Counters = append(c.Counters, consign.Delta{Counter: counters[1], Add: -1})
			}},
		} {
			next := in(consign.StateCompleted, job)
			c := consign.Change{Job: next, Spec: &consign.Spec{ID: job.ID, Kind: "LLM_INFER"}, Done: &consign.Done{ID: job.ID},
				Log: []consign.LogEntry{entry(job.ID, number(2, 0)), entry(held.ID, number(2, 0))}, Effects: []consign.Effect{effect(job.ID, number(2, 0))},
				Drop: []consign.EffectID{{Job: job.ID, Seq: number(1, 0)}},
				Docs: []consign.Doc{doc("v", 1, "one")}, Counters: []consign.Delta{{Counter: counters[0], Add: -5}}}
			bad.set(&c)
			s.refused("a change with "+bad.part, bad.want, c)
			same(s, "the store after a change with "+bad.part, s.state(), before)
		}
	}},

	{"Others", "A change that fails alters nothing and does not keep the others from being applied.", func(s *subject) {
		a, b, c := queued(1, "a", 1), queued(2, "a", 2), queued(3, "a", 3)
		got := s.apply(consign.Change{Job: a}, consign.Change{Job: a}, consign.Change{Job: b, Guard: &consign.Guard{Job: a.ID}},
			consign.Change{Job: b, Counters: []consign.Delta{{Counter: counters[0], Add: -1}}}, consign.Change{Job: c})
		s.outcomes(got, nil, consign.ErrVersion, consign.ErrGuard, consign.ErrBound, nil)
		equal(s, "the queue", idsOf(ok[[]*consign.Job](s)(s.Page(s.Context(), "a", consign.AllShards, consign.Place{}, many))), []consign.JobID{a.ID, c.ID})
		equal(s, "the outcomes of no changes", s.apply(), nil)
	}},

	{"InOrder", "Apply commits changes in one durable transaction, in order.", func(s *subject) {
		first := queued(1, "a", 1)
		second := running(first, 1, long)
		third := in(consign.StateCompleted, second)
		own := effect(first.ID, number(3, 0))
		s.outcomes(s.apply(
			consign.Change{Job: second}, // too early
			consign.Change{Job: first},
			consign.Change{Job: second},
			consign.Change{Job: third, Guard: &consign.Guard{Job: first.ID, Claim: claim(1)}, Effects: []consign.Effect{own}},
			consign.Change{Guard: &consign.Guard{Job: first.ID, Claim: claim(1)}}, // no longer running
			consign.Change{Drop: []consign.EffectID{own.ID}},
			consign.Change{Drop: []consign.EffectID{own.ID}}, // a second time
		), consign.ErrVersion, nil, nil, nil, consign.ErrGuard, nil, consign.ErrVersion)
		equal(s, "the job", s.job(first.ID), third)

		s.outcomes(s.apply(
			consign.Change{Docs: []consign.Doc{doc("w", 2, "two")}}, // too early
			consign.Change{Docs: []consign.Doc{doc("w", 1, "one")}},
			consign.Change{Docs: []consign.Doc{doc("w", 2, "two")}},
			consign.Change{Docs: []consign.Doc{doc("w", 3, "")}},
			consign.Change{Docs: []consign.Doc{doc("w", 1, "again")}},
			consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: -2}}}, // too early
			consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: 3}}},
			consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: -2}}},
			consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: -2}}}, // too late
		), consign.ErrVersion, nil, nil, nil, nil, consign.ErrBound, nil, nil, consign.ErrBound)
		equal(s, "the document", compact(ok[consign.Doc](s)(s.Doc(s.Context(), consign.DocWorker, "w"))), compact(doc("w", 1, "again")))
		equal(s, "the counter", ok[int64](s)(s.Counter(s.Context(), counters[0])), 1)

		fresh := queued(1, "b", 9)
		s.must(consign.Change{Job: in(consign.StateCompleted, third), Delete: true}, consign.Change{Job: fresh})
		equal(s, "the job that was deleted and inserted anew", s.job(first.ID), fresh)
	}},

	{"Large", "Apply commits changes in one durable transaction, in order.", func(s *subject) {
		const n = 1000
		var changes []consign.Change
		var want []error
		for i := range n {
			job := queued(i, "a", consign.Instant(n-i))
			changes = append(changes, consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID, Payload: make([]byte, 100)},
				Log: []consign.LogEntry{entry(job.ID, number(1, 0))}, Counters: []consign.Delta{{Counter: counters[0], Add: 1}}})
			want = append(want, nil)
			if i%100 == 50 {
				changes, want = append(changes, consign.Change{Job: job}), append(want, consign.ErrVersion)
			}
		}
		s.outcomes(s.apply(changes...), want...)
		page := idsOf(ok[[]*consign.Job](s)(s.Page(s.Context(), "a", consign.AllShards, consign.Place{}, many)))
		if len(page) != n || page[0] != id(n-1) || page[n-1] != id(0) {
			s.failf("the lane of %d jobs has %d", n, len(page))
		}
		equal(s, "the sum", ok[int64](s)(s.Counter(s.Context(), counters[0])), n)
	}},

	{"Forget", "Forget deletes the job's spec, done and log; Delete the job itself, with all that belongs to it.", func(s *subject) {
		job := queued(1, "a", 1)
		job.DueAt = 5
		s.must(consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID, Kind: "TASK"}, Done: &consign.Done{ID: job.ID, Result: []byte("x")},
			Log: []consign.LogEntry{entry(job.ID, number(1, 0))}})
		tombstone := in(consign.StateCancelled, job)
		tombstone.Purged = true
		s.must(consign.Change{Job: tombstone, Forget: true})
		same(s, "the store", s.state(), state{Jobs: []consign.Job{*tombstone}, Specs: []*consign.Spec{nil}, Done: []*consign.Done{nil},
			Logs: [][]consign.LogEntry{nil}, Due: []consign.JobID{job.ID}, Counters: []int64{0, 0}})

		s.must(consign.Change{Job: in(consign.StateCancelled, tombstone), Delete: true})
		same(s, "the store", s.state(), state{Counters: []int64{0, 0}})

		// A new job of the same ID starts with nothing.
		s.must(consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID}, Log: []consign.LogEntry{entry(job.ID, number(1, 0))}})
		s.must(consign.Change{Job: in(consign.StateCancelled, job), Delete: true})
		s.must(consign.Change{Job: queued(1, "b", 1)})
		after := s.state()
		equal(s, "the specs of a new job", after.Specs, []*consign.Spec{nil})
		equal(s, "the log of a new job", after.Logs, [][]consign.LogEntry{nil})
	}},

	{"ForgetVersion", "Both apply to Job, whose version must be stored as Job.Version-1.", func(s *subject) {
		job := queued(1, "a", 1)
		s.must(consign.Change{Job: job, Spec: &consign.Spec{ID: job.ID}})
		before := s.state()
		s.refused("forgetting at an old version", consign.ErrVersion, consign.Change{Job: job, Forget: true})
		s.refused("deleting at an old version", consign.ErrVersion, consign.Change{Job: job, Delete: true})
		s.refused("deleting at a version to come", consign.ErrVersion, consign.Change{Job: in(0, in(0, job)), Delete: true})
		s.refused("deleting a job that is not there", consign.ErrVersion, consign.Change{Job: in(0, queued(2, "a", 1)), Delete: true})
		same(s, "the store after refusals", s.state(), before)
	}},

	{"LogOfNone", "Those of a job that is not there, or was ever forgotten, are dropped, and so is one whose number the job's log has.", func(s *subject) {
		a, b := queued(1, "a", 1), queued(2, "a", 2)
		s.must(consign.Change{Job: a, Log: []consign.LogEntry{entry(a.ID, number(1, 0)), entry(b.ID, number(1, 0))}},
			consign.Change{Job: b, Log: []consign.LogEntry{entry(b.ID, number(1, 1))}})
		equal(s, "the logs", s.state().Logs, [][]consign.LogEntry{{entry(a.ID, number(1, 0))}, {entry(b.ID, number(1, 1))}})

		tombstone := in(consign.StateCancelled, a)
		tombstone.Purged = true
		s.must(consign.Change{Job: tombstone, Forget: true, Log: []consign.LogEntry{entry(a.ID, number(2, 0))}})
		s.must(consign.Change{Log: []consign.LogEntry{entry(a.ID, number(2, 1)), entry(b.ID, number(1, 2))}})
		s.must(consign.Change{Job: in(consign.StateCompleted, b), Delete: true, Log: []consign.LogEntry{entry(b.ID, number(2, 0))}})
		equal(s, "the logs", s.state().Logs, [][]consign.LogEntry{nil})
	}},

	{"LogNumbers", "Seq numbers the entries of one job's log", func(s *subject) {
		job := queued(1, "a", 1)
		const last = consign.Seq(1<<63 - 1)
		first := entry(job.ID, number(1, 0))
		s.must(consign.Change{Job: job, Log: []consign.LogEntry{first}})
		s.must(consign.Change{Log: []consign.LogEntry{entry(job.ID, last)}}) // settled before it is acknowledged
		// A number that is taken stands for the entry that has it, so adding it
		// again after an unknown outcome does no harm.
		again := first
		again.Reason = "again"
		s.must(consign.Change{Log: []consign.LogEntry{again}})
		s.must(consign.Change{Log: []consign.LogEntry{entry(job.ID, number(3, 1)), entry(job.ID, number(2, 0)), entry(job.ID, number(3, 0)), entry(job.ID, number(2, 0))}})
		equal(s, "the log", s.state().Logs, [][]consign.LogEntry{{first, entry(job.ID, number(2, 0)), entry(job.ID, number(3, 0)),
			entry(job.ID, number(3, 1)), entry(job.ID, last)}})

		whole := filled[consign.LogEntry]()
		whole.Job, whole.Seq = job.ID, number(4, 0)
		s.must(consign.Change{Log: []consign.LogEntry{*whole}})
		equal(s, "an entry", ok[[]consign.LogEntry](s)(s.Log(s.Context(), job.ID, number(3, 1), 1)), []consign.LogEntry{*whole})
	}},

	{"Drop", "carried out now; ErrVersion if one is not there", func(s *subject) {
		var all []consign.Effect
		for i := range 4 {
			all = append(all, effect(id(1), number(1, i)))
		}
		s.must(consign.Change{Effects: all})
		s.must(consign.Change{Drop: []consign.EffectID{all[1].ID, all[2].ID}})
		s.refused("dropping one that is gone, with one that is there", consign.ErrVersion, consign.Change{Drop: []consign.EffectID{all[0].ID, all[1].ID}})
		equal(s, "the effects", s.state().Effects, []consign.Effect{all[0], all[3]})
	}},

	{"Docs", "each written if the stored version is Version-1", func(s *subject) {
		s.refused("a version that skips one", consign.ErrVersion, consign.Change{Docs: []consign.Doc{doc("w", 2, "two")}})
		s.refused("version zero", consign.ErrVersion, consign.Change{Docs: []consign.Doc{doc("w", 0, "zero")}})
		s.must(consign.Change{Docs: []consign.Doc{doc("w", 1, "one"), doc("v", 1, "one")}})
		s.refused("the version that is stored", consign.ErrVersion, consign.Change{Docs: []consign.Doc{doc("w", 1, "two")}})
		s.must(consign.Change{Docs: []consign.Doc{doc("w", 2, "two")}})
		s.refused("one of two", consign.ErrVersion, consign.Change{Docs: []consign.Doc{doc("v", 2, "two"), doc("w", 2, "three")}})
		equal(s, "the documents", s.state().Docs, compact(doc("v", 1, "one"), doc("w", 2, "two")))
	}},

	{"DeleteDoc", "nil deletes", func(s *subject) {
		s.must(consign.Change{Docs: []consign.Doc{doc("w", 1, "one"), doc("v", 1, "one")}})
		s.refused("deleting at an old version", consign.ErrVersion, consign.Change{Docs: []consign.Doc{doc("w", 1, "")}})
		s.must(consign.Change{Docs: []consign.Doc{doc("w", 2, "")}})
		equal(s, "the documents", s.state().Docs, compact(doc("v", 1, "one")))
		equal(s, "the version of one that is deleted", ok[consign.Doc](s)(s.Doc(s.Context(), consign.DocWorker, "w")).Version, 0)
		s.must(consign.Change{Docs: []consign.Doc{doc("w", 1, "anew")}})
	}},

	{"Counters", "Deltas commute; one that would leave the counter below Min fails its change with ErrBound.", func(s *subject) {
		add := func(n, floor int64) consign.Change {
			return consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: n, Min: floor}}}
		}
		s.refused("one below an empty counter", consign.ErrBound, add(-1, 0))
		s.must(add(-1, -1), add(6, 0), add(-2, 3))
		s.refused("one below its own bound", consign.ErrBound, add(-1, 3))
		s.must(add(-1, 2), add(-2, 0))
		equal(s, "the counter", ok[int64](s)(s.Counter(s.Context(), counters[0])), 0)
		equal(s, "another counter", ok[int64](s)(s.Counter(s.Context(), counters[1])), 0)
		s.must(add(1<<53+1, 0))
		equal(s, "a counter above 53 bits", ok[int64](s)(s.Counter(s.Context(), counters[0])), 1<<53+1)
		equal(s, "one that was never written", ok[int64](s)(s.Counter(s.Context(), "none")), 0)
	}},

	{"CountersUp", "A delta of zero or more never fails.", func(s *subject) {
		s.must(consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: 1, Min: 100}}},
			consign.Change{Counters: []consign.Delta{{Counter: counters[0], Add: 0, Min: 100}, {Counter: counters[1], Add: 2, Min: 5}}})
		equal(s, "the counters", s.state().Counters, []int64{1, 2})
	}},

	{"Cancelled", "A cancelled context ends a call early with the context's error", func(s *subject) {
		job := queued(1, "a", 1)
		s.must(consign.Change{Job: job}, consign.Change{Job: running(job, 1, long)})
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		next := in(consign.StateCompleted, running(job, 1, long))
		for name, call := range map[string]func() error{
			"Apply": func() error {
				_, err := s.Apply(ctx, []consign.Change{{Job: next, Docs: []consign.Doc{doc("w", 1, "one")}}})
				return err
			},
			"Renew": func() error {
				_, err := s.Renew(ctx, []consign.Renewal{{Job: job.ID, Claim: claim(1), For: long}})
				return err
			},
			"Jobs":    func() error { _, err := s.Jobs(ctx, []consign.JobID{job.ID}); return err },
			"Specs":   func() error { _, err := s.Specs(ctx, []consign.JobID{job.ID}); return err },
			"Done":    func() error { _, err := s.Done(ctx, job.ID); return err },
			"Log":     func() error { _, err := s.Log(ctx, job.ID, 0, 1); return err },
			"Lanes":   func() error { _, err := s.Lanes(ctx); return err },
			"Page":    func() error { _, err := s.Page(ctx, "a", consign.AllShards, consign.Place{}, 1); return err },
			"Due":     func() error { _, _, err := s.Due(ctx, never, 1); return err },
			"Lapsed":  func() error { _, err := s.Lapsed(ctx, 1); return err },
			"List":    func() error { _, err := s.List(ctx, consign.Filter{}, consign.JobID{}, 1); return err },
			"Effects": func() error { _, err := s.Effects(ctx, 1); return err },
			"Docs":    func() error { _, err := s.Docs(ctx, consign.DocWorker, "", 1); return err },
			"Doc":     func() error { _, err := s.Doc(ctx, consign.DocWorker, "w"); return err },
			"Counter": func() error { _, err := s.Counter(ctx, counters[0]); return err },
		} {
			if err := call(); !errors.Is(err, context.Canceled) {
				s.failf("%s with a cancelled context gave %v, want %v", name, err, context.Canceled)
			}
		}
		// The change was applied or it was not; the store goes on either way.
		after := s.state()
		if len(after.Jobs) != 1 {
			s.failf("the job is gone")
		}
		if applied := len(after.Docs) == 1; (after.Jobs[0].Version == next.Version) != applied {
			s.failf("half of a cancelled change was applied: %s", show(after))
		} else if !applied {
			s.must(consign.Change{Job: next, Docs: []consign.Doc{doc("w", 1, "one")}})
		}
	}},

	{"Shared", "Values passed in and handed out are shared: neither side modifies them afterwards.", func(s *subject) {
		first := queued(1, "a", 1)
		second := running(first, 1, long)
		third := in(consign.StateCompleted, second)
		log := []consign.LogEntry{entry(first.ID, number(1, 5)), entry(first.ID, number(1, 3))}
		passed := []consign.Job{*first, *second, *third}
		logged := slices.Clone(log)

		s.must(consign.Change{Job: first, Log: log})
		got := []*consign.Job{s.job(first.ID)}
		entries := ok[[]consign.LogEntry](s)(s.Log(s.Context(), first.ID, 0, many))
		s.must(consign.Change{Job: second, Log: []consign.LogEntry{entry(first.ID, number(1, 4))}})
		got = append(got, s.job(first.ID))
		held := got[1].LeaseUntil
		s.outcomes(s.renew(consign.Renewal{Job: first.ID, Claim: claim(1), For: 2 * long}), nil)
		if got[1].LeaseUntil != held {
			s.failf("a renewal changed a job that was handed out before")
		}
		s.must(consign.Change{Job: third, Log: []consign.LogEntry{entry(first.ID, number(1, 6))}})
		got = append(got, s.job(first.ID))

		for i, job := range []*consign.Job{first, second, third} {
			equal(s, "a job that was passed in", *job, passed[i])
			equal(s, "a job that was handed out", still(got[i]), passed[i])
		}
		equal(s, "a log that was passed in", log, logged)
		equal(s, "a log that was handed out", entries, []consign.LogEntry{logged[1], logged[0]})
	}},
}
