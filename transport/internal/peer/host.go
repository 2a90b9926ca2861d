package peer

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/consignq/consign"
)

// CodeWrongHost is the problem's code, of status 421, for CheckHost's error.
const CodeWrongHost = "wrong_host"

// CheckHost is for a server that lets everybody in who can reach it, which is
// the machine that it runs on: a browser there reaches it too, for any page whose
// name the page's owner lets point to the loopback address. The browser says
// which name that was. It returns a *consign.FieldError for a request whose Host
// is neither the loopback interface's nor one of hosts; a request without one is
// of no browser.
func CheckHost(r *http.Request, hosts []string) error {
	name := r.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if name == "localhost" || parse(name).IsLoopback() || slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, name) }) {
		return nil
	}
	if remote, err := netip.ParseAddrPort(r.RemoteAddr); r.Host == "" && err == nil && remote.Addr().Unmap().IsLoopback() {
		return nil
	}
	return &consign.FieldError{Field: "Host", Problem: fmt.Sprintf("is %.80q", r.Host),
		Remedy: "call the server as localhost; its owner can name other hosts, or give out tokens"}
}
