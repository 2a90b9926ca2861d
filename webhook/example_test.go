package webhook_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/webhook"
)

// A Sender runs beside the queue, on the queue's store.
func Example() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}

	store, identity := memdb.New(), sign.Generate()
	keys, err := vault.NewMemory(vault.Config{})
	check(err)
	queue, err := consign.New(consign.Config{Store: store, Identity: identity, Vault: keys, Webhooks: true})
	check(err)
	go queue.Run(ctx)
	sender, err := webhook.New(webhook.Config{Store: store, Identity: identity, AnyAddress: true, // this example's server is here
		Seed: func() []byte { return keys.Secret("webhook") }})
	check(err)
	go sender.Run(ctx)

	// The submitter's server. It checks each message with what Keys returns for
	// the account, with a library of Standard Webhooks.
	told := make(chan webhook.Message, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m webhook.Message
		check(json.NewDecoder(r.Body).Decode(&m))
		told <- m
	}))
	defer server.Close()

	acme := queue.Submitter("acme")
	job, err := acme.Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("hello"), Custody: consign.CustodyPlain, Webhook: server.URL})
	check(err)
	_, err = acme.Cancel(ctx, job.ID)
	check(err)
	m := <-told
	fmt.Println(m.Type, m.Data.Job == job.ID, m.Data.Status)
	// Output: job.ended true cancelled
}
