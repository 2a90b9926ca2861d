package consign

import "time"

// timers is what the engine does because time passes.
type timers struct {
	due     Instant // a stored job may be due from here on; zero: none known
	reading bool    // readDue is under way
	moving  int     // due or lapsed jobs that are being moved: what they come to is known before more are read
	stuck   int     // those that could not be moved: read past them

	tick    Instant              // the next renewal, lapse scan and sweep
	scan    bool                 // readLapsed is under way
	renewed map[ClaimID]WorkerID // heartbeats since the last tick, and whose
	renewal []Renewal            // the same, in the order of their coming

	lanes []laneRetry // pages that could not be read
}

type laneRetry struct {
	at   Instant
	lane *lane
}

const (
	timerBatch = 256
	// pollDue bounds how late this process notices what others made due.
	pollDue = time.Second
)

// retry reads a lane's page again, a little later.
func (t *timers) retry(e *engine, l *lane) {
	t.lanes = append(t.lanes, laneRetry{e.now.Add(100 * time.Millisecond), l})
}

// tickInterval is a tenth of a lease: how late a renewal reaches the store,
// and a lapsed lease is noticed.
func (e *engine) tickInterval() time.Duration { return max(e.config.Lease/10, 10*time.Millisecond) }

// passTime does what has become due by now.
func (e *engine) passTime() {
	t := &e.timer
	if e.closing { // those who still work keep their leases, and no more
		if t.tick <= e.now {
			t.tick = e.now.Add(e.tickInterval())
			e.flushRenewals()
		}
		return
	}
	if t.due != 0 && t.due <= e.now && !t.waits() {
		t.reading, t.due = true, 0
		e.out.reads = append(e.out.reads, read{kind: readDue, n: timerBatch + t.stuck})
	}
	if t.tick <= e.now {
		t.tick = e.now.Add(e.tickInterval())
		e.flushRenewals()
		e.pump.retry()
		e.sweepWorkers()
		if !t.scan {
			t.scan = true
			e.out.reads = append(e.out.reads, read{kind: readLapsed, n: timerBatch + t.stuck})
		}
		t.due = earliest(t.due, e.now.Add(pollDue))
	}
	if p := &e.pump; p.retryAt != 0 && p.retryAt <= e.now {
		p.again, p.retryAt = true, 0
	}
	for len(t.lanes) > 0 && t.lanes[0].at <= e.now {
		l := t.lanes[0].lane
		t.lanes = t.lanes[1:]
		if e.ready.wantsLoad(l) {
			e.readPage(l)
		}
	}
	e.wakeReady()
}

// waits reports whether the due jobs are not to be read yet. Read while those of
// the last batch are being moved, they would be the same ones again; if none of
// them can be moved, for ever.
func (t *timers) waits() bool { return t.reading || t.moving > 0 }

// nextWake is when Step has something to do without input.
func (e *engine) nextWake() Instant {
	t := &e.timer
	if e.closing {
		return t.tick
	}
	next := earliest(t.tick, e.ready.nextWake(), e.pump.retryAt)
	if !t.waits() {
		next = earliest(next, t.due)
	}
	if len(t.lanes) > 0 {
		next = earliest(next, t.lanes[0].at)
	}
	return next
}

// inDue is the store's answer to readDue.
type inDue struct {
	jobs []*Job
	next Instant
	err  error
}

func (in inDue) apply(e *engine) {
	t := &e.timer
	t.reading = false
	if in.err != nil {
		t.due = earliest(t.due, e.now.Add(pollDue))
		return
	}
	t.due = earliest(t.due, in.next)
	t.stuck = 0
	for _, j := range in.jobs {
		e.timed(j, false)
	}
}

// inLapsed is the store's answer to readLapsed.
type inLapsed struct {
	jobs []*Job
	err  error
}

func (in inLapsed) apply(e *engine) {
	e.timer.scan = false
	for _, j := range in.jobs {
		e.timed(j, true)
	}
}

// timed starts an operation on a job that time has caught up with, unless one
// is under way that will change it anyway.
func (e *engine) timed(j *Job, lapsed bool) {
	if ent := e.jobs[j.ID]; ent != nil && ent.op != nil {
		e.timer.stuck++
		e.timer.due = earliest(e.timer.due, e.now.Add(pollDue))
		return
	}
	e.timer.moving++
	e.run(&op{kind: opTime, id: j.ID, job: j, lapsed: lapsed})
}

// judgeTime says what time does to the job; done means nothing (any more).
func (e *engine) judgeTime(j *Job, o *op) (done bool) {
	if o.lapsed {
		o.ev = Event{Kind: EventLeaseLost, Reason: "the worker sent no heartbeat within the lease"}
		return j.State != StateRunning
	}
	ev, ok := j.dueEvent(e.now)
	o.ev = ev
	if ok && ev.Kind == EventExpire && j.State == StateQueued {
		o.ev.Reason += e.whyQueued(j)
	}
	return !ok
}

// renew notes that a claim is alive; the next tick tells the store. A claim
// that is known not to be the worker's is lost.
func (e *engine) renew(c Claim, w WorkerID) {
	if ent := e.jobs[c.Job]; ent != nil && ent.job != nil && (ent.job.Claim != c.Claim || ent.job.Worker != w) {
		e.run(&op{kind: opLost, id: c.Job, claim: c.Claim, worker: w})
		return
	}
	t := &e.timer
	if _, twice := t.renewed[c.Claim]; twice {
		return
	}
	if t.renewed == nil {
		t.renewed = map[ClaimID]WorkerID{}
	}
	t.renewed[c.Claim] = w
	t.renewal = append(t.renewal, Renewal{Job: c.Job, Claim: c.Claim, For: e.config.Lease})
}

// flushRenewals writes the gathered heartbeats in one go. They cost the store
// one statement a tick, however many workers there are (hatchet #2604).
func (e *engine) flushRenewals() {
	t := &e.timer
	e.out.renew, e.out.renewers = t.renewal, t.renewed
	t.renewal, t.renewed = nil, nil
}

// inRenewed is the store's answer to renewals.
type inRenewed struct {
	renewals []Renewal
	renewers map[ClaimID]WorkerID
	errs     []error
	err      error
}

func (in inRenewed) apply(e *engine) {
	for i, r := range in.renewals {
		claim, worker := Claim{r.Job, r.Claim}, in.renewers[r.Claim]
		switch {
		case in.err != nil:
			e.renew(claim, worker) // with the next tick
		case in.errs[i] != nil:
			e.run(&op{kind: opLost, id: r.Job, claim: r.Claim, worker: worker})
		}
	}
}
