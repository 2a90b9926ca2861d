package consign

import (
	"slices"
	"sync"
	"testing"
)

// bug is a fault that is planted around the engine: in the store, in the rules'
// outcomes, in what the engine is told or in what it answers. Each belongs to
// the invariant that it breaks, and the world has to see that one broken.
type bug struct {
	invariant string
	name      string
	planted
	result func() bool // of caught, once
}

func onEvent(kind EventKind, f func(w *world, c *commit)) func(*world, *commit) {
	return func(w *world, c *commit) {
		if c.op != nil && c.op.next.Job == c.Job && c.op.ev.Kind == kind {
			f(w, c)
		}
	}
}

// rewrite changes the job that is about to be written, as a wrong rule would.
func rewrite(f func(j *Job)) func(*world, *commit) {
	return func(_ *world, c *commit) {
		j := *c.Job
		f(&j)
		c.Job = &j
	}
}

func without(kind EffectKind) func(*world, *commit) {
	return func(_ *world, c *commit) {
		c.Effects = slices.DeleteFunc(slices.Clone(c.Effects), func(f Effect) bool { return f.Kind == kind })
	}
}

func with(kind EffectKind, target func(j *Job) string) func(*world, *commit) {
	return func(_ *world, c *commit) {
		j := c.Job
		c.Effects = append(slices.Clone(c.Effects), Effect{ID: EffectID{j.ID, seq(j.Version, 100)}, Kind: kind, Target: target(j), Amount: int64(j.Price)})
	}
}

func account(j *Job) string { return j.Account }

// toCurrent makes a stale word one of the claim that holds the job now.
func toCurrent(kinds ...EventKind) func(*world, input) input {
	return func(w *world, in input) input {
		o, ok := in.(inOp)
		if !ok || o.kind != opEvent || !slices.Contains(kinds, o.ev.Kind) {
			return in
		}
		if j := w.store.jobs[o.id]; j != nil && j.State == StateRunning {
			o.claim, o.worker = j.Claim, j.Worker
		}
		return in
	}
}

