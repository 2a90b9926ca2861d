package storetest

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// mutant is a store with one fault.
type mutant struct {
	fault  string // "a store that ..."
	by     string // the check that must find it
	wrap   func(s consign.Store) consign.Store
	subtle bool // the model need not find it
}

type (
	job    = consign.Job
	change = consign.Change
	ctxt   = context.Context
)

var mutants = []mutant{
	// Versions, order, atomicity.
	{fault: "ignores the job's version", by: "Version", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Job != nil {
			c.Job = copied(c.Job, func(j *job) { j.Version = stored(ctx, s, j.ID) + 1 })
		}
	})},
	{fault: "takes a version that skips one", by: "Version", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Job != nil && c.Job.Version == stored(ctx, s, c.Job.ID)+2 {
			c.Job = copied(c.Job, func(j *job) { j.Version-- })
		}
	})},
	{fault: "overwrites on insert", by: "Insert", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Job != nil && c.Job.Version == 1 && !c.Delete {
			c.Job = copied(c.Job, func(j *job) { j.Version = stored(ctx, s, j.ID) + 1 })
		}
	})},
	{fault: "checks the version before it locks", by: "OneWinner", subtle: true, wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Job != nil && c.Job.Version-1 == stored(ctx, s, c.Job.ID) {
			time.Sleep(time.Microsecond)
			c.Job = copied(c.Job, func(j *job) { j.Version = stored(ctx, s, j.ID) + 1 })
		}
	})},
	{fault: "applies the documents and counters of a change that fails", by: "AllOrNothing", wrap: after(func(ctx ctxt, s consign.Store, c change, err error) {
		if err != nil {
			_, _ = s.Apply(ctx, []change{{Docs: c.Docs}, {Counters: c.Counters}})
		}
	})},
	{fault: "adds to the log for a change that fails", by: "AllOrNothing", wrap: after(func(ctx ctxt, s consign.Store, c change, err error) {
		if err != nil {
			_, _ = s.Apply(ctx, []change{{Log: c.Log}})
		}
	})},
	{fault: "drops the effects of a change that fails", by: "AllOrNothing", wrap: after(func(ctx ctxt, s consign.Store, c change, err error) {
		if err != nil {
			_, _ = s.Apply(ctx, []change{{Drop: c.Drop}})
		}
	})},
	{fault: "adds the effects of a change that fails", by: "AllOrNothing", wrap: after(func(ctx ctxt, s consign.Store, c change, err error) {
		if err != nil {
			_, _ = s.Apply(ctx, []change{{Effects: c.Effects}})
		}
	})},
	{fault: "stops a batch at the first failure", by: "Others", wrap: applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes := make([]error, len(changes))
		for i, c := range changes {
			got, err := s.Apply(ctx, []change{c})
			if err != nil {
				return nil, err
			}
			if outcomes[i] = got[0]; got[0] != nil {
				break
			}
		}
		return outcomes, nil
	})},
	{fault: "fails the whole batch for one change", by: "Others", wrap: applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes, err := s.Apply(ctx, changes)
		for _, outcome := range outcomes {
			if outcome != nil {
				return nil, outcome
			}
		}
		return outcomes, err
	})},
	{fault: "applies a batch backwards", by: "InOrder", wrap: applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		changes = slices.Clone(changes)
		slices.Reverse(changes)
		outcomes, err := s.Apply(ctx, changes)
		slices.Reverse(outcomes)
		return outcomes, err
	})},
	{fault: "puts outcomes at the wrong index", by: "Others", wrap: applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes, err := s.Apply(ctx, changes)
		slices.Reverse(outcomes[:len(outcomes)-len(outcomes)/2])
		return outcomes, err
	})},
	{fault: "applies 500 changes at most", by: "Large", subtle: true, wrap: applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes, err := s.Apply(ctx, changes[:min(500, len(changes))])
		return append(outcomes, make([]error, max(0, len(changes)-500))...), err
	})},
	{fault: "commits a batch in several transactions", by: "WholeChanges", subtle: true, wrap: applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes := make([]error, len(changes))
		for i, c := range changes {
			got, err := s.Apply(ctx, []change{c})
			if err != nil {
				return nil, err
			}
			outcomes[i] = got[0]
			time.Sleep(time.Microsecond)
		}
		return outcomes, nil
	})},
	{fault: "commits a change's log entries one by one", by: "WholeChanges", subtle: true, wrap: after(func(ctx ctxt, s consign.Store, c change, err error) {
		if err == nil {
			for _, e := range c.Log {
				_, _ = s.Apply(ctx, []change{{Log: []consign.LogEntry{e}}})
				time.Sleep(time.Microsecond)
			}
		}
	}, func(c *change) { c.Log = nil })},

	// Records.
	{fault: "forgets the job's reason", by: "Round", subtle: true, wrap: rewrite(func(c *change) {
		if c.Job != nil {
			c.Job = copied(c.Job, func(j *job) { j.Reason = "" })
		}
	})},
	{fault: "forgets the length of a lease", by: "Lease", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, jobs: func(ctx ctxt, ids []consign.JobID) ([]*job, error) {
			jobs, err := s.Jobs(ctx, ids)
			for i := range jobs {
				if jobs[i] != nil {
					jobs[i] = copied(jobs[i], func(j *job) { j.LeaseFor = 0 })
				}
			}
			return jobs, err
		}}
	}, subtle: true},
	{fault: "forgets the spec's labels", by: "Round", subtle: true, wrap: rewrite(func(c *change) {
		if c.Spec != nil {
			c.Spec = copied(c.Spec, func(s *consign.Spec) { s.Labels = "" })
		}
	})},
	{fault: "makes an empty field of one that is not set", by: "Round", wrap: rewrite(func(c *change) {
		if c.Spec != nil && c.Spec.Header == nil {
			c.Spec = copied(c.Spec, func(s *consign.Spec) { s.Header = []byte{} })
		}
	})},
	{fault: "loses the result", by: "Round", wrap: rewrite(func(c *change) { c.Done = nil })},
	{fault: "deletes the spec that a later write does not have", by: "Round", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Job != nil && c.Job.Version > 1 && c.Spec == nil {
			c.Spec = &consign.Spec{ID: c.Job.ID}
		}
	})},
	{fault: "does not forget", by: "Forget", wrap: rewrite(func(c *change) { c.Forget = false })},
	{fault: "deletes what it should forget", by: "Forget", wrap: rewrite(func(c *change) { c.Delete = c.Delete || c.Forget })},
	{fault: "forgets what it should delete", by: "Forget", wrap: rewrite(func(c *change) {
		if c.Delete {
			c.Delete, c.Forget = false, true
		}
	})},
	{fault: "deletes at any version", by: "ForgetVersion", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Delete {
			c.Job = copied(c.Job, func(j *job) { j.Version = stored(ctx, s, j.ID) + 1 })
		}
	})},
	{fault: "forgets at any version", by: "ForgetVersion", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Forget {
			c.Job = copied(c.Job, func(j *job) { j.Version = stored(ctx, s, j.ID) + 1 })
		}
	})},

	// The log.
	{fault: "keeps log entries for a job that is yet to come", by: "LogOfNone", wrap: func(s consign.Store) consign.Store {
		var mu sync.Mutex
		kept := make(map[consign.JobID][]consign.LogEntry)
		return each(func(ctx ctxt, s consign.Store, c *change) {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range c.Log {
				if stored(ctx, s, e.Job) == 0 {
					kept[e.Job] = append(kept[e.Job], e)
				}
			}
			if c.Job != nil {
				c.Log = append(slices.Clone(c.Log), kept[c.Job.ID]...)
			}
		})(s)
	}},
	{fault: "overwrites a log entry whose number is taken", by: "LogNumbers", wrap: func(s consign.Store) consign.Store {
		var mu sync.Mutex
		last := make(map[consign.EffectID]consign.LogEntry)
		return &broken{Store: s, apply: func(ctx ctxt, changes []change) ([]error, error) {
			mu.Lock()
			defer mu.Unlock()
			outcomes, err := s.Apply(ctx, changes)
			for i, c := range changes {
				if err == nil && outcomes[i] == nil {
					for _, e := range c.Log {
						last[consign.EffectID{Job: e.Job, Seq: e.Seq}] = e
					}
				}
			}
			return outcomes, err
		}, log: func(ctx ctxt, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
			mu.Lock()
			defer mu.Unlock()
			log, err := s.Log(ctx, id, after, n)
			log = slices.Clone(log)
			for i, e := range log {
				log[i] = last[consign.EffectID{Job: id, Seq: e.Seq}]
			}
			return log, err
		}}
	}},
	{fault: "gives the log backwards", by: "Log", wrap: logs(func(log []consign.LogEntry, _ int) []consign.LogEntry {
		slices.Reverse(log)
		return log
	})},
	{fault: "gives one log entry too many", by: "Log", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, log: func(ctx ctxt, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
			return s.Log(ctx, id, after, n+1)
		}}
	}},
	{fault: "gives the log from a number on and not after it", by: "Log", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, log: func(ctx ctxt, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
			return s.Log(ctx, id, max(after, 1)-1, n)
		}}
	}},

	// Guards and leases.
	{fault: "forgets the guard", by: "Guard", wrap: rewrite(func(c *change) { c.Guard = nil })},
	{fault: "forgets that a guard asks for a lapsed lease", by: "GuardLapsed", wrap: rewrite(func(c *change) {
		if c.Guard != nil {
			c.Guard = copied(c.Guard, func(g *consign.Guard) { g.Lapsed = false })
		}
	})},
	{fault: "guards the job and not the claim", by: "Guard", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Guard != nil {
			if j := get(ctx, s, c.Guard.Job); j != nil {
				c.Guard = copied(c.Guard, func(g *consign.Guard) { g.Claim = j.Claim })
			}
		}
	})},
	{fault: "guards the claim of a job that has ended", by: "Guard", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Guard != nil {
			if j := get(ctx, s, c.Guard.Job); j != nil && j.State.Terminal() && j.Claim == c.Guard.Claim {
				c.Guard = nil
			}
		}
	}), subtle: true},
	{fault: "judges a guard before it locks", by: "RenewOrReap", subtle: true, wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if c.Guard != nil && c.Guard.Lapsed {
			lapsed, _ := s.Lapsed(ctx, many)
			if slices.ContainsFunc(lapsed, func(j *job) bool { return j.ID == c.Guard.Job && j.Claim == c.Guard.Claim }) {
				time.Sleep(time.Microsecond)
				c.Guard = nil
			}
		}
	})},
	{fault: "believes the job's LeaseUntil", by: "Lease", wrap: rewrite(func(c *change) {
		if c.Job != nil && c.Job.LeaseFor != 0 {
			c.Job = copied(c.Job, func(j *job) { j.LeaseFor = 0 })
		}
	})},
	{fault: "renews any claim", by: "RenewOthers", wrap: renewing(func(ctx ctxt, s consign.Store, r *consign.Renewal) {
		if j := get(ctx, s, r.Job); j != nil && j.State == consign.StateRunning {
			r.Claim = j.Claim
		}
	})},
	{fault: "says that it renewed what it did not", by: "RenewOthers", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, renew: func(ctx ctxt, rs []consign.Renewal) ([]error, error) {
			outcomes, err := s.Renew(ctx, rs)
			return make([]error, len(outcomes)), err
		}}
	}},
	{fault: "never shortens a lease", by: "Renew", wrap: renewing(func(ctx ctxt, s consign.Store, r *consign.Renewal) {
		if j := get(ctx, s, r.Job); j != nil {
			r.For = max(r.For, time.Until(j.LeaseUntil.Time()))
		}
	})},
	{fault: "does not renew a lease that has lapsed", by: "GuardLapsed", wrap: renewing(func(ctx ctxt, s consign.Store, r *consign.Renewal) {
		if j := get(ctx, s, r.Job); j != nil && j.LeaseUntil <= consign.At(time.Now()) {
			r.Claim = consign.ClaimID{}
		}
	})},
	{fault: "moves the version with a renewal", by: "RenewVersion", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, renew: func(ctx ctxt, rs []consign.Renewal) ([]error, error) {
			outcomes, err := s.Renew(ctx, rs)
			for i, r := range rs {
				if err == nil && outcomes[i] == nil {
					_, _ = s.Apply(ctx, []change{{Job: copied(get(ctx, s, r.Job), func(j *job) { j.Version++; j.LeaseFor = r.For })}})
				}
			}
			return outcomes, err
		}}
	}},
	{fault: "hands out the lease as it was claimed", by: "Renew", subtle: true, wrap: func(s consign.Store) consign.Store {
		var mu sync.Mutex
		first := make(map[consign.ClaimID]consign.Instant)
		return &broken{Store: s, jobs: func(ctx ctxt, ids []consign.JobID) ([]*job, error) {
			mu.Lock()
			defer mu.Unlock()
			jobs, err := s.Jobs(ctx, ids)
			for i, j := range jobs {
				if j != nil && j.State == consign.StateRunning {
					jobs[i] = copied(j, func(j *job) {
						if first[j.Claim] == 0 {
							first[j.Claim] = consign.At(time.Now()).Add(j.LeaseFor)
						}
						j.LeaseUntil = first[j.Claim]
					})
				}
			}
			return jobs, err
		}}
	}},
	{fault: "gives the last to lapse first", by: "Lapsed", subtle: true, wrap: lapsed(func(jobs []*job, n int) []*job {
		slices.Reverse(jobs)
		return jobs[:min(n, len(jobs))]
	})},
	{fault: "gives 256 lapsed jobs at most", by: "ManyTimed", subtle: true, wrap: lapsed(func(jobs []*job, n int) []*job { return jobs[:min(n, 256, len(jobs))] })},
	{fault: "gives all lapsed jobs", by: "Lapsed", subtle: true, wrap: lapsed(func(jobs []*job, _ int) []*job { return jobs })},
	{fault: "takes every running job for lapsed", by: "Lapsed", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, lapsed: func(ctx ctxt, n int) ([]*job, error) {
			return s.List(ctx, consign.Filter{State: consign.StateRunning}, consign.JobID{}, n)
		}}
	}},

	// Effects, documents, counters.
	{fault: "lets an effect be dropped twice", by: "Drop", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		c.Drop = waiting(ctx, s, c.Drop)
	})},
	{fault: "looks for an effect before it locks", by: "DropOnce", subtle: true, wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		if there := waiting(ctx, s, c.Drop); len(c.Drop) > 0 && len(there) == len(c.Drop) {
			time.Sleep(time.Microsecond)
			c.Drop = waiting(ctx, s, c.Drop)
		}
	})},
	{fault: "does not drop effects", by: "Drop", wrap: after(func(ctx ctxt, s consign.Store, c change, err error) {
		all, _ := s.Effects(ctx, many)
		if err == nil && len(c.Drop) > 0 && len(all) == 0 {
			_, _ = s.Apply(ctx, []change{{Effects: []consign.Effect{effect(c.Drop[0].Job, c.Drop[0].Seq)}}})
		} else if err == nil && len(c.Drop) > 0 {
			_, _ = s.Apply(ctx, []change{{Effects: []consign.Effect{{ID: c.Drop[0]}}}})
		}
	})},
	{fault: "gives the youngest effect first", by: "Effects", wrap: effects(func(all []consign.Effect, n int) []consign.Effect {
		slices.Reverse(all)
		return all[:min(n, len(all))]
	})},
	{fault: "orders effects by job", by: "Effects", wrap: effects(func(all []consign.Effect, n int) []consign.Effect {
		slices.SortStableFunc(all, func(a, b consign.Effect) int { return bytes.Compare(a.ID.Job[:], b.ID.Job[:]) })
		return all[:min(n, len(all))]
	})},
	{fault: "gives all effects", by: "Effects", wrap: effects(func(all []consign.Effect, _ int) []consign.Effect { return all })},
	{fault: "ignores a document's version", by: "Docs", wrap: each(func(ctx ctxt, s consign.Store, c *change) {
		c.Docs = slices.Clone(c.Docs)
		for i, d := range c.Docs {
			old, _ := s.Doc(ctx, d.Kind, d.Key)
			c.Docs[i].Version = old.Version + 1
		}
	})},
	{fault: "keeps an empty document for one that was deleted", by: "DeleteDoc", wrap: rewrite(func(c *change) {
		c.Docs = slices.Clone(c.Docs)
		for i := range c.Docs {
			if c.Docs[i].Body == nil {
				c.Docs[i].Body = []byte{}
			}
		}
	})},
	{fault: "orders documents as a dictionary does", by: "DocsOfKind", subtle: true, wrap: docs(func(all []consign.Doc) []consign.Doc {
		slices.SortFunc(all, func(a, b consign.Doc) int { return cmp.Compare(strings.ToLower(a.Key), strings.ToLower(b.Key)) })
		return all
	})},
	{fault: "gives one document fewer", by: "DocsOfKind", wrap: docs(func(all []consign.Doc) []consign.Doc { return all[:max(0, len(all)-1)] })},
	{fault: "gives a document that is not there a version", by: "Doc", subtle: true, wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, doc: func(ctx ctxt, kind, key string) (consign.Doc, error) {
			d, err := s.Doc(ctx, kind, key)
			d.Version = max(d.Version, 1)
			return d, err
		}}
	}},
	{fault: "ignores a counter's bound", by: "Counters", wrap: deltas(func(_ ctxt, _ consign.Store, d *consign.Delta) { d.Min = math.MinInt64 })},
	{fault: "takes zero for every counter's bound", by: "Counters", wrap: deltas(func(_ ctxt, _ consign.Store, d *consign.Delta) { d.Min = 0 })},
	{fault: "stops a counter at its bound", by: "Counters", wrap: deltas(func(ctx ctxt, s consign.Store, d *consign.Delta) {
		if value, _ := s.Counter(ctx, d.Counter); d.Add < 0 {
			d.Add = max(d.Add, min(d.Min-value, 0))
		}
	})},
	{fault: "checks a bound before it locks", by: "Bound", subtle: true, wrap: deltas(func(ctx ctxt, s consign.Store, d *consign.Delta) {
		if value, _ := s.Counter(ctx, d.Counter); d.Add < 0 && value+d.Add >= d.Min {
			time.Sleep(time.Microsecond)
			d.Min = math.MinInt64
		}
	})},
	{fault: "holds a bound against a counter that grows", by: "CountersUp", wrap: applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes := make([]error, len(changes))
		for i, c := range changes {
			bad := slices.ContainsFunc(c.Counters, func(d consign.Delta) bool {
				value, _ := s.Counter(ctx, d.Counter)
				return value+d.Add < d.Min
			})
			if bad {
				outcomes[i] = consign.ErrBound
				continue
			}
			got, err := s.Apply(ctx, []change{c})
			if err != nil {
				return nil, err
			}
			outcomes[i] = got[0]
		}
		return outcomes, nil
	})},
	{fault: "keeps counters in floating point", by: "Counters", subtle: true, wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, counter: func(ctx ctxt, name string) (int64, error) {
			value, err := s.Counter(ctx, name)
			return int64(float64(value)), err
		}}
	}},

	// What is handed out.
	{fault: "leaves out jobs that are not there", by: "Jobs", subtle: true, wrap: jobs(func(jobs []*job) []*job {
		return slices.DeleteFunc(jobs, func(j *job) bool { return j == nil })
	})},
	{fault: "gives jobs in the order of their IDs", by: "Jobs", subtle: true, wrap: jobs(func(jobs []*job) []*job {
		slices.SortFunc(jobs, func(a, b *job) int { return bytes.Compare(idOf(a), idOf(b)) })
		return jobs
	})},
	{fault: "makes up a spec", by: "Specs", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, specs: func(ctx ctxt, ids []consign.JobID) ([]*consign.Spec, error) {
			specs, err := s.Specs(ctx, ids)
			for i := range specs {
				if specs[i] == nil {
					specs[i] = &consign.Spec{ID: ids[i]}
				}
			}
			return specs, err
		}}
	}},
	{fault: "makes up an end", by: "Done", wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, done: func(ctx ctxt, id consign.JobID) (*consign.Done, error) {
			done, err := s.Done(ctx, id)
			if done == nil {
				done = &consign.Done{ID: id}
			}
			return done, err
		}}
	}},
	{fault: "orders lanes as a dictionary does", by: "Lanes", wrap: lanes(func(heads []consign.LaneHead) []consign.LaneHead {
		slices.SortStableFunc(heads, func(a, b consign.LaneHead) int {
			return cmp.Or(cmp.Compare(strings.ToLower(a.Lane), strings.ToLower(b.Lane)), -cmp.Compare(a.Lane, b.Lane))
		})
		return heads
	})},
	{fault: "keeps the first key of a lane", by: "Lanes", wrap: func(s consign.Store) consign.Store {
		var mu sync.Mutex
		first := make(map[string]consign.Instant)
		return lanes(func(heads []consign.LaneHead) []consign.LaneHead {
			mu.Lock()
			defer mu.Unlock()
			for i, h := range heads {
				if key, ok := first[h.Lane]; ok {
					heads[i].Key = key
				}
				first[h.Lane] = heads[i].Key
			}
			return heads
		})(s)
	}},
	{fault: "lists a lane that is empty", by: "Lanes", wrap: lanes(func(heads []consign.LaneHead) []consign.LaneHead {
		if len(heads) == 8 {
			heads = slices.Insert(heads, 1, consign.LaneHead{Lane: "B", Key: 40})
		}
		return heads
	}), subtle: true},
	{fault: "pages in the order of IDs", by: "Page", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		all, err := s.Page(ctx, q.lane, q.shards, q.after, many)
		slices.SortFunc(all, func(a, b *job) int { return bytes.Compare(a.ID[:], b.ID[:]) })
		return all[:min(q.n, len(all))], err
	})},
	{fault: "pages without the order of IDs", by: "Page", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		all, err := s.Page(ctx, q.lane, q.shards, q.after, many)
		slices.SortFunc(all, func(a, b *job) int { return cmp.Or(cmp.Compare(a.Key, b.Key), -bytes.Compare(a.ID[:], b.ID[:])) })
		return all[:min(q.n, len(all))], err
	})},
	{fault: "pages from a place on and not after it", by: "Page", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		from := q.after
		for i := 15; i >= 0 && q.after != (consign.Place{}); i-- { // the place before
			if from.ID[i]--; from.ID[i] != 0xff {
				break
			}
		}
		return s.Page(ctx, q.lane, q.shards, from, q.n)
	})},
	{fault: "pages after a key and not after a place", by: "Page", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		if q.after.Key != 0 {
			q.after.ID = consign.JobID(bytes.Repeat([]byte{0xff}, 16))
		}
		return s.Page(ctx, q.lane, q.shards, q.after, q.n)
	})},
	{fault: "ignores the shards", by: "Page", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		return s.Page(ctx, q.lane, consign.AllShards, q.after, q.n)
	})},
	{fault: "reads the shards' mask from the other end", by: "Page", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		var mirrored uint16
		for i := range 16 {
			mirrored |= q.shards >> i & 1 << (15 - i)
		}
		return s.Page(ctx, q.lane, mirrored, q.after, q.n)
	})},
	{fault: "takes n before it looks at the shards", by: "Page", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		all, err := s.Page(ctx, q.lane, consign.AllShards, q.after, q.n)
		return slices.DeleteFunc(all, func(j *job) bool { return q.shards>>j.ID.Shard()&1 == 0 }), err
	})},
	{fault: "pages what is not queued", by: "PageMoves", wrap: pages(func(ctx ctxt, s consign.Store, q pageQuery) ([]*job, error) {
		page, err := s.Page(ctx, q.lane, q.shards, q.after, q.n)
		running, _ := s.List(ctx, consign.Filter{State: consign.StateRunning}, consign.JobID{}, q.n-len(page))
		return append(page, running...), err
	}), subtle: true},
	{fault: "takes now for too early", by: "Due", wrap: due(func(ctx ctxt, s consign.Store, now consign.Instant, n int) ([]*job, consign.Instant, error) {
		return s.Due(ctx, now-1, n)
	})},
	{fault: "does not say what is due next", by: "Due", wrap: due(func(ctx ctxt, s consign.Store, now consign.Instant, n int) ([]*job, consign.Instant, error) {
		jobs, _, err := s.Due(ctx, now, n)
		return jobs, 0, err
	})},
	{fault: "does not count what n left behind as due next", by: "Due", wrap: due(func(ctx ctxt, s consign.Store, now consign.Instant, n int) ([]*job, consign.Instant, error) {
		jobs, _, err := s.Due(ctx, now, n)
		_, next, _ := s.Due(ctx, now, many)
		return jobs, next, err
	})},
	{fault: "gives 256 due jobs at most", by: "ManyTimed", subtle: true, wrap: due(func(ctx ctxt, s consign.Store, now consign.Instant, n int) ([]*job, consign.Instant, error) {
		return s.Due(ctx, now, min(n, 256))
	})},
	{fault: "gives the last due first", by: "Due", wrap: due(func(ctx ctxt, s consign.Store, now consign.Instant, n int) ([]*job, consign.Instant, error) {
		jobs, next, err := s.Due(ctx, now, n)
		slices.Reverse(jobs)
		return jobs, next, err
	})},
	{fault: "lists any account's jobs", by: "List", wrap: list(func(ctx ctxt, s consign.Store, f consign.Filter, after consign.JobID, n int) ([]*job, error) {
		return s.List(ctx, consign.Filter{State: f.State}, after, n)
	})},
	{fault: "lists jobs in any state", by: "List", wrap: list(func(ctx ctxt, s consign.Store, f consign.Filter, after consign.JobID, n int) ([]*job, error) {
		return s.List(ctx, consign.Filter{Account: f.Account}, after, n)
	})},
	{fault: "takes n before it filters", by: "List", wrap: list(func(ctx ctxt, s consign.Store, f consign.Filter, after consign.JobID, n int) ([]*job, error) {
		all, err := s.List(ctx, consign.Filter{}, after, n)
		return slices.DeleteFunc(all, func(j *job) bool {
			return f.Account != "" && f.Account != j.Account || f.State != 0 && f.State != j.State
		}), err
	})},
	{fault: "always lists from the start", by: "List", wrap: list(func(ctx ctxt, s consign.Store, f consign.Filter, _ consign.JobID, n int) ([]*job, error) {
		return s.List(ctx, f, consign.JobID{}, n)
	})},

	// Contexts and aliases.
	{fault: "ignores its context", by: "Cancelled", subtle: true, wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, apply: func(ctx ctxt, changes []change) ([]error, error) {
			return s.Apply(context.WithoutCancel(ctx), changes)
		}}
	}},
	{fault: "applies half of a change when it is cancelled", by: "Cancelled", subtle: true, wrap: func(s consign.Store) consign.Store {
		return &broken{Store: s, apply: func(ctx ctxt, changes []change) ([]error, error) {
			if ctx.Err() != nil {
				_, _ = s.Apply(context.WithoutCancel(ctx), []change{{Job: changes[0].Job}})
				return nil, ctx.Err()
			}
			return s.Apply(ctx, changes)
		}}
	}},
	{fault: "writes to the job that it is given", by: "Shared", subtle: true, wrap: rewrite(func(c *change) {
		if c.Job != nil && c.Job.LeaseFor != 0 {
			c.Job.LeaseUntil = consign.At(time.Now()).Add(c.Job.LeaseFor)
		}
	})},
	{fault: "sorts the log that it is given", by: "Shared", subtle: true, wrap: rewrite(func(c *change) {
		slices.SortFunc(c.Log, func(a, b consign.LogEntry) int { return cmp.Compare(a.Seq, b.Seq) })
	})},
	{fault: "renews the job that it handed out", by: "Shared", subtle: true, wrap: func(s consign.Store) consign.Store {
		var mu sync.Mutex
		var out []*job
		return &broken{Store: s, jobs: func(ctx ctxt, ids []consign.JobID) ([]*job, error) {
			mu.Lock()
			defer mu.Unlock()
			jobs, err := s.Jobs(ctx, ids)
			out = append(out, jobs...)
			return jobs, err
		}, renew: func(ctx ctxt, rs []consign.Renewal) ([]error, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, j := range out {
				for _, r := range rs {
					if j != nil && j.ID == r.Job {
						j.LeaseUntil = consign.At(time.Now()).Add(r.For)
					}
				}
			}
			return s.Renew(ctx, rs)
		}}
	}},
}

