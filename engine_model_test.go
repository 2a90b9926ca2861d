package consign

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What may happen in a world. Each action is one thing that a user, a worker,
// the store, the clock or another coordinator does.

type action struct {
	name   string
	weight int
	do     func(w *world)
}

func (w *world) actions() []action {
	return []action{
		{"submit", 10, (*world).submit},
		{"submit again", 2, (*world).submitAgain},
		{"register", 3, (*world).register},
		{"heartbeat", 6, (*world).heartbeat},
		{"claim", 12, (*world).claim},
		{"abandon", 2, (*world).abandon},
		{"complete", 9, (*world).complete},
		{"fail", 4, (*world).fail},
		{"report", 3, (*world).report},
		{"stale word", 4, (*world).staleWord},
		{"cancel", 2, (*world).cancel},
		{"acknowledge", 4, (*world).acknowledge},
		{"explain", 1, (*world).explain},
		{"pair", 2, (*world).pair},
		{"pause", 1, (*world).pause},
		{"time", 6, (*world).pass},
		{"store", 40, (*world).storeWorks},
		{"tell", 40, (*world).tell},
		{"vault", 1, (*world).vault},
		{"look", 1, (*world).look},
		{"other coordinator", 3, (*world).other},
		{"restart", 1, (*world).restart},
	}
}

// act does one thing by the dice.
func (w *world) act(actions []action) {
	total := 0
	for _, a := range actions {
		total += a.weight
	}
	n := w.roll("action", total)
	for _, a := range actions {
		if n -= a.weight; n < 0 {
			a.do(w)
			w.check()
			return
		}
	}
}

// add gives the engine an input, now or together with the next.
func (w *world) add(in input) {
	w.inputs = append(w.inputs, in)
	if !w.chance("gather", 20) {
		w.step()
	}
}

func pickOne[T any](w *world, label string, of ...T) T { return of[w.roll(label, len(of))] }

// request draws what to submit.
func (w *world) request(id JobID) SubmitRequest {
	r := SubmitRequest{ID: id, Kind: KindTask, Custody: CustodyPlain,
		Policy: Policy(w.roll("policy", 3)), Priority: Priority(w.roll("priority", 3)), MaxAttempts: w.roll("attempts", 4)}
	chars := pickOne(w, "chars", 100, 100, 2_000, 24_000)
	r.Payload = longPrompt[:chars]
	if w.chance("inference", 50) {
		r.Kind, r.Model = KindInference, pickOne(w, "model", simModels...)
	}
	if w.chance("private", 15) {
		r.Privacy = PrivacyPrivate
	}
	if w.chance("sealed", 40) {
		r.Custody = pickOne(w, "custody", CustodySealed, CustodyEscrow, CustodyEscrow)
		r.Chars, r.PromptBytes = uint32(chars), uint64(chars)
		to := []WorkerID{simFresh} // so that it ends
		if other := w.anyWorker().id; other != to[0] {
			to = append(to, other)
		}
		SealFor(w.config, simSubmitter, &r, byte(w.roll("header", 3)), to...)
	}
	if w.chance("webhook", 20) {
		r.Webhook = "https://submitter.test/ended"
	}
	if w.chance("timed", 30) {
		r.Delay = pickOne(w, "delay", 0, time.Millisecond, time.Second, 59*time.Second, 61*time.Second, 5*time.Minute)
		r.QueueTime = pickOne(w, "queue time", 0, time.Second, time.Minute, time.Hour)
		if w.chance("deadline", 50) {
			r.Deadline = r.Delay + pickOne(w, "deadline", time.Microsecond, time.Second, 40*time.Second, 10*time.Minute)
		}
	}
	return r
}

func (w *world) submit() {
	w.submitAs(pickOne(w, "account", simAccounts...), w.request(w.id16(1)))
}

