package openai_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/openai"
)

// newFleet is a queue with one worker on the engine.
func newFleet(t *testing.T, slots int, e *openai.Executor) *client.Client {
	t.Helper()
	key := sign.FromEd25519Seed([32]byte{9})
	keys, err := vault.NewMemory(vault.Config{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := consign.New(consign.Config{Store: memdb.New(), Vault: keys, Identity: key, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w, err := worker.New(worker.Config{
		API: q, Identity: sign.FromEd25519Seed([32]byte{7}), Slots: slots, DrainTimeout: -1,
		Executors:    map[string]worker.Executor{consign.KindInference: e},
		Capabilities: consign.Capabilities{Models: []string{"*"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	queueing, stopQueue := context.WithCancel(t.Context())
	working, stopWorker := context.WithCancel(t.Context())
	queueEnded, workerEnded := make(chan error, 1), make(chan error, 1)
	go func() { queueEnded <- q.Run(queueing) }()
	go func() { workerEnded <- w.Run(working) }()
	t.Cleanup(func() {
		stopWorker()
		<-workerEnded
		stopQueue()
		<-queueEnded
	})
	c, err := client.New(client.Config{API: q.Submitter("acme"), QueueKey: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func inference(model, payload string) consign.SubmitRequest {
	return consign.SubmitRequest{Kind: consign.KindInference, Model: model, Payload: []byte(payload), Custody: consign.CustodyPlain}
}

// parts joins what was streamed of a job, once it has ended.
func parts(t *testing.T, c *client.Client, id consign.JobID) (joined string, n int) {
	t.Helper()
	var b strings.Builder
	for p, err := range c.Stream(t.Context(), id) {
		if err != nil {
			t.Error(err)
			break
		}
		if p.Kind == consign.ReportPart {
			b.Write(p.Data)
			n++
		}
	}
	return b.String(), n
}

// Through a queue: the parts are the result, the record is the engine's, and a
// bad payload is nobody's fault but the job's.
func TestOnAQueue(t *testing.T) {
	s := newOllama(t)
	s.recorded(t, "/api/generate", "generate_stream.http")
	c := newFleet(t, 1, newExecutor(t, openai.Config{URL: s.URL}))
	res, err := c.Run(t.Context(), inference("stories260k", `{"prompt":"Once upon a time","raw":true,"max_tokens":12}`))
	if err != nil {
		t.Fatal(err)
	}
	if joined, _ := parts(t, c, res.ID); joined != string(res.Result) || joined != ", there was a little girl named Lily. She" {
		t.Errorf("the parts are %q, the result %q", joined, res.Result)
	}
	if r := res.Record; r.Engine != "ollama/0.0.0" || !strings.Contains(r.Class, " greedy options:") || r.ModelDigest == "" || r.ResourceUse.OutputTokens != 12 {
		t.Errorf("the record is %+v", r)
	}
	res, err = c.Run(t.Context(), inference("stories260k", `{"prompt":"x","max_tokens":0}`))
	if err == nil || res.State != consign.StateFailed || res.Attempts != 1 || !strings.Contains(res.Reason, "LLM_INFER.max_tokens is 0: send a number from 1 to 131072") {
		t.Errorf("a bad payload: %s after %d attempts, %q, %v", res.State, res.Attempts, res.Reason, err)
	}
}
