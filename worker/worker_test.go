package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/worker"
)

var identity = sign.FromEd25519Seed([32]byte{1})

// running is a worker in a bubble.
type running struct {
	t    rapid.TB
	stop context.CancelFunc
	err  chan error
	log  *lines
}

// lines collects what the worker logs.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func start(t rapid.TB, cfg worker.Config) *running {
	t.Helper()
	log := &lines{}
	if cfg.Identity == nil {
		cfg.Identity = identity
	}
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: t, stop: stop, err: make(chan error, 1), log: log}
	go func() { r.err <- w.Run(ctx) }()
	return r
}

// end stops the worker and returns what Run did.
func (r *running) end() error {
	r.stop()
	err := <-r.err
	if r.t.Failed() {
		r.t.Log(r.log.String())
	}
	return err
}

func (r *running) endClean() {
	r.t.Helper()
	if err := r.end(); err != nil {
		r.t.Errorf("Run: %v", err)
	}
}

// executors runs f for kind TASK.
func executors(f worker.ExecutorFunc) map[string]worker.Executor {
	return map[string]worker.Executor{"TASK": f}
}

func echo(_ context.Context, t *worker.Task) (worker.Output, error) {
	return worker.Output{Result: append([]byte("done: "), t.Payload...)}, nil
}

// lasting takes a while, and stops early when it should.
func lasting(d time.Duration) worker.ExecutorFunc {
	return func(ctx context.Context, t *worker.Task) (worker.Output, error) {
		select {
		case <-time.After(d):
			return echo(ctx, t)
		case <-ctx.Done():
			return worker.Output{}, context.Cause(ctx)
		}
	}
}

// wantState checks where a job is.
func wantState(t rapid.TB, q *testkit.FakeQueue, id consign.JobID, want consign.State) {
	t.Helper()
	if got := q.Job(id); got.State != want {
		t.Errorf("the job is %s (%s), want %s", got.State, got.Reason, want)
	}
}

// checkReturns checks what holds in every run: one claim is never returned
// with two bodies, nothing is refused as bad, no two records share a number.
func checkReturns(t rapid.TB, q *testkit.FakeQueue) {
	t.Helper()
	bodies := make(map[consign.Claim]string)
	numbers := make(map[int64]consign.Claim)
	for _, r := range q.Returns() {
		if errors.Is(r.Err, consign.ErrConflict) || errors.Is(r.Err, consign.ErrBadResult) {
			t.Errorf("a return was refused: %v", r.Err)
		}
		if r.Complete == nil {
			continue
		}
		body := string(r.Complete.Result) + "\x00" + string(r.Complete.Record)
		if first, ok := bodies[r.Complete.Claim]; ok && first != body {
			t.Errorf("claim %s was completed with two bodies", r.Complete.Claim.Claim)
		}
		bodies[r.Complete.Claim] = body
		n := record(t, r.Complete.Record).Seq
		if other, ok := numbers[n]; ok && other != r.Complete.Claim {
			t.Errorf("two records have the number %d", n)
		}
		numbers[n] = r.Complete.Claim
	}
}

func record(t rapid.TB, data []byte) consign.Record {
	t.Helper()
	var e sign.Envelope
	if err := json.Unmarshal(data, &e); err != nil {
		t.Fatal(err)
	}
	r, err := consign.VerifyRecord(e, identity.Public())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRunsEveryJobAndSignsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		var ids []consign.JobID
		for i := range 20 {
			ids = append(ids, q.Add("TASK", fmt.Sprint("job ", i)))
		}
		var now, most atomic.Int32
		w := start(t, worker.Config{API: q, Slots: 3, Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			out, err := echo(ctx, task)
			out.Engine, out.ExitStatus = "echo 1.0", 3
			return out, err
		})})
		time.Sleep(10 * time.Second)
		for i, id := range ids {
			if got, want := string(q.Job(id).Result), fmt.Sprint("done: job ", i); got != want {
				t.Errorf("result %q, want %q", got, want)
			}
		}
		if most.Load() != 3 {
			t.Errorf("%d jobs ran at once, want 3", most.Load())
		}
		last := int64(0)
		for _, r := range q.Returns() {
			last = max(last, record(t, r.Complete.Record).Seq)
		}
		if last != 20 {
			t.Errorf("the last of 20 records has the number %d", last)
		}
		r := record(t, q.Returns()[0].Complete.Record)
		if took := r.FinishedAt - r.StartedAt; took != 1_000_000 || r.Engine != "echo 1.0" || r.ExitStatus != 3 {
			t.Errorf("record: took %d us, engine %q, exit status %d", took, r.Engine, r.ExitStatus)
		}
		w.endClean()
		checkReturns(t, q)
	})
}

