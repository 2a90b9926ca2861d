package consign_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// Faults that others shipped (RELIABILITY.md), each by its number.

// bubble runs a test in a bubble of time.
func bubble(t *testing.T, f func(t *testing.T)) { t.Helper(); synctest.Test(t, f) }

// second starts another coordinator on the rig's store, on the store as it is:
// the rig's own faults are not its.
func (r *rig) second(faults testkit.Faults) (q *consign.Queue, stop func()) {
	r.t.Helper()
	c := r.config
	c.Store = &testkit.FaultStore{Store: r.store.Store, Faults: faults}
	return testkit.Start(r.t, c)
}

// quiet is a hand that only claims: what follows is up to the test.
func (r *rig) quiet(api consign.WorkerAPI) (h *hand, claim func() consign.Assignment) {
	r.t.Helper()
	h = &hand{r: r, id: seededIdentity(uint64(len(r.hands)) + 100), caps: anyTask, api: api, leave: func() {}}
	r.hands = append(r.hands, h)
	h.open(context.Background())
	return h, func() consign.Assignment {
		r.t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		a, err := h.now().Claim(ctx)
		if err != nil {
			r.t.Fatal("claim: ", err)
		}
		return a
	}
}

func claimOf(a consign.Assignment) consign.Claim { return consign.Claim{Job: a.Job, Claim: a.Claim} }

// beats sends a heartbeat that lists the claims.
func (h *hand) beats(claims ...consign.Claim) (consign.HeartbeatReply, error) {
	return h.now().Heartbeat(context.Background(), consign.Heartbeat{Capabilities: h.caps, Claims: claims})
}

// The reaper overwrote a job that completed after its scan.
func TestRiver1302_ReaperLosesToACompletion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.store.Wrong = testkit.WrongOn(1, testkit.Fault{Delay: 5 * time.Second}, consign.EventLeaseLost)
		})
		defer r.stop()
		r.credit(rigPrice)
		h, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		a := claim()
		other, stop := r.second(testkit.First(1000, "Lapsed", loseIt)) // which does not reap
		defer stop()
		time.Sleep(r.config.Lease + 3*time.Second) // the reaper's write is on its way
		h.api = other
		h.open(context.Background())
		if err := h.complete(a); err != nil {
			t.Fatal("a completion before the reaper's commit: ", err)
		}
		time.Sleep(time.Minute)
		if j := r.job(req.ID); j.State != consign.StateCompleted {
			t.Errorf("the job that completed is %s", j.State)
		}
		r.checkLog(req.ID)
	})
}

// A full batch of jobs that could not be rescued starved the others.
func TestRiver1318_StuckJobsStarveNobody(t *testing.T) {
	for _, kind := range []consign.EventKind{consign.EventLeaseLost, consign.EventExpire} {
		t.Run(kind.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				stuck := map[consign.JobID]bool{}
				r := newRig(t, func(r *rig) {
					r.config.Prices = nil
					r.store.Refuse = func(c *consign.Change) error {
						if c.Job != nil && stuck[c.Job.ID] && len(c.Log) > 0 && c.Log[0].Event == kind {
							return errPlanted
						}
						return nil
					}
				})
				defer r.stop()
				const n = 700 // more than any batch
				var ids []consign.JobID
				for i := range n + 1 {
					req := r.request()
					if kind == consign.EventExpire {
						req.QueueTime = time.Second
					}
					stuck[req.ID] = i < n // the last one could be moved
					ids = append(ids, req.ID)
					r.submit(req)
					time.Sleep(time.Microsecond)
				}
				if kind == consign.EventLeaseLost {
					h := &hand{r: r, id: seededIdentity(500), caps: anyTask, api: r.q, leave: func() {}}
					h.caps.Slots = n + 1
					h.open(context.Background())
					for range n + 1 {
						if _, err := h.now().Claim(context.Background()); err != nil {
							t.Fatal(err)
						}
						time.Sleep(time.Microsecond)
					}
				}
				time.Sleep(r.config.Lease + 20*time.Second)
				j := r.job(ids[n])
				if kind == consign.EventExpire && j.State != consign.StateExpired || kind == consign.EventLeaseLost && j.Faults == 0 {
					t.Errorf("behind %d jobs that are stuck, one that is not is still %s", n, j.State)
				}
			})
		})
	}
}

