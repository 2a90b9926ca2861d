package websocket_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/websocket"
)

// raw is a connection on which a test sends what it likes.
type raw struct {
	t    testing.TB
	conn *ws.Conn
}

func dialRaw(t testing.TB, url string, subprotocols ...string) *raw {
	t.Helper()
	conn, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(url, "http")+websocket.Path, &ws.DialOptions{Subprotocols: subprotocols})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(64 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &raw{t, conn}
}

// rawWorker is one that is registered, in JSON.
func rawWorker(t testing.TB, url string, api consign.WorkerAPI) *raw {
	t.Helper()
	r := dialRaw(t, url, "consign.v1.json")
	reg := registration(t, api, sign.Generate(), 1, strings.ToLower(url))
	r.send(map[string]any{"type": "register", "id": 1, "algorithm": reg.Algorithm, "public_key": reg.PublicKey, "origin": reg.Origin, "nonce": reg.Nonce,
		"signature": reg.Signature, "capabilities": map[string]any{"kinds": []string{consign.KindTask}, "max_context_tier": 4, "slots": 1}})
	if f := r.receive(); f["type"] != "registered" {
		t.Fatalf("register is answered with %v", f)
	}
	return r
}

func (r *raw) send(v any) {
	r.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.conn.Write(r.t.Context(), ws.MessageText, data); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) receive() map[string]any {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	_, data, err := r.conn.Read(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	var v map[string]any
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&v); err != nil {
		r.t.Fatal(err)
	}
	return v
}

// drop ends the connection without a word.
func (r *raw) drop() { _ = r.conn.CloseNow() }

func anyTask(slots int) consign.Capabilities {
	return consign.Capabilities{Kinds: []string{consign.KindTask}, MaxContextTier: 4, Slots: slots}
}

func registration(tb testing.TB, api consign.WorkerAPI, identity *sign.Identity, slots int, origin string) consign.Registration {
	tb.Helper()
	challenge, err := api.Challenge(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	public := identity.Public()
	r := consign.Registration{Algorithm: public.Algorithm(), PublicKey: public.Bytes(), Origin: origin, Nonce: challenge.Nonce, Capabilities: anyTask(slots)}
	if r.Signature, err = identity.Sign(consign.RegistrationMessage(challenge.Queue, r.Origin, r.Nonce, nil)); err != nil {
		tb.Fatal(err)
	}
	return r
}

func register(tb testing.TB, api consign.WorkerAPI, identity *sign.Identity, slots int) consign.Session {
	tb.Helper()
	session, err := api.Register(tb.Context(), registration(tb, api, identity, slots, api.(interface{ Origin() string }).Origin()))
	if err != nil {
		tb.Fatal(err)
	}
	return session
}

// eventually waits until f holds.
func eventually(tb testing.TB, what string, f func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("%s has not happened after %v", what, patience)
		}
	}
}
