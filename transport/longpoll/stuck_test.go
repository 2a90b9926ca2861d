package longpoll

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/wire"
)

// halfOpen is a network whose first connection takes a request and is never
// heard of again.
type halfOpen struct{ requests atomic.Int64 }

func (h *halfOpen) RoundTrip(r *http.Request) (*http.Response, error) {
	if h.requests.Add(1) == 1 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	w := httptest.NewRecorder()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var in completions
	if err := wire.Msgpack.Decode(body, &in); err != nil {
		return nil, err
	}
	out, err := wire.Msgpack.Encode(completed{make([]completionOutcome, len(in.Completions))})
	if err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", msgpackType)
	_, _ = w.Write(out) // to memory
	return w.Result(), nil
}

// TestAHalfOpenConnectionHoldsNobodyUp: results that come while a request has no
// answer go without it, well within a lease.
func TestAHalfOpenConnectionHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := &halfOpen{}
		s := &remoteSession{d: &dialer{base: "http://q", client: &http.Client{Transport: network}}, path: "/v1/workers/w"}
		first := make(chan error, 1)
		go func() { first <- s.Complete(t.Context(), consign.Completion{}) }()
		synctest.Wait()
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			if err := s.Complete(ctx, consign.Completion{}); err != nil {
				t.Errorf("result %d: %v", i, err)
			}
			cancel()
		}
		if n := network.requests.Load(); n != 4 {
			t.Errorf("%d requests for 4 results", n)
		}
		if err := <-first; !errors.Is(err, errNoAnswer) {
			t.Errorf("the first: %v", err)
		}
		if err := s.Complete(t.Context(), consign.Completion{}); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}
