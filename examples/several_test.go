package examples_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit/pgtest"
	"github.com/consignq/consign/transport/longpoll"
)

// Two coordinators on one PostgreSQL, which has the vault as well, and a worker
// at each: one coordinator is killed amid a batch, and nothing is lost.
func TestSeveralCoordinators(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "memdb")
	d.store = "postgres:" + pgtest.Private(t, "fsync = off").DSN
	first := d.coordinator()
	one := d.gate.target.Load()

	// A folder of its own is another queue's; the keys' owner says so.
	stranger := start(t, "coordinator", "-listen", "127.0.0.1:0", "-store", d.store, "-dir", filepath.Join(d.dir, "stranger"))
	if _, err := stranger.wait(); err == nil || !strings.Contains(stranger.stderr.tail(), "copy vault.kek and identity.pem") {
		t.Errorf("a coordinator with another key: %v\n%s", err, stranger.stderr.tail())
	}

	d.copyKeys("another", "vault.kek")
	stranger = start(t, "coordinator", "-listen", "127.0.0.1:0", "-store", d.store, "-dir", filepath.Join(d.dir, "another"))
	if _, err := stranger.wait(); err == nil || !strings.Contains(stranger.stderr.tail(), "the store belongs to queue") {
		t.Errorf("a coordinator with another identity: %v\n%s", err, stranger.stderr.tail())
	}

	folder := d.copyKeys("coordinator-2", "identity.pem", "vault.kek")
	key := d.key
	second := d.coordinator("-dir", folder)
	two := d.gate.target.Load()
	if d.key.String() != key.String() {
		t.Fatalf("the second coordinator is %s, the first %s", d.key, key)
	}
	d.gate.target.Store(one)
	d.worker("worker-1", "-slots", "2")
	d.worker("worker-2", "-transport", "http", "-coordinator", "http://"+two.(string))
	d.batch("jobs.jsonl", func() {
		_ = first.stop(syscall.SIGKILL)
		d.gate.target.Store(two)
	})
	d.seeds() // sealed by the coordinator that is left
	if err := second.stop(syscall.SIGTERM); err != nil {
		t.Errorf("the coordinator that is left, told to end: %v", err)
	}
}

// copyKeys makes a folder for another coordinator, with files of the first
// one's.
func (d *deployment) copyKeys(folder string, names ...string) string {
	d.t.Helper()
	folder = filepath.Join(d.dir, folder)
	err := os.MkdirAll(folder, 0o700)
	for _, name := range names {
		data, e := os.ReadFile(filepath.Join(d.dir, "coordinator", name))
		err = errors.Join(err, e, os.WriteFile(filepath.Join(folder, name), data, 0o600))
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return folder
}

// receiver is a submitter's server, which checks messages by the official
// library of Standard Webhooks. It refuses the first call about each job, until it is told to
// be kind: a third try would come after five minutes.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	check  *standardwebhooks.Webhook
	calls  map[string]int    // by message
	status map[string]string // by job, of those that were taken
	kind   bool
	bad    []error
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{calls: map[string]int{}, status: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		err = errors.Join(err, r.check.Verify(body, req.Header))
		var m struct {
			Data struct {
				Job    string `json:"job_id"`
				Status string `json:"status"`
			} `json:"data"`
		}
		if err = errors.Join(err, json.Unmarshal(body, &m)); err != nil {
			r.bad = append(r.bad, err)
			return
		}
		id := req.Header.Get("Webhook-Id")
		if r.calls[id]++; r.calls[id] == 1 && !r.kind {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.status[m.Data.Job] = m.Data.Status
	}))
	t.Cleanup(r.Close)
	return r
}

// wait waits until f holds.
func (r *receiver) wait(t *testing.T, what string, f func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		r.mu.Lock()
		done := f()
		r.mu.Unlock()
		if done {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("it never came to this: %s; %d messages are there", what, len(r.status))
		}
	}
}