type warmExecutor struct{ worker.ExecutorFunc }

func (warmExecutor) Warm(context.Context) []consign.WarmModel {
	return []consign.WarmModel{{Name: "llama3.1:8b", Since: time.Minute}}
}

func TestHeartbeatDeclaresTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		q.Interval = 7 * time.Second
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: q, Slots: 2, MaxWarm: 4,
			Capabilities: consign.Capabilities{Models: []string{"*"}, VRAM: 8192},
			Rates:        map[string]float64{"llama3.1:8b": 900},
			Executors:    map[string]worker.Executor{"TASK": warmExecutor{lasting(30 * time.Second)}, "LLM_INFER": warmExecutor{echo}}})
		time.Sleep(22 * time.Second)
		beats := q.Beats()
		if len(beats) != 4 { // at 0, 7, 14, 21 s
			t.Fatalf("%d heartbeats in 22 s, want 4", len(beats))
		}
		h := beats[1]
		claim := consign.Claim{Job: id, Claim: q.Job(id).Claim}
		switch c := h.Capabilities; {
		case fmt.Sprint(c.Kinds) != "[LLM_INFER TASK]", c.MaxContextTier != consign.MaxTier, c.Slots != 2, c.VRAM != 8192:
			t.Errorf("capabilities: %+v", c)
		case h.FreeSlots != 1 || len(h.Claims) != 1 || h.Claims[0] != claim:
			t.Errorf("%d free slots, claims %v", h.FreeSlots, h.Claims)
		case len(h.Warm) != 1 || h.Warm[0].Name != "llama3.1:8b" || h.MaxWarm != 4 || h.Rates["llama3.1:8b"] != 900:
			t.Errorf("warm %v of %d, rates %v", h.Warm, h.MaxWarm, h.Rates)
		}
		w.endClean()
	})
}

func TestHeartbeatsKeepALongJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: q, Executors: executors(lasting(10 * time.Minute))})
		time.Sleep(11 * time.Minute)
		wantState(t, q, id, consign.StateCompleted)
		if n := q.Job(id).Attempts; n != 1 {
			t.Errorf("it took %d attempts", n)
		}
		w.endClean()
	})
}

func TestAnIdleWorkersClaimHasItsWholeLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		w := start(t, worker.Config{API: q, Executors: executors(lasting(25 * time.Second))})
		time.Sleep(time.Hour)
		id := q.Add("TASK", "x")
		time.Sleep(26 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
	})
}

func TestStopsWorkWhenTheLeaseHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		q := testkit.NewFakeQueue()
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Heartbeat" {
				return testkit.Fault{Late: 2 * time.Second} // the answer is slow; what counts is when it was asked
			}
			return testkit.Fault{}
		})
		q.Add("TASK", "x")
		var cause error
		var stopped time.Duration
		w := start(t, worker.Config{API: api, Executors: executors(func(ctx context.Context, _ *worker.Task) (worker.Output, error) {
			<-ctx.Done()
			cause, stopped = context.Cause(ctx), time.Since(began)
			return worker.Output{}, cause
		})})
		time.Sleep(15 * time.Second)
		q.SetDown(true)
		time.Sleep(time.Minute)
		w.endClean()
		// The last heartbeat that was answered was sent at 10 s.
		if stopped != 40*time.Second || !errors.Is(cause, consign.ErrLeaseLost) {
			t.Errorf("stopped after %v with %v, want 40s and a lost lease", stopped, cause)
		}
		if n := len(q.Returns()); n != 0 {
			t.Errorf("%d returns of a lost claim", n)
		}
	})
}

func TestStopsWorkThatTheQueueSaysIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		first, second := q.Add("TASK", "x"), q.Add("TASK", "y")
		w := start(t, worker.Config{API: q, Executors: executors(lasting(time.Minute))})
		time.Sleep(12 * time.Second)
		if _, err := q.Cancel(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second) // the heartbeat at 20 s brings the news
		wantState(t, q, second, consign.StateRunning)
		time.Sleep(time.Minute)
		wantState(t, q, second, consign.StateCompleted)
		w.endClean()
		for _, r := range q.Returns() {
			if r.Complete == nil || r.Complete.Job == first {
				t.Errorf("unexpected return %+v", r)
			}
		}
	})
}

// silo PR #399: the heartbeat that was sent while a completion was under way
// said that the lease was lost.
func TestHeartbeatThatOvertakesTheCompletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Complete" { // accepted at 9 s, its answer lost at 12 s
				return map[bool]testkit.Fault{true: {Late: 3 * time.Second, Drop: errors.New("reset")}}[c.N == 0]
			}
			return testkit.Fault{}
		})
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: api, Executors: executors(lasting(9 * time.Second))})
		time.Sleep(20 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
		if strings.Contains(w.log.String(), "lost") || len(q.Returns()) != 2 {
			t.Errorf("%d returns, log:\n%s", len(q.Returns()), w.log)
		}
		checkReturns(t, q)
	})
}

func TestAFinishedResultOutlivesAnOutage(t *testing.T) {
	for _, tc := range []struct {
		name   string
		keep   time.Duration
		outage time.Duration
		want   consign.State
	}{
		{"shorter than the lease", 0, 10 * time.Second, consign.StateCompleted},
		{"longer than the lease", 0, 5 * time.Minute, consign.StateCompleted},
		{"longer than it is kept", time.Minute, 5 * time.Minute, consign.StateRunning},
		{"not kept at all, shorter than the lease", -1, 10 * time.Second, consign.StateCompleted},
		{"not kept at all, longer", -1, 40 * time.Second, consign.StateRunning},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				id := q.Add("TASK", "x")
				w := start(t, worker.Config{API: q, KeepResult: tc.keep, Executors: executors(lasting(12 * time.Second))})
				time.Sleep(11 * time.Second)
				q.SetDown(true)
				time.Sleep(tc.outage)
				q.SetDown(false)
				q.Restart()
				time.Sleep(20 * time.Second)
				wantState(t, q, id, tc.want)
				w.endClean()
				checkReturns(t, q)
			})
		})
	}
}

func TestCompletionIsResentByteForByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		var journal [][]byte
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Complete" && c.N < 3 {
				return testkit.Fault{Drop: errors.New("connection reset")}
			}
			return testkit.Fault{}
		})
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: api, Seq: 41, Executors: executors(echo), Journal: func(seq int64, record []byte) error {
			if seq != 42 {
				t.Errorf("record %d, want 42", seq)
			}
			journal = append(journal, record)
			return nil
		}})
		time.Sleep(20 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
		returns := q.Returns()
		if len(returns) != 4 || len(journal) != 1 {
			t.Fatalf("%d returns and %d records, want 4 and 1", len(returns), len(journal))
		}
		for _, r := range returns {
			if r.Err != nil || !bytes.Equal(r.Complete.Record, journal[0]) {
				t.Errorf("return: %v, same record: %t", r.Err, bytes.Equal(r.Complete.Record, journal[0]))
			}
		}
	})
}

// A completion that gets no answer is sent again when its time is over, the same
// bytes.
func TestCompletionWithoutAnAnswerIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		id := q.Add("TASK", "x")
		tries := 0
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Complete" {
				if tries++; tries == 1 {
					return testkit.Fault{Delay: time.Hour}
				}
			}
			return testkit.Fault{}
		})
		w := start(t, worker.Config{API: api, CallTimeout: 4 * time.Second, Executors: executors(echo)})
		time.Sleep(10 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		if tries != 2 {
			t.Errorf("%d tries", tries)
		}
		w.endClean()
	})
}

