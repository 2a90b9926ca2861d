package consign

import (
	"encoding/binary"
	"math/bits"
	"time"
)

// transitions is the job's state machine: for each state, the events that can
// happen in it and the states that they can lead to. What is not here is a
// *TransitionError. docs/state-machine.md is drawn from it.
var transitions = [...]map[EventKind][]State{
	StateNone:    {EventSubmit: {StateQueued, StateBlocked}},
	StateBlocked: {EventUnblock: {StateQueued}, EventExpire: {StateExpired}, EventCancel: {StateCancelled}},
	StateQueued:  {EventClaim: {StateRunning}, EventExpire: {StateExpired}, EventCancel: {StateCancelled}},
	StateRunning: {
		EventComplete:  {StateCompleted, StateValidating},
		EventReject:    {StateQueued, StateFailed},
		EventFail:      {StateQueued, StateFailed},
		EventRelease:   {StateQueued},
		EventLeaseLost: {StateQueued, StateFailed},
		EventLimit:     {StateQueued, StateFailed},
		EventExpire:    {StateExpired},
		EventCancel:    {StateCancelled},
	},
	StateValidating: {EventValidate: {StateCompleted}},
	StateCompleted:  {EventAcknowledge: {StateCompleted}, EventPurge: {StateCompleted}},
	StateFailed:     {EventAcknowledge: {StateFailed}, EventPurge: {StateFailed}},
	StateCancelled:  {EventAcknowledge: {StateCancelled}, EventPurge: {StateCancelled}},
	StateExpired:    {EventAcknowledge: {StateExpired}, EventPurge: {StateExpired}},
}

// Stage is one of the fourteen steps of the pipeline (seed 002, section 3.0).
type Stage string

// The stages, in their order.
const (
	StageRequest  Stage = "request"
	StageAdmit    Stage = "admit"
	StageMatch    Stage = "match"
	StageEncrypt  Stage = "encrypt"
	StageDispatch Stage = "dispatch"
	StageDecrypt  Stage = "decrypt"
	StageExecute  Stage = "execute"
	StagePoE      Stage = "poe"
	StageReturn   Stage = "return"
	StageVerify   Stage = "verify"
	StageSample   Stage = "sample"
	StageAnchor   Stage = "anchor"
	StageDeliver  Stage = "deliver"
	StageSettle   Stage = "settle"
)

// Irreversible reports whether the stage crosses a boundary that is never
// undone: request ingress, encrypted dispatch, anchor, settle (seed 002).
func (s Stage) Irreversible() bool {
	return s == StageRequest || s == StageDispatch || s == StageAnchor || s == StageSettle
}

// Stages returns the pipeline's stages that the entry completes, in order.
// Without an anchor of its own the queue's commit is the anchor, so the entry
// that accepts a result anchors it and offers it to the submitter.
func (e *LogEntry) Stages() []Stage {
	switch {
	case e.Event == EventSubmit:
		return []Stage{StageRequest, StageAdmit}
	case e.Event == EventClaim:
		return []Stage{StageMatch, StageEncrypt, StageDispatch}
	case e.Event == EventComplete && e.State == StateValidating:
		return []Stage{StageDecrypt, StageExecute, StagePoE, StageReturn, StageVerify}
	case e.Event == EventComplete:
		return []Stage{StageDecrypt, StageExecute, StagePoE, StageReturn, StageVerify, StageSample, StageAnchor, StageDeliver}
	case e.Event == EventValidate:
		return []Stage{StageSample, StageAnchor, StageDeliver}
	case e.Event == EventSettle:
		return []Stage{StageSettle}
	}
	return nil
}

// Rules are the times that the state machine and its retries go by.
type Rules struct {
	BackoffBase  time.Duration // the wait after a first fault
	BackoffMax   time.Duration // the longest wait
	Exclusion    time.Duration // how long a retry avoids the worker that failed
	Retention    time.Duration // from the end to being forgotten
	AckRetention time.Duration // the same, from an acknowledgement
	Tombstone    time.Duration // how long a forgotten ID stays taken
}

// Transition is the outcome of an event: the job's next version, what to add
// to its log, and what it does to other records.
type Transition struct {
	Job     *Job
	Log     []LogEntry
	Effects []Effect
	Docs    []Doc // for the outbox of webhooks
}

