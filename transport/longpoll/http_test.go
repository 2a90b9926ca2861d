package longpoll_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
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

// What a program sees that was written from the seeds' pages alone.

type object = map[string]any

func ask(t testing.TB, url, method, path, token string, body any) (int, object) {
	t.Helper()
	r := testkit.BadRequest{Method: method, Path: path, Token: token}
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r.Body, r.ContentType = string(text), "application/json"
	}
	status, text := send(t, url, r)
	var answer object
	if len(text) > 0 {
		if err := json.Unmarshal(text, &answer); err != nil {
			t.Fatalf("%s %s: %d %s", method, path, status, text)
		}
	}
	return status, answer
}

func TestQuoteAndCommit(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Prices: consign.PriceTable{{Kind: consign.KindInference, Tier: 1, Price: 10_000}, {Kind: consign.KindInference, Price: 20_000}}})
	if err := q.AddCredit(t.Context(), longpoll.DefaultAccount, 1_000_000, "1"); err != nil {
		t.Fatal(err)
	}
	url := serve(t, longpoll.Config{Submitters: q.Submitter, QuoteKey: bytes.Repeat([]byte("k"), 32)})
	_, quote := ask(t, url, "GET", "/v1/quote?job_type=LLM_INFER&policy=AUTO&chars=1200", "", nil)
	if quote["price"] != "$0.010" || quote["endpoint"] != "/v1/jobs/commit/fast" || quote["policy_resolved"] != "FAST" || quote["tier"] != 1.0 {
		t.Errorf("quote %v", quote)
	}
	if _, task := ask(t, url, "GET", "/v1/quote?job_type=TASK", "", nil); task["policy_resolved"] != "CHEAP" || task["endpoint"] != "/v1/jobs/commit/cheap" {
		t.Errorf("quote %v", task)
	}
	job := object{"job_type": "LLM_INFER", "model": "m", "payload": object{"prompt": "why?"}, "allow_plain": true, "quote_id": quote["quote_id"], "job_id": "0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4051"}
	for range 2 { // sent again, it is the same job
		if status, answer := ask(t, url, "POST", "/v1/jobs/commit/fast", "", job); status != 201 || answer["job_id"] != job["job_id"] || answer["status"] != "pending" || answer["price"] != "$0.010" {
			t.Fatalf("%d %v", status, answer)
		}
	}
	// At its deadline a job of inference ends by itself, as the seeds' SDK has it.
	id, _ := consign.ParseJobID(job["job_id"].(string))
	info, err := q.Submitter(longpoll.DefaultAccount).Get(t.Context(), id)
	if err != nil || info.State != consign.StateQueued {
		t.Errorf("%+v, %v", info, err)
	}
	for what, change := range map[string]object{
		"another price":     {"payload": strings.Repeat("x", 2000)},
		"another kind":      {"job_type": "TASK"},
		"a made-up quote":   {"quote_id": "AAAA"},
		"a quote, forged":   {"quote_id": flip(quote["quote_id"].(string))},
		"a truncated quote": {"quote_id": quote["quote_id"].(string)[:40]},
	} {
		other := object{}
		for k, v := range job {
			other[k] = v
		}
		delete(other, "job_id")
		for k, v := range change {
			other[k] = v
		}
		if status, p := ask(t, url, "POST", "/v1/jobs/commit/fast", "", other); status != 409 || p["code"] != "quote" || p["field"] != "quote_id" {
			t.Errorf("%s: %d %v", what, status, p)
		}
	}
	if status, p := ask(t, url, "POST", "/v1/jobs/commit/cheap", "", job); status != 409 || p["code"] != "quote" {
		t.Errorf("another policy: %d %v", status, p)
	}
}

// flip changes the last character of a quote's MAC.
func flip(id string) string {
	b := []byte(id)
	b[20] ^= 1
	return string(b)
}

func TestCommitRefusals(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter})
	for _, c := range []struct {
		what   string
		body   object
		status int
		field  string
	}{
		{"bare, and the queue cannot seal it", object{"job_type": "TASK", "payload": 1}, 400, "payload"},
		{"PRIVATE without a paired worker", object{"job_type": "TASK", "payload": 1, "allow_plain": true, "privacy_class": "PRIVATE"}, 422, ""},
		{"a webhook", object{"job_type": "TASK", "payload": 1, "allow_plain": true, "webhook": "https://example.com"}, 400, "webhook"},
		{"no payload", object{"job_type": "TASK"}, 400, "payload"},
		{"two payloads", object{"job_type": "TASK", "payload": 1, "sealed": object{}}, 400, "payload"},
		{"an unknown kind", object{"job_type": "MINE", "payload": 1, "allow_plain": true}, 400, "kind"},
	} {
		if status, p := ask(t, url, "POST", "/v1/jobs/commit/fast", "", c.body); status != c.status || c.field != "" && p["field"] != c.field {
			t.Errorf("%s: %d %v, want %d about %s", c.what, status, p, c.status, c.field)
		}
	}
}

