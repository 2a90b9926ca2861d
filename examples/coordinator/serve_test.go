package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/store/memdb"
	"github.com/consignq/consign/transport/websocket"
)

// Who can be reached by strangers asks them who they are, and what they dialled.
func TestAccess(t *testing.T) {
	for _, c := range []struct {
		o     options
		field string // "": fine
	}{
		{options{listen: "127.0.0.1:0"}, ""},
		{options{listen: "localhost:0"}, ""},
		{options{listen: "[::1]:0"}, ""},
		{options{listen: ":0"}, "listen"},
		{options{listen: "0.0.0.0:0"}, "listen"},
		{options{listen: "192.0.2.1:0", tokens: "tokens"}, "listen"},
		{options{listen: "192.0.2.1:0", origins: []string{"https://x"}}, "listen"},
		{options{listen: "192.0.2.1:0", tokens: "tokens", origins: []string{"https://x"}}, ""},
		{options{listen: "no port"}, "listen"},
		{options{listen: "127.0.0.1:0", rate: 5, burst: 5}, ""},
		{options{listen: "127.0.0.1:0", rate: 5}, "rate"},
		{options{listen: "127.0.0.1:0", rate: -1, burst: 5}, "rate"},
		{options{listen: "127.0.0.1:0", cert: "cert.pem"}, "tls-cert"},
	} {
		err := c.o.checkAccess()
		field := ""
		if f, ok := errors.AsType[*consign.FieldError](err); ok {
			field = f.Field
		}
		if (err == nil) != (c.field == "") || field != c.field && field != "-"+c.field {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}

// Without tokens both handlers are there for this machine alone, and for those
// who dial the name that the proxy on it has.
func TestHosts(t *testing.T) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	queue, err := consign.New(consign.Config{Store: memdb.New()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		o       options
		host    string
		refused bool
	}{
		{options{}, "evil.example.com", true},
		{options{}, "localhost:8080", false},
		{options{origins: []string{"https://queue.example.com:8443"}}, "queue.example.com:8443", false},
		{options{origins: []string{"https://queue.example.com:8443"}}, "127.0.0.1", false},
		{options{origins: []string{"https://queue.example.com:8443"}}, "evil.example.com", true},
		{options{tokens: tokens}, "evil.example.com", false},
	} {
		if c.o.access, err = c.o.openAccess(); err != nil {
			t.Fatal(err)
		}
		pages, sockets, err := c.o.handlers(t.Context().Err, queue, sign.Generate(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for path, h := range map[string]http.Handler{"/healthz": pages, websocket.Path: sockets} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = c.host
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); (w.Code == http.StatusMisdirectedRequest) != c.refused {
				t.Errorf("%s as %s, %+v: %d %s", path, c.host, c.o, w.Code, w.Body)
			}
		}
	}
}
