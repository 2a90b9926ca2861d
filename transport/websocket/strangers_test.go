package websocket_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/websocket"
)

// serveBehindProxy serves a handler that believes whoever is on this machine, and
// says when it has served a connection to the end.
func serveBehindProxy(t *testing.T, c websocket.Config) (url string, ended <-chan struct{}) {
	t.Helper()
	c.Logger, c.TrustedProxies = slog.New(slog.DiscardHandler), []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	h, err := websocket.NewHandler(c)
	if err != nil {
		t.Fatal(err)
	}
	ends := make(chan struct{}, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		ends <- struct{}{}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(h.Close)
	return srv.URL, ends
}

// dialFrom connects as through a proxy, for somebody behind it.
func dialFrom(t *testing.T, url, addr string, subprotocols ...string) *raw {
	t.Helper()
	conn, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+websocket.Path,
		&ws.DialOptions{Subprotocols: subprotocols, HTTPHeader: http.Header{"X-Forwarded-For": {addr}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &raw{t, conn}
}

// join registers on a connection, and returns the code of the problem, if any.
func (r *raw) join(url string, q *consign.Queue, identity *sign.Identity) any {
	r.t.Helper()
	reg := registration(r.t, q, identity, 1, url)
	r.send(map[string]any{"type": "register", "id": 1, "algorithm": reg.Algorithm, "public_key": reg.PublicKey, "origin": reg.Origin, "nonce": reg.Nonce,
		"signature": reg.Signature, "capabilities": map[string]any{"kinds": []string{consign.KindTask}, "max_context_tier": 4, "slots": 1}})
	f := r.receive()
	if problem, ok := f["error"].(map[string]any); ok {
		return problem["code"]
	}
	if f["type"] != "registered" || f["worker_id"] != consign.WorkerID(identity.Public().ID()).String() {
		r.t.Errorf("register is answered with %v", f)
	}
	return nil
}

// Fresh keys cost a stranger nothing: so many may register from an address, and
// in all, one after the other too. Those who were let in once go on.
func TestFreshKeysAreBounded(t *testing.T) {
	q := startQueue(t, consign.Config{})
	url, ended := serveBehindProxy(t, websocket.Config{Workers: q, Foreign: q.RegisterForeign, MaxPerAddress: 3, MaxConnections: 5})
	honest := sign.Generate()
	enter := func(addr string, identity *sign.Identity) any {
		t.Helper()
		r := dialFrom(t, url, addr, "consign.v1.json")
		code := r.join(url, q, identity)
		r.drop()
		<-ended // so that there is one connection at a time
		return code
	}
	if code := enter("192.0.2.1", honest); code != nil {
		t.Fatal(code)
	}
	for i := range 6 {
		if code := enter("192.0.2.1", sign.Generate()); (code == "busy") != (i >= 2) {
			t.Errorf("fresh key %d of an address: %v", i, code)
		}
	}
	f := dialFrom(t, url, "192.0.2.1")
	f.send(map[string]any{"type": "register", "provider_pubkey": strings.Repeat("0", 64), "capabilities": []string{"TASK"}})
	if a := f.receive(); a["type"] != "error" || a["error"].(map[string]any)["code"] != "busy" {
		t.Errorf("a foreign worker beyond the bound is answered with %v", a)
	}
	f.drop()
	<-ended
	for i := range 3 {
		if code := enter("192.0.2.2", sign.Generate()); (code == "busy") != (i >= 2) {
			t.Errorf("fresh key %d of another address, and %d in all: %v", i, 3+i, code)
		}
	}
	for _, addr := range []string{"192.0.2.1", "192.0.2.2"} {
		if code := enter(addr, honest); code != nil {
			t.Errorf("one that was let in before, from %s: %v", addr, code)
		}
	}
}

// One address does not take all connections.
func TestConnectionsPerAddress(t *testing.T) {
	url, ended := serveBehindProxy(t, websocket.Config{Workers: startQueue(t, consign.Config{}), MaxPerAddress: 2})
	served := func(r *raw) bool {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_ = r.conn.Write(ctx, ws.MessageText, []byte(`{"type":"challenge","id":1}`))
		_, _, err := r.conn.Read(ctx)
		if err != nil && ws.CloseStatus(err) != ws.StatusTryAgainLater {
			t.Error(err)
		}
		return err == nil
	}
	enter := func(addr string) *raw { return dialFrom(t, url, addr, "consign.v1.json") }
	first := enter("192.0.2.1")
	if !served(first) || !served(enter("192.0.2.1")) {
		t.Error("not as many as may be from an address are served")
	}
	if served(enter("192.0.2.1")) {
		t.Error("one connection too many of an address is served")
	}
	<-ended
	if !served(enter("192.0.2.2")) {
		t.Error("another address is not served")
	}
	first.drop()
	<-ended
	if !served(enter("192.0.2.1")) {
		t.Error("an address is not served after one of its connections has ended")
	}
}

// A bound below zero is none.
func TestNegativePerAddress(t *testing.T) {
	_, err := websocket.NewHandler(websocket.Config{Workers: struct{ consign.WorkerAPI }{}, MaxPerAddress: -1})
	if _, ok := errors.AsType[*consign.FieldError](err); !ok {
		t.Errorf("%v, not a *FieldError", err)
	}
}
