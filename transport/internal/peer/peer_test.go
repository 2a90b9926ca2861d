package peer

import (
	"errors"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/consignq/consign"
)

func TestAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"a connection", "192.0.2.1:999", nil, "192.0.2.1"},
		{"a stranger's header is not believed", "192.0.2.1:999", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a proxy's is", "10.1.2.3:999", []string{"198.51.100.7"}, "198.51.100.7"},
		{"the last one that is not a proxy", "10.1.2.3:999", []string{"203.0.113.9, 198.51.100.7, 10.9.9.9"}, "198.51.100.7"},
		{"over several lines", "10.1.2.3:999", []string{"203.0.113.9", "198.51.100.7", "10.9.9.9"}, "198.51.100.7"},
		{"what a client put in front is skipped", "10.1.2.3:999", []string{"10.6.6.6, 198.51.100.7"}, "198.51.100.7"},
		{"a proxy without the header", "10.1.2.3:999", nil, "10.1.2.3"},
		{"nonsense from a proxy is nobody", "10.1.2.3:999", []string{"nonsense"}, "invalid IP"},
		{"IPv6 by its /64", "[2001:db8:1:2:3:4:5:6]:999", nil, "2001:db8:1:2::"},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:999", nil, "192.0.2.1"},
		{"an IPv6 proxy", "[fd00::1]:999", []string{"2001:db8::7"}, "2001:db8::"},
		{"with a zone", "[fe80::1%eth0]:999", nil, "fe80::"},
		{"no port", "192.0.2.1", nil, "192.0.2.1"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := Addr(r, trusted).String(); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
}

func TestGuesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guesses
		here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		wrong := func() (consign.Pairing, error) { return consign.Pairing{}, &consign.FieldError{Field: "code"} }
		right := func() (consign.Pairing, error) { return consign.Pairing{Pending: true}, nil }
		trouble := func() (consign.Pairing, error) { return consign.Pairing{}, errors.New("the store is away") }
		for range 19 {
			if _, err := g.Claim(here, wrong); errors.Is(err, consign.ErrBusy) {
				t.Fatal(err)
			}
		}
		for range 30 { // trouble is no guess
			if _, err := g.Claim(here, trouble); errors.Is(err, consign.ErrBusy) {
				t.Fatal(err)
			}
		}
		if p, err := g.Claim(here, right); err != nil || !p.Pending {
			t.Errorf("a good code after 19 others: %+v, %v", p, err)
		}
		_, _ = g.Claim(here, wrong)
		if _, err := g.Claim(here, right); !errors.Is(err, consign.ErrBusy) {
			t.Errorf("after 20 others: %v", err)
		}
		if _, err := g.Claim(there, right); err != nil {
			t.Errorf("from another address: %v", err)
		}
		time.Sleep(time.Hour)
		if _, err := g.Claim(here, right); err != nil {
			t.Errorf("an hour later: %v", err)
		}
		_, _ = g.Claim(there, wrong)
		if len(g.failed) != 1 {
			t.Errorf("%d addresses are remembered", len(g.failed))
		}
	})
}

// TestGuessesAtOnce: they are bounded, too.
func TestGuessesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Guesses
		var tried atomic.Int32
		for range 100 {
			go g.Claim(netip.MustParseAddr("192.0.2.1"), func() (consign.Pairing, error) {
				tried.Add(1)
				time.Sleep(time.Second)
				return consign.Pairing{}, &consign.FieldError{Field: "code"}
			})
		}
		synctest.Wait()
		if n := tried.Load(); n != 20 {
			t.Errorf("%d codes are tried at once", n)
		}
		time.Sleep(2 * time.Second)
	})
}
