package websocket_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/transport/internal/wire"
	"github.com/consignq/consign/transport/websocket"
)

// goodFrames are frames of a worker that a queue would look into, about a claim
// of another worker's, all with one number.
func goodFrames(other consign.Claim, id uint64) []any {
	claim, job := wire.NewClaim(other), other.Job
	head := func(kind string) wire.Frame { return wire.Frame{Type: kind, ID: id} }
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
	id := uint64(1 << 20) // each has a number of its own, so that it is not refused for that
	next := func() uint64 { id++; return id }
	for i, good := range goodFrames(other, 0) {
		whole := func() []byte {
			data, err := codec.Encode(goodFrames(other, next())[i])
			if err != nil {
				t.Fatal(err)
			}
			return bytes.TrimSpace(data)
		}
		for n := range whole() { // cut short anywhere
			bad = append(bad, whole()[:n])
		}
		bad = append(bad, append(whole(), 0xc1), append(whole(), whole()[:9]...))
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
				spoilt := map[string]any{"id": next()}
				for other, v := range members {
					spoilt[other] = v
				}
				spoilt[name] = wrong
				text, _ := json.Marshal(spoilt) // the JSON forms of bytes and words are texts
				if codec == wire.JSON {
					bad = append(bad, text)
				}
			}
		}
		switch members["type"] {
		case wire.FrameAck, wire.FrameHeartbeat:
		default: // another's claim, a code that nobody made, a second registration
			bad = append(bad, whole())
		}
		if codec == wire.JSON { // a message has one frame
			bad = append(bad, append(whole(), whole()...))
		}
	}
	for _, v := range []any{map[string]any{}, map[string]any{"type": ""}, map[string]any{"type": "job_assign", "id": 1}, map[string]any{"type": "Register"},
		map[string]any{"type": strings.Repeat("x", 1<<16)}, map[string]any{"type": "claim"}, map[string]any{"type": "claim", "id": 0},
		map[string]any{"type": "job_release", "id": next(), "claim_id": "00", "job_id": "x"}, map[string]any{"type": "heartbeat", "id": next(), "capabilities": map[string]any{"kinds": []string{"TASK"}, "max_context_tier": 9, "slots": 1}},
		map[string]any{"type": "heartbeat", "id": next(), "nobody": "knows this"}, map[string]any{"type": "pair", "id": next(), "code": strings.Repeat("B", 1<<16)},
		[]any{}, "text", 7, true} {
		add(v)
	}
	if codec == wire.JSON {
		for _, text := range []string{"", " ", "\x00", "\xff", `{"type":"claim","id":1e3}`, `{"type":"claim","id":-1}`, `{"type":"claim","id":18446744073709551616}`, `{"type":"\ud800","id":1}`,
			"\xef\xbb\xbf{}", `{"type":"claim","id":1}x`, strings.Repeat("[", 100_000), `{"type":` + strings.Repeat(`{"a":`, 20_000), "{\"type\":\"pair\",\"id\":7,\"code\":\"\xff\"}"} {
			bad = append(bad, []byte(text))
		}
	} else {
		ping, err := codec.Encode(wire.Frame{Type: wire.FramePing})
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, bytes.Repeat(ping, wire.MaxFrames+1), append(bytes.Repeat(ping, 9), 0xc1), bytes.Repeat([]byte{0x80}, 1<<20))
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
				if strings.Contains(f.Error.Detail, "of another request") {
					t.Errorf("%.200q is refused for its number", data)
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

// A request is carried out once: again it has the same answer, and another one
// under its number, or below it, has none.
func TestNumbers(t *testing.T) {
	q := startQueue(t, consign.Config{})
	api := q.Submitter("acme")
	r := rawWorker(t, serve(t, websocket.Config{Workers: q}), q)
	refused := func(what string, frame map[string]any) {
		t.Helper()
		r.send(frame)
		if f := r.receive(); f["type"] != "error" || f["error"].(map[string]any)["field"] != "id" {
			t.Errorf("%s is answered with %v", what, f)
		}
	}
	claim := func(id int) map[string]any { return map[string]any{"type": "claim", "id": id} }
	r.send(claim(2))
	r.send(claim(2)) // it waits, and is answered once
	refused("another request under a number", map[string]any{"type": "job_release", "id": 2})
	r.send(map[string]any{"type": "cancel", "id": 2})
	for range 2 {
		if f := r.receive(); f["type"] != "ack" || f["id"] != 2.0 {
			t.Errorf("a request that was taken back is answered with %v", f)
		}
		r.send(claim(2))
	}
	r.receive()
	ids := submit(t, api, 2, "a job")
	r.send(claim(5))
	first := r.receive()
	if first["type"] != "job_assign" || first["id"] != 5.0 {
		t.Errorf("the next request is answered with %v", first)
	}
	for range 3 { // and again
		r.send(claim(5))
		if f := r.receive(); fmt.Sprint(f) != fmt.Sprint(first) {
			t.Errorf("again it is answered with %v", f)
		}
	}
	refused("a number below the highest", claim(4))
	refused("the number of the registration", claim(1))
	if n := running(t, api, ids); n != 1 {
		t.Errorf("%d jobs are running: the claim was carried out twice", n)
	}
	for id := 6; id < 106; id++ { // by when the answer is forgotten
		r.send(map[string]any{"type": "heartbeat", "id": id, "capabilities": map[string]any{"kinds": []string{consign.KindTask}, "max_context_tier": 4, "slots": 1}})
		r.receive()
	}
	refused("a request that was answered long ago", claim(5))
}

// running is how many of the jobs have been claimed.
func running(t *testing.T, api consign.SubmitterAPI, ids []consign.JobID) (n int) {
	t.Helper()
	for _, id := range ids {
		job, err := api.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if job.State == consign.StateRunning {
			n++
		}
	}
	return n
}

// What an earlier connection has sent, and comes late on another one, is not
// carried out: the numbers of a dialer rise over its connections.
func TestNumbersOverConnections(t *testing.T) {
	q := startQueue(t, consign.Config{NoReceipts: true, Lease: time.Hour})
	var mu sync.Mutex
	var late []byte // a claim of the first connection
	url := relay(t, serve(t, websocket.Config{Workers: q}), func(message []byte) int {
		mu.Lock()
		defer mu.Unlock()
		if late == nil && bytes.Contains(message, []byte(`"type":"claim"`)) {
			late = bytes.Clone(message)
		}
		return 1
	})
	api := dial(t, websocket.DialConfig{URL: url, JSON: true})
	register(t, api, sign.Generate(), 1)
	first := register(t, api, sign.Generate(), 1)
	ids := submit(t, q.Submitter("acme"), 2, "a job")
	a, err := first.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := dialRaw(t, url, "consign.v1.json")
	reg := wire.RegisterFrame{Frame: wire.Frame{Type: wire.FrameRegister, ID: 1000}, Registration: wire.NewRegistration(registration(t, q, sign.Generate(), 1, "http://x"))}
	r.send(reg)
	r.receive()
	mu.Lock()
	r.send(json.RawMessage(late))
	mu.Unlock()
	if f := r.receive(); f["type"] != "error" || f["error"].(map[string]any)["field"] != "id" {
		t.Errorf("a claim of an earlier connection is answered with %v", f)
	}
	if n := running(t, q.Submitter("acme"), ids); n != 1 {
		t.Errorf("%d jobs are running: the claim was carried out again", n)
	}
	if err := first.Release(t.Context(), consign.Release{Claim: consign.Claim{Job: a.Job, Claim: a.Claim}}); err != nil {
		t.Error(err)
	}
	var frame wire.Frame
	if err := wire.JSON.DecodeAnswer(late, &frame); err != nil || frame.ID != 5 { // after two registrations
		t.Errorf("the first claim of the second connection has number %d, %v", frame.ID, err)
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

// A browser's page opens no connection unless it is the coordinator's own; a name
// that its maker has pointed here does not make it that.
func TestPages(t *testing.T) {
	for _, c := range []struct {
		origins      []string
		host, origin string
		allowed      bool
	}{
		{nil, "queue.example", "", true},
		{nil, "queue.example", "https://evil.example", false},
		{nil, "queue.example", "https://queue.example", false}, // rebound
		{nil, "127.0.0.1:8080", "http://127.0.0.1:8080", true},
		{nil, "[::1]:8080", "http://[::1]:8080", true},
		{nil, "localhost:8080", "http://LOCALHOST:8080", true},
		{nil, "127.0.0.1:8080", "http://127.0.0.1:9090", false},
		{nil, "127.0.0.1:8080", "null", false},
		{nil, "127.0.0.1:8080", "http://[", false},
		{[]string{"https://queue.example"}, "queue.example", "https://Queue.example", true},
		{[]string{"https://queue.example"}, "127.0.0.1", "http://127.0.0.1", false},
		{[]string{"https://queue.example"}, "queue.example", "http://queue.example", false},
		{[]string{"https://queue.example"}, "queue.example", "", true},
	} {
		h, err := websocket.NewHandler(websocket.Config{Workers: struct{ consign.WorkerAPI }{}, Origins: c.origins})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, websocket.Path, nil)
		r.Host = c.host
		r.Header.Set("Sec-WebSocket-Protocol", "consign.v1.json")
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		want := http.StatusForbidden
		if c.allowed {
			want = http.StatusUpgradeRequired // there is no handshake beyond it
		}
		if w.Code != want {
			t.Errorf("a page of %q at %q: %d %s, want %d", c.origin, c.host, w.Code, w.Body, want)
		}
	}
}

// FuzzFrame: any message gets an answer, and the connection lives on.
func FuzzFrame(f *testing.F) {
	conns := map[wire.Codec]*raw{}
	url := serve(f, websocket.Config{Workers: startQueue(f, consign.Config{})})
	for _, codec := range []wire.Codec{wire.JSON, wire.Msgpack} {
		conns[codec] = registeredAs(f, url, codec, challenger(f, url))
		for _, good := range goodFrames(consign.Claim{Job: consign.JobID{1}, Claim: consign.ClaimID{2}}, 7) {
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
			frames, err := codec.Split(nil, answer)
			if err != nil {
				t.Fatalf("%q is answered with %q", data, answer)
			}
			for _, frame := range frames {
				var a wire.Frame
				if err := codec.DecodeAnswer(frame, &a); err != nil {
					t.Fatalf("%q is answered with %q", data, frame)
				}
				if a.Type == wire.FrameAck && a.ID == last {
					return
				}
			}
		}
	})
}

// challenger asks for challenges over a connection.
func challenger(tb testing.TB, url string) consign.WorkerAPI {
	tb.Helper()
	return dial(tb, websocket.DialConfig{URL: url})
}
