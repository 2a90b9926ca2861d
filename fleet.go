package consign

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// What the engine does with workers: who is there, who waits, who got what.

// inRegister is a worker that proved its identity.
type inRegister struct {
	record  WorkerRecord
	version uint64 // of its document
	caps    Capabilities
}

func (in inRegister) apply(e *engine) {
	w := e.workers[in.record.ID]
	if w == nil {
		w = &worker{running: map[ClaimID]JobID{}, uptime: e.uptimes.take(in.record.ID)}
		w.ID = in.record.ID
		e.workers[w.ID] = w
	}
	w.operator = in.record.Operator
	w.standing, w.why, w.version = in.record.Standing.State(), in.record.Reason, in.version
	w.Capabilities = in.caps
	w.FreeSlots = in.caps.Slots
	e.beat(w)
	e.classify(w)
}

// beat counts a sign of life.
func (e *engine) beat(w *worker) {
	w.seen = e.now
	w.uptime.beat(e.now, e.config.Lease)
	w.Uptime = w.uptime.share()
}

// classify puts the worker where its capabilities and pairings belong. If that
// is somewhere else, there may be work for its blocked claims; if it has fewer
// slots, there may be none for them any more.
func (e *engine) classify(w *worker) {
	was := w.class
	e.matcher.join(w, e.trusted[w.ID])
	if w.class != was || w.full() {
		e.matchWorker(w)
	}
}

// inHeartbeat is a worker's word on itself and its claims.
type inHeartbeat struct {
	*call
	worker WorkerID
	beat   Heartbeat
}

func (in inHeartbeat) apply(e *engine) {
	w := e.workers[in.worker]
	if w == nil {
		e.out.replies = append(e.out.replies, reply{call: in.call, err: e.noSession()})
		return
	}
	e.beat(w)
	w.Capabilities = in.beat.Capabilities
	w.FreeSlots = in.beat.FreeSlots
	w.MaxWarm = in.beat.MaxWarm
	w.Rates = in.beat.Rates
	e.warm(w, in.beat.Warm)
	e.classify(w)
	for _, c := range in.beat.Claims {
		e.renew(c, w.ID)
	}
	e.checkUnnamed(w, in.beat.Claims)
	e.out.replies = append(e.out.replies, reply{call: in.call, info: HeartbeatReply{Lost: w.lost, Interval: e.heartbeatInterval()}})
	w.lost = nil
}

// heartbeatInterval is how often a worker should send one.
func (e *engine) heartbeatInterval() time.Duration { return e.config.Lease / 3 }

// warm takes in which models a worker has loaded.
func (e *engine) warm(w *worker, models []WarmModel) {
	same := len(models) == len(w.Warm)
	warm := make([]Residency, 0, len(models))
	for i, m := range models {
		warm = append(warm, Residency{Model: m.Name, Since: e.now.Add(-m.Since)})
		same = same && m.Name == w.Warm[i].Model
	}
	w.Warm = warm
	if !same {
		e.matcher.rewait(w)
	}
}

// inClaim is a free slot of a worker.
type inClaim struct {
	*call
	worker WorkerID
	claim  ClaimID
}

func (in inClaim) apply(e *engine) {
	w := e.workers[in.worker]
	if w == nil {
		e.out.replies = append(e.out.replies, reply{call: in.call, err: e.noSession()})
		return
	}
	e.reclaim(&waiter{call: in.call, worker: w, claim: in.claim})
}

// reclaim finds the blocked claim a ticket, or lets it wait for one.
func (e *engine) reclaim(wt *waiter) {
	w := wt.worker
	e.landed(wt)
	if wt.abandoned {
		e.out.replies = append(e.out.replies, reply{call: wt.call, err: errAbandoned})
		return
	}
	if e.closing || e.workers[w.ID] != w {
		e.out.replies = append(e.out.replies, reply{call: wt.call, err: e.noSession()})
		return
	}
	if w.standing.barred() {
		err := fmt.Errorf("%w: its standing is %s until it is reviewed: %s", ErrRemoved, w.standing, firstOf(w.why, "by the queue's owner"))
		e.out.replies = append(e.out.replies, reply{call: wt.call, err: err})
		return
	}
	if w.full() {
		err := fmt.Errorf("%w: the worker holds %d claims and declared %d slots: claim when one has ended", ErrBusy, w.held(), w.Capabilities.Slots)
		e.out.replies = append(e.out.replies, reply{call: wt.call, err: err})
		return
	}
	for {
		job := e.matcher.pick(w, e.now)
		if job == nil {
			break
		}
		if e.assign(wt, job) {
			return
		}
	}
	e.waiters[wt.call] = wt
	e.matcher.wait(wt)
}

