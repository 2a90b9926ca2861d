package consign

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// opKind is what an operation does to its job.
type opKind uint8

const (
	opSubmit opKind = iota
	opClaim
	opEvent  // of the worker that holds the claim: complete, reject, fail, release
	opReport // likewise, without a transition
	opCancel
	opAcknowledge
	opTime // due or lapsed
	opLost // a claim that could not be renewed, or is not named: lost, or completed meanwhile
	opExplain
)

// op is one operation on one job, from its call to its reply.
type op struct {
	kind opKind
	call *call // nil: nobody waits
	id   JobID
	job  *Job // as its finder saw it; nil: to be read

	account  string   // submitter's operations: whose job it must be
	owner    bool     // cancel: by the queue's owner, whosever the job is
	claim    ClaimID  // worker's operations: the claim that it must be under
	worker   WorkerID // and who sent it
	ev       Event
	done     *Done
	draft    *Job // submit: the job before its first transition
	spec     *Spec
	items    []ReportItem
	reported []LogEntry // report: the entries as they were first sent
	waiter   *waiter
	ticket   *Job     // claim: as it was in the window
	strikes  []Effect // of a worker's document that is being read
	lapsed   bool     // time: the lease is to be judged by the store

	change  ChangeID // of all its tries, so that one which comes late is known
	was     *Job     // before the change in flight
	next    Transition
	tries   int
	fresh   bool  // the job was read for it
	doubt   bool  // a try may have been applied, or may be yet
	failure error // what to refuse it with, unless one was
}

// decide settles what an operation does to its job: done with an error or
// without, or a commit that is on its way.
func (e *engine) decide(ent *entry, o *op) (done bool, err error) {
	switch o.kind {
	case opSubmit:
		return e.decideSubmit(ent, o)
	case opClaim:
		if ent.job.State != StateQueued || ent.job.ReadyAt > e.now || ent.job.Lane != o.ticket.Lane {
			if ent.job.State == StateQueued { // not ready; else somebody was faster
				ent.passed = ent.job
			}
			e.reclaim(o.waiter)
			return true, nil
		}
		if o.tries > 0 && !e.mayRun(o.waiter.worker, ent.job) {
			ent.passed = ent.job
			e.withdraw(o)
			return true, nil
		}
	case opEvent, opReport:
		if done, err := e.fence(ent.job, o); done {
			return true, err
		}
		if o.kind == opReport {
			return e.decideReport(ent, o)
		}
	case opCancel, opAcknowledge, opExplain:
		if ent.job.Account != o.account && !o.owner || ent.job.Purged {
			return true, ErrNotFound
		}
		if o.kind == opExplain {
			e.explain(o, ent.job)
			return true, nil
		}
		if o.kind == opAcknowledge && ent.job.AckedAt != 0 || o.kind == opCancel && ent.job.State == StateCancelled {
			return true, nil
		}
	case opLost:
		return e.judgeLost(ent.job, o)
	case opTime:
		if done := e.judgeTime(ent.job, o); done {
			return true, nil
		}
	}
	return e.transition(ent, o)
}

// transition applies the operation's event and sends the outcome to the store.
func (e *engine) transition(ent *entry, o *op) (done bool, err error) {
	e.nameChange(o)
	o.ev.Change = o.change
	if o.done != nil && o.ev.Kind == EventComplete {
		o.ev.Verification = o.done.Verification
	}
	o.was = ent.job
	if o.next, err = ent.job.Next(&o.ev, e.now, &e.rules); err != nil {
		if o.kind == opTime {
			e.timer.stuck++ // it stays due for ever
		}
		return true, err
	}
	c := Change{ID: o.change, Job: o.next.Job, Log: o.next.Log, Effects: o.next.Effects, Docs: o.next.Docs}
	switch {
	case o.kind == opSubmit:
		c.Spec = o.spec
		c.Docs = o.spec.hookDoc(o.next.Job)
		c.Counters = holdCredit(o.next.Job)
	case o.ev.Kind == EventComplete:
		c.Done = o.done.accepted(ent.job, e.now)
	case o.ev.Kind == EventPurge && ent.job.Purged:
		c.Delete = true
	case o.ev.Kind == EventPurge:
		c.Forget = true
	case o.lapsed:
		c.Guard = &Guard{Job: o.id, Claim: ent.job.Claim, Lapsed: true}
	}
	e.commitOp(o, c)
	return false, nil
}

// nameChange names an operation's change, once for all its tries. A store may
// carry out a try long after it was given up, and then whoever reads the job
// has to know whose work it is: of two names one would be a stranger's.
func (e *engine) nameChange(o *op) {
	if o.change == (ChangeID{}) {
		o.change = e.changeID()
	}
}

