package longpoll

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

// oneJob is a queue's session that has one job after a while, and counts what
// comes back.
type oneJob struct {
	consign.Session
	after time.Duration
	late  bool // a job comes with the cancellation

	mu       sync.Mutex
	claims   int
	released int
}

func (o *oneJob) Claim(ctx context.Context) (consign.Assignment, error) {
	o.mu.Lock()
	o.claims++
	o.mu.Unlock()
	select {
	case <-time.After(o.after):
	case <-ctx.Done():
		if !o.late {
			return consign.Assignment{}, ctx.Err()
		}
	}
	return consign.Assignment{Job: consign.JobID{1}, Claim: consign.ClaimID{2}, Lease: time.Minute}, nil
}

func (o *oneJob) Release(context.Context, consign.Release) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.released++
	return nil
}

func (o *oneJob) counts() (claims, released int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.claims, o.released
}

func openSession(t *testing.T, api consign.Session) *session {
	t.Helper()
	var all sessions
	all.init(1, 1, slog.Default())
	token, _, err := all.add(consign.WorkerID{}, netip.Addr{}, api)
	if err != nil {
		t.Fatal(err)
	}
	s, err := all.get(token)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// in runs f in a bubble with a session of a queue that has a job after a
// while.
func in(t *testing.T, after time.Duration, f func(*testing.T, *session, *oneJob)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		api := &oneJob{after: after}
		f(t, openSession(t, api), api)
	})
}

func TestMissedAnswerIsGivenBack(t *testing.T) {
	in(t, 0, func(t *testing.T, s *session, api *oneJob) {
		a, err := s.claim(t.Context(), "n")
		if err != nil {
			t.Fatal(err)
		}
		s.missed(a.Claim)
		time.Sleep(2 * grace)
		if _, released := api.counts(); released != 1 || len(s.requests)+len(s.claims) != 0 {
			t.Errorf("%d releases, and %d requests are kept", released, len(s.requests))
		}
	})
}

// TestMissedAnswerIsFetched: whoever asks again has it, and keeps it, however
// long it is silent then.
func TestMissedAnswerIsFetched(t *testing.T) {
	in(t, 0, func(t *testing.T, s *session, api *oneJob) {
		a, _ := s.claim(t.Context(), "n")
		s.missed(a.Claim)
		time.Sleep(grace / 2)
		again, err := s.claim(t.Context(), "n")
		if err != nil || again.Claim != a.Claim {
			t.Fatalf("%+v, %v", again, err)
		}
		s.sent(again.Claim)
		time.Sleep(2 * grace)
		if claims, released := api.counts(); claims != 1 || released != 0 {
			t.Errorf("%d claims, %d releases", claims, released)
		}
	})
}

// TestOneClaimForManyRequests: requests of one name get one job, also where the
// first is gone or its wait is over before the job comes.
func TestOneClaimForManyRequests(t *testing.T) {
	for what, patience := range map[string]time.Duration{"all wait": time.Hour, "the first gives up": 5 * time.Second} {
		for _, cut := range []bool{false, true} {
			in(t, 10*time.Second, func(t *testing.T, s *session, api *oneJob) {
				first, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				if cut {
					time.AfterFunc(patience/2, cancel)
				}
				go s.claim(first, "n")
				synctest.Wait()
				var group sync.WaitGroup
				for range 3 {
					group.Go(func() {
						if a, err := s.claim(t.Context(), "n"); err != nil || a.Claim != (consign.ClaimID{2}) {
							t.Errorf("%s: %+v, %v", what, a, err)
						}
					})
				}
				group.Wait()
				if claims, released := api.counts(); claims > 2 || released != 0 {
					t.Errorf("%s: %d claims, %d releases", what, claims, released)
				}
			})
		}
	}
}

