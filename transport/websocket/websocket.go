// Package websocket is WebSocket for the workers of a queue, who are pushed
// their jobs: NewHandler serves them, Dial returns the consign.WorkerAPI at the
// far end (docs/wire-protocol.md). Submitters never open WebSockets; theirs is
// transport/longpoll, and both share one port and one URL:
//
//	mux := http.NewServeMux()
//	mux.Handle("/", longpollHandler)
//	mux.Handle(websocket.Path, websocketHandler)
//
// A session is one connection. When that ends the worker registers again, and
// its claims live on: a result that became ready meanwhile is delivered then.
// A job that was on its way to the worker goes back to the queue at once.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	ws "github.com/coder/websocket"

	"github.com/consignq/consign"
	from "github.com/consignq/consign/transport/internal/peer"
	"github.com/consignq/consign/transport/internal/wire"
)

// Path is where a handler is served.
const Path = "/v1/workers/ws"

// Config is what a handler serves.
type Config struct {
	// Workers is the queue as a worker meets it: the Queue.
	Workers consign.WorkerAPI
	// Foreign lets workers in that speak the first protocol, without a
	// subprotocol: Queue.RegisterForeign. They prove who they are only by the
	// receipts of their results, and get only jobs that anybody may read.
	// Defaults to none: they are refused.
	Foreign func(ctx context.Context, publicKey string, c consign.Capabilities) (consign.Session, error)

	// Origins are the addresses by which workers dial this handler, such as
	// "https://queue.example.com". A registration that was signed for another
	// is refused, so that nobody can relay it here, and so is a page of another
	// site. Defaults to any, and to pages of an address that is no name.
	Origins []string
	// Hosts are the names, beside the loopback interface's, by which the handler
	// may be called: of one for this machine alone, "localhost", and those of
	// longpoll.Config.Hosts. Another name is refused. Defaults to any name.
	Hosts []string
	// TrustedProxies are the addresses of proxies whose X-Forwarded-For is
	// believed, for the bounds by address. Defaults to none.
	TrustedProxies []netip.Prefix
	// MaxMessage is the largest message in bytes. Defaults to 32 MiB.
	MaxMessage int64
	// MaxConnections is how many connections there may be. Defaults to 100,000.
	// As many new workers may register within an hour; longpoll counts its own.
	MaxConnections int
	// MaxPerAddress is how many of them may be from one address, the /64 of an
	// IPv6 one: see TrustedProxies. Defaults to 4,096.
	MaxPerAddress int
	// Silence is how long nothing may come from a worker before it is taken for
	// gone. Workers show themselves every 15 s at least. Defaults to 45 s.
	Silence time.Duration
	// Logger gets the errors that callers cannot act on. Defaults to
	// slog.Default.
	Logger *slog.Logger
}

const defaultSilence = 45 * time.Second

func (c Config) withDefaults() Config {
	if c.MaxMessage == 0 {
		c.MaxMessage = 32 << 20
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 100_000
	}
	if c.MaxPerAddress == 0 {
		c.MaxPerAddress = 4096
	}
	if c.Silence == 0 {
		c.Silence = defaultSilence
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.Workers == nil:
		return fieldError("config.workers", "is missing", "set the queue")
	case c.MaxMessage < 0 || c.MaxConnections < 0 || c.MaxPerAddress < 0 || c.Silence < 0:
		return fieldError("config", "has a negative bound", "give numbers above zero, or zero for the defaults")
	}
	return nil
}

// Handler is an http.Handler that upgrades to WebSocket.
type Handler struct {
	config  Config
	guesses from.Guesses
	joins   from.Joins

	mu     sync.Mutex
	open   map[*ws.Conn]struct{}
	from   map[netip.Addr]int // of those open
	closed bool
	serve  sync.WaitGroup // of those open
}

// NewHandler serves a queue's workers. It returns a *consign.FieldError for a
// Config that cannot work.
func NewHandler(c Config) (*Handler, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return &Handler{config: c, joins: from.Joins{PerAddress: c.MaxPerAddress, Total: c.MaxConnections},
		open: map[*ws.Conn]struct{}{}, from: map[netip.Addr]int{}}, nil
}

