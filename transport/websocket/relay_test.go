package websocket_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/websocket"
)

// relay stands before a coordinator and passes messages on, each as often as
// times says. It returns the URL at which it is dialled.
func relay(t testing.TB, url string, times func(message []byte) int) string {
	t.Helper()
	var open sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open.Add(1)
		defer open.Done()
		offered := strings.Split(r.Header.Get("Sec-WebSocket-Protocol"), ", ")
		far, _, err := ws.Dial(ctx, url+websocket.Path, &ws.DialOptions{Subprotocols: offered})
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer far.CloseNow()
		near, err := ws.Accept(w, r, &ws.AcceptOptions{Subprotocols: []string{far.Subprotocol()}})
		if err != nil {
			return
		}
		defer near.CloseNow()
		ctx, over := context.WithCancel(ctx)
		defer over()
		var both sync.WaitGroup
		for _, way := range [][2]*ws.Conn{{near, far}, {far, near}} {
			way[0].SetReadLimit(64 << 20)
			both.Go(func() {
				defer over()
				for {
					kind, message, err := way[0].Read(ctx)
					if err != nil {
						return
					}
					for range times(message) {
						if way[1].Write(ctx, kind, message) != nil {
							return
						}
					}
				}
			})
		}
		both.Wait()
	}))
	t.Cleanup(func() {
		stop()
		srv.CloseClientConnections()
		open.Wait()
		srv.Close()
	})
	return srv.URL
}

// Every message comes twice, in both directions: each job runs once, under one
// claim, and what is said of it is said once. No lease ends: they last an hour.
func TestDuplicates(t *testing.T) {
	for _, json := range []bool{false, true} {
		t.Run(fmt.Sprintf("json=%t", json), func(t *testing.T) {
			t.Parallel()
			q := startQueue(t, consign.Config{Lease: time.Hour})
			url := relay(t, serve(t, websocket.Config{Workers: q}), func([]byte) int { return 2 })
			for range 2 {
				startWorker(t, dial(t, websocket.DialConfig{URL: url, JSON: json}), 4, upper)
			}
			api := q.Submitter("acme")
			for i, id := range submit(t, api, 60, "a job") {
				job := wait(t, api, id)
				if want := fmt.Sprintf("A JOB %d", i); job.State != consign.StateCompleted || string(job.Result) != want || job.Attempts != 1 {
					t.Errorf("job %d is %s (%s) with %q after %d attempts, want %q after one", i, job.State, job.Reason, job.Result, job.Attempts, want)
				}
				seen := map[consign.EventKind]int{}
				for e, err := range api.Events(t.Context(), id, 0) {
					if err != nil {
						t.Fatal(err)
					}
					if e.Event != consign.EventReport || e.Report == consign.ReportPart { // not the note of one that took too long
						seen[e.Event]++
					}
				}
				if seen[consign.EventClaim] != 1 || seen[consign.EventReport] > 1 || seen[consign.EventComplete] != 1 {
					t.Errorf("job %d: its log has %v", i, seen)
				}
			}
		})
	}
}