// accepted returns a copy that says when, and in whose custody the job is. A
// store may hold the one of an earlier try.
func (d *Done) accepted(j *Job, now Instant) *Done {
	done := *d
	done.AcceptedAt = now
	if d.Acceptance != nil {
		a := *d.Acceptance
		a.AcceptedAt, a.Custody = int64(now), j.Custody
		done.Acceptance = &a
	}
	return &done
}

// decideSubmit admits a new job, or recognises one that is there already.
func (e *engine) decideSubmit(ent *entry, o *op) (done bool, err error) {
	if there := ent.job; there != nil && there.State != StateNone {
		switch {
		case there.Account != o.account:
			return true, ErrIDTaken
		case there.InputHash != o.draft.InputHash:
			return true, fmt.Errorf("%w: job %s is %s, and was submitted with another payload, as the same one is when it is sealed again: get that job, or choose a new ID for another", ErrConflict, o.id, there.State)
		case laneWithVault(there.Lane, "") != laneWithVault(o.draft.Lane, "") || there.Custody != o.draft.Custody:
			return true, fmt.Errorf("%w: job %s was submitted with the same payload and other wishes (%s); choose a new ID", ErrConflict, o.id, there.Lane)
		}
		return true, nil
	}
	if ent.job == nil { // a second try: the store has none
		ent.job = o.draft
	}
	if o.spec.Privacy == PrivacyPrivate && !e.anyPaired(o.account, o.spec.Wraps) {
		return true, fmt.Errorf("%w: pair a worker with account %q first, and seal the job to it, or submit it as PUBLIC", ErrNoWorker, o.account)
	}
	return e.transition(ent, o)
}

// anyPaired reports whether the account is paired with a worker, of those that
// the job is sealed to if it is to any.
func (e *engine) anyPaired(account string, wraps []Wrap) bool {
	if wraps == nil {
		return e.pairs[account] > 0
	}
	return slices.ContainsFunc(wraps, func(w Wrap) bool { return slices.Contains(e.trusted[w.Worker], account) })
}

// fence lets only the holder of the current claim through. The same completion
// again gets the first answer.
func (e *engine) fence(j *Job, o *op) (done bool, err error) {
	current := j.Claim == o.claim && j.Worker == o.worker
	w := e.workers[o.worker]
	switch {
	case current && j.State == StateRunning:
		if w != nil {
			w.running[o.claim] = j.ID // from another process perhaps: claims outlive those
		}
		return false, nil
	case current && o.done != nil && (j.State == StateCompleted || j.State == StateValidating) && !j.Purged:
		if w != nil {
			delete(w.running, o.claim) // its slot is free
		}
		e.compareDone(o)
		return true, nil
	}
	if w != nil && o.fresh {
		delete(w.running, o.claim)
	}
	if current && j.State == StateCancelled {
		return true, fmt.Errorf("%w: %w", ErrLeaseLost, ErrCancelled)
	}
	return true, fmt.Errorf("%w: job %s is %s, not running under claim %s", ErrLeaseLost, j.ID, j.State, o.claim)
}

// compareDone answers a repeated completion once the first one has been read.
func (e *engine) compareDone(o *op) {
	again := &op{kind: o.kind, call: o.call, id: o.id, done: o.done}
	o.call = nil // the answer to readDone replies
	e.out.reads = append(e.out.reads, read{kind: readDone, id: o.id, op: again})
}

// inDone is the store's answer to readDone.
type inDone struct {
	op   *op
	done *Done
	err  error
}

func (in inDone) apply(e *engine) {
	err := in.err
	switch {
	case err != nil:
	case in.done == nil:
		err = ErrLeaseLost
	case in.done.Digest != in.op.done.Digest:
		err = fmt.Errorf("%w: claim %s was completed with another result", ErrConflict, in.done.Claim)
	}
	e.reply(in.op, nil, err)
}

// maxReports bounds the log of one attempt.
const maxReports = 100_000

// reportTick is how often a report may have a number, over a whole attempt.
const reportTick = 256 * time.Microsecond