var bugs = []bug{
	{invariant: "1", name: "a submit is acknowledged before it is durable", planted: planted{early: func(_ *world, c *commit) bool { return c.op.kind == opSubmit }}},
	{invariant: "1", name: "a conflict is answered as if the job were the same", planted: planted{reply: func(w *world, r *reply) {
		if a := w.calls[r.call]; a != nil && a.kind == "submit" && r.err != nil {
			r.err, r.job = nil, w.store.jobs[a.id]
		}
	}}},
	{invariant: "1", name: "a payload is lost between submit and store", planted: planted{commit: onEvent(EventSubmit, func(_ *world, c *commit) { c.Spec = nil })}},

	{invariant: "2", name: "versions are not compared: a job is written over", planted: planted{store: func(s *simStore) { s.noCAS = true }}},
	{invariant: "2", name: "a job that has its result is queued once more", planted: planted{commit: onEvent(EventLeaseLost, func(w *world, c *commit) {
		rewrite(func(j *Job) { j.Version += 0; j.State = StateQueued })(w, c)
	}), store: func(s *simStore) { s.noCAS, s.noGuard = true, true }}},

	{invariant: "3", name: "no fence: a stale result is taken as the holder's", planted: planted{input: toCurrent(EventComplete)}},
	{invariant: "3", name: "no fence: a stale failure ends the holder's attempt (Bull #1416)", planted: planted{input: toCurrent(EventFail, EventRelease)}},
	{invariant: "3", name: "guards are not looked at", planted: planted{store: func(s *simStore) { s.noGuard = true }}},
	{invariant: "3", name: "a blind reaper: leases end before their time (River #1302)", planted: planted{store: func(s *simStore) { s.blindReaper = true }}},
	{invariant: "3", name: "a result is acknowledged before it is durable (NATS, Jepsen)", planted: planted{early: func(_ *world, c *commit) bool { return c.op.ev.Kind == EventComplete }}},
	{invariant: "3", name: "a late word of a lost claim is acknowledged (NATS #4786)", planted: planted{reply: func(w *world, r *reply) {
		if a := w.calls[r.call]; a != nil && a.kind == "complete" {
			r.err = nil
		}
	}}},
	{invariant: "3", name: "a claim has another change ID with each try, and its first comes late", planted: planted{commit: onEvent(EventClaim, func(w *world, c *commit) {
		if c.op.tries > 0 {
			c.ID = ChangeID(w.id16(5))
			rewrite(func(j *Job) { j.Change = c.ID })(w, c)
			c.op.change, c.op.next.Job = c.ID, c.Job
		}
	})}},
	{invariant: "3", name: "two attempts share a claim ID", planted: planted{commit: onEvent(EventClaim, func(w *world, c *commit) {
		rewrite(func(j *Job) { j.Claim = ClaimID{1} })(w, c)
		c.op.next.Job = c.Job
	})}},

	{invariant: "4", name: "acknowledging a failure makes it a success", planted: planted{commit: onEvent(EventAcknowledge, rewrite(func(j *Job) { j.State = StateCompleted }))}},
	{invariant: "4", name: "an acknowledged job is queued again", planted: planted{commit: onEvent(EventAcknowledge, rewrite(func(j *Job) { j.State = StateQueued }))}},

	{invariant: "5", name: "half a change: the result is missing", planted: planted{commit: onEvent(EventComplete, func(_ *world, c *commit) { c.Done = nil })}},
	{invariant: "5", name: "half a change: the log is missing", planted: planted{commit: onEvent(EventComplete, func(_ *world, c *commit) { c.Log = nil })}},
	{invariant: "5", name: "half a change: the effects are missing", planted: planted{commit: onEvent(EventComplete, func(_ *world, c *commit) { c.Effects = nil })}},
	{invariant: "5", name: "a wrong rule: a fault is not counted", planted: planted{commit: onEvent(EventFail, rewrite(func(j *Job) { j.Faults-- }))}},
	{invariant: "5", name: "a wrong rule: a retry keeps its claim", planted: planted{commit: onEvent(EventRelease, rewrite(func(j *Job) { j.Claim = ClaimID{7} }))}},
	{invariant: "5", name: "a wrong rule: a retry does not back off", planted: planted{commit: onEvent(EventFail, rewrite(func(j *Job) { j.ReadyAt -= second / 2 }))}},
	{invariant: "5", name: "a wrong rule: a deadline is not timed", planted: planted{commit: onEvent(EventClaim, rewrite(func(j *Job) { j.DueAt = 0 }))}},
	{invariant: "5", name: "a wrong rule: a version does not name its change", planted: planted{commit: onEvent(EventSubmit, rewrite(func(j *Job) { j.Change = ChangeID{} }))}},

	{invariant: "6", name: "a job is admitted without its hold", planted: planted{commit: onEvent(EventSubmit, func(_ *world, c *commit) { c.Counters = nil })}},
	{invariant: "6", name: "a balance may fall below nothing", planted: planted{store: func(s *simStore) { s.noBound = true }}},
	{invariant: "6", name: "effects are carried out twice", planted: planted{store: func(s *simStore) { s.doubleEffects = true }}},
	{invariant: "6", name: "what was held is not repaid", planted: planted{commit: func(w *world, c *commit) {
		if c.op != nil && c.Job != nil {
			without(EffectRefund)(w, c)
		}
	}}},

	{invariant: "8", name: "a job is settled when it is claimed", planted: planted{commit: onEvent(EventClaim, with(EffectSettle, account))}},
	{invariant: "8", name: "a job that failed is settled", planted: planted{commit: func(w *world, c *commit) {
		c.Effects = slices.Clone(c.Effects)
		for i := range c.Effects {
			if c.Effects[i].Kind == EffectRefund {
				c.Effects[i].Kind = EffectSettle
			}
		}
	}}},

	{invariant: "9", name: "keys are not destroyed", planted: planted{keep: true}},
	{invariant: "9", name: "keys are destroyed when a job is claimed", planted: planted{commit: onEvent(EventClaim, with(EffectShred, func(j *Job) string { return j.ID.String() }))}},
	{invariant: "9", name: "keys are destroyed as a job ends, acknowledged or not", planted: planted{commit: onEvent(EventComplete, with(EffectShred, func(j *Job) string { return j.ID.String() }))}},

	{invariant: "10", name: "a PRIVATE job goes to anybody", planted: planted{trust: true}},
	{invariant: "10", name: "a sealed job goes to any worker that is paired", planted: planted{input: func(_ *world, in input) input {
		if s, ok := in.(inSubmit); ok {
			lane, _ := ParseLane(s.draft.Lane)
			lane.Needs.Recipients = ""
			s.draft.Lane = lane.String()
		}
		return in
	}}},
	{invariant: "10", name: "a worker stays trusted after it was unpaired", planted: planted{input: func(_ *world, in input) input {
		if p, ok := in.(inPair); ok && !p.trusted {
			return nil
		}
		return in
	}}},

	{invariant: "12", name: "a bad result completes the job (BOINC #1005)", planted: planted{input: func(w *world, in input) input {
		if o, ok := in.(inOp); ok && w.badOps[o.op] {
			o.ev.Kind = EventComplete
			o.done = &Done{ID: o.id, Claim: o.claim, Worker: o.worker, Result: []byte("bad")}
		}
		return in
	}}},
	{invariant: "12", name: "a bad result does not count against its worker", planted: planted{commit: onEvent(EventReject, without(EffectStrike))}},

	{invariant: "13", name: "a crash counts as cheating", planted: planted{commit: onEvent(EventLeaseLost, with(EffectStrike, func(j *Job) string { return j.LastWorker.String() }))}},
	{invariant: "13", name: "a poison payload counts against its worker (AI-Horde-Worker #69, BOINC #361)", planted: planted{commit: func(w *world, c *commit) {
		if c.op != nil && c.op.ev.Kind == EventFail && c.op.ev.Fail == FailPayload {
			with(EffectStrike, func(j *Job) string { return j.Worker.String() })(w, c)
		}
	}}},

	{invariant: "14", name: "the store's answer to a submit is lost", planted: planted{input: func(_ *world, in input) input {
		if a, ok := in.(inCommitted); ok {
			for _, c := range a.answers {
				if c.op != nil && c.op.kind == opSubmit {
					return nil
				}
			}
		}
		return in
	}}},
	{invariant: "14", name: "half a change: the webhook is forgotten", planted: planted{commit: onEvent(EventComplete, func(_ *world, c *commit) { c.Docs = nil })}},
	{invariant: "14", name: "a page loses a ticket", planted: planted{page: func(_ *world, jobs []*Job) []*Job { return jobs[:max(0, len(jobs)-1)] }}},
	{invariant: "14", name: "a job ends without a reason", planted: planted{commit: onEvent(EventExpire, rewrite(func(j *Job) { j.Reason = "" }))}},
	{invariant: "14", name: "a stop of the queue forgets who waits", planted: planted{reply: func(w *world, r *reply) {
		if a := w.calls[r.call]; a != nil && a.kind == "cancel" {
			r.call = nil
		}
	}}},
	{invariant: "14", name: "a scan sees nothing that is due", planted: planted{input: func(_ *world, in input) input {
		if d, ok := in.(inDue); ok {
			d.jobs = nil
			return d
		}
		return in
	}}},
	{invariant: "14", name: "a job that lost its worker is not found", planted: planted{input: func(_ *world, in input) input {
		if l, ok := in.(inLapsed); ok {
			l.jobs = nil
			return l
		}
		return in
	}}},
	{invariant: "lost", name: "a heartbeat under way makes a completed claim a lost one (silo #399)", planted: planted{reply: func(w *world, r *reply) {
		if beat, ok := r.info.(HeartbeatReply); ok {
			for _, id := range w.ids {
				if t := w.tracks[id]; t.done != nil && t.done.Worker == w.calls[r.call].worker.id {
					beat.Lost = append(beat.Lost, Claim{id, t.done.Claim})
				}
			}
			r.info = beat
		}
	}}},
	{invariant: "vault", name: "a queue hands out jobs whose keys are in another's vault", planted: planted{input: func(_ *world, in input) input {
		if _, ok := in.(inVaults); ok {
			return inVaults{simVaults}
		}
		return in
	}}},
	{invariant: "cap", name: "a worker gets what it cannot run", planted: planted{input: func(_ *world, in input) input {
		if h, ok := in.(inHeartbeat); ok {
			h.beat.Capabilities.MaxContextTier, h.beat.Capabilities.Models = 4, []string{"*"}
			return h
		}
		return in
	}}},
}

// caught plays worlds with a bug until its invariant is seen broken.
func (b *bug) caught() bool {
	if b.result == nil {
		b.result = sync.OnceValue(func() bool {
			for seed := range envInt("CONSIGN_MUTANT_SEEDS", 1000) {
				w := runWorld(uint64(seed), 500, b.planted)
				if slices.ContainsFunc(w.violated, func(v violation) bool { return v.invariant == b.invariant }) {
					return true
				}
			}
			return false
		})
	}
	return b.result()
}

// Every bug that is planted is caught, by the invariant that it breaks.
func TestEngineMutants(t *testing.T) {
	caught := 0
	for i := range bugs {
		if bugs[i].caught() {
			caught++
		} else {
			t.Errorf("survived: invariant %s, %s", bugs[i].invariant, bugs[i].name)
		}
	}
	t.Logf("%d of %d caught", caught, len(bugs))
}