// assign claims the job for the waiter. It reports false for a stale ticket.
func (e *engine) assign(wt *waiter, job *Job) bool {
	if e.inHand(job) {
		return false
	}
	w := wt.worker
	o := &op{kind: opClaim, id: job.ID, job: job, ticket: job, waiter: wt, ev: Event{
		Kind: EventClaim, Claim: wt.claim, Worker: w.ID, Lease: e.config.Lease, Limit: e.attemptLimit(job, w)}}
	if job.Version == 0 {
		o.job = nil // nobody knows whether it was ever stored
	}
	e.flying[wt.call] = wt
	w.flying++
	if w.full() {
		e.matchWorker(w) // which refuses the claims that it has no slots for
	}
	e.run(o)
	return true
}

// mayRun reports whether the worker may still have the job: between two tries
// of a claim a pairing can end.
func (e *engine) mayRun(w *worker, j *Job) bool {
	l, err := e.ready.lane(j.Lane)
	return err == nil && w.class != nil && e.matcher.fits(l.group, w.class) == ""
}

// withdraw ends a claim that its worker may not have any more. One that may yet
// be stored has used up its ID: what is found for the worker next needs another.
func (e *engine) withdraw(o *op) {
	if !o.doubt {
		e.reclaim(o.waiter)
		return
	}
	e.landed(o.waiter)
	err := fmt.Errorf("%w: job %s is not for this worker any more: claim again", ErrBusy, o.id)
	e.out.replies = append(e.out.replies, reply{call: o.waiter.call, err: err})
}

// held is how many jobs the worker has, or is being given.
func (w *worker) held() int { return len(w.running) + w.flying }

func (w *worker) full() bool { return w.held() >= w.Capabilities.Slots }

// landed ends a blocked claim's being given a job.
func (e *engine) landed(wt *waiter) {
	if e.flying[wt.call] == wt {
		delete(e.flying, wt.call)
		wt.worker.flying--
	}
}

// attemptLimit bounds an attempt by what the worker declared it can do: four
// times as long as its declared rate needs for the prompt, and half a minute.
func (e *engine) attemptLimit(j *Job, w *worker) Instant {
	var limit Instant
	if d := e.config.AttemptLimit; d > 0 {
		limit = e.now.Add(d)
	}
	if len(w.Rates) == 0 {
		return limit
	}
	l, err := e.ready.lane(j.Lane)
	if err != nil {
		return limit
	}
	if rate := w.Rates[l.Needs.Model]; rate > 0 {
		seconds := min(30+4*float64(j.Chars)/rate, 1e9)
		limit = earliest(limit, e.now.Add(time.Duration(seconds*float64(time.Second))))
	}
	return limit
}

// assigned hands a committed claim to its worker.
func (e *engine) assigned(o *op, spec *Spec) {
	job := o.next.Job
	wt := o.waiter
	e.landed(wt)
	wt.worker.running[job.Claim] = job.ID
	wt.worker.FreeSlots = max(0, wt.worker.FreeSlots-1)
	if spec == nil {
		e.out.reads = append(e.out.reads, read{kind: readSpec, id: job.ID, op: o})
		return
	}
	e.out.replies = append(e.out.replies, reply{call: wt.call, job: job, spec: spec})
}

// inSpec is the store's answer to readSpec.
type inSpec struct {
	op   *op
	spec *Spec
	err  error
}

func (in inSpec) apply(e *engine) {
	job := in.op.next.Job
	// What cannot be handed out the worker never hears of: it is given back
	// where the store is in trouble, and has failed where the store has no
	// payload, since there will be none for the next worker either.
	ev := Event{Kind: EventRelease}
	if in.spec == nil && in.err == nil {
		in.err = errNoSpec
		ev = Event{Kind: EventFail, Fail: FailPayload}
	}
	if in.err != nil {
		ev.Reason = reason("the payload could not be read: " + in.err.Error())
		e.run(&op{kind: opEvent, id: job.ID, claim: job.Claim, worker: job.Worker, ev: ev})
		delete(in.op.waiter.worker.running, job.Claim) // its slot is free already
	}
	e.out.replies = append(e.out.replies, reply{call: in.op.waiter.call, job: job, spec: in.spec, err: in.err})
}

// errNoSpec answers a claim whose job is in the store without its spec, or with
// one that the store cannot read and has logged. Its ID is used up: the next
// try needs another.
var errNoSpec = fmt.Errorf("%w: the store has no spec of the job that can be read", ErrNotFound)

// claimRefused carries on after a claim that was not committed: the ticket is
// stale or the store is in trouble.
func (e *engine) claimRefused(o *op, err error) {
	if !errors.Is(err, ErrNotFound) {
		e.ready.setAside(o.ticket, e.now) // whether it is still there only the store knows
	}
	if errors.Is(err, ErrVersion) || errors.Is(err, ErrNotFound) {
		e.reclaim(o.waiter)
		return
	}
	e.landed(o.waiter)
	e.out.replies = append(e.out.replies, reply{call: o.waiter.call, err: err})
}

// errAbandoned answers inAbandon.
var errAbandoned = errors.New("consign: nobody waits for the claim")

