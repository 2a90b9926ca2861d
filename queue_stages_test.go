package consign_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
)

var errPlanted = errors.New("planted fault")

// stageFault is a fault in one of the fourteen stages of seed 002. It is there
// for a while and goes away.
type stageFault struct {
	stage consign.Stage
	name  string
	shape func(r *rig)                                     // before the queue runs
	act   func(h *hand, a consign.Assignment, n int) error // what the first worker does with its n-th job
	state consign.State                                    // the job's end; StateNone: completed
}

// loseIt and dropIt are the two ways to lose an answer: before and after.
var (
	loseIt = testkit.Fault{Lose: errPlanted}
	dropIt = testkit.Fault{Drop: errPlanted}
)

func applies(n int, f testkit.Fault, kind consign.EventKind) func(*rig) {
	return func(r *rig) { r.store.Wrong = testkit.WrongOn(n, f, kind) }
}

func reads(n int, method string) func(*rig) {
	return func(r *rig) { r.store.Faults = testkit.First(n, method, loseIt) }
}

// refuse fails one kind of change with an error of its own, n times.
func refuse(n int, kind consign.EventKind) func(*rig) {
	return func(r *rig) {
		r.store.Refuse = func(c *consign.Change) error {
			if len(c.Log) > 0 && c.Job != nil && c.Log[0].Event == kind && n > 0 {
				n--
				return errPlanted
			}
			return nil
		}
	}
}

func once(f func(h *hand, a consign.Assignment) error) func(*hand, consign.Assignment, int) error {
	return func(h *hand, a consign.Assignment, n int) error {
		if n == 0 {
			return f(h, a)
		}
		return h.complete(a)
	}
}

func failing(kind consign.FailKind, reason string) func(h *hand, a consign.Assignment) error {
	return func(h *hand, a consign.Assignment) error {
		return h.now().Fail(context.Background(), consign.Failure{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Kind: kind, Reason: reason})
	}
}