// broken is a store whose set functions stand in for its methods.
type broken struct {
	consign.Store
	apply   func(ctxt, []change) ([]error, error)
	renew   func(ctxt, []consign.Renewal) ([]error, error)
	jobs    func(ctxt, []consign.JobID) ([]*job, error)
	specs   func(ctxt, []consign.JobID) ([]*consign.Spec, error)
	done    func(ctxt, consign.JobID) (*consign.Done, error)
	log     func(ctxt, consign.JobID, consign.Seq, int) ([]consign.LogEntry, error)
	lanes   func(ctxt) ([]consign.LaneHead, error)
	page    func(ctxt, string, uint16, consign.Place, int) ([]*job, error)
	due     func(ctxt, consign.Instant, int) ([]*job, consign.Instant, error)
	lapsed  func(ctxt, int) ([]*job, error)
	list    func(ctxt, consign.Filter, consign.JobID, int) ([]*job, error)
	effects func(ctxt, int) ([]consign.Effect, error)
	docs    func(ctxt, string, string, int) ([]consign.Doc, error)
	doc     func(ctxt, string, string) (consign.Doc, error)
	counter func(ctxt, string) (int64, error)
}

func (b *broken) Apply(ctx ctxt, c []change) ([]error, error) {
	if b.apply != nil {
		return b.apply(ctx, c)
	}
	return b.Store.Apply(ctx, c)
}

