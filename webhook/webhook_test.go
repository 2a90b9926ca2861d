package webhook

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
)

var (
	identity = sign.FromEd25519Seed([32]byte{'q'})
	seed     = func() []byte { return []byte("thirty-two bytes, random or not.") }
)

// endpoint is a submitter's server, in a bubble of time.
type endpoint struct {
	mu       sync.Mutex
	answer   func(n int) (status int, err error) // of the n-th call, from 0
	requests []*http.Request
	bodies   [][]byte
	at       []time.Duration
	began    time.Time
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	n := len(e.requests)
	e.requests, e.bodies, e.at = append(e.requests, r), append(e.bodies, body), append(e.at, time.Since(e.began))
	status := http.StatusNoContent
	if e.answer != nil {
		if status, err = e.answer(n); err != nil {
			return nil, err
		}
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(nil)), Header: http.Header{"Location": {"https://elsewhere.test/"}}, Request: r}, nil
}

// world is a queue on a store, and a Sender beside it.
type world struct {
	t     *testing.T
	store consign.Store
	q     *consign.Queue
	sub   consign.SubmitterAPI
	end   *endpoint
	stop  func() // ends the queue
}

func inWorld(t *testing.T, end *endpoint, senders int, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		end.began = time.Now()
		store := memdb.New()
		q, err := consign.New(consign.Config{Store: store, Identity: identity, Webhooks: true})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var group sync.WaitGroup
		running, stop := context.WithCancel(ctx)
		group.Go(func() { _ = q.Run(running) })
		for range senders {
			s, err := New(Config{Store: store, Identity: identity, Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			s.client.Transport = end
			group.Go(func() {
				if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("Run: %v", err)
				}
			})
		}
		test(&world{t, store, q, q.Submitter("acme"), end, stop})
		cancel()
		group.Wait()
	})
}

// ended submits a job with a webhook and cancels it.
func (w *world) ended(url string) consign.JobID {
	w.t.Helper()
	job, err := w.sub.Submit(context.Background(), consign.SubmitRequest{Kind: consign.KindTask, Payload: []byte("a secret"), Custody: consign.CustodyPlain, Webhook: url})
	if err == nil {
		_, err = w.sub.Cancel(context.Background(), job.ID)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return job.ID
}

// outbox is how many deliveries are not over.
func (w *world) outbox() int {
	w.t.Helper()
	docs, err := w.store.Docs(context.Background(), consign.DocWebhook, "", 1000)
	hooks, err2 := w.store.Docs(context.Background(), consign.DocHook, "", 1000)
	if err := errors.Join(err, err2); err != nil {
		w.t.Fatal(err)
	}
	if len(hooks) != len(docs) { // of jobs that have ended, as all of these tests' have
		w.t.Errorf("%d deliveries wait, and there are %d URLs for them", len(docs), len(hooks))
	}
	return len(docs)
}

// rest lets time pass, and all that is due happen.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const hook = "https://submitter.test/ended?x=1"

// A message says what has ended, and is signed so that anybody with the
// account's secret, or the queue's public key, can check it.
func TestMessage(t *testing.T) {
	inWorld(t, &endpoint{}, 1, func(w *world) {
		id := w.ended(hook)
		rest(2 * time.Second)
		if len(w.end.requests) != 1 || w.outbox() != 0 {
			t.Fatalf("%d calls, %d left", len(w.end.requests), w.outbox())
		}
		r, body := w.end.requests[0], w.end.bodies[0]
		if r.Method != http.MethodPost || r.URL.String() != hook {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		var m Message
		if err := json.Unmarshal(body, &m); err != nil || m.Type != "job.ended" || m.Data.Job != id || m.Data.Status != "cancelled" || m.Timestamp.IsZero() {
			t.Errorf("%s: %+v, %v", body, m, err)
		}
		if bytes.Contains(body, []byte("secret")) {
			t.Errorf("the payload is in %s", body)
		}
		if err := verify(r.Header, body); err != nil {
			t.Error(err)
		}
		for what, spoil := range map[string]func(h http.Header, b []byte) []byte{
			"another body":      func(_ http.Header, b []byte) []byte { return append(b, ' ') },
			"another ID":        func(h http.Header, b []byte) []byte { h.Set("Webhook-Id", "msg_x"); return b },
			"another timestamp": func(h http.Header, b []byte) []byte { h.Set("Webhook-Timestamp", "1"); return b },
		} {
			h := r.Header.Clone()
			if b := spoil(h, bytes.Clone(body)); verify(h, b) == nil {
				t.Errorf("verified: %s", what)
			}
		}
	})
}

// verify is written from the specification of Standard Webhooks 1.0.
func verify(h http.Header, body []byte) error {
	message := h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)
	secret, publicKey := (&Sender{cfg: Config{Identity: identity, Seed: seed}}).Keys("acme")
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return fmt.Errorf("the secret has %d bytes, %v", len(key), err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(publicKey, "whpk_"))
	if err != nil {
		return err
	}
	found := 0
	for _, s := range strings.Fields(h.Get("webhook-signature")) {
		version, text, _ := strings.Cut(s, ",")
		sig, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return err
		}
		switch version {
		case "v1":
			if !hmac.Equal(sig, mac.Sum(nil)) {
				return errors.New("v1 does not verify")
			}
			found++
		case "v1a":
			if !ed25519.Verify(public, []byte(message), sig) {
				return errors.New("v1a does not verify")
			}
			found++
		}
	}
	if found != 2 {
		return fmt.Errorf("%d signatures in %q", found, h.Get("webhook-signature"))
	}
	return nil
}

