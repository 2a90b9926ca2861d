package storetest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
)

// Model holds a store against a reference model, which is the contract in
// maps: random batches of changes and renewals go to both, and after each all
// reads must agree. The function open returns an empty store, once for every
// sequence.
//
// RAPID_CHECKS and RAPID_STEPS make a run longer.
func Model(t *testing.T, open func(t *testing.T) consign.Store) {
	rapid.Check(t, func(r *rapid.T) { explore(r, open(t)) })
}

func explore(r *rapid.T, store consign.Store) {
	s := &subject{Store: store, tester: r, sentence: "Apply commits changes in one durable transaction, in order."}
	m := newModel()
	r.Repeat(map[string]func(*rapid.T){
		"apply": func(r *rapid.T) {
			var changes []consign.Change
			var want []map[error]bool
			m.fresh = make(map[consign.JobID]bool)
			bare := some(r, 4, "bare") // a store may have shorter ways for what only writes jobs
			for range rapid.IntRange(1, 6).Draw(r, "changes") {
				c := m.draw(r, bare)
				changes, want = append(changes, c), append(want, m.apply(&c))
			}
			for i, err := range s.apply(changes...) {
				if !(err == nil && len(want[i]) == 0) && !matches(err, want[i]) {
					r.Fatalf("the outcome of change %d is %v, want one of %v:\n%+v", i, err, slices.Collect(maps.Keys(want[i])), changes[i])
				}
			}
			time.Sleep(2 * soon) // leases that end soon have ended
		},
		"renew": func(r *rapid.T) {
			renewal := consign.Renewal{Job: m.drawID(r), Claim: m.drawClaim(r), For: m.drawLease(r)}
			job, there := m.jobs[renewal.Job]
			want := !there || job.State != consign.StateRunning || job.Claim != renewal.Claim
			if err := s.renew(renewal)[0]; errors.Is(err, consign.ErrGuard) != want || err != nil && !want {
				r.Fatalf("the renewal %+v gave %v", renewal, err)
			}
			if !want {
				m.lapsing[renewal.Job] = renewal.For == soon
			}
			time.Sleep(2 * soon)
		},
		"": func(r *rapid.T) {
			s.tester = r
			same(s, "the store", s.state(), m.state())
			m.comparePages(r, s)
		},
	})
}

// soon is a lease that is over when the store is asked again.
const soon = time.Microsecond

func matches(err error, want map[error]bool) bool {
	for w := range want {
		if errors.Is(err, w) {
			return true
		}
	}
	return false
}

// model is what a store holds.
type model struct {
	jobs      map[consign.JobID]consign.Job
	specs     map[consign.JobID]*consign.Spec
	done      map[consign.JobID]*consign.Done
	logs      map[consign.JobID]map[consign.Seq]consign.LogEntry
	forgotten map[consign.JobID]bool
	lapsing   map[consign.JobID]bool // the running job's lease is over
	effects   []consign.Effect
	docs      map[string]consign.Doc
	counters  map[string]int64

	fresh map[consign.JobID]bool // written by the batch that is being drawn
	seqs  uint64                 // effects get numbers of their own
}

func newModel() *model {
	return &model{
		jobs:      make(map[consign.JobID]consign.Job),
		specs:     make(map[consign.JobID]*consign.Spec),
		done:      make(map[consign.JobID]*consign.Done),
		logs:      make(map[consign.JobID]map[consign.Seq]consign.LogEntry),
		forgotten: make(map[consign.JobID]bool),
		lapsing:   make(map[consign.JobID]bool),
		docs:      make(map[string]consign.Doc),
		counters:  make(map[string]int64),
	}
}

