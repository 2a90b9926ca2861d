package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/worker"
)

var (
	queueKey   = sign.FromEd25519Seed([32]byte{'q'})
	workerKey  = sign.FromEd25519Seed([32]byte{'w'})
	errReset   = errors.New("connection reset")
	request    = consign.SubmitRequest{Kind: "TASK", Payload: []byte("x"), Custody: consign.CustodyPlain}
	noFaults   = func(testkit.Call) testkit.Fault { return testkit.Fault{} }
	dropFirst3 = func(c testkit.Call) testkit.Fault {
		if c.N < 3 {
			return testkit.Fault{Drop: errReset}
		}
		return testkit.Fault{}
	}
)

// work runs a worker that answers every job after a while.
func work(t *testing.T, q *testkit.FakeQueue, after time.Duration) {
	t.Helper()
	w, err := worker.New(worker.Config{API: q, Identity: workerKey, Slots: 4, Executors: map[string]worker.Executor{
		"TASK": worker.ExecutorFunc(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
			for i := range 10 {
				task.Part(fmt.Append(nil, i))
				time.Sleep(after / 10)
			}
			if string(task.Payload) == "poison" {
				return worker.Output{}, worker.ErrPayload
			}
			return worker.Output{Result: bytes.ToUpper(task.Payload), ExitStatus: 7}, nil
		})}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
}

func open(t *testing.T, api consign.SubmitterAPI, more func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{API: api, QueueKey: queueKey.Public()}
	if more != nil {
		more(&cfg)
	}
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		work(t, q, time.Minute)
		c := open(t, testkit.FaultySubmitter(q, dropFirst3), func(c *client.Config) { c.Acknowledge = true })
		res, err := c.Run(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if string(res.Result) != "X" || res.Record.Seq != 1 || res.Record.WorkerID != res.Worker || res.Acceptance.Record != res.Receipt.Record.Name() {
			t.Errorf("result: %+v", res)
		}
		if job := q.Job(res.ID); !job.Acknowledged || job.Attempts != 1 {
			t.Errorf("job: %+v", job)
		}
		// The same request takes the same job up.
		again := request
		again.ID = res.ID
		if second, err := c.Run(t.Context(), again); err != nil || second.Claim != res.Claim {
			t.Errorf("second Run: %v", err)
		}
	})
}

func TestRunOfAJobWithoutResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		work(t, q, time.Second)
		c := open(t, q, nil)
		poison := request
		poison.Payload = []byte("poison")
		res, err := c.Run(t.Context(), poison)
		if e, ok := errors.AsType[*client.JobError](err); !ok || e.Job.State != consign.StateFailed || res.ID != e.Job.ID || errors.Is(err, consign.ErrCancelled) {
			t.Errorf("failed job: %v", err)
		}
		request := request
		request.ID = consign.NewJobID()
		go func() {
			time.Sleep(500 * time.Millisecond)
			_, _ = c.Cancel(t.Context(), request.ID)
		}()
		if _, err := c.Run(t.Context(), request); !errors.Is(err, consign.ErrCancelled) {
			t.Errorf("cancelled job: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		request.ID = consign.JobID{}
		if res, err := c.Run(ctx, request); !errors.Is(err, context.DeadlineExceeded) || res.State != consign.StateRunning {
			t.Errorf("impatient caller: %s, %v", res.State, err)
		}
	})
}

func TestSubmitManyRepeatsOnlyWhatWasNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		api := &flaky{SubmitterAPI: q}
		c := open(t, api, nil)
		rs := make([]consign.SubmitRequest, 10)
		for i := range rs {
			rs[i] = request
			rs[i].Payload = fmt.Append(nil, i)
		}
		rs[4].Payload = nil
		for i, o := range c.SubmitMany(t.Context(), rs) {
			_, bad := errors.AsType[*consign.FieldError](o.Err)
			if bad != (i == 4) || !bad && o.Err != nil {
				t.Errorf("outcome %d: %v", i, o.Err)
			}
		}
		if fmt.Sprint(api.sizes) != "[10 4 2]" {
			t.Errorf("sizes of the calls: %v", api.sizes)
		}
	})
}

// flaky loses the answers of its first calls to every third job.
type flaky struct {
	consign.SubmitterAPI
	sizes []int
}