// A message is tried again by the schedule; its ID stays, its time and
// signature are new. Then it is given up.
func TestSchedule(t *testing.T) {
	end := &endpoint{answer: func(n int) (int, error) {
		switch n % 4 {
		case 0:
			return 0, errors.New("connection refused")
		case 1:
			return http.StatusInternalServerError, nil
		case 2:
			return http.StatusFound, nil // a redirect is a failure
		default:
			return http.StatusTooManyRequests, nil
		}
	}}
	inWorld(t, end, 1, func(w *world) {
		// What was acknowledged is kept for ten minutes, the schedule takes three
		// days: the delivery goes on.
		id := w.ended(hook)
		if err := w.sub.Acknowledge(context.Background(), id); err != nil {
			t.Fatal(err)
		}
		rest(11 * time.Minute)
		if specs, err := w.store.Specs(context.Background(), []consign.JobID{id}); err != nil || specs[0] != nil {
			t.Fatalf("the job is still there: %v, %v", specs, err)
		}
		w.stop()
		rest(76 * time.Hour)
		want := []time.Duration{0}
		for _, d := range defaultSchedule[1:] {
			want = append(want, want[len(want)-1]+d)
		}
		if len(end.at) != len(want) {
			t.Fatalf("tried at %v, want %v", end.at, want)
		}
		for i, at := range end.at {
			if at < want[i] || at > want[i]+time.Duration(i+2)*poll {
				t.Errorf("try %d came after %v, not %v", i, at, want[i])
			}
			if end.requests[i].Header.Get("Webhook-Id") != end.requests[0].Header.Get("Webhook-Id") {
				t.Error("the ID changed")
			}
			if stamp, _ := strconv.ParseInt(end.requests[i].Header.Get("Webhook-Timestamp"), 10, 64); stamp != end.began.Add(at).Unix() {
				t.Errorf("try %d is stamped %d", i, stamp)
			}
			if err := verify(end.requests[i].Header, end.bodies[i]); err != nil {
				t.Errorf("try %d: %v", i, err)
			}
			if !bytes.Equal(end.bodies[i], end.bodies[0]) {
				t.Errorf("try %d says %s, the first said %s", i, end.bodies[i], end.bodies[0])
			}
		}
		if n := w.outbox(); n != 0 {
			t.Errorf("%d are left after %d tries", n, len(end.at))
		}
	})
}

// 410 ends the delivery and all later ones to that URL of that account, until
// it is enabled again.
func TestGone(t *testing.T) {
	end := &endpoint{answer: func(n int) (int, error) {
		return map[bool]int{true: http.StatusGone, false: http.StatusOK}[n == 0], nil
	}}
	inWorld(t, end, 1, func(w *world) {
		for range 3 {
			w.ended(hook)
			rest(5 * time.Second)
		}
		if len(end.requests) != 1 || w.outbox() != 0 {
			t.Errorf("%d calls, %d left", len(end.requests), w.outbox())
		}
		w.ended("https://submitter.test/another")
		rest(5 * time.Second)
		if len(end.requests) != 2 {
			t.Errorf("another URL was called %d times", len(end.requests)-1)
		}
		s, err := New(Config{Store: w.store, Identity: identity, Seed: seed})
		if err == nil {
			err = s.Enable(context.Background(), "acme", hook)
		}
		if err != nil {
			t.Fatal(err)
		}
		w.ended(hook)
		rest(5 * time.Second)
		if len(end.requests) != 3 {
			t.Errorf("an enabled URL was called %d times", len(end.requests)-2)
		}
	})
}

