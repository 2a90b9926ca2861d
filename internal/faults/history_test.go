package faults

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/consignq/consign"
)

// action is what a caller asked for.
type action string

const (
	submit   action = "submit"
	claim    action = "claim"
	complete action = "complete"
	cancel   action = "cancel"
	get      action = "get"
)

// outcome is what a caller was told.
type outcome string

const (
	acknowledged outcome = "acknowledged"
	tooLate      outcome = "too late" // a lost lease, a job that has ended
	unknown      outcome = "unknown"  // no answer, or none that says what was done
	refused      outcome = "refused"  // what an honest caller never hears
)

// call is one call about one job. Times are the machine's, in nanoseconds, so
// that the calls of several processes make one history.
type call struct {
	Action  action
	Outcome outcome
	Job     consign.JobID
	Claim   consign.ClaimID // of a claim, a completion, or the job that a get saw
	Result  [32]byte        // SHA-256 of the result of a completion, or that a get saw
	State   consign.State   // that a get saw
	Began   int64
	Ended   int64 // of an unknown outcome: never, since it may come about at any time
	Said    string
}

// history gathers calls, from many goroutines and, as JSON, other processes.
type history struct {
	mu    sync.Mutex
	calls []call
	said  map[action]int // how many were acknowledged
}

func (h *history) add(c call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, c)
	if h.said == nil {
		h.said = map[action]int{}
	}
	if c.Outcome == acknowledged {
		h.said[c.Action]++
	}
}

// read adds what another process prints, until its end.
func (h *history) read(r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var c call
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		h.add(c)
	}
}

// count is how many calls of an action were acknowledged.
func (h *history) count(a action) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said[a]
}

func now() int64 { return time.Now().UnixNano() }

// outcomeOf reads an answer.
func outcomeOf(err error) outcome {
	_, field := errors.AsType[*consign.FieldError](err)
	_, transition := errors.AsType[*consign.TransitionError](err)
	switch {
	case err == nil:
		return acknowledged
	case transition, errors.Is(err, consign.ErrLeaseLost), errors.Is(err, consign.ErrCancelled):
		return tooLate
	case field, errors.Is(err, consign.ErrConflict), errors.Is(err, consign.ErrIDTaken), errors.Is(err, consign.ErrBadResult), errors.Is(err, consign.ErrNotFound):
		return refused
	}
	return unknown
}

// jobState is all that callers can tell of a job: the model's state. A lease
// that ends is no call, so a job that is claimed again has lost its claim
// before, and one that is queued may be claimed by somebody who never heard of
// it.
type jobState struct {
	state  consign.State   // zero: there is no such job
	claim  consign.ClaimID // of the attempt that runs, or was accepted
	dead   string          // the claims that are over, one after the other
	result [32]byte
}

// over is the state with its claim ended.
func (s jobState) over() jobState {
	if s.claim != (consign.ClaimID{}) && s.state == consign.StateRunning {
		s.dead += string(s.claim[:])
		s.claim = consign.ClaimID{}
	}
	return s
}

func (s jobState) isDead(c consign.ClaimID) bool {
	for i := 0; i+16 <= len(s.dead); i += 16 {
		if s.dead[i:i+16] == string(c[:]) {
			return true
		}
	}
	return false
}

func (s jobState) open() bool {
	return s.state == consign.StateQueued || s.state == consign.StateRunning
}

// runs is the state of a job that somebody says runs under a claim.
func (s jobState) runs(c consign.ClaimID) (bool, jobState) {
	if !s.open() || s.isDead(c) {
		return false, s
	}
	if s.claim != c {
		s = s.over()
	}
	s.state, s.claim = consign.StateRunning, c
	return true, s
}