func (b *broken) Renew(ctx ctxt, r []consign.Renewal) ([]error, error) {
	if b.renew != nil {
		return b.renew(ctx, r)
	}
	return b.Store.Renew(ctx, r)
}

func (b *broken) Jobs(ctx ctxt, ids []consign.JobID) ([]*job, error) {
	if b.jobs != nil {
		return b.jobs(ctx, ids)
	}
	return b.Store.Jobs(ctx, ids)
}

func (b *broken) Specs(ctx ctxt, ids []consign.JobID) ([]*consign.Spec, error) {
	if b.specs != nil {
		return b.specs(ctx, ids)
	}
	return b.Store.Specs(ctx, ids)
}

func (b *broken) Done(ctx ctxt, id consign.JobID) (*consign.Done, error) {
	if b.done != nil {
		return b.done(ctx, id)
	}
	return b.Store.Done(ctx, id)
}

func (b *broken) Log(ctx ctxt, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
	if b.log != nil {
		return b.log(ctx, id, after, n)
	}
	return b.Store.Log(ctx, id, after, n)
}

func (b *broken) Lanes(ctx ctxt) ([]consign.LaneHead, error) {
	if b.lanes != nil {
		return b.lanes(ctx)
	}
	return b.Store.Lanes(ctx)
}

