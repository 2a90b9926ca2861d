package longpoll_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/transport/longpoll"
)

// office is a queue that lets everybody in, to a session that takes results.
type office struct {
	consign.Session
	mu      sync.Mutex
	results map[consign.ClaimID]int
	hold    chan struct{} // the first completion waits for its end
	held    atomic.Bool
}

func (o *office) Challenge(context.Context) (consign.Challenge, error) {
	return consign.Challenge{Nonce: []byte("nonce")}, nil
}

func (o *office) Register(context.Context, consign.Registration) (consign.Session, error) {
	return o, nil
}

func (o *office) Complete(ctx context.Context, c consign.Completion) error {
	if o.hold != nil && !o.held.Swap(true) {
		<-o.hold
	}
	switch string(c.Result) {
	case "panic":
		panic("a completion")
	case "bad":
		return fmt.Errorf("%w: for a test", consign.ErrBadResult)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.results[c.Claim.Claim] += len(c.Result)
	return nil
}

// counted counts the requests, by the last part of their path, and their bodies.
type counted struct {
	http.RoundTripper
	mu    sync.Mutex
	paths map[string]int
}

func (c *counted) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.paths[path.Base(r.URL.Path)]++
	c.mu.Unlock()
	return c.RoundTripper.RoundTrip(r)
}

func (c *counted) count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paths[name]
}

func enter(t *testing.T, o *office, maxBody int64, network *counted) consign.Session {
	t.Helper()
	url := serve(t, longpoll.Config{Workers: o, MaxBody: maxBody, Logger: slog.New(slog.DiscardHandler)})
	network.RoundTripper, network.paths = http.DefaultTransport, map[string]int{}
	_, workers, err := longpoll.Dial(longpoll.DialConfig{URL: url, Client: &http.Client{Transport: network}})
	if err != nil {
		t.Fatal(err)
	}
	return register(t, workers, sign.Generate(), 1)
}

func result(i int, body []byte) consign.Completion {
	return consign.Completion{Claim: consign.Claim{Job: consign.JobID{byte(i), byte(i >> 8), 1}, Claim: consign.ClaimID{byte(i), byte(i >> 8), 1}}, Result: body}
}