// Timeouts of 0 and -1 misread.
func TestRiver1287_1125_1331_ZeroAndNegativeTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices, r.config.Lease = nil, 10*time.Minute }) // a tick a minute
		defer r.stop()
		req := r.request() // all zero
		r.submit(req)
		time.Sleep(100 * time.Hour)
		if j := r.job(req.ID); j.State != consign.StateQueued {
			t.Errorf("a job without times of its own is %s: %s", j.State, j.Reason)
		}
		for name, change := range map[string]func(*consign.SubmitRequest){
			"delay":            func(r *consign.SubmitRequest) { r.Delay = -1 },
			"queue_time":       func(r *consign.SubmitRequest) { r.QueueTime = -1 },
			"deadline_seconds": func(r *consign.SubmitRequest) { r.Deadline = -1 },
			"max_attempts":     func(r *consign.SubmitRequest) { r.MaxAttempts = -1 },
		} {
			req := r.request()
			change(&req)
			_, err := r.sub.Submit(context.Background(), req)
			if fe, ok := errors.AsType[*consign.FieldError](err); !ok || fe.Field != name {
				t.Errorf("%s of -1: %v", name, err)
			}
		}
		for name, change := range map[string]func(*consign.Config){
			"lease": func(c *consign.Config) { c.Lease = -1 }, "attempt_limit": func(c *consign.Config) { c.AttemptLimit = -1 },
			"queue_time": func(c *consign.Config) { c.QueueTime = -1 }, "retention": func(c *consign.Config) { c.Retention = -1 },
		} {
			c := consign.Config{Store: memdb.New()}
			change(&c)
			if _, err := consign.New(c); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("a %s of -1: %v", name, err)
			}
		}
	})
}

// One undecodable row stalled its whole batch.
func TestRiver1324_UndecodableLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := memdb.New()
		bad := &consign.Job{ID: consign.NewJobID(), Version: 1, State: consign.StateQueued, Account: "acme", Lane: "%%%=&not a lane", Key: 1, MaxAttempts: 1,
			DueAt: consign.At(time.Now().Add(time.Second)), QueueUntil: consign.At(time.Now().Add(time.Second))}
		if errs, err := store.Apply(context.Background(), []consign.Change{{Job: bad, Spec: &consign.Spec{ID: bad.ID}}}); err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
		r := newRig(t, func(r *rig) { r.store.Store = store; r.config.Prices = nil })
		defer r.stop()
		r.hire(anyTask, nil)
		for range 20 {
			if info := r.wait(r.submit(r.request()).ID); info.State != consign.StateCompleted {
				t.Fatalf("a good job is %s", info.State)
			}
		}
		time.Sleep(5 * time.Second)
		if info, err := r.sub.Get(context.Background(), bad.ID); err != nil || info.State != consign.StateExpired {
			t.Errorf("the bad job is not findable, or not in its time expired: %+v, %v", info, err)
		}
	})
}

// A lost notification meant a missed cancel: here there is none, and the
// worker hears of a cancel at another coordinator with a heartbeat.
func TestRiver_CancelReachesTheWorkerOfAnotherCoordinator(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		h, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		a := claim()
		other, stop := r.second(nil)
		defer stop()
		if info, err := other.Submitter("acme").Cancel(context.Background(), req.ID); err != nil || info.State != consign.StateCancelled {
			t.Fatal(info, err)
		}
		heard := false
		for range 4 {
			reply, err := h.beats(claimOf(a))
			if err != nil {
				t.Fatal(err)
			}
			heard = heard || len(reply.Lost) > 0
			time.Sleep(r.config.Lease / 3)
		}
		if !heard {
			t.Error("the worker never heard of the cancel")
		}
	})
}

// A cancel arrived during the fetch.
func TestRiver_CancelDuringTheClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) {
			r.config.Prices = nil
			r.store.Wrong = testkit.WrongOn(1, testkit.Fault{Delay: time.Second}, consign.EventClaim)
		})
		defer r.stop()
		h, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		got := make(chan consign.Assignment, 1)
		go func() { got <- claim() }()
		time.Sleep(time.Second / 2) // the claim is on its way
		info, err := r.sub.Cancel(context.Background(), req.ID)
		if err != nil || info.State != consign.StateCancelled {
			t.Fatal(info, err)
		}
		a := <-got
		reply, err := h.beats(claimOf(a))
		if err != nil || len(reply.Lost) != 1 || reply.Lost[0] != claimOf(a) {
			t.Errorf("the worker hears %+v, %v", reply, err)
		}
		if err := h.complete(a); !errors.Is(err, consign.ErrLeaseLost) || !errors.Is(err, consign.ErrCancelled) {
			t.Errorf("a completion of the cancelled job: %v", err)
		}
	})
}

