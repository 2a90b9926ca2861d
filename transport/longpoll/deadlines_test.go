package longpoll

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/store/memdb"
)

// inBubble runs f with a handler of a queue, where time passes at once.
func inBubble(t *testing.T, c Config, f func(*testing.T, http.Handler, *consign.Queue)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q, _ := testkit.Start(t, consign.Config{Store: memdb.New(), NoReceipts: true, Lease: time.Hour, DrainTimeout: time.Second, Logger: slog.New(slog.DiscardHandler)})
		c.Submitters = q.Submitter
		h, err := NewHandler(c)
		if err != nil {
			t.Fatal(err)
		}
		f(t, h, q)
	})
}

func serveOne(t *testing.T, h http.Handler, method, path, body string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", jsonType)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Code, answer
}

// TestQuoteExpires: a quote holds to its last second, and then the job is
// refused, rather than taken at another price.
func TestQuoteExpires(t *testing.T) {
	inBubble(t, Config{QuoteLife: 10 * time.Second}, func(t *testing.T, h http.Handler, _ *consign.Queue) {
		_, quote := serveOne(t, h, "GET", "/v1/quote?job_type=TASK", "")
		commit := func() (int, map[string]any) {
			return serveOne(t, h, "POST", "/v1/jobs/commit/cheap", `{"job_type":"TASK","payload":1,"allow_plain":true,"quote_id":"`+quote["quote_id"].(string)+`"}`)
		}
		time.Sleep(10 * time.Second)
		if status, answer := commit(); status != 201 {
			t.Errorf("in its last second: %d %v", status, answer)
		}
		time.Sleep(time.Second)
		if status, answer := commit(); status != 409 || answer["code"] != "quote" || !strings.Contains(answer["problem"].(string), "expired at 2000-01-01T00:00:10Z") {
			t.Errorf("after it: %d %v", status, answer)
		}
	})
}

// TestPromiseHolds for the job that it was made for, and until it expires.
func TestPromiseHolds(t *testing.T) {
	p := promise{kind: "TASK", policy: consign.PolicyCheap, price: 7, expires: 100}
	for _, c := range []struct {
		kind   string
		policy consign.Policy
		price  consign.Price
		now    time.Time
		holds  bool
	}{
		{"TASK", consign.PolicyCheap, 7, time.Unix(0, 0), true},
		{"TASK", consign.PolicyCheap, 7, time.Unix(100, 999_999_999), true},
		{"TASK", consign.PolicyCheap, 7, time.Unix(101, 0), false},
		{"CONTAINER", consign.PolicyCheap, 7, time.Unix(0, 0), false},
		{"TASK", consign.PolicyFast, 7, time.Unix(0, 0), false},
		{"TASK", consign.PolicyCheap, 8, time.Unix(0, 0), false},
		{"TASK", consign.PolicyCheap, 6, time.Unix(0, 0), false},
	} {
		if err := p.holds(c.kind, c.policy, c.price, c.now); (err == nil) != c.holds {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestCommitEndsByItself: a job without a deadline of its own has 30 s as a task
// and 60 s as inference, once a worker has it; and where none takes it, 30 s.
func TestCommitEndsByItself(t *testing.T) {
	for kind, deadline := range map[string]time.Duration{consign.KindTask: 30 * time.Second, consign.KindInference: 60 * time.Second} {
		for _, held := range []bool{false, true} {
			inBubble(t, Config{}, func(t *testing.T, h http.Handler, q *consign.Queue) {
				want := deadline
				if !held {
					want = 30 * time.Second
				}
				_, answer := serveOne(t, h, "POST", "/v1/jobs/commit/fast", `{"job_type":"`+kind+`","model":"m","payload":1,"allow_plain":true}`)
				id, err := consign.ParseJobID(answer["job_id"].(string))
				if err != nil {
					t.Fatal(err)
				}
				if held {
					claimAny(t, q, kind)
				}
				began := time.Now()
				time.Sleep(want - time.Second)
				if job, err := q.Submitter(DefaultAccount).Get(t.Context(), id); err != nil || job.State.Terminal() {
					t.Errorf("%s (held: %t) is %s a second before its end, %v", kind, held, job.State, err)
				}
				job, err := q.Submitter(DefaultAccount).Wait(t.Context(), id)
				if took := time.Since(began); err != nil || job.State != consign.StateExpired || took < want || took > want+time.Second {
					t.Errorf("%s (held: %t) is %s after %v (%s), not expired after %v: %v", kind, held, job.State, took, job.Reason, want, err)
				}
			})
		}
	}
}

// claimAny claims a job as a worker that does nothing with it.
func claimAny(t *testing.T, q *consign.Queue, kind string) {
	t.Helper()
	identity := sign.Generate()
	challenge, err := q.Challenge(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	signature, err := identity.Sign(consign.RegistrationMessage(challenge.Queue, "here", challenge.Nonce, nil))
	if err != nil {
		t.Fatal(err)
	}
	s, err := q.Register(t.Context(), consign.Registration{Algorithm: "ed25519", PublicKey: identity.Public().Bytes(), Origin: "here", Nonce: challenge.Nonce, Signature: signature,
		Capabilities: consign.Capabilities{Kinds: []string{kind}, Models: []string{"*"}, MaxContextTier: 4, Slots: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
}
