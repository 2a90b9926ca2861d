package websocket_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/internal/wire"
	"github.com/consignq/consign/transport/websocket"
)

// goodFrames are frames of a worker that a queue would look into, about a claim
// of another worker's.
func goodFrames(other consign.Claim) []any {
	claim, job := wire.NewClaim(other), other.Job
	head := func(kind string) wire.Frame { return wire.Frame{Type: kind, ID: 7} }
	caps := wire.Capabilities(anyTask(1))
	return []any{
		wire.RegisterFrame{Frame: head(wire.FrameRegister), Registration: wire.Registration{Algorithm: "ed25519", PublicKey: make([]byte, 32), Origin: "http://x", Nonce: []byte("n"), Signature: make([]byte, 64), Capabilities: caps}},
		wire.TakenFrame{Frame: head(wire.FrameAck), Claim: claim},
		wire.ReportFrame{Frame: head(wire.FrameReport), Report: wire.Report{Claim: claim, Items: []wire.ReportItem{{Kind: wire.ReportKind(consign.ReportLog), Data: []byte("x")}}}, Lines: []string{"y"}},
		wire.CompleteFrame{Frame: head(wire.FrameComplete), Completion: wire.Completion{Claim: claim, Result: []byte("r"), ExitStatus: 3, Record: []byte("{}"), Comparison: &wire.Comparison{Sketch: []byte("s")}}},
		wire.FailFrame{Frame: head(wire.FrameFail), Failure: wire.Failure{Claim: claim, Kind: wire.FailKind(consign.FailPayload), Reason: "x"}},
		wire.ReleaseFrame{Frame: head(wire.FrameRelease), Release: wire.Release{Claim: claim, Reason: "x"}},
		wire.PairFrame{Frame: head(wire.FramePair), Code: "BCDFGHJKLM"},
		wire.HeartbeatFrame{Frame: head(wire.FrameHeartbeat), Heartbeat: wire.Heartbeat{Capabilities: caps, FreeSlots: 1, Claims: []wire.Claim{{Job: job}}, Rates: map[string]float64{"m": 1}}},
	}
}

// badFrames spoils good ones so that each has to be refused.
func badFrames(t *testing.T, codec wire.Codec, other consign.Claim) (bad [][]byte) {
	t.Helper()
	add := func(v any) {
		data, err := codec.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, data)
	}
	for _, good := range goodFrames(other) {
		data, err := codec.Encode(good)
		if err != nil {
			t.Fatal(err)
		}
		data = bytes.TrimSpace(data)
		for n := range data { // cut short anywhere
			bad = append(bad, data[:n])
		}
		bad = append(bad, append(bytes.Clone(data), data...), append(bytes.Clone(data), 0xc1))
		var members map[string]any
		text, _ := json.Marshal(good)
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		for name, value := range members {
			for _, wrong := range []any{1.5, -1, "\x00", []any{"x"}, map[string]any{"x": "y"}, true} {
				if fmt.Sprintf("%T", wrong) == fmt.Sprintf("%T", value) {
					continue
				}
				spoilt := map[string]any{name: wrong}
				for other, v := range members {
					if other != name {
						spoilt[other] = v
					}
				}
				text, _ := json.Marshal(spoilt) // the JSON forms of bytes and words are texts
				if codec == wire.JSON {
					bad = append(bad, text)
				}
			}
		}
		switch members["type"] {
		case wire.FrameAck, wire.FrameHeartbeat:
		default: // another's claim, a code that nobody made, a second registration
			bad = append(bad, data)
		}
	}
	for _, v := range []any{map[string]any{}, map[string]any{"type": ""}, map[string]any{"type": "job_assign", "id": 1}, map[string]any{"type": "Register"},
		map[string]any{"type": strings.Repeat("x", 1<<16)}, map[string]any{"type": "claim"}, map[string]any{"type": "claim", "id": 0},
		map[string]any{"type": "job_release", "id": 7, "claim_id": "00", "job_id": "x"}, map[string]any{"type": "heartbeat", "id": 7, "capabilities": map[string]any{"kinds": []string{"TASK"}, "max_context_tier": 9, "slots": 1}},
		map[string]any{"type": "heartbeat", "id": 7, "nobody": "knows this"}, map[string]any{"type": "pair", "id": 7, "code": strings.Repeat("B", 1<<16)},
		[]any{}, "text", 7, true} {
		add(v)
	}
	if codec == wire.JSON {
		for _, text := range []string{"", " ", "\x00", "\xff", `{"type":"claim","id":1e3}`, `{"type":"claim","id":-1}`, `{"type":"claim","id":18446744073709551616}`, `{"type":"\ud800","id":1}`,
			"\xef\xbb\xbf{}", `{"type":"claim","id":1}x`, strings.Repeat("[", 100_000), `{"type":` + strings.Repeat(`{"a":`, 20_000), "{\"type\":\"pair\",\"id\":7,\"code\":\"\xff\"}"} {
			bad = append(bad, []byte(text))
		}
	} else {
		bad = append(bad, bytes.Repeat([]byte{0x91}, 100_000), []byte{0xdd, 0xff, 0xff, 0xff, 0xff}, []byte{0xc6, 0xff, 0xff, 0xff, 0xff}, []byte{0xc7, 1, 2, 3}, []byte{0xc1})
	}
	return bad
}

