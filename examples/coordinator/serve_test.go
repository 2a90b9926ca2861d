package main

import (
	"errors"
	"testing"

	"github.com/consignq/consign"
)

// Who can be reached by strangers asks them who they are, and what they dialled.
func TestAccess(t *testing.T) {
	for _, c := range []struct {
		o     options
		field string // "": fine
	}{
		{options{listen: "127.0.0.1:0"}, ""},
		{options{listen: "localhost:0"}, ""},
		{options{listen: "[::1]:0"}, ""},
		{options{listen: ":0"}, "listen"},
		{options{listen: "0.0.0.0:0"}, "listen"},
		{options{listen: "192.0.2.1:0", tokens: "tokens"}, "listen"},
		{options{listen: "192.0.2.1:0", origins: []string{"https://x"}}, "listen"},
		{options{listen: "192.0.2.1:0", tokens: "tokens", origins: []string{"https://x"}}, ""},
		{options{listen: "no port"}, "listen"},
		{options{listen: "127.0.0.1:0", rate: 5, burst: 5}, ""},
		{options{listen: "127.0.0.1:0", rate: 5}, "rate"},
		{options{listen: "127.0.0.1:0", rate: -1, burst: 5}, "rate"},
		{options{listen: "127.0.0.1:0", cert: "cert.pem"}, "tls-cert"},
	} {
		err := c.o.checkAccess()
		field := ""
		if f, ok := errors.AsType[*consign.FieldError](err); ok {
			field = f.Field
		}
		if (err == nil) != (c.field == "") || field != c.field && field != "-"+c.field {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
}
