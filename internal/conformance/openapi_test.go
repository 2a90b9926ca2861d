package conformance

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/longpoll"
)

// described is a server whose every answer is checked against the document
// that it serves.
type described struct {
	t     *testing.T
	url   string
	check validator.Validator
	seen  map[string]bool // "operationId status"
	ops   map[string]string
	says  map[string]bool // likewise, of refusals: what the document says
}

// burst is how many requests an account may make at once.
const burst = 3000

const openapiFile = "../../transport/longpoll/openapi.yaml"

func describe(t *testing.T, url string) *described {
	t.Helper()
	text, err := os.ReadFile(openapiFile)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	model, err := doc.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(doc, config.WithFormatAssertions(), config.WithContentAssertions())
	if errs != nil {
		t.Fatal(errs)
	}
	if ok, errs := check.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%s: %s", e.Message, e.Reason)
		}
	}
	d := &described{t: t, url: url, check: check, seen: map[string]bool{}, ops: map[string]string{}, says: map[string]bool{}}
	for path, item := range model.Model.Paths.PathItems.FromOldest() {
		for method, op := range item.GetOperations().FromOldest() {
			d.ops[strings.ToUpper(method)+" "+path] = op.OperationId
			for status := range op.Responses.Codes.KeysFromOldest() {
				d.says[op.OperationId+" "+status] = status[0] == '4'
			}
		}
	}
	return d
}

// call makes a request, checks the answer against the document, and returns it.
func (d *described) call(r testkit.BadRequest) (int, map[string]any) {
	d.t.Helper()
	what := fmt.Sprintf("%s %.80s %.120s", r.Method, r.Path, r.Body)
	req, err := http.NewRequest(r.Method, d.url+r.Path, strings.NewReader(r.Body))
	if err != nil {
		d.t.Fatal(err)
	}
	if r.ContentType != "" {
		req.Header.Set("Content-Type", r.ContentType)
	}
	if r.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatalf("%s: %v", what, err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		d.t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if op := d.operation(r.Method, r.Path); op != "" {
		d.seen[fmt.Sprintf("%s %d", op, resp.StatusCode)] = true
		if ok, errs := d.check.ValidateHttpResponse(req, resp); !ok {
			for _, e := range errs {
				d.t.Errorf("%s: %d\n%.600s\n%s: %s %v", what, resp.StatusCode, body, e.Message, e.Reason, e.SchemaValidationErrors)
			}
		}
	}
	var m map[string]any
	if strings.Contains(resp.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(body, &m); err != nil {
			d.t.Errorf("%s: %.200s: %v", what, body, err)
		}
	}
	return resp.StatusCode, m
}

// operation is the one that a request is for; "" for none.
func (d *described) operation(method, path string) string {
	path, _, _ = strings.Cut(path, "?")
	best, literal := "", -1
	for pattern, op := range d.ops {
		n, ok := matches(pattern, method+" "+path)
		if ok && n > literal {
			best, literal = op, n
		}
	}
	return best
}

// matches counts the segments of a path that a pattern has literally.
func matches(pattern, path string) (literal int, ok bool) {
	a, b := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(a) != len(b) {
		return 0, false
	}
	for i := range a {
		switch {
		case strings.HasPrefix(a[i], "{") && b[i] != "":
		case a[i] == b[i]:
			literal++
		default:
			return 0, false
		}
	}
	return literal, true
}

// good makes a request that has to succeed, and returns its answer.
func (d *described) good(method, path, token string, body any) map[string]any {
	d.t.Helper()
	r := testkit.BadRequest{Method: method, Path: path, Token: token}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			d.t.Fatal(err)
		}
		r.Body, r.ContentType = string(text), "application/json"
	}
	status, answer := d.call(r)
	if status/100 != 2 {
		d.t.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return answer
}

type object = map[string]any

