package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/seal"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/worker"
)

var (
	alice   = sign.FromEd25519Seed([32]byte{'a'})
	mallory = sign.FromEd25519Seed([32]byte{'m'})
)

// secret is a request with a payload in plain.
func secret(text string) consign.SubmitRequest {
	return consign.SubmitRequest{Kind: "TASK", Payload: []byte("secret " + text)}
}

func private(text string) consign.SubmitRequest {
	r := secret(text)
	r.Privacy = consign.PrivacyPrivate
	return r
}

func fingerprint(id *sign.Identity) string { return id.Public().Fingerprint() }

func pinning(t rapid.TB, fps ...string) *client.Keyring {
	t.Helper()
	k := client.NewKeyring()
	for _, fp := range fps {
		if err := k.Pin(fp); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// answer runs a worker that answers every job with what f makes of it, and
// returns what it logs.
func answer(t *testing.T, api consign.WorkerAPI, f worker.ExecutorFunc) *bytes.Buffer {
	t.Helper()
	log := &bytes.Buffer{}
	w, err := worker.New(worker.Config{API: api, Identity: workerKey, Slots: 4,
		Pinned:    func(k [32]byte) bool { return k == alice.Public().ID() },
		Logger:    slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Executors: map[string]worker.Executor{"TASK": f}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = w.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	synctest.Wait()
	return log
}

func shout(_ context.Context, task *worker.Task) (worker.Output, error) {
	return worker.Output{Result: bytes.ToUpper(task.Payload)}, nil
}

func wantSecret(t *testing.T, q *testkit.FakeQueue) {
	t.Helper()
	if b := bytes.ToLower(q.Stored()); bytes.Contains(b, []byte("secret ")) {
		t.Errorf("the queue holds plaintext: %.40q", b[bytes.Index(b, []byte("secret ")):])
	}
}

// Whatever the sizes, the privacy and the comparator: what a request asks for
// comes back verified and in plain, and nobody in between has seen it.
func TestSealedRun(t *testing.T) {
	sizes := []int{0, 1, 255, 256, 64 << 10, 1<<20 + 1}
	comparators := []string{"", "exact", "none", "unheard-of"}
	kems := []seal.KEM{0, seal.X25519, seal.MLKEM768X25519}
	for n := range 3 * len(sizes) {
		r := secret(strings.Repeat("é", sizes[n%len(sizes)]/2))
		result := bytes.Repeat([]byte("SECRET "), 1+(1<<20)/7)[:sizes[len(sizes)-1-n%len(sizes)]]
		r.Comparator = comparators[n%len(comparators)]
		custody := consign.CustodyEscrow
		switch n / len(sizes) {
		case 1:
			r.Privacy, custody = consign.PrivacyPrivate, consign.CustodySealed
		case 2:
			r.Privacy, r.Custody = consign.PrivacyPrivate, consign.CustodyEscrow
		}
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			log := answer(t, q, func(_ context.Context, task *worker.Task) (worker.Output, error) {
				if !bytes.Equal(task.Payload, r.Payload) {
					t.Error("the executor got another payload")
				}
				return worker.Output{Result: result, ExitStatus: 5}, nil
			})
			keyring := pinning(t, fingerprint(workerKey))
			c := open(t, q, func(c *client.Config) { c.Keyring, c.Identity, c.ResultKEM = keyring, alice, kems[n%len(kems)] })
			res, err := c.Run(t.Context(), r)
			if err != nil || !bytes.Equal(res.Output, result) || res.ExitStatus != 5 || res.Acceptance.Custody != custody {
				t.Fatalf("case %d: %d bytes, want %d, in custody %q: %v", n, len(res.Output), len(result), res.Acceptance.Custody, err)
			}
			if compared := r.Comparator == "" || r.Comparator == "exact"; compared != (res.Comparison != nil) {
				t.Errorf("comparator %q: comparison %v", r.Comparator, res.Comparison)
			}
			// Once more, and it is the same job; after an acknowledge its keys are gone.
			again := r
			again.ID = res.ID
			if second, err := c.Run(t.Context(), again); err != nil || second.Claim != res.Claim || !bytes.Equal(second.Output, result) {
				t.Errorf("again: %v", err)
			}
			if err := c.Acknowledge(t.Context(), res.ID); err != nil {
				t.Error(err)
			}
			if _, err := c.Collect(t.Context(), res.ID); !errors.Is(err, client.ErrNoKeys) {
				t.Errorf("after its acknowledge: %v", err)
			}
			wantSecret(t, q)
			if bytes.Contains(bytes.ToLower(log.Bytes()), []byte("secret")) {
				t.Errorf("the worker logs plaintext: %s", log)
			}
		})
	}
}

// A second process collects what the first one sealed, wherever that one
// stopped.
func TestAnotherProcessCollects(t *testing.T) {
	crash := errors.New("the process ended here")
	for name, fault := range map[string]testkit.Fault{
		"before it was submitted": {Lose: crash},
		"before it was answered":  {Drop: crash},
		"after it was answered":   {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir() + "/keyring"
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				answer(t, q, shout)
				process := func(api consign.SubmitterAPI) *client.Client {
					keyring, err := client.OpenKeyring(dir)
					if err != nil {
						t.Fatal(err)
					}
					return open(t, api, func(c *client.Config) { c.Keyring, c.Patience, c.Acknowledge = keyring, -1, true })
				}
				first := process(testkit.FaultySubmitter(q, func(c testkit.Call) testkit.Fault {
					if c.Method == "Submit" {
						return fault
					}
					return testkit.Fault{}
				}))
				r := secret("job")
				r.ID, r.Deadline, r.Labels = consign.NewJobID(), time.Hour, map[string]string{"region": "eu"}
				if _, err := first.Submit(t.Context(), r); err != nil && !errors.Is(err, crash) {
					t.Fatal(err)
				}
				api := &recorder{SubmitterAPI: q}
				second := process(api)
				keyring, _ := client.OpenKeyring(dir)
				ids, err := keyring.Jobs()
				if err != nil || len(ids) != 1 || ids[0] != r.ID {
					t.Fatalf("jobs %v: %v", ids, err)
				}
				res, err := second.Collect(t.Context(), ids[0])
				if err != nil || string(res.Output) != "SECRET JOB" || res.Attempts != 1 {
					t.Errorf("%q after %d attempts: %v", res.Output, res.Attempts, err)
				}
				if once := fault == (testkit.Fault{}); once != (len(api.sent) == 0) {
					t.Errorf("it was submitted %d times more", len(api.sent))
				}
				if ids, err := keyring.Jobs(); err != nil || len(ids) != 0 {
					t.Errorf("jobs after the acknowledge: %v, %v", ids, err)
				}
				wantSecret(t, q)
			})
		})
	}
}

