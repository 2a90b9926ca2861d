package websocket_test

import (
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/transporttest"
	"github.com/consignq/consign/transport/websocket"
)

func TestWorker(t *testing.T) {
	for _, json := range []bool{false, true} {
		t.Run(map[bool]string{false: "msgpack", true: "json"}[json], func(t *testing.T) {
			transporttest.Worker(t, func(t testing.TB, backend consign.WorkerAPI) consign.WorkerAPI {
				return dial(t, websocket.DialConfig{URL: serve(t, websocket.Config{Workers: backend}), JSON: json})
			})
		})
	}
}

// serve serves a handler until the test has ended, and returns its URL.
func serve(t testing.TB, c websocket.Config) string {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	h, err := websocket.NewHandler(c)
	if err != nil {
		t.Fatal(err)
	}
	return serveHandler(t, h)
}

func serveHandler(t testing.TB, h *websocket.Handler) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	t.Cleanup(h.Close)
	return srv.URL
}

func dial(t testing.TB, c websocket.DialConfig) consign.WorkerAPI {
	t.Helper()
	workers, err := websocket.Dial(c)
	if err != nil {
		t.Fatal(err)
	}
	return workers
}