// TestAnyJSONIsAPayload: what was sent is what the worker gets.
func TestAnyJSONIsAPayload(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	_, workers := dial(t, url, "")
	session := register(t, workers, sign.Generate(), 1)
	for _, payload := range []string{`null`, `true`, `-1.50`, `"text"`, `[1, 2]`, `{"task" : "summarize","text":"ü <&>"}`} {
		r := testkit.BadRequest{Method: "POST", Path: "/v1/jobs/commit/cheap", ContentType: "application/json", Body: `{"job_type":"TASK","allow_plain":true,"payload":` + payload + `}`}
		if status, body := send(t, url, r); status != 201 {
			t.Fatalf("%s: %d %s", payload, status, body)
		}
		a, err := session.Claim(t.Context())
		if err != nil || string(a.Payload) != payload {
			t.Fatalf("%s became %s, %v", payload, a.Payload, err)
		}
		if err := session.Complete(t.Context(), consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}, Result: a.Payload}); err != nil {
			t.Fatal(err)
		}
		_, job := ask(t, url, "GET", "/v1/jobs/"+a.Job.String()+"?wait=5s", "", nil)
		if got, _ := json.Marshal(job["result"]); job["status"] != "completed" || payload != "null" && !sameJSON(string(got), payload) {
			t.Errorf("%s: %v", payload, job)
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}

func TestPaymentGate(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Prices: consign.PriceTable{{Kind: consign.KindTask, Price: 5_000}}})
	if err := q.AddCredit(t.Context(), longpoll.DefaultAccount, 1_000_000, "1"); err != nil {
		t.Fatal(err)
	}
	var due longpoll.Due
	url := serve(t, longpoll.Config{Submitters: q.Submitter, PaymentGate: func(w http.ResponseWriter, r *http.Request, d longpoll.Due) bool {
		due = d
		if r.Header.Get("X-Payment") == "" {
			w.WriteHeader(http.StatusPaymentRequired)
			_, _ = io.WriteString(w, `{"accepts":[]}`)
			return false
		}
		return true
	}})
	job := object{"job_type": "TASK", "payload": 1, "allow_plain": true}
	if status, _ := ask(t, url, "POST", "/v1/jobs/commit/cheap", "", job); status != 402 || due != (longpoll.Due{Account: longpoll.DefaultAccount, Jobs: 1, Price: 5_000}) {
		t.Errorf("%d, due %+v", status, due)
	}
	batch := object{"jobs": []object{{"job_type": "TASK", "payload": "eA==", "custody": "plain"}, {"job_type": "TASK", "payload": "eA==", "custody": "plain"}}}
	if status, _ := ask(t, url, "POST", "/v1/jobs/batch", "", batch); status != 402 || due.Price != 10_000 {
		t.Errorf("%d, due %+v", status, due)
	}
	jobs, err := q.Jobs(t.Context(), consign.Filter{}, consign.JobID{}, 10)
	if err != nil || len(jobs) != 0 {
		t.Errorf("%d jobs that nobody paid for, %v", len(jobs), err)
	}
	body, _ := json.Marshal(job)
	req, _ := http.NewRequest("POST", url+"/v1/jobs/commit/cheap", bytes.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Payment", "signed")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 201 {
		t.Errorf("%v, %v", resp, err)
	}
	resp.Body.Close()
}

// TestAccounts: another account's job is as if it were not there.
func TestAccounts(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q, Authenticator: twoAccounts(t)})
	acme, _ := dial(t, url, "acme-token")
	foe, _ := dial(t, url, "foe-token")
	job, err := acme.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := foe.Get(t.Context(), job.ID); !errors.Is(err, consign.ErrNotFound) {
		t.Errorf("another account: %v", err)
	}
	_, there := send(t, url, testkit.BadRequest{Method: "GET", Path: "/v1/jobs/" + job.ID.String(), Token: "foe-token"})
	none := consign.NewJobID()
	_, absent := send(t, url, testkit.BadRequest{Method: "GET", Path: "/v1/jobs/" + none.String(), Token: "foe-token"})
	if got, want := strings.ReplaceAll(string(there), job.ID.String(), none.String()), string(absent); got != want {
		t.Errorf("another account's job is told from one that is not there:\n%s\n%s", got, want)
	}
	for _, token := range []string{"", "x", "acme-token2"} {
		stranger, _ := dial(t, url, token)
		_, err := stranger.Get(t.Context(), job.ID)
		if field, ok := errors.AsType[*consign.FieldError](err); !ok || field.Field != "authorization" {
			t.Errorf("token %q: %v", token, err)
		}
	}
	// No token is taken from a URL.
	if status, _ := ask(t, url, "GET", "/v1/jobs/"+job.ID.String()+"?access_token=acme-token&token=acme-token", "", nil); status != 401 {
		t.Errorf("%d for a token in the URL", status)
	}
}