func (b *broken) Page(ctx ctxt, lane string, shards uint16, after consign.Place, n int) ([]*job, error) {
	if b.page != nil {
		return b.page(ctx, lane, shards, after, n)
	}
	return b.Store.Page(ctx, lane, shards, after, n)
}

func (b *broken) Due(ctx ctxt, now consign.Instant, n int) ([]*job, consign.Instant, error) {
	if b.due != nil {
		return b.due(ctx, now, n)
	}
	return b.Store.Due(ctx, now, n)
}

func (b *broken) Lapsed(ctx ctxt, n int) ([]*job, error) {
	if b.lapsed != nil {
		return b.lapsed(ctx, n)
	}
	return b.Store.Lapsed(ctx, n)
}

func (b *broken) List(ctx ctxt, f consign.Filter, after consign.JobID, n int) ([]*job, error) {
	if b.list != nil {
		return b.list(ctx, f, after, n)
	}
	return b.Store.List(ctx, f, after, n)
}

func (b *broken) Effects(ctx ctxt, n int) ([]consign.Effect, error) {
	if b.effects != nil {
		return b.effects(ctx, n)
	}
	return b.Store.Effects(ctx, n)
}

func (b *broken) Docs(ctx ctxt, kind, after string, n int) ([]consign.Doc, error) {
	if b.docs != nil {
		return b.docs(ctx, kind, after, n)
	}
	return b.Store.Docs(ctx, kind, after, n)
}