// Next applies an event at a time. It is the state machine: pure, total, and
// the only place where a job's state changes. An event that the table does not
// have is a *TransitionError and leaves everything as it was.
func (j *Job) Next(ev *Event, now Instant, rules *Rules) (Transition, error) {
	known := int(j.State) < len(transitions) // a store may have what a newer version wrote
	if !known || transitions[j.State][ev.Kind] == nil || j.Purged && ev.Kind != EventPurge {
		return Transition{}, &TransitionError{Job: j.ID, State: j.State, Event: ev.Kind}
	}
	next := *j
	next.Version++
	next.Change = ev.Change
	next.LeaseFor = 0
	next.Reason = ev.Reason

	switch ev.Kind {
	case EventSubmit, EventUnblock:
		next.openTicket(TicketFirst, max(now, j.ReadyAt))
		next.Key = next.Key.Add(ev.Behind)
	case EventClaim:
		next.start(ev, now)
	case EventComplete:
		if ev.Drawn {
			next.State = StateValidating
		} else {
			next.end(StateCompleted, now)
		}
	case EventValidate:
		next.end(StateCompleted, now)
	case EventFail, EventReject, EventLeaseLost, EventLimit:
		next.fault(ev, now, rules)
	case EventRelease:
		next.giveBack(now, rules)
	case EventExpire:
		next.end(StateExpired, now)
	case EventCancel:
		next.end(StateCancelled, now)
	case EventAcknowledge:
		next.Reason = j.Reason
		if next.AckedAt == 0 {
			next.AckedAt = now
		}
	case EventPurge:
		next.Reason = j.Reason
		next.Purged = true
	}
	next.DueAt = next.dueAt(now, rules)
	return Transition{Job: &next, Log: next.entries(j, ev, now), Effects: next.effects(j, ev, now), Docs: next.outbox(j, ev)}, nil
}

// openTicket puts the job on the ready list.
func (j *Job) openTicket(kind TicketKind, ready Instant) {
	j.State = StateQueued
	j.Ticket = kind
	j.ReadyAt = ready
	j.Key = ticketKey(ready, j.Offset, j.Deadline)
	j.QueueUntil = 0
	if j.QueueTime > 0 {
		j.QueueUntil = ready.Add(j.QueueTime)
	}
}

func (j *Job) start(ev *Event, now Instant) {
	j.State = StateRunning
	j.Attempt++
	j.Claim, j.Worker = ev.Claim, ev.Worker
	j.ClaimedAt = now
	j.LimitAt = ev.Limit
	j.LeaseFor = ev.Lease
	j.Key, j.QueueUntil, j.ExcludeUntil = 0, 0, 0
}

// fault ends an attempt that came to nothing: back on the list after a while
// for another worker, or failed when the job has had its attempts or cannot be
// run by anyone.
func (j *Job) fault(ev *Event, now Instant, rules *Rules) {
	j.Faults++
	if ev.Kind == EventFail && ev.Fail == FailPayload || j.Faults >= j.MaxAttempts {
		j.end(StateFailed, now)
		return
	}
	wait := rules.backoff(j)
	if ev.Kind == EventFail && ev.Fail == FailRefused {
		wait = 0
	}
	j.retry(now, wait, rules)
}

// giveBack opens the ticket again. A release is nobody's fault and costs no
// attempt, but a job that everyone gives back must not spin.
func (j *Job) giveBack(now Instant, rules *Rules) {
	var wait time.Duration
	if released := j.Attempt - j.Faults; released > 3 {
		wait = rules.BackoffBase
	}
	j.retry(now, wait, rules)
}

func (j *Job) retry(now Instant, wait time.Duration, rules *Rules) {
	j.LastWorker = j.Worker
	j.ExcludeUntil = now.Add(wait).Add(rules.Exclusion)
	j.Claim, j.Worker = ClaimID{}, WorkerID{}
	j.ClaimedAt, j.LimitAt, j.LeaseUntil = 0, 0, 0
	j.openTicket(TicketRetry, now.Add(wait))
}