// after is the state after a call that had an outcome, and whether it can have
// had it.
func (s jobState) after(c *call) (bool, jobState) {
	if c.Outcome == refused {
		return false, s
	}
	switch c.Action {
	case submit:
		if s.state == 0 {
			s.state = consign.StateQueued
		}
		return true, s
	case claim:
		if s.isDead(c.Claim) || s.state.Terminal() {
			return false, s
		}
		return s.runs(c.Claim)
	case complete:
		return s.completed(c)
	case cancel:
		return s.cancelled(c)
	}
	return s.seen(c)
}

func (s jobState) completed(c *call) (bool, jobState) {
	current := s.state == consign.StateRunning && s.claim == c.Claim
	accepted := s.state == consign.StateCompleted && s.claim == c.Claim && s.result == c.Result
	switch {
	case c.Outcome == tooLate && current: // its lease has ended before
		s = s.over()
		s.state = consign.StateQueued
		return true, s
	case c.Outcome == tooLate:
		return !accepted, s
	case current:
		s.state, s.result = consign.StateCompleted, c.Result
		return true, s
	}
	return accepted || c.Outcome == unknown, s
}

func (s jobState) cancelled(c *call) (bool, jobState) {
	switch {
	case c.Outcome == tooLate:
		return s.state.Terminal(), s
	case s.open():
		s = s.over()
		s.state = consign.StateCancelled
		return true, s
	}
	return s.state == consign.StateCancelled || c.Outcome == unknown, s
}

// seen is the state after a get, which tells what nobody was told before.
func (s jobState) seen(c *call) (bool, jobState) {
	switch {
	case c.Outcome != acknowledged:
		return true, s
	case c.State == consign.StateRunning:
		return s.runs(c.Claim)
	case c.State == consign.StateQueued:
		if !s.open() {
			return false, s
		}
		s = s.over()
		s.state = consign.StateQueued
		return true, s
	}
	return s.state == c.State && (c.State != consign.StateCompleted || s.claim == c.Claim && s.result == c.Result), s
}

// linearizable checks that the calls about each job can have happened one after
// the other, each at some moment between its call and its answer. It returns
// the calls about a job that cannot.
func (h *history) linearizable() (jobs, calls int, bad []call) {
	model := porcupine.Model{
		Init: func() any { return jobState{} },
		Step: func(state, in, _ any) (bool, any) {
			c := in.(call)
			ok, next := state.(jobState).after(&c)
			return ok, next
		},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	of := map[consign.JobID][]porcupine.Operation{}
	for _, c := range merged(h.calls) {
		of[c.Job] = append(of[c.Job], porcupine.Operation{Input: c, Call: c.Began, Return: c.Ended})
		calls++
	}
	for _, operations := range of {
		if bad == nil && !porcupine.CheckOperations(model, operations) {
			for _, o := range operations {
				bad = append(bad, o.Input.(call))
			}
			slices.SortFunc(bad, func(a, b call) int { return cmp.Compare(a.Began, b.Began) })
		}
	}
	return len(of), calls, bad
}

// merged makes one call of those that were tried again until they were
// acknowledged: any of the tries may be the one that was carried out, and the
// others change nothing. Porcupine would try every order of them.
func merged(calls []call) (all []call) {
	type what struct {
		action action
		job    consign.JobID
		claim  consign.ClaimID
	}
	at := map[what]int{}
	for _, c := range calls {
		if c.Outcome != unknown && c.Outcome != acknowledged || c.Action == get || c.Action == claim {
			all = append(all, c)
			continue
		}
		key := what{c.Action, c.Job, c.Claim}
		i, tried := at[key]
		switch {
		case !tried:
			at[key] = len(all)
			all = append(all, c)
		case all[i].Outcome == unknown:
			c.Began = min(c.Began, all[i].Began)
			all[i] = c
		case c.Outcome == acknowledged:
			all = append(all, c) // once more, and has to be the same
		}
	}
	return all
}

// ended is when a call of an outcome took effect at the latest.
func ended(o outcome) int64 {
	if o == unknown {
		return math.MaxInt64
	}
	return now()
}

func digest(b []byte) [32]byte { return sha256.Sum256(b) }
