package consign_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// More faults that others shipped. Each test plays a second time with the fault
// planted, and then has to see it.

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

// A past leader believed that it still led. Here there is no leader; but a
// coordinator that slept while another took over its leases decides on what it
// saw before: what it then reaps, renews and is told changes nothing.
func TestRiver199_217_SleeperHasLostItsLeases(t *testing.T) {
	bothWays(t, func(t *testing.T, planted bool) error {
		began := time.Now()
		// The lease ends in between, and no call lasts so long that it is given up.
		const asleep, wakes = 10200 * time.Millisecond, 36 * time.Second
		r := newRig(t, func(r *rig) {
			r.config.Prices = nil
			if planted {
				r.store.Store = &believing{Store: r.store.Store}
			}
			r.store.Faults = func(c testkit.Call) testkit.Fault {
				since := time.Since(began)
				switch {
				case since > wakes:
				case c.Method == "Lapsed" && since > asleep:
					return testkit.Fault{Late: wakes - since} // it has looked, and then sleeps
				case c.Method == "Apply" && since > asleep:
					return testkit.Fault{Delay: wakes - since}
				case c.Method == "Renew":
					return testkit.Fault{Delay: wakes + time.Second - since}
				}
				return testkit.Fault{}
			}
		})
		defer r.stop()
		old, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		time.Sleep(time.Second / 2)
		first := claim()
		for range 2 { // renewals that come when it wakes
			if _, err := old.beats(claimOf(first)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2450 * time.Millisecond) // the other looks for leases that have ended after this one does
		}
		c := r.config
		c.Store = memoryOf(r.store.Store)
		other, err := consign.New(c)
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = other.Run(running) }()
		defer func() { stop(); <-ended }()
		holder, claimToo := r.quiet(other)
		second := claimToo() // the other has reaped the lease
		if second.Job != first.Job || time.Since(began) > 30*time.Second {
			t.Fatalf("job %s was rescued after %s", second.Job, time.Since(began))
		}
		version := r.job(req.ID).Version
		for time.Since(began) < wakes+30*time.Second {
			time.Sleep(2 * time.Second)
			if reply, err := holder.beats(claimOf(second)); err != nil || len(reply.Lost) > 0 {
				return fmt.Errorf("the holder hears %+v: %w", reply, err)
			}
		}
		if err := old.complete(first); !errors.Is(err, consign.ErrLeaseLost) {
			return fmt.Errorf("the sleeper takes a result under a claim that is over: %w", err)
		}
		if j := r.job(req.ID); j.Version != version || j.Claim != second.Claim {
			return fmt.Errorf("the sleeper has changed the job: %+v", j)
		}
		return holder.complete(second)
	})
}

// memoryOf is the store below a planted one.
func memoryOf(s consign.Store) consign.Store {
	if b, ok := s.(*believing); ok {
		return b.Store
	}
	return s
}

// believing is the store of a coordinator that believes what it saw: where it
// reaps, it writes over whatever has come since.
type believing struct{ consign.Store }

func (s *believing) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	changes = slices.Clone(changes)
	for i := range changes {
		c := &changes[i]
		if c.Guard == nil || !c.Guard.Lapsed {
			continue
		}
		jobs, err := s.Jobs(ctx, []consign.JobID{c.Job.ID})
		if err != nil {
			return nil, err
		}
		job := *c.Job
		job.Version = jobs[0].Version + 1
		c.Job, c.Guard = &job, nil
	}
	return s.Store.Apply(ctx, changes)
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

// Acknowledged before fsync: acknowledged messages were lost. Here no answer
// leaves before the store's commit has. (That the commit of a file has waited
// for the disk is TestNATS212_SyncedBeforeAnswered, of store/sqlite.)
func TestNATS212_CommittedBeforeAnswered(t *testing.T) {
	bothWays(t, func(t *testing.T, planted bool) error {
		slow := &slowStore{Store: memdb.New(), early: planted, turn: make(chan bool, 1)}
		r := newRig(t, func(r *rig) {
			r.config.Prices = nil
			r.store.Store = slow
		})
		defer func() { r.stop(); time.Sleep(time.Minute) }()  // until what is under way is committed
		_, _ = r.sub.Explain(t.Context(), consign.NewJobID()) // once it has begun: the rig's store takes one commit at a time
		h, claim := r.quiet(r.q)
		is := func(what string, id consign.JobID, state consign.State) error {
			if j := r.job(id); j == nil || j.State != state {
				return fmt.Errorf("%s is answered before it is committed: %+v", what, j)
			}
			return nil
		}
		ctx := context.Background()
		req, other := r.request(), r.request()
		r.submit(req)
		if err := is("a submit", req.ID, consign.StateQueued); err != nil {
			return err
		}
		a := claim()
		if err := is("a claim", a.Job, consign.StateRunning); err != nil {
			return err
		}
		if err := h.complete(a); err != nil {
			t.Fatal(err)
		}
		if err := is("a completion", a.Job, consign.StateCompleted); err != nil {
			return err
		}
		r.submit(other)
		if _, err := r.sub.Cancel(ctx, other.ID); err != nil {
			t.Fatal(err)
		}
		return is("a cancel", other.ID, consign.StateCancelled)
	})
}

// slowStore takes a second to commit. An early one answers before.
type slowStore struct {
	consign.Store
	early bool
	turn  chan bool // one commit after the other
}

func (s *slowStore) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	commit := func() ([]error, error) {
		s.turn <- true
		defer func() { <-s.turn }()
		time.Sleep(time.Second)
		return s.Store.Apply(ctx, changes)
	}
	if s.early {
		go commit() //nolint:errcheck // which is the fault
		return make([]error, len(changes)), nil
	}
	return commit()
}

// A worker heartbeats but takes no work. A job whose assignment was lost on its
// way to such a worker goes to another one once its lease has ended, since a
// heartbeat renews only the claims that it names; and a job that waits does not
// wait for it.
func TestHatchet1796_HeartbeatsWithoutWork(t *testing.T) {
	bothWays(t, func(t *testing.T, planted bool) error {
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		defer r.stop()
		deaf, claim := r.quiet(r.q)
		req := r.request()
		r.submit(req)
		lost := claim() // it never hears of it
		var named []consign.Claim
		if planted { // as where a heartbeat renews whatever its worker has
			named = []consign.Claim{claimOf(lost)}
		}
		beating, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			for beating.Err() == nil {
				_, _ = deaf.now().Heartbeat(beating, consign.Heartbeat{Capabilities: deaf.caps, FreeSlots: 1, Claims: named})
				sleep(beating, 3*time.Second)
			}
		})
		defer func() { stop(); group.Wait() }()
		healthy := r.hire(anyTask, nil)
		defer healthy.leave()
		ended, cancel := context.WithTimeout(t.Context(), r.config.Lease+5*time.Second)
		defer cancel()
		info, err := r.sub.Wait(ended, req.ID)
		if err != nil {
			return fmt.Errorf("the lost job: %w", err)
		}
		if info.Worker != consign.WorkerID(healthy.id.Public().ID()) {
			return fmt.Errorf("the lost job was done by %s", info.Worker)
		}
		began := time.Now()
		for range 20 {
			r.wait(r.submit(r.request()).ID)
		}
		if took := time.Since(began); took > time.Second {
			return fmt.Errorf("20 jobs beside a worker that takes none took %s", took)
		}
		return nil
	})
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