// inAbandon is a caller that no longer waits for its claim. One that has been
// given a job gets it.
type inAbandon struct{ *call }

func (in inAbandon) apply(e *engine) {
	if wt := e.flying[in.call]; wt != nil {
		wt.abandoned = true // should it come to nothing, it does not wait again
		return
	}
	wt := e.waiters[in.call]
	if wt == nil {
		return
	}
	e.unwait(wt)
	e.out.replies = append(e.out.replies, reply{call: in.call, err: errAbandoned})
}

func (e *engine) unwait(wt *waiter) {
	delete(e.waiters, wt.call)
	e.matcher.unwait(wt)
}

// offer gives a ticket to the best of those who wait, or keeps it.
func (e *engine) offer(job *Job) {
	l, err := e.ready.lane(job.Lane)
	if err != nil {
		e.out.bad = append(e.out.bad, err)
		return
	}
	if err := e.ready.add(job, e.now); err != nil {
		e.out.bad = append(e.out.bad, err)
		return
	}
	if job.ReadyAt <= e.now {
		e.matchGroup(l.group)
	}
}

// matchGroup gives the group's tickets to those who wait for them.
func (e *engine) matchGroup(g *group) {
	for g.anyWaiting() {
		l, i, wt := e.matcher.matchIn(g, e.now)
		if wt == nil {
			return
		}
		job := e.ready.serve(l, i)
		if e.ready.wantsLoad(l) {
			e.readPage(l)
		}
		e.unwait(wt)
		if !e.assign(wt, job) {
			e.reclaim(wt)
		}
	}
}

// rematch lets those look further who waited for a page of the group and got
// nothing from it.
func (e *engine) rematch(g *group) {
	for _, l := range slices.Clone(g.links) {
		for el := l.class.waiting.Front(); el != nil; el = l.class.waiting.Front() {
			wt := el.Value.(*waiter)
			job := e.matcher.pick(wt.worker, e.now)
			if job == nil {
				break // nor would the others of its class
			}
			e.unwait(wt)
			if !e.assign(wt, job) {
				e.reclaim(wt)
			}
		}
	}
}

// wakeReady brings in tickets that have become ready.
func (e *engine) wakeReady() {
	for _, g := range e.ready.wake(e.now) {
		e.matchGroup(g)
	}
}

func (e *engine) sortedWorkers() []*worker {
	return slices.SortedFunc(maps.Values(e.workers), func(a, b *worker) int {
		return slices.Compare(a.ID[:], b.ID[:])
	})
}

// sweepWorkers forgets workers that have sent no heartbeat for three leases. A
// blocked claim alone is no sign of life.
func (e *engine) sweepWorkers() {
	for _, w := range e.sortedWorkers() {
		if e.now.Sub(w.seen) < 3*e.config.Lease {
			continue
		}
		e.dismiss(w, ErrSession)
	}
}

// noSession is why a worker is not known.
func (e *engine) noSession() error {
	if e.closing {
		return ErrClosed
	}
	return ErrSession
}

// dismiss forgets a worker and refuses its blocked claims.
func (e *engine) dismiss(w *worker, err error) {
	for _, wt := range e.matcher.leave(w) {
		delete(e.waiters, wt.call)
		e.out.replies = append(e.out.replies, reply{call: wt.call, err: err})
	}
	delete(e.workers, w.ID)
	e.uptimes.keep(w.ID, w.uptime, e.now)
	for _, id := range w.running {
		if ent := e.jobs[id]; ent != nil && ent.op == nil {
			delete(e.jobs, id) // its worker's word no longer comes here
		}
	}
}

// inStanding is what a review has made of a worker.
type inStanding struct{ doc Doc }

func (in inStanding) apply(e *engine) { e.workerChanged(in.doc) }

// workerChanged takes in a worker's new standing, unless there is word of a newer
// one: it comes by several ways, and one may be slow.
func (e *engine) workerChanged(d Doc) {
	var r WorkerRecord
	if err := json.Unmarshal(d.Body, &r); err != nil {
		e.out.bad = append(e.out.bad, err)
		return
	}
	w := e.workers[r.ID]
	if w == nil || d.Version < w.version {
		return
	}
	w.standing, w.why, w.version = r.Standing.State(), r.Reason, d.Version
	if w.standing.barred() {
		e.matchWorker(w) // which refuses its blocked claims
	}
}

// matchWorker lets a worker's blocked claims look again. What the first one
// gets may refuse the others.
func (e *engine) matchWorker(w *worker) {
	for _, wt := range w.blocked() {
		if e.waiters[wt.call] == wt {
			e.unwait(wt)
			e.reclaim(wt)
		}
	}
}

// inPause stops or resumes handing out a kind or a lane.
type inPause struct {
	what   PauseKey
	paused bool
}

func (in inPause) apply(e *engine) {
	for _, l := range e.ready.pause(in.what, in.paused) {
		e.matchGroup(l.group)
	}
}