// submitAgain sends an ID once more: the same, or with other content, or by
// another account.
func (w *world) submitAgain() {
	if len(w.ids) == 0 {
		return
	}
	id := w.ids[max(0, len(w.ids)-1-w.roll("which", min(5, len(w.ids))))]
	t := w.tracks[id]
	if t.deleted || len(t.versions) == 0 {
		return
	}
	first := t.versions[0]
	r := w.request(id)
	account := first.Account
	spec := w.store.specs[id]
	switch {
	case w.chance("the same", 70) && spec != nil:
		r.Kind, r.Model, r.Custody, r.Privacy = spec.Kind, spec.Model, spec.Custody, spec.Privacy
		r.Payload, r.Header, r.Chars, r.PromptBytes = spec.Payload, spec.Header, 0, 0
		r.Wraps, r.Signature = spec.Wraps, spec.Signature
		if r.Custody != CustodyPlain {
			r.Chars, r.PromptBytes = spec.Chars, uint64(spec.Chars)
		}
		if r.Custody == CustodyEscrow {
			r.Wraps = []Wrap{{Wrap: []byte("the key again")}}
		}
	case w.chance("another's", 50):
		account = pickOne(w, "account", simAccounts...)
	}
	w.submitAs(account, r)
}

func (w *world) submitAs(account string, r SubmitRequest) {
	times := 1
	if w.chance("twice", 5) {
		times = 2 // at once
	}
	for i := range times {
		if i == 1 && w.chance("another's", 50) {
			account = pickOne(w, "account", simAccounts...)
			r.Payload = longPrompt[:101]
			r.Custody, r.Header, r.Chars, r.PromptBytes, r.Wraps, r.Signature = CustodyPlain, nil, 0, 0, nil, nil
		}
		draft, spec, err := w.config.admit(account, &r)
		if err != nil {
			w.violate("14", "a good request is refused: %v", err)
			return
		}
		if spec.Custody.vaulted() && w.chance("named vault", 80) { // else as before vaults had names
			draft.Lane = laneWithVault(draft.Lane, pickOne(w, "vault", simVaults...))
		}
		o := &op{kind: opSubmit, id: draft.ID, account: account, draft: draft, spec: spec, ev: Event{Kind: EventSubmit}}
		if spec.Custody == CustodyEscrow && w.tracks[r.ID] == nil {
			w.keys[r.ID] = true
		}
		o.call = w.ask(&asked{kind: "submit", op: o, id: r.ID, account: account, content: contentOf(draft)})
		w.add(inSubmit{op: o, delay: r.Delay, deadline: r.Deadline})
	}
}

func (w *world) anyWorker() *actor { return w.workers[w.roll("worker", len(w.workers))] }

func (w *world) register() { w.enrol(w.anyWorker()) }

func (w *world) enrol(sw *actor) {
	key := [2]string{DocWorker, sw.id.String()}
	record := WorkerRecord{ID: sw.id, Standing: Standing{Subject: Subject{Worker: sw.id}}}
	if d, ok := w.store.docs[key]; ok {
		if err := json.Unmarshal(d.Body, &record); err != nil {
			w.violate("5", "a worker's record: %v", err)
		}
	} else {
		body, _ := json.Marshal(record)
		w.store.docs[key] = Doc{Kind: DocWorker, Key: key[1], Version: 1, Body: body}
	}
	sw.there = true
	w.add(inRegister{record, w.store.docs[key].Version, sw.caps})
}

func (w *world) heartbeat() { w.beat(w.anyWorker()) }

func (w *world) beat(sw *actor) {
	h := Heartbeat{Capabilities: sw.caps, FreeSlots: max(0, sw.caps.Slots/6-len(sw.holds)), MaxWarm: 1, Warm: sw.warm}
	if w.chance("rates", 20) {
		h.Rates = map[string]float64{"": 1000, "m1": 100}
	}
	for _, c := range sw.holds {
		if !w.faults || w.chance("listed", 80) {
			h.Claims = append(h.Claims, c.Claim)
		}
	}
	w.add(inHeartbeat{w.ask(&asked{kind: "heartbeat", worker: sw}), sw.id, h})
}

