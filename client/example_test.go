package client_test

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/worker"
)

// A whole program: a queue in memory, a worker, and a submitter that verifies
// what it gets. Between processes only the two API fields differ.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()

	identity := sign.Generate()
	queue, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity})
	if err != nil {
		panic(err)
	}
	running.Go(func() { _ = queue.Run(ctx) })

	w, err := worker.New(worker.Config{
		API:      queue,
		Identity: sign.Generate(),
		Executors: map[string]worker.Executor{
			consign.KindTask: worker.ExecutorFunc(func(_ context.Context, t *worker.Task) (worker.Output, error) {
				return worker.Output{Result: []byte(strings.ToUpper(string(t.Payload)))}, nil
			}),
		},
	})
	if err != nil {
		panic(err)
	}
	running.Go(func() { _ = w.Run(ctx) })

	c, err := client.New(client.Config{API: queue.Submitter("acme"), QueueKey: identity.Public()})
	if err != nil {
		panic(err)
	}
	result, err := c.Run(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("hello"), Custody: consign.CustodyPlain})
	fmt.Printf("%s, made by this worker: %t, %v\n", result.Result, result.Record.WorkerID == w.ID(), err)
	// Output: HELLO, made by this worker: true, <nil>
}