var stageFaults = []stageFault{
	{stage: consign.StageRequest, name: "the store fails before the submit", shape: applies(2, loseIt, consign.EventSubmit)},
	{stage: consign.StageRequest, name: "the store's answer to the submit is lost", shape: applies(1, dropIt, consign.EventSubmit)},
	{stage: consign.StageRequest, name: "it is lost until the engine gives up", shape: applies(3, dropIt, consign.EventSubmit)},
	{stage: consign.StageRequest, name: "the store refuses the submit", shape: refuse(2, consign.EventSubmit)},
	{stage: consign.StageRequest, name: "and cannot be read", shape: func(r *rig) {
		applies(5, dropIt, consign.EventSubmit)(r)
		reads(3, "Jobs")(r)
	}},
	{stage: consign.StageAdmit, name: "the hold is not known to have cleared", shape: applies(4, dropIt, consign.EventSubmit)},
	{stage: consign.StageAdmit, name: "the store is slow", shape: applies(1, testkit.Fault{Delay: time.Minute}, consign.EventSubmit)},

	{stage: consign.StageMatch, name: "the store fails before the claim", shape: applies(2, loseIt, consign.EventClaim)},
	{stage: consign.StageMatch, name: "for longer than the engine tries", shape: applies(10, loseIt, consign.EventClaim)},
	{stage: consign.StageMatch, name: "the store's answer to the claim is lost", shape: applies(1, dropIt, consign.EventClaim)},
	{stage: consign.StageMatch, name: "until the engine gives up", shape: func(r *rig) {
		applies(1, dropIt, consign.EventClaim)(r)
		reads(10, "Jobs")(r)
	}},
	{stage: consign.StageMatch, name: "the store refuses the claim", shape: refuse(5, consign.EventClaim)},

	{stage: consign.StageEncrypt, name: "the vault is away", shape: func(r *rig) { r.vault.Faults = testkit.First(6, "Release", loseIt) }},
	{stage: consign.StageEncrypt, name: "the vault is away, and the claim cannot be given back", shape: func(r *rig) {
		r.vault.Faults = testkit.First(1, "Release", loseIt)
		applies(9, loseIt, consign.EventRelease)(r)
	}},

	{stage: consign.StageDispatch, name: "the payload cannot be read", shape: reads(3, "Specs")},
	{stage: consign.StageDispatch, name: "the claim never reaches its worker", act: once(func(h *hand, a consign.Assignment) error {
		h.mu.Lock()
		h.held = nil // it does not know of it
		h.mu.Unlock()
		return nil
	})},

	{stage: consign.StageDecrypt, name: "the worker has no such key", act: once(failing(consign.FailTransient, "key_unknown"))},
	{stage: consign.StageDecrypt, name: "the payload is not what its header says", act: once(failing(consign.FailPayload, "payload_mismatch")), state: consign.StateFailed},

	{stage: consign.StageExecute, name: "the worker is out of memory", act: once(failing(consign.FailTransient, "out of memory"))},
	{stage: consign.StageExecute, name: "the worker does not have the model any more", act: once(failing(consign.FailRefused, "no such model"))},
	{stage: consign.StageExecute, name: "the worker dies", act: once(func(h *hand, _ consign.Assignment) error {
		h.mu.Lock()
		h.silent, h.held = true, nil
		h.mu.Unlock()
		time.Sleep(time.Minute)
		return nil
	})},
	{stage: consign.StageExecute, name: "the worker never ends", shape: func(r *rig) { r.config.AttemptLimit = 15 * time.Second }, act: once(func(*hand, consign.Assignment) error {
		time.Sleep(10 * time.Minute)
		return nil
	})},
	{stage: consign.StageExecute, name: "whoever runs it fails", act: func(h *hand, a consign.Assignment, _ int) error {
		return failing(consign.FailTransient, "crash")(h, a)
	}, state: consign.StateFailed},

	{stage: consign.StagePoE, name: "the commitment is to another result", act: once(func(h *hand, a consign.Assignment) error {
		c := h.completion(a, []byte("mine"))
		c.Result = []byte("other")
		return h.deliver(c)
	})},
	{stage: consign.StagePoE, name: "the commitment is to another claim", act: once(func(h *hand, a consign.Assignment) error {
		wrong := a
		wrong.Claim = consign.NewClaimID()
		c := h.completion(wrong, []byte("mine"))
		c.Claim.Claim = a.Claim
		return h.deliver(c)
	})},

	{stage: consign.StageReturn, name: "the return is lost", act: func(h *hand, a consign.Assignment, _ int) error {
		h.through(testkit.First(2, "Complete", loseIt))
		return h.complete(a)
	}},
	{stage: consign.StageReturn, name: "its answer is lost", act: func(h *hand, a consign.Assignment, _ int) error {
		h.through(testkit.First(2, "Complete", dropIt))
		return h.complete(a)
	}},
	{stage: consign.StageReturn, name: "it comes twice", act: func(h *hand, a consign.Assignment, _ int) error {
		h.through(testkit.First(1, "Complete", testkit.Fault{Twice: true}))
		return h.complete(a)
	}},

	{stage: consign.StageVerify, name: "the signature is another's", act: once(func(h *hand, a consign.Assignment) error {
		c := h.completion(a, []byte("mine"))
		other := &hand{r: h.r, id: seededIdentity(999)}
		c.Record = other.completion(a, []byte("mine")).Record
		return h.deliver(c)
	})},
	{stage: consign.StageVerify, name: "the record is no record", act: once(func(h *hand, a consign.Assignment) error {
		c := h.completion(a, []byte("mine"))
		c.Record = []byte("{}")
		return h.deliver(c)
	})},
	{stage: consign.StageVerify, name: "the rejection is not known to have been written", shape: applies(2, dropIt, consign.EventReject), act: once(func(h *hand, a consign.Assignment) error {
		c := h.completion(a, []byte("mine"))
		c.Record = nil
		return h.deliver(c)
	})},

	// The draw is made inside the change that accepts the result.
	{stage: consign.StageSample, name: "the store refuses what the draw is part of", shape: refuse(3, consign.EventComplete)},

	// Without an anchor of its own the queue's commit of the result is the
	// anchor.
	{stage: consign.StageAnchor, name: "the store fails before the result", shape: applies(2, loseIt, consign.EventComplete)},
	{stage: consign.StageAnchor, name: "the store's answer to the result is lost", shape: applies(1, dropIt, consign.EventComplete)},
	{stage: consign.StageAnchor, name: "until the engine gives up", shape: applies(7, dropIt, consign.EventComplete)},

	{stage: consign.StageDeliver, name: "the result cannot be read", shape: reads(4, "Done")},
	{stage: consign.StageDeliver, name: "nor the job", shape: reads(12, "Jobs")},
	{stage: consign.StageDeliver, name: "the acknowledgement is lost", shape: applies(4, loseIt, consign.EventAcknowledge)},
	{stage: consign.StageDeliver, name: "its answer is lost", shape: applies(4, dropIt, consign.EventAcknowledge)},

	{stage: consign.StageSettle, name: "the effects cannot be read", shape: reads(5, "Effects")},
	{stage: consign.StageSettle, name: "the store fails before the settlement", shape: func(r *rig) { r.store.Wrong = testkit.WrongOnPump(3, loseIt) }},
	{stage: consign.StageSettle, name: "the store's answer to the settlement is lost", shape: func(r *rig) { r.store.Wrong = testkit.WrongOnPump(3, dropIt) }},
	{stage: consign.StageSettle, name: "the vault does not shred", shape: func(r *rig) { r.vault.Faults = testkit.First(3, "Shred", loseIt) }},
	{stage: consign.StageSettle, name: "the vault shreds, and does not say so", shape: func(r *rig) { r.vault.Faults = testkit.First(3, "Shred", dropIt) }},
}