// TestOpenAPI walks through every operation as a foreign program would, and
// sends every bad request; each answer is as openapi.yaml says.
func TestOpenAPI(t *testing.T) {
	q, err := consign.New(consign.Config{Store: memdb.New(), Lease: time.Hour, BackoffBase: time.Millisecond, Prices: consign.PriceTable{{Kind: consign.KindInference, Price: 10_000}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- q.Run(ctx) }()
	defer func() { stop(); <-ended }()
	if err := q.AddCredit(t.Context(), "acme", 1_000_000, "1"); err != nil {
		t.Fatal(err)
	}
	tokens, err := longpoll.ReadTokens(strings.NewReader("acme " + longpoll.HashToken("acme-token") + "\nfoe " + longpoll.HashToken("foe-token") + "\nhasty " + longpoll.HashToken("hasty-token") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := longpoll.NewHandler(longpoll.Config{Submitters: q.Submitter, Workers: q, Authenticator: tokens, MaxBody: 1 << 20, Rate: 1, Burst: burst,
		Webhooks: func(string) (string, string) { return "whsec_AA==", "whpk_AA==" }})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	d := describe(t, srv.URL)

	targets := d.journey()
	for _, r := range testkit.BadRequests(targets) {
		if status, p := d.call(r); status/100 != 4 || p["code"] == nil || r.Status != 0 && (status != r.Status || p["code"] != r.Code) {
			t.Errorf("%s %s %s: %d %v", r.Method, r.Path, r.Why, status, p)
		}
	}
	d.refusals(targets)
	for _, op := range d.ops {
		if !slices.ContainsFunc([]string{"200", "201", "204"}, func(status string) bool { return d.seen[op+" "+status] }) {
			t.Errorf("%s: no answer of its own was checked", op)
		}
	}
	d.refusalsAgree()
}

// refusals are those that a request gets for what things are like, not for how
// it is written.
func (d *described) refusals(targets testkit.HTTPTargets) {
	d.t.Helper()
	plain := object{"job_type": "TASK", "payload": object{"task": "summarize", "text": "..."}, "allow_plain": true}
	priced, private := maps.Clone(plain), maps.Clone(plain)
	priced["job_type"], priced["model"], private["privacy_class"] = "LLM_INFER", "m", "PRIVATE"
	large := object{"claim_id": targets.Claim, "result": bytes.Repeat([]byte("x"), 1<<20)}
	job := "/v1/jobs/" + targets.Job
	for _, r := range []struct {
		method, path, token string
		body                object
		status              int
		code                string
	}{
		{"POST", "/v1/jobs/commit/fast", targets.Foreign, priced, 402, "insufficient_credit"},
		{"POST", "/v1/jobs/commit/cheap", targets.Foreign, private, 422, "no_worker"},
		{"POST", "/v1/jobs", targets.Foreign, object{"job_type": "LLM_INFER", "model": "m", "payload": "eA==", "custody": "plain"}, 402, "insufficient_credit"},
		{"POST", "/v1/jobs", targets.Account, object{"job_id": targets.Job, "job_type": "TASK", "payload": "eQ==", "custody": "plain"}, 409, "conflict"},
		{"POST", job + "/ack", targets.Account, nil, 409, "transition"},
		{"POST", job + "/complete", targets.Session, large, 413, "too_large"},
		{"POST", job + "/complete", targets.Session, object{"claim_id": targets.Claim, "result": "eA==", "record": "e30="}, 422, "bad_result"},
	} {
		text, err := json.Marshal(r.body)
		if err != nil {
			d.t.Fatal(err)
		}
		status, p := d.call(testkit.BadRequest{Method: r.method, Path: r.path, Token: r.token, Body: string(text), ContentType: "application/json"})
		if status != r.status || p["code"] != r.code {
			d.t.Errorf("%s %s: %d %v, not %d %s", r.method, r.path, status, p, r.status, r.code)
		}
	}
	for range burst + 10 { // as time passes
		if status, _ := d.call(testkit.BadRequest{Method: "GET", Path: "/v1/keys", Token: "hasty-token"}); status == http.StatusTooManyRequests {
			return
		}
	}
	d.t.Error("there is no bound of an account's rate")
}

// refusalsAgree: each refusal that came is in the document with its operation,
// and each status that is in it came.
func (d *described) refusalsAgree() {
	d.t.Helper()
	came := map[string]bool{}
	for what := range d.seen {
		op, status, _ := strings.Cut(what, " ")
		came[status] = true
		if status[0] == '4' && !d.says[what] {
			d.t.Errorf("%s: the document does not say that it may answer %s", op, status)
		}
	}
	for what, refusal := range d.says {
		if _, status, _ := strings.Cut(what, " "); refusal && !came[status] {
			d.t.Errorf("%s: no such answer came of any operation", what)
		}
	}
}

// journey makes every operation succeed once, and ends with a job that a worker
// holds.
func (d *described) journey() testkit.HTTPTargets {
	const acme = "acme-token"
	for _, path := range []string{"/healthz", "/readyz", "/openapi.yaml"} {
		d.good("GET", path, "", nil)
	}
	identity := sign.Generate()
	worker := consign.WorkerID(identity.Public().ID()).String()
	session, _ := d.register(identity)
	d.good("POST", "/v1/workers/"+worker+"/claim", session, object{}) // nothing: 204

	quote := d.good("GET", "/v1/quote?job_type=LLM_INFER&policy=AUTO&chars=1200", acme, nil)
	if quote["price"] != "$0.010" || quote["endpoint"] != "/v1/jobs/commit/fast" || quote["policy_resolved"] != "FAST" {
		d.t.Errorf("quote %v", quote)
	}
	d.good("POST", "/v1/jobs/commit/fast", acme, object{"job_type": "LLM_INFER", "model": "m", "payload": object{"prompt": "x"}, "allow_plain": true, "quote_id": quote["quote_id"]})
	done := d.good("POST", "/v1/jobs/commit/cheap", acme, object{"job_type": "TASK", "payload": object{"task": "summarize", "text": "..."}, "allow_plain": true})["job_id"].(string)
	d.work(identity, worker, session, done)
	job := d.good("GET", "/v1/jobs/"+done+"?wait=10s", acme, nil)
	if result, _ := job["result"].(object); job["status"] != "completed" || result["summary"] != "short" || job["receipt"] == nil {
		d.t.Errorf("job %v", job)
	}
	d.good("GET", "/v1/jobs/"+done+"/receipt", acme, nil)
	d.good("GET", "/v1/jobs/"+done+"/events", acme, nil)
	d.good("POST", "/v1/jobs/"+done+"/ack", acme, nil)

	other := d.good("POST", "/v1/jobs", acme, object{"job_type": "TASK", "payload": "eA==", "custody": "plain"})["id"].(string)
	d.good("GET", "/v1/jobs/"+other+"/explain", acme, nil)
	failed := d.claim(worker, session)
	d.good("POST", "/v1/jobs/"+other+"/fail", session, object{"claim_id": failed, "kind": "payload", "reason": "cannot be run"})
	d.good("POST", "/v1/jobs/batch", acme, object{"jobs": []object{{"job_type": "TASK", "payload": "eA==", "custody": "plain", "delay_ns": 3_600_000_000_000}, {"job_type": "none"}}})
	cancelled := d.good("POST", "/v1/jobs", acme, object{"job_type": "TASK", "payload": "eA==", "custody": "plain", "delay_ns": 3_600_000_000_000})["id"].(string)
	d.good("DELETE", "/v1/jobs/"+cancelled, acme, nil)
	d.good("GET", "/v1/keys", acme, nil)
	d.pair(worker, session)
	d.good("GET", "/v1/webhooks/keys", "acme-token", nil)
	d.group(worker, session)

	targets := testkit.HTTPTargets{Worker: worker, Account: acme, Foreign: "foe-token", Session: session}
	targets.Job = d.good("POST", "/v1/jobs", acme, object{"job_type": "TASK", "payload": "eA==", "custody": "plain"})["id"].(string)
	rival := sign.Generate()
	targets.Rival, targets.Registration = d.register(rival)
	targets.OldClaim = d.claim(consign.WorkerID(rival.Public().ID()).String(), targets.Rival)
	d.good("POST", "/v1/jobs/"+targets.Job+"/release", targets.Rival, object{"claim_id": targets.OldClaim})
	targets.Claim = d.claim(worker, session)
	return targets
}

// register returns a session's token, and the body that it was got with.
func (d *described) register(identity *sign.Identity) (token, body string) {
	challenge := d.good("POST", "/v1/workers/challenge", "", nil)
	var queue consign.QueueID
	if err := queue.UnmarshalText([]byte(challenge["queue_id"].(string))); err != nil {
		d.t.Fatal(err)
	}
	nonce, err := base64.StdEncoding.DecodeString(challenge["nonce"].(string))
	if err != nil {
		d.t.Fatal(err)
	}
	signature, err := identity.Sign(consign.RegistrationMessage(queue, d.url, nonce, nil))
	if err != nil {
		d.t.Fatal(err)
	}
	r := object{"algorithm": "ed25519", "public_key": identity.Public().Bytes(), "origin": d.url, "nonce": nonce, "signature": signature, "capabilities": capabilities}
	text, err := json.Marshal(r)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.good("POST", "/v1/workers/register", "", r)["session_token"].(string), string(text)
}

var capabilities = object{"kinds": []string{"TASK"}, "max_context_tier": 4, "slots": 4}

func (d *described) claim(worker, session string) string {
	d.t.Helper()
	claim, _ := d.good("POST", "/v1/workers/"+worker+"/claim?wait=10s", session, object{"request_id": consign.NewClaimID().String()})["claim_id"].(string)
	if claim == "" {
		d.t.Fatal("no job came")
	}
	return claim
}

// work claims a job, and returns its result with a signed record.
func (d *described) work(identity *sign.Identity, worker, session, id string) {
	d.t.Helper()
	a := d.good("POST", "/v1/workers/"+worker+"/claim?wait=10s", session, object{"request_id": "first"})
	d.good("POST", "/v1/workers/"+worker+"/heartbeat", session, object{"capabilities": capabilities, "free_slots": 3, "claims": []object{{"job_id": id, "claim_id": a["claim_id"]}}})
	d.good("POST", "/v1/jobs/"+id+"/heartbeat", session, object{"claim_id": a["claim_id"], "lines": []string{"reading", "writing"}})
	result := []byte(`{"summary":"short"}`)
	d.good("POST", "/v1/jobs/"+id+"/complete", session, object{"claim_id": a["claim_id"], "result": result, "record": d.record(identity, a, result)})
	d.good("DELETE", "/v1/workers/"+worker+"/claim/none", session, nil)
}

// record signs what a worker says of a run.
func (d *described) record(identity *sign.Identity, a object, result []byte) []byte {
	d.t.Helper()
	text, err := json.Marshal(a)
	if err != nil {
		d.t.Fatal(err)
	}
	var in struct {
		Queue      consign.QueueID `json:"queue_id"`
		Job        consign.JobID   `json:"job_id"`
		Claim      consign.ClaimID `json:"claim_id"`
		Kind       string          `json:"job_type"`
		Comparator string          `json:"comparator"`
		Payload    []byte          `json:"payload"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		d.t.Fatal(err)
	}
	now := time.Now().UnixMicro()
	envelope, err := consign.SignRecord(identity, consign.Record{QueueID: in.Queue, JobID: in.Job, ClaimID: in.Claim, Kind: in.Kind, Comparator: in.Comparator, Seq: 1,
		HHash: sha256.Sum256(nil), InputHash: consign.InputHash(nil, in.Payload), ResultHash: sha256.Sum256(result), StartedAt: now, FinishedAt: now})
	if err != nil {
		d.t.Fatal(err)
	}
	record, err := json.Marshal(envelope)
	if err != nil {
		d.t.Fatal(err)
	}
	return record
}

// group claims and completes with the requests that take many at once: a job,
// and one that the queue does not take.
func (d *described) group(worker, session string) {
	d.t.Helper()
	d.good("POST", "/v1/workers/"+worker+"/claims", session, object{"request_ids": []string{}}) // nothing: 204
	id := d.good("POST", "/v1/jobs", "acme-token", object{"job_type": "TASK", "payload": "eA==", "custody": "plain"})["id"]
	got := d.good("POST", "/v1/workers/"+worker+"/claims?wait=10s", session, object{"request_ids": []string{"many"}, "poll": 1})["outcomes"].([]any)[0].(object)
	a, _ := got["assignment"].(object)
	if got["request_id"] != "many" || a["job_id"] != id {
		d.t.Fatalf("outcome %v", got)
	}
	out := d.good("POST", "/v1/workers/"+worker+"/completions", session, object{"completions": []object{
		{"job_id": id, "claim_id": a["claim_id"], "record": "e30="}, {"job_id": id, "claim_id": strings.Repeat("ab", 16)}}})["outcomes"].([]any)
	for i, code := range []string{"bad_result", "lease_lost"} {
		if p, _ := out[i].(object)["error"].(object); p["code"] != code {
			d.t.Errorf("outcome %d: %v, want %s", i, out[i], code)
		}
	}
	d.good("DELETE", fmt.Sprint("/v1/jobs/", id), "acme-token", nil) // it would go to another worker
	again := d.good("POST", "/v1/workers/"+worker+"/claims?wait=10s", session, object{"request_ids": []string{"many"}, "poll": 2})["outcomes"].([]any)[0].(object)
	if p, _ := again["error"].(object); p["code"] != "conflict" {
		d.t.Errorf("a request_id again: %v", again)
	}
}

func (d *described) pair(worker, session string) {
	d.t.Helper()
	code := d.good("POST", "/v1/trust/pairings", "acme-token", object{"submitter_pubkey": sign.Generate().Public().Bytes()})["code"]
	claimed := d.good("POST", "/v1/trust/pairings/claim", session, object{"code": code})
	d.good("POST", "/v1/trust/pairings/"+worker+"/confirm", "acme-token", object{"fingerprint": claimed["worker_fingerprint"]})
	d.good("GET", "/v1/trust/pairings", "acme-token", nil)
	d.good("DELETE", "/v1/trust/pairings/"+worker, "acme-token", nil)
}
