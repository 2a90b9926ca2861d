package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/consignq/consign/worker"
	"github.com/consignq/consign/worker/openai"
)

const recorded = "testdata/ollama/v0.6.5"

// replay returns a recorded response.
func replay(t *testing.T, name string) *http.Response {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recorded, name))
	if err != nil {
		t.Fatal(err)
	}
	head, body, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		head, body, ok = bytes.Cut(data, []byte("\r\n\r\n"))
	}
	if !ok {
		t.Fatalf("%s has no body", name)
	}
	// The recordings show a chunked body as it is once decoded.
	head = bytes.ReplaceAll(head, []byte("Transfer-Encoding: chunked"), []byte("X-Chunked: 1"))
	head = append(bytes.ReplaceAll(head, []byte("\r"), nil), "\n\n"...)
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(append(head, body...))), nil)
	if err != nil {
		t.Fatal(name, err)
	}
	body, err = io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(name, err)
	}
	body = bytes.ReplaceAll(body, []byte("\n...\n"), []byte("\n")) // the recording leaves equal lines out
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res
}

// server is an engine whose answers are given by path.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	handlers map[string]http.HandlerFunc
	bodies   map[string][]byte // the last request of each path
	headers  map[string]http.Header
}

func newServer(t *testing.T) *server {
	s := &server{handlers: map[string]http.HandlerFunc{}, bodies: map[string][]byte{}, headers: map[string]http.Header{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.bodies[r.URL.Path], s.headers[r.URL.Path] = body, r.Header
	handler := s.handlers[r.URL.Path]
	s.mu.Unlock()
	if handler == nil {
		http.NotFound(w, r)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	handler(w, r)
}

func (s *server) handle(path string, h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers[path] = h
}

// send answers with a text.
func (s *server) send(path, contentType, body string) {
	s.handle(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	})
}

// recorded answers with a recorded response.
func (s *server) recorded(t *testing.T, path, name string) {
	res := replay(t, name)
	body, _ := io.ReadAll(res.Body)
	s.handle(path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		_, _ = w.Write(body)
	})
}

// asked decodes the last request of a path.
func (s *server) asked(t *testing.T, path string) map[string]any {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	var m map[string]any
	if err := json.Unmarshal(s.bodies[path], &m); err != nil {
		t.Fatalf("request to %s: %v: %s", path, err, s.bodies[path])
	}
	return m
}

// newOllama is a server that says what a recorded Ollama says of itself.
func newOllama(t *testing.T) *server {
	s := newServer(t)
	for path, name := range map[string]string{"/api/version": "version.http", "/api/tags": "tags.http", "/api/ps": "ps.http", "/api/show": "show.http"} {
		s.recorded(t, path, name)
	}
	return s
}

func newExecutor(t *testing.T, c openai.Config) *openai.Executor {
	t.Helper()
	e, err := openai.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func execute(t *testing.T, c openai.Config, payload string) (worker.Output, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return newExecutor(t, c).Execute(ctx, &worker.Task{Model: "stories260k", Tier: 1, Payload: []byte(payload)})
}

// wantFault checks whose fault an error is (nil: transient) and what it says.
func wantFault(t *testing.T, err, whose error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("error is %v; want one that says %q", err, says)
		return
	}
	for _, kind := range []error{worker.ErrPayload, worker.ErrRefused} {
		if is := isFault(err, kind); is != (kind == whose) {
			t.Errorf("%v: is %v: %v", err, kind, is)
		}
	}
}