func (w *world) claim() { w.claimFor(w.anyWorker()) }

func (w *world) claimFor(sw *actor) {
	if len(sw.claiming)+len(sw.holds) >= sw.caps.Slots/6 { // the engine also counts what was forgotten
		return
	}
	id := ClaimID(w.id16(2))
	c := w.ask(&asked{kind: "claim", worker: sw, claim: Claim{Claim: id}})
	sw.claiming = append(sw.claiming, c)
	w.add(inClaim{c, sw.id, id})
}

func (w *world) abandon() {
	sw := w.anyWorker()
	if len(sw.claiming) > 0 {
		w.calls[sw.claiming[0]].abandoned = true
		w.add(inAbandon{sw.claiming[0]})
	}
}

// hold takes one of a worker's claims, and keeps it for later use as a stale
// one.
func (w *world) hold() (*actor, *held) {
	sw := w.anyWorker()
	if len(sw.holds) == 0 {
		return sw, nil
	}
	i := w.roll("hold", len(sw.holds))
	h := sw.holds[i]
	sw.holds = slices.Delete(sw.holds, i, i+1)
	sw.old = append(sw.old, h)
	return sw, &sw.old[len(sw.old)-1]
}

func (w *world) complete() {
	if sw, h := w.hold(); h != nil {
		w.completeWith(sw, h, w.chance("bad record", 10))
	}
}

func (w *world) completeWith(sw *actor, h *held, bad bool) {
	if h.done == nil || w.chance("other body", 20) {
		result := fmt.Appendf(nil, "result %d", w.counter)
		w.counter++
		o := &op{kind: opEvent, ev: Event{Kind: EventComplete}}
		o.done = &Done{ID: h.Job, Claim: h.Claim.Claim, Worker: sw.id, Result: result, Digest: sha256.Sum256(result)}
		if bad {
			o = &op{kind: opEvent, ev: Event{Kind: EventReject, Reason: "a bad signature"}}
		}
		h.done = o
	}
	o := *h.done
	o.id, o.claim, o.worker = h.Job, h.Claim.Claim, sw.id
	o.tries, o.doubt, o.change, o.failure = 0, false, ChangeID{}, nil
	a := &asked{kind: "complete", op: &o, worker: sw, claim: h.Claim, id: h.Job, bad: o.done == nil}
	if o.done != nil {
		done := *o.done
		o.done = &done
		a.digest = done.Digest
	} else {
		w.badOps[&o] = true
	}
	o.call = w.ask(a)
	w.add(inOp{&o})
}

func (w *world) fail() {
	sw, h := w.hold()
	if h == nil {
		return
	}
	if w.chance("release", 30) {
		w.word(sw, h.Claim, "release", Event{Kind: EventRelease, Reason: "shutting down"})
		return
	}
	w.word(sw, h.Claim, "fail", Event{Kind: EventFail, Fail: pickOne(w, "fail", FailTransient, FailTransient, FailRefused, FailPayload), Reason: "it failed"})
}

func (w *world) word(sw *actor, c Claim, kind string, ev Event) {
	o := &op{kind: opEvent, id: c.Job, claim: c.Claim, worker: sw.id, ev: ev}
	if kind == "report" {
		o.kind = opReport
		o.items = []ReportItem{{ReportLog, fmt.Appendf(nil, "line %d", w.counter)}}
		w.counter++
	}
	o.call = w.ask(&asked{kind: kind, op: o, worker: sw, claim: c, id: c.Job})
	w.add(inOp{o})
}

func (w *world) report() {
	sw := w.anyWorker()
	if sw.there && len(sw.holds) > 0 {
		w.word(sw, sw.holds[w.roll("hold", len(sw.holds))].Claim, "report", Event{})
	}
}

