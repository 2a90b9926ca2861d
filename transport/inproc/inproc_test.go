package inproc_test

import (
	"context"
	"fmt"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/inproc"
)

func ExampleDial() {
	queue, err := consign.New(consign.Config{Store: memdb.New()})
	if err != nil {
		panic(err)
	}
	submitter, workers := inproc.Dial(queue, "acme")

	quote, err := submitter.Quote(context.Background(), consign.QuoteRequest{Kind: consign.KindInference, Chars: 2_000})
	fmt.Println(quote.Policy, quote.Tier, quote.Price, err)
	challenge, err := workers.Challenge(context.Background())
	fmt.Println(challenge.Queue == queue.ID(), err)
	// Output:
	// FAST 2 $0.000 <nil>
	// true <nil>
}
