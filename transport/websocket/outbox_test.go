package websocket

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	"github.com/consignq/consign/internal/testkit"
	"github.com/consignq/consign/transport/internal/wire"
)

// frameOf is an encoder of a frame of n bytes, or one more, with a number.
func frameOf(t *testing.T, codec wire.Codec, id uint64, n int) func() ([]byte, error) {
	t.Helper()
	return func() ([]byte, error) {
		return codec.Encode(wire.PairFrame{Frame: wire.Frame{Type: wire.FramePair, ID: id}, Code: string(bytes.Repeat([]byte{'x'}, n))})
	}
}

// The frames that have gathered share messages within their bounds, in their
// order, in msgpack alone.
func TestOutboxGathers(t *testing.T) {
	for _, codec := range []wire.Codec{wire.JSON, wire.Msgpack} {
		t.Run(codec.String(), func(t *testing.T) {
			sizes := []int{1, 10_000, 10_000, 3, maxBatch + 1, 2, maxBatch / 2}
			for range wire.MaxFrames + 10 {
				sizes = append(sizes, 5)
			}
			ready := make(chan struct{})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, err := ws.Accept(w, r, nil)
				if err != nil {
					t.Error(err)
					return
				}
				o := newOutbox(newLink(conn, codec, time.Hour))
				for i, n := range sizes {
					if err := o.put(t.Context(), frameOf(t, codec, uint64(i+1), n)); err != nil {
						t.Error(err)
					}
				}
				go o.write()
				<-ready
				_ = conn.CloseNow()
			}))
			defer srv.Close()
			defer close(ready)
			conn, _, err := ws.Dial(t.Context(), srv.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.CloseNow()
			conn.SetReadLimit(maxGreeting)
			messages := 0
			for next := 1; next <= len(sizes); messages++ {
				_, message, err := conn.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				frames, err := codec.Split(nil, message)
				if err != nil {
					t.Fatal(err)
				}
				if len(frames) > 1 && len(message) > maxBatch {
					t.Errorf("%d frames share a message of %d bytes", len(frames), len(message))
				}
				for _, frame := range frames {
					if f, err := codec.DecodeHead(frame); err != nil || f.ID != uint64(next) {
						t.Fatalf("frame %d came where %d was due, %v", f.ID, next, err)
					}
					next++
				}
			}
			// 1 and 10,000; 10,000 and 3; the long one; 2, the half and 254 of 5; the rest.
			if want := map[wire.Codec]int{wire.JSON: len(sizes), wire.Msgpack: 5}[codec]; messages != want {
				t.Errorf("%d frames came in %d messages, want %d", len(sizes), messages, want)
			}
		})
	}
}

// Who has another frame when enough of them wait does so, too: until there is
// room, or its context or the connection has ended.
func TestOutboxIsBounded(t *testing.T) {
	o := newOutbox(link{codec: wire.JSON})
	n := 0
	for o.size < maxWaiting {
		if err := o.put(t.Context(), frameOf(t, wire.JSON, 1, 1000)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < maxWaiting/1100 || n > maxWaiting/1000+1 {
		t.Errorf("%d frames of a kilobyte wait", n)
	}
	encoded := false
	frame := func() ([]byte, error) { encoded = true; return []byte("{}"), nil }
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := o.put(ctx, frame); !errors.Is(err, context.Canceled) || encoded {
		t.Errorf("a full outbox takes more, or says %v", err)
	}
	time.AfterFunc(time.Millisecond, func() { o.take(nil) })
	if err := o.put(t.Context(), frame); err != nil || o.size != 2 {
		t.Errorf("an outbox with room holds %d bytes, %v", o.size, err)
	}
	o.end()
	encoded = false
	if err := o.put(t.Context(), frame); !errors.Is(err, consign.ErrSession) || encoded {
		t.Errorf("the outbox of a connection that has ended says %v", err)
	}
}

// Each message has its minute to go; a connection that has nothing to send has
// any time.
func TestOutboxCutsWhoDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outboxes := make(chan *outbox)
		over := make(chan struct{})
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // nobody else calls it
			conn, err := ws.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer close(over)
			o := newOutbox(newLink(conn, wire.JSON, time.Hour))
			outboxes <- o
			o.write()
		})}
		listener := make(testkit.Pipes)
		go func() { _ = server.Serve(listener) }()
		defer server.Close()
		client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return listener.Dial(), nil }}}
		conn, _, err := ws.Dial(t.Context(), "ws://q", &ws.DialOptions{HTTPClient: client})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		o := <-outboxes
		for _, pause := range []time.Duration{3 * writeTime, 0, time.Second} {
			time.Sleep(pause)
			if err := o.put(t.Context(), frameOf(t, wire.JSON, 1, 5)); err != nil {
				t.Fatalf("after %v with nothing to send: %v", pause, err)
			}
			time.Sleep(writeTime - time.Second)
			if _, _, err := conn.Read(t.Context()); err != nil {
				t.Fatalf("what is read within %v is cut: %v", writeTime, err)
			}
		}
		if err := o.put(t.Context(), frameOf(t, wire.JSON, 1, 5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTime - time.Second)
		synctest.Wait()
		select {
		case <-over:
			t.Error("it is cut too early")
		default:
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		select {
		case <-over:
		default:
			t.Errorf("a message may take more than %v", writeTime)
		}
	})
}
