package consign_test

import (
	"context"
	"fmt"
	"log"
	"sync"
	"unicode/utf8"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/worker"
)

// reverse is an executor: what a worker runs. It says whose fault an error is.
type reverse struct{}

func (reverse) Execute(ctx context.Context, t *worker.Task) (worker.Output, error) {
	if t.Payload[0] == '#' {
		// Nobody can run this: the job fails at once, and counts against no
		// worker. An error that wraps worker.ErrRefused sends the job to
		// another worker; any other is tried again elsewhere, after a while.
		return worker.Output{}, fmt.Errorf("%w: line 1 is a comment: send text", worker.ErrPayload)
	}
	var out []byte
	for text := t.Payload; len(text) > 0; {
		if err := ctx.Err(); err != nil {
			return worker.Output{}, err // nobody waits for the result any more
		}
		r, size := utf8.DecodeLastRune(text)
		out = utf8.AppendRune(out, r)
		text = text[:len(text)-size]
	}
	t.Progress("done") // for those who follow the job's events
	return worker.Output{Result: out, Engine: "reverse/1"}, nil
}

// A kind of job of one's own, and what runs it.
func Example_executor() {
	queue, stop := exampleQueue(consign.Config{Kinds: []consign.Kind{{Name: "REVERSE"}}})
	defer stop()
	w, err := worker.New(worker.Config{
		API:       queue,
		Identity:  sign.Generate(),
		Executors: map[string]worker.Executor{"REVERSE": reverse{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, sendHome := context.WithCancel(context.Background())
	var working sync.WaitGroup
	working.Go(func() { _ = w.Run(ctx) })
	defer func() { sendHome(); working.Wait() }()

	c, err := client.New(client.Config{API: queue.Submitter("acme"), Unverified: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"Höhe", "# not text"} {
		result, err := c.Run(ctx, consign.SubmitRequest{Kind: "REVERSE", Payload: []byte(text), Custody: consign.CustodyPlain})
		fmt.Printf("%s %q %q\n", result.State, result.Result, result.Reason)
		if err != nil {
			fmt.Printf("%T\n", err)
		}
	}
	// Output:
	// completed "ehöH" ""
	// failed "" "worker: bad payload: line 1 is a comment: send text"
	// *client.JobError
}