// decideReport adds a worker's lines to the log, under the guard of its claim.
func (e *engine) decideReport(ent *entry, o *op) (done bool, err error) {
	e.nameChange(o)
	o.next = Transition{Job: ent.job}
	c := Change{ID: o.change, Guard: &Guard{Job: o.id, Claim: o.claim}, Log: o.reported}
	if o.reported != nil { // sent before: the store drops the numbers that it has
		e.commitOp(o, c)
		return false, nil
	}
	size := 0
	for _, item := range o.items {
		size += len(item.Data)
	}
	switch {
	case ent.lines+len(o.items) > maxReports:
		return true, fieldError("report", fmt.Sprintf("would be line %d of the attempt", ent.lines+1), fmt.Sprintf("send at most %d, and longer ones", maxReports))
	case ent.size+size > e.config.MaxResult:
		return true, fieldError("report", fmt.Sprintf("would bring the attempt's lines and parts to %d bytes", ent.size+size), fmt.Sprintf("send at most %d", e.config.MaxResult))
	}
	ent.lines += len(o.items)
	ent.size += size
	// The entries of this version may not be known, after a restart for one,
	// and a number that is taken would lose the line: so numbers keep up with
	// the time, which only grows.
	ent.reports = max(ent.reports, 1+int(e.now.Sub(ent.job.ClaimedAt)/reportTick))
	ent.counted = ent.job.Version
	for _, item := range o.items {
		c.Log = append(c.Log, LogEntry{Job: o.id, Seq: seq(ent.job.Version, ent.reports), At: e.now, Event: EventReport,
			State: StateRunning, Attempt: ent.job.Attempt, Worker: o.worker, Report: item.Kind, Data: item.Data})
		ent.reports++
	}
	o.reported = c.Log
	e.commitOp(o, c)
	return false, nil
}

// committed carries on after an operation's change is durable.
func (e *engine) committed(ent *entry, o *op, spec *Spec) {
	if o.kind == opReport {
		e.renew(Claim{o.id, o.claim}, o.worker)
		e.out.changed = append(e.out.changed, ent.job)
		e.reply(o, ent.job, nil)
		e.finish(ent)
		return
	}
	was, job := o.was, o.next.Job
	ent.job, ent.counted = job, job.Version
	ent.reports, ent.lines, ent.size = len(o.next.Log), 0, 0
	if len(o.next.Effects) > 0 {
		e.pump.again = true
	}
	e.timer.due = earliest(e.timer.due, job.DueAt)
	e.out.changed = append(e.out.changed, job)

	switch {
	case o.kind == opClaim:
		e.assigned(o, spec)
	default:
		if was.State == StateRunning {
			e.attemptOver(was, o.kind != opEvent)
		}
		e.reply(o, job, nil)
	}
	if was.State == StateQueued && o.kind != opClaim {
		e.ready.remove(was)
	}
	if job.State == StateQueued {
		ent.passed = job
	}
	e.finish(ent)
}

// refused undoes what an operation that did not commit has taken.
func (o *op) refused(e *engine, err error) {
	switch {
	case o.kind == opClaim:
		e.claimRefused(o, err)
		return
	case o.kind == opLost:
		if errors.Is(err, ErrNotFound) {
			e.claimLost(Claim{o.id, o.claim}, o.worker)
		}
		return
	case o.kind == opTime:
		if !errors.Is(err, ErrGuard) && !errors.Is(err, ErrNotFound) {
			e.timer.stuck++
		}
		return
	case errors.Is(err, ErrGuard):
		err = fmt.Errorf("%w: claim %s is not current", ErrLeaseLost, o.claim)
	case errors.Is(err, ErrBound):
		err = fmt.Errorf("%w: account %q does not have %s: add credit, or ask for less", ErrCredit, o.account, o.draft.Price)
	case errors.Is(err, ErrVersion):
		err = fmt.Errorf("%w: job %s is being changed by others: try again", ErrBusy, o.id)
	}
	e.reply(o, nil, err)
}

// inOp is a call about one job.
type inOp struct{ *op }

func (in inOp) apply(e *engine) { e.run(in.op) }

// inSubmit is a new job, whose draft has no times yet.
type inSubmit struct {
	*op
	delay    time.Duration
	deadline time.Duration
}

func (in inSubmit) apply(e *engine) {
	j := in.draft
	j.CreatedAt = e.now
	j.ReadyAt = e.now.Add(in.delay)
	if in.deadline > 0 {
		j.Deadline = e.now.Add(in.deadline)
	}
	lane, err := e.ready.lane(j.Lane)
	if err != nil {
		e.reply(in.op, nil, err)
		return
	}
	j.Lane, j.Account = lane.text, lane.Account // one copy of each text
	// Each has a place of its own, so that those that come at one moment are
	// handed out in the order in which they came, not in that of their IDs.
	e.arrived = max(e.now, e.arrived+1)
	in.ev.Behind = e.arrived.Sub(e.now)
	in.op.job = j
	e.run(in.op)
}
