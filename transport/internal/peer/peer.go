// Package peer knows from which address a request comes, and slows down an
// address that guesses pairing codes.
package peer

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/consignq/consign"
)

// Addr returns the address that a request comes from: the connection's, or
// where that is a trusted proxy's, the last one of X-Forwarded-For that is not.
// An IPv6 address stands for its /64, which one customer has whole.
func Addr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	addr := parse(host)
	var hops []string
	for _, line := range r.Header.Values("X-Forwarded-For") {
		hops = append(hops, strings.Split(line, ",")...)
	}
	for i := len(hops) - 1; i >= 0 && among(addr, trusted); i-- {
		addr = parse(strings.TrimSpace(hops[i]))
	}
	if addr.Is6() {
		return netip.PrefixFrom(addr, 64).Masked().Addr()
	}
	return addr
}

// parse returns the zero Addr, which is nobody's and trusted by nobody, for
// what is no address.
func parse(text string) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func among(addr netip.Addr, prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Guesses bounds how many codes that are not open one address may try: 20 an
// hour. The queue bounds them by worker, and a worker's key costs nothing.
type Guesses struct {
	mu     sync.Mutex
	failed map[netip.Addr][]time.Time
}

const (
	maxGuesses  = 20
	guessWindow = time.Hour
)

// allow wraps consign.ErrBusy for an address that has tried too often.
func (g *Guesses) allow(addr netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(recent(g.failed[addr])) >= maxGuesses {
		return fmt.Errorf("%w: %d pairing codes that are not open came from this address: try again in an hour", consign.ErrBusy, maxGuesses)
	}
	return nil
}

// count counts a code that was not open.
func (g *Guesses) count(addr netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = map[netip.Addr][]time.Time{}
	}
	for a, times := range g.failed {
		if len(recent(times)) == 0 {
			delete(g.failed, a)
		}
	}
	g.failed[addr] = append(recent(g.failed[addr]), time.Now())
}

// recent drops the times that do not count any more.
func recent(times []time.Time) []time.Time {
	for len(times) > 0 && time.Since(times[0]) >= guessWindow {
		times = times[1:]
	}
	return times
}

// Claim makes a session's ClaimPairing for a request, within the bound of its
// address.
func (g *Guesses) Claim(addr netip.Addr, claim func() (consign.Pairing, error)) (consign.Pairing, error) {
	if err := g.allow(addr); err != nil {
		return consign.Pairing{}, err
	}
	p, err := claim()
	if field, ok := errors.AsType[*consign.FieldError](err); ok && field.Field == "code" {
		g.count(addr)
	}
	return p, err
}
