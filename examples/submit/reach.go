package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync"
	"time"

	"github.com/consignq/consign"
	"github.com/consignq/consign/examples/internal/cli"
)

// sayAfter is how long the coordinator is waited for in silence.
const sayAfter = 2 * time.Second

// reach makes the requests to the coordinator. It says so where that cannot be
// reached, and makes what no time heals a *consign.FieldError, so that it is
// not tried again.
type reach struct {
	url  string
	next http.RoundTripper
	say  func(string)

	mu    sync.Mutex
	since time.Time // the first failure; zero: it was reached last
	told  bool
}

// reachable returns the client for a coordinator's URL.
func reachable(url string) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1024 // each call that waits has a connection to itself
	t.DisableCompression = true                     // most of what comes is ciphertext
	say := func(text string) { fmt.Fprintln(os.Stderr, cli.Printable(text)) }
	return &http.Client{Transport: &reach{url: url, next: t, say: say}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip implements http.RoundTripper.
func (c *reach) RoundTrip(r *http.Request) (*http.Response, error) {
	slow := time.AfterFunc(sayAfter, func() { c.failed("it does not take the connection") })
	defer slow.Stop()
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { slow.Stop() }}
	resp, err := c.next.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err == nil {
		c.reached()
		if wrong := c.plainToTLS(r, resp); wrong != nil {
			_ = resp.Body.Close()
			return nil, wrong
		}
		return resp, nil
	}
	if never := c.never(err); never != nil {
		return nil, never
	}
	if !errors.Is(err, context.Canceled) {
		c.failed(err.Error())
	}
	return nil, err
}

func (c *reach) reached() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.since, c.told = time.Time{}, false
}

// failed notes a failure, and tells of the first that comes when it has failed
// for long.
func (c *reach) failed(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		c.since = time.Now()
		time.AfterFunc(sayAfter, func() { c.still(why) })
	}
}

func (c *reach) still(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.since.IsZero() && time.Since(c.since) >= sayAfter && !c.told {
		c.told = true
		c.say("waiting for " + c.url + ": " + why)
	}
}

// never returns an error for what stays as it is.
func (c *reach) never(err error) error {
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		remedy := "ask the queue's owner; for a certificate of your own authority set SSL_CERT_FILE"
		if _, other := errors.AsType[x509.HostnameError](bad.Err); other {
			remedy = "dial it by a name that is in its certificate"
		}
		return &consign.FieldError{Field: "-coordinator", Problem: "has a certificate that does not hold: " + bad.Err.Error(), Remedy: remedy}
	}
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain || err.Error() == "http: server gave HTTP response to HTTPS client" {
		return &consign.FieldError{Field: "-coordinator", Problem: "is https://, and what answers there speaks no TLS", Remedy: "say http:// if it is on this machine, or ask the queue's owner"}
	}
	return nil
}

// plainToTLS returns an error for the answer of a port that wants TLS.
func (c *reach) plainToTLS(r *http.Request, resp *http.Response) error {
	if r.URL.Scheme != "http" || resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Content-Type") == "application/problem+json" {
		return nil
	}
	start, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	body := resp.Body
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(start), body), body}
	if err != nil || !bytes.Contains(start, []byte("HTTPS server")) && !bytes.Contains(start, []byte("HTTPS port")) { // Go's and nginx's words
		return nil
	}
	_ = body.Close()
	return &consign.FieldError{Field: "-coordinator", Problem: "is http://, and what answers there wants TLS", Remedy: "say https://"}
}
