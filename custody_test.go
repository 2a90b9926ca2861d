package consign_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/vault"
	"github.com/consignq/consign/worker"
)

// custodyWorld is a whole queue with a real vault, a worker and a client.
type custodyWorld struct {
	q     *consign.Queue
	store *dumpStore
	vault *vault.Vault
	sub   consign.SubmitterAPI
	c     *client.Client
	ring  *client.Keyring
}

const secret = "the quick brown fox jumps over the lazy dog"

// inCustodyWorld runs a worker that answers in capitals.
func inCustodyWorld(t *testing.T, test func(t *testing.T, w *custodyWorld)) {
	bubble(t, func(t *testing.T) {
		w := &custodyWorld{store: &dumpStore{Store: memdb.New(), counters: map[string]bool{}}, ring: client.NewKeyring()}
		var err error
		if w.vault, err = vault.NewMemory(vault.Config{}); err != nil {
			t.Fatal(err)
		}
		identity, worked := seededIdentity(1), seededIdentity(10)
		q, stop := startQueueStop(t, consign.Config{Store: w.store, Vault: w.vault, Identity: identity, Retention: 5 * time.Minute})
		defer stop()
		w.q, w.sub = q, q.Submitter("acme")
		me, err := w.ring.Identity()
		check(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		runner, err := worker.New(worker.Config{API: q, Identity: worked, Pinned: func(s [32]byte) bool { return bytes.Equal(s[:], me.Public().Bytes()) },
			Executors: map[string]worker.Executor{consign.KindTask: worker.ExecutorFunc(func(_ context.Context, t *worker.Task) (worker.Output, error) {
				t.Log("read: " + string(t.Payload))
				if bytes.HasPrefix(t.Payload, []byte("bad")) {
					return worker.Output{}, fmt.Errorf("%w: I cannot do %s", worker.ErrPayload, t.Payload)
				}
				return worker.Output{Result: bytes.ToUpper(t.Payload)}, nil
			})}})
		check(t, err)
		ended := make(chan struct{})
		go func() { defer close(ended); _ = runner.Run(ctx) }()
		defer func() { cancel(); <-ended }()
		w.c, err = client.New(client.Config{API: w.sub, QueueKey: identity.Public(), Keyring: w.ring, Identity: me})
		check(t, err)
		time.Sleep(time.Second) // the worker has registered
		check(t, q.Pair(ctx, consign.Pairing{Account: "acme", Worker: worked.Public().ID()}))
		check(t, w.ring.Pin(worked.Public().Fingerprint()))
		test(t, w)
	})
}

// run submits a job and returns how it ended, with its result opened: by the
// client, or in transit by the queue.
func (w *custodyWorld) run(t *testing.T, r consign.SubmitRequest) consign.JobInfo {
	t.Helper()
	if r.Custody == consign.CustodyTransit {
		info, err := w.sub.Submit(t.Context(), r)
		check(t, err)
		info, err = w.sub.Wait(t.Context(), info.ID)
		check(t, err)
		return info
	}
	result, err := w.c.Run(t.Context(), r)
	if failed, ok := errors.AsType[*client.JobError](err); ok {
		return failed.Job
	}
	check(t, err)
	result.Opened = result.Output
	return result.JobInfo
}

// clean checks that nothing in the store can be read.
func (w *custodyWorld) clean(t *testing.T, texts ...string) {
	t.Helper()
	for what, text := range w.store.dump(t) {
		for _, s := range texts {
			for _, form := range []string{s, string(bytes.ToUpper([]byte(s)))} {
				if bytes.Contains([]byte(text), []byte(form)) {
					t.Errorf("%q is in %s", form, what)
				}
			}
		}
	}
}

func sealedRequests() map[string]consign.SubmitRequest {
	r := consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte(secret)}
	private, transit, named := r, r, r
	private.Privacy = consign.PrivacyPrivate
	transit.Custody = consign.CustodyTransit
	named.ID = consign.NewJobID()
	return map[string]consign.SubmitRequest{"escrow": r, "escrow, with an ID": named, "sealed": private, "transit": transit}
}