// recorder keeps what is submitted.
type recorder struct {
	consign.SubmitterAPI
	mu   sync.Mutex
	sent []consign.SubmitRequest
}

func (r *recorder) Submit(ctx context.Context, req consign.SubmitRequest) (consign.JobInfo, error) {
	r.mu.Lock()
	r.sent = append(r.sent, req)
	r.mu.Unlock()
	return r.SubmitterAPI.Submit(ctx, req)
}

// One ID is sealed once, whoever asks for it and how often.
func TestOneIDIsSealedOnce(t *testing.T) {
	dir := t.TempDir() + "/keyring"
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		api := &recorder{SubmitterAPI: q}
		r := secret("job")
		r.ID = consign.NewJobID()
		var all sync.WaitGroup
		for range 8 {
			keyring, err := client.OpenKeyring(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := open(t, testkit.FaultySubmitter(api, dropFirst3), func(c *client.Config) { c.Keyring = keyring })
			all.Go(func() {
				for range 3 {
					if job, err := c.Submit(t.Context(), r); err != nil || job.ID != r.ID {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if len(api.sent) < 8 {
			t.Errorf("only %d submits", len(api.sent))
		}
		for _, s := range api.sent {
			if !bytes.Equal(s.Payload, api.sent[0].Payload) || !bytes.Equal(s.Header, api.sent[0].Header) {
				t.Fatal("it was sealed twice")
			}
		}
		keyring, _ := client.OpenKeyring(dir)
		c := open(t, api, func(c *client.Config) { c.Keyring = keyring })
		n := len(api.sent)
		for what, spoil := range map[string]func(*consign.SubmitRequest){
			"payload": func(r *consign.SubmitRequest) { r.Payload = []byte("secret jab") },
			"kind":    func(r *consign.SubmitRequest) { r.Kind = "OTHER" },
			"model":   func(r *consign.SubmitRequest) { r.Model = "bigger" },
			"custody": func(r *consign.SubmitRequest) { r.Privacy, r.Custody = consign.PrivacyPrivate, consign.CustodySealed },
		} {
			other := r
			spoil(&other)
			if _, err := c.Submit(t.Context(), other); !errors.Is(err, consign.ErrConflict) {
				t.Errorf("another %s under the ID: %v", what, err)
			}
		}
		if len(api.sent) != n {
			t.Error("a conflict was submitted")
		}
	})
}

func TestSubmitManySeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		answer(t, q, shout)
		c := open(t, &flaky{SubmitterAPI: q}, func(c *client.Config) { c.Acknowledge = true })
		rs := make([]consign.SubmitRequest, 10)
		for i := range rs {
			rs[i] = secret(fmt.Sprint("job ", i))
			rs[i].ID = consign.NewJobID()
		}
		rs[3].Payload, rs[5].Privacy = nil, consign.PrivacyPrivate
		for round := range 2 { // the second finds them submitted
			for i, o := range c.SubmitMany(t.Context(), rs) {
				_, bad := errors.AsType[*consign.FieldError](o.Err)
				switch {
				case i == 3 && bad, i == 5 && errors.Is(o.Err, client.ErrNoIdentity):
				case o.Err != nil || o.Job.ID != rs[i].ID:
					t.Errorf("round %d, outcome %d: %v", round, i, o.Err)
				}
			}
		}
		for i, r := range rs {
			if i == 3 || i == 5 {
				continue
			}
			if res, err := c.Collect(t.Context(), r.ID); err != nil || string(res.Output) != fmt.Sprint("SECRET JOB ", i) {
				t.Errorf("%q: %v", res.Output, err)
			}
		}
		wantSecret(t, q)
		if out := c.SubmitMany(t.Context(), rs[3:4]); out[0].Err == nil {
			t.Error("an empty payload was submitted")
		}
	})
}

// otherKeys is a queue that lies about keys.
type otherKeys struct {
	consign.SubmitterAPI
	lie func(*consign.Keys)
}

func (o otherKeys) Keys(ctx context.Context) (consign.Keys, error) {
	keys, err := o.SubmitterAPI.Keys(ctx)
	o.lie(&keys)
	return keys, err
}

func bundle(t *testing.T, signer *sign.Identity, b seal.Bundle) []byte {
	t.Helper()
	b.NotBefore = time.Now().Add(-time.Minute)
	b.NotAfter = b.NotBefore.Add(time.Hour)
	e, err := seal.SignBundle(signer, b)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What the queue says of keys is not believed beyond what was pinned. Each is
// refused by its own error, nothing is submitted, and nothing is kept of it.
func TestKeysThatAreRefused(t *testing.T) {
	evil, err := seal.GenerateKey(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	evilBundle := func(t *testing.T, seq int64) []byte {
		return bundle(t, mallory, seal.Bundle{Worker: mallory.Public().ID(), Seq: seq, Keys: []seal.PublicKey{evil.Public()}})
	}
	evilWorker := func(t *testing.T) consign.WorkerKeys {
		return consign.WorkerKeys{ID: mallory.Public().ID(), Algorithm: sign.Ed25519, PublicKey: mallory.Public().Bytes(), KeyBundle: evilBundle(t, 1)}
	}
	for name, c := range map[string]struct {
		r    consign.SubmitRequest
		lie  func(t *testing.T, k *consign.Keys)
		conf func(*client.Config)
		want error
	}{
		"nobody is pinned": {r: private("job"), want: client.ErrNotPinned, conf: func(c *client.Config) { c.Keyring = client.NewKeyring() }},
		"a worker that was not pinned": {r: private("job"), want: client.ErrNotPinned, lie: func(t *testing.T, k *consign.Keys) {
			k.Workers = []consign.WorkerKeys{evilWorker(t)}
		}},
		"another's key under a pinned worker's ID": {r: private("job"), want: client.ErrNotPinned, lie: func(t *testing.T, k *consign.Keys) {
			w := evilWorker(t)
			w.ID = k.Workers[0].ID
			k.Workers = []consign.WorkerKeys{w}
		}},
		"another worker's bundle": {r: private("job"), want: seal.ErrBundle, lie: func(t *testing.T, k *consign.Keys) {
			k.Workers[0].KeyBundle = evilBundle(t, 1<<52)
		}},
		"no bundle": {r: private("job"), want: seal.ErrBundle, lie: func(_ *testing.T, k *consign.Keys) { k.Workers[0].KeyBundle = nil }},
		"a bundle of before": {r: private("job"), want: seal.ErrBundleReplayed, lie: func(t *testing.T, k *consign.Keys) {
			k.Workers[0].KeyBundle = bundle(t, workerKey, seal.Bundle{Worker: workerKey.Public().ID(), Seq: 1, Keys: []seal.PublicKey{evil.Public()}})
		}},
		"no worker":        {r: private("job"), want: consign.ErrNoWorker, lie: func(_ *testing.T, k *consign.Keys) { k.Workers = nil }},
		"a broken worker":  {r: private("job"), want: sign.ErrKey, lie: func(_ *testing.T, k *consign.Keys) { k.Workers[0].PublicKey = []byte("x") }},
		"no identity":      {r: private("job"), want: client.ErrNoIdentity, conf: func(c *client.Config) { c.Identity = nil }},
		"another queue":    {r: private("job"), want: client.ErrOtherQueue, lie: func(_ *testing.T, k *consign.Keys) { k.Queue[0]++ }},
		"another queue's":  {r: secret("job"), want: client.ErrOtherQueue, lie: func(_ *testing.T, k *consign.Keys) { k.Queue[0]++ }},
		"the vault's key":  {r: secret("job"), want: client.ErrVaultChanged, lie: func(_ *testing.T, k *consign.Keys) { k.Vault = evil.Public().Bytes() }},
		"a broken vault":   {r: secret("job"), want: seal.ErrKey, lie: func(_ *testing.T, k *consign.Keys) { k.Vault = []byte("x") }},
		"no vault":         {r: secret("job"), want: fieldError("custody"), lie: func(_ *testing.T, k *consign.Keys) { k.Vault = nil }},
		"sealed in public": {r: consign.SubmitRequest{Kind: "TASK", Payload: []byte("x"), Custody: consign.CustodySealed}, want: fieldError("custody")},
		"no such custody":  {r: consign.SubmitRequest{Kind: "TASK", Payload: []byte("x"), Custody: "safe"}, want: fieldError("custody")},
		"no kind":          {r: consign.SubmitRequest{Payload: []byte("x")}, want: fieldError("kind")},
		"no payload":       {r: consign.SubmitRequest{Kind: "TASK"}, want: fieldError("payload")},
		"a name too long":  {r: consign.SubmitRequest{Kind: "TASK", Payload: []byte("x"), Model: strings.Repeat("m", 2000)}, want: fieldError("header")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				answer(t, q, shout)
				keyring := pinning(t, fingerprint(workerKey))
				honest := open(t, q, func(c *client.Config) { c.Keyring, c.Identity, c.Acknowledge = keyring, alice, true })
				for _, r := range []consign.SubmitRequest{secret("before"), private("before")} { // what is seen is remembered
					if _, err := honest.Run(t.Context(), r); err != nil {
						t.Fatal(err)
					}
				}
				api := &recorder{SubmitterAPI: otherKeys{q, func(k *consign.Keys) {
					if c.lie != nil {
						c.lie(t, k)
					}
				}}}
				victim := open(t, api, func(cfg *client.Config) {
					cfg.Keyring, cfg.Identity = keyring, alice
					if c.conf != nil {
						c.conf(cfg)
					}
				})
				_, err := victim.Run(t.Context(), c.r)
				if f, ok := errors.AsType[*consign.FieldError](err); !errors.Is(err, c.want) && !(ok && fieldError(f.Field) == c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if jobs, err := keyring.Jobs(); len(api.sent) != 0 || len(jobs) != 0 || err != nil {
					t.Errorf("%d jobs were submitted, %d kept: %v", len(api.sent), len(jobs), err)
				}
				for _, r := range []consign.SubmitRequest{secret("after"), private("after")} { // and nothing was unlearnt
					if res, err := honest.Run(t.Context(), r); err != nil || string(res.Output) != "SECRET AFTER" {
						t.Error(err)
					}
				}
			})
		})
	}
}

// fieldError is a *consign.FieldError by its field.
type fieldError string

func (e fieldError) Error() string { return string(e) }

// A key that was wrapped to somebody who was not pinned would show: the other
// workers that a queue names get none.
func TestOnlyPinnedWorkersGetTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		answer(t, q, shout)
		evil, err := seal.GenerateKey(seal.X25519)
		if err != nil {
			t.Fatal(err)
		}
		api := &recorder{SubmitterAPI: otherKeys{q, func(k *consign.Keys) {
			data := bundle(t, mallory, seal.Bundle{Worker: mallory.Public().ID(), Seq: 1, Keys: []seal.PublicKey{evil.Public()}})
			k.Workers = append(k.Workers, consign.WorkerKeys{ID: mallory.Public().ID(), Algorithm: sign.Ed25519, PublicKey: mallory.Public().Bytes(), KeyBundle: data})
		}}}
		c := open(t, api, func(c *client.Config) { c.Keyring, c.Identity = pinning(t, fingerprint(workerKey)), alice })
		if _, err := c.Run(t.Context(), private("job")); err != nil {
			t.Fatal(err)
		}
		if ws := api.sent[0].Wraps; len(ws) != 1 || ws[0].Worker != workerKey.Public().ID() {
			t.Errorf("wraps to %d workers", len(ws))
		}
	})
}

