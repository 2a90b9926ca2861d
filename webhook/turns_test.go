package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/store/memdb"
)

// outbox is a store with deliveries in it, whose jobs are long forgotten.
type outbox struct {
	consign.Store
	read  atomic.Int64                        // documents that were listed
	apply func(c *consign.Change) (bad error) // nil: all are applied
}

func (s *outbox) Docs(ctx context.Context, kind, after string, n int) ([]consign.Doc, error) {
	docs, err := s.Store.Docs(ctx, kind, after, n)
	s.read.Add(int64(len(docs)))
	return docs, err
}

func (s *outbox) Apply(ctx context.Context, changes []consign.Change) ([]error, error) {
	if s.apply != nil {
		if err := s.apply(&changes[0]); err != nil {
			return []error{err}, nil
		}
	}
	return s.Store.Apply(ctx, changes)
}

// put adds a delivery of an account that is due at a time.
func (s *outbox) put(t *testing.T, account, url string, due time.Time) {
	t.Helper()
	s.putTried(t, account, url, due, 0)
}

func (s *outbox) putTried(t *testing.T, account, url string, due time.Time, tries int) {
	t.Helper()
	body, err := json.Marshal(consign.Hook{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	d := consign.Delivery{Job: consign.NewJobID(), Account: account, Since: consign.At(due), Created: 1, State: "completed", Tries: tries}
	hook := consign.Doc{Kind: consign.DocHook, Key: d.Hook(), Version: 1, Body: body}
	if errs, err := s.Store.Apply(context.Background(), []consign.Change{{ID: consign.ChangeID(consign.NewClaimID()), Docs: []consign.Doc{hook, entry(d, due)}}}); err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
}

func (s *outbox) left(t *testing.T) int {
	t.Helper()
	docs, err := s.Store.Docs(context.Background(), consign.DocWebhook, "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return len(docs)
}

// tripper is http.RoundTripper as a function.
type tripper func(r *http.Request) (int, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) {
	status, err := f(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(nil)), Request: r}, nil
}

// sending runs a Sender on the store, in a bubble of time, while test does.
func sending(t *testing.T, s *outbox, log *slog.Logger, answer tripper, test func()) {
	t.Helper()
	sender, err := New(Config{Store: s, Identity: identity, Seed: seed, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	sender.client.Transport = answer
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- sender.Run(ctx) }()
	test()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

// However much of one account is due, and whether its servers hang or answer at
// once: the others' messages go out with the first sweep, and what waits is
// stepped over rather than read.
func TestAccountsTakeTurns(t *testing.T) {
	const many, minutes = 6000, 12
	for name, hangs := range map[string]bool{"its servers hang": true, "its servers answer": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &outbox{Store: memdb.New()}
				began := time.Now()
				for i := range many {
					s.put(t, "big", fmt.Sprintf("https://%d.big.test/", i), began.Add(-time.Duration(i%minutes)*time.Minute))
				}
				for i := range 40 { // some before those of big in the outbox, some behind
					s.put(t, fmt.Sprintf("small-%d", i), "https://small.test/", began.Add(-time.Duration(i%minutes)*time.Minute))
				}
				var mu sync.Mutex
				big, small, busy, most := 0, 0, 0, 0
				var taken []string // first tries' accounts, in the order in which they were taken
				s.apply = func(c *consign.Change) error {
					if d, ok := read(c.Docs[len(c.Docs)-1]); ok && d.Tries == 1 {
						taken = append(taken, d.Account)
					}
					return nil
				}
				answer := func(r *http.Request) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					if r.URL.Host == "small.test" {
						small++
						return http.StatusOK, nil
					}
					big++
					busy++
					most = max(most, busy)
					if hangs {
						mu.Unlock()
						<-r.Context().Done()
						mu.Lock()
					}
					busy--
					return http.StatusOK, r.Context().Err()
				}
				sending(t, s, nil, answer, func() {
					rest(time.Millisecond)
					mu.Lock()
					defer mu.Unlock()
					if small != 40 {
						t.Errorf("%d of 40 messages of others went out at once", small)
					}
					before, seen := 0, 0
					for _, account := range taken {
						if seen == 40 {
							break
						}
						if account == "big" {
							before++
						} else {
							seen++
						}
					}
					if before > perAccount {
						t.Errorf("%d messages of the big account had their turn before the others' last", before)
					}
					if most > perAccount {
						t.Errorf("%d tries of one account were under way", most)
					}
					if !hangs {
						return
					}
					if big != perAccount {
						t.Errorf("%d tries of the big account were made, not %d", big, perAccount)
					}
					// A few sweeps, each of which reads a page or two for each minute.
					if read := s.read.Load(); read > many {
						t.Errorf("%d documents were read for %d that are due", read, many+40)
					}
				})
				if hangs {
					return
				}
				sending(t, s, nil, answer, func() {
					rest(time.Minute)
					if big != many || s.left(t) != 0 {
						t.Errorf("%d messages of the big account went out, of %d; %d are left", big, many, s.left(t))
					}
				})
			})
		})
	}
}