// Whatever a worker sends, it gets an error that says what to do, its session
// goes on, and nothing is changed.
func TestBadFrames(t *testing.T) {
	total := 0
	for _, codec := range []wire.Codec{wire.JSON, wire.Msgpack} {
		t.Run(codec.String(), func(t *testing.T) {
			q := startQueue(t, consign.Config{Lease: 1 << 50})
			url := serve(t, websocket.Config{Workers: q})
			api := q.Submitter("acme")
			id := submit(t, api, 1, "a job")[0]
			holder := register(t, dial(t, websocket.DialConfig{URL: url}), sign.Generate(), 1)
			a, err := holder.Claim(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			before, err := api.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			kind := ws.MessageText
			if codec == wire.Msgpack {
				kind = ws.MessageBinary
			}
			r := registeredAs(t, url, codec, q)
			for _, data := range badFrames(t, codec, consign.Claim{Job: a.Job, Claim: a.Claim}) {
				total++
				if err := r.conn.Write(t.Context(), kind, data); err != nil {
					t.Fatal(err)
				}
				_, answer, err := r.conn.Read(t.Context())
				if err != nil {
					t.Fatalf("%.200q ends the connection: %v", data, err)
				}
				var f wire.ErrorFrame
				if err := codec.DecodeAnswer(answer, &f); err != nil || f.Type != wire.FrameError {
					t.Fatalf("%.200q is answered with %.200q", data, answer)
				}
				if f.Error.Code == "" || f.Error.Code == wire.CodeInternal || f.Error.Detail == "" || f.Error.Remedy == "" {
					t.Errorf("%.200q is answered with %+v", data, f.Error)
				}
			}
			after, err := api.Get(t.Context(), id)
			if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("the job became %+v, was %+v, %v", after, before, err)
			}
			if err := holder.Release(t.Context(), consign.Release{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); err != nil {
				t.Errorf("the holder has lost its claim: %v", err)
			}
		})
	}
	t.Logf("%d bad frames", total)
	if total < 2000 {
		t.Errorf("only %d bad frames", total)
	}
}

// registeredAs is a connection in a codec with a session.
func registeredAs(t testing.TB, url string, codec wire.Codec, api consign.WorkerAPI) *raw {
	t.Helper()
	r := dialRaw(t, url, "consign.v1."+codec.String())
	in := wire.RegisterFrame{Frame: wire.Frame{Type: wire.FrameRegister, ID: 1}, Registration: wire.NewRegistration(registration(t, api, sign.Generate(), 1, "http://x"))}
	data, err := codec.Encode(in)
	if err != nil {
		t.Fatal(err)
	}
	kind := map[wire.Codec]ws.MessageType{wire.JSON: ws.MessageText, wire.Msgpack: ws.MessageBinary}[codec]
	if err := r.conn.Write(t.Context(), kind, data); err != nil {
		t.Fatal(err)
	}
	_, data, err = r.conn.Read(t.Context())
	if err != nil || !bytes.Contains(data, []byte(wire.FrameRegistered)) {
		t.Fatalf("register is answered with %q, %v", data, err)
	}
	return r
}

// What is no frame at all ends the connection, with a code.
func TestClosings(t *testing.T) {
	q := startQueue(t, consign.Config{})
	url := serve(t, websocket.Config{Workers: q, MaxMessage: 1 << 20})
	for _, c := range []struct {
		name  string
		until func() *raw
		kind  ws.MessageType
		data  []byte
		code  ws.StatusCode
	}{
		{"a binary message in JSON", func() *raw { return rawWorker(t, url, q) }, ws.MessageBinary, []byte("{}"), ws.StatusUnsupportedData},
		{"a text message in msgpack", func() *raw { return dialRaw(t, url, "consign.v1.msgpack") }, ws.MessageText, []byte("{}"), ws.StatusUnsupportedData},
		{"a long message", func() *raw { return rawWorker(t, url, q) }, ws.MessageText, make([]byte, 1<<20+1), ws.StatusMessageTooBig},
		{"a long greeting", func() *raw { return dialRaw(t, url, "consign.v1.json") }, ws.MessageText, make([]byte, 1<<18), ws.StatusMessageTooBig},
	} {
		r := c.until()
		_ = r.conn.Write(t.Context(), c.kind, c.data)
		if _, _, err := r.conn.Read(t.Context()); ws.CloseStatus(err) != c.code {
			t.Errorf("%s: %v, want the status %v", c.name, err, c.code)
		}
	}
}

// Frames before register are refused, and the connection may still register.
func TestUnregistered(t *testing.T) {
	q := startQueue(t, consign.Config{})
	r := dialRaw(t, serve(t, websocket.Config{Workers: q}), "consign.v1.json")
	for _, kind := range []string{"claim", "heartbeat", "job_heartbeat", "job_complete", "job_fail", "job_release", "pair"} {
		r.send(map[string]any{"type": kind, "id": 1})
		if f := r.receive(); f["type"] != "error" || f["error"].(map[string]any)["code"] != "no_session" {
			t.Errorf("%s: %v", kind, f)
		}
	}
	r.send(map[string]any{"type": "challenge", "id": 1})
	if f := r.receive(); f["type"] != "challenge" || f["nonce"] == "" || f["queue_id"] != q.ID().String() {
		t.Errorf("challenge: %v", f)
	}
}

// A number names one request until that is answered, so that cancel takes back
// what it means.
func TestNumbers(t *testing.T) {
	q := startQueue(t, consign.Config{})
	r := rawWorker(t, serve(t, websocket.Config{Workers: q}), q)
	r.send(map[string]any{"type": "claim", "id": 2})
	r.send(map[string]any{"type": "claim", "id": 2})
	if f := r.receive(); f["type"] != "error" || f["error"].(map[string]any)["field"] != "id" {
		t.Errorf("a number of a request that waits: %v", f)
	}
	r.send(map[string]any{"type": "cancel", "id": 2})
	if f := r.receive(); f["type"] != "ack" || f["id"] != 2.0 {
		t.Errorf("a request that was taken back is answered with %v", f)
	}
	r.send(map[string]any{"type": "claim", "id": 2})
	id := submit(t, q.Submitter("acme"), 1, "a job")[0]
	if f := r.receive(); f["type"] != "job_assign" || f["id"] != 2.0 || f["job_id"] != id.String() {
		t.Errorf("the number's next request is answered with %v", f)
	}
}

// An address that guesses pairing codes is slowed down, whatever keys it has.
func TestGuesses(t *testing.T) {
	q := startQueue(t, consign.Config{})
	url := serve(t, websocket.Config{Workers: q})
	codes := map[string]int{}
	for range 7 {
		r := rawWorker(t, url, q)
		for id := range 4 {
			r.send(map[string]any{"type": "pair", "id": id + 2, "code": "BCDFGHJKLM"})
			codes[fmt.Sprint(r.receive()["error"].(map[string]any)["code"])]++
		}
	}
	if codes["invalid_field"] != 20 || codes["busy"] != 8 {
		t.Errorf("28 guesses were answered with %v", codes)
	}
}

// Handshakes that are refused, as HTTP.
func TestHandshakes(t *testing.T) {
	url := serve(t, websocket.Config{Workers: startQueue(t, consign.Config{})}) + websocket.Path
	upgrade := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "consign.v1.json"}
	for _, c := range []struct {
		name, method, header, value string
		status                      int
	}{
		{"", http.MethodGet, "", "", http.StatusSwitchingProtocols},
		{"no upgrade", http.MethodGet, "Upgrade", "", http.StatusUpgradeRequired},
		{"a POST", http.MethodPost, "", "", http.StatusMethodNotAllowed},
		{"an old version", http.MethodGet, "Sec-WebSocket-Version", "8", http.StatusBadRequest},
		{"no key", http.MethodGet, "Sec-WebSocket-Key", "", http.StatusBadRequest},
		{"another site's page", http.MethodGet, "Origin", "https://evil.example", http.StatusForbidden},
		{"no subprotocol", http.MethodGet, "Sec-WebSocket-Protocol", "", http.StatusBadRequest},
		{"an unknown subprotocol", http.MethodGet, "Sec-WebSocket-Protocol", "consign.v2.json", http.StatusBadRequest},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range upgrade {
			req.Header.Set(k, v)
		}
		if c.header != "" {
			req.Header.Set(c.header, c.value)
			if c.value == "" {
				req.Header.Del(c.header)
			}
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", c.name, resp.Status, c.status)
		}
	}
}

