package consign_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// Faults that others shipped, each by its number, that no store could bring back,
// but the rules or the engine. The others run on each store (TestOthers).

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

// Timeouts of -1 misread. (What 0 means is in TestOthers, and TestDueEvent.)
func TestRiver1287_1125_1331_NegativeTimes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
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

// A cancel arrived during the fetch, at the same coordinator.
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

// bothWays runs a test in a bubble, as it is and with its fault.
func bothWays(t *testing.T, play func(t *testing.T, planted bool) error) {
	t.Helper()
	for _, planted := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			if err := play(t, planted); (err != nil) != planted {
				t.Errorf("planted %t: %v", planted, err)
			}
		})
	}
}

// A retry delay overflowed after about 310 errors.
func TestRiver_RetryDelayNeverOverflows(t *testing.T) {
	rules := consign.Rules{BackoffBase: time.Second, BackoffMax: 5 * time.Minute}
	const now = consign.Instant(1e15)
	var last time.Duration
	for faults := range 100_000 {
		j := &consign.Job{ID: consign.JobID{9, 9, 9, 9}, State: consign.StateRunning, Faults: faults, Attempt: faults + 1, MaxAttempts: 1 << 30}
		tr, err := j.Next(&consign.Event{Kind: consign.EventFail}, now, &rules)
		if err != nil {
			t.Fatal(err)
		}
		wait := tr.Job.ReadyAt.Sub(now)
		if wait < rules.BackoffBase/2 || wait > rules.BackoffMax || faults > 10 && wait < rules.BackoffMax/2 || faults == 5 && wait <= last {
			t.Fatalf("after %d faults a job waits %s", faults+1, wait)
		}
		if faults == 3 {
			last = wait
		}
	}
}

// 1 % of requests caused 71 % of the loads of models: a rare model evicted a
// popular one, which was loaded again at once.
func TestHordeWorkerReGen336_RareModelsDoNotThrash(t *testing.T) {
	bothWays(t, func(t *testing.T, planted bool) error {
		const requests, every = 600, 50 * time.Millisecond // more than they can do at once, and 2 % rare
		r := newRig(t, func(r *rig) {
			r.config.Prices, r.config.NoReceipts = nil, true
		})
		defer r.stop()
		models := []string{"popular a", "popular b", "rare a", "rare b", "rare c"}
		var mu sync.Mutex
		loads := map[string]int{}
		working, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		for i := range 3 {
			w := &hand{r: r, id: seededIdentity(uint64(i) + 300), api: r.q, leave: func() {},
				caps: consign.Capabilities{Kinds: []string{consign.KindInference}, Models: models, MaxContextTier: 4, Encryption: true, Slots: 1}}
			w.open(t.Context())
			group.Go(func() {
				var warm string
				var since time.Time
				for working.Err() == nil {
					beat := consign.Heartbeat{Capabilities: w.caps, FreeSlots: 1, MaxWarm: 1}
					if warm != "" && !planted { // or nobody knows
						beat.Warm = []consign.WarmModel{{Name: warm, Since: time.Since(since)}}
					}
					if _, err := w.now().Heartbeat(working, beat); err != nil {
						sleep(working, time.Second)
						continue
					}
					short, cancel := context.WithTimeout(working, 3*time.Second)
					a, err := w.now().Claim(short)
					cancel()
					if err != nil {
						continue
					}
					if a.Model != warm {
						mu.Lock()
						loads[a.Model]++
						mu.Unlock()
						time.Sleep(2 * time.Second)
						warm, since = a.Model, time.Now()
					}
					time.Sleep(300 * time.Millisecond)
					if err := w.now().Complete(t.Context(), consign.Completion{Claim: claimOf(a), Result: []byte("x")}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var ids []consign.JobID
		for i := range requests {
			req := r.request()
			req.Kind, req.Model = consign.KindInference, models[i%2]
			if i%50 == 49 {
				req.Model = models[2+i/50%3]
			}
			consign.SealFor(&r.config, nil, &req, 0)
			ids = append(ids, r.submit(req).ID)
			time.Sleep(every)
		}
		for _, id := range ids {
			if info := r.wait(id); info.State != consign.StateCompleted {
				t.Fatalf("a job is %s: %s", info.State, info.Reason)
			}
		}
		stop()
		group.Wait()
		all := 0
		for _, n := range loads {
			all += n
		}
		t.Logf("planted %t: %d requests, %d of them for rare models, caused %d loads: %v", planted, requests, requests/50, all, loads)
		if all > requests/8 {
			return fmt.Errorf("%d requests caused %d loads", requests, all)
		}
		return nil
	})
}

// The payload's type was not checked before the payload was believed. A record
// that is signed as something else is no record, though it is the same words.
func TestCosignCVE202235929_RecordOfAnotherType(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		h, claim := r.quiet(r.q)
		for _, name := range []string{"signed as another type", "renamed after it was signed", "as it should be"} {
			r.submit(r.request())
			a := claim()
			result := []byte("x")
			envelope, err := consign.SignRecord(h.id, consign.Record{QueueID: a.Queue, JobID: a.Job, ClaimID: a.Claim, Kind: a.Kind, HHash: sha256.Sum256(a.Header),
				InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: sha256.Sum256(result), Comparator: a.Comparator, Seq: 1, StartedAt: 1, FinishedAt: 2})
			if err != nil {
				t.Fatal(err)
			}
			good := name == "as it should be"
			switch name {
			case "signed as another type":
				if envelope, err = sign.SignEnvelope(h.id, consign.RecordType+"x", envelope.Payload); err != nil {
					t.Fatal(err)
				}
			case "renamed after it was signed":
				envelope.PayloadType = "text/plain"
			}
			record, err := envelope.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			err = h.deliver(consign.Completion{Claim: claimOf(a), Result: result, Record: record})
			if good != (err == nil) || !good && !errors.Is(err, consign.ErrBadResult) {
				t.Errorf("%s: %v", name, err)
			}
			if j := r.job(a.Job); good != (j.State == consign.StateCompleted) {
				t.Errorf("%s: the job is %s", name, j.State)
			}
			if !good {
				if _, err := r.sub.Cancel(context.Background(), a.Job); err != nil {
					t.Fatal(err)
				}
			}
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