func (b *broken) Doc(ctx ctxt, kind, key string) (consign.Doc, error) {
	if b.doc != nil {
		return b.doc(ctx, kind, key)
	}
	return b.Store.Doc(ctx, kind, key)
}

func (b *broken) Counter(ctx ctxt, name string) (int64, error) {
	if b.counter != nil {
		return b.counter(ctx, name)
	}
	return b.Store.Counter(ctx, name)
}

type wrapper = func(s consign.Store) consign.Store

func applying(f func(ctxt, consign.Store, []change) ([]error, error)) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, apply: func(ctx ctxt, c []change) ([]error, error) { return f(ctx, s, c) }}
	}
}

// rewrite changes each change on its way in.
func rewrite(f func(c *change)) wrapper {
	return applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		changes = slices.Clone(changes)
		for i := range changes {
			f(&changes[i])
		}
		return s.Apply(ctx, changes)
	})
}

// each changes each change with a look at what is stored, which takes a
// transaction for each.
func each(f func(ctx ctxt, s consign.Store, c *change)) wrapper {
	return applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes := make([]error, len(changes))
		for i, c := range changes {
			f(ctx, s, &c)
			got, err := s.Apply(ctx, []change{c})
			if err != nil {
				return nil, err
			}
			outcomes[i] = got[0]
		}
		return outcomes, nil
	})
}