// A worker that cannot keep its records would ruin every job that it takes.
func TestAJournalThatFailsEndsTheWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		first, second := q.Add("TASK", "x"), q.Add("TASK", "y")
		full := errors.New("disk full")
		w := start(t, worker.Config{API: q, Executors: executors(echo), Journal: func(int64, []byte) error { return full }})
		if err := <-w.err; !errors.Is(err, full) {
			t.Errorf("ended with %v", err)
		}
		for _, r := range q.Returns() {
			if r.Release == nil || !strings.Contains(r.Release.Reason, "disk full") {
				t.Errorf("returned %+v", r)
			}
		}
		wantState(t, q, first, consign.StateQueued)
		wantState(t, q, second, consign.StateQueued)

		var numbers []int64
		w = start(t, worker.Config{API: q, Executors: executors(echo), Journal: func(seq int64, _ []byte) error {
			numbers = append(numbers, seq)
			return nil
		}})
		time.Sleep(time.Minute)
		wantState(t, q, first, consign.StateCompleted)
		wantState(t, q, second, consign.StateCompleted)
		if !slices.Equal(numbers, []int64{1, 2}) {
			t.Errorf("records %v, want 1 and 2", numbers)
		}
		w.endClean()
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		q := testkit.NewFakeQueue()
		running, waiting := q.Add("TASK", "x"), consign.JobID{}
		w := start(t, worker.Config{API: q, Slots: 2, DrainTimeout: time.Hour, Executors: executors(lasting(115 * time.Second))})
		time.Sleep(5 * time.Second)
		w.stop()
		waiting = q.Add("TASK", "y")
		w.endClean()
		if d := time.Since(began); d != 115*time.Second {
			t.Errorf("drained after %v, want 1m55s", d)
		}
		wantState(t, q, running, consign.StateCompleted)
		wantState(t, q, waiting, consign.StateQueued)
		beats := q.Beats()
		if last := beats[len(beats)-1]; len(beats) != 12 || last.FreeSlots != 0 {
			t.Errorf("%d heartbeats, the last with %d free slots", len(beats), last.FreeSlots)
		}
	})
}

func TestDrainTimeoutGivesTheRestBack(t *testing.T) {
	for _, tc := range []struct {
		timeout, want time.Duration
	}{{0, 30 * time.Second}, {time.Second, time.Second}, {-1, 0}} {
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			heeds, ignores := q.Add("TASK", "heeds"), q.Add("TASK", "ignores")
			w := start(t, worker.Config{API: q, Slots: 2, DrainTimeout: tc.timeout,
				Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
					if string(task.Payload) == "ignores" {
						ctx = context.WithoutCancel(ctx)
					}
					return lasting(5*time.Minute)(ctx, task)
				})})
			time.Sleep(time.Second)
			w.stop()
			asked := time.Now()
			w.endClean()
			if d := time.Since(asked); d != 5*time.Minute-time.Second {
				t.Errorf("Run returned after %v, not when its last executor had", d)
			}
			if n := len(q.Returns()); n != 2 {
				t.Errorf("%d of 2 claims were given back", n)
			}
			for _, r := range q.Returns() {
				if r.Release == nil || r.Err != nil || r.At.Sub(asked) != tc.want {
					t.Errorf("return after %v: %+v, want a release after %v", r.At.Sub(asked), r, tc.want)
				}
			}
			wantState(t, q, heeds, consign.StateQueued)
			wantState(t, q, ignores, consign.StateQueued)
		})
	}
}