// Each job's end is told, though the first call fails and the coordinator is
// killed amid the second ones.
func TestWebhooksOverKills(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "sqlite")
	flags := []string{"-webhooks", "-webhooks-anywhere"}
	coordinator := d.coordinator(flags...)
	r := newReceiver(t)
	var keys struct {
		Secret    string `json:"secret"`
		PublicKey string `json:"public_key"`
	}
	d.call(http.MethodGet, "/v1/webhooks/keys", nil, http.StatusOK, &keys)
	var err error
	if r.check, err = standardwebhooks.NewWebhook(keys.Secret); err != nil {
		t.Fatal(err)
	}
	d.worker("worker-1", "-slots", "4")
	const n = 20
	ids := map[string]bool{}
	for range n {
		var job struct {
			Job string `json:"job_id"`
		}
		d.call(http.MethodPost, "/v1/jobs/commit/cheap", map[string]any{"job_type": "TASK", "webhook": r.URL + "/hidden",
			"payload": map[string]string{"task": "classify", "text": texts(t)[0]}}, http.StatusCreated, &job)
		ids[job.Job] = true
	}
	r.wait(t, "a first message is taken", func() bool { return len(r.status) > 0 })
	_ = coordinator.stop(syscall.SIGKILL)
	r.mu.Lock()
	r.kind = true
	r.mu.Unlock()
	coordinator = d.coordinator(flags...)
	r.wait(t, "all messages are taken", func() bool { return len(r.status) >= n })
	r.mu.Lock()
	for id := range ids {
		if r.status[id] != "completed" {
			t.Errorf("job %s is told to be %q", id, r.status[id])
		}
	}
	for _, err := range r.bad {
		t.Errorf("a bad message: %v", err)
	}
	r.mu.Unlock()
	if err := coordinator.stop(syscall.SIGTERM); err != nil {
		t.Errorf("the coordinator, told to end: %v", err)
	}
	if log := coordinator.stderr.tail(); strings.Contains(log, "/hidden") {
		t.Errorf("the log has the URL:\n%s", log)
	}
}

// A worker in another language, written from the first protocol's page, runs
// jobs of the program.
func TestForeignWorker(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no Node, in which the foreign worker is written")
	}
	d := newDeployment(t, "memdb")
	d.coordinator("-foreign")
	var job struct {
		Job          string `json:"job_id"`
		Status       string `json:"status"`
		Verification string `json:"verification"`
	}
	d.call(http.MethodPost, "/v1/jobs/commit/cheap", map[string]any{"job_type": "TASK", "allow_plain": true, "deadline_seconds": 600,
		"payload": map[string]string{"task": "summarize", "text": "a word"}}, http.StatusCreated, &job)
	cmd := exec.CommandContext(t.Context(), node, "../transport/websocket/testdata/foreign_worker.mjs", "ws"+strings.TrimPrefix(d.url(), "http")+"/v1/workers/ws", "1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.call(http.MethodGet, "/v1/jobs/"+job.Job+"?wait=60s", nil, http.StatusOK, &job)
	if job.Status != "completed" || job.Verification != string(consign.VerificationSignature) {
		t.Errorf("the job is %+v", job)
	}
}

// A coordinator that is told to end takes what is still returned to it, and ends
// with 0 then.
func TestDrain(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "sqlite")
	coordinator := d.coordinator("-lease", "30s")
	_, workers, err := longpoll.Dial(longpoll.DialConfig{URL: d.url()})
	if err != nil {
		t.Fatal(err)
	}
	id := sign.Generate()
	challenge, err := workers.Challenge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sig, err := id.Sign(consign.RegistrationMessage(challenge.Queue, d.url(), challenge.Nonce, nil))
	if err != nil {
		t.Fatal(err)
	}
	session, err := workers.Register(t.Context(), consign.Registration{Algorithm: sign.Ed25519, PublicKey: id.Public().Bytes(), Origin: d.url(), Nonce: challenge.Nonce,
		Signature: sig, Capabilities: consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: consign.MaxTier, Slots: 1}})
	if err != nil {
		t.Fatal(err)
	}
	p := d.submit("-custody", "plain", "-task", "classify", "../README.md")
	a, err := session.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := coordinator.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(patience); !strings.Contains(coordinator.stderr.tail(), "draining"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatal("it does not drain")
		}
	}
	if resp, err := http.Get(d.url() + "/readyz"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("while it drains /readyz is %v, %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	result := []byte(`{"task":"classify"}`)
	completion, err := recorded(id, a, result)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Complete(t.Context(), completion); err != nil {
		t.Errorf("a result while it drains: %v", err)
	}
	if _, err := coordinator.wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	d.coordinator()
	if out, err := p.wait(); err != nil || !bytes.Contains([]byte(out), result) {
		t.Errorf("the submitter got %q, %v\n%s", out, err, p.stderr.tail())
	}
}

// recorded is a completion with its record.
func recorded(id *sign.Identity, a consign.Assignment, result []byte) (consign.Completion, error) {
	r := consign.Record{QueueID: a.Queue, JobID: a.Job, ClaimID: a.Claim, Kind: a.Kind, ModelRequested: a.Model, HHash: hash(a.Header),
		InputHash: consign.InputHash(a.Header, a.Payload), ResultHash: hash(result), Comparator: a.Comparator, Seq: 1, StartedAt: 1, FinishedAt: 2}
	envelope, err := consign.SignRecord(id, r)
	if err != nil {
		return consign.Completion{}, err
	}
	record, err := envelope.MarshalJSON()
	return consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: result, Record: record}, err
}