// A sealed job is run and its result opened, and while it is there and after it
// nothing in the store can be read: payload, result, log and failure.
func TestNothingOfASealedJobIsReadable(t *testing.T) {
	for name, r := range sealedRequests() {
		t.Run(name, func(t *testing.T) {
			inCustodyWorld(t, func(t *testing.T, w *custodyWorld) {
				if info := w.run(t, r); string(info.Opened) != string(bytes.ToUpper([]byte(secret))) {
					t.Errorf("the result is %q", info.Opened)
				}
				w.clean(t, secret)
				r.ID, r.Payload = consign.NewJobID(), []byte("bad "+secret)
				if info := w.run(t, r); info.State != consign.StateFailed {
					t.Errorf("a bad payload: %+v", info)
				}
				w.clean(t, secret)
			})
		})
	}
}

// Once a job was acknowledged its key is gone, whatever state it ended in.
func TestKeysEndWithTheJob(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, w *custodyWorld, r consign.SubmitRequest) consign.State{
		"completed": func(t *testing.T, w *custodyWorld, r consign.SubmitRequest) consign.State {
			w.run(t, r)
			return consign.StateCompleted
		},
		"failed": func(t *testing.T, w *custodyWorld, r consign.SubmitRequest) consign.State {
			r.Payload = []byte("bad")
			w.run(t, r)
			return consign.StateFailed
		},
		"cancelled": func(t *testing.T, w *custodyWorld, r consign.SubmitRequest) consign.State {
			r.Delay = time.Minute
			_, err := w.c.Submit(t.Context(), r)
			check(t, err)
			_, err = w.c.Cancel(t.Context(), r.ID)
			check(t, err)
			return consign.StateCancelled
		},
		"expired": func(t *testing.T, w *custodyWorld, r consign.SubmitRequest) consign.State {
			r.Labels = map[string]string{"moon": "full"}
			r.QueueTime = time.Second
			_, err := w.c.Submit(t.Context(), r)
			check(t, err)
			_, err = w.c.Wait(t.Context(), r.ID)
			check(t, err)
			return consign.StateExpired
		},
	} {
		for _, custody := range []consign.Custody{consign.CustodyEscrow, consign.CustodyTransit} {
			for _, acknowledged := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %s, acknowledged %t", name, custody, acknowledged), func(t *testing.T) {
					inCustodyWorld(t, func(t *testing.T, w *custodyWorld) {
						r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte(secret), Custody: custody}
						state := end(t, w, r)
						info, err := w.sub.Get(t.Context(), r.ID)
						check(t, err)
						if info.State != state {
							t.Fatalf("the job is %s", info.State)
						}
						specs, err := w.store.Specs(t.Context(), []consign.JobID{r.ID})
						check(t, err)
						keys, err := w.sub.Keys(t.Context())
						check(t, err)
						held := func() error {
							_, err := w.vault.Release(t.Context(), consign.KeyRelease{Claim: consign.Claim{Job: r.ID}, Header: headerHash(specs[0].Header), Worker: keys.Workers[0]})
							return err
						}
						if err := held(); errors.Is(err, consign.ErrKeyGone) {
							t.Fatal("the key was gone with the end, before anybody had the result")
						}
						if acknowledged {
							check(t, w.c.Acknowledge(t.Context(), r.ID))
							time.Sleep(time.Minute)
						} else {
							time.Sleep(10 * time.Minute) // past retention
						}
						if err := held(); !errors.Is(err, consign.ErrKeyGone) {
							t.Errorf("the key is there: %v", err)
						}
					})
				})
			}
		}
	}
}

// The same bare payload under the same ID is the same job, another one is a
// conflict; after the job was acknowledged nobody can tell any more.
func TestTransitIsIdempotent(t *testing.T) {
	inCustodyWorld(t, func(t *testing.T, w *custodyWorld) {
		ctx := t.Context()
		r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte(secret), Custody: consign.CustodyTransit}
		for range 3 {
			info, err := w.sub.Submit(ctx, r)
			check(t, err)
			if info.ID != r.ID {
				t.Errorf("job %s", info.ID)
			}
		}
		other := r
		other.Payload = []byte("another")
		if _, err := w.sub.Submit(ctx, other); !errors.Is(err, consign.ErrConflict) {
			t.Errorf("another payload: %v", err)
		}
		if _, err := w.q.Submitter("other").Submit(ctx, r); !errors.Is(err, consign.ErrIDTaken) {
			t.Errorf("another account: %v", err)
		}
		info, err := w.sub.Wait(ctx, r.ID)
		check(t, err)
		if string(info.Opened) != string(bytes.ToUpper([]byte(secret))) || bytes.Equal(info.Result, info.Opened) {
			t.Errorf("the result is %q, opened %q", info.Result, info.Opened)
		}
		if info, err := w.q.Submitter("other").Get(ctx, r.ID); !errors.Is(err, consign.ErrNotFound) {
			t.Errorf("another account gets %+v, %v", info, err)
		}
		check(t, w.sub.Acknowledge(ctx, r.ID))
		time.Sleep(time.Minute)
		if info, err = w.sub.Get(ctx, r.ID); err != nil || info.Opened != nil {
			t.Errorf("after the end of its key: %q, %v", info.Opened, err)
		}
		if _, err := w.sub.Submit(ctx, r); !errors.Is(err, consign.ErrConflict) {
			t.Errorf("once more: %v", err)
		}
	})
}