// A submit that the queue has refused leaves nothing behind; one whose answer
// is lost keeps its keys.
func TestKeysOfRefusedSubmits(t *testing.T) {
	for name, c := range map[string]struct {
		fault testkit.Fault
		kept  int
	}{
		"no credit":                       {testkit.Fault{Lose: consign.ErrCredit}, 0},
		"ID taken":                        {testkit.Fault{Lose: consign.ErrIDTaken}, 0},
		"a bad field":                     {testkit.Fault{Lose: &consign.FieldError{Field: "x"}}, 0},
		"a conflict, perhaps with itself": {testkit.Fault{Drop: consign.ErrConflict}, 1},
		"a conflict with what is gone":    {testkit.Fault{Lose: consign.ErrConflict}, 0},
		"no answer":                       {testkit.Fault{Lose: errReset}, 1},
		"refused after it was admitted":   {testkit.Fault{Drop: consign.ErrCredit}, 1},
		"no worker, but it was admitted":  {testkit.Fault{Drop: consign.ErrNoWorker}, 1},
		"no worker, and was not admitted": {testkit.Fault{Lose: consign.ErrNoWorker}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			q := testkit.NewFakeQueue()
			api := testkit.FaultySubmitter(q, func(call testkit.Call) testkit.Fault {
				if strings.HasPrefix(call.Method, "Submit") {
					return c.fault
				}
				return testkit.Fault{}
			})
			keyring := client.NewKeyring()
			cl := open(t, api, func(c *client.Config) { c.Keyring, c.Patience = keyring, -1 })
			if _, err := cl.Submit(t.Context(), secret("job")); err == nil {
				t.Errorf("%s: no error", name)
			}
			if jobs, err := keyring.Jobs(); err != nil || len(jobs) != c.kept {
				t.Errorf("%s: %d jobs kept, want %d: %v", name, len(jobs), c.kept, err)
			}
		})
	}
}

