package consign

import (
	"errors"
	"maps"
	"slices"
)

// simStore is the Store contract in plain maps, for the simulation: it has the
// simulation's clock, and tells a witness what was committed.
type simStore struct {
	now      func() Instant
	jobs     map[JobID]*Job
	specs    map[JobID]*Spec
	dones    map[JobID]*Done
	logs     map[JobID]map[Seq]LogEntry
	effects  []Effect
	docs     map[[2]string]Doc
	counters map[string]int64
	commits  int

	// committed hears of every change that was applied, with the job as it
	// was before.
	committed func(c *Change, was *Job)

	// Planted bugs.
	noCAS         bool // a change is written whatever the version is
	noGuard       bool // guards are not looked at
	blindReaper   bool // any running job counts as lapsed
	noBound       bool // counters may fall below their bound
	doubleEffects bool // dropped effects come back once
	again         map[EffectID]bool
}

func newSimStore(now func() Instant) *simStore {
	return &simStore{now: now, jobs: map[JobID]*Job{}, specs: map[JobID]*Spec{}, dones: map[JobID]*Done{}, logs: map[JobID]map[Seq]LogEntry{},
		docs: map[[2]string]Doc{}, counters: map[string]int64{}, again: map[EffectID]bool{}}
}

// lapsed tells whether a lease has ended by the store's clock.
func (s *simStore) lapsed(j *Job) bool { return s.blindReaper || j.LeaseUntil < s.now() }

func (s *simStore) apply(c *Change) error {
	if g := c.Guard; g != nil && !s.noGuard {
		j := s.jobs[g.Job]
		if j == nil || j.State != StateRunning || j.Claim != g.Claim || g.Lapsed && !s.lapsed(j) {
			return ErrGuard
		}
	}
	var was *Job
	if c.Job != nil {
		var version uint64
		if was = s.jobs[c.Job.ID]; was != nil {
			version = was.Version
		}
		if version != c.Job.Version-1 && !s.noCAS {
			return ErrVersion
		}
	}
	for _, id := range c.Drop {
		if !slices.ContainsFunc(s.effects, func(f Effect) bool { return f.ID == id }) {
			return ErrVersion
		}
	}
	for _, d := range c.Docs {
		if s.docs[[2]string{d.Kind, d.Key}].Version != d.Version-1 {
			return ErrVersion
		}
	}
	for _, d := range c.Counters {
		if d.Add < 0 && s.counters[d.Counter]+d.Add < d.Min && !s.noBound {
			return ErrBound
		}
	}
	s.write(c)
	s.commits++
	if s.committed != nil {
		s.committed(c, was)
	}
	return nil
}

func (s *simStore) write(c *Change) {
	if c.Job != nil {
		id := c.Job.ID
		j := *c.Job
		if j.LeaseFor != 0 {
			j.LeaseUntil = s.now().Add(j.LeaseFor)
		}
		s.jobs[id] = &j
		if c.Spec != nil {
			s.specs[id] = c.Spec
		}
		if c.Done != nil {
			s.dones[id] = c.Done
		}
		if c.Forget || c.Delete {
			delete(s.specs, id)
			delete(s.dones, id)
			delete(s.logs, id)
		}
		if c.Delete {
			delete(s.jobs, id)
		}
	}
	for _, e := range c.Log {
		if j := s.jobs[e.Job]; j == nil || j.Purged {
			continue
		}
		if s.logs[e.Job] == nil {
			s.logs[e.Job] = map[Seq]LogEntry{}
		}
		if _, taken := s.logs[e.Job][e.Seq]; !taken {
			s.logs[e.Job][e.Seq] = e
		}
	}
	for _, id := range c.Drop {
		s.effects = slices.DeleteFunc(s.effects, func(f Effect) bool {
			if f.ID == id && s.doubleEffects && !s.again[id] {
				s.again[id] = true
				return false
			}
			return f.ID == id
		})
	}
	s.effects = append(s.effects, c.Effects...)
	for _, d := range c.Docs {
		s.docs[[2]string{d.Kind, d.Key}] = d
	}
	for _, d := range c.Counters {
		s.counters[d.Counter] += d.Add
	}
}

func (s *simStore) renew(r Renewal) error {
	j := s.jobs[r.Job]
	if j == nil || j.State != StateRunning || j.Claim != r.Claim {
		return ErrGuard
	}
	renewed := *j
	renewed.LeaseUntil = s.now().Add(r.For)
	s.jobs[r.Job] = &renewed
	return nil
}

// all returns the jobs that match, in the order of less.
func (s *simStore) all(match func(*Job) bool, less func(a, b *Job) bool) []*Job {
	var out []*Job
	for _, j := range s.jobs {
		if match(j) {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, func(a, b *Job) int {
		switch {
		case less(a, b):
			return -1
		case less(b, a):
			return 1
		}
		return slices.Compare(a.ID[:], b.ID[:])
	})
	return out
}

func (s *simStore) lanes() []LaneHead {
	heads := map[string]Instant{}
	for _, j := range s.jobs {
		if key, ok := heads[j.Lane]; j.State == StateQueued && (!ok || j.Key < key) {
			heads[j.Lane] = j.Key
		}
	}
	var out []LaneHead
	for _, lane := range slices.Sorted(maps.Keys(heads)) {
		out = append(out, LaneHead{lane, heads[lane]})
	}
	return out
}

func (s *simStore) page(lane string, after Place, n int) []*Job {
	page := s.all(func(j *Job) bool {
		return j.State == StateQueued && j.Lane == lane && after.Before(Place{j.Key, j.ID})
	}, func(a, b *Job) bool { return a.Key < b.Key })
	return page[:min(n, len(page))]
}

func (s *simStore) due(now Instant, n int) (due []*Job, next Instant) {
	due = s.all(func(j *Job) bool { return j.DueAt != 0 }, func(a, b *Job) bool { return a.DueAt < b.DueAt })
	for i, j := range due {
		if i == n || j.DueAt > now {
			return due[:i], j.DueAt
		}
	}
	return due, 0
}

func (s *simStore) lapsedJobs(n int) []*Job {
	lapsed := s.all(func(j *Job) bool { return j.State == StateRunning && s.lapsed(j) }, func(a, b *Job) bool { return a.LeaseUntil < b.LeaseUntil })
	return lapsed[:min(n, len(lapsed))]
}

var errSim = errors.New("the simulated store is in trouble")