// However an executor ends once the drain is over, its claim is given back once,
// and Run waits for the queue to hear of it.
func TestAClaimIsGivenBackOnceHoweverItsExecutorEnds(t *testing.T) {
	for name, end := range map[string]func(context.Context) error{
		"returns": func(ctx context.Context) error { return ctx.Err() },
		"has run": func(context.Context) error { return nil },
		"panics":  func(context.Context) error { panic("stopped") },
		"goexit":  func(context.Context) error { runtime.Goexit(); return nil },
		"late":    func(context.Context) error { time.Sleep(time.Minute); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
					if c.Method == "Release" {
						return testkit.Fault{Delay: 3 * time.Second}
					}
					return testkit.Fault{}
				})
				ids := []consign.JobID{q.Add("TASK", "x"), q.Add("TASK", "y")}
				w := start(t, worker.Config{API: api, Slots: 2, DrainTimeout: time.Second,
					Executors: executors(func(ctx context.Context, _ *worker.Task) (worker.Output, error) {
						<-ctx.Done()
						time.Sleep(time.Millisecond) // the drain's end comes first
						return worker.Output{}, end(ctx)
					})})
				time.Sleep(time.Second)
				w.stop()
				w.endClean()
				for _, id := range ids {
					wantState(t, q, id, consign.StateQueued)
				}
				if n := len(q.Returns()); n != 2 || strings.Contains(w.log.String(), "lost") {
					t.Errorf("%d returns of 2 claims: %+v; log:\n%s", n, q.Returns(), w.log)
				}
			})
		})
	}
}

// The end of the drain finds an executor done, and its result on the way: that is
// not given back.
func TestAResultOnItsWayIsNotGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		api := testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Complete" {
				return testkit.Fault{Delay: 3 * time.Second}
			}
			return testkit.Fault{}
		})
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: api, DrainTimeout: time.Second, Executors: executors(echo)})
		synctest.Wait()
		w.endClean()
		wantState(t, q, id, consign.StateCompleted)
		if n := len(q.Returns()); n != 1 {
			t.Errorf("%d returns: %+v", n, q.Returns())
		}
	})
}

// lateClaims hands a job out although its caller has gone.
type lateClaims struct{ consign.WorkerAPI }

func (l lateClaims) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := l.WorkerAPI.Register(ctx, r)
	return lateSession{s}, err
}

type lateSession struct{ consign.Session }

func (l lateSession) Claim(ctx context.Context) (consign.Assignment, error) {
	return l.Session.Claim(context.WithoutCancel(ctx))
}

// otherQueue is a queue that hands out the jobs of another one.
type otherQueue struct{ consign.WorkerAPI }

func (q otherQueue) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := q.WorkerAPI.Register(ctx, r)
	return otherSession{s}, err
}

type otherSession struct{ consign.Session }

func (s otherSession) Claim(ctx context.Context) (consign.Assignment, error) {
	a, err := s.Session.Claim(ctx)
	a.Queue[0]++
	return a, err
}

// A worker does no work, and signs no record, for a queue that it has not
// registered with.
func TestAnAssignmentOfAnotherQueueIsNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		if _, err := q.Submit(t.Context(), consign.SubmitRequest{Kind: "TASK", Payload: []byte("x"), Custody: consign.CustodyPlain}); err != nil {
			t.Fatal(err)
		}
		w := start(t, worker.Config{API: otherQueue{q}, Identity: identity,
			Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
				t.Error("the executor was called")
				<-ctx.Done() // its result would be refused, and the job come again, for ever
				return echo(ctx, task)
			})})
		time.Sleep(time.Second)
		if err := w.end(); err != nil || len(q.Returns()) != 0 {
			t.Errorf("%v, returns: %+v", err, q.Returns())
		}
		if !strings.Contains(w.log.String(), "registered with") {
			t.Errorf("the log does not say why: %s", w.log)
		}
	})
}

func TestAClaimThatRacesWithShutdownIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		w := start(t, worker.Config{API: lateClaims{q}, Executors: executors(func(context.Context, *worker.Task) (worker.Output, error) {
			t.Error("it ran")
			return worker.Output{}, nil
		})})
		synctest.Wait()
		w.stop()
		id := q.Add("TASK", "x")
		w.endClean()
		wantState(t, q, id, consign.StateQueued)
		if r := q.Returns(); len(r) != 1 || r[0].Release == nil {
			t.Errorf("returns: %+v", r)
		}
	})
}

// twice delivers each assignment twice, as a transport that resends would.
type twice struct {
	consign.WorkerAPI
	mu    sync.Mutex
	again []consign.Assignment
}

func (d *twice) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := d.WorkerAPI.Register(ctx, r)
	return twiceSession{s, d}, err
}

