package websocket_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/transport/websocket"
)

// TestBodyThatDoesNotCome: a handshake with a body that is not there in time
// holds no connection.
func TestBodyThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := websocket.NewHandler(websocket.Config{Workers: struct{ consign.WorkerAPI }{}})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: h} //nolint:gosec // the handler's bounds are what is tested
		listener := make(testkit.Pipes)
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
		conn := listener.Dial()
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(conn, "GET "+websocket.Path+" HTTP/1.1\r\nHost: q\r\nContent-Length: 10\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); err != nil {
			t.Errorf("after %q the connection goes on: %v", answer, err)
		}
	})
}

// jobless is a queue that never has a job.
type jobless struct {
	consign.WorkerAPI
	consign.Session
}

func (q jobless) Register(context.Context, consign.Registration) (consign.Session, error) {
	return q, nil
}

func (jobless) Claim(ctx context.Context) (consign.Assignment, error) {
	<-ctx.Done()
	return consign.Assignment{}, ctx.Err()
}

// TestClaimsNobodyReadsAbout: who asks for more jobs than may be waited for, and
// does not read the refusals, is not read from.
func TestClaimsNobodyReadsAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := websocket.NewHandler(websocket.Config{Workers: jobless{}})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: h} //nolint:gosec // the handler's bounds are what is tested
		listener := make(testkit.Pipes)
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return listener.Dial(), nil }}}
		conn, _, err := ws.Dial(t.Context(), "ws://q"+websocket.Path, &ws.DialOptions{HTTPClient: client, Subprotocols: []string{"consign.v1.json"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		r := &raw{t, conn}
		r.send(map[string]any{"type": "register", "id": 1, "capabilities": map[string]any{}})
		if f := r.receive(); f["type"] != "registered" {
			t.Fatalf("register is answered with %v", f)
		}
		claim := []byte(`{"type":"claim","id":1000001}`)
		taken := 0
		for ; taken < 10_000; taken++ {
			if conn.Write(t.Context(), ws.MessageText, claim) != nil {
				break
			}
			for i := len(claim) - 2; ; i-- { // the next number
				if claim[i]++; claim[i] <= '9' {
					break
				}
				claim[i] = '0'
			}
		}
		if taken < 1024 || taken > 2000 {
			t.Errorf("%d claims were taken in, and not one refusal was read", taken)
		}
	})
}
