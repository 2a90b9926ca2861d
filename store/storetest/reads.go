package storetest

import (
	"fmt"
	"slices"

	"github.com/consignq/consign"
)

// reads are the checks of what is handed out, in which order and how many.
var reads = []check{
	{"Jobs", "Jobs returns the jobs, nil where there is none, in the order of ids.", func(s *subject) {
		a, b := queued(1, "a", 1), queued(2, "a", 2)
		s.must(insert(a, b)...)
		jobs := ok[[]*consign.Job](s)(s.Jobs(s.Context(), []consign.JobID{id(2), id(9), id(1), id(2)}))
		equal(s, "the jobs", jobs, []*consign.Job{b, nil, a, b})
		equal(s, "no jobs", ok[[]*consign.Job](s)(s.Jobs(s.Context(), nil)), nil)
	}},

	{"Specs", "Specs returns the specs, nil where there is none, in the order of ids.", func(s *subject) {
		a, b, c := queued(1, "a", 1), queued(2, "a", 2), queued(3, "a", 3)
		spec := func(job *consign.Job) *consign.Spec { return &consign.Spec{ID: job.ID, Kind: job.ID.String()} }
		s.must(consign.Change{Job: a, Spec: spec(a)}, consign.Change{Job: b, Spec: spec(b)}, consign.Change{Job: c})
		specs := ok[[]*consign.Spec](s)(s.Specs(s.Context(), []consign.JobID{id(2), id(3), id(9), id(1)}))
		equal(s, "the specs", specs, []*consign.Spec{spec(b), nil, nil, spec(a)})
	}},

	{"Done", "Done returns how a job ended, nil if it has no result.", func(s *subject) {
		a, b := queued(1, "a", 1), queued(2, "a", 2)
		done := &consign.Done{ID: a.ID, Result: []byte("42")}
		s.must(consign.Change{Job: a, Done: done}, consign.Change{Job: b})
		equal(s, "its end", ok[*consign.Done](s)(s.Done(s.Context(), a.ID)), done)
		equal(s, "the end of one that has none", ok[*consign.Done](s)(s.Done(s.Context(), b.ID)), nil)
		equal(s, "the end of one that is not there", ok[*consign.Done](s)(s.Done(s.Context(), id(9))), nil)
	}},

	{"Log", "Log returns at most n entries of the job's log with a number above after, in the order of their numbers.", func(s *subject) {
		job, other := queued(1, "a", 1), queued(2, "a", 2)
		s.must(insert(job, other)...)
		var all []consign.LogEntry
		for v := range uint64(5) {
			for i := range 3 {
				all = append(all, entry(job.ID, number(v+1, i)))
			}
		}
		for _, part := range slices.Backward(slices.Collect(slices.Chunk(all, 4))) {
			s.must(consign.Change{Log: append([]consign.LogEntry{entry(other.ID, number(1, len(part)))}, part...)})
		}
		log := func(after consign.Seq, n int) []consign.LogEntry {
			return ok[[]consign.LogEntry](s)(s.Log(s.Context(), job.ID, after, n))
		}
		equal(s, "the log", log(0, many), all)
		var paged []consign.LogEntry
		for page := log(0, 4); len(page) > 0 && len(paged) < len(all); page = log(page[len(page)-1].Seq, 4) {
			if len(page) > 4 {
				s.failf("a page of 4 has %d entries", len(page))
			}
			paged = append(paged, page...)
		}
		equal(s, "the log in pages of 4", paged, all)
		equal(s, "after a number that no entry has", log(number(2, 7), 2), all[6:8])
		equal(s, "after the last", log(number(5, 2), many), nil)
		equal(s, "no entries", log(0, 0), nil)
		equal(s, "the log of a job that is not there", ok[[]consign.LogEntry](s)(s.Log(s.Context(), id(9), 0, many)), nil)
	}},

	{"Lanes", "Lanes returns every lane that has queued jobs, in the order of their text, with the smallest key in it.", func(s *subject) {
		equal(s, "the lanes of an empty store", ok[[]consign.LaneHead](s)(s.Lanes(s.Context())), nil)
		lanes := []string{"", "B", "a", "a&b", "ab", "acct=x&kind=TASK", "b", "z%3A", "é"} // by bytes, not as in a dictionary
		var heads []consign.LaneHead
		for i, lane := range slices.Backward(lanes) {
			for j := range 3 {
				s.must(consign.Change{Job: queued(10*i+j, lane, consign.Instant(30*i+10*(2-j)))})
			}
			heads = append(heads, consign.LaneHead{Lane: lane, Key: consign.Instant(30 * i)})
		}
		slices.Reverse(heads)
		get := func() []consign.LaneHead { return ok[[]consign.LaneHead](s)(s.Lanes(s.Context())) }
		equal(s, "the lanes", get(), heads)

		// A head that is claimed makes way for the next; the last empties the lane.
		head := queued(12, "B", 30)
		s.must(consign.Change{Job: running(head, 1, long)})
		heads[1].Key += 10
		equal(s, "the lanes after a claim", get(), heads)
		for i := range 2 {
			s.must(consign.Change{Job: in(consign.StateCancelled, queued(10+i, "B", 30))})
		}
		equal(s, "the lanes after one was emptied", get(), slices.Delete(heads, 1, 2))
	}},

	{"Page", "Page returns at most n queued jobs of a lane and of the shards in the mask (bit i for shard i), in claim order (Key, then ID), after the given place.", func(s *subject) {
		var all []*consign.Job
		for i := range 40 {
			all = append(all, queued(i, "a", consign.Instant(100-i/4)))
		}
		all[7].Key, all[9].Key = never, 1
		s.must(insert(all...)...)
		s.must(insert(queued(100, "", 5), queued(101, "a&b", 5), queued(102, "A", 5))...)
		claimed := queued(103, "a", 2)
		s.must(consign.Change{Job: claimed}, consign.Change{Job: running(claimed, 1, long)})

		slices.SortFunc(all, func(a, b *consign.Job) int {
			switch p, q := place(a), place(b); {
			case p.Before(q):
				return -1
			case q.Before(p):
				return 1
			}
			return 0
		})
		page := func(shards uint16, after consign.Place, n int) []*consign.Job {
			return ok[[]*consign.Job](s)(s.Page(s.Context(), "a", shards, after, n))
		}
		equal(s, "the lane", page(consign.AllShards, consign.Place{}, many), all)
		equal(s, "its first three", page(consign.AllShards, consign.Place{}, 3), all[:3])
		equal(s, "none of it", page(consign.AllShards, consign.Place{}, 0), nil)
		equal(s, "no shards", page(0, consign.Place{}, many), nil)
		equal(s, "after the last", page(consign.AllShards, place(all[39]), many), nil)
		for i, job := range all {
			equal(s, fmt.Sprint("after job ", i), page(consign.AllShards, place(job), 5), all[i+1:min(i+6, 40)])
		}
		nowhere := consign.Place{Key: all[4].Key, ID: consign.JobID{0: 0xff}}
		next := slices.IndexFunc(all, func(j *consign.Job) bool { return nowhere.Before(place(j)) })
		equal(s, "after a place that no job has", page(consign.AllShards, nowhere, 1), all[next:next+1])
		for _, shards := range []uint16{1, 1 << 3, 1<<15 | 1<<2, 0x0ff0} {
			var want []*consign.Job
			for _, job := range all {
				if shards>>job.ID.Shard()&1 == 1 {
					want = append(want, job)
				}
			}
			equal(s, fmt.Sprintf("the shards %016b", shards), page(shards, consign.Place{}, many), want)
			equal(s, fmt.Sprintf("one of the shards %016b", shards), page(shards, place(want[0]), 1), want[1:2])
		}
		equal(s, "a lane that is not there", ok[[]*consign.Job](s)(s.Page(s.Context(), "none", consign.AllShards, consign.Place{}, many)), nil)
	}},

	{"PageMoves", "Page returns at most n queued jobs of a lane", func(s *subject) {
		job := queued(1, "a", 5)
		s.must(consign.Change{Job: job})
		moved := in(consign.StateQueued, running(job, 1, long))
		moved.Key, moved.Version = 7, 3
		s.must(consign.Change{Job: running(job, 1, long)})
		equal(s, "the lane of a running job", ok[[]*consign.Job](s)(s.Page(s.Context(), "a", consign.AllShards, consign.Place{}, many)), nil)
		s.must(consign.Change{Job: moved})
		equal(s, "the lane of a job that is queued again", ok[[]*consign.Job](s)(s.Page(s.Context(), "a", consign.AllShards, consign.Place{Key: 6}, many)), []*consign.Job{moved})
		s.must(consign.Change{Job: in(consign.StateCancelled, moved)})
		equal(s, "the lane that it left", ok[[]*consign.Job](s)(s.Page(s.Context(), "a", consign.AllShards, consign.Place{}, many)), nil)
		equal(s, "the lanes", ok[[]consign.LaneHead](s)(s.Lanes(s.Context())), nil)
	}},

	{"Due", "Due returns at most n jobs whose DueAt is set and not after now, earliest first, and the earliest DueAt of those that it did not return (zero if there is none).", func(s *subject) {
		for i, at := range []consign.Instant{30, 10, 0, 20, never, 40} {
			job := queued(i, "a", 1)
			job.DueAt = at
			s.must(consign.Change{Job: job})
		}
		check := func(now consign.Instant, n int, next consign.Instant, want ...consign.JobID) {
			s.Helper()
			due, gotNext, err := s.Due(s.Context(), now, n)
			what := fmt.Sprintf("at %d, at most %d", now, n)
			equal(s, what, idsOf(ok[[]*consign.Job](s)(due, err)), want)
			equal(s, "the next "+what, gotNext, next)
		}
		check(9, many, 10)
		check(10, many, 20, id(1))
		check(35, many, 40, id(1), id(3), id(0))
		check(35, 2, 30, id(1), id(3))
		check(35, 0, 10)
		check(never, many, 0, id(1), id(3), id(0), id(5), id(4))

		later, cleared := queued(1, "a", 1), queued(3, "a", 1)
		later.Version, later.DueAt, cleared.Version = 2, 50, 2
		s.must(consign.Change{Job: later}, consign.Change{Job: cleared})
		check(45, many, 50, id(0), id(5))
	}},

	{"ManyTimed", "Due returns at most n jobs whose DueAt is set and not after now, earliest first", func(s *subject) {
		const n = 300 // more than a queue reads at once: it reads past what it cannot move
		var changes []consign.Change
		for i := range n {
			job, held := queued(i, "a", 1), queued(n+i, "a", 1)
			job.DueAt = consign.Instant(1 + i)
			changes = append(changes, consign.Change{Job: job}, consign.Change{Job: held}, consign.Change{Job: running(held, n+i, short)})
		}
		s.must(changes...)
		due, next, err := s.Due(s.Context(), never, n-1)
		if due = ok[[]*consign.Job](s)(due, err); len(due) != n-1 || due[n-2].ID != id(n-2) || next != n {
			s.failf("of %d due jobs, at most %d, %d are given, and the next is %d", n, n-1, len(due), next)
		}
		s.eventually("all leases have ended", func() bool { return len(s.lapsed(many)) == n })
		equal(s, "how many lapsed jobs are given", len(s.lapsed(n-1)), n-1)
	}},

	{"List", "List returns at most n jobs that match the filter, by ID, after the given one.", func(s *subject) {
		accounts, states := []string{"acme", "zenith"}, []consign.State{consign.StateQueued, consign.StateRunning, consign.StateFailed}
		var all []consign.Job
		for i := range 30 {
			job := queued(i*100, "a", 1)
			job.Account = accounts[i%2]
			s.must(consign.Change{Job: job})
			if state := states[i%3]; state != consign.StateQueued {
				job = in(state, job)
				if state == consign.StateRunning {
					job.Claim, job.LeaseFor = claim(i), long
				}
				s.must(consign.Change{Job: job})
			}
			all = append(all, *job)
		}
		for _, account := range append(accounts, "", "nobody") {
			for _, state := range append(states, consign.StateNone, consign.StateExpired) {
				var want, got []consign.Job
				for _, job := range all {
					if (account == "" || job.Account == account) && (state == consign.StateNone || job.State == state) {
						want = append(want, job)
					}
				}
				list := func(after consign.JobID) []*consign.Job {
					return ok[[]*consign.Job](s)(s.List(s.Context(), consign.Filter{Account: account, State: state}, after, 4))
				}
				for page := list(consign.JobID{}); len(page) > 0 && len(got) <= len(all); page = list(page[len(page)-1].ID) {
					if len(page) > 4 {
						s.failf("a page of 4 has %d jobs", len(page))
					}
					for _, job := range page {
						got = append(got, still(job))
					}
				}
				equal(s, fmt.Sprintf("the jobs of account %q in state %s, in pages of 4", account, state), got, want)
			}
		}
		equal(s, "none of them", ok[[]*consign.Job](s)(s.List(s.Context(), consign.Filter{}, consign.JobID{}, 0)), nil)
	}},

	{"Effects", "Effects returns at most n effects that wait to be carried out, oldest first.", func(s *subject) {
		var all []consign.Effect
		for i := range 12 {
			e := effect(id(12-i), number(uint64(20-i), i%2)) // in no order but that of arrival
			all = append(all, e)
		}
		all[3] = *filled[consign.Effect]()
		s.must(consign.Change{Effects: all[:5]}, consign.Change{Effects: all[5:6]})
		s.must(consign.Change{Effects: all[6:]})
		get := func(n int) []consign.Effect { return ok[[]consign.Effect](s)(s.Effects(s.Context(), n)) }
		equal(s, "the effects", get(many), all)
		equal(s, "the first four", get(4), all[:4])
		equal(s, "none of them", get(0), nil)
		s.must(consign.Change{Drop: []consign.EffectID{all[0].ID, all[2].ID, all[11].ID}})
		equal(s, "the effects that are left", get(many), slices.Concat(all[1:2], all[3:11]))
		late := effect(id(1), number(1, 0))
		s.must(consign.Change{Effects: []consign.Effect{late}})
		equal(s, "the effects with a late one", get(many), slices.Concat(all[1:2], all[3:11], []consign.Effect{late}))
	}},

	{"DocsOfKind", "Docs returns the documents of a kind, by key, after the given key, at most n.", func(s *subject) {
		keys := []string{"B", "a", "a/b", "ab", "b", "é"} // by bytes, not as in a dictionary
		var all []consign.Doc
		for _, key := range keys {
			all = append(all, doc(key, 1, key))
		}
		for _, d := range slices.Backward(all) {
			s.must(consign.Change{Docs: []consign.Doc{d}})
		}
		other := doc("aa", 1, "other")
		other.Kind = consign.DocPause
		prefix := doc("a", 1, "other")
		prefix.Kind = consign.DocWorker + "s"
		s.must(consign.Change{Docs: []consign.Doc{other, prefix}})
		get := func(after string, n int) []consign.Doc {
			return compact(ok[[]consign.Doc](s)(s.Docs(s.Context(), consign.DocWorker, after, n))...)
		}
		all = compact(all...)
		equal(s, "the documents", get("", many), all)
		equal(s, "the first two", get("", 2), all[:2])
		equal(s, "two more", get("a", 2), all[2:4])
		equal(s, "after a key that none has", get("aa", many), all[3:])
		equal(s, "none", get("", 0), nil)
		equal(s, "those of another kind", compact(ok[[]consign.Doc](s)(s.Docs(s.Context(), consign.DocPause, "", many))...), compact(other))
	}},

	{"Doc", "Doc returns one document, or one of version 0 where there is none.", func(s *subject) {
		s.must(consign.Change{Docs: []consign.Doc{doc("w", 1, "one")}})
		equal(s, "the document", compact(ok[consign.Doc](s)(s.Doc(s.Context(), consign.DocWorker, "w"))), compact(doc("w", 1, "one")))
		for _, kind := range []string{consign.DocPause, consign.DocWorker} {
			none := ok[consign.Doc](s)(s.Doc(s.Context(), kind, "w"+kind))
			if none.Version != 0 || none.Body != nil {
				s.failf("a document that is not there is %s", show(none))
			}
		}
	}},
}

func place(job *consign.Job) consign.Place { return consign.Place{Key: job.Key, ID: job.ID} }
