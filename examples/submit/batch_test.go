package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
)

// newQueue is a queue with a worker that fails what is poison.
func newQueue(t *testing.T) *queue {
	t.Helper()
	key := sign.FromEd25519Seed([32]byte{9})
	keys, err1 := vault.NewMemory(vault.Config{})
	c, err2 := consign.New(consign.Config{Store: memdb.New(), Vault: keys, Identity: key, Logger: slog.New(slog.DiscardHandler)})
	w, err3 := worker.New(worker.Config{API: c, Identity: sign.FromEd25519Seed([32]byte{7}), DrainTimeout: -1, Executors: map[string]worker.Executor{
		consign.KindTask: worker.ExecutorFunc(func(_ context.Context, task *worker.Task) (worker.Output, error) {
			if string(task.Payload) == "poison" {
				return worker.Output{}, worker.ErrPayload
			}
			return worker.Output{Result: bytes.ToUpper(task.Payload)}, nil
		})}})
	q := &queue{keyring: client.NewKeyring(), key: key.Public()}
	var err4 error
	q.Client, err4 = client.New(client.Config{API: c.Submitter("acme"), QueueKey: q.key, Keyring: q.keyring})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { ended <- c.Run(ctx) }()
	go func() { ended <- w.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended; <-ended })
	return q
}

func request(payload string, c consign.Custody) consign.SubmitRequest {
	return consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte(payload), Custody: c}
}

// The exit status of a batch that is sent again is that of its jobs, and what
// was acknowledged leaves no keys.
func TestBatchSentAgain(t *testing.T) {
	for name, c := range map[string]struct {
		first, again string
		custody      consign.Custody
		ends         bool
	}{
		"done":         {"a", "a", consign.CustodyEscrow, true},
		"failed":       {"poison", "poison", consign.CustodyEscrow, false},
		"plain edited": {"a", "b", consign.CustodyPlain, false},
	} {
		t.Run(name, func(t *testing.T) {
			q, r := newQueue(t), request(c.first, c.custody)
			_ = q.runBatch(t.Context(), options{resultFile: filepath.Join(t.TempDir(), "1")}, []consign.SubmitRequest{r})
			r.Payload = []byte(c.again)
			err := q.runBatch(t.Context(), options{resultFile: filepath.Join(t.TempDir(), "2")}, []consign.SubmitRequest{r})
			if (err == nil) != c.ends {
				t.Errorf("the second run ends with %v", err)
			}
			if ids, err := q.keyring.Jobs(); err != nil || len(ids) > 0 {
				t.Errorf("keys of %v are left (%v)", ids, err)
			}
		})
	}
}

// A line whose result is in the file is not sent, even to a queue that has never
// seen it; a torn line is none, and nothing is put behind it.
func TestResultsInTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results")
	o, r := options{resultFile: file}, request("a", consign.CustodyEscrow)
	if err := newQueue(t).runBatch(t.Context(), o, []consign.SubmitRequest{r}); err != nil {
		t.Fatal(err)
	}
	whole, _ := os.ReadFile(file)
	torn := append(bytes.Clone(whole), `{"line":2,"verified":true`...)
	if err := os.WriteFile(file, torn, 0o600); err != nil {
		t.Fatal(err)
	}
	q := newQueue(t)
	if err := q.runBatch(t.Context(), o, []consign.SubmitRequest{r}); err != nil {
		t.Error(err)
	}
	if _, err := q.Get(t.Context(), r.ID); !errors.Is(err, consign.ErrNotFound) {
		t.Errorf("it was sent again: %v", err)
	}
	if got, _ := os.ReadFile(file); string(got) != string(torn)+"\n" {
		t.Errorf("the file is %q", got)
	}
	r.Payload = []byte("b")
	if err := q.runBatch(t.Context(), o, []consign.SubmitRequest{r}); err == nil {
		t.Error("the result of another text counts")
	}
}

// After a write that failed nothing is written any more.
func TestBrokenOutput(t *testing.T) {
	for _, receipts := range []bool{false, true} {
		good, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		closed, _ := os.CreateTemp(t.TempDir(), "")
		_ = closed.Close()
		b := &batchOutput{results: closed, jobs: 2}
		if receipts {
			b.results, b.receipts = good, closed
		}
		first := b.add(ended{Verified: true, Receipt: &consign.Receipt{}})
		b.results, b.receipts = good, nil
		if err := b.add(ended{Verified: true}); first == nil || err != first { //nolint:errorlint // the very same
			t.Errorf("%v, then %v", first, err)
		}
		if info, _ := good.Stat(); info.Size() > 0 {
			t.Error("a line was written after it")
		}
		_ = good.Close()
	}
}
