package consign_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
)

// foreignKey is the key of a foreign worker.
func foreignKey(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32))
}

func foreignPublic(key ed25519.PrivateKey) []byte { return key.Public().(ed25519.PublicKey) }

// foreignReceipt is one as a foreign worker makes it, its bytes written by text.
func foreignReceipt(key ed25519.PrivateKey, job consign.JobID, result []byte, text func([]byte) string) consign.ForeignReceipt {
	hash := sha256.Sum256(result)
	body := fmt.Sprintf(`{ "job_id":"%s","provider_pubkey":"%s","output_hash":"%s","timestamp":"2026-01-02T03:04:05Z","extra":{"a":[1]}}`,
		job, text(foreignPublic(key)), text(hash[:]))
	return consign.ForeignReceipt{JSON: body, Signature: text(ed25519.Sign(key, []byte(body)))}
}

// verifyForeign is ForeignReceipt.Verify, or a broken one.
type verifyForeign func(r *consign.ForeignReceipt, worker consign.WorkerID, job consign.JobID, result []byte) error

// foreignComplaint says what is wrong with verify: a good receipt that it
// refuses or a bad one that it takes.
func foreignComplaint(verify verifyForeign) error {
	key, other := foreignKey(1), foreignKey(2)
	worker, job, result := consign.ForeignWorkerID(foreignPublic(key)), consign.JobID{1, 2, 15: 3}, []byte("the output")
	for _, text := range []func([]byte) string{hex.EncodeToString, base64.StdEncoding.EncodeToString, base64.RawURLEncoding.EncodeToString} {
		r := foreignReceipt(key, job, result, text)
		if err := verify(&r, worker, job, result); err != nil {
			return fmt.Errorf("a good receipt: %w", err)
		}
	}
	good := foreignReceipt(key, job, result, hex.EncodeToString)
	takes := func(what string, r consign.ForeignReceipt, worker consign.WorkerID, job consign.JobID, result []byte) error {
		if verify(&r, worker, job, result) == nil {
			return fmt.Errorf("it takes %s", what)
		}
		return nil
	}
	errs := []error{
		takes("another worker's receipt", foreignReceipt(other, job, result, hex.EncodeToString), worker, job, result),
		takes("a receipt for another worker", good, consign.ForeignWorkerID(foreignPublic(other)), job, result),
		takes("a key as its own ID", good, consign.WorkerID(foreignPublic(key)), job, result),
		takes("a receipt for another job", good, worker, consign.JobID{4}, result),
		takes("a receipt for another result", good, worker, job, []byte("the output.")),
		takes("no receipt", consign.ForeignReceipt{}, worker, job, result),
		takes("a receipt with two job IDs", resigned(key, `{"job_id":"x",`+good.JSON[1:]), worker, job, result),
		takes("another one's signature", consign.ForeignReceipt{JSON: good.JSON, Signature: hex.EncodeToString(ed25519.Sign(other, []byte(good.JSON)))}, worker, job, result),
	}
	for i := range good.JSON { // what is signed are the bytes, also those that mean nothing
		spoilt := good
		spoilt.JSON = good.JSON[:i] + string(good.JSON[i]^1) + good.JSON[i+1:]
		errs = append(errs, takes(fmt.Sprintf("a receipt with byte %d changed", i), spoilt, worker, job, result))
	}
	return errors.Join(errs...)
}

func resigned(key ed25519.PrivateKey, body string) consign.ForeignReceipt {
	return consign.ForeignReceipt{JSON: body, Signature: hex.EncodeToString(ed25519.Sign(key, []byte(body)))}
}

func TestForeignReceipt(t *testing.T) {
	if err := foreignComplaint((*consign.ForeignReceipt).Verify); err != nil {
		t.Error(err)
	}
	// Each check is there for a reason: without it something bad is taken.
	for _, field := range []string{"foreign.receipt_json", "foreign.provider_pubkey", "foreign.signature", "foreign.job_id", "foreign.output_hash"} {
		without := func(r *consign.ForeignReceipt, worker consign.WorkerID, job consign.JobID, result []byte) error {
			err := r.Verify(worker, job, result)
			if bad, ok := errors.AsType[*consign.ReceiptError](err); ok && bad.Field == field {
				return nil
			}
			return err
		}
		if foreignComplaint(without) == nil {
			t.Errorf("without the check of %s nothing is missed", field)
		}
	}
}

