package longpoll_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/transport/longpoll"
)

// twoAccounts are acme's token and foe's.
func twoAccounts(t testing.TB) longpoll.Authenticator {
	t.Helper()
	tokens, err := longpoll.ReadTokens(strings.NewReader("# who may submit\nacme " + longpoll.HashToken("acme-token") + "\n\nfoe " + longpoll.HashToken("foe-token") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// TestBadRequests: each is a 4xx with a code and a remedy, and changes nothing.
func TestBadRequests(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour, BackoffBase: time.Millisecond}) // however slow the machine is
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q, Authenticator: twoAccounts(t), MaxBody: 1 << 20})
	targets := heldJob(t, url)
	before := snapshot(t, q, targets)
	bad := testkit.BadRequests(targets)
	if len(bad) < 2000 {
		t.Errorf("%d bad requests, want 2,000", len(bad))
	}
	for _, r := range append(bad, testkit.BadRequest{Method: "POST", Path: "/v1/jobs", Token: targets.Account, ContentType: "application/json", Body: `{"payload":"` + strings.Repeat("A", 2<<20) + `"}`, Why: "too large"}) {
		what := fmt.Sprintf("%s %.80s (%.60s) %.200s", r.Method, r.Path, r.Why, r.Body)
		status, body := send(t, url, r)
		var p struct{ Code, Detail, Remedy string }
		if err := json.Unmarshal(body, &p); err != nil || status/100 != 4 || p.Code == "" || p.Detail == "" || p.Remedy == "" ||
			r.Status != 0 && status != r.Status || r.Code != "" && p.Code != r.Code {
			t.Errorf("%s:\n%d %.300s", what, status, body)
		}
	}
	if after := snapshot(t, q, targets); after != before {
		t.Errorf("state was\n%s\nand is\n%s", before, after)
	}
	complete(t, url, targets)
	submitter, _ := dial(t, url, targets.Account)
	id, _ := consign.ParseJobID(targets.Job)
	if lines := lines(t, submitter, id); lines != nil {
		t.Errorf("the log has %q", lines)
	}
}

// TestForeignClaims: where one request is about many claims, those of others are
// lost, and stay as they are.
func TestForeignClaims(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour, BackoffBase: time.Millisecond})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q, Authenticator: twoAccounts(t)})
	targets := heldJob(t, url)
	_, workers := dial(t, url, "")
	identity := sign.Generate()
	token, _ := registerJSON(t, url, workers, identity)
	rival := "/v1/workers/" + consign.WorkerID(identity.Public().ID()).String()
	before := snapshot(t, q, targets)
	for _, id := range []string{targets.Claim, targets.OldClaim} {
		claim := object{"job_id": targets.Job, "claim_id": id}
		status, answer := ask(t, url, "POST", rival+"/heartbeat", token, object{"capabilities": object{"kinds": []string{"TASK"}, "max_context_tier": 4, "slots": 4}, "free_slots": 4, "claims": []object{claim}})
		if status != 200 { // whether the claim is lost is found out beside it, for the next one
			t.Errorf("a heartbeat of another's claim: %d %v", status, answer)
		}
		status, answer = ask(t, url, "POST", rival+"/completions", token, object{"completions": []object{claim}})
		if p, _ := answer["outcomes"].([]any)[0].(object)["error"].(object); status != 200 || p["code"] != "lease_lost" {
			t.Errorf("a result under another's claim: %d %v", status, answer)
		}
	}
	if after := snapshot(t, q, targets); after != before {
		t.Errorf("state was\n%s\nand is\n%s", before, after)
	}
	complete(t, url, targets)
}

// complete completes the job as the worker that holds it.
func complete(t *testing.T, url string, targets testkit.HTTPTargets) {
	t.Helper()
	if status, answer := ask(t, url, "POST", "/v1/jobs/"+targets.Job+"/complete", targets.Session, object{"claim_id": targets.Claim, "result": "eA=="}); status != 204 {
		t.Errorf("the claim's own result: %d %v", status, answer)
	}
}