// after does something more once a change has its outcome.
func after(f func(ctx ctxt, s consign.Store, c change, err error), first ...func(c *change)) wrapper {
	return applying(func(ctx ctxt, s consign.Store, changes []change) ([]error, error) {
		outcomes := make([]error, len(changes))
		for i, c := range changes {
			less := c
			for _, g := range first {
				g(&less)
			}
			got, err := s.Apply(ctx, []change{less})
			if err != nil {
				return nil, err
			}
			outcomes[i] = got[0]
			f(ctx, s, c, got[0])
		}
		return outcomes, nil
	})
}

func deltas(f func(ctx ctxt, s consign.Store, d *consign.Delta)) wrapper {
	return each(func(ctx ctxt, s consign.Store, c *change) {
		c.Counters = slices.Clone(c.Counters)
		for i := range c.Counters {
			f(ctx, s, &c.Counters[i])
		}
	})
}

func renewing(f func(ctx ctxt, s consign.Store, r *consign.Renewal)) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, renew: func(ctx ctxt, rs []consign.Renewal) ([]error, error) {
			rs = slices.Clone(rs)
			for i := range rs {
				f(ctx, s, &rs[i])
			}
			return s.Renew(ctx, rs)
		}}
	}
}

func jobs(f func([]*job) []*job) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, jobs: func(ctx ctxt, ids []consign.JobID) ([]*job, error) {
			jobs, err := s.Jobs(ctx, ids)
			return f(jobs), err
		}}
	}
}

