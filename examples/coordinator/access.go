package main

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync/atomic"

	"github.com/consignq/consign/examples/internal/cli"
	"github.com/consignq/consign/transport/longpoll"
)

// access is who may submit, and the certificate: files that are read again when
// the process is told to.
type access struct {
	o      *options
	tokens atomic.Pointer[longpoll.Tokens]
	cert   atomic.Pointer[tls.Certificate]
}

// openAccess returns a *consign.FieldError for a file that cannot be used.
func (o *options) openAccess() (*access, error) {
	a := &access{o: o}
	return a, a.read()
}

// read reads the files, and changes nothing where one cannot be used.
func (a *access) read() error {
	tokens, cert := a.tokens.Load(), a.cert.Load()
	if a.o.cert != "" {
		read, err := tls.LoadX509KeyPair(a.o.cert, a.o.key)
		if err != nil {
			return cli.FieldError("tls-cert", "or -tls-key cannot be used: "+err.Error(), "name files in PEM: the certificate with its chain, and its key")
		}
		cert = &read
	}
	if a.o.tokens != "" {
		var err error
		if tokens, err = longpoll.LoadTokens(a.o.tokens); err != nil {
			return cli.FieldError("tokens", "cannot be read: "+err.Error(), "name a file with an account, a space, and the SHA-256 of its token in each line")
		}
	}
	a.tokens.Store(tokens)
	a.cert.Store(cert)
	return nil
}

// tend reads the files again whenever the process is told to, until ctx is
// done, and passes it on to those who read vault.kek.
func (a *access) tend(ctx context.Context, kek chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.o.reread:
		}
		if err := a.read(); err != nil {
			a.o.log.Error("-tokens and -tls-cert were read again, and are not used: those of before are", "error", err)
		} else if a.o.tokens != "" || a.o.cert != "" {
			a.o.log.Info("-tokens and -tls-cert were read again, and are used from now on")
		}
		select {
		case kek <- struct{}{}:
		default:
		}
	}
}

// Account implements longpoll.Authenticator.
func (a *access) Account(r *http.Request) (string, error) { return a.tokens.Load().Account(r) }

func (a *access) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.cert.Load(), nil
}
