package longpoll

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/consignq/consign"
)

// sleeper is a submitter's queue in which a job's log never grows.
type sleeper struct{ consign.SubmitterAPI }

func (sleeper) Events(ctx context.Context, _ consign.JobID, _ consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(yield func(consign.LogEntry, error) bool) {
		<-ctx.Done()
		yield(consign.LogEntry{}, ctx.Err())
	}
}

const eventsPath = "/v1/jobs/0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4051/events"

// TestCutStream: a stream that has become too old is cut, so that its reader
// resumes it. It does not say that the job has ended.
func TestCutStream(t *testing.T) {
	for range 20 { // two things happen at once then
		synctest.Test(t, func(t *testing.T) {
			h, err := NewHandler(Config{Submitters: func(string) consign.SubmitterAPI { return sleeper{} }})
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, eventsPath, nil))
			if got := w.Body.String(); strings.Contains(got, "event") {
				t.Errorf("it ends with %q", got[max(0, len(got)-300):])
			}
		})
	}
}

// gone is a caller who has left: only the header is taken.
type gone struct {
	*httptest.ResponseRecorder
	headers int
}

func (g *gone) WriteHeader(int)           { g.headers++ }
func (g *gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestEndNobodyReads: a stream's answer has begun, and there is no other.
func TestEndNobodyReads(t *testing.T) {
	h := &handler{Config: Config{}}
	w := &gone{ResponseRecorder: httptest.NewRecorder()}
	c := &call{w: w, r: httptest.NewRequest(http.MethodGet, eventsPath, nil), h: h, api: silent{}}
	c.r.SetPathValue("id", "0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4051")
	if err := h.events(c); err != nil || w.headers != 1 {
		t.Errorf("%d headers, %v", w.headers, err)
	}
}

// silent is a submitter's queue in which a job's log has no entries.
type silent struct{ consign.SubmitterAPI }

func (silent) Events(context.Context, consign.JobID, consign.Seq) iter.Seq2[consign.LogEntry, error] {
	return func(func(consign.LogEntry, error) bool) {}
}