// staleWord sends something about a claim that is over, or of another worker.
func (w *world) staleWord() {
	from, as := w.anyWorker(), w.anyWorker()
	if len(from.old) == 0 {
		return
	}
	h := &from.old[w.roll("old", len(from.old))]
	for i := range from.old { // one that another holds by now, if there is
		if j := w.store.jobs[from.old[i].Job]; j != nil && j.State == StateRunning && j.Claim != from.old[i].Claim.Claim && w.chance("held by another", 80) {
			h = &from.old[i]
			break
		}
	}
	if w.chance("as itself", 80) {
		as = from
	}
	switch w.roll("stale", 5) {
	case 0:
		w.word(as, h.Claim, "fail", Event{Kind: EventFail, Reason: "late"})
	case 1:
		w.word(as, h.Claim, "release", Event{Kind: EventRelease, Reason: "late"})
	case 2:
		w.word(as, h.Claim, "report", Event{})
	default:
		if as == from {
			w.completeWith(as, h, false)
		}
	}
}

func (w *world) anyJob() (JobID, bool) {
	if len(w.ids) == 0 {
		return JobID{}, false
	}
	return w.ids[len(w.ids)-1-w.roll("job", min(12, len(w.ids)))], true
}

func (w *world) submitterDoes(kind string, k opKind, ev Event) {
	id, ok := w.anyJob()
	if !ok || len(w.tracks[id].versions) == 0 {
		return
	}
	account := w.tracks[id].versions[0].Account
	if w.chance("another's", 5) {
		account = pickOne(w, "account", simAccounts...)
	}
	o := &op{kind: k, id: id, account: account, ev: ev}
	o.call = w.ask(&asked{kind: kind, op: o, id: id, account: account})
	w.add(inOp{o})
}

func (w *world) cancel() {
	w.submitterDoes("cancel", opCancel, Event{Kind: EventCancel, Reason: "cancelled by its submitter"})
}
func (w *world) acknowledge() {
	w.submitterDoes("acknowledge", opAcknowledge, Event{Kind: EventAcknowledge})
}
func (w *world) explain() { w.submitterDoes("explain", opExplain, Event{}) }

func (w *world) pair() {
	w.setPair(pickOne(w, "account", simAccounts...), w.anyWorker(), w.chance("trusted", 70))
}

func (w *world) setPair(account string, sw *actor, trusted bool) {
	if w.pairs[account] == nil {
		w.pairs[account] = map[WorkerID]bool{}
	}
	w.inputs = append(w.inputs, inPair{account, sw.id, trusted})
	if trusted {
		w.pairs[account][sw.id] = true
	}
	w.step()
	if !trusted {
		delete(w.pairs[account], sw.id)
	}
}

func (w *world) pause() {
	key := PauseKind(pickOne(w, "kind", KindTask, KindInference))
	if id, ok := w.anyJob(); ok && w.chance("lane", 50) && len(w.tracks[id].versions) > 0 {
		key = PauseLane(w.tracks[id].versions[0].Lane)
	}
	w.setPause(key, w.chance("pause", 40))
}

func (w *world) setPause(key PauseKey, paused bool) {
	if paused {
		w.paused[key] = true
	} else {
		delete(w.paused, key)
	}
	w.add(inPause{key, paused})
}

func (w *world) pass() {
	now := w.now
	switch w.roll("time", 12) {
	case 0:
		now += Instant(31 * second)
	case 1:
		now += Instant(11 * minute)
	case 2:
		if w.chance("a day", 20) {
			now += 25 * 60 * minute
		}
	case 3, 4:
		now += 1
	case 5, 6:
		now += second
	default:
		now = max(w.now+1, w.next)
	}
	for i := 0; i < len(w.tasks); i++ {
		if t := w.tasks[i]; t.late != 0 && t.late.Add(storeTimeout) < now {
			w.carryOut(i, fine) // a store gives up too
			i = -1
		}
	}
	w.now = now
	w.step()
}

// vault is another vault that the queue's has become, or has not.
func (w *world) vault() {
	names := [][]string{simVaults[:1], simVaults[1:], simVaults}
	w.setVaults(names[w.roll("vaults", len(names))])
}