type twiceSession struct {
	consign.Session
	d *twice
}

func (s twiceSession) Claim(ctx context.Context) (consign.Assignment, error) {
	s.d.mu.Lock()
	if n := len(s.d.again); n > 0 {
		a := s.d.again[n-1]
		s.d.again = s.d.again[:n-1]
		s.d.mu.Unlock()
		return a, nil
	}
	s.d.mu.Unlock()
	a, err := s.Session.Claim(ctx)
	if err == nil {
		s.d.mu.Lock()
		s.d.again = append(s.d.again, a)
		s.d.mu.Unlock()
	}
	return a, err
}

func TestAClaimDeliveredTwiceRunsOnce(t *testing.T) {
	for _, slots := range []int{1, 2} { // the second while the first runs, and after it
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			for i := range 4 {
				q.Add("TASK", fmt.Sprint(i))
			}
			var runs atomic.Int32
			w := start(t, worker.Config{API: &twice{WorkerAPI: q}, Slots: slots, Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
				runs.Add(1)
				return lasting(time.Second)(ctx, task)
			})})
			time.Sleep(time.Minute)
			w.endClean()
			if runs.Load() != 4 || len(q.Returns()) != 4 {
				t.Errorf("%d runs and %d returns of 4 jobs", runs.Load(), len(q.Returns()))
			}
			checkReturns(t, q)
		})
	}
}

// keeping is a queue whose latest session the test has, too.
type keeping struct {
	consign.WorkerAPI
	session consign.Session
}

func (k *keeping) Register(ctx context.Context, r consign.Registration) (s consign.Session, err error) {
	k.session, err = k.WorkerAPI.Register(ctx, r)
	return k.session, err
}

// TestANewerClaimOfTheSameJobStopsTheOlder: that the worker gets a job again says
// at once that its claim of it is over, before any heartbeat or report does; and
// so does each further claim, whatever of the earlier ones has ended.
func TestANewerClaimOfTheSameJobStopsTheOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &keeping{WorkerAPI: testkit.NewFakeQueue()}
		q := api.WorkerAPI.(*testkit.FakeQueue)
		other, id := q.Add("TASK", "other"), q.Add("TASK", "again")
		var stopped atomic.Int32
		w := start(t, worker.Config{API: api, Slots: 3, Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
			out, err := lasting(4*time.Second)(ctx, task)
			if task.Job == id && errors.Is(err, consign.ErrLeaseLost) {
				stopped.Add(1)
			}
			return out, err
		})})
		for n := range int32(3) {
			time.Sleep(time.Second)
			if got := stopped.Load(); got != n || q.Job(id).Attempts != int(n)+1 {
				t.Errorf("after %d claims %d attempts were stopped, want %d", q.Job(id).Attempts, got, n)
			}
			// The queue takes the claim back, and nobody tells the worker.
			if err := api.session.Release(t.Context(), consign.Release{Claim: consign.Claim{Job: id, Claim: q.Job(id).Claim}}); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(5 * time.Second) // the first heartbeat with claims is at 10 s
		if got := stopped.Load(); got != 3 {
			t.Errorf("after 4 claims %d attempts were stopped, want 3", got)
		}
		wantState(t, q, other, consign.StateCompleted)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
		checkReturns(t, q)
	})
}

func TestAClaimOutlivesItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: q, Slots: 2, Executors: executors(lasting(time.Minute))})
		time.Sleep(15 * time.Second)
		q.Restart()
		time.Sleep(50 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		if q.Job(id).Attempts != 1 || q.Sessions() != 2 {
			t.Errorf("%d attempts, %d sessions", q.Job(id).Attempts, q.Sessions())
		}
		if q.Waiting() != 2 { // the slot that hung in the old session claims in the new one
			t.Errorf("%d slots claim, want 2", q.Waiting())
		}
		w.endClean()
	})
}

// dead hangs in Claim once its queue has restarted, as a connection does whose
// other end is gone.
type dead struct{ consign.WorkerAPI }

