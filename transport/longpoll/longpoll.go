// Package longpoll is HTTP for both faces of a queue: NewHandler serves them,
// Dial returns them at the far end (docs/wire-protocol.md, and openapi.yaml as
// the handler serves it). Waiting and claiming are long polls, a job's log is a
// stream of server-sent events.
//
// The handler serves JSON to people and foreign programs, and msgpack to Dial,
// under the same paths. It is meant for a server with these timeouts:
//
//	http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
//
// ReadTimeout and WriteTimeout stay zero: they would cut long polls and
// streams. The handler bounds each body and each answer itself.
package longpoll

import (
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/transport/internal/peer"
)

// Config is what a handler serves, and to whom.
type Config struct {
	// Submitters returns the queue as an account sees it: Queue.Submitter.
	// Defaults to none: the submitters' endpoints are not there.
	Submitters func(account string) consign.SubmitterAPI
	// Workers is the queue as a worker meets it: the Queue. Defaults to none:
	// the workers' endpoints are not there.
	Workers consign.WorkerAPI
	// Ready returns why the program cannot serve now, for /readyz. Defaults to
	// always ready.
	Ready func() error

	// Authenticator says which account a submitter's request is of. Defaults
	// to one account for everybody, DefaultAccount: bind such a handler to the
	// loopback interface.
	Authenticator Authenticator
	// Hosts are the names, beside the loopback interface's, by which a handler
	// without an Authenticator may be called. Another name is refused: it may be
	// that of a page in a browser on this machine. Defaults to none.
	Hosts []string
	// PaymentGate stands before every submit that costs something. Defaults to
	// none.
	PaymentGate PaymentGate
	// Webhooks returns what an account checks its webhooks with, a secret and a
	// public key: Sender.Keys of package webhook. Defaults to none: the endpoint
	// is not there.
	Webhooks func(account string) (secret, publicKey string)
	// QuoteKey signs quotes: give each coordinator of a queue the same.
	// Defaults to a random one.
	QuoteKey []byte
	// QuoteLife is how long a quote holds. Defaults to 5 min.
	QuoteLife time.Duration
	// Origins are the addresses by which workers dial this handler, such as
	// "https://queue.example.com". A registration that was signed for another
	// is refused, so that nobody can relay it here. Defaults to any.
	Origins []string
	// TrustedProxies are the addresses of proxies whose X-Forwarded-For is
	// believed, where it matters who calls. Defaults to none.
	TrustedProxies []netip.Prefix

	// Rate and Burst bound an account's requests per second. Default to no
	// bound.
	Rate  float64
	Burst int
	// MaxBody is the largest request body in bytes. Defaults to 32 MiB.
	MaxBody int64
	// MaxSessions is how many workers' sessions there may be. Defaults to
	// 100,000. As many workers may register within an hour.
	MaxSessions int
	// MaxPerAddress is how many of them may be from one address, the /64 of an
	// IPv6 one: see TrustedProxies. Defaults to 4,096.
	MaxPerAddress int
	// Logger gets the errors that callers cannot act on. Defaults to
	// slog.Default.
	Logger *slog.Logger
}

// DefaultAccount is whose the jobs are where there is no Authenticator.
const DefaultAccount = "default"

