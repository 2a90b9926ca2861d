package consign_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"sync"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/worker"
)

// A queue, a worker and a submitter in one program. Each of the three may as
// well be a program of its own: a transport's dialer returns what is given
// here as API.
func Example() {
	identity := sign.Generate() // sign.LoadOrCreate in a program that restarts
	queue, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity})
	if err != nil {
		log.Fatal(err)
	}
	shout := func(_ context.Context, t *worker.Task) (worker.Output, error) {
		return worker.Output{Result: []byte(strings.ToUpper(string(t.Payload)))}, nil
	}
	w, err := worker.New(worker.Config{
		API:       queue,
		Identity:  sign.Generate(),
		Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(shout)},
	})
	if err != nil {
		log.Fatal(err)
	}

	// The worker hands in what it has begun before it ends, so it ends first.
	serving, closeQueue := context.WithCancel(context.Background())
	working, sendHome := context.WithCancel(context.Background())
	var queueEnds, workerEnds sync.WaitGroup
	queueEnds.Go(func() { _ = queue.Run(serving) }) // context.Canceled
	workerEnds.Go(func() { _ = w.Run(working) })
	defer func() { sendHome(); workerEnds.Wait(); closeQueue(); queueEnds.Wait() }()

	c, err := client.New(client.Config{API: queue.Submitter("acme"), QueueKey: identity.Public()})
	if err != nil {
		log.Fatal(err)
	}
	result, err := c.Run(context.Background(), consign.SubmitRequest{ // submit, wait, verify
		Kind:    consign.KindTask,
		Payload: []byte("consign it"),
		Custody: consign.CustodyPlain, // storing plaintext is never the default
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s (%s)\n", result.State, result.Result, result.Verification)
	// Output:
	// completed: CONSIGN IT (verified)
}
