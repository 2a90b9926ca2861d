package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/worker"
)

// world is a queue in a bubble.
type world struct {
	queue  *consign.Queue
	client *client.Client
}

func newWorld(t *testing.T, cfg consign.Config) *world {
	t.Helper()
	key := sign.FromEd25519Seed([32]byte{9})
	cfg.Store, cfg.Identity, cfg.Logger = memdb.New(), key, slog.New(slog.DiscardHandler)
	q, _ := testkit.Start(t, cfg)
	c, err := client.New(client.Config{API: q.Submitter("acme"), QueueKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	return &world{queue: q, client: c}
}

func task(payload string) consign.SubmitRequest {
	return consign.SubmitRequest{Kind: "TASK", Payload: []byte(payload), Custody: consign.CustodyPlain}
}

func TestOnARealQueue(t *testing.T) {
	for name, test := range map[string]func(*testing.T){
		"jobs":                                jobsOnARealQueue,
		"a cancel reaches the executor":       cancelReachesTheExecutor,
		"drained work goes to another worker": drainedWorkGoesToAnotherWorker,
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
}

func jobsOnARealQueue(t *testing.T) {
	w := newWorld(t, consign.Config{})
	var runs atomic.Int32
	r := start(t, worker.Config{API: w.queue, Slots: 4, Executors: executors(func(ctx context.Context, task *worker.Task) (worker.Output, error) {
		n := runs.Add(1)
		task.Log("begins")
		if string(task.Payload) == "panics once" && n == 1 {
			panic("first")
		}
		return lasting(time.Minute)(ctx, task) // longer than a lease
	})})
	res, err := w.client.Run(t.Context(), task("panics once"))
	if err != nil || res.Attempts != 2 {
		t.Fatalf("%d attempts: %v", res.Attempts, err)
	}
	lines := 0
	for e, err := range w.client.Events(t.Context(), res.ID, 0) {
		if err != nil {
			t.Error(err)
		}
		if e.Event == consign.EventReport && string(e.Data) == "begins" {
			lines++
		}
	}
	if lines != 2 {
		t.Errorf("%d lines, want one of each attempt", lines)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if _, err := w.client.Run(t.Context(), task(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	r.endClean()
}

func cancelReachesTheExecutor(t *testing.T) {
	w := newWorld(t, consign.Config{})
	stopped := make(chan error, 1)
	r := start(t, worker.Config{API: w.queue, Executors: executors(func(ctx context.Context, _ *worker.Task) (worker.Output, error) {
		<-ctx.Done()
		stopped <- context.Cause(ctx)
		return worker.Output{}, ctx.Err()
	})})
	job, err := w.client.Submit(t.Context(), task("x"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if _, err := w.client.Cancel(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	if err := <-stopped; err != consign.ErrLeaseLost || time.Since(asked) > 10*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(asked), err)
	}
	r.endClean()
}

func drainedWorkGoesToAnotherWorker(t *testing.T) {
	w := newWorld(t, consign.Config{})
	first := start(t, worker.Config{API: w.queue, DrainTimeout: time.Second, Executors: executors(lasting(time.Hour))})
	job, err := w.client.Submit(t.Context(), task("x"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	first.endClean()
	second := start(t, worker.Config{API: w.queue, Executors: executors(lasting(time.Second))})
	if job, err = w.client.Wait(t.Context(), job.ID); err != nil || job.State != consign.StateCompleted {
		t.Errorf("%s: %v", job.State, err)
	}
	second.endClean()
}