func logs(f func([]consign.LogEntry, int) []consign.LogEntry) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, log: func(ctx ctxt, id consign.JobID, after consign.Seq, n int) ([]consign.LogEntry, error) {
			log, err := s.Log(ctx, id, after, n)
			return f(slices.Clone(log), n), err
		}}
	}
}

func lanes(f func([]consign.LaneHead) []consign.LaneHead) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, lanes: func(ctx ctxt) ([]consign.LaneHead, error) {
			heads, err := s.Lanes(ctx)
			return f(heads), err
		}}
	}
}

type pageQuery struct {
	lane   string
	shards uint16
	after  consign.Place
	n      int
}

func pages(f func(ctxt, consign.Store, pageQuery) ([]*job, error)) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, page: func(ctx ctxt, lane string, shards uint16, after consign.Place, n int) ([]*job, error) {
			return f(ctx, s, pageQuery{lane, shards, after, n})
		}}
	}
}

func due(f func(ctxt, consign.Store, consign.Instant, int) ([]*job, consign.Instant, error)) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, due: func(ctx ctxt, now consign.Instant, n int) ([]*job, consign.Instant, error) { return f(ctx, s, now, n) }}
	}
}

func lapsed(f func([]*job, int) []*job) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, lapsed: func(ctx ctxt, n int) ([]*job, error) {
			jobs, err := s.Lapsed(ctx, many)
			return f(jobs, n), err
		}}
	}
}

