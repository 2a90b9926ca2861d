package websocket_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/client"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
)

// serveAll serves both transports on one port, as a coordinator does.
func serveAll(t testing.TB, q *consign.Queue) string {
	t.Helper()
	pages, err := longpoll.NewHandler(longpoll.Config{Submitters: q.Submitter, Workers: q})
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := websocket.NewHandler(websocket.Config{Workers: q, Foreign: q.RegisterForeign})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle(websocket.Path, sockets)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(sockets.Close)
	return srv.URL
}

// node runs the foreign worker and returns what it was sent.
func node(t *testing.T, url string, args ...string) (frames []map[string]any) {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("there is no Node, in which the foreign worker is written")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"testdata/foreign_worker.mjs", "ws" + strings.TrimPrefix(url, "http") + websocket.Path}, args...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, complaints.String())
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var f map[string]any
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, f)
	}
	return frames
}

// commit submits a job as the seeds' clients do.
func commit(t *testing.T, url, body string) (id consign.JobID) {
	t.Helper()
	resp, err := http.Post(url+"/v1/jobs/commit/fast", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		Job consign.JobID `json:"job_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return out.Job
}

// A worker in another language, written from the first protocol's page, runs
// jobs of the seeds' endpoints, and its receipts verify.
func TestForeignWorker(t *testing.T) {
	identity := sign.Generate()
	q := startQueue(t, consign.Config{Identity: identity})
	url := serveAll(t, q)
	const n = 3
	var ids []consign.JobID
	for i := range n {
		ids = append(ids, commit(t, url, fmt.Sprintf(`{"job_type":"TASK","payload":{"task":"summarize","text":"word %d"},"allow_plain":true,"deadline_seconds":600}`, i)))
	}
	frames := node(t, url, fmt.Sprint(n))
	var assigned, acked int
	for _, f := range frames {
		switch {
		case f["type"] == "job_assign":
			assigned++
			if payload := f["payload"].(map[string]any); f["job_type"] != "TASK" || payload["task"] != "summarize" || f["policy"] != "FAST" || f["privacy_class"] != "PUBLIC" || len(f) != 6 {
				t.Errorf("an assignment is %v", f)
			}
		case f["type"] == "ack" && f["job_id"] != nil:
			acked++
		case f["type"] == "error":
			t.Errorf("an error: %v", f)
		}
	}
	if assigned != n || acked != n {
		t.Errorf("%d jobs were assigned, %d accepted: %v", assigned, acked, frames)
	}
	submitter, _, err := longpoll.Dial(longpoll.DialConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{API: submitter, QueueKey: identity.Public()})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"word 0! é \u2028 \"quoted\"", `{"said":"word 1"}`, `{ "said" :  "word 2" , "n":1.50 }`}
	for i, id := range ids {
		job := wait(t, submitter, id)
		if job.State != consign.StateCompleted || job.Verification != consign.VerificationSignature || string(job.Result) != want[i] {
			t.Errorf("job %d is %s, %s, with %q, want %q", i, job.State, job.Verification, job.Result, want[i])
		}
		res, err := c.Verify(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Custody: consign.CustodyPlain}, job)
		if err != nil {
			t.Fatalf("job %d: %v", i, err)
		}
		if res.Receipt.Foreign == nil || !strings.Contains(res.Receipt.Foreign.JSON, "\n \"timestamp\"") || res.Acceptance.N != 0 || res.Acceptance.Drawn {
			t.Errorf("job %d has the receipt %+v, accepted by %+v", i, res.Receipt.Foreign, res.Acceptance)
		}
		pinned, err := client.New(client.Config{API: submitter, QueueKey: identity.Public(), WorkerKey: func(consign.WorkerID) (sign.PublicKey, error) { return sign.Generate().Public(), nil }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := pinned.Verify(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Custody: consign.CustodyPlain}, job); !errors.Is(err, consign.ErrBadReceipt) {
			t.Errorf("job %d verifies for who has pinned another worker: %v", i, err)
		}
		if _, err := c.Verify(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Custody: consign.CustodyEscrow}, job); err == nil {
			t.Errorf("job %d verifies as one that was sealed", i)
		}
		job.Result = append(job.Result, 'x')
		if _, err := c.Verify(t.Context(), consign.SubmitRequest{ID: id, Kind: consign.KindTask, Custody: consign.CustodyPlain}, job); !errors.Is(err, consign.ErrBadReceipt) {
			t.Errorf("job %d verifies with another result: %v", i, err)
		}
	}
}

// A receipt that does not hold rejects the result.
func TestForeignWorkerThatLies(t *testing.T) {
	for _, how := range []string{"hash", "signature"} {
		t.Run(how, func(t *testing.T) {
			q := startQueue(t, consign.Config{MaxAttempts: 1})
			url := serveAll(t, q)
			id := commit(t, url, `{"job_type":"TASK","payload":"word","allow_plain":true,"deadline_seconds":600}`)
			frames := node(t, url, "1", how)
			last := frames[len(frames)-1]
			problem, _ := last["error"].(map[string]any)
			if last["type"] != "error" || problem["code"] != "bad_result" || !strings.Contains(fmt.Sprint(problem["field"]), how) {
				t.Errorf("the worker is told %v", last)
			}
			if job := wait(t, q.Submitter(longpoll.DefaultAccount), id); job.State != consign.StateFailed || job.Result != nil {
				t.Errorf("the job is %s with %q", job.State, job.Result)
			}
		})
	}
}

// foreign is a foreign worker that a test leads by the hand.
type foreign struct {
	*raw
	key ed25519.PrivateKey
}

func joinForeign(t testing.TB, url string) *foreign {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &foreign{dialRaw(t, url), key}
	f.send(map[string]any{"type": "register", "provider_pubkey": hex.EncodeToString(key.Public().(ed25519.PublicKey)), "capabilities": []string{"TASK"}, "max_context_tier": 4, "anything": "else"})
	if a := f.receive(); a["type"] != "registered" {
		t.Fatalf("register is answered with %v", a)
	}
	return f
}

// complete hands in a result for a job, with a receipt that holds.
func (f *foreign) complete(job any, output string) {
	f.t.Helper()
	hash := sha256.Sum256([]byte(output))
	receipt, err := json.Marshal(map[string]any{"job_id": job, "provider_pubkey": hex.EncodeToString(f.key.Public().(ed25519.PublicKey)), "output_hash": hex.EncodeToString(hash[:]), "timestamp": 1})
	if err != nil {
		f.t.Fatal(err)
	}
	f.send(map[string]any{"type": "job_complete", "job_id": job, "output": output,
		"receipt": map[string]any{"receipt_json": string(receipt), "signature": hex.EncodeToString(ed25519.Sign(f.key, receipt))}})
}

// What a foreign worker holds is fenced by its connection: it goes back when
// that ends, and nobody else's connection can hand it in.
func TestForeignFence(t *testing.T) {
	q := startQueue(t, consign.Config{Lease: 1 << 50})
	url := serveAll(t, q)
	api := q.Submitter("acme")
	id := submit(t, api, 1, "a job")[0]
	first := joinForeign(t, url)
	job := first.receive()["job_id"]
	if job != id.String() {
		t.Fatalf("the first worker gets %v", job)
	}
	second := joinForeign(t, url)
	second.complete(job, "stolen")
	if f := second.receive(); f["type"] != "error" || f["error"].(map[string]any)["code"] != "lease_lost" {
		t.Errorf("a job of another connection is answered with %v", f)
	}
	first.drop()
	if f := second.receive(); f["type"] != "job_assign" || f["job_id"] != job {
		t.Errorf("the second worker gets %v", f)
	}
	first = &foreign{dialRaw(t, url), first.key}
	first.send(map[string]any{"type": "register", "provider_pubkey": hex.EncodeToString(first.key.Public().(ed25519.PublicKey)), "capabilities": []string{"TASK"}})
	first.receive()
	first.complete(job, "late")
	if f := first.receive(); f["type"] != "error" || f["error"].(map[string]any)["code"] != "lease_lost" {
		t.Errorf("a late result is answered with %v", f)
	}
	if _, err := api.Cancel(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	second.send(map[string]any{"type": "heartbeat"})
	if f := second.receive(); f["type"] != "job_cancel" || f["job_id"] != job {
		t.Errorf("the worker of a cancelled job is told %v", f)
	}
	if f := second.receive(); f["type"] != "ack" {
		t.Errorf("a heartbeat is answered with %v", f)
	}
}

// Bad frames of foreign workers are refused, and the worker goes on.
func TestForeignBadFrames(t *testing.T) {
	q := startQueue(t, consign.Config{})
	url := serveAll(t, q)
	stranger := dialRaw(t, url)
	for _, frame := range []string{`{}`, `{"type":"heartbeat"}`, `{"type":"job_complete","job_id":"x"}`, `[]`, `{"type":"register"}`, `{"type":"register","provider_pubkey":"AA","capabilities":["TASK"]}`,
		`{"type":"register","provider_pubkey":"` + strings.Repeat("0", 64) + `","capabilities":["TASK"]}`, `{"type":"register","provider_pubkey":7}`, `{"type":"challenge"}`} {
		stranger.send(json.RawMessage(frame))
		if f := stranger.receive(); f["type"] != "error" {
			t.Errorf("%s is answered with %v", frame, f)
		}
	}
	f := joinForeign(t, url)
	id := submit(t, q.Submitter("acme"), 1, "a job")[0].String()
	f.receive()
	for _, frame := range []string{`{"type":"register","provider_pubkey":"x"}`, `{"type":"job_complete","job_id":"` + id + `"}`, `{"type":"job_complete","job_id":"` + id + `","output":1}`,
		`{"type":"job_complete","job_id":"` + id + `","output":1,"receipt":{"receipt_json":"{}"}}`, `{"type":"heartbeat","max_context_tier":9}`, `{"type":"job_fail"}`, `{"type":"claim","id":1}`} {
		f.send(json.RawMessage(frame))
		if a := f.receive(); a["type"] != "error" {
			t.Errorf("%s is answered with %v", frame, a)
		}
	}
	f.send(map[string]any{"type": "job_heartbeat", "job_id": id, "lines": []string{"on it"}})
	f.complete(id, "done")
	for range 2 {
		if a := f.receive(); a["type"] != "ack" {
			t.Errorf("after bad frames: %v", a)
		}
	}
}

// A stranger's frame takes no more memory than its bytes: one without a job is
// cut off where a frame is long, one with a job is told what is too much in it.
func TestForeignLongFrames(t *testing.T) {
	q := startQueue(t, consign.Config{})
	url := serveAll(t, q)
	list := func(n int) []byte {
		return []byte(`{"type":"heartbeat","models":["",` + strings.Repeat(`"",`, n-2) + `""]}`)
	}
	tooMany := func(what string, f *foreign, frame []byte) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := f.conn.Write(t.Context(), ws.MessageText, frame); err != nil {
			t.Fatal(err)
		}
		a := f.receive()
		if problem, _ := a["error"].(map[string]any); a["type"] != "error" || problem["field"] != "models" || !strings.Contains(fmt.Sprint(problem), "more than 4096 entries") {
			t.Errorf("%s: answered with %v", what, a)
		}
		runtime.ReadMemStats(&after)
		if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown >= 200 {
			t.Errorf("%s: took %d MiB", what, grown)
		}
	}
	f := joinForeign(t, url)
	tooMany("a short frame", f, list(4097))
	_ = f.conn.Write(t.Context(), ws.MessageText, list(8<<20))
	if _, _, err := f.conn.Read(t.Context()); ws.CloseStatus(err) != ws.StatusMessageTooBig {
		t.Errorf("a long frame without a job: %v", err)
	}

	f = joinForeign(t, url)
	submit(t, q.Submitter("acme"), 1, "a job")
	job := f.receive()["job_id"]
	tooMany("a long frame with a job", f, list(8<<20))
	f.complete(job, strings.Repeat("x", 1<<20)) // a result may be as long
	if a := f.receive(); a["type"] != "ack" {
		t.Errorf("a long result is answered with %v", a)
	}
	_ = f.conn.Write(t.Context(), ws.MessageText, list(1<<20))
	if _, _, err := f.conn.Read(t.Context()); ws.CloseStatus(err) != ws.StatusMessageTooBig {
		t.Errorf("a long frame after the job: %v", err)
	}
}
