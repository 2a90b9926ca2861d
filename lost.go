package consign

import (
	"maps"
	"slices"
)

// What the engine does with attempts that end without their worker's doing, here
// or at another coordinator on the same store, which tells nobody.

// attemptOver takes an attempt off its worker's list. told says that the
// worker has to be told: it was not its own doing.
func (e *engine) attemptOver(was *Job, told bool) {
	w := e.workers[was.Worker]
	if w == nil {
		return
	}
	delete(w.running, was.Claim)
	w.FreeSlots = min(w.Capabilities.Slots, w.FreeSlots+1)
	if told {
		w.loses(Claim{was.ID, was.Claim})
	}
}

// judgeLost decides about a claim that the store would not renew. One that
// completed meanwhile is not lost: its heartbeat was under way (silo #399).
func (e *engine) judgeLost(j *Job, o *op) (done bool, err error) {
	if !o.fresh {
		return true, ErrGuard // so says the store: see what it has
	}
	current := j.Claim == o.claim && j.Worker == o.worker
	switch {
	case current && j.State == StateRunning:
	case current && (j.State == StateValidating || j.State == StateCompleted):
		if w := e.workers[o.worker]; w != nil {
			delete(w.running, o.claim) // perhaps another coordinator took the result
		}
	default:
		e.claimLost(Claim{o.id, o.claim}, o.worker)
	}
	return true, nil
}

// claimLost is a claim that is not current, as its worker will be told.
func (e *engine) claimLost(c Claim, id WorkerID) {
	if w := e.workers[id]; w != nil {
		delete(w.running, c.Claim)
		w.loses(c)
	}
}

// loses keeps a claim for the worker to be told. One that does not ask for long
// is told of the last: it hears of the others when it names them.
func (w *worker) loses(c Claim) {
	w.lost = append(w.lost, c)
	if most := max(w.Capabilities.Slots, minLost); len(w.lost) >= 2*most {
		w.lost = slices.Clone(w.lost[len(w.lost)-most:])
	}
}

const minLost = 64

// checkUnnamed asks the store about claims that the worker should name by now
// and does not, as one that was started anew. Another coordinator may have
// ended them, which nobody tells this one, and they would fill slots for ever.
func (e *engine) checkUnnamed(w *worker, named []Claim) {
	if len(w.running) <= len(named) {
		return
	}
	unnamed := maps.Clone(w.running)
	for _, c := range named {
		delete(unnamed, c.Claim)
	}
	for _, claim := range slices.SortedFunc(maps.Keys(unnamed), func(a, b ClaimID) int { return slices.Compare(a[:], b[:]) }) {
		id := unnamed[claim]
		if ent := e.jobs[id]; ent != nil {
			young := ent.job != nil && ent.job.Claim == claim && e.now.Sub(ent.job.ClaimedAt) < e.heartbeatInterval()
			if young || ent.op != nil {
				continue // the heartbeat may be older, or the claim is about to end
			}
		}
		e.run(&op{kind: opLost, id: id, claim: claim, worker: w.ID})
	}
}

// inHand reports whether the job of a ticket is being changed or run here. Then
// the ticket is kept until that is over. An attempt that is older than the
// ticket is over already: another coordinator ended it.
func (e *engine) inHand(ticket *Job) bool {
	ent := e.jobs[ticket.ID]
	if ent == nil {
		return false
	}
	if ent.op == nil && ent.job.Version < ticket.Version {
		delete(e.jobs, ticket.ID)
		e.attemptOver(ent.job, true)
		return false
	}
	ent.passed = ticket
	return true
}
