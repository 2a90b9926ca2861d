package client_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
)

// Sealed jobs on a real queue: the same two ends, and nothing between them that
// could read.
func TestSealedOnARealQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, err := vault.NewMemory(vault.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = keys.Close() })
		q, _ := testkit.Start(t, consign.Config{Store: memdb.New(), Identity: queueKey, Vault: keys, Logger: slog.New(slog.DiscardHandler)})
		n := 0
		log := answer(t, q, func(_ context.Context, task *worker.Task) (worker.Output, error) {
			task.Part([]byte("secret part"))
			time.Sleep(time.Minute) // longer than a lease
			switch n++; {
			case string(task.Payload) == "secret poison":
				return worker.Output{}, fmt.Errorf("%w: secret reason", worker.ErrPayload)
			case n == 1:
				panic("secret panic")
			}
			return worker.Output{Result: []byte(strings.ToUpper(string(task.Payload)))}, nil
		})
		if err := q.Pair(t.Context(), consign.Pairing{Account: "acme", Worker: workerKey.Public().ID()}); err != nil {
			t.Fatal(err)
		}
		keyring := client.NewKeyring()
		c := open(t, q.Submitter("acme"), func(c *client.Config) { c.Keyring, c.Identity = keyring, alice })
		if _, err := c.Run(t.Context(), private("job")); !errors.Is(err, client.ErrNotPinned) {
			t.Errorf("before it was pinned: %v", err)
		}
		if err := keyring.Pin(fingerprint(workerKey)); err != nil {
			t.Fatal(err)
		}

		res, err := c.Run(t.Context(), private("job"))
		if err != nil || string(res.Output) != "SECRET JOB" || res.Attempts != 2 || res.Verification != consign.VerificationVerified {
			t.Fatalf("%q after %d attempts: %v", res.Output, res.Attempts, err)
		}
		if got := text(t, c.Stream(t.Context(), res.ID)); len(got) != 1 || got[2] != "secret part" {
			t.Errorf("stream: %v", got)
		}
		bad, err := c.Run(t.Context(), private("poison"))
		if _, ok := errors.AsType[*client.JobError](err); !ok || !strings.Contains(bad.Reason, "the sealed log says why") {
			t.Errorf("poison: %q, %v", bad.Reason, err)
		}
		if got := text(t, c.Stream(t.Context(), bad.ID)); !strings.Contains(got[1], "secret part\nworker: bad payload: secret reason") {
			t.Errorf("what the sealed log says: %v", got)
		}
		public, err := c.Run(t.Context(), secret("escrow"))
		if err != nil || string(public.Output) != "SECRET ESCROW" || public.Acceptance.Custody != consign.CustodyEscrow || public.Comparison == nil {
			t.Errorf("in escrow: %q, comparison %v, %v", public.Output, public.Comparison, err)
		}
		for _, id := range []consign.JobID{res.ID, bad.ID, public.ID} {
			for e, err := range q.Submitter("acme").Events(t.Context(), id, 0) {
				if err != nil || strings.Contains(string(e.Data)+e.Reason, "secret ") {
					t.Errorf("in the queue's log: %q %q, %v", e.Reason, e.Data, err)
				}
			}
			if err := c.Acknowledge(t.Context(), id); err != nil {
				t.Error(err)
			}
		}
		if jobs, err := keyring.Jobs(); err != nil || len(jobs) != 0 {
			t.Errorf("%d jobs kept: %v", len(jobs), err)
		}
		if strings.Contains(strings.ToLower(log.String()), "secret ") {
			t.Errorf("the worker logs plaintext: %s", log)
		}
	})
}
