package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/websocket"
	"github.com/consignq/consign/worker"
)

// patience is how long something that has to happen may take.
const patience = time.Minute

// startQueue runs a queue on memdb until the test has ended.
func startQueue(tb testing.TB, c consign.Config) *consign.Queue {
	tb.Helper()
	c.Store, c.Logger = memdb.New(), slog.New(slog.DiscardHandler)
	q, _ := testkit.Start(tb, c)
	return q
}

// background runs f until the test has ended.
func background(tb testing.TB, f func(context.Context) error) {
	tb.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			tb.Error(err)
		}
	})
}

func startWorker(tb testing.TB, api consign.WorkerAPI, slots int, execute worker.ExecutorFunc) {
	tb.Helper()
	w, err := worker.New(worker.Config{API: api, Identity: sign.Generate(), Slots: slots, CallTimeout: 2 * time.Second, DrainTimeout: time.Millisecond,
		Logger: slog.New(slog.DiscardHandler), Executors: map[string]worker.Executor{consign.KindTask: execute}})
	if err != nil {
		tb.Fatal(err)
	}
	background(tb, w.Run)
}

func upper(_ context.Context, task *worker.Task) (worker.Output, error) {
	task.Part(task.Payload)
	return worker.Output{Result: bytes.ToUpper(task.Payload)}, nil
}

// submit submits n plain tasks and returns their IDs.
func submit(tb testing.TB, api consign.SubmitterAPI, n int, payload string) []consign.JobID {
	tb.Helper()
	rs := make([]consign.SubmitRequest, n)
	for i := range rs {
		rs[i] = consign.SubmitRequest{Kind: consign.KindTask, Payload: fmt.Appendf(nil, "%s %d", payload, i), Custody: consign.CustodyPlain, MaxAttempts: 1000}
	}
	ids := make([]consign.JobID, n)
	for i, o := range api.SubmitMany(tb.Context(), rs) {
		if o.Err != nil {
			tb.Fatal(o.Err)
		}
		ids[i] = o.Job.ID
	}
	return ids
}

func wait(tb testing.TB, api consign.SubmitterAPI, id consign.JobID) consign.JobInfo {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	job, err := api.Wait(ctx, id)
	if err != nil {
		tb.Fatalf("job %s is %s after %d attempts (%s): %v", id, job.State, job.Attempts, job.Reason, err)
	}
	return job
}

// accepted is how often the log says that the job was completed.
func accepted(tb testing.TB, api consign.SubmitterAPI, id consign.JobID) (n int) {
	tb.Helper()
	for e, err := range api.Events(tb.Context(), id, 0) {
		if err != nil {
			tb.Fatal(err)
		}
		if e.Event == consign.EventComplete {
			n++
		}
	}
	return n
}

// Whatever the network does, every job completes, with its own result, once.
func TestFaults(t *testing.T) {
	for name, faults := range map[string]testkit.NetFaults{
		"delay":     {Delay: 0.5, MaxDelay: 10 * time.Millisecond},
		"slice":     {Slice: 0.5},
		"reset":     {Reset: 0.02},
		"half-open": {HalfOpen: 0.02, Dead: time.Hour},
		"all":       {Delay: 0.1, MaxDelay: 10 * time.Millisecond, Slice: 0.1, Reset: 0.02, HalfOpen: 0.02, Dead: time.Hour},
	} {
		for _, json := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/json=%t", name, json), func(t *testing.T) {
				t.Parallel()
				q := startQueue(t, consign.Config{Lease: 3 * time.Second})
				p := startProxy(t, serve(t, websocket.Config{Workers: q, Silence: 300 * time.Millisecond}), faults)
				for range 3 {
					api := dial(t, websocket.DialConfig{URL: "http://" + p.Addr(), JSON: json, Ping: 100 * time.Millisecond})
					startWorker(t, api, 4, upper)
				}
				api := q.Submitter("acme")
				for i, id := range submit(t, api, 60, "a job") {
					job := wait(t, api, id)
					if want := fmt.Sprintf("A JOB %d", i); job.State != consign.StateCompleted || string(job.Result) != want {
						t.Errorf("job %d is %s (%s) with %q, want %q", i, job.State, job.Reason, job.Result, want)
					}
					if n := accepted(t, api, id); n != 1 {
						t.Errorf("job %d was accepted %d times", i, n)
					}
				}
				if faults.Reset+faults.HalfOpen > 0 && p.Broken() == 0 {
					t.Error("no connection was broken: the test tests nothing")
				}
			})
		}
	}
}