// overtaken returns a job that was taken from its first holder and given to a
// second one.
func overtaken(r *rig) (first, second *hand, old, now consign.Assignment) {
	r.t.Helper()
	first, claim := r.quiet(r.q)
	second, claimToo := r.quiet(r.q)
	r.submit(r.request())
	old = claim()
	time.Sleep(r.config.Lease + 4*time.Second)
	now = claimToo()
	if now.Job != old.Job || now.Claim == old.Claim {
		r.t.Fatal("the job was not given to another")
	}
	return first, second, old, now
}

// A late ack was accepted for another consumer's redelivery.
func TestNATS4786_LateCompletionOfAnothersClaim(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		first, second, old, now := overtaken(r)
		before := *r.job(old.Job)
		if err := first.complete(old); !errors.Is(err, consign.ErrLeaseLost) {
			t.Errorf("the late completion: %v", err)
		}
		if j := r.job(old.Job); j.Version != before.Version || j.State != consign.StateRunning || j.Claim != now.Claim {
			t.Errorf("the late completion changed the job: %+v", j)
		}
		stolen := first.completion(old, []byte("x"))
		stolen.Claim.Claim = now.Claim // it would have to guess 16 random bytes
		if err := first.deliver(stolen); err == nil {
			t.Error("a completion under another worker's claim is accepted")
		}
		if err := second.complete(now); err != nil {
			t.Errorf("the holder's completion: %v", err)
		}
	})
}

// A stale owner wrote failure fields on the new owner's job.
func TestBull1416_StaleOwnerFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		first, second, old, now := overtaken(r)
		before := *r.job(old.Job)
		ctx, s := context.Background(), first.now()
		for name, err := range map[string]error{
			"fail":    s.Fail(ctx, consign.Failure{Claim: claimOf(old), Kind: consign.FailPayload, Reason: "mine"}),
			"release": s.Release(ctx, consign.Release{Claim: claimOf(old), Reason: "mine"}),
			"report":  s.Report(ctx, consign.Report{Claim: claimOf(old), Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte("mine")}}}),
		} {
			if !errors.Is(err, consign.ErrLeaseLost) {
				t.Errorf("a stale %s: %v", name, err)
			}
		}
		after := *r.job(old.Job)
		after.LeaseUntil = before.LeaseUntil
		if after != before {
			t.Errorf("a stale holder changed the job from %+v to %+v", before, after)
		}
		for _, e := range r.log(old.Job) {
			if e.Event == consign.EventReport {
				t.Error("a stale holder's line is in the log")
			}
		}
		if err := second.complete(now); err != nil {
			t.Error(err)
		}
	})
}

// A heartbeat in flight overtook the completion and reported a false lost
// lease.
func TestSilo399_HeartbeatOvertakesCompletion(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, late := range []string{"Renew", "Apply"} {
			r := newRig(t, func(r *rig) {
				r.config.Prices = nil
				r.store.Faults = func(c testkit.Call) testkit.Fault {
					if c.Method == "Renew" && late == "Renew" {
						return testkit.Fault{Delay: 5 * time.Second}
					}
					return testkit.Fault{}
				}
				if late == "Apply" { // committed, and the answer takes its time
					r.store.Faults = func(c testkit.Call) testkit.Fault {
						if c.Method == "Apply" && c.N > 4 {
							return testkit.Fault{Late: 5 * time.Second}
						}
						return testkit.Fault{}
					}
				}
			})
			h, claim := r.quiet(r.q)
			r.submit(r.request())
			a := claim()
			if _, err := h.beats(claimOf(a)); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- h.complete(a) }()
			for range 20 {
				time.Sleep(time.Second)
				reply, err := h.beats(claimOf(a)) // the worker thinks that it holds it still
				if err != nil {
					t.Fatal(err)
				}
				if len(reply.Lost) > 0 {
					t.Errorf("late %s: a completed claim is told to be lost", late)
				}
			}
			if err := <-done; err != nil {
				t.Errorf("late %s: the completion: %v", late, err)
			}
			r.stop()
		}
	})
}