func (w *world) setVaults(names []string) {
	w.inputs = append(w.inputs, inVaults{names})
	w.vaults = slices.Concat(w.vaults, names)
	w.step()
	w.vaults = names
}

// look tells the engine which lanes have tickets, as the shell does now and
// then: what came late is found so.
func (w *world) look() { w.add(inLanes{w.store.lanes()}) }

func (w *world) storeWorks() {
	if len(w.tasks) > 0 {
		w.carryOut(w.roll("task", len(w.tasks)), w.drawFault())
	}
}

func (w *world) tell() {
	if len(w.answers) == 0 {
		return
	}
	i := w.roll("answer", len(w.answers))
	in := w.answers[i]
	w.answers = slices.Delete(w.answers, i, i+1)
	w.add(in)
}

// other is another coordinator on the same store, with a worker of its own.
func (w *world) other() {
	id, ok := w.anyJob()
	j := w.store.jobs[id]
	if !ok || j == nil {
		return
	}
	foreigner := WorkerID{99}
	ev := Event{Change: ChangeID(w.id16(3)), Reason: "far away"}
	c := Change{ID: ev.Change}
	switch {
	case j.State == StateQueued && j.ReadyAt <= w.now && w.chance("claims", 50):
		ev.Kind, ev.Claim, ev.Worker, ev.Lease = EventClaim, ClaimID(w.id16(4)), foreigner, 30*time.Second
	case j.State == StateRunning && j.Worker == foreigner && w.chance("completes", 50):
		ev.Kind = EventComplete
		c.Done = &Done{ID: id, Claim: j.Claim, Worker: foreigner, Result: []byte("far")}
	case j.State == StateRunning && j.Worker == foreigner:
		ev.Kind, ev.Fail = EventFail, FailPayload
	case j.State == StateQueued, j.State == StateRunning:
		ev.Kind = EventCancel
	case j.State.Terminal() && !j.Purged:
		ev.Kind = EventAcknowledge
	default:
		return
	}
	tr, err := j.Next(&ev, w.now, &w.engine.rules)
	if err != nil {
		w.violate("14", "another coordinator: %v", err)
		return
	}
	c.Job, c.Log, c.Effects, c.Docs = tr.Job, tr.Log, tr.Effects, tr.Docs
	for _, f := range c.Effects {
		if f.Kind == EffectSettle || f.Kind == EffectRefund {
			w.tracks[id].owed++
		}
	}
	_ = w.store.apply(&c)
}

// restart is a crash of the coordinator: what was on its way may or may not
// have reached the store, and nobody is told. Workers that live on keep their
// claims.
func (w *world) restart() {
	for len(w.tasks) > 0 {
		f := fine
		if w.chance("lost", 50) {
			f = failBefore
		}
		w.carryOut(w.roll("task", len(w.tasks)), f)
	}
	w.answers = nil
	clear(w.calls)
	w.order = nil
	for _, sw := range w.workers {
		sw.there, sw.claiming = false, nil
	}
	w.now += second / 10
	w.newEngine()
}

// settle lets everything that is under way come to rest, without time.
func (w *world) rest() {
	for n := 0; len(w.tasks)+len(w.answers)+len(w.inputs) > 0; n++ {
		for len(w.tasks) > 0 {
			w.carryOut(0, fine)
		}
		w.inputs = append(w.inputs, w.answers...)
		w.answers = nil
		w.step()
		if n > 10_000 {
			w.violate("14", "the engine never comes to rest")
			return
		}
	}
}