func (f *flaky) SubmitMany(ctx context.Context, rs []consign.SubmitRequest) []consign.SubmitOutcome {
	f.sizes = append(f.sizes, len(rs))
	out := f.SubmitterAPI.SubmitMany(ctx, rs)
	for i := 0; i < len(out) && len(f.sizes) < 3; i += 3 {
		out[i] = consign.SubmitOutcome{Err: errReset}
	}
	return out
}

func TestWaitsThroughOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		work(t, q, 2*time.Hour)
		cuts := 0
		c := open(t, testkit.FaultySubmitter(q, func(call testkit.Call) testkit.Fault {
			if call.Method == "Wait" { // cut after ten minutes, each time
				cuts++
				return testkit.Fault{Delay: 10 * time.Minute, Lose: errReset}
			}
			return testkit.Fault{}
		}), nil)
		job, err := c.Submit(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		job, err = c.Wait(t.Context(), job.ID)
		if err != nil || job.State != consign.StateCompleted || cuts != 12 {
			t.Errorf("%s after %d cuts: %v", job.State, cuts, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		c := open(t, q, nil)
		job, _ := c.Submit(t.Context(), request)
		q.SetDown(true)
		began := time.Now()
		if _, err := c.Wait(t.Context(), job.ID); !errors.Is(err, consign.ErrClosed) || time.Since(began) > 70*time.Second {
			t.Errorf("after %v of an outage: %v", time.Since(began), err)
		}
		impatient := open(t, q, func(c *client.Config) { c.Patience = -1 })
		began = time.Now()
		if _, err := impatient.Get(t.Context(), job.ID); !errors.Is(err, consign.ErrClosed) || time.Since(began) != 0 {
			t.Errorf("a second try: %v", err)
		}
	})
}

// fromTheStart yields a log from its first entry on, whatever it is asked for.
type fromTheStart struct{ consign.SubmitterAPI }

func (s fromTheStart) Events(ctx context.Context, id consign.JobID, _ consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return s.SubmitterAPI.Events(ctx, id, 0)
}

func TestEventsGoOnAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		work(t, q, time.Minute)
		c := open(t, testkit.FaultySubmitter(q, func(call testkit.Call) testkit.Fault {
			if call.Method == "Events" {
				return testkit.Fault{Cut: errReset, After: call.N % 3}
			}
			return testkit.Fault{}
		}), nil)
		job, err := c.Submit(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		var got []consign.Seq
		for e, err := range c.Events(t.Context(), job.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Seq)
			if e.Event == consign.EventComplete {
				break
			}
		}
		var want []consign.Seq
		for _, e := range q.Log(job.ID) {
			want = append(want, e.Seq)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("entries %v, want %v", got, want)
		}

		// A queue that begins again at the start is not believed to have more.
		c = open(t, fromTheStart{q}, nil)
		got = nil
		for e, err := range c.Events(t.Context(), job.ID, want[0]) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Seq)
		}
		if fmt.Sprint(got) != fmt.Sprint(want[1:]) {
			t.Errorf("after %v: entries %v, want %v", want[0], got, want[1:])
		}
	})
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		c := open(t, q, nil)
		for _, err := range c.Events(t.Context(), consign.NewJobID(), 0) {
			if !errors.Is(err, consign.ErrNotFound) {
				t.Errorf("unknown job: %v", err)
			}
		}
		job, _ := c.Submit(t.Context(), request)
		q.SetDown(true)
		began := time.Now()
		for _, err := range c.Events(t.Context(), job.ID, 1<<40) {
			if !errors.Is(err, consign.ErrClosed) || time.Since(began) < time.Minute || time.Since(began) > 70*time.Second {
				t.Errorf("after %v of an outage: %v", time.Since(began), err)
			}
		}
	})
}

func TestCancelWhoseAnswerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		c := open(t, testkit.FaultySubmitter(q, func(call testkit.Call) testkit.Fault {
			if call.Method == "Cancel" {
				return dropFirst3(call)
			}
			return testkit.Fault{}
		}), nil)
		job, _ := c.Submit(t.Context(), request)
		if job, err := c.Cancel(t.Context(), job.ID); err != nil || job.State != consign.StateCancelled {
			t.Errorf("%s, %v", job.State, err)
		}
		if _, err := c.Cancel(t.Context(), job.ID); err == nil {
			t.Error("a second Cancel came too late and did not say so")
		}
	})
}