// Receive computed `now` before it took the write lock and returned nothing
// with a message waiting.
func TestGoqite_DelayedJobComesAtItsTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		_, claim := r.quiet(r.q)
		for _, delay := range []time.Duration{time.Microsecond, time.Millisecond, 777777 * time.Microsecond, 20 * time.Second} {
			req := r.request()
			req.Delay = delay
			info := r.submit(req)
			claim()
			if late := time.Since(info.CreatedAt) - delay; late < 0 || late > 10*time.Microsecond {
				t.Errorf("a job with a delay of %s was claimed %s after it", delay, late)
			}
			if _, err := r.sub.Cancel(context.Background(), req.ID); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// One UPDATE per heartbeat saturated the database at 100-500 workers.
func TestHatchet2604_HeartbeatsAreGathered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var renews, applies atomic.Int64
		r := newRig(t, func(r *rig) {
			r.config.Prices = nil
			r.store.Faults = func(c testkit.Call) testkit.Fault {
				switch c.Method {
				case "Renew":
					renews.Add(1)
				case "Apply":
					applies.Add(1)
				}
				return testkit.Fault{}
			}
		})
		defer r.stop()
		const n = 300
		var hands []*hand
		var claims []consign.Claim
		for i := range n {
			h := &hand{r: r, id: seededIdentity(uint64(1000 + i)), caps: anyTask, api: r.q}
			h.open(context.Background())
			r.submit(r.request())
			a, err := h.now().Claim(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			hands, claims = append(hands, h), append(claims, claimOf(a))
		}
		began := applies.Load()
		renews.Store(0)
		const minutes = 2
		for range minutes * 60 / 3 {
			for i, h := range hands {
				if _, err := h.beats(claims[i]); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(3 * time.Second)
		}
		ticks := int64(minutes * time.Minute / (r.config.Lease / 10))
		if got := renews.Load(); got > ticks+2 || got < ticks/4 {
			t.Errorf("%d heartbeats are %d renewals, want about one in %s", n*minutes*20, got, r.config.Lease/10)
		}
		if got := applies.Load() - began; got > 2 {
			t.Errorf("heartbeats are %d changes", got)
		}
		for _, c := range claims {
			if j := r.job(c.Job); j.State != consign.StateRunning || j.Claim != c.Claim {
				t.Fatalf("a job whose worker is alive is %s", j.State)
			}
		}
	})
}

// An impossible job showed "queue position 4" for ever; a worker and a model
// that never match.
func TestAIHorde161_539_ImpossibleJobSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		caps := consign.Capabilities{Kinds: []string{consign.KindInference}, Models: []string{"llama3.1:8b"}, MaxContextTier: 1, Encryption: true, Slots: 1}
		r.hire(caps, nil)
		req := r.request()
		req.Kind, req.Model, req.QueueTime = consign.KindInference, "llama3.1:70b", 20*time.Second
		consign.SealFor(&r.config, nil, &req, 0)
		r.submit(req)
		x, err := r.sub.Explain(context.Background(), req.ID)
		if err != nil || x.Capable != 0 || x.Workers != 1 || x.Filtered[consign.ReasonModel] != 1 || !strings.Contains(x.Reason, "model") {
			t.Errorf("explained as %+v, %v", x, err)
		}
		info := r.wait(req.ID)
		if info.State != consign.StateExpired || !strings.Contains(info.Reason, "model") {
			t.Errorf("the job is %s: %s", info.State, info.Reason)
		}
	})
}

// An invalid result counted as a success.
func TestBOINC1005_InvalidResultIsNoSuccess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		defer r.stop()
		r.credit(rigPrice)
		h, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		a := claim()
		c := h.completion(a, []byte("mine"))
		c.Result = []byte("other")
		if err := h.deliver(c); !errors.Is(err, consign.ErrBadResult) {
			t.Fatalf("a bad result: %v", err)
		}
		if j := r.job(req.ID); j.State == consign.StateCompleted || j.Faults != 1 {
			t.Errorf("the job is %s after a bad result", j.State)
		}
		if _, err := r.sub.Receipt(context.Background(), req.ID); !errors.Is(err, consign.ErrNotFound) {
			t.Errorf("a bad result has a receipt: %v", err)
		}
		if b := r.balance(); b.Spent != 0 || b.Held != rigPrice {
			t.Errorf("a bad result was paid for: %+v", b)
		}
		time.Sleep(10 * time.Second)
		w, err := r.q.Worker(context.Background(), consign.WorkerID(h.id.Public().ID()))
		if err != nil || w.Standing.Strikes != 1 || w.Standing.N != 0 {
			t.Errorf("the worker's standing is %+v, %v", w.Standing, err)
		}
		// The good one is another's.
		r.hire(anyTask, nil)
		if info := r.wait(req.ID); info.State != consign.StateCompleted || info.Worker == consign.WorkerID(h.id.Public().ID()) {
			t.Errorf("the job is %s by %s", info.State, info.Worker)
		}
	})
}