// A bare payload whose ID is taken is refused before the vault keeps a key of it,
// which nobody would ask to be destroyed.
func TestNoKeyForATakenID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := t.Context()
		keys, err := vault.NewMemory(vault.Config{})
		check(t, err)
		v := &sealing{Vault: keys}
		q := startQueue(t, consign.Config{Vault: v, Identity: seededIdentity(1), AckRetention: time.Minute})
		acme := q.Submitter("acme")
		transit := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte(secret), Custody: consign.CustodyTransit}
		plain := transit
		plain.ID, plain.Custody = consign.NewJobID(), consign.CustodyPlain
		for _, r := range []consign.SubmitRequest{transit, plain} {
			_, err := acme.Submit(ctx, r)
			check(t, err)
		}
		plain.Custody = consign.CustodyTransit
		refused := func(what string, sub consign.SubmitterAPI, r consign.SubmitRequest, want error) {
			t.Helper()
			if _, err := sub.Submit(ctx, r); !errors.Is(err, want) || v.seals.Load() != 1 {
				t.Errorf("%s: %v, and %d keys were made", what, err, v.seals.Load())
			}
		}
		refused("another account", q.Submitter("other"), transit, consign.ErrIDTaken)
		refused("another custody", acme, plain, consign.ErrConflict)
		_, err = acme.Cancel(ctx, transit.ID)
		check(t, err)
		check(t, acme.Acknowledge(ctx, transit.ID))
		time.Sleep(time.Hour)
		if _, err := acme.Get(ctx, transit.ID); !errors.Is(err, consign.ErrNotFound) {
			t.Fatalf("it is not forgotten: %v", err)
		}
		refused("forgotten", acme, transit, consign.ErrConflict)
	})
}

// sealing counts what a vault seals.
type sealing struct {
	consign.Vault
	seals atomic.Int64
}

func (v *sealing) Seal(ctx context.Context, r consign.SealRequest) (consign.SealedPayload, error) {
	v.seals.Add(1)
	return v.Vault.Seal(ctx, r)
}

// Two of the same bare payload at one moment, as where a coordinator was killed
// and the one that is asked again is faster, are one job, though each is sealed
// by itself.
func TestTransitIsIdempotentAtOnce(t *testing.T) {
	inCustodyWorld(t, func(t *testing.T, w *custodyWorld) {
		r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte(secret), Custody: consign.CustodyTransit}
		other := r
		other.Payload = []byte("another")
		for i, o := range w.sub.SubmitMany(t.Context(), []consign.SubmitRequest{r, r, other, r}) {
			if conflict := errors.Is(o.Err, consign.ErrConflict); conflict != (i == 2) || !conflict && (o.Err != nil || o.Job.ID != r.ID) {
				t.Errorf("%d: job %s, %v", i, o.Job.ID, o.Err)
			}
		}
		info, err := w.sub.Wait(t.Context(), r.ID)
		check(t, err)
		if string(info.Opened) != string(bytes.ToUpper([]byte(secret))) {
			t.Errorf("the result is %q", info.Opened)
		}
	})
}

