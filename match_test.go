package consign

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// shop is a world without faults, whose store answers at once: what is left is
// who gets what.
type shop struct {
	*world
	t      *testing.T
	claims []JobID // in the order in which they were given out
	by     map[JobID]*actor

	lenient bool
}

func newShop(t *testing.T, caps ...Capabilities) *shop {
	t.Helper()
	s := &shop{world: newWorld(seeded(1), planted{}), t: t, by: map[JobID]*actor{}}
	s.faults = false
	s.workers = nil
	for i, c := range caps {
		s.workers = append(s.workers, &actor{id: WorkerID{byte(i + 1)}, caps: c})
		s.enrol(s.workers[i])
		s.rest()
	}
	return s
}

func tasks(tier Tier, slots int) Capabilities {
	return Capabilities{Kinds: []string{KindTask}, MaxContextTier: tier, Slots: slots}
}

// job submits a task of an account.
func (s *shop) job(account string, chars int, change func(*SubmitRequest)) JobID {
	s.t.Helper()
	r := SubmitRequest{ID: s.id16(1), Kind: KindTask, Custody: CustodyPlain, Payload: longPrompt[:chars], Policy: PolicyCheap}
	if change != nil {
		change(&r)
	}
	draft, spec, err := s.config.admit(account, &r)
	if err != nil {
		s.t.Fatal(err)
	}
	draft.Price = 0
	o := &op{kind: opSubmit, id: draft.ID, account: account, draft: draft, spec: spec, ev: Event{Kind: EventSubmit}}
	o.call = s.ask(&asked{kind: "submit", op: o, id: r.ID, account: account, content: contentOf(draft)})
	s.inputs = append(s.inputs, inSubmit{op: o, delay: r.Delay, deadline: r.Deadline})
	s.rest()
	return draft.ID
}

// rest also checks the model, and notes who got what.
func (s *shop) rest() {
	s.t.Helper()
	s.world.rest()
	if len(s.violated) > 0 && !s.lenient {
		s.t.Fatal(s.story())
	}
	for _, sw := range s.workers {
		for _, h := range sw.holds {
			if s.by[h.Job] != sw {
				s.by[h.Job] = sw
				s.claims = append(s.claims, h.Job)
			}
		}
	}
}

// take has a worker claim, and returns what it got at once.
func (s *shop) take(sw *actor) (JobID, bool) {
	s.t.Helper()
	had := len(sw.holds)
	s.claimFor(sw)
	s.rest()
	if len(sw.holds) == had {
		return JobID{}, false
	}
	return sw.holds[had].Job, true
}

// finish completes all that a worker holds.
func (s *shop) finish(sw *actor) {
	s.t.Helper()
	for len(sw.holds) > 0 {
		h := sw.holds[0]
		sw.holds = sw.holds[1:]
		sw.old = append(sw.old, h)
		s.completeWith(sw, &sw.old[len(sw.old)-1], false)
		s.rest()
	}
}

// refuse fails what a worker holds.
func (s *shop) refuse(sw *actor) {
	s.t.Helper()
	h := sw.holds[0]
	sw.holds = sw.holds[1:]
	s.word(sw, h.Claim, "fail", Event{Kind: EventFail, Fail: FailRefused, Reason: "no"})
	s.rest()
}

// pass lets time go by, heartbeats included.
func (s *shop) pass(d time.Duration) {
	s.t.Helper()
	for end := s.now.Add(d); s.now < end; {
		s.now = min(end, max(s.now+1, s.next))
		s.step()
		s.rest()
		for _, sw := range s.workers {
			if s.engine.workers[sw.id] != nil && s.now.Sub(s.engine.workers[sw.id].seen) > 9*time.Second {
				s.beat(sw)
				s.rest()
			}
		}
	}
}

// Equal priorities take turns, however many jobs one account has queued.
func TestRoundRobinBetweenAccounts(t *testing.T) {
	run := func(unfair bool) (last int) {
		s := newShop(t, tasks(4, 1))
		backlog := map[string]int{"acme": 2_000, "0": 20, "poor": 5}
		for range backlog["acme"] {
			s.job("acme", 10, nil)
		}
		s.pass(5 * time.Second) // so that all of those are older
		for _, account := range []string{"0", "poor"} {
			for range backlog[account] {
				s.job(account, 10, nil)
			}
		}
		for served := 1; backlog["0"]+backlog["poor"] > 0; served++ {
			if unfair { // a planted bug: the longest line goes first
				for _, l := range s.engine.ready.lanes {
					if l.Account == "acme" && l.turn != nil {
						l.group.turns.MoveToFront(l.turn)
					}
				}
			}
			id, ok := s.take(s.workers[0])
			if !ok || served > 200 {
				return served
			}
			backlog[s.store.jobs[id].Account]--
			last = served
			s.finish(s.workers[0])
		}
		return last
	}
	if last := run(false); last > 5*3+15*2+3 {
		t.Errorf("20 and 5 jobs beside 2,000 were served after %d", last)
	}
	if last := run(true); last <= 5*3+15*2+3 {
		t.Error("an unfair turn is not seen")
	}
}