func TestRateLimit(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Authenticator: twoAccounts(t), Rate: 1e-9, Burst: 3})
	acme, _ := dial(t, url, "acme-token")
	foe, _ := dial(t, url, "foe-token")
	for i := range 5 {
		if _, err := acme.Keys(t.Context()); errors.Is(err, consign.ErrBusy) != (i >= 3) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if _, err := foe.Keys(t.Context()); err != nil {
		t.Errorf("another account: %v", err)
	}
}

// TestOrigin: a registration that was signed for another address is refused.
func TestOrigin(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	config := longpoll.Config{Workers: q, Origins: []string{"https://queue.example.com"}}
	_, workers := dial(t, serve(t, config), "")
	challenge, err := workers.Challenge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = workers.Register(t.Context(), consign.Registration{Algorithm: "ed25519", Origin: "https://evil.example.com", Nonce: challenge.Nonce})
	if field, ok := errors.AsType[*consign.FieldError](err); !ok || field.Field != "origin" {
		t.Errorf("%v", err)
	}
}

// TestOtherSites: a page of another site cannot use a browser's way in.
func TestOtherSites(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter})
	req, _ := http.NewRequest("POST", url+"/v1/jobs/commit/cheap", strings.NewReader(`{"job_type":"TASK","payload":1,"allow_plain":true}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 403 || resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// TestGzip: large JSON is compressed for who takes it.
func TestGzip(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter})
	for accept, want := range map[string]string{"gzip": "gzip", "br, gzip;q=0.5": "gzip", "": "", "gzip;q=0": "", "identity": ""} {
		req, _ := http.NewRequest("GET", url+"/openapi.yaml", nil)
		req.Header.Set("Accept-Encoding", accept)
		resp, err := (&http.Transport{DisableCompression: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.Header.Get("Content-Encoding") != want || want != "" && n > 10_000 {
			t.Errorf("%q: %q, %d bytes", accept, resp.Header.Get("Content-Encoding"), n)
		}
	}
}

// TestEventsResume reads a stream in pieces, each from where the one before
// broke: every entry comes once, in order.
func TestEventsResume(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	submitter, workers := dial(t, url, "")
	session := register(t, workers, sign.Generate(), 1)
	job, err := submitter.Submit(t.Context(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain})
	if err != nil {
		t.Fatal(err)
	}
	a, err := session.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	claim := consign.Claim{Job: a.Job, Claim: a.Claim}
	for i := range 20 {
		if err := session.Report(t.Context(), consign.Report{Claim: claim, Items: []consign.ReportItem{{Kind: consign.ReportPart, Data: fmt.Append(nil, i)}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := session.Complete(t.Context(), consign.Completion{Claim: claim, Result: []byte("r")}); err != nil {
		t.Fatal(err)
	}
	var ids []string
	last, ended := "", false
	for pieces := 0; !ended && pieces < 50; pieces++ {
		var got []string
		got, ended = readEvents(t, url+"/v1/jobs/"+job.ID.String()+"/events", last, 3)
		if ids = append(ids, got...); len(got) > 0 {
			last = got[len(got)-1]
		}
	}
	var want []string
	for e, err := range q.Submitter(longpoll.DefaultAccount).Events(t.Context(), job.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(uint64(e.Seq)))
	}
	if len(want) < 22 || strings.Join(ids, " ") != strings.Join(want, " ") {
		t.Errorf("entries\n%v, want\n%v", ids, want)
	}
}

// readEvents reads at most n events of a stream, and breaks it off.
func readEvents(t *testing.T, url, last string, n int) (ids []string, ended bool) {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && len(ids) < n {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			ids = append(ids, id)
		}
		if lines.Text() == "event: end" {
			return ids, true
		}
	}
	return ids, false
}

func TestHandlerConfig(t *testing.T) {
	q := startQueue(t, consign.Config{})
	for what, c := range map[string]longpoll.Config{"nothing": {}, "a short key": {Workers: q, QuoteKey: []byte("short")}, "a negative bound": {Workers: q, MaxBody: -1},
		"a rate without a burst": {Workers: q, Rate: 1}, "a negative life": {Workers: q, QuoteLife: -time.Second}} {
		_, err := longpoll.NewHandler(c)
		if _, ok := errors.AsType[*consign.FieldError](err); !ok {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, url := range []string{"", "x", "ftp://x", "http://", "http://a:b@x", "http://x?y=1", "http://x#y"} {
		_, _, err := longpoll.Dial(longpoll.DialConfig{URL: url})
		if _, ok := errors.AsType[*consign.FieldError](err); !ok {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, file := range []string{"acme", "acme token", "a b c", "acme " + strings.Repeat("0", 62)} {
		_, err := longpoll.ReadTokens(strings.NewReader(file))
		if _, ok := errors.AsType[*consign.FieldError](err); !ok {
			t.Errorf("%q: %v", file, err)
		}
	}
}
