package consign

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
)

// pump carries out effects: what jobs do to other records. It folds the
// effects on one target into one change that writes the target and drops the
// effects, so each is applied once, no record is hot, and a crash in between
// loses nothing.
type pump struct {
	again   bool // there may be effects to read
	busy    int  // answers that the round waits for
	reading bool
	stuck   int     // effects that could not be carried out: read past them
	failed  int     // rounds, one after the other, in which something failed
	retryAt Instant // when to try again; zero: nothing failed

	// The keys that the vault is destroying: true; or could not: false, and
	// then the next tick tries again. No round waits for them, since a vault is
	// somebody else's, and a slow one must not hold up money.
	shreds map[EffectID]bool
}

const (
	pumpBatch = 512
	// maxAbsent is how many keys wait to be destroyed for a vault that this queue
	// does not have. The oldest beyond are given up: a vault that comes back
	// after so many finds by its own sweep whose jobs are over.
	maxAbsent = 4096
)

// pumpEffects starts a round if there may be something to do.
func (e *engine) pumpEffects() {
	p := &e.pump
	if !p.again || p.reading || p.busy > 0 {
		return
	}
	p.again, p.reading = false, true
	e.out.reads = append(e.out.reads, read{kind: readEffects, n: pumpBatch + p.stuck + len(p.shreds)})
	p.stuck = 0
}

// retry starts a round with all that is there: what a crash or a failed round
// has left, and the keys that could not be destroyed.
func (p *pump) retry() {
	p.again, p.retryAt = true, 0
	maps.DeleteFunc(p.shreds, func(_ EffectID, busy bool) bool { return !busy })
}

// inEffects is the store's answer to readEffects.
type inEffects struct {
	n       int // how many were asked for
	effects []Effect
	err     error
}

func (in inEffects) apply(e *engine) {
	p := &e.pump
	p.reading = false
	if in.err != nil {
		e.pumpLater()
		return
	}
	p.again = len(in.effects) == in.n
	var order []string
	byTarget := map[string][]Effect{}
	var absent []EffectID // of keys in vaults that others have, or nobody
	for _, f := range in.effects {
		if f.Kind == EffectShred {
			if e.matcher.hasVault(f.vault()) {
				e.shred(f)
			} else {
				absent = append(absent, f.ID)
			}
			continue
		}
		key := strconv.Itoa(int(f.Kind)) + f.Target
		if f.Kind == EffectRefund || f.Kind == EffectSettle {
			key = "account " + f.Target
		}
		if byTarget[key] == nil {
			order = append(order, key)
		}
		byTarget[key] = append(byTarget[key], f)
	}
	p.stuck += min(len(absent), maxAbsent)
	if n := len(absent) - maxAbsent; n > 0 {
		e.commitPump(Change{Drop: absent[:n]}, n)
	}
	for _, key := range order {
		effects := byTarget[key]
		if effects[0].Kind == EffectStrike {
			p.busy++
			e.out.reads = append(e.out.reads, read{kind: readDoc, key: effects[0].Target, op: &op{strikes: effects}})
			continue
		}
		e.commitPump(foldAccount(effects), len(effects))
	}
}

// vault names the vault that a key is to be destroyed in; "" for any. Before
// vaults had names the effect named its job.
func (f *Effect) vault() string {
	if f.Target == f.ID.Job.String() {
		return ""
	}
	return f.Target
}

// shred has a job's keys destroyed, unless that is under way or the vault has
// enough to do.
func (e *engine) shred(f Effect) {
	p := &e.pump
	if _, tried := p.shreds[f.ID]; tried {
		return
	}
	if len(p.shreds) >= pumpBatch {
		p.stuck++
		return
	}
	if p.shreds == nil {
		p.shreds = map[EffectID]bool{}
	}
	p.shreds[f.ID] = true
	e.out.shred = append(e.out.shred, f)
}

// commitPump sends a change to the store; the round waits for its answer.
func (e *engine) commitPump(c Change, effects int) {
	e.pump.busy++
	c.ID = e.changeID()
	e.out.commits = append(e.out.commits, &commit{Change: c, folded: effects})
}

// pumped is the store's answer to a change of the pump's. A failed one leaves
// its effects where they are, for the next round.
func (e *engine) pumped(oc *answer) {
	p := &e.pump
	p.busy--
	shredding := len(p.shreds) > 0
	for _, id := range oc.Drop {
		delete(p.shreds, id)
	}
	if err := errors.Join(oc.err, oc.unknown); err != nil {
		e.unpumped(oc.folded, err)
		return
	}
	p.failed = 0
	if shredding && len(p.shreds) == 0 {
		p.again = true // there may be more than were under way
	}
	for _, d := range oc.Docs {
		if d.Kind == DocWorker {
			e.workerChanged(d)
		}
	}
}

