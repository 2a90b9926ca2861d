package consign_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// Why is my job not running? The queue says what it waits for.
func ExampleExplanation() {
	ctx := context.Background()
	queue, stop := exampleQueue(consign.Config{})
	defer stop()
	submitter := queue.Submitter("acme")
	job := submitText(submitter, strings.Repeat("x", 10_000)) // tier 3
	explain := func(workers int) {
		for {
			x, err := submitter.Explain(ctx, job)
			if err != nil {
				log.Fatal(err)
			}
			if x.Workers == workers { // it has registered
				fmt.Printf("%s: %s\n", x.State, x.Reason)
				return
			}
		}
	}

	explain(0)
	defer exampleWorker(queue, sign.Generate(), 2, capitals)()
	explain(1)
	defer exampleWorker(queue, sign.Generate(), 3, capitals)()
	fmt.Println(waitFor(submitter, job).State)
	// Output:
	// queued: no worker is registered
	// queued: no registered worker can run it: 1 takes only shorter prompts
	// completed
}

// A kind of jobs is held back, and let go. What runs already goes on.
func ExampleQueue_Pause() {
	ctx := context.Background()
	queue, stop := exampleQueue(consign.Config{})
	defer stop()
	defer exampleWorker(queue, sign.Generate(), 4, capitals)()
	submitter := queue.Submitter("acme")

	if err := queue.Pause(ctx, consign.PauseKind(consign.KindTask)); err != nil {
		log.Fatal(err)
	}
	job := submitText(submitter, "consign it")
	x, err := submitter.Explain(ctx, job)
	fmt.Println(x.State, x.Reason, err)

	if err := queue.Resume(ctx, consign.PauseKind(consign.KindTask)); err != nil {
		log.Fatal(err)
	}
	fmt.Println(waitFor(submitter, job).State)
	// Output:
	// queued its lane is paused: resume it <nil>
	// completed
}

// Jobs cost what the price table says. Without the credit there is no job.
func ExampleQueue_AddCredit() {
	ctx := context.Background()
	queue, stop := exampleQueue(consign.Config{Prices: consign.PriceTable{
		{Kind: consign.KindTask, Tier: 1, Price: 10_000}, // millionths
		{Kind: consign.KindTask, Price: 50_000},
	}})
	defer stop()
	submitter := queue.Submitter("acme")
	request := consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("consign it"), Custody: consign.CustodyPlain}

	quote, err := submitter.Quote(ctx, consign.QuoteRequest{Kind: consign.KindTask, Chars: 10})
	fmt.Println(quote.Price, quote.Policy, err)
	_, err = submitter.Submit(ctx, request)
	fmt.Println(errors.Is(err, consign.ErrCredit), err)

	if err := queue.AddCredit(ctx, "acme", 15_000, "invoice 17"); err != nil {
		log.Fatal(err)
	}
	job, err := submitter.Submit(ctx, request)
	fmt.Println(job.Price, err)
	balance, err := queue.Balance(ctx, "acme")
	fmt.Println(balance.Available, "available,", balance.Held, "held", err)
	// Output:
	// $0.010 CHEAP <nil>
	// true consign: insufficient credit: account "acme" does not have $0.010: add credit, or ask for less
	// $0.010 <nil>
	// $0.005 available, $0.010 held <nil>
}