// A fault in any stage leaves a defined state, and when it goes away the job
// completes, or has ended with a reason (seed 003: "A failure inside any step
// rolls back to a defined state; nothing leaves an in-between condition").
func TestStageFaults(t *testing.T) {
	seen := map[consign.Stage]bool{}
	for _, f := range stageFaults {
		seen[f.stage] = true
		t.Run(string(f.stage)+"/"+f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f.run(t) })
		})
	}
	if len(seen) != 14 {
		t.Errorf("faults in %d stages of 14", len(seen))
	}
}

func (f *stageFault) run(t *testing.T) {
	r := newRig(t, f.shape)
	defer r.stop()
	r.credit(10 * rigPrice)
	n := 0
	r.hire(anyTask, func(h *hand, a consign.Assignment) error {
		n++
		if f.act == nil {
			return h.complete(a)
		}
		return f.act(h, a, n-1)
	})
	r.hire(anyTask, func(h *hand, a consign.Assignment) error {
		if f.state == consign.StateFailed {
			return f.act(h, a, 0)
		}
		return h.complete(a)
	})
	req := r.request()
	r.submit(req)
	// At any time meanwhile the job is in a state that there is.
	watch, stop := context.WithCancel(context.Background())
	defer stop()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for watch.Err() == nil {
			if j := r.job(req.ID); j == nil || j.State < consign.StateQueued || j.State > consign.StateExpired {
				t.Errorf("an undefined state: %+v", j)
			}
			sleep(watch, 50*time.Millisecond)
		}
	}()
	info := r.wait(req.ID)
	want := f.state
	if want == consign.StateNone {
		want = consign.StateCompleted
	}
	if info.State != want {
		t.Errorf("the job is %s: %s", info.State, info.Reason)
	}
	if info.State != consign.StateCompleted && info.Reason == "" {
		t.Error("the job ended without a reason")
	}
	if info.State == consign.StateCompleted && len(info.Result) == 0 {
		t.Error("the job has no result")
	}
	for range 50 {
		if err := r.sub.Acknowledge(context.Background(), req.ID); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(time.Minute) // all that is left to do
	stop()
	<-watched
	r.checkLog(req.ID)
	b := r.balance()
	if spent := map[bool]consign.Price{true: rigPrice}[want == consign.StateCompleted]; b.Held != 0 || b.Spent != spent || b.Available != 10*rigPrice-spent {
		t.Errorf("the balance is %+v", b)
	}
	if r.vault.Holds(req.ID) {
		t.Error("the keys are there, and the job was acknowledged")
	}
	if j := r.job(req.ID); j.AckedAt == 0 {
		t.Error("the acknowledgement is lost")
	}
	if log := r.log(req.ID); !slices.ContainsFunc(log, func(e consign.LogEntry) bool { return e.Event == consign.EventSettle }) {
		t.Error("the job's log does not say that it was settled")
	}
}

// A job without credit is refused before anything is stored, and admitted once
// there is some.
func TestStageAdmitWithoutCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.stop()
		req := r.request()
		if _, err := r.sub.Submit(context.Background(), req); !errors.Is(err, consign.ErrCredit) {
			t.Fatalf("a submit without credit: %v", err)
		}
		if r.job(req.ID) != nil {
			t.Error("a refused job is stored")
		}
		r.credit(rigPrice)
		r.hire(anyTask, nil)
		r.submit(req)
		if info := r.wait(req.ID); info.State != consign.StateCompleted {
			t.Errorf("the job is %s: %s", info.State, info.Reason)
		}
	})
}