// gather makes calls that wait for the first one, which is under way. So many of
// them go by themselves.
func gather(t *testing.T, o *office, s consign.Session, network *counted, alone int, cs []consign.Completion) []error {
	t.Helper()
	o.hold = make(chan struct{})
	errs := make([]error, len(cs))
	var group sync.WaitGroup
	for i, c := range cs {
		group.Go(func() { errs[i] = s.Complete(t.Context(), c) })
		for i == 0 && network.count("completions") == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	for longpoll.WaitingResults(s) < len(cs)-1-alone {
		time.Sleep(time.Millisecond)
	}
	close(o.hold)
	group.Wait()
	return errs
}

// TestResultsGather: what comes while a request is under way goes together, and
// each result has its own answer.
func TestResultsGather(t *testing.T) {
	o, network := &office{results: map[consign.ClaimID]int{}}, &counted{}
	s := enter(t, o, 0, network)
	const n = 100
	cs := make([]consign.Completion, n)
	for i := range cs {
		cs[i] = result(i, []byte("good"))
	}
	cs[7].Result, cs[8].Result = []byte("bad"), []byte("panic")
	for i, err := range gather(t, o, s, network, 0, cs) {
		want := map[int]error{7: consign.ErrBadResult}[i]
		if i == 8 && err == nil || i != 8 && !errors.Is(err, want) {
			t.Errorf("result %d: %v, want %v", i, err, want)
		}
	}
	if len(o.results) != n-2 {
		t.Errorf("%d results of %d arrived", len(o.results), n-2)
	}
	if requests := network.count("completions"); requests != 2 {
		t.Errorf("%d requests for %d results", requests, n)
	}
}

// TestResultsTooLargeTogether: a queue that takes less in one body gets them in
// pieces, each once, and only what is too large by itself is refused.
func TestResultsTooLargeTogether(t *testing.T) {
	o, network := &office{results: map[consign.ClaimID]int{}}, &counted{}
	const maxBody = 40 << 10
	s := enter(t, o, maxBody, network)
	const n = 40
	cs := make([]consign.Completion, n)
	for i := range cs {
		cs[i] = result(i, bytes.Repeat([]byte("r"), 9<<10))
	}
	cs[5].Result = bytes.Repeat([]byte("r"), maxBody+1000)
	cs[6].Result = bytes.Repeat([]byte("r"), 100<<10) // goes by itself
	for i, err := range gather(t, o, s, network, 1, cs) {
		field, refused := errors.AsType[*consign.FieldError](err)
		if refused != (i == 5 || i == 6) || refused && field.Field != "body" || !refused && err != nil {
			t.Errorf("result %d: %v", i, err)
		}
	}
	for claim, size := range o.results {
		if size != 9<<10 {
			t.Errorf("%s arrived with %d bytes in all", claim, size)
		}
	}
	if len(o.results) != n-2 {
		t.Errorf("%d results of %d arrived", len(o.results), n-2)
	}
}

// TestResultsOfNobody: a caller that has gone holds nobody up, and a request that
// nobody waits for ends.
func TestResultsOfNobody(t *testing.T) {
	o, network := &office{results: map[consign.ClaimID]int{}, hold: make(chan struct{})}, &counted{}
	s := enter(t, o, 0, network)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- s.Complete(ctx, result(1, []byte("held"))) }()
	for !o.held.Load() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("a call that was cancelled: %v", err)
	}
	if err := s.Complete(t.Context(), result(2, []byte("good"))); err != nil {
		t.Errorf("the next one: %v", err)
	}
	close(o.hold)
}

// TestManySlotsOverABadNetwork: Claim calls come and go, answers are lost, and
// every job is run by one of them or given back, long before a lease ends.
func TestManySlotsOverABadNetwork(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	submitter, _ := dial(t, url, "")
	l := &lossy{RoundTripper: http.DefaultTransport, lose: 10}
	_, workers, err := longpoll.Dial(longpoll.DialConfig{URL: url, Client: &http.Client{Transport: l}})
	if err != nil {
		t.Fatal(err)
	}
	const slots, jobs = 16, 200
	session := register(t, workers, sign.Generate(), 2*slots)
	rs := make([]consign.SubmitRequest, jobs)
	for i := range rs {
		rs[i] = consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("x"), Custody: consign.CustodyPlain}
	}
	for _, o := range submitter.SubmitMany(t.Context(), rs) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
	}
	var done atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	for i := range slots {
		group.Go(func() {
			for n := 0; done.Load() < jobs && ctx.Err() == nil; n++ {
				call, cancel := context.WithCancel(ctx)
				if n%3 == i%3 { // it does not wait for long
					time.AfterFunc(time.Duration(i)*time.Millisecond, cancel)
				}
				a, err := session.Claim(call)
				cancel()
				if err != nil {
					continue
				}
				if err := session.Complete(ctx, consign.Completion{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); err != nil {
					t.Errorf("job %s: %v", a.Job, err)
				}
				if done.Add(1) == jobs {
					stop()
				}
			}
		})
	}
	group.Wait()
	if done.Load() != jobs {
		t.Errorf("%d jobs of %d are done", done.Load(), jobs)
	}
}

