package longpoll

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

// slowLog is a queue's session that takes ten seconds to add a report, however
// long its caller waits; one of a caller that has gone is not added.
type slowLog struct {
	consign.Session
	err   error
	added int
}

func (s *slowLog) Report(ctx context.Context, _ consign.Report) error {
	select {
	case <-time.After(10 * time.Second):
		s.added++
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func line(claim byte, text string) consign.Report {
	return consign.Report{Claim: consign.Claim{Claim: consign.ClaimID{claim}}, Items: []consign.ReportItem{{Kind: consign.ReportLog, Data: []byte(text)}}}
}

// TestReportWhoseCallerHasGone: it is added once, and whoever comes back hears
// of it when it is, not before.
func TestReportWhoseCallerHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &slowLog{}
		s := openSession(t, api)
		gone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		go func() { _ = s.once(gone, "1", line(1, "x")) }()
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := s.once(impatient, "1", line(1, "x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, before there is an answer", err)
		}
		began := time.Now()
		if err := s.once(t.Context(), "1", line(1, "x")); err != nil || time.Since(began) != 8*time.Second || api.added != 1 {
			t.Errorf("%v after %v, added %d times", err, time.Since(began), api.added)
		}
		if err := s.once(t.Context(), "1", line(2, "x")); err != nil || api.added != 2 {
			t.Errorf("another claim's: %v, %d added", err, api.added)
		}
	})
}

// TestWhatIsKeptOfReports: an answer is the same again, unless it costs nothing
// to try again; and who has no claim fills no memory.
func TestWhatIsKeptOfReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for err, calls := range map[error]int{consign.ErrBusy: 1, errors.New("the store's"): 1, consign.ErrLeaseLost: 2} {
			api := &slowLog{err: err}
			s := openSession(t, api)
			for range 2 {
				if got := s.once(t.Context(), "1", line(1, "x")); !errors.Is(got, err) {
					t.Errorf("%v, not %v", got, err)
				}
			}
			if api.added != calls || len(s.reports.known.values) != 2-calls || len(s.reports.known.names) != 2-calls {
				t.Errorf("%v: %d calls, and %d are kept", err, api.added, len(s.reports.known.values))
			}
		}
	})
}

// TestReportOverAHalfOpenConnection goes out again under its name, and what the
// queue has answered does not.
func TestReportOverAHalfOpenConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		status := http.StatusNoContent
		network := roundTripper(func(r *http.Request) (*http.Response, error) {
			names = append(names, r.Header.Get("Idempotency-Key"))
			if len(names) == 1 {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			w := httptest.NewRecorder()
			if status != http.StatusNoContent {
				(&call{w: w, r: r, h: &handler{}}).fail(consign.ErrBusy)
			}
			w.Code = status
			return w.Result(), nil
		})
		s := &remoteSession{d: &dialer{base: "http://q", client: &http.Client{Transport: network}}, path: "/v1/workers/w"}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second) // as a worker's call
		defer cancel()
		if err := s.Report(ctx, line(1, "x")); err != nil || len(names) != 2 || names[0] == "" || names[1] != names[0] {
			t.Errorf("%v, sent as %q", err, names)
		}
		status = http.StatusTooManyRequests
		if err := s.Report(ctx, line(1, "x")); !errors.Is(err, consign.ErrBusy) || len(names) != 3 || names[2] == names[0] {
			t.Errorf("%v, sent as %q", err, names)
		}
	})
}

// TestReportWithoutAnAnswer: it has an end, and an error that is not its
// caller's.
func TestReportWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		network := roundTripper(func(r *http.Request) (*http.Response, error) {
			tries.Add(1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		s := &remoteSession{d: &dialer{base: "http://q", client: &http.Client{Transport: network}}, path: "/v1/workers/w"}
		if err := s.Report(t.Context(), line(1, "x")); !errors.Is(err, errNoAnswer) || tries.Load() != reportTries {
			t.Errorf("%v after %d tries", err, tries.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Report(ctx, line(1, "x")); !errors.Is(err, context.DeadlineExceeded) || tries.Load() != reportTries+1 {
			t.Errorf("%v after %d tries", err, tries.Load())
		}
	})
}

// TestReportIntoALostSession: whether the first try was added nobody knows any
// more, so it is not for the caller to send it under a new session's name.
func TestReportIntoALostSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries int
		network := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.GetBody != nil {
				t.Error("net/http may send it again by itself")
			}
			tries++
			w := httptest.NewRecorder()
			if tries == 1 {
				w.Code = http.StatusBadGateway // of a proxy, whose coordinator was killed
			} else {
				(&call{w: w, r: r, h: &handler{}}).fail(consign.ErrSession)
			}
			return w.Result(), nil
		})
		s := &remoteSession{d: &dialer{base: "http://q", client: &http.Client{Transport: network}}, path: "/v1/workers/w"}
		if err := s.Report(t.Context(), line(1, "x")); err == nil || errors.Is(err, consign.ErrSession) || tries != 2 {
			t.Errorf("%v after %d tries", err, tries)
		}
		if err := s.Report(t.Context(), line(1, "x")); !errors.Is(err, consign.ErrSession) || tries != 3 {
			t.Errorf("at once: %v after %d tries", err, tries)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