// An honest worker was punished for a poison payload or an abort.
func TestAIHordeWorker69_BOINC361_PoisonPayloadIsNobodysFault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		h := r.hire(anyTask, func(h *hand, a consign.Assignment) error {
			h.mu.Lock()
			n := len(h.got)
			h.mu.Unlock()
			kind := []consign.FailKind{consign.FailPayload, consign.FailTransient, consign.FailRefused}[n%3]
			return h.now().Fail(context.Background(), consign.Failure{Claim: claimOf(a), Kind: kind, Reason: "the payload crashes the engine"})
		})
		for range 30 {
			if info := r.wait(r.submit(r.request()).ID); info.State != consign.StateFailed {
				t.Fatalf("a poison payload is %s", info.State)
			}
		}
		time.Sleep(time.Minute)
		w, err := r.q.Worker(context.Background(), consign.WorkerID(h.id.Public().ID()))
		if err != nil || w.Standing.Strikes != 0 || w.Standing.State() != consign.StandingActive {
			t.Errorf("the worker's standing is %+v, %v", w.Standing, err)
		}
	})
}

// Ghost work: results were lost or doubled after a reconnect.
func TestBacalhau3861_4114_SkyPilot7117_ResultAfterAReconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// An impatient program: a queue that waits for what is running would
		// end with the lease, and the reaper would race with the completion.
		r := newRig(t, func(r *rig) { r.config.DrainTimeout = time.Millisecond })
		defer r.stop()
		r.credit(2 * rigPrice)
		h, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		a := claim()
		r.stop()
		r.start() // a new process: sessions are gone, claims are not
		h.api = r.q
		h.open(context.Background())
		c := h.completion(a, []byte("after the reconnect"))
		for i := range 3 {
			if err := h.deliver(c); err != nil {
				t.Fatalf("the completion, sent for the %d. time: %v", i+1, err)
			}
		}
		other := h.completion(a, []byte("another"))
		if err := h.deliver(other); !errors.Is(err, consign.ErrConflict) {
			t.Errorf("another result under the claim: %v", err)
		}
		info := r.wait(req.ID)
		if string(info.Result) != "after the reconnect" {
			t.Errorf("the result is %q", info.Result)
		}
		time.Sleep(time.Minute)
		if b := r.balance(); b.Spent != rigPrice || b.Held != 0 {
			t.Errorf("the balance is %+v", b)
		}
	})
}

// An engine that was told of a poison ticket goes on with the others of its
// lane (River #1324, for a row that the store cannot write).
func TestRiver1324_PoisonTicket(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var poison consign.JobID
		r := newRig(t, func(r *rig) {
			r.config.Prices = nil
			r.store.Refuse = func(c *consign.Change) error {
				if c.Job != nil && c.Job.ID == poison && c.Job.State == consign.StateRunning {
					return errPlanted
				}
				return nil
			}
		})
		defer r.stop()
		req := r.request()
		poison = req.ID
		req.QueueTime = time.Minute
		r.submit(req)
		r.hire(anyTask, nil)
		began := time.Now()
		for range 50 {
			if info := r.wait(r.submit(r.request()).ID); info.State != consign.StateCompleted {
				t.Fatalf("a job behind a poison ticket is %s", info.State)
			}
		}
		if took := time.Since(began); took > 50*time.Second {
			t.Errorf("50 jobs behind a poison ticket took %s", took)
		}
		if info := r.wait(req.ID); info.State != consign.StateExpired {
			t.Errorf("the poison job is %s: %s", info.State, info.Reason)
		}
	})
}

// The owner ends anybody's job, and says why; what has ended stays as it is.
func TestOwnerCancels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		h, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		a := claim()
		for _, bad := range []string{strings.Repeat("x", 5000), "\xff", "a\x00"} {
			if _, err := r.q.Cancel(context.Background(), req.ID, bad); !isField(err, "reason") {
				t.Errorf("the reason %.10q: %v", bad, err)
			}
		}
		info, err := r.q.Cancel(context.Background(), req.ID, "the region is closed")
		if err != nil || info.State != consign.StateCancelled || info.Reason != "the region is closed" {
			t.Fatal(info, err)
		}
		if err := h.complete(a); !errors.Is(err, consign.ErrLeaseLost) || !errors.Is(err, consign.ErrCancelled) {
			t.Errorf("a completion of the cancelled job: %v", err)
		}
		again, err := r.q.Cancel(context.Background(), req.ID, "")
		if err != nil || again.Reason != info.Reason {
			t.Errorf("cancelled again: %+v, %v", again, err)
		}
		other := r.request()
		r.submit(other)
		if info, err := r.q.Cancel(context.Background(), other.ID, ""); err != nil || info.Reason != "cancelled by the queue's owner" {
			t.Errorf("without a reason: %+v, %v", info, err)
		}
		if _, err := r.q.Cancel(context.Background(), consign.NewJobID(), ""); !errors.Is(err, consign.ErrNotFound) {
			t.Errorf("a job that is not there: %v", err)
		}
	})
}
