package websocket_test

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

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