// At one time high goes before standard before low, FAST before CHEAP; and who
// has waited long enough goes before all of them.
func TestPriorityAndAgeing(t *testing.T) {
	s := newShop(t, tasks(4, 1))
	var want []JobID
	old := s.job("acme", 10, func(r *SubmitRequest) { r.Priority, r.Policy = PriorityLow, PolicyCheap })
	s.pass(66 * time.Second)
	for _, p := range []Priority{PriorityLow, PriorityStandard, PriorityHigh} {
		for _, policy := range []Policy{PolicyCheap, PolicyFast} {
			want = append(want, s.job("acme", 10, func(r *SubmitRequest) { r.Priority, r.Policy = p, policy }))
		}
	}
	slices.Reverse(want)
	want = append([]JobID{old}, want...)
	urgent := s.job("acme", 10, func(r *SubmitRequest) {
		r.Priority, r.Policy, r.Deadline = PriorityLow, PolicyCheap, 33*time.Second
	})
	want = slices.Insert(want, 2, urgent) // its deadline brings it to 3 s: after high FAST, before high CHEAP
	for i, id := range want {
		got, ok := s.take(s.workers[0])
		if !ok || got != id {
			t.Fatalf("number %d was %s (%+v), want %s (%+v)", i, got, s.store.jobs[got].Offset, id, s.store.jobs[id].Offset)
		}
		s.finish(s.workers[0])
	}
}

// widest is how far a ticket may be passed over because of scores.
const widest = weightWarm + weightEvict + weightThrash + 4*weightTier + weightCapacity + weightSurplus + weightStanding + nearlyEqual

// No ticket is passed over by one that stands much later in line, in a long
// overload of all kinds: so nothing starves.
func TestNothingStarves(t *testing.T) {
	llm := Capabilities{Kinds: []string{KindInference, KindTask}, Models: simModels, MaxContextTier: 4, Slots: 1}
	small := llm
	small.MaxContextTier = 2
	s := newShop(t, llm, small, tasks(1, 1))
	gaveOut := 0
	for round := range 1_500 {
		s.now += second / 2
		s.step()
		s.rest()
		if round < 700 {
			for range 2 {
				s.job("acme", []int{10, 10, 2_000, 24_000}[s.roll("chars", 4)], func(r *SubmitRequest) {
					r.Priority, r.Policy = Priority(s.roll("priority", 3)), Policy(1+s.roll("policy", 2))
					if s.roll("kind", 2) == 0 {
						r.Kind, r.Model = KindInference, simModels[s.roll("model", 2)]
					}
				})
			}
		}
		sw := s.workers[s.roll("worker", 3)]
		s.finish(sw)
		s.beat(sw)
		s.rest()
		id, ok := s.take(sw)
		if !ok {
			continue
		}
		gaveOut++
		got := s.store.jobs[id]
		lane, _ := ParseLane(got.Lane)
		key := ticketKey(got.ReadyAt, got.Offset, got.Deadline)
		for _, j := range s.store.jobs {
			other, _ := ParseLane(j.Lane)
			if j.State == StateQueued && (FourSignals{}).Fits(&other.Needs, &sw.caps) == "" && key.Sub(j.Key) > widest {
				t.Fatalf("%s goes %s before %s", got.Lane, key.Sub(j.Key), j.Lane)
			}
		}
		if m := lane.Needs.Model; m != "" && (len(sw.warm) == 0 || sw.warm[0].Name != m) {
			sw.warm = []WarmModel{{Name: m}}
		} else if len(sw.warm) > 0 {
			sw.warm[0].Since += time.Second
		}
	}
	if gaveOut < 900 {
		t.Errorf("only %d tickets were given out", gaveOut)
	}
	t.Logf("%d given out, none more than %s before another", gaveOut, widest)
}

// A large worker leaves short prompts to small ones when both are free, and
// takes the long prompt first when it has the choice.
func TestBestFit(t *testing.T) {
	if wrong := bestFit(newShop(t, tasks(4, 1), tasks(1, 1))); wrong != "" {
		t.Error(wrong)
	}
	planted := newShop(t, tasks(4, 1), tasks(1, 1))
	planted.engine.matcher.scheduler = noAffinity{} // no score at all
	if bestFit(planted) == "" {
		t.Error("a scheduler that does not look for the best fit is not seen")
	}
}