// heldJob submits a job as acme and claims it as a worker.
func heldJob(t *testing.T, url string) testkit.HTTPTargets {
	t.Helper()
	submitter, workers := dial(t, url, "acme-token")
	job, err := submitter.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
	if err != nil {
		t.Fatal(err)
	}
	identity := sign.Generate()
	targets := testkit.HTTPTargets{Job: job.ID.String(), Worker: consign.WorkerID(identity.Public().ID()).String(), Account: "acme-token", Foreign: "foe-token"}
	targets.Session, targets.Registration = registerJSON(t, url, workers, identity)
	rival := sign.Generate()
	targets.Rival, _ = registerJSON(t, url, workers, rival)
	claim := func(worker, session string) string {
		status, a := ask(t, url, "POST", "/v1/workers/"+worker+"/claim?wait=5s", session, object{})
		if status != 200 {
			t.Fatalf("%d %v", status, a)
		}
		return a["claim_id"].(string)
	}
	targets.OldClaim = claim(consign.WorkerID(rival.Public().ID()).String(), targets.Rival)
	if status, answer := ask(t, url, "POST", "/v1/jobs/"+targets.Job+"/release", targets.Rival, object{"claim_id": targets.OldClaim}); status != 204 {
		t.Fatalf("%d %v", status, answer)
	}
	targets.Claim = claim(targets.Worker, targets.Session)
	t.Cleanup(func() { complete(t, url, targets) }) // or the queue waits for it
	return targets
}

// registerJSON registers a worker as a foreign program would, and returns its
// session's token and what it sent.
func registerJSON(t *testing.T, url string, workers consign.WorkerAPI, identity *sign.Identity) (token, sent string) {
	t.Helper()
	challenge, err := workers.Challenge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signature, err := identity.Sign(consign.RegistrationMessage(challenge.Queue, url, challenge.Nonce, nil))
	if err != nil {
		t.Fatal(err)
	}
	in, _ := json.Marshal(map[string]any{"algorithm": "ed25519", "public_key": identity.Public().Bytes(), "origin": url, "nonce": challenge.Nonce, "signature": signature,
		"capabilities": map[string]any{"kinds": []string{"TASK"}, "max_context_tier": 4, "slots": 4}})
	status, body := send(t, url, testkit.BadRequest{Method: "POST", Path: "/v1/workers/register", ContentType: "application/json", Body: string(in)})
	var out struct {
		Token string `json:"session_token"`
	}
	if err := json.Unmarshal(body, &out); err != nil || status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	return out.Token, string(in)
}

func send(t testing.TB, url string, r testkit.BadRequest) (status int, body []byte) {
	t.Helper()
	req, err := http.NewRequest(r.Method, url+r.Path, strings.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		t.Fatalf("%s %.80s: %v", r.Method, r.Path, err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

// snapshot is all that bad requests could have changed.
func snapshot(t *testing.T, q *consign.Queue, targets testkit.HTTPTargets) string {
	t.Helper()
	id, err := consign.ParseJobID(targets.Job)
	if err != nil {
		t.Fatal(err)
	}
	job, err := q.Submitter("acme").Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := q.Jobs(t.Context(), consign.Filter{}, consign.JobID{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	pairings, err := q.Submitter("acme").Pairings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%+v\n%+v\n%+v", job, jobs, pairings)
}

// A batch of nothing is refused before it fills the memory.
func TestBatchIsBounded(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter})
	for _, n := range []int{1001, 1 << 20} {
		status, body := send(t, url, testkit.BadRequest{Method: "POST", Path: "/v1/jobs/batch", ContentType: "application/json",
			Body: `{"jobs":[{}` + strings.Repeat(",{}", n-1) + `]}`})
		if status != http.StatusBadRequest || !strings.Contains(string(body), `"jobs"`) {
			t.Errorf("%d jobs: %d %.300s", n, status, body)
		}
		packed := "\x81\xa4jobs\xdd" + string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + strings.Repeat("\x80", n)
		status, body = send(t, url, testkit.BadRequest{Method: "POST", Path: "/v1/jobs/batch", ContentType: "application/msgpack", Body: packed})
		if status != http.StatusBadRequest {
			t.Errorf("%d jobs in msgpack: %d %.300s", n, status, body)
		}
	}
}