// unpumped leaves effects that could not be carried out where they are, to be
// tried again soon.
func (e *engine) unpumped(effects int, err error) {
	e.pump.stuck += effects
	if !errors.Is(err, ErrVersion) { // another coordinator carried them out
		e.out.bad = append(e.out.bad, err)
		e.pumpLater()
	}
}

// pumpLater has a round tried again, at first soon and at last with each tick:
// what failed is mostly the store, for a moment, and accounts wait for their
// money.
func (e *engine) pumpLater() {
	p := &e.pump
	if p.retryAt != 0 {
		return
	}
	p.retryAt = e.now.Add(min(storeRetry<<min(p.failed, 16), e.tickInterval()))
	p.failed++
}

// The counters of an account, in millionths: what it may spend, what is held
// for jobs under way, what it has spent.
func balanceCounter(account string) string { return "credit/balance/" + account }
func heldCounter(account string) string    { return "credit/held/" + account }
func spentCounter(account string) string   { return "credit/spent/" + account }

// holdCredit takes a job's price aside before it is admitted: credits precede
// work (seed 002).
func holdCredit(j *Job) []Delta {
	if j.Price == 0 {
		return nil
	}
	return []Delta{
		{Counter: balanceCounter(j.Account), Add: -int64(j.Price)},
		{Counter: heldCounter(j.Account), Add: int64(j.Price)},
	}
}

// foldAccount settles or repays the jobs of one account.
func foldAccount(effects []Effect) Change {
	var c Change
	var settled, repaid int64
	for _, f := range effects {
		c.Drop = append(c.Drop, f.ID)
		state := StateCompleted
		if f.Kind == EffectSettle {
			settled += f.Amount
		} else {
			repaid += f.Amount
			state = StateNone
		}
		c.Log = append(c.Log, LogEntry{Job: f.ID.Job, Seq: settleSeq, At: f.At, Event: EventSettle,
			State: state, Reason: effectNames[f.Kind] + " " + Price(f.Amount).String()})
	}
	account := effects[0].Target
	c.Counters = []Delta{{Counter: heldCounter(account), Add: -(settled + repaid)}}
	if settled > 0 {
		c.Counters = append(c.Counters, Delta{Counter: spentCounter(account), Add: settled})
	}
	if repaid > 0 {
		c.Counters = append(c.Counters, Delta{Counter: balanceCounter(account), Add: repaid})
	}
	return c
}

// inDoc is the store's answer to readDoc: the worker to strike.
type inDoc struct {
	strikes []Effect
	doc     Doc
	err     error
}

func (in inDoc) apply(e *engine) {
	e.pump.busy--
	if in.err != nil {
		e.unpumped(len(in.strikes), in.err)
		return
	}
	c, err := foldStrikes(in.doc, in.strikes)
	if err != nil {
		// It has no standing that could be moved, nor is there a session to be
		// had with it: trying for ever would only fill the log.
		e.out.bad = append(e.out.bad, fmt.Errorf("consign: %d rejected results of worker %s are not counted, since its document cannot be read: %w", len(in.strikes), in.doc.Key, err))
		c = Change{}
		for _, f := range in.strikes {
			c.Drop = append(c.Drop, f.ID)
		}
	}
	e.commitPump(c, len(in.strikes))
}

// foldStrikes moves a worker's standing by its rejected results (seed 003,
// step 7: "Repeated bad results lower the node's standing and can remove it").
func foldStrikes(doc Doc, strikes []Effect) (Change, error) {
	var c Change
	var w WorkerRecord
	if err := json.Unmarshal(doc.Body, &w); err != nil && doc.Version > 0 {
		return c, err
	}
	was := w.Standing.State().barred()
	for _, f := range strikes {
		c.Drop = append(c.Drop, f.ID)
		evidence := Evidence{Subject: w.Standing.Subject, Number: w.Standing.Row + 1, Kind: EvidenceInvalid,
			Operator: w.Operator, Job: f.ID.Job}
		next, err := w.Standing.Fold(evidence)
		if err != nil {
			return c, err
		}
		if w.Standing.State() != StandingRemoved { // then it is a person's
			w.Reason = f.Reason
		}
		w.Standing = next
	}
	if doc.Version == 0 {
		return c, nil // a worker that is forgotten has no standing to lose
	}
	body, err := json.Marshal(&w)
	if err != nil {
		return c, err
	}
	c.Docs = []Doc{{Kind: doc.Kind, Key: doc.Key, Version: doc.Version + 1, Body: body}}
	if w.Standing.State().barred() != was {
		c.Counters = []Delta{adminChanged}
	}
	return c, nil
}

// inShredded says that a job's keys are gone, or why not.
type inShredded struct {
	effect Effect
	err    error
}

func (in inShredded) apply(e *engine) {
	if in.err != nil {
		e.pump.shreds[in.effect.ID] = false
		e.out.bad = append(e.out.bad, in.err)
		return
	}
	e.commitPump(Change{Drop: []EffectID{in.effect.ID}}, 1)
}