// apply changes the model as the contract says, or returns the errors of the
// parts that forbid it.
func (m *model) apply(c *consign.Change) (refused map[error]bool) {
	refused = make(map[error]bool)
	if g := c.Guard; g != nil {
		job, there := m.jobs[g.Job]
		if !there || job.State != consign.StateRunning || job.Claim != g.Claim || g.Lapsed && !m.lapsing[g.Job] {
			refused[consign.ErrGuard] = true
		}
	}
	if c.Job != nil && m.jobs[c.Job.ID].Version != c.Job.Version-1 {
		refused[consign.ErrVersion] = true
	}
	for _, id := range c.Drop {
		if !slices.ContainsFunc(m.effects, func(e consign.Effect) bool { return e.ID == id }) {
			refused[consign.ErrVersion] = true
		}
	}
	for _, d := range c.Docs {
		if m.docs[d.Key].Version != d.Version-1 {
			refused[consign.ErrVersion] = true
		}
	}
	for _, d := range c.Counters {
		if d.Add < 0 && m.counters[d.Counter]+d.Add < d.Min {
			refused[consign.ErrBound] = true
		}
	}
	if len(refused) > 0 {
		return refused
	}

	if c.Job != nil {
		id := c.Job.ID
		m.jobs[id] = *c.Job
		m.lapsing[id] = c.Job.LeaseFor == soon
		m.fresh[id] = true
		if c.Spec != nil {
			m.specs[id] = c.Spec
		}
		if c.Done != nil {
			m.done[id] = c.Done
		}
		if c.Forget || c.Delete {
			delete(m.specs, id)
			delete(m.done, id)
			delete(m.logs, id)
			m.forgotten[id] = true
		}
		if c.Delete {
			delete(m.jobs, id)
			delete(m.forgotten, id)
		}
	}
	for _, e := range c.Log {
		if _, there := m.jobs[e.Job]; !there || m.forgotten[e.Job] {
			continue
		}
		if m.logs[e.Job] == nil {
			m.logs[e.Job] = make(map[consign.Seq]consign.LogEntry)
		}
		if _, taken := m.logs[e.Job][e.Seq]; !taken {
			m.logs[e.Job][e.Seq] = e
		}
	}
	for _, id := range c.Drop {
		m.effects = slices.DeleteFunc(m.effects, func(e consign.Effect) bool { return e.ID == id })
	}
	m.effects = append(m.effects, c.Effects...)
	for _, d := range c.Docs {
		if m.docs[d.Key] = d; d.Body == nil {
			delete(m.docs, d.Key)
		}
	}
	for _, d := range c.Counters {
		m.counters[d.Counter] += d.Add
	}
	return nil
}

// all returns the jobs that the condition holds for, in the order.
func (m *model) all(holds func(j *consign.Job) bool, order func(a, b *consign.Job) int) []*consign.Job {
	var jobs []*consign.Job
	for _, j := range m.jobs {
		if holds(&j) {
			jobs = append(jobs, &j)
		}
	}
	slices.SortFunc(jobs, func(a, b *consign.Job) int { return cmp.Or(order(a, b), bytes.Compare(a.ID[:], b.ID[:])) })
	return jobs
}

func byID(a, b *consign.Job) int  { return bytes.Compare(a.ID[:], b.ID[:]) }
func byKey(a, b *consign.Job) int { return cmp.Compare(a.Key, b.Key) }
func byDue(a, b *consign.Job) int { return cmp.Compare(a.DueAt, b.DueAt) }

func (m *model) lane(lane string) []*consign.Job {
	return m.all(func(j *consign.Job) bool { return j.State == consign.StateQueued && j.Lane == lane }, byKey)
}

func (m *model) due(now consign.Instant) []*consign.Job {
	return m.all(func(j *consign.Job) bool { return j.DueAt != 0 && j.DueAt <= now }, byDue)
}

func (m *model) log(id consign.JobID) []consign.LogEntry {
	return slices.SortedFunc(maps.Values(m.logs[id]), func(a, b consign.LogEntry) int { return cmp.Compare(a.Seq, b.Seq) })
}

// state is the model as read would find it.
func (m *model) state() (st state) {
	for _, job := range m.all(func(*consign.Job) bool { return true }, byID) {
		st.Jobs = append(st.Jobs, still(job))
		st.Specs = append(st.Specs, m.specs[job.ID])
		st.Done = append(st.Done, m.done[job.ID])
		st.Logs = append(st.Logs, m.log(job.ID))
	}
	for _, lane := range modelLanes {
		if jobs := m.lane(lane); len(jobs) > 0 {
			st.Lanes = append(st.Lanes, consign.LaneHead{Lane: lane, Key: jobs[0].Key})
			st.Queue = append(st.Queue, idsOf(jobs))
		}
	}
	st.Due = sorted(idsOf(m.due(never)))
	st.Lapsed = sorted(idsOf(m.all(func(j *consign.Job) bool { return j.State == consign.StateRunning && m.lapsing[j.ID] }, byID)))
	st.Effects = m.effects
	for _, key := range slices.Sorted(maps.Keys(m.docs)) {
		st.Docs = append(st.Docs, compact(m.docs[key])...)
	}
	for _, name := range counters {
		st.Counters = append(st.Counters, m.counters[name])
	}
	return st.tidy()
}