func list(f func(ctxt, consign.Store, consign.Filter, consign.JobID, int) ([]*job, error)) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, list: func(ctx ctxt, filter consign.Filter, after consign.JobID, n int) ([]*job, error) {
			return f(ctx, s, filter, after, n)
		}}
	}
}

func effects(f func([]consign.Effect, int) []consign.Effect) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, effects: func(ctx ctxt, n int) ([]consign.Effect, error) {
			all, err := s.Effects(ctx, many)
			return f(all, n), err
		}}
	}
}

func docs(f func([]consign.Doc) []consign.Doc) wrapper {
	return func(s consign.Store) consign.Store {
		return &broken{Store: s, docs: func(ctx ctxt, kind, after string, n int) ([]consign.Doc, error) {
			all, err := s.Docs(ctx, kind, after, n)
			return f(all), err
		}}
	}
}

func copied[T any](v *T, set func(v *T)) *T {
	c := *v
	set(&c)
	return &c
}

func get(ctx ctxt, s consign.Store, id consign.JobID) *job {
	jobs, err := s.Jobs(ctx, []consign.JobID{id})
	if err != nil {
		return nil
	}
	return jobs[0]
}

func idOf(j *job) []byte {
	if j == nil {
		return nil
	}
	return j.ID[:]
}

func stored(ctx ctxt, s consign.Store, id consign.JobID) uint64 {
	if j := get(ctx, s, id); j != nil {
		return j.Version
	}
	return 0
}

// waiting returns those of the effects that are there.
func waiting(ctx ctxt, s consign.Store, ids []consign.EffectID) []consign.EffectID {
	all, _ := s.Effects(ctx, many)
	return slices.DeleteFunc(slices.Clone(ids), func(id consign.EffectID) bool {
		return !slices.ContainsFunc(all, func(e consign.Effect) bool { return e.ID == id })
	})
}