func bestFit(s *shop) string {
	large, small := s.workers[0], s.workers[1]
	for i := range 20 {
		order := []*actor{large, small}
		if i%2 == 0 {
			slices.Reverse(order)
		}
		for _, sw := range order {
			if len(sw.claiming) == 0 {
				s.claimFor(sw)
				s.rest()
			}
		}
		id := s.job("acme", 10, nil)
		if s.by[id] != small {
			return "a short prompt did not go to the small worker, which was free"
		}
		s.finish(small)
	}
	long := s.job("acme", 24_000, nil) // the large worker waits still
	if s.by[long] != large {
		return "a long prompt did not go to the large worker"
	}
	s.finish(large)
	short := s.job("acme", 10, nil) // to the small one, which waits or not
	s.pass(500 * time.Millisecond)
	long = s.job("acme", 24_000, nil)
	if s.by[short] == nil {
		if got, _ := s.take(large); got != long {
			return "the large worker took the short prompt, which was half a second older"
		}
	}
	return ""
}

// noAffinity is FourSignals without the models.
type noAffinity struct{ FourSignals }

func (noAffinity) Score(*Ticket, *WorkerState, Instant) time.Duration { return 0 }

// Two models on one worker that can keep one: the loads are few, while without
// affinity nearly every job loads its model (horde-worker-reGen #336: 1 % of
// requests caused 71 % of the loads).
func TestModelsDoNotThrash(t *testing.T) {
	run := func(scheduler Scheduler) (loads int, longest time.Duration) {
		s := newShop(t, Capabilities{Kinds: []string{KindInference}, Models: []string{"*"}, MaxContextTier: 4, Slots: 1})
		s.engine.matcher.scheduler = scheduler
		w := s.workers[0]
		s.beat(w)
		s.rest()
		asked := map[JobID]Instant{}
		// Half of the requests are for each model, then 5 % for the one.
		for i := range 640 {
			if i < 600 {
				asked[s.job("acme", 10, func(r *SubmitRequest) {
					r.Kind, r.Model = KindInference, "m1"
					if i < 300 && i%2 == 0 || i%20 == 13 {
						r.Model = "m2"
					}
				})] = s.now
			}
			s.now += second
			s.step()
			s.rest()
			if i < 40 {
				continue // there is always a line of forty
			}
			id, ok := s.take(w)
			if !ok {
				continue
			}
			lane, _ := ParseLane(s.store.jobs[id].Lane)
			if len(w.warm) == 0 || w.warm[0].Name != lane.Needs.Model {
				loads++
				w.warm = []WarmModel{{Name: lane.Needs.Model}}
			}
			longest = max(longest, s.now.Sub(asked[id]))
			w.warm[0].Since += time.Second
			s.finish(w)
			s.beat(w)
			s.rest()
		}
		return loads, longest
	}
	with, wait := run(FourSignals{})
	without, _ := run(noAffinity{})
	t.Logf("%d loads with affinity, longest wait %s; %d without", with, wait, without)
	if with > 60 || without < 3*with {
		t.Errorf("%d loads with affinity, %d without", with, without)
	}
	if wait > 2*widest {
		t.Errorf("a job waited %s for its model", wait)
	}
}

// A worker that failed a job does not get it again while another can run it;
// after half a minute it does.
func TestFailedWorkerIsExcluded(t *testing.T) {
	if wrong := exclusion(newShop(t, tasks(4, 1), tasks(4, 1))); wrong != "" {
		t.Error(wrong)
	}
	for name, until := range map[string]func(j *Job){
		"no exclusion":          func(j *Job) { j.ExcludeUntil = 0 },
		"an exclusion for ever": func(j *Job) { j.ExcludeUntil = never },
		"another is excluded":   func(j *Job) { j.LastWorker = WorkerID{9} },
	} {
		s := newShop(t, tasks(4, 1), tasks(4, 1))
		s.planted.commit = func(w *world, c *commit) {
			if c.Job != nil && c.Job.Ticket == TicketRetry {
				j := *c.Job
				until(&j)
				c.Job, c.op.next.Job = &j, &j
			}
		}
		s.lenient = true // the rules are wrong by intent
		if exclusion(s) == "" {
			t.Errorf("survived: %s", name)
		}
	}
}