// comparePages compares what the store gives in parts.
func (m *model) comparePages(r *rapid.T, s *subject) {
	if len(m.jobs) == 0 {
		return
	}
	id, n := m.drawID(r), rapid.IntRange(0, 4).Draw(r, "n")

	lane := rapid.SampledFrom(modelLanes).Draw(r, "lane")
	from := consign.Place{Key: drawInstant(r, "key"), ID: id}
	shards := rapid.SampledFrom([]uint16{consign.AllShards, 1<<1 | 1<<12, 1<<2 | 1<<0}).Draw(r, "shards")
	page := idsOf(ok[[]*consign.Job](s)(s.Page(s.Context(), lane, shards, from, n)))
	want := idsOf(m.lane(lane))
	want = slices.DeleteFunc(want, func(id consign.JobID) bool {
		return shards>>id.Shard()&1 == 0 || !from.Before(consign.Place{Key: m.jobs[id].Key, ID: id})
	})
	equal(s, fmt.Sprintf("the page of lane %q, shards %x, after %v", lane, shards, from), page, want[:min(n, len(want))])

	now := drawInstant(r, "now")
	due, next, err := s.Due(s.Context(), now, n)
	if err != nil {
		r.Fatal(err)
	}
	wantDue := m.due(never)
	var times, wantTimes []consign.Instant // of equal ones any may come first
	for _, job := range due {
		times = append(times, job.DueAt)
	}
	count := min(n, len(m.due(now)))
	for _, job := range wantDue[:count] {
		wantTimes = append(wantTimes, job.DueAt)
	}
	equal(s, fmt.Sprintf("the times of jobs due at %d", now), times, wantTimes)
	var wantNext consign.Instant
	if count < len(wantDue) {
		wantNext = wantDue[count].DueAt
	}
	equal(s, fmt.Sprintf("the next time due after %d", now), next, wantNext)

	filter := consign.Filter{Account: rapid.SampledFrom([]string{"", "acme", "zenith"}).Draw(r, "account"), State: drawState(r)}
	list := idsOf(ok[[]*consign.Job](s)(s.List(s.Context(), filter, id, n)))
	want = idsOf(m.all(func(j *consign.Job) bool {
		return (filter.Account == "" || filter.Account == j.Account) && (filter.State == 0 || filter.State == j.State) && bytes.Compare(j.ID[:], id[:]) > 0
	}, byID))
	equal(s, fmt.Sprintf("the list %+v after %v", filter, id), list, want[:min(n, len(want))])

	after := drawSeq(r) - 1
	log := ok[[]consign.LogEntry](s)(s.Log(s.Context(), id, after, n))
	wantLog := slices.DeleteFunc(m.log(id), func(e consign.LogEntry) bool { return e.Seq <= after })
	equal(s, fmt.Sprintf("the log after %d", after), log, wantLog[:min(n, len(wantLog))])

	equal(s, "the first effects", ok[[]consign.Effect](s)(s.Effects(s.Context(), n)), m.effects[:min(n, len(m.effects))])

	specs := ok[[]*consign.Spec](s)(s.Specs(s.Context(), modelIDs))
	for i, id := range modelIDs {
		equal(s, "a spec", specs[i], m.specs[id])
	}
}

// What the model's records are drawn from: few of each, so that they meet.
var (
	modelIDs   = []consign.JobID{id(0), id(1), id(2), id(17), id(33), id(300)}
	modelLanes = []string{"A", "a", "a&b"}
	modelDocs  = []string{"d", "dd", "e"}
	states     = []consign.State{consign.StateNone, consign.StateBlocked, consign.StateQueued, consign.StateQueued, consign.StateQueued,
		consign.StateRunning, consign.StateRunning, consign.StateCompleted, consign.StateExpired}
)

func (m *model) drawID(r *rapid.T) consign.JobID { return rapid.SampledFrom(modelIDs).Draw(r, "id") }

func (m *model) drawClaim(r *rapid.T) consign.ClaimID {
	return claim(rapid.IntRange(1, 3).Draw(r, "claim"))
}

func (m *model) drawLease(r *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{soon, long}).Draw(r, "lease")
}

func drawState(r *rapid.T) consign.State { return rapid.SampledFrom(states).Draw(r, "state") }

func drawInstant(r *rapid.T, label string) consign.Instant {
	return rapid.SampledFrom([]consign.Instant{0, 1, 2, never}).Draw(r, label)
}