// Whatever a queue changes between the worker and the submitter is found out.
func TestVerifyFindsEveryLie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		work(t, q, time.Second)
		c := open(t, q, nil)
		r := request
		r.ID, r.Model, r.Header = consign.NewJobID(), "m", []byte("h")
		res, err := c.Run(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		type world struct {
			r    consign.SubmitRequest
			job  consign.JobInfo
			conf client.Config
			rec  consign.Receipt
		}
		for field, lie := range map[string]func(w *world){
			"record.kind":              func(w *world) { w.r.Kind = "OTHER" },
			"record.model_requested":   func(w *world) { w.r.Model = "bigger" },
			"record.h_hash":            func(w *world) { w.r.Header = nil },
			"record.input_hash":        func(w *world) { w.r.Payload = []byte("y") },
			"record.result_hash":       func(w *world) { w.job.Result = []byte("Y") },
			"record.exit_status":       func(w *world) { w.job.ExitStatus = 0 },
			"record.claim_id":          func(w *world) { w.job.Claim = consign.NewClaimID() },
			"record.job_id":            func(w *world) { w.r.ID = consign.NewJobID() },
			"acceptance.custody":       func(w *world) { w.r.Custody = consign.CustodySealed },
			"record.queue_id":          func(w *world) { w.conf.QueueKey = workerKey.Public() },
			"record.signatures":        func(w *world) { w.job.Worker = queueKey.Public().ID() },
			"record.worker_id":         func(w *world) { w.job.Worker = consign.WorkerID{1}; w.conf.WorkerKey = anyone },
			"acceptance.signatures":    func(w *world) { w.rec.Acceptance.Signatures[0].Sig[3] ^= 1 },
			"acceptance.record":        func(w *world) { w.rec.Acceptance = otherAcceptance(t) },
			"record.payloadType":       func(w *world) { w.rec.Record = w.rec.Acceptance },
			"(the worker is unknown)":  func(w *world) { w.conf.WorkerKey = nobody },
			"(there is no lie in it)":  func(*world) {},
			"(another request ID, no)": func(w *world) { w.r.ID = consign.JobID{} },
		} {
			w := world{r: r, job: res.JobInfo, rec: clone(res.Receipt), conf: client.Config{QueueKey: queueKey.Public()}}
			lie(&w)
			w.conf.API = fixedReceipt{q, w.rec}
			c, err := client.New(w.conf)
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Verify(t.Context(), w.r, w.job)
			bad, isBad := errors.AsType[*consign.ReceiptError](err)
			switch {
			case field == "(the worker is unknown)":
				if !errors.Is(err, errNobody) {
					t.Errorf("%s: %v", field, err)
				}
			case field[0] == '(':
				if err != nil {
					t.Errorf("%s: %v", field, err)
				}
			case !isBad || bad.Field != field || !errors.Is(err, consign.ErrBadReceipt):
				t.Errorf("%s: %v", field, err)
			}
		}
	})
}

var errNobody = errors.New("never heard of it")

func nobody(consign.WorkerID) (sign.PublicKey, error) { return sign.PublicKey{}, errNobody }
func anyone(consign.WorkerID) (sign.PublicKey, error) { return workerKey.Public(), nil }

type fixedReceipt struct {
	consign.SubmitterAPI
	r consign.Receipt
}

func (f fixedReceipt) Receipt(context.Context, consign.JobID) (consign.Receipt, error) {
	return f.r, nil
}

func clone(r consign.Receipt) consign.Receipt {
	for _, e := range []*sign.Envelope{&r.Record, &r.Acceptance} {
		e.Signatures = []sign.Signature{{KeyID: e.Signatures[0].KeyID, Sig: bytes.Clone(e.Signatures[0].Sig)}}
	}
	return r
}

func otherAcceptance(t *testing.T) sign.Envelope {
	t.Helper()
	e, err := consign.SignAcceptance(queueKey, consign.Acceptance{AcceptedAt: 1, Custody: consign.CustodyPlain, Checks: []string{"poe"}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestConfig(t *testing.T) {
	for field, cfg := range map[string]client.Config{
		"client.Config.API":      {QueueKey: queueKey.Public()},
		"client.Config.QueueKey": {API: testkit.NewFakeQueue()},
	} {
		_, err := client.New(cfg)
		if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		q.Plain = true
		work(t, q, time.Second)
		c := open(t, testkit.FaultySubmitter(q, noFaults), func(c *client.Config) { c.QueueKey, c.Unverified = sign.PublicKey{}, true })
		if res, err := c.Run(t.Context(), request); err != nil || string(res.Result) != "X" {
			t.Errorf("unverified: %+v, %v", res, err)
		}
	})
}