// drain ends all faults, gives the work to workers that do it, and sees that
// every job ends and every call is answered: nothing was lost on the way.
func (w *world) drain() {
	w.faults = false
	w.dice = seeded(1)
	w.rest()
	w.setVaults(simVaults)
	for _, key := range slices.SortedFunc(mapKeys(w.paused), func(a, b PauseKey) int { return strings.Compare(string(a), string(b)) }) {
		w.setPause(key, false)
	}
	for _, sw := range w.workers {
		w.enrol(sw)
	}
	// One more that can do all, and was never struck.
	w.workers = append(w.workers, &actor{id: simFresh, caps: w.workers[0].caps})
	fresh := w.workers[len(w.workers)-1]
	w.enrol(fresh)
	for _, account := range simAccounts {
		w.setPair(account, fresh, true)
	}
	start := w.now
	beat := Instant(0)
	for {
		w.rest()
		if len(w.violated) > 0 {
			return
		}
		if w.now >= beat {
			beat = w.now + 10*second
			w.look()
			for _, sw := range w.workers {
				if !sw.there {
					w.enrol(sw)
				}
				w.beat(sw)
			}
		}
		w.rest()
		busy := false
		for _, sw := range w.workers {
			for len(sw.holds) > 0 {
				h := sw.holds[0]
				sw.holds = sw.holds[1:]
				sw.old = append(sw.old, h)
				w.completeWith(sw, &sw.old[len(sw.old)-1], false)
				busy = true
			}
			w.claimFor(sw)
		}
		w.rest()
		for _, sw := range w.workers {
			busy = busy || len(sw.holds) > 0
		}
		if busy {
			continue
		}
		if w.ended() {
			break
		}
		if w.now.Sub(start) > 3*time.Hour {
			for _, id := range w.ids {
				if j := w.store.jobs[id]; j != nil && !j.State.Terminal() {
					w.violate("14", "job %s is %s for ever: %+v", id, j.State, *j)
				}
			}
			if len(w.store.effects) > 0 {
				w.violate("6", "%d effects are never carried out: %+v", len(w.store.effects), w.store.effects)
			}
			return
		}
		w.now = max(w.now+1, w.next)
		w.step()
	}
	for range 5 { // what is due is done
		w.now += second
		w.step()
		w.rest()
	}
	w.check()
	w.final()
}

func mapKeys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func (w *world) ended() bool {
	for _, j := range w.store.jobs {
		if !j.State.Terminal() {
			return false
		}
	}
	return len(w.store.effects) == 0
}

// final checks what holds once everything has ended.
func (w *world) final() {
	for _, c := range w.order {
		if a := w.calls[c]; a.kind != "claim" {
			w.violate("14", "a %s of job %s is never answered", a.kind, a.id)
		} else if a.abandoned || !slices.Contains(a.worker.claiming, c) {
			w.violate("14", "a claim is never answered")
		}
	}
	if n := len(w.engine.flying); n > 0 {
		w.violate("leak", "%d claims are under way for ever", n)
	}
	for id, ent := range w.engine.jobs {
		if t := w.tracks[id]; ent.op != nil || ent.job == nil || !t.deleted {
			w.violate("leak", "the engine still knows of job %s: %+v", id, ent.job)
		}
	}
	for _, ew := range w.engine.sortedWorkers() {
		for claim, id := range ew.running {
			if w.tracks[id].deleted {
				continue
			}
			w.violate("leak", "worker %d is thought to run job %s under %s", ew.ID[0], id, claim)
		}
	}
	for _, id := range w.ids {
		t := w.tracks[id]
		j := w.store.jobs[id]
		if t.deleted || len(t.versions) == 0 {
			continue
		}
		if j == nil {
			w.violate("1", "job %s is gone", id)
			continue
		}
		if j.DueAt != 0 && j.DueAt < w.now-3*second {
			w.violate("14", "job %s was due at %d, and nothing happened by %d", id, j.DueAt, w.now)
		}
		if !j.Purged {
			if done := w.store.dones[id]; (j.State == StateCompleted) != (done != nil) {
				w.violate("5", "job %s is %s, its result is %v", id, j.State, done)
			}
			if w.store.specs[id] == nil {
				w.violate("1", "job %s has lost its payload", id)
			}
			if j.Reason == "" && j.State != StateCompleted {
				w.violate("14", "job %s is %s without a reason", id, j.State)
			}
		}
		w.checkOutbox(j)
		if j.Price > 0 && (t.paid != 1 || t.owed != 1) {
			w.violate("6", "job %s is settled or repaid %d times, owed %d", id, t.paid, t.owed)
		}
		if w.keys[id] && j.Custody.vaulted() && (j.AckedAt != 0 || j.Purged) {
			w.violate("9", "job %s was acknowledged, and its keys are there", id)
		}
	}
}