// What hangs of an account ends with its timeout, and what waited for it then
// goes out at once.
func TestFullAccountGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &outbox{Store: memdb.New()}
		for range 3 * perAccount {
			s.put(t, "acme", "https://submitter.test/", time.Now())
		}
		var calls atomic.Int64
		sending(t, s, nil, func(r *http.Request) (int, error) {
			calls.Add(1)
			<-r.Context().Done()
			return 0, r.Context().Err()
		}, func() {
			for n := int64(1); n <= 3; n++ {
				rest(time.Second)
				if got := calls.Load(); got != n*perAccount {
					t.Errorf("after %d timeouts there were %d calls", n-1, got)
				}
				rest(14 * time.Second) // 15 s is the timeout
			}
		})
	})
}

// A delivery that the store does not let go, or that cannot be read, keeps no
// other one waiting.
func TestOneBadDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &outbox{Store: memdb.New()}
		accounts := []string{"a", "b", "c", "d", "e", "f"}
		for _, account := range accounts {
			s.put(t, account, "https://"+account+".test/", time.Now())
		}
		for _, key := range []string{"", "00000000000000000000", consign.OutboxKey(0, "x", consign.JobID{})} {
			broken := consign.Doc{Kind: consign.DocWebhook, Key: "0" + key, Version: 1, Body: []byte(`{"job_id":7}`)}
			if _, err := s.Store.Apply(context.Background(), []consign.Change{{Docs: []consign.Doc{broken}}}); err != nil {
				t.Fatal(err)
			}
		}
		s.apply = func(c *consign.Change) error {
			for _, d := range c.Docs {
				if bytes.Contains(d.Body, []byte(`"account":"c"`)) {
					return errors.New("this one is cursed")
				}
			}
			return nil
		}
		var called sync.Map
		var log bytes.Buffer
		sending(t, s, slog.New(slog.NewTextHandler(&log, nil)), func(r *http.Request) (int, error) {
			called.Store(r.URL.Host, true)
			return http.StatusOK, nil
		}, func() { rest(time.Millisecond) })
		for _, account := range accounts {
			if _, ok := called.Load(account + ".test"); ok == (account == "c") {
				t.Errorf("account %s was called: %t", account, ok)
			}
		}
		if s.left(t) != 1 {
			t.Errorf("%d are left", s.left(t))
		}
		if !strings.Contains(log.String(), "this one is cursed") || strings.Count(log.String(), "is dropped") != 3 {
			t.Errorf("the log says\n%s", log.String())
		}
	})
}

// Paths, queries and passwords of URLs stay out of the log.
func TestLogsNameTheHostAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &outbox{Store: memdb.New()}
		for _, url := range []string{"https://user:hidden@refuses.test/hidden?hidden", "https://busy.test/hidden?hidden", "https://gone.test/hidden?hidden",
			"https://hangs.test:8443/hidden", "https://bad.test/hidden\x7f"} {
			s.put(t, "acme", url, time.Now())
		}
		var log bytes.Buffer
		sending(t, s, slog.New(slog.NewTextHandler(&log, nil)), func(r *http.Request) (int, error) {
			switch r.URL.Hostname() {
			case "refuses.test":
				return 0, errors.New("connection refused")
			case "busy.test":
				return http.StatusServiceUnavailable, nil
			case "gone.test":
				return http.StatusGone, nil
			}
			<-r.Context().Done()
			return 0, r.Context().Err()
		}, func() { rest(time.Minute) })
		for _, want := range []string{"host=refuses.test", "host=busy.test", "host=gone.test", "host=hangs.test:8443", "connection refused", "status 503", "deadline exceeded", "invalid control character"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%q is not in the log", want)
			}
		}
		if strings.Contains(log.String(), "hidden") {
			t.Errorf("the log says\n%s", log.String())
		}
	})
}

// ahead is an outbox whose store has another clock than the machine.
type ahead struct {
	*outbox
	by time.Duration
}

func (s *ahead) Now(context.Context) (consign.Instant, error) {
	return consign.At(time.Now().Add(s.by)), nil
}

// Messages go out by the store's clock, which they were written by, with the
// first sweep and with later ones.
func TestMessagesGoByTheStoresClock(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, 0, time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &ahead{outbox: &outbox{Store: memdb.New()}, by: by}
				var calls atomic.Int64
				sender, err := New(Config{Store: s, Identity: identity, Seed: seed})
				if err != nil {
					t.Fatal(err)
				}
				sender.client.Transport = tripper(func(*http.Request) (int, error) {
					calls.Add(1)
					return http.StatusServiceUnavailable, nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- sender.Run(ctx) }()
				for n := range int64(2) {
					time.Sleep(10*time.Second + time.Millisecond)
					s.put(t, "acme", "https://submitter.test/", time.Now().Add(by))
					time.Sleep(poll)
					if got := calls.Load(); got != 1+2*n {
						t.Errorf("%d calls a second after message %d, want %d", got, n+1, 1+2*n)
					}
					time.Sleep(5 * time.Second) // its second try
					if got := calls.Load(); got != 2+2*n {
						t.Errorf("%d calls after another try of message %d, want %d", got, n+1, 2+2*n)
					}
				}
				cancel()
				<-ended
			})
		})
	}
}