// rogue is a worker that does what it likes with a sealed job.
type rogue struct {
	job      consign.Assignment
	header   seal.Header
	cek      seal.CEK
	payload  []byte
	info     seal.ResultInfo
	session  consign.Session
	signer   *sign.Identity
	result   []byte // in plain
	compared []byte
	sealed   []byte // takes the place of the sealed result
	withhold bool   // no comparison value
}

// complete hands a result in.
func (w *rogue) complete(t *testing.T) {
	t.Helper()
	value, err := seal.NewComparison(w.cek, w.header, w.compared, nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.sealed == nil {
		if w.sealed, err = seal.SealResult(w.header.ResultKey, w.info, w.result); err != nil {
			t.Fatal(err)
		}
	}
	c := consign.Completion{Claim: consign.Claim{Job: w.job.Job, Claim: w.job.Claim}, Result: w.sealed}
	r := consign.Record{QueueID: w.job.Queue, JobID: w.job.Job, ClaimID: w.job.Claim, Kind: w.job.Kind, ModelRequested: w.job.Model,
		HHash: seal.HeaderHash(w.job.Header), InputHash: w.info.Input, ResultHash: sha256.Sum256(w.sealed), Comparator: w.job.Comparator, Seq: 1}
	if !w.withhold {
		r.TCommit = value.Commit()
		c.Comparison = &consign.Comparison{T: value.T, R: value.R}
	}
	e, err := consign.SignRecord(w.signer, r)
	if err != nil {
		t.Fatal(err)
	}
	if c.Record, err = json.Marshal(e); err != nil {
		t.Fatal(err)
	}
	if err := w.session.Complete(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

// newRogue registers and claims a job.
func newRogue(t *testing.T, q *testkit.FakeQueue, submit func()) *rogue {
	t.Helper()
	w := &rogue{signer: workerKey}
	key, err := seal.GenerateKey(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	challenge, err := q.Challenge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := consign.Registration{Algorithm: sign.Ed25519, PublicKey: workerKey.Public().Bytes(), Origin: "inproc", Nonce: challenge.Nonce,
		KeyBundle: bundle(t, workerKey, seal.Bundle{Worker: workerKey.Public().ID(), Seq: 1, Keys: []seal.PublicKey{key.Public()}})}
	if r.Signature, err = workerKey.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, r.KeyBundle)); err != nil {
		t.Fatal(err)
	}
	if w.session, err = q.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	submit()
	if w.job, err = w.session.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := seal.HeaderHash(w.job.Header)
	var purpose seal.Purpose = seal.ClaimWrap{Job: w.job.Job, Worker: workerKey.Public().ID(), Claim: w.job.Claim, Header: h}
	if w.job.Custody == consign.CustodySealed {
		purpose = seal.DirectWrap{Job: w.job.Job, Worker: workerKey.Public().ID(), Header: h}
	}
	if w.cek, err = seal.Unwrap(purpose, w.job.Wrap, key); err != nil {
		t.Fatal(err)
	}
	if w.header, w.payload, err = seal.OpenRevealedPayload(w.job.Header, w.job.Payload, w.cek); err != nil {
		t.Fatal(err)
	}
	w.info = seal.ResultInfo{Queue: w.job.Queue, Job: w.job.Job, Worker: workerKey.Public().ID(), Claim: w.job.Claim,
		Input: seal.InputHash(w.job.Header, w.job.Payload)}
	w.result = bytes.ToUpper(w.payload)
	w.compared = w.result
	return w
}

// Whatever a worker does to a sealed result, or the queue between it and the
// submitter, is found out.
func TestCollectFindsEveryLie(t *testing.T) {
	for name, c := range map[string]struct {
		work func(t *testing.T, w *rogue) // the worker's lie
		lie  func(job *consign.JobInfo)   // the queue's
		want error
		kept []byte // the output, where there is no lie
	}{
		"no lie": {kept: []byte("SECRET JOB")},
		"T of another plaintext": {want: seal.ErrResultMismatch, work: func(_ *testing.T, w *rogue) {
			w.compared = []byte("what the others say")
		}},
		"a result for another claim": {want: seal.ErrBox, work: func(_ *testing.T, w *rogue) { w.info.Claim[0]++ }},
		"a result that another worker sealed": {want: seal.ErrBox, work: func(_ *testing.T, w *rogue) {
			w.info.Worker = mallory.Public().ID()
		}},
		"no sealed result": {want: seal.ErrBox, work: func(_ *testing.T, w *rogue) { w.sealed = []byte("SECRET JOB") }},
		"a comparison value that is withheld": {want: seal.ErrTCommit, lie: func(j *consign.JobInfo) {
			j.Comparison = nil
		}},
		"another comparison value": {want: seal.ErrTCommit, lie: func(j *consign.JobInfo) {
			other := *j.Comparison
			other.T[0]++
			j.Comparison = &other
		}},
		"a comparison value out of nothing": {want: seal.ErrTCommit, work: func(_ *testing.T, w *rogue) { w.withhold = true }, lie: func(j *consign.JobInfo) {
			j.Comparison = &consign.Comparison{}
		}},
		"no comparison value": {kept: []byte("SECRET JOB"), work: func(_ *testing.T, w *rogue) { w.withhold = true }},
		"another result":      {want: fieldError("record.result_hash"), lie: func(j *consign.JobInfo) { j.Result = append(bytes.Clone(j.Result), 0) }},
		"another worker":      {want: fieldError("record.worker_id"), lie: func(j *consign.JobInfo) { j.Worker = mallory.Public().ID() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := testkit.NewFakeQueue()
				api := &otherJob{SubmitterAPI: q}
				cl := open(t, api, func(cfg *client.Config) {
					cfg.Keyring, cfg.Identity, cfg.Acknowledge = pinning(t, fingerprint(workerKey)), alice, true
				})
				var id consign.JobID
				w := newRogue(t, q, func() {
					job, err := cl.Submit(t.Context(), private("job"))
					if err != nil {
						t.Fatal(err)
					}
					id = job.ID
				})
				if c.work != nil {
					c.work(t, w)
				}
				w.complete(t)
				api.lie = c.lie
				res, err := cl.Collect(t.Context(), id)
				if c.want == nil {
					if err != nil || !bytes.Equal(res.Output, c.kept) {
						t.Errorf("%q, %v", res.Output, err)
					}
					return
				}
				f, ok := errors.AsType[*consign.ReceiptError](err)
				if !errors.Is(err, c.want) && !(ok && fieldError(f.Field) == c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if res.Output != nil || q.Job(id).Acknowledged {
					t.Error("it was handed out, or acknowledged")
				}
				// The keys are there for the honest answer.
				api.lie = nil
				if _, err := cl.Collect(t.Context(), id); (err == nil) != (c.work == nil || c.lie != nil) {
					t.Errorf("without the queue's lie: %v", err)
				}
			})
		})
	}
}

// otherJob lies about the jobs that end.
type otherJob struct {
	consign.SubmitterAPI
	lie func(*consign.JobInfo)
}

func (o *otherJob) Wait(ctx context.Context, id consign.JobID) (consign.JobInfo, error) {
	job, err := o.SubmitterAPI.Wait(ctx, id)
	if o.lie != nil {
		o.lie(&job)
	}
	return job, err
}

// A worker whose hardware holds RSA keys: it signs with one, and opens with
// another. Its ID is a hash, so what verifies its record is what was pinned.
func TestSealedToAnRSAWorker(t *testing.T) {
	signer, err := sign.GenerateRSA(3072)
	if err != nil {
		t.Fatal(err)
	}
	opener, err := seal.GenerateRSA(3072)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		w, err := worker.New(worker.Config{API: q, Identity: signer, EncryptionKeys: []*seal.PrivateKey{opener},
			Pinned: func(k [32]byte) bool { return k == alice.Public().ID() }, Executors: map[string]worker.Executor{"TASK": worker.ExecutorFunc(shout)}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		synctest.Wait()
		c := open(t, q, func(c *client.Config) { c.Keyring, c.Identity = pinning(t, fingerprint(signer)), alice })
		if res, err := c.Run(t.Context(), private("job")); err != nil || string(res.Output) != "SECRET JOB" || res.Record.WorkerID != w.ID() {
			t.Errorf("%q: %v", res.Output, err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestRunRefusesTransit(t *testing.T) {
	c := open(t, testkit.NewFakeQueue(), nil)
	r := secret("job")
	r.Custody = consign.CustodyTransit
	_, err := c.Run(t.Context(), r)
	if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != "custody" {
		t.Error(err)
	}
}

// A queue without receipts: the result still opens.
func TestSealedAndUnverified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := testkit.NewFakeQueue()
		q.Plain = true
		answer(t, q, shout)
		c := open(t, q, func(c *client.Config) { c.QueueKey, c.Unverified = sign.PublicKey{}, true })
		if res, err := c.Run(t.Context(), secret("job")); err != nil || string(res.Output) != "SECRET JOB" {
			t.Errorf("%q: %v", res.Output, err)
		}
		wantSecret(t, q)
	})
}

func TestSealingConfig(t *testing.T) {
	rsa := sign.Identity{}
	for field, spoil := range map[string]func(*client.Config){
		"client.Config.Identity":  func(c *client.Config) { c.Identity = &rsa },
		"client.Config.ResultKEM": func(c *client.Config) { c.ResultKEM = seal.RSAOAEP },
	} {
		cfg := client.Config{API: testkit.NewFakeQueue(), QueueKey: queueKey.Public()}
		spoil(&cfg)
		_, err := client.New(cfg)
		if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
