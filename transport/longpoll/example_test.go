package longpoll_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/worker"
)

// A coordinator serves submitters, whom it knows by their tokens, and workers.
// Each dials it from a program of its own.
func Example() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}

	identity := sign.Generate()
	queue, err := consign.New(consign.Config{Store: memdb.New(), Identity: identity})
	check(err)
	go queue.Run(ctx)
	const token = "2f1ac0ffee" // use 32 random bytes; LoadTokens reads a file
	tokens, err := longpoll.ReadTokens(strings.NewReader("acme " + longpoll.HashToken(token)))
	check(err)
	handler, err := longpoll.NewHandler(longpoll.Config{Submitters: queue.Submitter, Workers: queue, Authenticator: tokens})
	check(err)
	server := httptest.NewServer(handler)
	defer server.Close()

	_, workers, err := longpoll.Dial(longpoll.DialConfig{URL: server.URL})
	check(err)
	shout := func(_ context.Context, t *worker.Task) (worker.Output, error) {
		return worker.Output{Result: []byte(strings.ToUpper(string(t.Payload)))}, nil
	}
	w, err := worker.New(worker.Config{API: workers, Identity: sign.Generate(),
		Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(shout)}})
	check(err)
	go w.Run(ctx)

	acme, _, err := longpoll.Dial(longpoll.DialConfig{URL: server.URL, Token: token})
	check(err)
	c, err := client.New(client.Config{API: acme, QueueKey: identity.Public()})
	check(err)
	result, err := c.Run(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("hello"), Custody: consign.CustodyPlain})
	check(err)
	fmt.Printf("%s\n", result.Output)
	stop() // before the server is closed, which waits for the worker's call
	// Output: HELLO
}
