package conformance

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/webhook"
)

// The official library of Standard Webhooks verifies what a Sender sends, and
// refuses it once it was altered. It knows v1 alone: v1a is verified in package
// webhook, by its definition.
func TestStandardWebhooks(t *testing.T) {
	type received struct {
		header http.Header
		body   []byte
	}
	got := make(chan received, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- received{r.Header, body}
	}))
	defer srv.Close()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	store, identity := memdb.New(), sign.Generate()
	q, err := consign.New(consign.Config{Store: store, Identity: identity, Webhooks: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := webhook.New(webhook.Config{Store: store, Identity: identity, Seed: func() []byte { return make([]byte, 32) }, AnyAddress: true})
	if err != nil {
		t.Fatal(err)
	}
	group.Go(func() { _ = q.Run(ctx) })
	group.Go(func() { _ = s.Run(ctx) })
	job, err := q.Submitter("acme").Submit(ctx, consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain, Webhook: srv.URL})
	if err == nil {
		_, err = q.Submitter("acme").Cancel(ctx, job.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	var message received
	select {
	case message = <-got:
	case <-ctx.Done():
		t.Fatal("no message came")
	}

	secret, _ := s.Keys("acme")
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := wh.Verify(message.body, message.header); err != nil {
		t.Errorf("the library refuses it: %v", err)
	}
	if !bytes.Contains(message.body, []byte(job.ID.String())) {
		t.Errorf("%s does not name the job", message.body)
	}
	for what, spoil := range map[string]func(h http.Header, b []byte) []byte{
		"another body":      func(_ http.Header, b []byte) []byte { return append(b, ' ') },
		"another ID":        func(h http.Header, b []byte) []byte { h.Set("webhook-id", "msg_x"); return b },
		"another time":      func(h http.Header, b []byte) []byte { h.Set("webhook-timestamp", "1700000000"); return b },
		"another signature": func(h http.Header, b []byte) []byte { h.Set("webhook-signature", "v1,AAAA"); return b },
	} {
		h := message.header.Clone()
		if b := spoil(h, bytes.Clone(message.body)); wh.Verify(b, h) == nil {
			t.Errorf("the library takes %s", what)
		}
	}
	secret, _ = s.Keys("other")
	if wh, err := standardwebhooks.NewWebhook(secret); err != nil || wh.Verify(message.body, message.header) == nil {
		t.Errorf("another account's secret verifies it (%v)", err)
	}
}