// TestWrongHost: a queue for this machine is not there for a page that calls it
// by a name of its own.
func TestWrongHost(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	for _, c := range []struct {
		config longpoll.Config
		host   string
		status int
	}{
		{longpoll.Config{Submitters: q.Submitter}, "evil.example.com", 421},
		{longpoll.Config{Submitters: q.Submitter}, "localhost.evil.example.com:80", 421},
		{longpoll.Config{Submitters: q.Submitter}, "192.168.0.1", 421},
		{longpoll.Config{Submitters: q.Submitter}, "LocalHost:8080", 200},
		{longpoll.Config{Submitters: q.Submitter}, "127.9.9.9", 200},
		{longpoll.Config{Submitters: q.Submitter}, "[::1]:8080", 200},
		{longpoll.Config{Submitters: q.Submitter, Hosts: []string{"queue.example.com"}}, "Queue.example.com:443", 200},
		{longpoll.Config{Submitters: q.Submitter, Hosts: []string{"queue.example.com"}}, "evil.example.com", 421},
		{longpoll.Config{Submitters: q.Submitter, Authenticator: twoAccounts(t)}, "queue.example.com", 200},
		{longpoll.Config{Workers: q}, "queue.example.com", 200},
	} {
		h, err := longpoll.NewHandler(c.config)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.Host = c.host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.status || c.status == 421 && !strings.Contains(w.Body.String(), `"wrong_host"`) {
			t.Errorf("%q: %d %s, want %d", c.host, w.Code, w.Body, c.status)
		}
	}
	for remote, status := range map[string]int{"127.0.0.1:5": 200, "[::1]:5": 200, "192.0.2.1:5": 421} { // HTTP/1.0 has no Host
		h, _ := longpoll.NewHandler(longpoll.Config{Submitters: q.Submitter})
		r := httptest.NewRequest("GET", "/healthz", nil)
		r.Host, r.RemoteAddr = "", remote
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != status {
			t.Errorf("from %s without a Host: %d, want %d", remote, w.Code, status)
		}
	}
}

// chatty is an Authenticator that says more than its callers may know.
type chatty struct{ err error }

func (c chatty) Account(*http.Request) (string, error) { return "", c.err }

