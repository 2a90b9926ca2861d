package consign_test

import (
	"context"
	"log"
	"strings"
	"sync"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/worker"
)

// What the examples share. The first one, Example, does without.

// exampleQueue runs a queue until stop.
func exampleQueue(c consign.Config) (q *consign.Queue, stop func()) {
	if c.Store == nil {
		c.Store = memdb.New()
	}
	q, err := consign.New(c)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { _ = q.Run(ctx) })
	return q, func() { cancel(); ends.Wait() }
}

// exampleWorker runs a worker for TASK jobs until stop.
func exampleWorker(q *consign.Queue, id *sign.Identity, tier consign.Tier, run worker.ExecutorFunc) (stop func()) {
	w, err := worker.New(worker.Config{
		API: q, Identity: id,
		Executors:    map[string]worker.Executor{consign.KindTask: run},
		Capabilities: consign.Capabilities{MaxContextTier: tier},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ends.Go(func() { _ = w.Run(ctx) })
	return func() { cancel(); ends.Wait() }
}

// capitals answers in capitals.
func capitals(_ context.Context, t *worker.Task) (worker.Output, error) {
	return worker.Output{Result: []byte(strings.ToUpper(string(t.Payload)))}, nil
}

// submitText submits a plain TASK job.
func submitText(s consign.SubmitterAPI, text string) consign.JobID {
	job, err := s.Submit(context.Background(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte(text), Custody: consign.CustodyPlain})
	if err != nil {
		log.Fatal(err)
	}
	return job.ID
}

// waitFor returns a job once it has ended.
func waitFor(s consign.SubmitterAPI, id consign.JobID) consign.JobInfo {
	job, err := s.Wait(context.Background(), id)
	if err != nil {
		log.Fatal(err)
	}
	return job
}