func exclusion(s *shop) string {
	first, second := s.workers[0], s.workers[1]
	id := s.job("acme", 10, nil)
	if got, _ := s.take(first); got != id {
		return "the first worker did not get the job"
	}
	s.refuse(first)
	if _, ok := s.take(first); ok {
		return "the worker that failed the job got it again, and another can run it"
	}
	if got, ok := s.take(second); !ok || got != id {
		return "the other worker did not get the job"
	}
	// Now the other one fails it, and the first gets it, who waits.
	s.refuse(second)
	if s.by[id] != first {
		return "the worker that waits did not get the job"
	}
	s.refuse(first)
	// The second heartbeats and takes nothing (hatchet #1796): the first gets
	// the job again once the exclusion has lifted.
	s.claimFor(first)
	s.rest()
	s.pass(29 * time.Second)
	if len(first.holds) > 0 {
		return "the exclusion lifted early"
	}
	s.pass(2 * time.Second)
	if len(first.holds) == 0 {
		return "the exclusion did not lift"
	}
	return ""
}

// With nobody else to run it, the worker that failed a job gets it again.
func TestTheOnlyWorkerIsNotExcluded(t *testing.T) {
	s := newShop(t, tasks(4, 1), Capabilities{Kinds: []string{"OTHER"}, MaxContextTier: 4, Slots: 1})
	id := s.job("acme", 10, nil)
	s.take(s.workers[0])
	s.refuse(s.workers[0])
	if got, ok := s.take(s.workers[0]); !ok || got != id {
		t.Error("the only worker that can run the job does not get it")
	}
}

// A ticket that the waiting worker may not take holds up neither another
// account's nor another lane's.
func TestExcludedTicketHoldsUpNobody(t *testing.T) {
	for name, second := range map[string]func(s *shop) JobID{
		"another account": func(s *shop) JobID { return s.job("0", 10, nil) },
		"another lane": func(s *shop) JobID {
			return s.job("acme", 10, func(r *SubmitRequest) { r.Priority = PriorityLow })
		},
		"the same line": func(s *shop) JobID { return s.job("acme", 10, nil) },
	} {
		for _, waiting := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, waiting %v", name, waiting), func(t *testing.T) {
				s := newShop(t, tasks(4, 1), tasks(4, 1))
				s.job("acme", 10, nil)
				s.take(s.workers[0])
				s.refuse(s.workers[0])
				if waiting {
					s.claimFor(s.workers[0])
					s.rest()
				}
				id := second(s)
				if !waiting {
					s.claimFor(s.workers[0])
					s.rest()
				}
				if s.by[id] != s.workers[0] {
					t.Error("the worker waits beside a ticket that it may take")
				}
			})
		}
	}
}

// A worker that can do more than before gets what it could not, though its
// claim was waiting already (AI-Horde #539).
func TestBlockedClaimSeesNewCapabilities(t *testing.T) {
	s := newShop(t, Capabilities{Kinds: []string{KindInference}, Models: []string{"m1"}, MaxContextTier: 4, Slots: 1})
	id := s.job("acme", 10, func(r *SubmitRequest) { r.Kind, r.Model = KindInference, "m2" })
	if _, ok := s.take(s.workers[0]); ok {
		t.Fatal("the worker got a job for a model that it does not have")
	}
	s.workers[0].caps.Models = []string{"m1", "m2"}
	s.beat(s.workers[0])
	s.rest()
	if s.by[id] == nil {
		t.Error("the worker has the model now, and its claim waits")
	}
}

// A paused lane or kind gives nothing out, and what was queued comes when it
// is resumed, to those who wait.
func TestPauseAndResume(t *testing.T) {
	s := newShop(t, tasks(4, 1))
	id := s.job("acme", 10, nil)
	lane := s.store.jobs[id].Lane
	for _, key := range []PauseKey{PauseKind(KindTask), PauseLane(lane)} {
		s.setPause(key, true)
	}
	if _, ok := s.take(s.workers[0]); ok {
		t.Fatal("a paused job was given out")
	}
	s.setPause(PauseKind(KindTask), false)
	s.rest()
	if s.by[id] != nil {
		t.Fatal("its lane is paused still")
	}
	s.setPause(PauseLane(lane), false)
	s.rest()
	if s.by[id] == nil {
		t.Error("nobody got the job that was resumed")
	}
}

// What a worker holds no slot for is not given to it.
func TestSlotsAreKept(t *testing.T) {
	s := newShop(t, tasks(4, 2))
	for range 5 {
		s.job("acme", 10, nil)
	}
	for range 5 {
		id := ClaimID(s.id16(2))
		c := s.ask(&asked{kind: "claim", worker: s.workers[0], claim: Claim{Claim: id}})
		s.workers[0].claiming = append(s.workers[0].claiming, c)
		s.inputs = append(s.inputs, inClaim{c, s.workers[0].id, id})
	}
	s.rest()
	if n := len(s.workers[0].holds); n != 2 {
		t.Errorf("a worker with 2 slots holds %d jobs", n)
	}
}