// ServeHTTP implements http.Handler. It returns when the connection has ended.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 { // the server reads it before it sends a refusal
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(registerWithin))
	}
	if field, ok := errors.AsType[*consign.FieldError](h.checkHost(r)); ok {
		refuse(w, wire.Problem{Type: wire.ProblemType + from.CodeWrongHost, Title: http.StatusText(http.StatusMisdirectedRequest), Status: http.StatusMisdirectedRequest,
			Code: from.CodeWrongHost, Detail: field.Error(), Field: field.Field, Problem: field.Problem, Remedy: field.Remedy})
		return
	}
	if !h.pageAllowed(r) {
		refuse(w, wire.Problem{Type: wire.ProblemType + "cross_origin", Title: "A page of another site", Status: http.StatusForbidden, Code: "cross_origin",
			Detail: fmt.Sprintf("the Origin %.80q is not one of this handler's", r.Header.Get("Origin")), Field: "Origin", Remedy: "dial from a program without an Origin, or have the coordinator name it in its Origins"})
		return
	}
	codec, foreign, err := h.protocol(r)
	if err != nil {
		refuse(w, wire.NewProblem(err))
		return
	}
	// Accept checks the rest of the handshake.
	conn, err := ws.Accept(w, r, &ws.AcceptOptions{Subprotocols: []string{subprotocol(codec)}, InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	addr := from.Addr(r, h.config.TrustedProxies)
	if why := h.add(conn, addr); why != "" {
		_ = conn.Close(ws.StatusTryAgainLater, why)
		return
	}
	defer h.remove(conn, addr)
	link := newLink(conn, codec, h.config.Silence)
	if foreign {
		serveForeign(h, link, addr)
	} else {
		serveWorker(h, link, addr)
	}
}

func (h *Handler) checkHost(r *http.Request) error {
	if len(h.config.Hosts) == 0 {
		return nil
	}
	return from.CheckHost(r, h.config.Hosts)
}

// pageAllowed says whether a handshake may go on that a browser may have made:
// it names no page, or one of the Origins. Where these are not told it has to be
// a page of this very address, which is no name: a name may be pointed here by
// whoever made the page.
func (h *Handler) pageAllowed(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	switch {
	case len(origins) == 0:
		return true
	case len(origins) > 1:
		return false
	case len(h.config.Origins) > 0:
		return slices.ContainsFunc(h.config.Origins, func(o string) bool { return strings.EqualFold(o, origins[0]) })
	}
	u, err := url.Parse(origins[0])
	if err != nil || !strings.EqualFold(u.Host, r.Host) {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil || strings.EqualFold(u.Hostname(), "localhost")
}

// protocol says what the worker speaks.
func (h *Handler) protocol(r *http.Request) (codec wire.Codec, foreign bool, err error) {
	var offered []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			offered = append(offered, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	switch {
	case slices.Contains(offered, subprotocol(wire.Msgpack)):
		return wire.Msgpack, false, nil
	case slices.Contains(offered, subprotocol(wire.JSON)):
		return wire.JSON, false, nil
	case len(offered) > 0:
		return 0, false, fieldError("Sec-WebSocket-Protocol", fmt.Sprintf("is %.80q", offered), "offer "+subprotocol(wire.JSON)+" or "+subprotocol(wire.Msgpack))
	case h.config.Foreign == nil:
		return 0, false, fieldError("Sec-WebSocket-Protocol", "is missing", "offer "+subprotocol(wire.JSON)+" or "+subprotocol(wire.Msgpack)+": workers without are not served here")
	case !private(r):
		return 0, false, fieldError("Sec-WebSocket-Protocol", "is missing, and so is TLS", "dial wss://, or offer "+subprotocol(wire.JSON)+": what goes to workers without a subprotocol is in the clear")
	}
	return wire.JSON, true, nil
}

// refuse answers a request that is not upgraded.
func refuse(w http.ResponseWriter, p wire.Problem) {
	body, _ := wire.JSON.Encode(p) // it has no words of a caller's in it that have no form
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // whoever is gone asks again
}

// add counts a connection in, or says why not.
func (h *Handler) add(conn *ws.Conn, addr netip.Addr) (why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed || len(h.open) >= h.config.MaxConnections:
		return "the coordinator is full or shutting down"
	case h.from[addr] >= h.config.MaxPerAddress:
		return "there are too many connections from this address"
	}
	h.open[conn] = struct{}{}
	h.from[addr]++
	h.serve.Add(1)
	return ""
}

func (h *Handler) remove(conn *ws.Conn, addr netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, conn)
	if h.from[addr]--; h.from[addr] == 0 {
		delete(h.from, addr)
	}
	h.serve.Done()
}

// Close ends all connections, with the status 1001 (going away), and waits
// until what they were about has ended. http.Server.Shutdown does not: call
// this before it, or have http.Server.RegisterOnShutdown do so.
func (h *Handler) Close() {
	h.mu.Lock()
	h.closed = true
	for conn := range h.open {
		go func() { _ = conn.Close(ws.StatusGoingAway, "the coordinator shuts down") }()
	}
	h.mu.Unlock()
	h.serve.Wait()
}