// A store that is out for a while keeps no bare payload out afterwards: each try
// seals anew, and the vault keeps one key for all of them.
func TestTransitOutlastsTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keys, err := vault.NewMemory(vault.Config{})
		check(t, err)
		down := true
		store := &testkit.FaultStore{Store: memdb.New(), Refuse: func(c *consign.Change) error {
			if down && c.Job != nil {
				return errors.New("no store")
			}
			return nil
		}}
		q, stop := startQueueStop(t, consign.Config{Store: store, Vault: keys, Identity: seededIdentity(1)})
		defer stop()
		r := consign.SubmitRequest{ID: consign.NewJobID(), Kind: consign.KindTask, Payload: []byte(secret), Custody: consign.CustodyTransit}
		submit := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := q.Submitter("acme").Submit(ctx, r)
			return err
		}
		for i := range 2 * vault.MaxHeaders {
			if err := submit(); err == nil || errors.As(err, new(*consign.FieldError)) {
				t.Fatalf("try %d without a store: %v", i, err)
			}
		}
		down = false
		check(t, submit())
	})
}

// A coordinator that makes up a PRIVATE job, or signs one itself, gets it
// refused by the worker.
func TestForgedPrivateJobIsRefused(t *testing.T) {
	inCustodyWorld(t, func(t *testing.T, w *custodyWorld) {
		keys, err := w.sub.Keys(t.Context())
		check(t, err)
		ring := client.NewKeyring() // the coordinator's own
		check(t, ring.Pin(keyFingerprint(t, keys.Workers[0])))
		forger, err := client.New(client.Config{API: w.sub, QueueKey: seededIdentity(1).Public(), Keyring: ring, Identity: seededIdentity(66)})
		check(t, err)
		_, err = forger.Run(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("do evil"), Privacy: consign.PrivacyPrivate, QueueTime: time.Minute, MaxAttempts: 1})
		failed, ok := errors.AsType[*client.JobError](err)
		if !ok {
			t.Fatalf("a forged job: %v", err)
		}
		if failed.Job.State != consign.StateFailed || !strings.Contains(failed.Job.Reason, "submitter") {
			t.Errorf("the job is %s: %s", failed.Job.State, failed.Job.Reason)
		}
	})
}

func keyFingerprint(t *testing.T, k consign.WorkerKeys) string {
	t.Helper()
	return sign.Fingerprint(k.Algorithm, k.PublicKey)
}

func headerHash(h []byte) [32]byte { return consign.InputHash(h, nil) }

// A worker that does not seal its result as it should spoils one job, not the
// submitter's calls.
func TestTransitResultThatDoesNotOpen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keys, err := vault.NewMemory(vault.Config{})
		check(t, err)
		r := newRig(t, func(r *rig) { r.config.Prices = nil })
		r.stop()
		q, stop := startQueueStop(t, consign.Config{Store: r.store, Vault: keys, Identity: seededIdentity(1)})
		defer stop()
		sealing, err := seal.GenerateKey(seal.X25519)
		check(t, err)
		bundle, err := seal.SignBundle(seededIdentity(10), seal.Bundle{Worker: seededIdentity(10).Public().ID(), Seq: 1, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), Keys: []seal.PublicKey{sealing.Public()}})
		check(t, err)
		reg := registration(t, q, seededIdentity(10), anyTask)
		reg.KeyBundle, err = bundle.MarshalJSON()
		check(t, err)
		reg.Signature, err = seededIdentity(10).Sign(consign.RegistrationMessage(q.ID(), reg.Origin, reg.Nonce, reg.KeyBundle))
		check(t, err)
		s, err := q.Register(t.Context(), reg)
		check(t, err)
		sub := q.Submitter("acme")
		job, err := sub.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte(secret), Custody: consign.CustodyTransit})
		check(t, err)
		a, err := s.Claim(t.Context())
		check(t, err)
		h := &hand{r: r, id: seededIdentity(10)}
		check(t, s.Complete(t.Context(), h.completion(a, []byte("garbage"))))
		info, err := sub.Wait(t.Context(), job.ID)
		if err != nil || info.State != consign.StateCompleted || info.Opened != nil || string(info.Result) != "garbage" {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// The keys that a queue names are its own.
func TestKeysNameTheQueue(t *testing.T) {
	inCustodyWorld(t, func(t *testing.T, w *custodyWorld) {
		k, err := w.sub.Keys(t.Context())
		check(t, err)
		var key sign.PublicKey
		check(t, key.UnmarshalText([]byte(k.QueueKey)))
		if consign.QueueIDOf(key) != k.Queue {
			t.Errorf("%+v", k)
		}
		if _, err := json.Marshal(k); err != nil {
			t.Error(err)
		}
	})
}