// foreignWorld is a queue with an own session and a foreign one, of the same
// key.
type foreignWorld struct {
	q       *consign.Queue
	api     consign.SubmitterAPI
	key     ed25519.PrivateKey
	own     consign.Session
	foreign consign.Session
}

var foreignTask = consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: 1, Encryption: true}

func inForeignWorld(t *testing.T, c consign.Config, test func(t *testing.T, w *foreignWorld)) {
	bubble(t, func(t *testing.T) {
		c.Identity = seededIdentity(1)
		q, stop := startQueueStop(t, c)
		defer stop()
		w := &foreignWorld{q: q, api: q.Submitter("acme"), key: foreignKey(7)}
		w.own = openSession(t, q, w.identity(), foreignTask)
		var err error
		if w.foreign, err = q.RegisterForeign(t.Context(), hex.EncodeToString(foreignPublic(w.key)), foreignTask); err != nil {
			t.Fatal(err)
		}
		test(t, w)
	})
}

func (w *foreignWorld) identity() *sign.Identity { return sign.FromEd25519Seed([32]byte(w.key.Seed())) }

// claim submits a plain task and claims it.
func (w *foreignWorld) claim(t *testing.T, s consign.Session) consign.Assignment {
	t.Helper()
	if _, err := w.api.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("in"), Custody: consign.CustodyPlain, MaxAttempts: 1}); err != nil {
		t.Fatal(err)
	}
	a, err := s.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (w *foreignWorld) completion(a consign.Assignment, result string) consign.Completion {
	record, _ := json.Marshal(foreignReceipt(w.key, a.Job, []byte(result), hex.EncodeToString)) // of strings
	return consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte(result), Record: record}
}