// checkOutbox finds the end of a job with a webhook in the outbox, once, and all
// that is to be told of it; of another job nothing.
func (w *world) checkOutbox(j *Job) {
	var told []Delivery
	for key, doc := range w.store.docs {
		if key[0] != DocWebhook || !strings.HasSuffix(key[1], j.ID.String()) {
			continue
		}
		var d Delivery
		if err := json.Unmarshal(doc.Body, &d); err != nil || d.State != j.State.String() || d.Account != j.Account || d.Since != j.EndedAt {
			w.violate("14", "job %s is %s, and the outbox has %s (%v)", j.ID, j.State, doc.Body, err)
		}
		if done := w.store.dones[j.ID]; done != nil && d.Verification != done.Verification {
			w.violate("14", "job %s is %s, and the outbox has %s", j.ID, done.Verification, doc.Body)
		}
		if hook := w.store.docs[[2]string{DocHook, d.Hook()}]; hook.Version != 1 {
			w.violate("14", "nothing says where the end of job %s is told", j.ID)
		}
		told = append(told, d)
	}
	if j.Notify && len(told) != 1 || !j.Notify && len(told) != 0 {
		w.violate("14", "the end of job %s is %d times in the outbox (webhook: %t)", j.ID, len(told), j.Notify)
	}
}

// TestEngineModel drives the engine through anything that can happen, and compares
// with the model after each step and once everything has come to rest.
// RAPID_CHECKS and RAPID_STEPS make it deeper.
func TestEngineModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := &rapidDice{t}
		w := newWorld(d, planted{})
		acts := map[string]func(*rapid.T){"": func(t *rapid.T) {
			w.check()
			if len(w.violated) > 0 {
				t.Fatal(w.story())
			}
		}}
		for _, a := range w.actions() {
			for i := range (a.weight + 4) / 5 {
				acts[a.name+" "+strconv.Itoa(i)] = func(t *rapid.T) {
					d.t = t
					a.do(w)
				}
			}
		}
		t.Repeat(acts)
		w.drain()
		if len(w.violated) > 0 {
			t.Fatal(w.story())
		}
	})
}

// envInt is a number that makes a test deeper.
func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// run plays a seeded world for some steps, and drains it.
func runWorld(seed uint64, steps int, m planted) *world {
	w := newWorld(seeded(seed), m)
	actions := w.actions()
	for range steps {
		w.act(actions)
		if len(w.violated) > 0 {
			return w
		}
	}
	w.drain()
	return w
}

// TestEngineWorlds is the model on long seeded runs: CONSIGN_SEEDS and
// CONSIGN_STEPS make it deeper.
func TestEngineWorlds(t *testing.T) {
	seeds, steps := envInt("CONSIGN_SEEDS", 40), envInt("CONSIGN_STEPS", 600)
	first := envInt("CONSIGN_SEED", 1)
	completed, jobs := 0, 0
	for seed := first; seed < first+seeds; seed++ {
		w := runWorld(uint64(seed), steps, planted{})
		if len(w.violated) > 0 {
			t.Errorf("seed %d, after %d steps:\n%s", seed, w.steps, w.story())
			if !testing.Verbose() {
				return
			}
		}
		for _, tr := range w.tracks {
			jobs++
			if tr.done != nil {
				completed++
			}
		}
	}
	t.Logf("%d jobs, %d completed", jobs, completed)
	if completed == 0 {
		t.Error("nothing was ever completed: the test tests nothing")
	}
}
