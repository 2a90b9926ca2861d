package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/crypto/sign"
	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/transport/longpoll"
	"github.com/consignq/consign/transport/websocket"
	"github.com/consignq/consign/webhook"
)

// checkAccess refuses to serve strangers who prove nothing, and half of TLS. It
// returns a *consign.FieldError.
func (o *options) checkAccess() error {
	if (o.cert == "") != (o.key == "") {
		return cli.FieldError("tls-cert", "and -tls-key belong together", "give both, or none")
	}
	if o.rate < 0 || o.burst < 0 || o.rate > 0 && o.burst == 0 {
		return cli.FieldError("rate", "or -burst is below what lets anything through", "give numbers above zero, or no -rate for no bound")
	}
	for _, origin := range o.origins { // compared with what a dialler makes of its URL
		if u, err := url.Parse(origin); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || origin != strings.ToLower(u.Scheme+"://"+u.Host) {
			return cli.FieldError("origin", fmt.Sprintf("is %.200q", origin), "give http:// or https:// and the host, in small letters and without a path, as in https://queue.example.com:8443")
		}
	}
	host, _, err := net.SplitHostPort(o.listen)
	if err != nil {
		return cli.FieldError("listen", "is no address: "+err.Error(), "give a host and a port, as in 127.0.0.1:8080")
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	switch {
	case o.tokens == "":
		return cli.FieldError("listen", "is "+o.listen+", and there are no -tokens: anybody who can reach it could submit and read jobs",
			"give -tokens, or listen on 127.0.0.1 alone")
	case len(o.origins) == 0:
		return cli.FieldError("listen", "is "+o.listen+", and there is no -origin: a queue that a worker dials could register here in its name",
			"give the address by which workers dial this one as -origin, or listen on 127.0.0.1 alone")
	}
	return nil
}

// trustedProxies reads -proxy. It returns a *consign.FieldError.
func (o *options) trustedProxies() (out []netip.Prefix, err error) {
	for _, text := range o.proxies {
		prefix, err := netip.ParsePrefix(text)
		if addr, bad := netip.ParseAddr(text); bad == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			return nil, cli.FieldError("proxy", fmt.Sprintf("is %q", text), "give an address or a network, as in 127.0.0.1 or 10.0.0.0/8")
		}
		out = append(out, prefix)
	}
	return out, nil
}

// handlers are the queue over HTTP, and over WebSocket.
func (o *options) handlers(ready func() error, queue *consign.Queue, identity *sign.Identity, sender *webhook.Sender) (http.Handler, *websocket.Handler, error) {
	quoteKey, err := identity.Derive("quotes") // quotes hold over a restart
	if err != nil {
		return nil, nil, err
	}
	proxies, err := o.trustedProxies()
	if err != nil {
		return nil, nil, err
	}
	c := longpoll.Config{Submitters: queue.Submitter, Workers: queue, Ready: ready, QuoteKey: quoteKey[:], Origins: o.origins, TrustedProxies: proxies,
		Rate: o.rate, Burst: o.burst, Logger: o.log}
	if sender != nil {
		c.Webhooks = sender.Keys
	}
	for _, origin := range o.origins { // by these names it is reached through a proxy on this machine
		if u, err := url.Parse(origin); err == nil {
			c.Hosts = append(c.Hosts, u.Hostname())
		}
	}
	if o.tokens != "" {
		c.Authenticator = o.access
	}
	h, err := longpoll.NewHandler(c)
	if err != nil {
		return nil, nil, err
	}
	cw := websocket.Config{Workers: queue, Origins: o.origins, TrustedProxies: proxies, Logger: o.log}
	if o.tokens == "" { // the pages' handler then is for this machine alone, too
		cw.Hosts = append(c.Hosts, "localhost")
	}
	if o.foreign {
		cw.Foreign = queue.RegisterForeign
	}
	ws, err := websocket.NewHandler(cw)
	return h, ws, err
}

// servers are the queue's listener and that of the metrics.
type servers struct {
	o       *options
	ws      *websocket.Handler
	queue   http.Server
	ln      net.Listener
	metrics http.Server
	lnm     net.Listener // nil: none
}

func (o *options) listenAll(handler http.Handler, ws *websocket.Handler, m *metrics) (*servers, error) {
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle("GET "+websocket.Path, m.connections(ws))
	// No ReadTimeout and no WriteTimeout: they would cut long polls and streams.
	s := &servers{o: o, ws: ws,
		queue:   http.Server{Handler: m.counting(mux), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute},
		metrics: http.Server{Handler: m.handler(), ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute},
	}
	if o.cert != "" {
		s.queue.TLSConfig = &tls.Config{GetCertificate: o.access.certificate, MinVersion: tls.VersionTLS12}
	}
	var err error
	if s.ln, err = net.Listen("tcp", o.listen); err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if o.metrics == "" {
		return s, nil
	}
	if s.lnm, err = net.Listen("tcp", o.metrics); err != nil {
		return nil, errors.Join(fmt.Errorf("-metrics: %w", err), s.ln.Close())
	}
	return s, nil
}

// url is where the queue is. Who listens everywhere is where -origin says, and
// checkAccess has seen to it that there is one.
func (s *servers) url() string {
	if at, ok := s.ln.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() && len(s.o.origins) > 0 {
		return s.o.origins[0]
	}
	if s.o.cert != "" {
		return "https://" + s.ln.Addr().String()
	}
	return "http://" + s.ln.Addr().String()
}

// metricsURL is "" where there are none.
func (s *servers) metricsURL() string {
	if s.lnm == nil {
		return ""
	}
	return "http://" + s.lnm.Addr().String() + "/metrics"
}

// serve returns once a server has failed, with its error, or both have been
// shut down.
func (s *servers) serve() error {
	errs := make(chan error, 2)
	var group sync.WaitGroup
	group.Go(func() {
		if s.o.cert != "" {
			errs <- s.queue.ServeTLS(s.ln, "", "")
		} else {
			errs <- s.queue.Serve(s.ln)
		}
	})
	if s.lnm != nil {
		group.Go(func() { errs <- s.metrics.Serve(s.lnm) })
	}
	err := <-errs
	if errors.Is(err, http.ErrServerClosed) {
		group.Wait()
		return nil
	}
	return err
}

// lastAnswers is how long requests that are under way have once the queue has
// ended. All of them are answered at once then.
const lastAnswers = 10 * time.Second

// shutdown ends both servers.
func (s *servers) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	s.ws.Close()
	if err := s.queue.Shutdown(ctx); err != nil {
		s.o.log.Warn("cut requests that did not end", "error", err)
		_ = s.queue.Close()
	}
	_ = s.metrics.Close()
}
