package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/worker"
)

// The scripts know each call; that the calls fit together is seen with a
// queue, workers and a submitter.

// jobsPerQueue is enough for workers to race for each job.
const jobsPerQueue = 100

// submitterOnQueue submits through the transport and works beside it.
func submitterOnQueue(t *testing.T, dial func(testing.TB, consign.SubmitterAPI) consign.SubmitterAPI) {
	q, key := startQueue(t)
	startWorkers(t, q)
	runJobs(t, dial(t, q.Submitter("acme")), key)
}

// workerOnQueue works through the transport and submits beside it.
func workerOnQueue(t *testing.T, dial func(testing.TB, consign.WorkerAPI) consign.WorkerAPI) {
	q, key := startQueue(t)
	startWorkers(t, dial(t, q))
	runJobs(t, q.Submitter("acme"), key)
}

func startQueue(t *testing.T) (*consign.Queue, sign.PublicKey) {
	t.Helper()
	identity := sign.Generate()
	q, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity})
	if err != nil {
		t.Fatal(err)
	}
	background(t, q.Run)
	return q, identity.Public()
}

// background runs f until the test has ended.
func background(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func startWorkers(t *testing.T, api consign.WorkerAPI) {
	t.Helper()
	for range 3 {
		w, err := worker.New(worker.Config{API: api, Identity: sign.Generate(), Slots: 4, Executors: map[string]worker.Executor{
			consign.KindTask: worker.ExecutorFunc(func(_ context.Context, task *worker.Task) (worker.Output, error) {
				task.Part(task.Payload)
				return worker.Output{Result: bytes.ToUpper(task.Payload)}, nil
			})}})
		if err != nil {
			t.Fatal(err)
		}
		background(t, w.Run)
	}
}

func runJobs(t *testing.T, api consign.SubmitterAPI, key sign.PublicKey) {
	t.Helper()
	c, err := client.New(client.Config{API: api, QueueKey: key, Acknowledge: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	var jobs sync.WaitGroup
	defer jobs.Wait()
	for i := range jobsPerQueue {
		jobs.Go(func() {
			r := consign.SubmitRequest{Kind: consign.KindTask, Payload: fmt.Appendf(nil, "job %d", i), Custody: consign.CustodyPlain}
			res, err := c.Run(ctx, r)
			if err != nil {
				t.Errorf("job %d: %v", i, err)
				return
			}
			if want := bytes.ToUpper(r.Payload); !bytes.Equal(res.Result, want) || res.Attempts != 1 {
				t.Errorf("job %d: %q after %d attempts, want %q after one", i, res.Result, res.Attempts, want)
			}
		})
	}
}