// FuzzFrame: any message gets an answer, and the connection lives on.
func FuzzFrame(f *testing.F) {
	conns := map[wire.Codec]*raw{}
	url := serve(f, websocket.Config{Workers: startQueue(f, consign.Config{})})
	for _, codec := range []wire.Codec{wire.JSON, wire.Msgpack} {
		conns[codec] = registeredAs(f, url, codec, challenger(f, url))
		for _, good := range goodFrames(consign.Claim{Job: consign.JobID{1}, Claim: consign.ClaimID{2}}) {
			data, err := codec.Encode(good)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(codec), data)
		}
	}
	const last = 1 << 60
	f.Fuzz(func(t *testing.T, c uint8, data []byte) {
		codec := wire.Codec(c % 2)
		kind := map[wire.Codec]ws.MessageType{wire.JSON: ws.MessageText, wire.Msgpack: ws.MessageBinary}[codec]
		ping, err := codec.Encode(wire.Frame{Type: wire.FramePing, ID: last})
		if err != nil {
			t.Fatal(err)
		}
		for _, message := range [][]byte{data, ping} {
			if err := conns[codec].conn.Write(t.Context(), kind, message); err != nil {
				t.Fatal(err)
			}
		}
		for {
			_, answer, err := conns[codec].conn.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var a wire.Frame
			if err := codec.DecodeAnswer(answer, &a); err != nil {
				t.Fatalf("%q is answered with %q", data, answer)
			}
			if a.Type == wire.FrameAck && a.ID == last {
				return
			}
		}
	})
}

// challenger asks for challenges over a connection.
func challenger(tb testing.TB, url string) consign.WorkerAPI {
	tb.Helper()
	return dial(tb, websocket.DialConfig{URL: url})
}
