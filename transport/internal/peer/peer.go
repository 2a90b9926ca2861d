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

// begin counts a guess, or wraps consign.ErrBusy for an address that has tried
// too often. What it lets through has failed until undo says otherwise: else
// guesses that are made at once would all be let through.
func (g *Guesses) begin(addr netip.Addr, now time.Time) error {
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
	mine := recent(g.failed[addr])
	if len(mine) >= maxGuesses {
		return fmt.Errorf("%w: %d pairing codes that are not open came from this address: try again in an hour", consign.ErrBusy, maxGuesses)
	}
	g.failed[addr] = append(mine, now)
	return nil
}

// undo takes back what begin counted at a time: it was no guess.
func (g *Guesses) undo(addr netip.Addr, at time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.failed[addr], at); i >= 0 {
		g.failed[addr] = slices.Concat(g.failed[addr][:i], g.failed[addr][i+1:])
	}
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
	now := time.Now()
	if err := g.begin(addr, now); err != nil {
		return consign.Pairing{}, err
	}
	p, err := claim()
	if field, ok := errors.AsType[*consign.FieldError](err); !ok || field.Field != "code" {
		g.undo(addr, now)
	}
	return p, err
}