// A foreign result says what it is worth, and is answered like any other.
func TestForeignCompletion(t *testing.T) {
	inForeignWorld(t, consign.Config{}, func(t *testing.T, w *foreignWorld) {
		a := w.claim(t, w.foreign)
		c := w.completion(a, "out")
		for range 2 {
			if err := w.foreign.Complete(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.foreign.Complete(t.Context(), w.completion(a, "other")); !errors.Is(err, consign.ErrConflict) {
			t.Errorf("another result: %v", err)
		}
		job, err := w.api.Get(t.Context(), a.Job)
		if err != nil || job.State != consign.StateCompleted || job.Verification != consign.VerificationSignature || string(job.Result) != "out" || job.Worker != consign.ForeignWorkerID(foreignPublic(w.key)) {
			t.Errorf("the job is %+v, %v", job, err)
		}
		receipt, err := w.api.Receipt(t.Context(), a.Job)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(receipt)
		if err != nil {
			t.Fatal(err)
		}
		var read consign.Receipt
		if err := json.Unmarshal(data, &read); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		x := consign.Exchange{Queue: seededIdentity(1).Public(), Job: a.Job, Result: job.Result}
		acceptance, err := read.VerifyForeign(job.Worker, x)
		if err != nil || fmt.Sprint(acceptance.Checks) != "[claim signature]" || acceptance.Custody != consign.CustodyPlain {
			t.Errorf("the receipt is accepted by %+v, %v", acceptance, err)
		}
		if _, _, err := read.Verify(x); !errors.Is(err, consign.ErrBadReceipt) {
			t.Errorf("a foreign receipt verifies as a record: %v", err)
		}
		read.Foreign.Signature = "00"
		if _, err := read.VerifyForeign(job.Worker, x); !errors.Is(err, consign.ErrBadReceipt) {
			t.Errorf("a receipt without its signature verifies: %v", err)
		}
	})
}

// Neither kind of session takes the other's proof, and a foreign worker's sins
// are not those of the worker with the same key.
func TestForeignIsNotOwn(t *testing.T) {
	inForeignWorld(t, consign.Config{}, func(t *testing.T, w *foreignWorld) {
		a := w.claim(t, w.own)
		if err := w.own.Complete(t.Context(), w.completion(a, "out")); !errors.Is(err, consign.ErrBadResult) {
			t.Errorf("an own session takes a foreign receipt: %v", err)
		}
		a = w.claim(t, w.foreign)
		if a.Policy != consign.PolicyCheap {
			t.Errorf("a task's policy is %v", a.Policy)
		}
		c := consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: []byte("out")}
		c.Record = signedRecord(t, w.identity(), recordOf(&a, c.Result, 1))
		if err := w.foreign.Complete(t.Context(), c); !errors.Is(err, consign.ErrBadResult) {
			t.Errorf("a foreign session takes a record: %v", err)
		}
		time.Sleep(time.Minute) // the strikes are carried out
		own, err := w.q.Worker(t.Context(), consign.WorkerID(foreignPublic(w.key)))
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := w.q.Worker(t.Context(), consign.ForeignWorkerID(foreignPublic(w.key)))
		if err != nil || own.Standing.Row != 1 || foreign.Standing.Row != 1 {
			t.Errorf("the strikes are %d and %d, want one each, %v", own.Standing.Row, foreign.Standing.Row, err)
		}
	})
}

// anything lets every worker run every job.
type anything struct{ consign.FourSignals }

func (anything) Fits(*consign.Needs, *consign.Capabilities) consign.Reason { return "" }

// A foreign worker is given nothing that is sealed: neither by what it declares,
// at registration or later, nor by a scheduler that does not care.
func TestForeignGetsNothingSealed(t *testing.T) {
	for name, scheduler := range map[string]consign.Scheduler{"FourSignals": nil, "anything": anything{}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, func(r *rig) { r.config.Scheduler = scheduler })
				s, err := r.q.RegisterForeign(t.Context(), hex.EncodeToString(foreignPublic(foreignKey(7))), foreignTask)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Heartbeat(t.Context(), consign.Heartbeat{Capabilities: foreignTask, FreeSlots: 1}); err != nil {
					t.Fatal(err)
				}
				r.credit(1000)
				job := r.submit(r.request())
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if a, err := s.Claim(ctx); err == nil {
					t.Errorf("it gets a payload in the custody %s", a.Custody)
				}
				now, err := r.sub.Get(t.Context(), job.ID)
				if err != nil || now.State != consign.StateQueued {
					t.Errorf("the job is %s, %v", now.State, err)
				}
				if scheduler == nil && now.Attempts != 0 {
					t.Errorf("the job was claimed %d times", now.Attempts)
				}
			})
		})
	}
}

func TestForeignRegistrationRefused(t *testing.T) {
	inForeignWorld(t, consign.Config{}, func(t *testing.T, w *foreignWorld) {
		for _, key := range []string{"", "AA", "not a key", hex.EncodeToString(make([]byte, 32)), hex.EncodeToString(bytes.Repeat([]byte{255}, 32)), hex.EncodeToString(make([]byte, 64))} {
			if _, err := w.q.RegisterForeign(t.Context(), key, foreignTask); !isField(err, "provider_pubkey") {
				t.Errorf("the key %.20q: %v", key, err)
			}
		}
		if _, err := w.q.RegisterForeign(t.Context(), base64.RawURLEncoding.EncodeToString(foreignPublic(w.key)), consign.Capabilities{}); !isField(err, "worker.kinds") {
			t.Errorf("no capabilities: %v", err)
		}
	})
	bubble(t, func(t *testing.T) {
		q, stop := startQueueStop(t, consign.Config{NoReceipts: true})
		defer stop()
		if _, err := q.RegisterForeign(t.Context(), hex.EncodeToString(foreignPublic(foreignKey(1))), foreignTask); !isField(err, "worker") {
			t.Errorf("a queue without receipts: %v", err)
		}
	})
}