// TestAbandoned: a request that is taken back gets no job, nor do its doubles,
// and gives back the one that it has got.
func TestAbandoned(t *testing.T) {
	in(t, 10*time.Second, func(t *testing.T, s *session, api *oneJob) {
		for range 2 {
			go func() {
				if _, err := s.claim(t.Context(), "n"); !errors.Is(err, context.Canceled) {
					t.Errorf("an abandoned request ended with %v", err)
				}
			}()
		}
		synctest.Wait()
		s.abandon("n")
		synctest.Wait()
		if claims, _ := api.counts(); claims != 1 || len(s.requests) != 0 {
			t.Errorf("%d claims, and %d requests are kept", claims, len(s.requests))
		}
		if _, err := s.claim(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		s.abandon("m")
		synctest.Wait()
		if _, released := api.counts(); released != 1 {
			t.Errorf("%d releases", released)
		}
	})
}

// TestAbandonedTooSoon: the word that a request is taken back may overtake it.
func TestAbandonedTooSoon(t *testing.T) {
	in(t, 0, func(t *testing.T, s *session, api *oneJob) {
		s.abandon("n")
		if _, err := s.claim(t.Context(), "n"); !errors.Is(err, context.Canceled) {
			t.Errorf("a request that was taken back ended with %v", err)
		}
		if claims, _ := api.counts(); claims != 0 {
			t.Errorf("%d claims", claims)
		}
	})
}

// TestAbandonedTooLate: a job that came at the same moment is given back.
func TestAbandonedTooLate(t *testing.T) {
	in(t, time.Hour, func(t *testing.T, s *session, api *oneJob) {
		api.late = true
		go s.claim(t.Context(), "n")
		synctest.Wait()
		s.abandon("n")
		synctest.Wait()
		if _, released := api.counts(); released != 1 || len(s.requests)+len(s.claims) != 0 {
			t.Errorf("%d releases, and %d requests are kept", released, len(s.requests))
		}
	})
}

// TestNamedClaimIsKept: once the worker has named its claim, nothing gives it
// back.
func TestNamedClaimIsKept(t *testing.T) {
	in(t, 0, func(t *testing.T, s *session, api *oneJob) {
		a, _ := s.claim(t.Context(), "n")
		s.missed(a.Claim)
		s.forget(a.Claim)
		s.abandon("n")
		time.Sleep(2 * grace)
		if _, released := api.counts(); released != 0 {
			t.Errorf("%d releases", released)
		}
	})
}

// TestSessionsEnd: a token is good for an hour, and old sessions make room.
func TestSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sessions
		all.init(1, 1, slog.Default())
		token, _, err := all.add(consign.WorkerID{}, netip.Addr{}, &oneJob{})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := all.add(consign.WorkerID{}, netip.Addr{}, &oneJob{}); !errors.Is(err, consign.ErrBusy) {
			t.Errorf("one session too many: %v", err)
		}
		time.Sleep(sessionLife + time.Second)
		if _, err := all.get(token); !errors.Is(err, consign.ErrSession) {
			t.Errorf("after its life: %v", err)
		}
		if _, _, err := all.add(consign.WorkerID{}, netip.Addr{}, &oneJob{}); err != nil {
			t.Errorf("in place of an old one: %v", err)
		}
	})
}

// TestLongNames: a session does not keep the name of a request that it would not
// take.
func TestLongNames(t *testing.T) {
	h := &handler{}
	h.sessions.init(1, 1, slog.Default())
	token, _, err := h.sessions.add(consign.WorkerID{}, netip.Addr{}, &oneJob{})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodDelete, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	r.SetPathValue("id", consign.WorkerID{}.String())
	r.SetPathValue("request", strings.Repeat("n", 65))
	err = h.abandon(&call{w: httptest.NewRecorder(), r: r, h: h})
	if field, ok := errors.AsType[*consign.FieldError](err); !ok || field.Field != "request_id" {
		t.Errorf("a name of 65 bytes: %v", err)
	}
}

// TestSessionsAreForgotten: what an old session holds, jobs that nobody fetched
// for one, is not kept until there are as many as there may be.
func TestSessionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sessions
		all.init(100, 100, slog.Default())
		for range 10 {
			if _, _, err := all.add(consign.WorkerID{}, netip.Addr{}, &oneJob{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(sessionLife + time.Second)
		}
		if len(all.open) != 1 {
			t.Errorf("%d sessions are kept", len(all.open))
		}
	})
}

// TestIdleSessionsEnd: one that nobody uses gives its place back, one that is
// used does not.
func TestIdleSessionsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sessions
		all.init(10, 1, slog.Default())
		here := netip.MustParseAddr("192.0.2.1")
		token, _, err := all.add(consign.WorkerID{}, here, &oneJob{})
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			time.Sleep(idleLife - time.Second)
			if _, err := all.get(token); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := all.add(consign.WorkerID{}, here, &oneJob{}); !errors.Is(err, consign.ErrBusy) {
			t.Errorf("a second one from an address that may have one: %v", err)
		}
		if _, _, err := all.add(consign.WorkerID{}, netip.MustParseAddr("192.0.2.2"), &oneJob{}); err != nil {
			t.Errorf("from another address: %v", err)
		}
		time.Sleep(idleLife + time.Second)
		if _, err := all.get(token); !errors.Is(err, consign.ErrSession) {
			t.Errorf("after nobody used it: %v", err)
		}
		if _, _, err := all.add(consign.WorkerID{}, here, &oneJob{}); err != nil || len(all.open) != 1 || len(all.from) != 1 {
			t.Errorf("in its place: %v, and %d sessions from %d addresses are kept", err, len(all.open), len(all.from))
		}
	})
}