func (d dead) Register(ctx context.Context, r consign.Registration) (consign.Session, error) {
	s, err := d.WorkerAPI.Register(ctx, r)
	return deadSession{s}, err
}

type deadSession struct{ consign.Session }

func (d deadSession) Claim(ctx context.Context) (consign.Assignment, error) {
	a, err := d.Session.Claim(ctx)
	if errors.Is(err, consign.ErrSession) {
		<-ctx.Done()
		err = ctx.Err()
	}
	return a, err
}

func TestNoClaimHangsInADeadSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		w := start(t, worker.Config{API: dead{q}, Slots: 3, Executors: executors(echo)})
		time.Sleep(15 * time.Second)
		q.Restart()
		time.Sleep(10 * time.Second) // a heartbeat finds out
		if q.Waiting() != 3 || q.Sessions() != 2 {
			t.Errorf("%d of 3 slots claim, in %d sessions", q.Waiting(), q.Sessions())
		}
		w.endClean()
	})
}

// The queue takes a completion until its reaper has been there, so a result
// that comes after the end of the lease is offered all the same.
func TestAResultAfterTheLeaseIsOffered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: q, Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
			return lasting(time.Minute)(context.WithoutCancel(ctx), task)
		})})
		time.Sleep(15 * time.Second)
		q.SetDown(true)
		time.Sleep(2 * time.Minute)
		q.SetDown(false)
		q.Restart()
		time.Sleep(15 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		if n := q.Job(id).Attempts; n != 1 {
			t.Errorf("it took %d attempts", n)
		}
		w.endClean()
	})
}

func TestARemovedWorkerEnds(t *testing.T) {
	for method, slots := range map[string]int{"Register": 1, "Heartbeat": 2, "Claim": 1} {
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			id := q.Add("TASK", "x")
			w := start(t, worker.Config{API: testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
				if c.Method == method && (c.N > 0 || method == "Register") {
					return testkit.Fault{Lose: fmt.Errorf("%w: it cheats", consign.ErrRemoved)}
				}
				return testkit.Fault{}
			}), Slots: slots, Executors: executors(lasting(18 * time.Second))})
			if err := <-w.err; !errors.Is(err, consign.ErrRemoved) {
				t.Errorf("Run: %v", err)
			}
			if method != "Register" {
				wantState(t, q, id, consign.StateCompleted) // what ran was finished first
			}
		})
	}
}

func TestRegistrationThatIsRefusedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		field := &consign.FieldError{Field: "worker.kinds", Problem: "are unknown", Remedy: "register the kind first"}
		w := start(t, worker.Config{API: testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Register" {
				return testkit.Fault{Lose: field}
			}
			return testkit.Fault{}
		}), Executors: executors(echo)})
		if err := <-w.err; !errors.Is(err, field) {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		w := start(t, worker.Config{API: q, Queue: consign.QueueID{1}, Executors: executors(echo)})
		if field, ok := errors.AsType[*consign.FieldError](<-w.err); !ok || field.Field != "worker.Config.Queue" {
			t.Errorf("Run did not end for another queue than the one that was pinned")
		}
	})
}

func TestStartsBeforeItsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		id := q.Add("TASK", "x")
		q.SetDown(true)
		w := start(t, worker.Config{API: q, Slots: 4, Executors: executors(echo)})
		time.Sleep(time.Hour)
		q.SetDown(false)
		time.Sleep(10 * time.Second)
		wantState(t, q, id, consign.StateCompleted)
		w.endClean()
	})
}