// backoff is exponential with full jitter in its upper half, which is taken
// from the job's ID so that the same inputs give the same outputs.
func (r *Rules) backoff(j *Job) time.Duration {
	d := r.BackoffMax
	if shift := j.Faults - 1; shift < 63 && r.BackoffBase <= r.BackoffMax>>shift {
		d = r.BackoffBase << shift
	}
	jitter := binary.BigEndian.Uint32(j.ID[:4]) ^ uint32(j.Faults)*2654435761
	part, low := bits.Mul64(uint64(d/2), uint64(jitter)) // more than 64 bits
	return d/2 + time.Duration(part<<32|low>>32)
}

func (j *Job) end(state State, now Instant) {
	j.State = state
	j.EndedAt = now
	j.Key, j.QueueUntil, j.LimitAt, j.LeaseUntil = 0, 0, 0, 0
}

// dueAt is when time alone next moves the job.
func (j *Job) dueAt(now Instant, rules *Rules) Instant {
	switch {
	case j.Purged:
		return now.Add(rules.Tombstone)
	case j.AckedAt != 0:
		return min(j.AckedAt.Add(rules.AckRetention), j.EndedAt.Add(rules.Retention))
	case j.State.Terminal():
		return j.EndedAt.Add(rules.Retention)
	case j.State == StateRunning:
		return earliest(j.LimitAt, j.Deadline)
	case j.State == StateQueued, j.State == StateBlocked:
		return earliest(j.QueueUntil, j.Deadline)
	}
	return 0
}

// dueEvent says what the passing of time does to the job at now, if anything.
func (j *Job) dueEvent(now Instant) (ev Event, ok bool) {
	switch {
	case j.DueAt == 0 || now < j.DueAt:
		return Event{}, false
	case j.State.Terminal():
		return Event{Kind: EventPurge}, true
	case j.Deadline != 0 && now >= j.Deadline:
		return Event{Kind: EventExpire, Reason: "the deadline has passed"}, true
	case j.State == StateRunning:
		return Event{Kind: EventLimit, Reason: "the attempt ran longer than it may"}, true
	default:
		return Event{Kind: EventExpire, Reason: "no worker took the job within its queue time"}, true
	}
}

// entries are the log of a transition from old to j.
func (j *Job) entries(old *Job, ev *Event, now Instant) []LogEntry {
	if ev.Kind == EventPurge || ev.Kind == EventAcknowledge && old.AckedAt != 0 {
		return nil
	}
	entry := LogEntry{Job: j.ID, Seq: seq(j.Version, 0), At: now, Event: ev.Kind, State: j.State,
		Attempt: j.Attempt, Worker: j.Worker, Reason: ev.Reason}
	if entry.Worker.IsZero() {
		entry.Worker = old.Worker // whose attempt it was
	}
	if j.Price == 0 && j.State == StateCompleted && old.State != StateCompleted {
		// Nothing is owed: settled as it completes.
		settled := LogEntry{Job: j.ID, Seq: settleSeq, At: now, Event: EventSettle, State: j.State, Attempt: j.Attempt, Worker: j.Worker}
		return []LogEntry{entry, settled}
	}
	return []LogEntry{entry}
}

// vault names the vault that the job's key is in, as far as its lane says.
func (j *Job) vault() string {
	l, err := ParseLane(j.Lane)
	if err != nil {
		return ""
	}
	return l.Needs.Vault
}

// effects are what a transition from old to j does elsewhere.
func (j *Job) effects(old *Job, ev *Event, now Instant) []Effect {
	var out []Effect
	add := func(kind EffectKind, target string, amount Price) {
		out = append(out, Effect{ID: EffectID{Job: j.ID, Seq: seq(j.Version, len(out))}, Kind: kind,
			Target: target, Amount: int64(amount), Reason: ev.Reason, At: now})
	}
	if ev.Kind == EventReject {
		add(EffectStrike, old.Worker.String(), 0)
	}
	if j.Price > 0 && j.State.Terminal() && !old.State.Terminal() {
		if j.State == StateCompleted {
			add(EffectSettle, j.Account, j.Price)
		} else {
			add(EffectRefund, j.Account, j.Price)
		}
	}
	kept := old.AckedAt == 0 && !old.Purged
	if j.Custody.vaulted() && kept && (j.AckedAt != 0 || j.Purged) {
		add(EffectShred, j.vault(), 0)
	}
	return out
}