func drawSeq(r *rapid.T) consign.Seq {
	return rapid.SampledFrom([]consign.Seq{number(1, 0), number(1, 1), number(2, 0), 1<<63 - 1}).Draw(r, "seq")
}

// some is true n times in ten.
func some(r *rapid.T, n int, label string) bool { return rapid.IntRange(1, 10).Draw(r, label) > 10-n }

// draw returns a change of which most parts would be accepted. A bare one is a
// job's with no more than its own records.
func (m *model) draw(r *rapid.T, bare bool) (c consign.Change) {
	if bare {
		m.drawJob(r, &c)
		if c.Forget, c.Delete = m.forgotten[c.Job.ID], false; some(r, 5, "entry") {
			c.Log = append(c.Log, entry(c.Job.ID, drawSeq(r)))
		}
		return c
	}
	if some(r, 8, "job") {
		m.drawJob(r, &c)
	}
	for range rapid.IntRange(0, 2).Draw(r, "entries") {
		e := entry(m.drawID(r), drawSeq(r))
		e.Attempt = rapid.IntRange(0, 9).Draw(r, "attempt")
		c.Log = append(c.Log, e)
	}
	for range rapid.IntRange(0, 2).Draw(r, "effects") {
		m.seqs++
		c.Effects = append(c.Effects, effect(m.drawID(r), number(m.seqs, 0)))
	}
	if len(m.effects) > 0 && some(r, 3, "drop") {
		c.Drop = append(c.Drop, rapid.SampledFrom(m.effects).Draw(r, "effect").ID)
	}
	if some(r, 1, "drop none") {
		c.Drop = append(c.Drop, consign.EffectID{Job: m.drawID(r)})
	}
	if some(r, 3, "doc") {
		key := rapid.SampledFrom(modelDocs).Draw(r, "key")
		d := doc(key, m.docs[key].Version+1, rapid.SampledFrom([]string{"", "x", "y"}).Draw(r, "body"))
		d.Version += uint64(int64(rapid.SampledFrom([]int{0, 0, 0, 0, -1, 1}).Draw(r, "off")))
		if d.Version != 1 || d.Body != nil { // what deletes nothing is not defined
			c.Docs = append(c.Docs, d)
		}
	}
	if some(r, 3, "counter") {
		c.Counters = append(c.Counters, consign.Delta{Counter: rapid.SampledFrom(counters).Draw(r, "counter"),
			Add: rapid.Int64Range(-3, 4).Draw(r, "add"), Min: rapid.Int64Range(-2, 1).Draw(r, "min")})
	}
	if some(r, 2, "guard") {
		g := &consign.Guard{Job: m.drawID(r), Claim: m.drawClaim(r)}
		if job := m.jobs[g.Job]; job.State == consign.StateRunning && some(r, 7, "current") {
			g.Claim = job.Claim
		}
		// Whether a lease of this very transaction has ended is not defined.
		g.Lapsed = !m.fresh[g.Job] && some(r, 5, "lapsed")
		c.Guard = g
	}
	return c
}

func (m *model) drawJob(r *rapid.T, c *consign.Change) {
	id := m.drawID(r)
	job, there := m.jobs[id]
	if !there {
		job = consign.Job{ID: id, Account: rapid.SampledFrom([]string{"acme", "zenith"}).Draw(r, "account"),
			Lane: rapid.SampledFrom(modelLanes).Draw(r, "lane")}
	}
	job.Version += uint64(int64(rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 0, 2}).Draw(r, "step")))
	job.State = drawState(r)
	job.Key, job.DueAt = drawInstant(r, "key"), drawInstant(r, "due")
	job.Claim, job.LeaseFor = consign.ClaimID{}, 0
	if job.State == consign.StateRunning {
		job.Claim, job.LeaseFor = m.drawClaim(r), m.drawLease(r)
	}
	c.Job = &job
	if some(r, 3, "spec") {
		c.Spec = &consign.Spec{ID: id, Kind: rapid.SampledFrom([]string{"TASK", "LLM_INFER"}).Draw(r, "kind")}
	}
	if some(r, 3, "done") {
		c.Done = &consign.Done{ID: id, ExitStatus: rapid.Int32Range(0, 9).Draw(r, "exit")}
	}
	if job.Version > 1 {
		c.Delete = some(r, 1, "delete")
		// A job that was forgotten stays so.
		if c.Forget = m.forgotten[id] || some(r, 1, "forget"); c.Forget {
			job.Purged = true
		}
	}
}