func TestWhoseFaultItIs(t *testing.T) {
	for _, tc := range []struct {
		name   string
		run    worker.ExecutorFunc
		kind   consign.FailKind
		reason string
	}{
		{"any error", func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{}, errors.New("upstream is down")
		}, consign.FailTransient, "upstream is down"},
		{"refused", func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{}, fmt.Errorf("%w: the model is gone", worker.ErrRefused)
		}, consign.FailRefused, "the model is gone"},
		{"payload", func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{}, fmt.Errorf("%w: no text", worker.ErrPayload)
		}, consign.FailPayload, "no text"},
		{"panic", func(context.Context, *worker.Task) (worker.Output, error) {
			var none map[string]int
			none["x"] = 1 //lint:ignore SA5000 the panic is the test
			return worker.Output{}, nil
		}, consign.FailTransient, "panic: assignment to entry in nil map\ngoroutine "},
		{"goexit", func(context.Context, *worker.Task) (worker.Output, error) {
			runtime.Goexit()
			return worker.Output{}, nil
		}, consign.FailTransient, "ended its goroutine"},
		{"long", func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{}, errors.New(strings.Repeat("ü", 1<<20))
		}, consign.FailTransient, "[cut]"},
		{"unsignable", func(context.Context, *worker.Task) (worker.Output, error) {
			return worker.Output{Engine: strings.Repeat("x", 2000)}, nil
		}, consign.FailTransient, "no record of the result"},
		{"limit", lasting(time.Hour), consign.FailTransient, "limit is over"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				q.Limit = time.Minute
				q.Add("TASK", "x")
				w := start(t, worker.Config{API: q, Executors: executors(tc.run)})
				time.Sleep(61 * time.Second)
				if !t.Failed() && q.Waiting() != 1 {
					t.Error("the worker does not claim any more")
				}
				w.endClean()
				returns := q.Returns()
				if len(returns) != 1 || returns[0].Fail == nil {
					t.Fatalf("returns: %+v", returns)
				}
				if f := returns[0].Fail; f.Kind != tc.kind || !strings.Contains(f.Reason, tc.reason) || len(f.Reason) > 4<<10 || !utf8.ValidString(f.Reason) {
					t.Errorf("%v: %s", f.Kind, f.Reason)
				}
			})
		})
	}
}

func TestWhatItCannotRunIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		q.Add("UNKNOWN", "x")
		if _, err := q.Submit(t.Context(), consign.SubmitRequest{Kind: "TASK", Payload: []byte("x"), Custody: consign.CustodyTransit}); err != nil {
			t.Fatal(err)
		}
		w := start(t, worker.Config{API: q, Executors: executors(echo)})
		synctest.Wait()
		w.endClean()
		for _, r := range q.Returns() {
			if r.Fail == nil || r.Fail.Kind != consign.FailRefused {
				t.Errorf("return: %+v", r)
			}
		}
		if len(q.Returns()) != 2 {
			t.Errorf("%d returns, want 2", len(q.Returns()))
		}
	})
}

// A queue that takes no result of this size says so; the job must not hang in
// a lease until that ends.
func TestAResultThatIsRefusedFailsTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		id := q.Add("TASK", "x")
		w := start(t, worker.Config{API: testkit.FaultyWorker(q, func(c testkit.Call) testkit.Fault {
			if c.Method == "Complete" {
				return testkit.Fault{Lose: &consign.FieldError{Field: "result", Problem: "has 9 bytes", Remedy: "send at most 8"}}
			}
			return testkit.Fault{}
		}), Executors: executors(echo)})
		synctest.Wait()
		wantState(t, q, id, consign.StateFailed)
		w.endClean()
	})
}

func TestConfig(t *testing.T) {
	good := worker.Config{API: testkit.NewFakeQueue(), Identity: identity, Executors: executors(echo)}
	if w, err := worker.New(good); err != nil || w.ID() != identity.Public().ID() {
		t.Fatalf("New: %v", err)
	}
	for field, spoil := range map[string]func(*worker.Config){
		"API":         func(c *worker.Config) { c.API = nil },
		"Identity":    func(c *worker.Config) { c.Identity = nil },
		"Executors":   func(c *worker.Config) { c.Executors = nil },
		"Slots":       func(c *worker.Config) { c.Slots = -1 },
		"CallTimeout": func(c *worker.Config) { c.CallTimeout = -1 },
		"Seq":         func(c *worker.Config) { c.Seq = -1 },
	} {
		cfg := good
		spoil(&cfg)
		_, err := worker.New(cfg)
		if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != "worker.Config."+field {
			t.Errorf("%s: %v", field, err)
		}
	}
	zero := good
	zero.Identity = new(sign.Identity)
	if _, err := worker.New(zero); err == nil {
		t.Error("an empty identity was accepted")
	}
}