// startProxy stands before a URL until the test has ended.
func startProxy(t testing.TB, url string, f testkit.NetFaults) *testkit.Proxy {
	t.Helper()
	p, err := testkit.StartProxy(strings.TrimPrefix(url, "http://"), 1, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// A result that becomes ready during an outage is delivered after it, under the
// same claim: the lease was kept, and nobody ran the job again.
func TestResume(t *testing.T) {
	q := startQueue(t, consign.Config{Lease: time.Hour})
	p := startProxy(t, serve(t, websocket.Config{Workers: q}), testkit.NetFaults{})
	var runs atomic.Int32
	outage := make(chan struct{})
	startWorker(t, dial(t, websocket.DialConfig{URL: "http://" + p.Addr()}), 1, func(ctx context.Context, task *worker.Task) (worker.Output, error) {
		runs.Add(1)
		task.Log("it runs")
		<-outage
		return upper(ctx, task)
	})
	api := q.Submitter("acme")
	id := submit(t, api, 1, "a job")[0]
	for e, err := range api.Events(t.Context(), id, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Event == consign.EventReport { // the queue knows that the worker has it
			break
		}
	}
	before, err := api.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	p.Cut()
	close(outage)
	job := wait(t, api, id)
	if job.State != consign.StateCompleted || job.Attempts != 1 || job.Claim != before.Claim || runs.Load() != 1 || accepted(t, api, id) != 1 {
		t.Errorf("the job is %s after %d attempts and %d runs, under claim %s, was %s", job.State, job.Attempts, runs.Load(), job.Claim, before.Claim)
	}
}

// A job that was pushed into a connection that ends before the worker has taken
// it goes back at once, not when its lease is over.
func TestPushedIntoNothing(t *testing.T) {
	q := startQueue(t, consign.Config{Lease: time.Hour})
	url := serve(t, websocket.Config{Workers: q})
	api := q.Submitter("acme")
	for range 5 {
		id := submit(t, api, 1, "a job")[0]
		raw := rawWorker(t, url, q)
		raw.send(map[string]any{"type": "claim", "id": 9})
		if f := raw.receive(); f["type"] != "job_assign" {
			t.Fatalf("the answer is %v", f)
		}
		raw.drop()
		other := rawWorker(t, url, q)
		other.send(map[string]any{"type": "claim", "id": 9})
		f := other.receive()
		if f["type"] != "job_assign" || f["job_id"] != id.String() {
			t.Fatalf("the other worker gets %v", f)
		}
		other.send(map[string]any{"type": "ack", "job_id": f["job_id"], "claim_id": f["claim_id"]})
		other.send(map[string]any{"type": "ping", "id": 10})
		other.receive()
		other.drop()
		if job, err := api.Get(t.Context(), id); err != nil || job.State != consign.StateRunning || job.Attempts != 2 {
			t.Fatalf("a job that was taken is %s after %d attempts, %v", job.State, job.Attempts, err)
		}
		if _, err := api.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// A worker that does not read what it asked for holds nobody up.
func TestSlowPeer(t *testing.T) {
	q := startQueue(t, consign.Config{Lease: time.Hour})
	url := serve(t, websocket.Config{Workers: q})
	api := q.Submitter("acme")
	slow := rawWorker(t, url, q)
	for i := range 1000 { // of which all are answered with an error frame
		slow.send(map[string]any{"type": strings.Repeat("x", 1000), "id": i + 100})
	}
	big := submit(t, api, 1, strings.Repeat("big ", 1<<18))[0]
	slow.send(map[string]any{"type": "claim", "id": 9})
	eventually(t, "the claim of the big job", func() bool {
		job, err := api.Get(t.Context(), big)
		return err == nil && job.State == consign.StateRunning
	})
	startWorker(t, dial(t, websocket.DialConfig{URL: url}), 4, upper)
	for _, id := range submit(t, api, 200, "a job") {
		if job := wait(t, api, id); job.State != consign.StateCompleted {
			t.Errorf("job %s is %s", id, job.State)
		}
	}
	slow.drop()
	if job := wait(t, api, big); job.State != consign.StateCompleted {
		t.Errorf("the slow worker's job is %s", job.State)
	}
}

// Sessions end with their connections, and say so: what was never sent is
// ErrSession, what nobody knows the outcome of is not.
func TestEndedSession(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	h, err := websocket.NewHandler(websocket.Config{Workers: q})
	if err != nil {
		t.Fatal(err)
	}
	url := serveHandler(t, h)
	session := register(t, dial(t, websocket.DialConfig{URL: url}), sign.Generate(), 1)
	var claims sync.WaitGroup
	claims.Go(func() {
		if _, err := session.Claim(t.Context()); err == nil || errors.Is(err, consign.ErrSession) {
			t.Errorf("a claim that was waiting: %v", err)
		}
	})
	if _, err := session.Heartbeat(t.Context(), consign.Heartbeat{Capabilities: anyTask(1)}); err != nil {
		t.Error(err)
	}
	h.Close()
	claims.Wait()
	if err := session.Release(t.Context(), consign.Release{}); !errors.Is(err, consign.ErrSession) {
		t.Errorf("a call after the end: %v", err)
	}
	if _, err := dial(t, websocket.DialConfig{URL: url}).Challenge(t.Context()); err == nil {
		t.Error("a handler that is closed serves on")
	}
}