// TestAuthenticatorsWords stay in the log.
func TestAuthenticatorsWords(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	for _, err := range []error{errors.New("ldap://secret is down"), &consign.FieldError{Field: "secret", Problem: "secret", Remedy: "secret"}} {
		var log bytes.Buffer
		h, _ := longpoll.NewHandler(longpoll.Config{Submitters: q.Submitter, Authenticator: chatty{err}, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		r := httptest.NewRequest("GET", "/v1/keys", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 401 || strings.Contains(w.Body.String(), "secret") || !strings.Contains(w.Body.String(), `"unauthorized"`) || !strings.Contains(log.String(), "secret") {
			t.Errorf("%d %s, and the log has %s", w.Code, w.Body, &log)
		}
	}
}

// TestStrangersAreBounded: by the address from which they come, as the trusted
// proxy says it, and in all.
func TestStrangersAreBounded(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	h, err := longpoll.NewHandler(longpoll.Config{Workers: q, MaxSessions: 5, MaxPerAddress: 2})
	if err != nil {
		t.Fatal(err)
	}
	join := func(address string, identity *sign.Identity) (int, string) {
		ask := func(path string, in any) *httptest.ResponseRecorder {
			body, _ := json.Marshal(in)
			r := httptest.NewRequest("POST", "http://q"+path, bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.RemoteAddr = address + ":1"
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		var c struct {
			Queue consign.QueueID `json:"queue_id"`
			Nonce []byte
		}
		if err := json.Unmarshal(ask("/v1/workers/challenge", struct{}{}).Body.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		signature, err := identity.Sign(consign.RegistrationMessage(c.Queue, "http://q", c.Nonce, nil))
		if err != nil {
			t.Fatal(err)
		}
		w := ask("/v1/workers/register", map[string]any{"algorithm": "ed25519", "public_key": identity.Public().Bytes(), "origin": "http://q", "nonce": c.Nonce, "signature": signature,
			"capabilities": map[string]any{"kinds": []string{"TASK"}, "max_context_tier": 4, "slots": 1}})
		return w.Code, w.Body.String()
	}
	for i, c := range []struct {
		address string
		status  int
		says    string
	}{
		{"192.0.2.1", 201, ""}, {"192.0.2.1", 201, ""}, {"192.0.2.1", 429, "this address"},
		{"192.0.2.2", 201, ""}, {"192.0.2.2", 201, ""}, {"192.0.2.3", 201, ""}, {"192.0.2.4", 429, "5 workers"},
	} {
		if status, body := join(c.address, sign.Generate()); status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("stranger %d: %d %s, want %d %s", i, status, body, c.status, c.says)
		}
	}
}

// TestListsAreBounded: each list and map of a request has a bound, and is refused
// by its name before it fills the memory.
func TestListsAreBounded(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter, Workers: q})
	targets := testkit.HTTPTargets{Worker: consign.WorkerID{1}.String()}
	identity := sign.Generate()
	_, workers := dial(t, url, "")
	targets.Worker = consign.WorkerID(identity.Public().ID()).String()
	targets.Session, _ = registerJSON(t, url, workers, identity)
	entries := func(n int, entry string) string { return "[" + entry + strings.Repeat(","+entry, n-1) + "]" }
	pairs := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":1`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	worker, job := "/v1/workers/"+targets.Worker, "/v1/jobs/"+consign.NewJobID().String()
	for _, c := range []struct{ path, body, field string }{
		{"/v1/workers/register", `{"capabilities":{"kinds":` + entries(4097, `""`) + `}}`, "kinds"},
		{"/v1/workers/register", `{"capabilities":{"models":` + entries(4097, `""`) + `}}`, "models"},
		{"/v1/workers/register", `{"capabilities":{"labels":` + pairs(65) + `}}`, "labels"},
		{worker + "/heartbeat", `{"warm":` + entries(4097, `{}`) + `}`, "warm"},
		{worker + "/heartbeat", `{"rates":` + pairs(4097) + `}`, "rates"},
		{worker + "/heartbeat", `{"claims":` + entries(1<<16+1, `{}`) + `}`, "claims"},
		{worker + "/claims", `{"request_ids":` + entries(1025, `"x"`) + `}`, "request_ids"},
		{worker + "/claims", `{"abandon":` + entries(1025, `"x"`) + `}`, "abandon"},
		{worker + "/completions", `{"completions":` + entries(257, `{}`) + `}`, "completions"},
		{job + "/heartbeat", `{"items":` + entries(4097, `{}`) + `}`, "items"},
		{job + "/heartbeat", `{"lines":` + entries(4097, `""`) + `}`, "lines"},
		{"/v1/jobs", `{"wraps":` + entries(4097, `{}`) + `}`, "wraps"},
		{"/v1/jobs/commit/fast", `{"sealed":{"wraps":` + entries(4097, `{}`) + `}}`, "wraps"},
		{"/v1/jobs", `{"labels":` + pairs(65) + `}`, "labels"},
		{"/v1/jobs/batch", `{"jobs":` + entries(1001, `{}`) + `}`, "jobs"},
		{"/v1/jobs/batch", `{"Jobs":` + entries(5000, `{}`) + `}`, "Jobs"},
	} {
		status, body := send(t, url, testkit.BadRequest{Method: "POST", Path: c.path, Token: targets.Session, ContentType: "application/json", Body: c.body})
		var p struct{ Code, Field, Problem string }
		if err := json.Unmarshal(body, &p); err != nil || status != 400 || p.Code != "invalid_field" || p.Field != c.field || !strings.Contains(p.Problem, "more than") {
			t.Errorf("%s %.60s: %d %s", c.path, c.body, status, body)
		}
	}
}

// TestPayloadsAreFree: the bounds are for what a request says, not for what a
// payload holds.
func TestPayloadsAreFree(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true})
	url := serve(t, longpoll.Config{Submitters: q.Submitter})
	body := `{"job_type":"TASK","allow_plain":true,"payload":{"labels":[` + strings.Repeat(`{"a\\\"":"]"},`, 70) + `0],"deep":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `},"labels":{}}`
	resp, err := http.Post(url+"/v1/jobs/commit/fast", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 201 {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}