// Several Senders share an outbox: each message is sent, and once while nothing
// fails.
func TestSendersShareTheOutbox(t *testing.T) {
	inWorld(t, &endpoint{}, 3, func(w *world) {
		want := map[string]bool{}
		for range 300 {
			want["msg_"+w.ended(hook).String()] = true
		}
		rest(time.Minute)
		got := map[string]int{}
		for _, r := range w.end.requests {
			got[r.Header.Get("Webhook-Id")]++
		}
		for id := range want {
			if got[id] != 1 {
				t.Errorf("%s came %d times", id, got[id])
			}
		}
		if w.outbox() != 0 {
			t.Errorf("%d are left", w.outbox())
		}
	})
}

// A try that a Sender's end cut off is made by the next one.
func TestNothingIsLostWithASender(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memdb.New()
		d := consign.Delivery{Job: consign.NewJobID(), Account: "acme", Since: consign.At(time.Now())}
		first, err := New(Config{Store: store, Identity: identity, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		doc := entry(d, time.Now())
		if err := first.write(context.Background(), doc); err != nil {
			t.Fatal(err)
		}
		if taken, err := first.take(context.Background(), &d, doc); err != nil || taken == nil {
			t.Fatal(taken, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		second, err := New(Config{Store: store, Identity: identity, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = second.Run(ctx) }()
		time.Sleep(first.cfg.Timeout)
		if docs, _ := store.Docs(ctx, consign.DocWebhook, "", 10); len(docs) != 1 {
			t.Error("the second Sender did not wait for the first one's try")
		}
		time.Sleep(2 * first.cfg.Timeout)
		if docs, _ := store.Docs(ctx, consign.DocWebhook, "", 10); len(docs) != 0 { // over: there is no such job
			t.Error("what the first Sender left was never taken up")
		}
		cancel()
		synctest.Wait()
	})
}

// Nobody gets a queue to call what only the queue can reach: neither by an
// address, nor by a name that leads there, nor by a redirect.
func TestPrivateAddressesAreRefused(t *testing.T) {
	called := make(chan string, 10)
	inner := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { called <- r.URL.Path }))
	defer inner.Close()
	port := inner.URL[strings.LastIndex(inner.URL, ":"):]
	s, err := New(Config{Store: memdb.New(), Identity: identity, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{inner.URL, "http://localhost" + port, "http://[::1]" + port, "http://[::ffff:127.0.0.1]" + port, "http://0.0.0.0" + port,
		"http://10.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://192.168.1.1/", "http://[fd00::1]/", "http://100.64.0.1/"} {
		if _, err := s.post(t.Context(), consign.Delivery{}, url, []byte("{}")); err == nil {
			t.Errorf("%s was called", url)
		} else if !prohibited(err) {
			t.Errorf("%s: %v", url, err)
		}
	}
	open, err := New(Config{Store: memdb.New(), Identity: identity, Seed: seed, AnyAddress: true})
	if err != nil {
		t.Fatal(err)
	}
	redirecting := httptest.NewServer(http.RedirectHandler(inner.URL+"/secret", http.StatusTemporaryRedirect))
	defer redirecting.Close()
	if status, err := open.post(t.Context(), consign.Delivery{}, redirecting.URL, []byte("{}")); err != nil || status != http.StatusTemporaryRedirect {
		t.Errorf("a redirect: %d, %v", status, err)
	}
	select {
	case path := <-called:
		t.Errorf("%s was called", path)
	default:
	}
	if status, err := open.post(t.Context(), consign.Delivery{}, inner.URL+"/open", []byte("{}")); err != nil || status != http.StatusOK || <-called != "/open" {
		t.Errorf("with AnyAddress: %d, %v", status, err)
	}
}

func TestConfig(t *testing.T) {
	for field, c := range map[string]Config{
		"Store":    {Identity: identity},
		"Identity": {Store: memdb.New()},
		"Seed":     {Store: memdb.New(), Identity: identity, Seed: func() []byte { return make([]byte, 31) }},
		"Schedule": {Store: memdb.New(), Identity: identity, Seed: seed, Schedule: []time.Duration{-1}},
	} {
		_, err := New(c)
		if f, ok := errors.AsType[*consign.FieldError](err); !ok || f.Field != "webhook.Config."+field {
			t.Errorf("%s: %v", field, err)
		}
	}
}