func (c Config) withDefaults() Config {
	if c.Authenticator == nil {
		c.Authenticator = everybody{}
	}
	if c.QuoteKey == nil {
		c.QuoteKey = make([]byte, 32)
		_, _ = rand.Read(c.QuoteKey) // never fails
	}
	if c.QuoteLife == 0 {
		c.QuoteLife = 5 * time.Minute
	}
	if c.MaxBody == 0 {
		c.MaxBody = 32 << 20
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 100_000
	}
	if c.MaxPerAddress == 0 {
		c.MaxPerAddress = 4096
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c *Config) validate() error {
	switch {
	case c.Submitters == nil && c.Workers == nil:
		return fieldError("config", "serves neither submitters nor workers", "set Submitters, Workers, or both")
	case len(c.QuoteKey) < 16:
		return fieldError("config.quote_key", fmt.Sprintf("has %d bytes", len(c.QuoteKey)), "give 32 random bytes")
	case c.QuoteLife < 0 || c.Rate < 0 || c.Burst < 0 || c.MaxBody < 0 || c.MaxSessions < 0 || c.MaxPerAddress < 0:
		return fieldError("config", "has a negative bound", "give numbers above zero, or zero for the defaults")
	case c.Rate > 0 && c.Burst == 0:
		return fieldError("config.burst", "is zero, so that the rate lets nothing through", "give at least one")
	}
	return nil
}

// handler is what NewHandler returns.
type handler struct {
	Config
	mux      *http.ServeMux // every pattern, and "/" for the rest
	paths    *http.ServeMux // without that, so that it knows a wrong method from a wrong path
	origin   *http.CrossOriginProtection
	limits   limits
	guesses  peer.Guesses
	sessions sessions
	joins    peer.Joins
	open     bool // everybody who can reach it is let in
}

//go:embed openapi.yaml
var openapi []byte

// NewHandler serves a queue. It returns a *consign.FieldError for a Config
// that cannot work.
func NewHandler(c Config) (http.Handler, error) {
	open := c.Submitters != nil && c.Authenticator == nil
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	h := &handler{Config: c, mux: http.NewServeMux(), paths: http.NewServeMux(), origin: http.NewCrossOriginProtection(), open: open,
		joins: peer.Joins{PerAddress: c.MaxPerAddress, Total: c.MaxSessions}}
	h.limits.init(c.Rate, c.Burst)
	h.sessions.init(c.MaxSessions, c.MaxPerAddress, c.Logger)
	h.handle("/", h.unrouted)
	h.handle("GET /healthz", h.healthz)
	h.handle("GET /readyz", h.readyz)
	h.handle("GET /openapi.yaml", h.openapi)
	if c.Submitters != nil {
		h.routeSubmitters()
	}
	if c.Workers != nil {
		h.routeWorkers()
	}
	return h, nil
}

func (h *handler) handle(pattern string, f func(*call) error) {
	serve := func(w http.ResponseWriter, r *http.Request) {
		c := &call{w: w, r: r, h: h}
		if err := f(c); err != nil {
			c.fail(err)
		}
	}
	h.mux.HandleFunc(pattern, serve)
	if pattern != "/" {
		h.paths.HandleFunc(pattern, serve)
	}
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.ContentLength != 0 { // what no endpoint reads the server does, before it answers
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // a test's recorder has none
	}
	if field, ok := errors.AsType[*consign.FieldError](h.checkHost(r)); ok {
		(&call{w: w, r: r, h: h}).fail(&refusal{http.StatusMisdirectedRequest, peer.CodeWrongHost, *field})
		return
	}
	if err := h.origin.Check(r); err != nil {
		(&call{w: w, r: r, h: h}).fail(&refusal{http.StatusForbidden, "cross_origin", consign.FieldError{Field: "origin", Problem: "is another site's page", Remedy: "send the request from a program, or from a page of this origin"}})
		return
	}
	if path.Clean(r.URL.Path) != r.URL.Path { // the router would redirect
		(&call{w: w, r: r, h: h}).fail(noEndpoint(r.URL.Path))
		return
	}
	h.mux.ServeHTTP(w, r)
}

func (h *handler) checkHost(r *http.Request) error {
	if !h.open {
		return nil
	}
	return peer.CheckHost(r, h.Hosts)
}

// unrouted answers what no pattern matches: there is no such path, or it does
// not take the method.
func (h *handler) unrouted(c *call) error {
	probe := probe{header: http.Header{}}
	h.paths.ServeHTTP(&probe, c.r)
	if allow := probe.header.Get("Allow"); probe.status == http.StatusMethodNotAllowed {
		c.w.Header().Set("Allow", allow)
		return &refusal{probe.status, "method_not_allowed", consign.FieldError{Field: "method", Problem: fmt.Sprintf("is %.20q", c.r.Method), Remedy: "use one of " + allow}}
	}
	return noEndpoint(c.r.URL.Path)
}

func noEndpoint(name string) error {
	return &refusal{http.StatusNotFound, "no_such_endpoint", consign.FieldError{Field: "path", Problem: fmt.Sprintf("is no endpoint: %.80q", name), Remedy: "see /openapi.yaml for those that are"}}
}

// probe takes what the router says of a request that it has no handler for.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) WriteHeader(status int)      { p.status = status }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }

func (h *handler) healthz(c *call) error {
	return c.answer(http.StatusOK, health{"ok"})
}

func (h *handler) readyz(c *call) error {
	if h.Ready != nil {
		if err := h.Ready(); err != nil {
			return fmt.Errorf("%w: %w", consign.ErrClosed, err)
		}
	}
	return c.answer(http.StatusOK, health{"ready"})
}

type health struct {
	Status string `json:"status"`
}

func (h *handler) openapi(c *call) error {
	c.w.Header().Set("Content-Type", "application/yaml")
	return c.send(http.StatusOK, openapi)
}
