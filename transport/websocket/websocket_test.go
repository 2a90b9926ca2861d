package websocket_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
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

// TestWrongHost: a handler for this machine is not there under other names, which
// a browser's page may have had pointed here; without Hosts it is under any.
func TestWrongHost(t *testing.T) {
	local, named := []string{"localhost"}, []string{"queue.example.com"}
	for _, c := range []struct {
		hosts  []string
		host   string
		status int
	}{
		{local, "evil.example.com", http.StatusMisdirectedRequest},
		{local, "localhost.evil.example.com:80", http.StatusMisdirectedRequest},
		{local, "LocalHost:8080", http.StatusUpgradeRequired}, // there is no handshake beyond it
		{local, "127.9.9.9", http.StatusUpgradeRequired},
		{named, "[::1]:8080", http.StatusUpgradeRequired},
		{named, "Queue.example.com:443", http.StatusUpgradeRequired},
		{named, "evil.example.com", http.StatusMisdirectedRequest},
		{nil, "queue.example.com", http.StatusUpgradeRequired},
	} {
		h, err := websocket.NewHandler(websocket.Config{Workers: struct{ consign.WorkerAPI }{}, Hosts: c.hosts})
		if err != nil {
			t.Fatal(err)
		}
		for _, protocol := range []string{"consign.v1.json", "another"} { // the name is looked at first
			r := httptest.NewRequest(http.MethodGet, websocket.Path, nil)
			r.Host = c.host
			r.Header.Set("Sec-WebSocket-Protocol", protocol)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			want := c.status
			if protocol == "another" && want == http.StatusUpgradeRequired {
				want = http.StatusBadRequest
			}
			if refused := want == http.StatusMisdirectedRequest; w.Code != want || refused != strings.Contains(w.Body.String(), `"wrong_host"`) ||
				refused && !strings.Contains(w.Body.String(), `"remedy"`) {
				t.Errorf("%q of %q in %q: %d %s, want %d", c.host, c.hosts, protocol, w.Code, w.Body, want)
			}
		}
	}
}
